"""Sequans Monarch 2 before a session; sources and doubts in sequans.py. Pure."""

from micropython import const

from imprint.errors import WeatherError
from imprint.modem.dialects import common_setup
from imprint.modem.dialects.common import fields, maybe, number
from imprint.modem.engine import Command, Wait

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_PLAIN = const(6)  # the connection without a profile, and the last one
_RESET_MS = const(20000)


class Setup(common_setup.Setup):
    ICCID = b"AT+SQNCCID"
    EDRX = b"AT+SQNEDRX"

    def close_all(self) -> "Talk":
        for handle in range(1, _PLAIN + 1):
            yield from self.dialect.close(handle)

    def before_radio(self, apn: bytes) -> "Talk":
        mode = 1 if self.dialect.rat == "lte-m" else 2
        lines = yield from maybe(Command(b"AT+SQNMODEACTIVE?", prefix=b"+SQNMODEACTIVE:", least=0))
        if lines and number(fields(lines[0]), 0) != mode:
            yield Command(b"AT+SQNMODEACTIVE=%d" % mode)
            yield from self.restart()
        yield from super().before_radio(apn)

    def restart(self) -> "Talk":
        """So that what it stores counts; the radio is off after it."""
        try:
            yield Command(b"AT^RESET", resets=True)
        except WeatherError as error:
            if error.code not in (221, 227):  # the start came before the final
                raise
        yield Wait(_RESET_MS, b"+SYSSTART")
        yield from self.restarted()
