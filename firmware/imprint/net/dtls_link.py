"""The way to a session without a modem: Wi-Fi, and DTLS by the chip itself.

For coap_session.py it is what links.cellular is; which MicroPython can, is tried out (dtls.py).
"""

from micropython import const

from imprint.errors import SetupError, WeatherError
from imprint.links.wifi import Wifi
from imprint.net import dtls

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity
    from imprint.secret import Secret

# errors.py
_LINK_LOST = const(204)
_MODEM_UNSUPPORTED = const(224)


class DtlsLink:
    def __init__(self, identity: "Identity", unit: "Any") -> None:
        self._wifi = Wifi(identity.wifi_ssid, identity.wifi_password, unit.feed)
        self._feed = unit.feed
        self._psk: "tuple[bytes, Secret] | None" = None

    def start(self) -> str:
        """There is no IMEI. Raises SetupError: this MicroPython has no DTLS with a PSK."""
        if not dtls.offered():
            raise SetupError(_MODEM_UNSUPPORTED, "no DTLS with PSK in this MicroPython")
        return ""

    def up(self) -> None:
        """Join. Raises what links.wifi does."""
        self._wifi.up()

    def provide(self, psk_identity: bytes, key: "Secret") -> None:
        """Keep the PSK for `open`."""
        self._psk = (psk_identity, key)

    def open(self, host: str, number: int) -> dtls.DatagramSocket:
        """A socket whose first datagram is the handshake. Raises WeatherError: no such name."""
        psk: "Any" = self._psk
        return dtls.DatagramSocket(host, number, psk[0], psk[1], self._feed)

    def save_power(self, _period_ms: int) -> None:
        """Nothing sleeps."""

    def release(self) -> None:
        """Nothing was needed on the way that is not needed now."""

    def check(self) -> None:
        """Raises WeatherError: the link is gone."""
        if not self._wifi.is_up():
            raise WeatherError(_LINK_LOST)

    def wake(self) -> None:
        """Nothing sleeps."""
