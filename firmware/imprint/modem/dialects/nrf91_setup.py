"""Nordic nRF91 before a session; sources and doubts in nrf91.py. Pure."""

import binascii

from micropython import const

from imprint.errors import SetupError, WeatherError
from imprint.modem.dialects import common_setup
from imprint.modem.dialects.common import fields, maybe, number
from imprint.modem.dialects.common_setup import fingerprint
from imprint.modem.engine import Command
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

# AT%CMNG
_PSK = const(3)
_IDENTITY = const(4)
_NOT_FOUND = const(513)  # CME

# errors.py
_MODEM_REFUSED = const(223)
_MODEM_UNSUPPORTED = const(224)
_PSK_NOT_STORED = const(228)


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
        return b" ".join((model[0], version[0])).decode()

    def before_radio(self, apn: bytes) -> "Talk":
        lte_m = self.dialect.rat == "lte-m"
        yield Command(b"AT%%XSYSTEMMODE=%d,%d,0,0" % (lte_m, not lte_m))
        yield Command(b'AT+CGDCONT=%d,"IPV4V6",%s' % (self.dialect.CID, apn))

    def provision_psk(
        self, tag: int, identity: bytes, key: Secret, marker: "str | None" = None
    ) -> "Talk":
        """Into the modem's own store, under the security tag; its radio is off meanwhile.

        SetupError: the store refused it, `number` is the CME code.
        """
        listed = yield from self._listed(tag)
        own = fingerprint(identity, key)
        if marker and listed and marker == own + listed:
            return marker
        yield Command(b"AT+CFUN=4", 60000)
        try:
            for kind in (_IDENTITY, _PSK):
                try:
                    yield Command(b"AT%%CMNG=3,%d,%d" % (tag, kind))
                except WeatherError as error:
                    if error.number != _NOT_FOUND:
                        raise
            yield Command(Secret(b'AT%%CMNG=0,%d,4,"%s"' % (tag, identity)))
            text = binascii.hexlify(key.reveal())
            yield Command(Secret(b'AT%%CMNG=0,%d,3,"%s"' % (tag, text)))
        except WeatherError as error:
            if error.code != _MODEM_REFUSED:
                raise
            raise SetupError(_PSK_NOT_STORED, error.detail, error.number)
        listed = yield from self._listed(tag)
        return own + listed

    def _listed(self, tag: int) -> "Talk":
        # What the store tells of the pair: the beginnings of its digests, identity's first.
        lines = yield Command(b"AT%%CMNG=1,%d" % tag, prefix=b"%CMNG:", least=0)
        found = [b"", b""]
        for line in lines:
            words = fields(line)
            kind = number(words, 1)
            if len(words) > 2 and kind in (_PSK, _IDENTITY):
                found[kind - _PSK] = b":" + words[2][:16]
        return b"".join(found).decode() if found[0] and found[1] else ""

    def close_all(self) -> "Talk":
        if self.dialect.classic:
            yield from self.dialect.classic.close()
        else:
            yield from maybe(Command(b"AT#XCLOSE"))
