"""Sequans Monarch 2: GM02S, GM02SP (Walter), and GM01Q, RYZ014. Pure.

Sources: a DTLS-PSK soak test in the vendor's style and two published drivers. Not verified, and
so configurable here:

    suite        PSK-AES128-CBC-SHA256: only 0x8C, 0x8D, 0xAE and 0xAF were seen to work. Whether
                 0xC0A8 (CCM_8) is taken is not known; a server must accept 0x00AE.
    TLS_VERSION  2, TLS 1.2, which is what DTLS uses too (older firmware counts otherwise).
    that the profile with the PSK lies in NVM, and the reset after a change of the radio.

Sockets and sessions were seen to outlive power saving; there is no connection id, so a new NAT
binding in the meantime still ends them silently. The modem's own MQTT and CoAP clients are not
used: one firmware sends plain text there. `tag` is the security profile, 1 to 5, and the
connection too; the host can read the profile, key included.

A dial that fails can be followed by a second NO CARRIER much later; it ends nothing but a dial.
"""

from micropython import const

from imprint.modem.dialects.common import Common, fields, length, maybe, number
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_PSK_AES128_CBC_SHA256 = const(0x00AE)
_READ_MAX = const(1280)  # what a CoAP message may be


class Dialect(Common):
    NAME = "sequans"
    BUFFER = 1300
    PAYLOAD_MAX = 1460
    BOOT = (b"+SYSSTART",)
    URCS = Common.URCS + (b"+SYSSTART", b"+SQNSRING:", b"+SQNSH:", b"+SQNSSHDN")
    PSM_SLEEP_KEEPS_SESSION = True

    def __init__(self, suite: int = _PSK_AES128_CBC_SHA256) -> None:
        super().__init__(suite)

    def raw_after(self, line: bytes) -> int:
        if line.startswith(b"+SQNSRECV:"):
            return length(fields(line), 1)
        return 0

    def parse_urc(self, line: bytes, data: "bytes | None" = None) -> "tuple | None":
        if line.startswith(b"+SQNSRING:") or line.startswith(b"+SQNSH:"):
            words = fields(line)
            handle = number(words, 0)
            if handle is None:
                return None
            if line.startswith(b"+SQNSH:"):
                return ("closed", handle)
            return ("data", handle, number(words, 1))
        return super().parse_urc(line)

    def send(self, handle: int, data: bytes) -> "Talk":
        """One datagram. WeatherError: it was not sent, or nobody knows."""
        line = b"AT+SQNSSENDEXT=%d,%d" % (handle, len(data))
        yield Command(line, payload=data, prompt=b">")

    def receive(self, handle: int, limit: int) -> "Talk":
        """The oldest datagram that waits in the modem, cut to `limit` bytes, or None."""
        line = b"AT+SQNSRECV=%d,%d" % (handle, _READ_MAX)
        lines = yield from maybe(Command(line, prefix=b"+SQNSRECV:", least=0))
        return lines[1][:limit] if lines and len(lines) > 1 else None

    def close(self, handle: int) -> "Talk":
        """Also of one that is closed."""
        yield from maybe(Command(b"AT+SQNSH=%d" % handle))
