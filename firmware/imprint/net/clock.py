"""The clock, without which no certificate can be checked."""

from micropython import const

from imprint import port
from imprint.errors import WeatherError

_TRIES = const(4)

_CLOCK_NOT_SET = const(210)  # errors.py


def ensure(ntp_host: str, feed, doubted: bool) -> None:
    """Set the clock by SNTP (RFC 4330) unless it is set; when it is `doubted`, anew.

    Raises WeatherError after four tries of a second or so each; `feed` is called between them.
    """
    if port.clock_is_set() and not doubted:
        return
    import ntptime

    ntptime.host = ntp_host
    number = 0
    for _ in range(_TRIES):
        feed()
        try:
            ntptime.settime()
        except (OSError, ValueError) as error:  # ValueError: an answer that is cut short
            number = error.args[0] if isinstance(error, OSError) else 0
            port.sleep_ms(200)  # a name that does not resolve fails at once: do not spin
        else:
            if port.clock_is_set():
                return
    raise WeatherError(_CLOCK_NOT_SET, ntptime.host, number)
