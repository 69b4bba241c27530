"""Quectel BG95 and BG77, to a session; sources and doubts in bg95.py. Pure."""

import binascii

from micropython import const

from imprint.errors import ImprintError, SetupError, WeatherError
from imprint.modem.dialects import common_dial
from imprint.modem.dialects.common import fields, maybe, number
from imprint.modem.engine import Command
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_PLAIN = const(6)
_NEGOTIATE_S = const(120)  # 10 to 300
_OPEN_MS = const(280000)  # 150 s for the network, then the handshake

# errors.py
_MODEM_REFUSED = const(223)
_PSK_NOT_STORED = const(228)
_SESSION_REFUSED = const(229)


class Dialer(common_dial.Dialer):
    def provision_psk(
        self, tag: int, identity: bytes, key: Secret, marker: "str | None" = None
    ) -> "Talk":
        """Into the file that the SSL context `tag` reads. SetupError: it was not stored."""
        hex_key = binascii.hexlify(key.reveal())
        text = identity + b"&" + hex_key
        own = "%s:%d" % (common_dial.fingerprint(identity, key), len(text))
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

    def open_dtls(self, host: str, port: int, tag: int) -> "Talk":
        """Handshake in context `tag`; its number is the handle too. WeatherError: no session."""
        for setting, value in (
            (b"ciphersuite", b"0X%04X" % self.dialect.suite),
            (b"dtlsversion", b"1"),  # DTLS 1.2
            (b"dtls", b"1"),
            (b"seclevel", b"0"),
            (b"negotiatetime", b"%d" % _NEGOTIATE_S),
        ):
            yield Command(b'AT+QSSLCFG="%s",%d,%s' % (setting, tag, value))
        line = b'AT+QSSLOPEN=1,%d,%d,"%s",%d,0' % (tag, tag, host.encode(), port)
        return (yield from self._open(line, b"+QSSLOPEN: %d," % tag, tag, host))

    def open_udp(self, host: str, port: int) -> "Talk":
        """A plain UDP socket, connected; returns the handle."""
        line = b'AT+QIOPEN=1,0,"UDP","%s",%d,0,0' % (host.encode(), port)
        return (yield from self._open(line, b"+QIOPEN: 0,", _PLAIN, host))

    def _open(self, line: bytes, until: bytes, handle: int, host: str) -> "Talk":
        try:
            lines = yield Command(line, _OPEN_MS, until=until)
            error_code = number(fields(lines[-1]), 1)
        except WeatherError as error:
            if error.code not in (221, 223):
                raise
            error_code = error.number if error.number is not None else -1
        if error_code != 0:
            yield from self.dialect.close(handle)
            raise WeatherError(_SESSION_REFUSED, host, error_code)
        return handle
