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

from imprint.errors import WeatherError
from imprint.modem.dialects.common import (
    PSK_AES128_CBC_SHA256,
    Common,
    fields,
    length,
    maybe,
    number,
)
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_PLAIN = const(6)  # the connection without a profile
_CONNECT_S = const(60)
_DIAL_MS = const(200000)  # _CONNECT_S, then the handshake: always longer than the modem's own
_READ_MAX = const(1500)

# errors.py
_SESSION_REFUSED = const(229)


class Dialect(Common):
    NAME = "sequans"
    BUFFER = 1600
    PAYLOAD_MAX = 1460
    BOOT = (b"+SYSSTART",)
    URCS = Common.URCS + (b"+SYSSTART", b"+SQNSRING:", b"+SQNSH:", b"+SQNSSHDN")
    PSM_SLEEP_KEEPS_SESSION = True

    def __init__(self, suite: int = PSK_AES128_CBC_SHA256) -> None:
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

    def open_dtls(self, host: str, port: int, tag: int) -> "Talk":
        """Dial with the profile `tag`; its number is the handle too. WeatherError: no session."""
        yield from self.close(tag)  # the profile is tied to a connection while that is closed
        yield Command(b"AT+SQNSSCFG=%d,1,%d" % (tag, tag))
        return (yield from self._dial(tag, host, port))

    def open_udp(self, host: str, port: int) -> "Talk":
        """A plain UDP socket, connected; returns the handle."""
        yield from self.close(_PLAIN)
        return (yield from self._dial(_PLAIN, host, port))

    def _dial(self, handle: int, host: str, port: int) -> "Talk":
        # No idle limit; data announced by its size; binary both ways; command mode.
        yield Command(b"AT+SQNSCFG=%d,%d,300,0,%d,50" % (handle, self.CID, _CONNECT_S * 10))
        yield Command(b"AT+SQNSCFGEXT=%d,1,0,0,0,0" % handle)
        line = b'AT+SQNSD=%d,1,%d,"%s",0,0,1' % (handle, port, host.encode())
        try:
            yield Command(line, _DIAL_MS, dials=True)
        except WeatherError as error:
            if error.code not in (221, 223):
                raise
            yield from self.close(handle)
            raise WeatherError(_SESSION_REFUSED, host, error.number)
        return handle

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
