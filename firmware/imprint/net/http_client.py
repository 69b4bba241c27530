"""HTTPS to one server, on one connection for as long as the server keeps it.

There is no plain HTTP, and what the server redirects to is not asked. Every wait has an end: each
read and write the stream's, the whole answer `_ANSWER_MS`.
"""

from micropython import const

from imprint import port
from imprint.errors import ImprintError, ProtocolError
from imprint.net.stream import Stream
from imprint.wire import http

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from tls import SSLContext

_NET_MS = const(15_000)  # connecting, and each read and write
_ANSWER_MS = const(30_000)
_CHUNK = const(512)  # bytes

_PEER_SILENT = const(322)  # errors.py


class HttpClient:
    """`context` verifies the server; `most` is the longest body that there is room for."""

    def __init__(
        self,
        host: str,
        number: int,
        context: "SSLContext",
        feed: "Callable[[], None]",
        most: int,
    ) -> None:
        self._host = host
        self._port = number
        self._context = context
        self._feed = feed
        self._most = most
        self._stream: "Stream | None" = None

    def exchange(self, method: str, path: str, headers: dict, body: bytes) -> tuple:
        """Ask; (status, headers, body) of the answer. Raises what Stream raises, ProtocolError."""
        data = http.request(method, self._host, path, headers, body)
        kept = self._stream is not None
        response = http.Response(self._most)
        try:
            self._ask(data, response)
        except ImprintError:
            self.close()
            # The server may have ended a connection that it kept, just as we used it again.
            if not kept or response.begun:
                raise
            response = http.Response(self._most)
            try:
                self._ask(data, response)
            except ImprintError:
                self.close()
                raise
        if not response.keep:
            self.close()
        return response.status, response.headers, bytes(response.body)

    def close(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None

    def _ask(self, data: bytes, response: "http.Response") -> None:
        self._feed()
        if self._stream is None:
            self._stream = Stream(self._host, self._port, self._context, _NET_MS)
        self._stream.write(data)
        buf = memoryview(bytearray(_CHUNK))
        deadline = port.ticks_add(port.ticks_ms(), _ANSWER_MS)
        while not response.done:
            self._feed()
            count = self._stream.read_some(buf)
            if count:
                response.feed(bytes(buf[:count]))
            else:
                response.end()
            if not response.done and port.ticks_diff(deadline, port.ticks_ms()) <= 0:
                raise ProtocolError(_PEER_SILENT, "API")
