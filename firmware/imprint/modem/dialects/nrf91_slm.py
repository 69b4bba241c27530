"""The classic Serial LTE Modem (NCS 2.x) on an nRF91: its UDP client proxy. Pure.

One DTLS client a modem, handle 0. A datagram goes out by data mode, since text parameters take
no binary; it comes back as `#XUDPDATA: n` and n raw bytes. Not verified, so both ways are taken:
older builds say nothing on entering data mode and OK on leaving it, later ones OK and
`#XDATAMODE: 0`. The modem knows the end of the data by `+++`: a datagram that holds that is
refused, and `quiet_ms` may be needed before it by some builds. With `cid` set this application
refuses a server that has no connection ids, so it is off.
"""

from micropython import const

from imprint.errors import ImprintError, SetupError, WeatherError
from imprint.modem.dialects.common import maybe
from imprint.modem.engine import Command, Wait

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_OPEN_MS = const(160000)
_ENTRY_MS = const(300)  # for an OK that later builds print
_SEND_MS = const(35000)

# errors.py
_MODEM_UNSUPPORTED = const(224)
_SESSION_REFUSED = const(229)


class Proxy:
    """The sockets of nrf91.Dialect, on such a modem."""

    def __init__(self, dialect) -> None:
        self.quiet_ms = 50
        self.cid = 0  # 1: a server without connection ids is refused (-134)
        self._dialect = dialect

    def open(self, host: str, port: int, tag: "int | None") -> "Talk":
        line = b'AT#XUDPCLI=1,"%s",%d' % (host.encode(), port)
        if tag is not None:
            verify = self._dialect.peer_verify
            line += b",%d,%d,%d,0" % (tag, self.cid, verify)
        try:
            yield Command(line, _OPEN_MS, prefix=b"#XUDPCLI:", fits=_connected)
        except ImprintError as error:
            if error.code in (220, 227):
                raise
            raise WeatherError(_SESSION_REFUSED, host, error.number)
        return 0

    def send(self, data: bytes) -> "Talk":
        if b"+++" in data:
            raise SetupError(_MODEM_UNSUPPORTED, "+++ in a datagram")
        yield Command(b"AT#XUDPSEND", payload=data, prompt=b"OK", prompt_ms=_ENTRY_MS, final=b"")
        yield Wait(self.quiet_ms)
        yield Command(b"+++", _SEND_MS, final=b"#XDATAMODE:", bare=True)
        yield Wait(self.quiet_ms)  # for a second word of farewell, which belongs to nobody

    def close(self) -> "Talk":
        yield from maybe(Command(b"AT#XUDPCLI=0"))


def _connected(line: bytes) -> bool:
    return b'"connected"' in line
