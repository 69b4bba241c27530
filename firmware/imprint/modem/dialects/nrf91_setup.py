"""Nordic nRF91 before a session; sources and doubts in nrf91.py. Pure."""

from micropython import const

from imprint.errors import SetupError, WeatherError
from imprint.modem.dialects import common_setup
from imprint.modem.dialects.common import maybe
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk


# errors.py
_MODEM_REFUSED = const(223)
_MODEM_UNSUPPORTED = const(224)


class Setup(common_setup.Setup):
    ICCID = b"AT%XICCID"

    def identify(self) -> "Talk":
        dialect = self.dialect
        dialect.eol = b"\r\n"
        try:
            version = yield Command(b"AT#XSMVER", prefix=b"#XSMVER:")
            dialect.eol = b"\r"
            dialect.classic = None
        except WeatherError as refused:
            if refused.code != _MODEM_REFUSED:
                raise
            try:
                version = yield Command(b"AT#XSLMVER", prefix=b"#XSLMVER:")
            except WeatherError as error:
                if error.code != _MODEM_REFUSED:
                    raise
                raise SetupError(_MODEM_UNSUPPORTED, "no Serial Modem in the nRF91", error.number)
            from imprint.modem.dialects import nrf91_slm

            dialect.classic = nrf91_slm.Proxy(dialect)
        model = yield Command(b"AT+CGMM", least=1)
        return common_setup.printable(model[0] + b" " + version[0])

    def before_radio(self, apn: bytes) -> "Talk":
        lte_m = self.dialect.rat == "lte-m"
        yield Command(b"AT%%XSYSTEMMODE=%d,%d,0,0" % (lte_m, not lte_m))
        yield Command(b'AT+CGDCONT=%d,"IPV4V6",%s' % (self.dialect.CID, apn))

    def close_all(self) -> "Talk":
        if self.dialect.classic:
            yield from self.dialect.classic.close()
        else:
            yield from maybe(Command(b"AT#XCLOSE"))
