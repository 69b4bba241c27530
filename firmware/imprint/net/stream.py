"""A TLS stream on which every wait is bounded.

MicroPython's TLS sockets have no timeout of their own: a blocking handshake or read lasts as long
as the peer likes. So the socket is non-blocking, and waiting is done here, with a deadline, on
`select.poll`. The methods are those that `umqtt.simple` calls on its socket; each does the whole
of what was asked or raises.
"""

import errno
import select
import socket

from micropython import const

from imprint import port
from imprint.errors import ProtocolError, WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from tls import SSLContext

# errors.py
_NAME_NOT_RESOLVED = const(301)
_CONNECT_TIMEOUT = const(302)
_CONNECT_REFUSED = const(303)
_CONNECTION_LOST = const(304)
_PEER_CLOSED = const(320)
_PEER_SILENT = const(322)


class Stream:
    def __init__(self, host: str, number: int, context: "SSLContext", timeout_ms: int) -> None:
        """Connect to TCP port `number` of `host`; its chain is verified by `context` and its name
        against `host`, at the first write.

        `timeout_ms` bounds the connecting and then each read and write. Raises WeatherError:
        the name does not resolve, nobody answers, the connection is refused.
        """
        self.timeout_ms = timeout_ms
        self.sent_at = port.ticks_ms()
        self._verified = False
        try:
            address = socket.getaddrinfo(host, number, 0, socket.SOCK_STREAM)[0][-1]
        except OSError as error:
            raise WeatherError(_NAME_NOT_RESOLVED, host, error.args[0])
        plain = socket.socket()
        try:
            plain.settimeout(timeout_ms / 1000)
            plain.connect(address)
        except OSError as error:
            plain.close()
            if error.args[0] in (errno.ETIMEDOUT, errno.EINPROGRESS, errno.EAGAIN):
                raise WeatherError(_CONNECT_TIMEOUT, host, error.args[0])
            raise WeatherError(_CONNECT_REFUSED, host, error.args[0])
        plain.setblocking(False)
        try:
            self._sock = context.wrap_socket(
                plain, server_hostname=host, do_handshake_on_connect=False
            )
        except Exception:
            plain.close()
            raise
        self._plain = plain
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)

    def write(self, data, length: "int | None" = None) -> int:
        """Send all of `data` (or its first `length` bytes). The first write is also the TLS
        handshake: raises what tls.explain returns, and as `read`."""
        view = memoryview(data)[:length] if length is not None else memoryview(data)
        self._transfer(self._sock.write, view, select.POLLOUT)
        self._verified = True
        self.sent_at = port.ticks_ms()
        return len(view)

    def read(self, length: int) -> bytearray:
        """Exactly `length` bytes. Raises ProtocolError when the peer is silent or closes,
        WeatherError when the connection breaks."""
        data = bytearray(length)
        self._transfer(self._sock.readinto, memoryview(data), select.POLLIN)
        return data

    def readinto(self, view) -> None:
        """Fill `view`, a memoryview. Raises as `read`."""
        self._transfer(self._sock.readinto, view, select.POLLIN)

    def read_some(self, view) -> int:
        """Put what comes first into `view`, a memoryview; how many bytes, 0 when the peer has
        closed. Raises as `read`."""
        return self._move(self._sock.readinto, view, select.POLLIN, self._deadline())

    def wait(self, timeout_ms: int) -> bool:
        """True as soon as something can be read, False when nothing came in `timeout_ms`."""
        self._poll.modify(self._sock, select.POLLIN)
        return bool(self._poll.poll(timeout_ms))

    def close(self) -> None:
        # The wrapped socket must be closed too: closing the TLS socket leaves it open on CPython.
        for sock in (self._sock, self._plain):
            try:
                sock.close()
            except OSError:
                pass  # gone already, which is what was wanted

    def setblocking(self, _flag: bool) -> None:
        """Nothing: `umqtt.simple` calls it after every first byte, to wait for ever."""

    def _deadline(self) -> int:
        return port.ticks_add(port.ticks_ms(), self.timeout_ms)

    def _transfer(self, move, view, event: int) -> None:
        deadline = self._deadline()
        while len(view):
            count = self._move(move, view, event, deadline)
            if not count:
                raise ProtocolError(_PEER_CLOSED)
            view = view[count:]

    def _move(self, move, view, event: int, deadline: int) -> int:
        # One successful call of `move`: what it returns, which is 0 at the end.
        while True:
            try:
                count = move(view)
            except (OSError, ValueError) as error:
                if not self._verified:
                    from imprint.net import tls

                    raise tls.explain(error)
                raise WeatherError(_CONNECTION_LOST, number=error.args[0])
            if count is not None:
                return count
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                raise ProtocolError(_PEER_SILENT)
            self._poll.modify(self._sock, event)
            self._poll.poll(left_ms)
