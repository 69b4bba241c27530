"""Modems without DTLS of their own, to a session; sources and doubts in udp.py. Pure."""

from micropython import const

from imprint.errors import ProtocolError, SetupError
from imprint.modem.dialects import common_dial
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk
    from imprint.secret import Secret

_LISTEN_PORT = const(0)  # the modem chooses

# errors.py
_MODEM_GARBAGE = const(222)
_MODEM_UNSUPPORTED = const(224)


class Dialer(common_dial.Dialer):
    def provision_psk(
        self, tag: int, identity: bytes, key: "Secret", marker: "str | None" = None
    ) -> "Talk":
        """Raises SetupError: there is nothing to put it into."""
        raise SetupError(_MODEM_UNSUPPORTED, "no DTLS")
        yield  # a generator, as the other families' is

    def open_dtls(self, host: str, port: int, tag: int) -> "Talk":
        """Raises SetupError."""
        raise SetupError(_MODEM_UNSUPPORTED, "no DTLS")
        yield  # a generator, as the other families' is

    def open_udp(self, host: str, port: int) -> "Talk":
        """A UDP socket that remembers its peer, an address in digits; returns the handle."""
        lines = yield Command(b'AT+NSOCR="DGRAM",17,%d,1' % _LISTEN_PORT, least=1)
        if not lines[0].isdigit():
            raise ProtocolError(_MODEM_GARBAGE, "AT+NSOCR")
        handle = int(lines[0])
        self.dialect.peers[handle] = (host.encode(), port)
        return handle
