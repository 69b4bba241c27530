"""Nordic nRF91, to a session; sources and doubts in nrf91.py. Pure."""

import binascii

from micropython import const

from imprint.errors import ImprintError, ProtocolError, SetupError, WeatherError
from imprint.modem.dialects import common_dial
from imprint.modem.dialects.common import fields, maybe, number
from imprint.modem.engine import Command
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

# AT%CMNG
_PSK = const(3)
_IDENTITY = const(4)
_NOT_FOUND = const(513)  # CME

# #XSSOCKETOPT
_SESSION_CACHE = const(12)
_CID = const(14)
_HANDSHAKE_TIMEOUT = const(18)

_HANDSHAKE_S = const(123)  # the longest that can be set; NB-IoT in bad coverage needs it
_CONNECT_MS = const(160000)  # DNS and handshake

# errors.py
_MODEM_GARBAGE = const(222)
_MODEM_REFUSED = const(223)
_PSK_NOT_STORED = const(228)
_SESSION_REFUSED = const(229)


class Dialer(common_dial.Dialer):
    def provision_psk(
        self, tag: int, identity: bytes, key: Secret, marker: "str | None" = None
    ) -> "Talk":
        """Into the modem's own store, under the security tag; its radio is off meanwhile.

        SetupError: the store refused it, `number` is the CME code.
        """
        listed = yield from self._listed(tag)
        own = common_dial.fingerprint(identity, key)
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
                found[kind - _PSK] = b":" + binascii.hexlify(words[2][:8])
        return b"".join(found).decode() if found[0] and found[1] else ""

    def open_dtls(self, host: str, port: int, tag: int) -> "Talk":
        """Handshake with the PSK of that tag; returns the handle. Blocks the modem meanwhile.

        WeatherError: no session, for whatever reason (the modem says none)."""
        if self.dialect.classic:
            return (yield from self.dialect.classic.open(host, port, tag))
        lines = yield Command(
            b"AT#XSSOCKET=1,2,0,%d,%d" % (tag, self.dialect.peer_verify), prefix=b"#XSSOCKET:"
        )
        handle = _handle(lines[0])
        for name, value in (
            (_HANDSHAKE_TIMEOUT, _HANDSHAKE_S),
            (_CID, self.dialect.cid),
            (_SESSION_CACHE, 1),
        ):
            # Refused by older modem firmware, the session does without.
            yield from maybe(Command(b"AT#XSSOCKETOPT=%d,1,%d,%d" % (handle, name, value)))
        return (yield from self._connect(handle, host, port))

    def open_udp(self, host: str, port: int) -> "Talk":
        """A plain UDP socket, connected; returns the handle."""
        if self.dialect.classic:
            return (yield from self.dialect.classic.open(host, port, None))
        lines = yield Command(b"AT#XSOCKET=1,2,0", prefix=b"#XSOCKET:")
        return (yield from self._connect(_handle(lines[0]), host, port))

    def _connect(self, handle: int, host: str, port: int) -> "Talk":
        self.dialect.inbox = [item for item in self.dialect.inbox if item[0] != handle]
        try:
            yield Command(b"AT#XRECVCFG=%d,1,1" % handle)
            yield Command(
                b'AT#XCONNECT=%d,"%s",%d' % (handle, host.encode(), port),
                _CONNECT_MS,
                prefix=b"#XCONNECT:",
            )
        except ImprintError as error:
            if error.code in (220, 227):  # no modem to close anything in
                raise
            yield from self.dialect.close(handle)
            raise WeatherError(_SESSION_REFUSED, host, error.number)
        return handle


def _handle(line: bytes) -> int:
    handle = number(fields(line), 0)
    if handle is None:
        raise ProtocolError(_MODEM_GARBAGE, "AT#XSSOCKET")
    return handle
