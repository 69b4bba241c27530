"""Wi-Fi as a station: up within a bounded time, or the reason why not."""

import network
from micropython import const

from imprint import port
from imprint.errors import WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from imprint.secret import Secret

_UP_MS = const(20000)  # association and DHCP; an ESP32 needs 2 to 6 s
_STEP_MS = const(50)

# errors.py
_ACCESS_POINT_NOT_FOUND = const(201)
_WIFI_PASSWORD_WRONG = const(202)
_LINK_TIMEOUT = const(203)


class Wifi:
    def __init__(
        self, ssid: str, password: "Secret | None", feed: "Callable[[], None]"
    ) -> None:
        """`feed` is called while waiting (the watchdog's)."""
        self._ssid = ssid
        self._password = password
        self._feed = feed
        self._wlan = network.WLAN(network.STA_IF)

    def up(self) -> None:
        """Join; returns with an address. Raises WeatherError: no such access point, wrong
        password, no address in time."""
        wlan = self._wlan
        if wlan.isconnected():
            return
        wlan.active(False)  # forgets a half-made connection and its status
        wlan.active(True)
        if self._password:
            wlan.connect(self._ssid, self._password.reveal().decode())
        else:
            wlan.connect(self._ssid)
        deadline = port.ticks_add(port.ticks_ms(), _UP_MS)
        status = wlan.status()
        # The radio goes on looking after "not found" and the like: so do we, to the deadline.
        while status != network.STAT_WRONG_PASSWORD:
            if wlan.isconnected():
                return
            if port.ticks_diff(deadline, port.ticks_ms()) <= 0:
                break
            self._feed()
            port.sleep_ms(_STEP_MS)
            status = wlan.status()
        wlan.active(False)
        if status == network.STAT_WRONG_PASSWORD:
            raise WeatherError(_WIFI_PASSWORD_WRONG, self._ssid)
        if status == network.STAT_NO_AP_FOUND:
            raise WeatherError(_ACCESS_POINT_NOT_FOUND, self._ssid)
        raise WeatherError(_LINK_TIMEOUT, self._ssid, status)

    def is_up(self) -> bool:
        return self._wlan.isconnected()

    def down(self) -> None:
        self._wlan.active(False)
