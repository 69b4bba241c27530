"""HTTP/1.1 of a client: one request as bytes, one response out of bytes. Pure.

Bounded: a head of 2 kB, a body of as much as the caller has room for, by length, chunked (RFC
9112, 7.1) or up to the end of the connection. A redirect is an error, not an order: it could lead
away from the server that was verified. Interim responses (1xx) are skipped.
"""

from micropython import const

from imprint.errors import ProtocolError

_HEAD_MAX = const(2048)  # bytes
_LINE_MAX = const(128)  # bytes of a chunk's size with its extensions, or of one trailer

# errors.py
_HTTP_GARBAGE = const(340)
_HTTP_TOO_LARGE = const(341)
_HTTP_REDIRECT = const(342)

# What is read next.
_HEAD = const(0)
_LENGTH = const(1)  # the body, `_left` bytes
_CHUNK_SIZE = const(2)
_CHUNK = const(3)  # `_left` bytes
_CHUNK_END = const(4)
_TRAILER = const(5)
_REST = const(6)  # the body, to the end of the connection
_DONE = const(7)

# What is kept of the head; a response has thirty others.
_KEPT = ("connection", "content-length", "date", "transfer-encoding")


def request(method: str, host: str, path: str, headers: dict, body: bytes = b"") -> bytes:
    """The request, whole. Raises ValueError: a header or the path has a line break or a blank in
    it, which would make two of it."""
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: " + host]
    if " " in path:
        raise ValueError("blank in the path")
    for name in sorted(headers):
        lines.append("%s: %s" % (name, headers[name]))
    if body or method != "GET":
        lines.append("Content-Length: %d" % len(body))
    for line in lines:
        if "\r" in line or "\n" in line:
            raise ValueError("line break in the head")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Response:
    """Feed it what arrives until `done`; then there are `status`, `headers` and `body`.

    `headers` are those of _KEPT, names in lower case. `keep`: the connection can be used again.
    """

    def __init__(self, most: int) -> None:
        """`most` is the longest body in bytes."""
        self.status = 0
        self.headers: dict = {}
        self.body = bytearray()
        self.keep = True
        self._most = most
        self._state = _HEAD
        self._left = 0
        self._buf = b""  # the part of a head or line that has come

    @property
    def done(self) -> bool:
        return self._state == _DONE

    @property
    def begun(self) -> bool:
        """Something of it has come."""
        return self.status != 0 or bool(self._buf)

    def feed(self, data: bytes) -> None:
        """Take in bytes. Raises ProtocolError: not HTTP, too large, or a redirect."""
        while data and self._state != _DONE:
            if self._state in (_LENGTH, _CHUNK, _REST):
                data = self._take(data)
            elif self._state == _HEAD:
                data = self._take_head(data)
            else:
                data = self._take_line(data)
        if data:
            self.keep = False  # more than was asked for: nobody knows whose it is

    def end(self) -> None:
        """The connection has ended. Raises ProtocolError if that was too early."""
        self.keep = False
        if self._state == _REST:
            self._state = _DONE
        if self._state != _DONE:
            raise ProtocolError(_HTTP_GARBAGE, "cut short")

    def _take(self, data: bytes) -> bytes:
        count = len(data) if self._state == _REST else min(len(data), self._left)
        if len(self.body) + count > self._most:
            raise ProtocolError(_HTTP_TOO_LARGE)
        self.body += data[:count]
        if self._state != _REST:
            self._left -= count
            if not self._left:
                self._state = _DONE if self._state == _LENGTH else _CHUNK_END
        return data[count:]

    def _take_head(self, data: bytes) -> bytes:
        held = len(self._buf)
        self._buf += data
        end = self._buf.find(b"\r\n\r\n")
        if end < 0 or end > _HEAD_MAX:
            if len(self._buf) > _HEAD_MAX:
                raise ProtocolError(_HTTP_TOO_LARGE, "head")
            return b""
        head, rest, self._buf = self._buf[:end], data[end + 4 - held :], b""
        self._parse_head(head)
        return rest

    def _parse_head(self, head: bytes) -> None:
        try:
            lines = str(head, "utf-8").split("\r\n")
            first = lines[0].split(" ", 2)
            self.status = int(first[1])
        except (IndexError, ValueError):  # UnicodeError is a ValueError
            raise ProtocolError(_HTTP_GARBAGE, "status line")
        if first[0] not in ("HTTP/1.1", "HTTP/1.0") or not 100 <= self.status <= 599:
            raise ProtocolError(_HTTP_GARBAGE, "status line")
        if self.status < 200:
            return  # interim: the response proper follows
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon:
                raise ProtocolError(_HTTP_GARBAGE, "header")
            if name in _KEPT:
                value = value.strip()
                if name == "content-length" and self.headers.get(name, value) != value:
                    raise ProtocolError(_HTTP_GARBAGE, name)  # two lengths: whose is the rest?
                self.headers[name] = value
        if 300 <= self.status < 400 and self.status != 304:
            raise ProtocolError(_HTTP_REDIRECT, number=self.status)
        if first[0] == "HTTP/1.0" or self.headers.get("connection", "").lower() == "close":
            self.keep = False
        self._choose_body()

    def _choose_body(self) -> None:
        coding = self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            self._state = _DONE
        elif coding:
            if coding != "chunked":
                raise ProtocolError(_HTTP_GARBAGE, "transfer-encoding")
            self._state = _CHUNK_SIZE
        elif length is None:
            self._state = _REST
        else:
            self._left = _number(length, "0123456789", 10)
            if self._left > self._most:
                raise ProtocolError(_HTTP_TOO_LARGE, number=self._left)
            self._state = _LENGTH if self._left else _DONE

    def _take_line(self, data: bytes) -> bytes:
        held = len(self._buf)
        self._buf += data
        end = self._buf.find(b"\r\n")
        if end < 0 or end > _LINE_MAX:
            if len(self._buf) > _LINE_MAX:
                raise ProtocolError(_HTTP_GARBAGE, "chunk")
            return b""
        line, rest, self._buf = self._buf[:end], data[end + 2 - held :], b""
        if self._state == _TRAILER:
            if not line:
                self._state = _DONE
        elif self._state == _CHUNK_END:
            if line:
                raise ProtocolError(_HTTP_GARBAGE, "chunk")
            self._state = _CHUNK_SIZE
        else:
            size = line.split(b";")[0].strip()
            self._left = _number(str(size, "ascii") if _is_hex(size) else "", _HEX, 16)
            if self._left + len(self.body) > self._most:
                raise ProtocolError(_HTTP_TOO_LARGE)
            self._state = _CHUNK if self._left else _TRAILER
        return rest


_HEX = "0123456789abcdefABCDEF"


def _is_hex(text: bytes) -> bool:
    return not text.strip(_HEX.encode())


def _number(text: str, digits: str, base: int) -> int:
    # What int() takes beyond digits (signs, blanks, underscores) is garbage here.
    if not 1 <= len(text) <= 9 or text.strip(digits):
        raise ProtocolError(_HTTP_GARBAGE, "length")
    return int(text, base)
