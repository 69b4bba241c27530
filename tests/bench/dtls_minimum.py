"""The fewest bytes and datagrams of DTLS 1.2 with a pre-shared key and of CoAP, by their formats.

UDP payload only. Every number is a length that an RFC fixes; nothing here is measured.

    record header            13      RFC 6347, 4.1
    handshake header         12      RFC 6347, 4.2.2
    ClientHello              25 + 42 + 2 for each suite but one + cookie + extensions
                                     RFC 6347, 4.2.1: version 2, random 32, and with their length
                                     bytes session id 1, cookie 1, suites 2 + 2, compression 1 + 1
    HelloVerifyRequest       25 + 3 + cookie                                    RFC 6347, 4.2.1
    ServerHello              25 + 38 + session id + extensions                  RFC 5246, 7.4.1.3
    extensions               2 + those that there are                           RFC 5246, 7.4.1.4
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

A ServerKeyExchange is only sent for a hint (RFC 4279, 2).

What the hellos hold beside these is the two ends' own: `Hellos`. No AT command and no choice of
the firmware's takes a byte from them, so a minimum is one for given hellos. BARE is the least
that the formats allow, which no known implementation sends; MBED_TLS is what stands in here for
the modem and for EnOS, the modem with the suites of an nRF91, which offers all it has.
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

CCM_8, CBC_SHA256 = "CCM_8", "CBC_SHA256"


@dataclass(frozen=True)
class Hellos:
    """What two ends say of themselves. Of suites, the signalling value of RFC 5746, 3.4 is one;
    the rest is in bytes, `client` and `server` their extensions without the length."""

    suites: int
    cookie: int
    session_id: int
    client: int
    server: int


_ENCRYPT_THEN_MAC = 4  # RFC 7366, 2
_EXTENDED_MASTER_SECRET = 4  # RFC 7627, 5.1
_RENEGOTIATION_INFO = 5  # RFC 5746, 3.2: owed to the signalling value
_SESSION_TICKET = 4  # RFC 5077, 3.2
_SIGNATURE_ALGORITHMS = 4 + 2 + 2 * 8  # RFC 5246, 7.4.1.4.1: eight pairs

# A cookie of SHA-1's 20 bytes; RFC 6347, 4.2.1 leaves it to the server.
BARE = {suite: Hellos(2, 20, 0, 0, 0) for suite in (CCM_8, CBC_SHA256)}

_OFFERED = _SIGNATURE_ALGORITHMS + _ENCRYPT_THEN_MAC + _EXTENDED_MASTER_SECRET + _SESSION_TICKET
_GRANTED = _RENEGOTIATION_INFO + _EXTENDED_MASTER_SECRET
MBED_TLS = {
    CCM_8: Hellos(5, 32, 32, _OFFERED, _GRANTED),
    CBC_SHA256: Hellos(5, 32, 32, _OFFERED, _GRANTED + _ENCRYPT_THEN_MAC),
}


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


def handshake(suite: str, identity: int, hellos: Hellos) -> Ways:
    """The six flights with an identity of so many bytes; no session is resumed."""
    hello = _MESSAGE + 2 + _RANDOM + 1 + 1 + (2 + 2) + (1 + 1) + 2 * (hellos.suites - 1)
    hello += _extensions(hellos.client)
    verify = _MESSAGE + 3 + hellos.cookie
    server = (_MESSAGE + 38 + hellos.session_id + _extensions(hellos.server)) + _MESSAGE
    last = _CHANGE_CIPHER_SPEC + record(suite, _FINISHED)
    keys = _MESSAGE + 2 + identity + last
    return Ways((hello, hello + hellos.cookie, keys), (verify, server, last))


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


def _extensions(size: int) -> int:
    return 2 + size if size else 0


def _option(segment: str) -> int:
    size = len(segment.encode())
    # RFC 7252, 3.1: from 13 bytes on the length takes a byte of its own; deltas here are small
    return 1 + (size >= 13) + size
