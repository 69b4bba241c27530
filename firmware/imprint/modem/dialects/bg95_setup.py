"""Quectel BG95 and BG77 before a session; sources and doubts in bg95.py. Pure."""

from micropython import const

from imprint.errors import WeatherError
from imprint.modem.dialects import common_setup
from imprint.modem.dialects.common import fields, maybe
from imprint.modem.engine import Command, Wait

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_PLAIN = const(6)  # handles from here on are plain sockets
_BOOT_MS = const(15000)

# errors.py
_DATA_REFUSED = const(232)


class Setup(common_setup.Setup):
    ICCID = b"AT+QCCID"

    def power_up(self, keep_sockets: bool = False) -> "Talk":
        yield Command(b"ATE0")
        if (yield Wait(0, b"RDY")):
            yield Wait(_BOOT_MS, b"APP RDY")  # else that would cut into the next command
        return (yield from super().power_up(keep_sockets))

    def close_all(self) -> "Talk":
        for handle in range(_PLAIN):
            yield from maybe(Command(b"AT+QSSLCLOSE=%d" % handle))

    def before_radio(self, apn: bytes) -> "Talk":
        lte_m = self.dialect.rat == "lte-m"
        yield from maybe(Command(b'AT+QCFG="iotopmode",%d' % (0 if lte_m else 1)))
        yield from maybe(Command(b'AT+QCFG="nwscanseq",%s' % (b"02" if lte_m else b"03")))
        yield from super().before_radio(apn)

    def bring_up(self, apn: bytes) -> "Talk":
        lines = yield Command(b"AT+QIACT?", prefix=b"+QIACT:", least=0)
        for line in lines:
            if fields(line)[:2] == [b"1", b"1"]:
                return
        yield Command(b'AT+QICSGP=1,1,%s,"","",0' % apn)
        try:
            yield Command(b"AT+QIACT=1", 150000)
        except WeatherError as error:
            yield from maybe(Command(b"AT+QIDEACT=1", 40000))  # as the vendor advises
            raise WeatherError(_DATA_REFUSED, error.detail, error.number)
