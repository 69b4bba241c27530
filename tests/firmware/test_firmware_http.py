"""HTTP of a client: requests as bytes, responses however they are cut, bounds, and lies."""

import unittest

from firmware_support import raises
from imprint.errors import ProtocolError
from imprint.wire import http

_PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: now\r\n\r\nhello"
_CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;name=value\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
)
_REST = b"HTTP/1.1 200 OK\r\n\r\nhello"


def _read(data, most=64, step=None):
    response = http.Response(most)
    step = step or len(data)
    for at in range(0, len(data), step):
        response.feed(data[at : at + step])
    return response


class TestRequest(unittest.TestCase):
    def test_bytes(self):
        """Headers in order; a length wherever there may be a body."""
        expected = (
            b"POST /a?b=c HTTP/1.1\r\nHost: api.example\r\nA: 1\r\nB: 2\r\n"
            b"Content-Length: 2\r\n\r\n{}"
        )
        actual = http.request("POST", "api.example", "/a?b=c", {"B": "2", "A": "1"}, b"{}")
        self.assertEqual(expected, actual)
        self.assertEqual(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", http.request("GET", "h", "/", {}))
        self.assertIn(b"Content-Length: 0", http.request("POST", "h", "/", {}))

    def test_injection(self):
        """Nothing that is put into a head can make a second one of it."""
        for path, headers in (("/\r\nX: y", {}), ("/a b", {}), ("/", {"A": "1\nB: 2"})):
            try:
                http.request("GET", "h", path, headers)
            except ValueError:
                continue
            self.fail(path)


class TestResponse(unittest.TestCase):
    def test_forms(self):
        """A body by length, in chunks or to the end, whole and byte by byte."""
        for data in (_PLAIN, _CHUNKED):
            for step in (None, 1, 2, 7):
                response = _read(data, step=step)
                self.assertTrue(response.done)
                self.assertEqual((200, b"hello"), (response.status, bytes(response.body)))
                self.assertTrue(response.keep)
        response = _read(_REST, step=1)
        self.assertFalse(response.done)
        response.end()
        self.assertTrue(response.done)
        self.assertEqual((b"hello", False), (bytes(response.body), response.keep))

    def test_headers(self):
        """Names in any case; only what is of use is kept; a connection that ends is said so."""
        response = _read(b"HTTP/1.1 200 OK\r\nDATE:  then \r\nX: y\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual({"date": "then", "content-length": "0"}, response.headers)
        response = _read(b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n")
        self.assertFalse(response.keep)
        self.assertFalse(_read(_PLAIN + b"more").keep)

    def test_interim(self):
        """An interim response is not the answer."""
        response = _read(b"HTTP/1.1 100 Continue\r\n\r\n" + _PLAIN)
        self.assertEqual((200, b"hello"), (response.status, bytes(response.body)))

    def test_empty(self):
        """204 has no body, whatever it says."""
        self.assertTrue(_read(b"HTTP/1.1 204 No Content\r\n\r\n").done)

    def test_bounds(self):
        """Neither a head nor a body, announced or not, is larger than there is room for."""
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n"
        for data in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            _REST + b"more",
            chunked,
            b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 3000,
        ):
            with raises(ProtocolError, 341):
                _read(data, most=8)

    def test_redirect(self):
        """A redirect is refused: only the server that was verified is asked."""
        with raises(ProtocolError, 342) as caught:
            _read(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n")
        self.assertEqual(302, caught.exception.number)

    def test_garbage(self):
        """What is not HTTP is said to be none."""
        head = b"HTTP/1.1 200 OK\r\n"
        for data in (
            b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 x\r\n\r\n",
            b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 99 x\r\n\r\n", b"\xff\xfe\r\n\r\n",
            head + b"no colon\r\n\r\n", head + b"Content-Length: -1\r\n\r\n",
            head + b"Content-Length: 1_0\r\n\r\n",
            head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            head + b"Transfer-Encoding: gzip\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 200,
        ):  # fmt: skip
            with raises(ProtocolError, 340):
                _read(data)

    def test_cut(self):
        """A connection that ends early is an error at every place but the right one."""
        for data in (_PLAIN, _CHUNKED):
            for size in range(len(data)):
                response = _read(data[:size]) if size else http.Response(64)
                self.assertFalse(response.done)
                with raises(ProtocolError, 340):
                    response.end()


if __name__ == "__main__":
    unittest.main()
