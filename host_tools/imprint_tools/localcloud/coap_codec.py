"""CoAP messages as plain values (RFC 7252, section 3); aiocoap reads and writes the bytes.

aiocoap is lenient: it takes a token of 9 to 15 bytes or one that is cut off, and a payload marker
without a payload. A server has to call these format errors, so that is done here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import aiocoap  # type: ignore[import-untyped]  # it ships no type information
from aiocoap.numbers.optionnumbers import OptionNumber  # type: ignore[import-untyped]  # likewise

_HEADER = 4
_TOKEN_MAX = 8
_VERSION = 1
_MARKER = b"\xff"


class Kind(IntEnum):
    """The type of a message."""

    CON = 0
    NON = 1
    ACK = 2
    RST = 3


class FormatError(Exception):
    """Not a CoAP message. `reject`: the message id to answer with a Reset, if there is one."""

    def __init__(self, reject: int | None = None) -> None:
        super().__init__("not a CoAP message")
        self.reject = reject


@dataclass(frozen=True)
class Message:
    """One message. `code` is the byte: class << 5 | detail. Options are in the order of numbers,
    their values as they go over the wire."""

    kind: Kind
    code: int
    message_id: int
    token: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    payload: bytes = b""

    def values(self, number: int) -> Iterator[bytes]:
        return (value for option, value in self.options if option == number)

    def value(self, number: int) -> bytes | None:
        """The first option of that number."""
        return next(self.values(number), None)


def parse(datagram: bytes) -> Message:
    """Read a datagram. Raises FormatError, and nothing else."""
    if len(datagram) < _HEADER or datagram[0] >> 6 != _VERSION:
        raise FormatError  # to be ignored without a word (RFC 7252, 3)
    kind, token_length = Kind(datagram[0] >> 4 & 3), datagram[0] & 0x0F
    code, message_id = struct.unpack_from("!BH", datagram, 1)
    reject = message_id if kind is Kind.CON else None
    if token_length > _TOKEN_MAX or len(datagram) < _HEADER + token_length:
        raise FormatError(reject)
    if code == 0 and len(datagram) > _HEADER:
        raise FormatError(reject)
    try:
        found = aiocoap.Message.decode(datagram)
        options = tuple((int(o.number), bytes(o.encode())) for o in found.opt.option_list())
    except (aiocoap.error.UnparsableMessage, ValueError):
        raise FormatError(reject) from None
    if not found.payload and _marked(datagram[_HEADER + token_length :], options):
        raise FormatError(reject)
    return Message(kind, code, message_id, bytes(found.token), options, bytes(found.payload))


def dump(message: Message) -> bytes:
    """The datagram of a message."""
    out = aiocoap.Message(
        code=message.code,
        payload=message.payload,
        _mtype=int(message.kind),
        _mid=message.message_id,
        _token=message.token,
    )
    for number, value in message.options:
        out.opt.add_option(OptionNumber(number).create_option(decode=value))
    return bytes(out.encode())


def _marked(rest: bytes, options: tuple[tuple[int, bytes], ...]) -> bool:
    """Is the last byte a payload marker with nothing behind it? Where the last option's value ends
    in the same byte it is taken for that."""
    return rest.endswith(_MARKER) and not (options and options[-1][1].endswith(_MARKER))
