"""Sequans Monarch 2, to a session; sources and doubts in sequans.py. Pure."""

import binascii

from micropython import const

from imprint.errors import SetupError, WeatherError
from imprint.modem.dialects import common_dial
from imprint.modem.engine import Command
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_PLAIN = const(6)
_CONNECT_S = const(60)
_DIAL_MS = const(200000)  # _CONNECT_S, then the handshake: always longer than the modem's own

# errors.py
_PSK_NOT_STORED = const(228)
_SESSION_REFUSED = const(229)


class Dialer(common_dial.Dialer):
    TLS_VERSION = 2

    def provision_psk(
        self, tag: int, identity: bytes, key: Secret, marker: "str | None" = None
    ) -> "Talk":
        """Into the security profile `tag`, 1 to 5. SetupError: it was not stored."""
        own = "%s:%x" % (common_dial.fingerprint(identity, key), self.dialect.suite)
        if marker == own:
            return marker
        line = b'AT+SQNSPCFG=%d,%d,"0x%02X",,,,,"%s","%s"'
        text = binascii.hexlify(key.reveal())
        line %= (tag, self.TLS_VERSION, self.dialect.suite, text, identity)
        try:
            yield Command(Secret(line))
        except WeatherError as error:
            if error.code != 223:
                raise
            raise SetupError(_PSK_NOT_STORED, error.detail, error.number)
        return own

    def open_dtls(self, host: str, port: int, tag: int) -> "Talk":
        """Dial with the profile `tag`; its number is the handle too. WeatherError: no session."""
        # The profile is tied to a connection while that is closed.
        yield from self.dialect.close(tag)
        yield Command(b"AT+SQNSSCFG=%d,1,%d" % (tag, tag))
        return (yield from self._dial(tag, host, port))

    def open_udp(self, host: str, port: int) -> "Talk":
        """A plain UDP socket, connected; returns the handle."""
        yield from self.dialect.close(_PLAIN)
        return (yield from self._dial(_PLAIN, host, port))

    def _dial(self, handle: int, host: str, port: int) -> "Talk":
        # No idle limit; data announced by its size; binary both ways; command mode.
        cid = self.dialect.CID
        yield Command(b"AT+SQNSCFG=%d,%d,300,0,%d,50" % (handle, cid, _CONNECT_S * 10))
        yield Command(b"AT+SQNSCFGEXT=%d,1,0,0,0,0" % handle)
        line = b'AT+SQNSD=%d,1,%d,"%s",0,0,1' % (handle, port, host.encode())
        try:
            yield Command(line, _DIAL_MS, dials=True)
        except WeatherError as error:
            if error.code not in (221, 223):
                raise
            yield from self.dialect.close(handle)
            raise WeatherError(_SESSION_REFUSED, host, error.number)
        return handle
