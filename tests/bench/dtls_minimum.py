"""The fewest bytes and datagrams of DTLS 1.2 with a pre-shared key and of CoAP, by their formats.

UDP payload only. Every number is a length that an RFC fixes; nothing here is measured.

    record header            13      RFC 6347, 4.1
    handshake header         12      RFC 6347, 4.2.2
    ClientHello              25 + 42 + 2 for each suite but one + cookie + session id
                                     RFC 6347, 4.2.1: version 2, random 32, and with their length
                                     bytes session id 1, cookie 1, suites 2 + 2, compression 1 + 1
    HelloVerifyRequest       25 + 3 + cookie                                    RFC 6347, 4.2.1
    ServerHello              25 + 38 + session id                               RFC 5246, 7.4.1.3
    ServerHelloDone          25                                                 RFC 5246, 7.4.5
    ClientKeyExchange        25 + 2 + PSK identity                              RFC 4279, 2
    ChangeCipherSpec         13 + 1                                             RFC 5246, 7.1
    Finished                 a record of 12 + 12                                RFC 5246, 7.4.9
    record of CCM_8          13 + nonce 8 + L + tag 8                           RFC 6655, 3
    record of CBC_SHA256     13 + IV 16 + (L + MAC 32 + padding 1 or more, to 16)
                                     RFC 5246, 6.2.3.2 and RFC 5487, 2; encrypt-then-MAC (RFC 7366,
                                     3) pads L without the MAC and comes to the same for most L
    close_notify             a record of 2, which must be sent                  RFC 5246, 7.2.1
    CoAP                     4 + token + options + (1 + payload)                RFC 7252, 3

A ServerKeyExchange is only sent for a hint (RFC 4279, 2). The two suites that a ClientHello names
are one and the signalling value of RFC 5746, 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

_RECORD, _HANDSHAKE = 13, 12
_MESSAGE = _RECORD + _HANDSHAKE
_RANDOM = 32
_FINISHED = _HANDSHAKE + 12
_CHANGE_CIPHER_SPEC = _RECORD + 1
_ALERT = 2
_BLOCK, _SHA256, _NONCE, _CCM_8_TAG = 16, 32, 8, 8
_SUITES = 2
_COOKIE = 20  # of the sheets' tables; RFC 6347 leaves it to the server

CCM_8, CBC_SHA256 = "CCM_8", "CBC_SHA256"


@dataclass(frozen=True)
class Ways:
    """Datagrams each way, by their sizes."""

    up: tuple[int, ...]
    down: tuple[int, ...]

    def __add__(self, other: Ways) -> Ways:
        return Ways(self.up + other.up, self.down + other.down)


def record(suite: str, plain: int) -> int:
    """A protected record of `plain` bytes."""
    if suite == CCM_8:
        return _RECORD + _NONCE + plain + _CCM_8_TAG
    padded = -(-(plain + _SHA256 + 1) // _BLOCK) * _BLOCK
    return _RECORD + _BLOCK + padded


def handshake(suite: str, identity: int) -> Ways:
    """The six flights with an identity of so many bytes; neither extensions nor a session id."""
    hello = _MESSAGE + 2 + _RANDOM + 1 + 1 + (2 + 2) + (1 + 1) + 2 * (_SUITES - 1)
    verify = _MESSAGE + 3 + _COOKIE
    server = (_MESSAGE + 38) + _MESSAGE
    last = _CHANGE_CIPHER_SPEC + record(suite, _FINISHED)
    return Ways((hello, hello + _COOKIE, _MESSAGE + 2 + identity + last), (verify, server, last))


def goodbye(suite: str) -> Ways:
    """The end of a session that gives way to another."""
    return Ways((record(suite, _ALERT),), ())


def coap(path: list[str], payload: int) -> int:
    """A message with that path and no token, which RFC 7252, 5.3.1 allows where one request is
    under way at a time."""
    options = sum(map(_option, path))
    return 4 + options + (1 + payload if payload else 0)


def exchange(suite: str, path: list[str], request: int, response: int) -> Ways:
    """A request and its response in the acknowledgement (RFC 7252, 5.2.1), by their payloads."""
    return Ways((record(suite, coap(path, request)),), (record(suite, coap([], response)),))


def _option(segment: str) -> int:
    size = len(segment.encode())
    # RFC 7252, 3.1: from 13 bytes on the length takes a byte of its own; deltas here are small
    return 1 + (size >= 13) + size
