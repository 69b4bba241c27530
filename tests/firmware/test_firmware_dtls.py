"""DTLS by the chip itself: the feature test and the socket's manners, over a scripted `tls`.

Against a real DTLS server: tests/interop/test_dtls_socket.py, on CPython.
"""

import errno
import unittest

from firmware_support import raises
from imprint.errors import SetupError, WeatherError
from imprint.net import dtls
from imprint.secret import Secret

_PEER = ("127.0.0.1", 5684)


class Session:
    """What wrap_socket gives: `shakes` calls until there is a session; then a script."""

    def __init__(self, shakes=2):
        self.shakes = shakes
        self.sent = []
        self.script = []  # what recv gives: bytes, None, or an exception
        self.error = None  # of the next send
        self.closed = 0

    def send(self, data):
        if self.error:
            raise self.error
        if self.shakes:
            self.shakes -= 1
            return None
        self.sent.append(bytes(data))
        return len(data)

    def recv(self, limit):
        if not self.script:
            return None
        item = self.script.pop(0)
        if isinstance(item, Exception):
            raise item
        return item and item[:limit]

    def close(self):
        self.closed += 1


class Context:
    def __init__(self, protocol):
        self.protocol = protocol

    def wrap_socket(self, sock, do_handshake_on_connect=True):
        Context.last = self
        self.waits = do_handshake_on_connect
        return Tls.session


class Tls:
    """A `tls` that has both."""

    PROTOCOL_DTLS_CLIENT = 2
    SSLContext = Context


class WithoutDtls:
    SSLContext = Context


class WithoutPsk:
    PROTOCOL_DTLS_CLIENT = 2

    class SSLContext:
        """As MicroPython's: a foreign name cannot be set."""

        def __init__(self, _protocol):
            pass

        def __setattr__(self, name, value):
            raise AttributeError(name)


class Select:
    """Waiting is moving the clock."""

    POLLIN = 1
    now = 0

    def poll(self, ms=None):
        if ms is None:
            return self
        Select.now += ms
        return []

    def register(self, _sock, _events):
        pass


class Clock:
    def ticks_ms(self):
        return Select.now

    def ticks_add(self, ticks, delta):
        return ticks + delta

    def ticks_diff(self, later, earlier):
        return later - earlier


class Case(unittest.TestCase):
    def setUp(self):
        self._own = dtls.tls, dtls.select, dtls.port
        dtls.tls, dtls.select, dtls.port = Tls, Select(), Clock()
        Tls.session = self.session = Session()
        self.idled = 0
        self.socks = []

    def tearDown(self):
        for sock in self.socks:
            sock.close()
        dtls.tls, dtls.select, dtls.port = self._own

    def idle(self):
        self.idled += 1

    def opened(self):
        sock = dtls.DatagramSocket(_PEER[0], _PEER[1], b"unit7", Secret(b"key"), self.idle)
        self.socks.append(sock)
        return sock

    def connected(self):
        sock = self.opened()
        sock.sendto(b"first", _PEER)
        return sock

    def assertErrno(self, number, call, *arguments):
        try:
            call(*arguments)
        except OSError as error:
            self.assertEqual(number, error.errno)
        else:
            self.fail("nothing was raised")


class TestFeature(Case):
    def test_both(self):
        """DTLS and PSK: offered, and the key gets to where MicroPython takes it."""
        self.assertTrue(dtls.offered())
        self.opened()
        context = Context.last
        self.assertEqual((b"unit7", b"key"), (context.psk_identity, context.psk_key))
        self.assertEqual((2, False), (context.protocol, context.waits))

    def test_one_of_them(self):
        """Without either it is not offered, and a socket is error 224, without the key."""
        for lacking in (WithoutDtls, WithoutPsk):
            dtls.tls = lacking
            self.assertFalse(dtls.offered())
            with raises(SetupError, 224):
                self.opened()


class TestSocket(Case):
    def test_handshake(self):
        """It comes with the first datagram, in slices, and idle() is called in each."""
        sock = self.connected()
        self.assertEqual([b"first"], self.session.sent)
        self.assertEqual(2, self.idled)
        self.assertEqual(3, sock.send(b"abc"))

    def test_nobody_answers(self):
        """WeatherError after a minute; then the socket is of no use."""
        self.session.shakes = 100000
        sock = self.opened()
        begun = Select.now
        with raises(WeatherError, 302):
            sock.sendto(b"first")
        self.assertEqual(60000, Select.now - begun)
        self.assertErrno(errno.ENOTCONN, sock.send, b"again")

    def test_refused(self):
        """A wrong key is an alert: error 313 with Mbed TLS's number."""
        sock = self.opened()
        self.session.error = OSError(-0x7780, "MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE")
        with raises(WeatherError, 313) as caught:
            sock.sendto(b"first")
        self.assertEqual(-0x7780, caught.exception.number)

    def test_sends_to_its_peer_only(self):
        """Another address, or a datagram too long, is EINVAL; nothing is sent."""
        sock = self.opened()
        self.assertErrno(errno.EINVAL, sock.sendto, b"x", ("192.0.2.1", 5684))
        self.assertErrno(errno.EINVAL, sock.sendto, b"x" * (sock.payload_max + 1))
        self.assertEqual([], self.session.sent)

    def test_no_room(self):
        """A full buffer is EAGAIN, not the end."""
        sock = self.connected()
        self.session.error = OSError(errno.EAGAIN)
        self.assertErrno(errno.EAGAIN, sock.send, b"x")
        self.session.error = None
        self.assertEqual(1, sock.send(b"x"))

    def test_receives(self):
        """One datagram at a time, cut to what was asked for, the rest of it gone."""
        sock = self.connected()
        self.session.script = [None, b"hello", b"next"]
        self.assertEqual((b"hel", _PEER), sock.recvfrom(3))
        self.assertEqual(b"next", sock.recv(100))

    def test_waits_no_longer_than_asked(self):
        """settimeout bounds recvfrom; setblocking(False) does not wait at all."""
        sock = self.connected()
        for setting, ms in ((2, 2000), (0.5, 500), (None, 60000)):
            sock.settimeout(setting)
            begun = Select.now
            self.assertErrno(errno.ETIMEDOUT, sock.recvfrom, 100)
            self.assertEqual(ms, Select.now - begun)
        sock.setblocking(False)
        self.assertErrno(errno.EAGAIN, sock.recvfrom, 100)

    def test_before_the_first_datagram(self):
        """Nothing can have come, and looking does not begin a handshake."""
        sock = self.opened()
        sock.setblocking(False)
        self.session.script = [b"x"]
        self.assertErrno(errno.EAGAIN, sock.recvfrom, 100)
        self.assertEqual(2, self.session.shakes)

    def test_closed_from_afar(self):
        """close_notify and a fatal alert are ENOTCONN, from then on."""
        for end in (b"", OSError(-0x7780, "alert")):
            Tls.session = self.session = Session()
            sock = self.connected()
            self.session.script = [end]
            self.assertErrno(errno.ENOTCONN, sock.recvfrom, 100)
            self.assertErrno(errno.ENOTCONN, sock.send, b"x")

    def test_close(self):
        """Twice is no error; afterwards there is no session."""
        sock = self.connected()
        sock.close()
        sock.close()
        self.assertErrno(errno.ENOTCONN, sock.recvfrom, 100)


if __name__ == "__main__":
    unittest.main()
