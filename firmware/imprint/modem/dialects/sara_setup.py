"""u-blox SARA before a session; sources and doubts in sara.py. Pure."""

from micropython import const

from imprint.errors import WeatherError
from imprint.modem.dialects import common_setup
from imprint.modem.dialects.common import fields, maybe, number
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk


# errors.py
_DATA_REFUSED = const(232)


class Setup(common_setup.Setup):
    def power_up(self, keep_sockets: bool = False) -> "Talk":
        name = yield from super().power_up(keep_sockets)
        yield Command(b"AT+UDCONF=1,1")  # hexadecimal; some remember it, some do not
        yield from maybe(Command(b"AT+CGEREP=1"))
        return name

    def identify(self) -> "Talk":
        name = yield from super().identify()
        self.dialect.model = name.encode()
        return name

    def close_all(self) -> "Talk":
        for handle in range(7):
            yield from self.dialect.close(handle)

    def before_radio(self, apn: bytes) -> "Talk":
        rat = 7 if self.dialect.rat == "lte-m" else 8
        lines = yield from maybe(Command(b"AT+URAT?", prefix=b"+URAT:", least=0))
        if lines and number(fields(lines[0]), 0) != rat:
            yield Command(b"AT+URAT=%d" % rat)
            yield from self.restart()
        yield from super().before_radio(apn)

    def restart(self) -> "Talk":
        """So that what it stores counts; the radio is off after it."""
        yield Command(b"AT+CFUN=15", 60000, resets=True)
        yield from self.restarted()

    def bring_up(self, apn: bytes) -> "Talk":
        yield from super().bring_up(apn)
        if b"R41" in self.dialect.model:
            return  # its sockets use the first context as it is
        yield from maybe(Command(b"AT+UPSD=0,0,0"))
        yield from maybe(Command(b"AT+UPSD=0,100,%d" % self.dialect.CID))
        # Refused if it is active already.
        lines = yield from maybe(Command(b"AT+UPSDA=0,3", 180000, until=b"+UUPSDA:"))
        if lines and number(fields(lines[-1]), 0) != 0:
            raise WeatherError(_DATA_REFUSED, "AT+UPSDA", number(fields(lines[-1]), 0))
