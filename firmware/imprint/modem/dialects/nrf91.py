"""Nordic nRF9160, nRF9161, nRF9151: Serial Modem ("SM"), and by probing the classic SLM. Pure.

Sources: Nordic's documents of ncs-serial-modem 2.0 and of the Serial LTE Modem in NCS 2.x, and
"%CMNG". Not verified there, hence configurable here:

    peer_verify   0. Whether a tag that holds only a PSK wants a root CA otherwise is not said.
    cid           2: ask for DTLS connection ids (any nRF91x1, nRF9160 from 1.3.5). A server
                  that has none is still talked to, but not after its NAT binding has changed.
    what the SHA-256 of the %CMNG list covers for a PSK: the marker holds it as it is listed.

The modem offers all its suites and the server chooses: `suite` does not count here. It keeps
sockets and sessions over power saving; behind a NAT that is good with a connection id only.
The application is told apart by its version command: Serial Modem takes a bare CR, the classic
one wants CR LF, which both take while no data mode is near. The latter is nrf91_slm.py.
"""

from micropython import const

from imprint.errors import ProtocolError
from imprint.modem.dialects.common import Common, fields, hexadecimal, length, maybe, number
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.dialects.nrf91_slm import Proxy
    from imprint.modem.engine import Talk

_PSK_AES128_CCM_8 = const(0xC0A8)
_SEND_MS = const(35000)  # the modem gives up after 30 s

# errors.py
_MODEM_GARBAGE = const(222)


class Dialect(Common):
    NAME = "nrf91"
    BUFFER = 1100  # no message of EnOS is longer than 1,024 bytes
    BOOT = (b"Ready",)
    URCS = Common.URCS + (b"Ready", b"#XRECV:", b"#XAPOLL:", b"#XUDPDATA:", b"#XUDPCLI:")
    DIGITS_AFTER = b"#XRECV:"
    CID = 0
    PSM_SLEEP_KEEPS_SESSION = True

    def __init__(self, suite: int = _PSK_AES128_CCM_8) -> None:
        super().__init__(suite)
        self.eol = b"\r\n"
        self.peer_verify = 0
        self.cid = 2
        self.classic: "Proxy | None" = None  # nrf91_slm.Proxy, if that is what answers
        self.inbox: list = []  # (handle, datagram) that came as URCs

    def raw_after(self, line: bytes) -> int:
        if line.startswith(b"#XRECV:"):
            return 2 * length(fields(line), 2)
        if line.startswith(b"#XUDPDATA:"):
            return length(fields(line), 0)
        return 0

    def parse_urc(self, line: bytes, data: "bytes | None" = None) -> "tuple | None":
        if line.startswith(b"#XRECV:") and data:
            return self._received(number(fields(line), 0), data)
        if line.startswith(b"#XUDPDATA:") and data:
            return self._received(0, data)
        if line.startswith(b"#XUDPCLI:") and b"not connected" in line:
            return ("closed", 0)
        if line in self.BOOT:
            self.inbox.clear()
        return super().parse_urc(line)

    def send(self, handle: int, data: bytes) -> "Talk":
        """One datagram. WeatherError: it was not sent, or nobody knows."""
        if self.classic:
            yield from self.classic.send(data)
            return
        line = hexadecimal(b'AT#XSEND=%d,1,0,"' % handle, data)
        lines = yield Command(line, _SEND_MS, prefix=b"#XSEND:")
        if number(fields(lines[0]), 2) != len(data):
            raise ProtocolError(_MODEM_GARBAGE, "AT#XSEND")

    def receive(self, handle: int, limit: int) -> "Talk":
        """The oldest datagram that came, cut to `limit` bytes, or None. Asks nothing."""
        for index in range(len(self.inbox)):
            if self.inbox[index][0] == handle:
                return self.inbox.pop(index)[1][:limit]
        return None
        yield  # a generator, as the other families' is

    def close(self, handle: int) -> "Talk":
        """Also of a socket that the modem has closed; tells the peer (close_notify)."""
        if self.classic:
            yield from self.classic.close()
        else:
            yield from maybe(Command(b"AT#XCLOSE=%d" % handle))

    def _received(self, handle: "int | None", data: bytes) -> "tuple | None":
        if handle is None:
            return None
        if len(self.inbox) >= 8:
            self.inbox.pop(0)  # datagrams may be lost
        self.inbox.append((handle, data))
        return ("data", handle, len(data))
