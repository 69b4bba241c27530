"""What every family says alike while a session runs, and how a dialect is made. Pure.

A dialect has three parts, so that a small heap holds one at a time (see modem.dialects):

    Setup     power up, identify, attach (common_setup.py, FAMILY_setup.py)
    Dialer    provision the key, open a session (common_dial.py, FAMILY_dial.py)
    Dialect   what is said in a session, and what URCs mean; the other two have it

Methods that talk are generators for an `Engine`: they yield Commands and return the result.

    send(handle, data)    receive(handle, limit) -> bytes or None    close(handle)

`parse_urc(line, data)` tells what a URC means:

    ("data", handle, n)    something waits for `receive`; n bytes, or None: not said
    ("closed", handle)     the modem or the peer ended it
    ("registration", stat)    +CEREG's: 1 home, 5 roaming, else not registered
    ("edrx", bits)         the network granted another cycle
    ("psm", tau_s, active_s)    it granted other timers
    ("reboot",)            the modem started anew: all handles are invalid
    ("pdp_lost",)          the data connection is gone
    None                   nothing that we use
"""

import binascii

from micropython import const

from imprint.errors import WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Command, Talk

# IANA's TLS cipher suites (RFC 6655, RFC 5487): 0x00AE is PSK-AES128-CBC-SHA256.
_PSK_AES128_CCM_8 = const(0xC0A8)

_MODEM_REFUSED = const(223)  # errors.py


class Common:
    """State and commands that all families share; `suite` only counts where the host may pick."""

    NAME = "?"
    BUFFER = 1600  # bytes: the longest line or counted run that the modem sends us
    PAYLOAD_MAX = 1024  # bytes of a datagram that `send` takes
    SEND_GAP_MS = 20  # between a final and the next command
    PROMPT_GAP_MS = 0  # between a prompt and the payload
    BOOT: "tuple[bytes, ...]" = ()  # whole lines
    URCS: "tuple[bytes, ...]" = (b"+CEREG:", b"+CEDRXP:", b"+CGEV:")  # beginnings
    DIGITS_AFTER = b"\n"  # beginning of a line whose counted run is hexadecimal
    CID = 1  # of the PDP context
    band: "int | None" = None  # the only LTE band to be used; None: any
    PSM_SLEEP_KEEPS_SESSION = False

    def __init__(self, suite: int = _PSK_AES128_CCM_8) -> None:
        self.suite = suite
        self.rat = "nb-iot"  # or "lte-m"
        self.eol = b"\r"

    def raw_after(self, line: bytes) -> int:
        """Bytes that follow `line` uncut; 0: it is followed by lines."""
        return 0

    def parse_urc(self, line: bytes, data: "bytes | None" = None) -> "tuple | None":
        """What a URC, with the counted run that followed it, means; see above."""
        if line in self.BOOT:
            return ("reboot",)
        if line.startswith(b"+CEREG:"):
            stat = number(fields(line), 0)
            return None if stat is None else ("registration", stat)
        if line.startswith(b"+CEDRXP:"):
            words = fields(line)
            return ("edrx", words[2]) if len(words) > 2 else None
        if line.startswith(b"+CGEV:") and (b"DEACT" in line or b"DETACH" in line):
            return ("pdp_lost",)
        return None


def maybe(command: "Command") -> "Talk":
    """The answer, or None if the modem refused; for what can be done without."""
    try:
        return (yield command)
    except WeatherError as error:
        if error.code != _MODEM_REFUSED:
            raise
        return None


def hexadecimal(head: bytes, data: bytes) -> list:
    """The line that begins with `head` and goes on with `data` in quotes, in pieces: a small heap
    seldom has a long run free."""
    pieces = [head]
    for at in range(0, len(data), 64):
        pieces.append(binascii.hexlify(data[at : at + 64]))
    pieces.append(b'"')
    return pieces


# --- reading answers


def fields(line: bytes) -> list:
    """`+X: 1,"a,b",2` -> [b"1", b"a,b", b"2"]."""
    text = line.partition(b":")[2]
    words = []
    start = 0
    quoted = False
    for index in range(len(text) + 1):
        if index == len(text) or (text[index] == 0x2C and not quoted):
            words.append(text[start:index].strip().strip(b'"'))
            start = index + 1
        elif text[index] == 0x22:
            quoted = not quoted
    return words


def word(words: list, index: int) -> bytes:
    """The field, empty if it is missing."""
    return words[index] if index < len(words) else b""


def number(words: list, index: int) -> "int | None":
    """The field as a number of up to 9 digits, None if it is none."""
    text = word(words, index)
    negative = text[:1] == b"-"
    if negative:
        text = text[1:]
    if not text.isdigit() or len(text) > 9:
        return None
    return -int(text) if negative else int(text)


def length(words: list, index: int) -> int:
    """The field as the length of what follows; 0 if it is none."""
    return max(0, number(words, index) or 0)
