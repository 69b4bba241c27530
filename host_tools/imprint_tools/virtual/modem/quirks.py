"""What modems do that they should not, each to be switched on by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import get_args, get_origin, get_type_hints


@dataclass
class Quirks:
    """All off: the modem as its manual has it. May be changed while it runs.

    The families in brackets are where it was seen; elsewhere the quirk works too unless its
    command does not exist there.
    """

    echo_lost: bool = False
    """ATE1 and ATE0 are answered and change nothing, the echo stays on."""
    urc_inside_response: bool = False
    """A waiting URC comes between a response line and its final (BG95: "recv" in QSSLRECV)."""
    urc_fragment: bool = False
    """Of a URC inside a response only the tail is seen (BG96: `v",1`)."""
    split_writes: bool = False
    """What is sent arrives in pieces of one to seven bytes."""
    newline_before_prompt: bool = False
    """CR LF come before `>` and `@`."""
    bare_ok: bool = False
    """A send is answered by OK alone, without its line, and nothing was sent (SARA)."""
    wrong_prefix: bool = False
    """The lookup's answer has its URC's prefix (SARA: +UUDNSRN)."""
    dns_fails_first: bool = False
    """The first lookup after power-up fails at once (SARA: busy)."""
    connect_fails_first: bool = False
    """The first secure connect fails at once and closes its socket (SARA)."""
    late_no_carrier: bool = False
    """After a failed dial a second NO CARRIER follows (Sequans)."""
    zero_sent: bool = False
    """A failed send prints its line with 0 before ERROR (nRF91: `#XSEND: <h>,0,0`)."""
    unconnected_urc: bool = False
    """Data for a connected socket is announced as for an unconnected one (SARA: +UUSORF)."""
    hex_psk_refused: bool = False
    """A pre-shared key as hexadecimal is refused (SARA: the flag that no module has)."""
    ccm_8: bool | None = None
    """The modem knows suite 0xC0A8, or does not; None: as the family is thought to."""
    ca_demanded: bool = False
    """A security tag without root CA cannot be verified against (nRF91: peer_verify not 0)."""
    prints_data_mode_ok: bool = True
    """OK on entry to data mode (nRF91 SLM: older builds print nothing)."""
    prints_data_mode_end: bool = True
    """`#XDATAMODE: 0` on leaving it (nRF91 SLM: older builds print OK)."""
    lost_wake_bytes: int = 0
    """This many bytes wake a modem from power saving mode and are lost (Sequans without RTS)."""
    gap_s: float = 0.0
    """What comes sooner than this after a final is lost (SARA-R4: 0.1, R5: 0.02)."""
    slow: dict[str, float] = field(default_factory=dict)
    """Seconds by which the answer to a command (`+CFUN`) is late; its work is done in time."""
    refused: dict[str, int] = field(default_factory=dict)
    """CME error numbers with which a command (`+CFUN`) fails, once each time it is set."""


NAMES = tuple(each.name for each in fields(Quirks))
_SWITCH = {"": True, "on": True, "off": False}


def from_words(words: Iterable[str]) -> Quirks:
    """`echo_lost`, `ccm_8=off`, `gap_s=0.1`, `slow=+CFUN:2.5`, each on one that has none yet.

    Raises ValueError: no such quirk, or a value that is none of its kind.
    """
    quirks, kinds = Quirks(), get_type_hints(Quirks)
    for word in words:
        name, _, value = word.partition("=")
        try:
            kind = kinds[name]
            if get_origin(kind) is dict:
                command, _, number = value.rpartition(":")
                if not command:
                    raise ValueError("no command")
                getattr(quirks, name)[command] = _number(get_args(kind)[1], number)
            elif kind in (int, float):
                setattr(quirks, name, _number(kind, value))
            else:
                setattr(quirks, name, _SWITCH[value])
        except (KeyError, ValueError):
            raise ValueError(f"{word!r} is no quirk, or has not such a value") from None
    return quirks


def _number(kind: type[int] | type[float], text: str) -> int | float:
    number = kind(text)
    if not 0 <= number < math.inf:
        raise ValueError("out of range")
    return number
