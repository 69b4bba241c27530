"""Quectel BG95 and BG77 (BG96 and BG600L are alike). Pure.

Sources: drivers that work, read for it; the vendor's SSL application note was not at hand. Not
verified, and so configurable or tried out here:

    the PSK's place   a file `<context>_server.psk` in UFS, `identity&key` (from one driver). Where
                      AT+QSSLCFG=? knows "psk" (EG25), that is used instead.
    suites            0XC0A8 is in a published list, 0X00AE was used by a driver. One is offered,
                      `suite`; 0xFFFF offers all.
    seclevel 0, client numbers, the plain sockets (QIOPEN ...), and QCFG for the radio: from
                      general knowledge. What is refused of the latter is gone without.

There is no connection id, no session resumption was seen, and after power saving the modem boots:
then all is to be opened anew. The file can be read back by the host, so it is no safe; but it
stays, and is not written again at each boot. `tag` is the SSL context, 0 to 5.
"""

from micropython import const

from imprint.modem.dialects.common import Common, fields, length, maybe, number
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_READ_MAX = const(1280)  # what a CoAP message may be
_PLAIN = const(6)  # handles from here on are plain sockets


class Dialect(Common):
    NAME = "bg95"
    BUFFER = 1300
    PAYLOAD_MAX = 1460
    BOOT = (b"RDY", b"APP RDY")
    URCS = Common.URCS + (
        b"RDY",
        b"APP RDY",
        b"+QSSLURC:",
        b"+QIURC:",
        b"+QSSLOPEN:",
        b"+QIOPEN:",
        b"+QPSMTIMER:",
        b"POWERED DOWN",
    )

    def raw_after(self, line: bytes) -> int:
        if line.startswith(b"+QSSLRECV:") or line.startswith(b"+QIRD:"):
            return length(fields(line), 0)
        return 0

    def parse_urc(self, line: bytes, data: "bytes | None" = None) -> "tuple | None":
        if line.startswith(b"+QSSLURC:") or line.startswith(b"+QIURC:"):
            words = fields(line)
            handle = number(words, 1)
            if words[0] == b"pdpdeact":
                return ("pdp_lost",)
            if handle is None or words[0] not in (b"recv", b"closed"):
                return None
            handle += _PLAIN if line.startswith(b"+QIURC:") else 0
            return ("data", handle, None) if words[0] == b"recv" else ("closed", handle)
        if line.startswith(b"+QPSMTIMER:"):
            words = fields(line)
            return ("psm", number(words, 0), number(words, 1))
        return super().parse_urc(line)

    def send(self, handle: int, data: bytes) -> "Talk":
        """One datagram. WeatherError: it was not sent, or nobody knows."""
        line = b"AT+QSSLSEND=%d,%d" if handle < _PLAIN else b"AT+QISEND=%d,%d"
        yield Command(line % (handle % _PLAIN, len(data)), payload=data, prompt=b">")

    def receive(self, handle: int, limit: int) -> "Talk":
        """The oldest datagram that waits in the modem, cut to `limit` bytes, or None."""
        if handle < _PLAIN:
            line, prefix = b"AT+QSSLRECV=%d,%d", b"+QSSLRECV:"
        else:
            line, prefix = b"AT+QIRD=%d,%d", b"+QIRD:"
        lines = yield Command(line % (handle % _PLAIN, _READ_MAX), prefix=prefix)
        return lines[1][:limit] if len(lines) > 1 else None

    def close(self, handle: int) -> "Talk":
        """Also of a socket that was closed from afar: its number is free only then."""
        line = b"AT+QSSLCLOSE=%d" if handle < _PLAIN else b"AT+QICLOSE=%d"
        yield from maybe(Command(line % (handle % _PLAIN), 20000))
