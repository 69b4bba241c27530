"""u-blox SARA before a session; sources and doubts in sara.py. Pure."""

import binascii

from micropython import const

from imprint.errors import SetupError, WeatherError
from imprint.modem.dialects import common_setup
from imprint.modem.dialects.common import PSK_AES128_CBC_SHA256, fields, maybe, number
from imprint.modem.engine import Command
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_LEGACY_CBC_SHA256 = const(12)  # u-blox's own number

# errors.py
_MODEM_REFUSED = const(223)
_MODEM_UNSUPPORTED = const(224)
_PSK_NOT_STORED = const(228)
_DATA_REFUSED = const(232)


class Setup(common_setup.Setup):
    MIN_VERSION = 3

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
            yield Command(b"AT+CFUN=15", 60000, resets=True)
            yield from self.power_up()
            yield Command(b"AT+CFUN=4", 60000)
        yield from super().before_radio(apn)

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

    def provision_psk(
        self, tag: int, identity: bytes, key: Secret, marker: "str | None" = None
    ) -> "Talk":
        """Into the security profile `tag`, after each power_up. SetupError: it cannot be."""
        try:
            yield Command(b"AT+USECPRF=%d" % tag)  # back to its defaults
            yield Command(b"AT+USECPRF=%d,0,0" % tag)  # no certificates to be checked
            yield Command(b"AT+USECPRF=%d,1,%d" % (tag, self.MIN_VERSION))
            yield Command(b"AT+USECPRF=%d,2,%s" % (tag, self._suite_words()))
            yield from maybe(Command(b"AT+USECPRF=%d,11,0" % tag))  # the key comes from us
            yield from self._write_key(tag, key)
            yield Command(Secret(b'AT+USECPRF=%d,9,"%s"' % (tag, identity)))
        except WeatherError as error:
            if error.code != _MODEM_REFUSED:
                raise
            raise SetupError(_PSK_NOT_STORED, error.detail, error.number)
        return None

    def _write_key(self, tag: int, key: Secret) -> "Talk":
        text = binascii.hexlify(key.reveal())
        hexadecimal = Command(Secret(b'AT+USECPRF=%d,8,"%s",1' % (tag, text)))
        if (yield from maybe(hexadecimal)) is not None:
            return
        raw = key.reveal()
        if len(raw) > 64 or not all([0x20 <= byte < 0x7F and byte != 0x22 for byte in raw]):
            raise SetupError(_PSK_NOT_STORED, "the module takes keys of printable text only")
        yield Command(Secret(b'AT+USECPRF=%d,8,"%s"' % (tag, raw)))

    def _suite_words(self) -> bytes:
        model = self.dialect.model
        if b"R410" in model or b"R412" in model:
            if self.dialect.suite != PSK_AES128_CBC_SHA256:
                raise SetupError(_MODEM_UNSUPPORTED, "this module has 0x00AE only")
            return b"%d" % _LEGACY_CBC_SHA256
        words = b'"%02X","%02X"' % (self.dialect.suite >> 8, self.dialect.suite & 0xFF)
        if b"SARA-R5" in model:
            return b"100,%s,0" % words  # a list, to which it is added
        return b"99," + words
