"""The datagram socket and the UART's pump, over a scripted modem and a clock of its own."""

import errno
import unittest

from firmware_support import raises
from imprint.errors import WeatherError
from imprint.modem import uart as uart_module
from imprint.modem.datagram import DatagramSocket
from imprint.modem.dialects import bg95
from imprint.modem.engine import Command, Engine, Wait
from imprint.modem.uart import ModemUart

_PEER = ("coap.example.com", 5684)


class Modem:
    """A BG95 as a stream: answers by the command's beginning; takes at most 7 bytes a write."""

    def __init__(self):
        self.answers = [
            (b"AT+CMEE?", b"\r\n+CMEE: 1\r\n\r\nOK\r\n"),
            (b"AT+QSSLOPEN=", b"\r\nOK\r\n\r\n+QSSLOPEN: 1,0\r\n"),
            (b"AT+QSSLSEND=", b"\r\n> "),
            (b"AT+QSSLRECV=", b"\r\n+QSSLRECV: 0\r\n\r\nOK\r\n"),
            (b"AT", b"\r\nOK\r\n"),
        ]
        self.commands = []
        self.payloads = []
        self.out = b""
        self._in = b""
        self._payload = 0  # bytes still to come after a prompt
        self.fed = 0
        self.now = 0

    def answer(self, command, text):
        """From now on."""
        self.answers.insert(0, (command, text))

    def write(self, data):
        data = bytes(data[:7])
        self._in += data
        if self._payload and len(self._in) >= self._payload:
            self.payloads.append(self._in[: self._payload])
            self._in = self._in[self._payload :]
            self._payload = 0
            self.out += b"\r\nSEND OK\r\n"
        while not self._payload and b"\r" in self._in:
            line, _, self._in = self._in.partition(b"\r")
            self.commands.append(line)
            for start, text in self.answers:
                if line.startswith(start):
                    self.out += text
                    break
            if line.startswith(b"AT+QSSLSEND="):
                self._payload = int(line.split(b",")[1])
        return len(data)

    def readinto(self, buffer):
        count = min(5, len(self.out))
        if not count:
            return None
        buffer[:count] = self.out[:count]
        self.out = self.out[count:]
        return count

    def feed(self):
        self.fed += 1


class Family(bg95.Dialect):
    BUFFER = 256  # all that is said here; compiling this on a small heap leaves it in pieces


class Clock:
    """Stands where `port` does: sleeping moves it on."""

    def __init__(self):
        self.now = 0

    def ticks_ms(self):
        return self.now

    def ticks_add(self, ticks, delta):
        return ticks + delta

    def ticks_diff(self, later, earlier):
        return later - earlier

    def sleep_ms(self, ms):
        self.now += ms


class Case(unittest.TestCase):
    def setUp(self):
        from imprint.modem import datagram

        self._ports = uart_module.port, datagram.port
        self.clock = uart_module.port = datagram.port = Clock()
        self.modem = Modem()
        dialect = Family()
        self.uart = ModemUart(self.modem, Engine(dialect), dialect, self.modem.feed)

    def tearDown(self):
        from imprint.modem import datagram

        uart_module.port, datagram.port = self._ports

    def connected(self):
        sock = DatagramSocket(self.uart, _PEER[0], _PEER[1], 1)
        self.modem.commands = []
        return sock

    def assertErrno(self, number, call, *arguments):
        try:
            call(*arguments)
        except OSError as error:
            self.assertEqual(number, error.errno)
        else:
            self.fail("nothing was raised")


def one(item):
    return (yield item)


class TestSocket(Case):
    def test_dials(self):
        """Making one is the handshake, with the tag's PSK."""
        DatagramSocket(self.uart, _PEER[0], _PEER[1], 1)
        self.assertIn(b'AT+QSSLOPEN=1,1,1,"coap.example.com",5684,0', self.modem.commands)

    def test_takes_up(self):
        """With a handle nothing is dialled."""
        sock = DatagramSocket(self.uart, _PEER[0], _PEER[1], 1, handle=3)
        self.assertEqual(([], 3), (self.modem.commands, sock.handle))

    def test_refused(self):
        """A handshake that fails is error 229 with the modem's number, and frees its socket."""
        self.modem.answer(b"AT+QSSLOPEN=", b"\r\nOK\r\n\r\n+QSSLOPEN: 1,566\r\n")
        with raises(WeatherError, 229) as caught:
            DatagramSocket(self.uart, _PEER[0], _PEER[1], 1)
        self.assertEqual(566, caught.exception.number)
        self.assertEqual(b"AT+QSSLCLOSE=1", self.modem.commands[-1])

    def test_sends(self):
        """A datagram goes out as it is, through a stream that takes a few bytes at a time."""
        sock = self.connected()
        data = b"\r\nOK\r\n\x00\xff" * 4
        self.assertEqual(len(data), sock.sendto(data, _PEER))
        self.assertEqual([data], self.modem.payloads)
        self.assertEqual(3, sock.send(memoryview(b"abc")))

    def test_sends_to_its_peer_only(self):
        """Another address, or more than the modem takes, is EINVAL; nothing is said to it."""
        sock = self.connected()
        self.assertErrno(errno.EINVAL, sock.sendto, b"x", ("other.example.com", 5684))
        self.assertErrno(errno.EINVAL, sock.send, b"x" * (sock.payload_max + 1))
        self.assertEqual([], self.modem.commands)

    def test_receives(self):
        """A datagram that the modem announces is fetched, the next one too."""
        sock = self.connected()
        sock.setblocking(False)
        self.assertErrno(errno.EAGAIN, sock.recvfrom, 100)
        self.modem.commands = []
        self.assertErrno(errno.EAGAIN, sock.recvfrom, 100)
        self.assertEqual([], self.modem.commands)
        self.modem.out = b'\r\n+QSSLURC: "recv",1\r\n'
        self.modem.answer(b"AT+QSSLRECV=", b"\r\n+QSSLRECV: 6\r\n\r\nOK\r\n\r\nOK\r\n")
        sock.settimeout(1)
        self.assertEqual((b"\r\nOK\r\n", _PEER), sock.recvfrom(100))
        self.assertEqual(b"\r\nOK", sock.recv(4))
        self.modem.answer(b"AT+QSSLRECV=", b"\r\n+QSSLRECV: 0\r\n\r\nOK\r\n")
        sock.setblocking(False)
        self.assertErrno(errno.EAGAIN, sock.recvfrom, 100)

    def test_waits_no_longer_than_asked(self):
        """settimeout bounds recvfrom; without one it is a minute; the watchdog is fed."""
        sock = self.connected()
        for setting, ms in ((2, 2000), (0.5, 500), (None, 60000)):
            sock.settimeout(setting)
            begun = self.clock.now
            self.assertErrno(errno.ETIMEDOUT, sock.recvfrom, 100)
            self.assertTrue(ms <= self.clock.now - begun <= ms + 200)
        self.assertTrue(self.modem.fed > 1000)

    def test_a_mutilated_notice(self):
        """A line that may have been one makes the socket look for itself."""
        sock = self.connected()
        sock.setblocking(False)
        self.assertErrno(errno.EAGAIN, sock.recvfrom, 100)
        self.modem.answer(b"AT+QSSLRECV=", b"\r\n+QSSLRECV: 2\r\nhi\r\nOK\r\n")
        self.modem.out = b'v",1\r\n'
        sock.settimeout(2)
        self.assertEqual(b"hi", sock.recv(100))

    def test_closed_from_afar(self):
        """ENOTCONN; close() frees the modem's socket all the same, once."""
        sock = self.connected()
        self.modem.out = b'\r\n+QSSLURC: "closed",1\r\n'
        self.uart.poll(100)
        self.assertErrno(errno.ENOTCONN, sock.sendto, b"x", _PEER)
        self.assertErrno(errno.ENOTCONN, sock.recvfrom, 1)
        self.modem.commands = []
        sock.close()
        sock.close()
        self.assertEqual([b"AT+QSSLCLOSE=1"], self.modem.commands)

    def test_reboot(self):
        """A modem that starts anew has no sockets: ENOTCONN, and nothing to close."""
        sock = self.connected()
        events = []
        self.uart.listener = events.append
        self.modem.out = b"\r\nRDY\r\n"
        self.uart.poll(100)
        self.assertErrno(errno.ENOTCONN, sock.sendto, b"x", _PEER)
        self.modem.commands = []
        sock.close()
        self.assertEqual(([], [("reboot",)]), (self.modem.commands, events))

    def test_data_connection_lost(self):
        """Error 233; the modem's socket is freed by close()."""
        sock = self.connected()
        self.modem.out = b'\r\n+QIURC: "pdpdeact",1\r\n'
        self.uart.poll(100)
        for call in (lambda: sock.send(b"x"), lambda: sock.recv(1)):
            with raises(WeatherError, 233):
                call()
        self.modem.commands = []
        sock.close()
        self.assertEqual([b"AT+QSSLCLOSE=1"], self.modem.commands)

    def test_two_sockets(self):
        """Each is told of its own."""
        sock = self.connected()
        other = DatagramSocket(self.uart, _PEER[0], _PEER[1], 1, handle=2)
        self.modem.out = b'\r\n+QSSLURC: "closed",2\r\n'
        self.uart.poll(100)
        self.assertErrno(errno.ENOTCONN, other.recvfrom, 1)
        self.assertEqual(1, sock.send(b"x"))


class TestPump(Case):
    def test_listener(self):
        """What concerns no socket goes to the listener, in order, also from within a dialogue."""
        events = []
        self.uart.listener = events.append
        self.modem.answer(b"AT+X", b'\r\n+CEREG: 2\r\n\r\nOK\r\n\r\n+QIURC: "pdpdeact",1\r\n')
        self.uart.run(one(Command(b"AT+X")))
        self.uart.poll(10)
        self.assertEqual([("registration", 2), ("pdp_lost",)], events)

    def test_a_stream_that_stalls(self):
        """A write that never ends is given up, and the command times out."""
        self.uart.run(one(Command(b"AT")))
        self.modem.write = lambda data: 0
        with raises(WeatherError, 221):
            self.uart.run(one(Command(b"AT", 3000)))
        self.assertTrue(self.clock.now < 20000)

    def test_interrupted(self):
        """An interrupted dialogue leaves the modem usable."""

        def talk():
            yield Command(b"AT")
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.uart.run(talk())
        self.assertEqual([], self.uart.run(one(Command(b"AT"))))

    def test_poll(self):
        """False when nothing came in that time, and then that time has passed."""
        begun = self.clock.now
        self.assertFalse(self.uart.poll(300))
        self.assertTrue(300 <= self.clock.now - begun <= 310)
        self.assertIsNone(self.uart.run(one(Wait(5))))
