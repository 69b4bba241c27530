"""Quectel BG95 and BG77 before a session; sources and doubts in bg95.py. Pure."""

import binascii

from micropython import const

from imprint.errors import ImprintError, SetupError, WeatherError
from imprint.modem.dialects import common_setup
from imprint.modem.dialects.common import fields, maybe, number
from imprint.modem.dialects.common_setup import fingerprint
from imprint.modem.engine import Command, Wait
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_CLIENTS = const(6)  # with DTLS
_BOOT_MS = const(15000)

# errors.py
_MODEM_REFUSED = const(223)
_PSK_NOT_STORED = const(228)
_DATA_REFUSED = const(232)


class Setup(common_setup.Setup):
    ICCID = b"AT+QCCID"

    def power_up(self, keep_sockets: bool = False) -> "Talk":
        yield Command(b"ATE0")
        if (yield Wait(0, b"RDY")):
            yield Wait(_BOOT_MS, b"APP RDY")  # else that would cut into the next command
        return (yield from super().power_up(keep_sockets))

    def close_all(self) -> "Talk":
        for handle in range(_CLIENTS):
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

    def provision_psk(
        self, tag: int, identity: bytes, key: Secret, marker: "str | None" = None
    ) -> "Talk":
        """Into the file that the SSL context `tag` reads. SetupError: it was not stored."""
        hex_key = binascii.hexlify(key.reveal())
        text = identity + b"&" + hex_key
        own = "%s:%d" % (fingerprint(identity, key), len(text))
        forms = yield from maybe(Command(b"AT+QSSLCFG=?", prefix=b"+QSSLCFG:", least=0))
        name = b'"%d_server.psk"' % tag
        try:
            if forms and any([b'"psk"' in line for line in forms]):
                line = b'AT+QSSLCFG="psk",%d,"%s","%s"' % (tag, identity, hex_key)
                yield Command(Secret(line))
                return None
            if marker == own and (yield from self._file_size(name)) == len(text):
                return marker
            yield from maybe(Command(b"AT+QFDEL=" + name))
            lines = yield Command(
                b"AT+QFUPL=%s,%d,60" % (name, len(text)),
                70000,
                prefix=b"+QFUPL:",
                prompt=b"CONNECT",
                payload=Secret(text),
            )
        except ImprintError as error:
            if error.code != _MODEM_REFUSED:
                raise
            raise SetupError(_PSK_NOT_STORED, error.detail, error.number)
        if number(fields(lines[0]), 0) != len(text):
            raise SetupError(_PSK_NOT_STORED, "AT+QFUPL")
        return own

    def _file_size(self, name: bytes) -> "Talk":
        lines = yield from maybe(Command(b"AT+QFLST=" + name, prefix=b"+QFLST:", least=0))
        return number(fields(lines[0]), 1) if lines else None
