"""u-blox SARA, to a session; sources and doubts in sara.py. Pure."""

import binascii

from micropython import const

from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.modem.dialects import common_dial
from imprint.modem.dialects.common import fields, maybe, number
from imprint.modem.engine import Command, Wait
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_PSK_AES128_CBC_SHA256 = const(0x00AE)
_LEGACY_CBC_SHA256 = const(12)  # u-blox's own number
_CONNECT_MS = const(340000)  # the vendor allows 332 s
_DNS_MS = const(70000)
_SECURE_MS = const(250)  # between +USOSEC and what follows

# errors.py
_MODEM_GARBAGE = const(222)
_MODEM_REFUSED = const(223)
_MODEM_UNSUPPORTED = const(224)
_PSK_NOT_STORED = const(228)
_SESSION_REFUSED = const(229)


class Dialer(common_dial.Dialer):
    MIN_VERSION = 3

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
            if self.dialect.suite != _PSK_AES128_CBC_SHA256:
                raise SetupError(_MODEM_UNSUPPORTED, "this module has 0x00AE only")
            return b"%d" % _LEGACY_CBC_SHA256
        words = b'"%02X","%02X"' % (self.dialect.suite >> 8, self.dialect.suite & 0xFF)
        if b"SARA-R5" in model:
            return b"100,%s,0" % words  # a list, to which it is added
        return b"99," + words

    def open_dtls(self, host: str, port: int, tag: int) -> "Talk":
        """Handshake with the profile `tag`; returns the handle. WeatherError: no session."""
        return (yield from self._open(host, port, tag))

    def open_udp(self, host: str, port: int) -> "Talk":
        """A plain UDP socket, connected; returns the handle."""
        return (yield from self._open(host, port, None))

    def _open(self, host: str, port: int, tag: "int | None") -> "Talk":
        address = yield from self._resolve(host)
        lines = yield Command(b"AT+USOCR=17", prefix=b"+USOCR:")
        handle = number(fields(lines[0]), 0)
        if handle is None:
            raise ProtocolError(_MODEM_GARBAGE, "AT+USOCR")
        try:
            if tag is not None:
                yield Command(b"AT+USOSEC=%d,1,%d" % (handle, tag))
                yield Wait(_SECURE_MS)
            yield Command(b'AT+USOCO=%d,"%s",%d' % (handle, address, port), _CONNECT_MS)
        except WeatherError as error:
            if error.code not in (221, 223):
                raise
            asked = yield from maybe(Command(b"AT+USOER", prefix=b"+USOER:", least=0))
            yield from self.dialect.close(handle)
            code = number(fields(asked[0]), 0) if asked else error.number
            raise WeatherError(_SESSION_REFUSED, host, code)
        return handle

    def _resolve(self, host: str) -> "Talk":
        if not host.strip("0123456789.:"):
            return host.encode()
        for _ in range(3):  # an instant refusal says "busy"; asking again changes nothing
            lines = yield from maybe(
                Command(
                    b'AT+UDNSRN=0,"%s"' % host.encode(),
                    _DNS_MS,
                    prefix=b"+U",
                    least=0,
                    fits=_answers_dns,
                )
            )
            if lines is not None:
                line = lines[-1] if lines else (yield Wait(_DNS_MS, b"+UUDNSRN:"))
                if line and fields(line)[-1].strip(b"."):
                    return fields(line)[-1]
                break
            yield Wait(2000)
        raise WeatherError(_SESSION_REFUSED, host)


def _answers_dns(line: bytes) -> bool:
    return b"DNSRN:" in line[:9]  # some modules answer with the URC's prefix
