"""The clock, without which no certificate can be checked."""

import time

from micropython import const

from imprint import port
from imprint.errors import WeatherError

# An ESP32 starts in 2000: a clock that says less than this was never set.
_EARLIEST_YEAR = const(2025)
_TRIES = const(4)

_CLOCK_NOT_SET = const(210)  # errors.py


def is_set() -> bool:
    return time.gmtime()[0] >= _EARLIEST_YEAR


def ensure(ntp_host: str, feed) -> None:
    """Set the clock by SNTP (RFC 4330) unless it is set. Raises WeatherError after four tries of
    a second or so each; `feed` is called between them."""
    if is_set():
        return
    import ntptime

    ntptime.host = ntp_host
    number = 0
    for _ in range(_TRIES):
        feed()
        try:
            ntptime.settime()
        except OSError as error:
            number = error.args[0]
            port.sleep_ms(200)  # a name that does not resolve fails at once: do not spin
        else:
            if is_set():
                return
    raise WeatherError(_CLOCK_NOT_SET, ntptime.host, number)
