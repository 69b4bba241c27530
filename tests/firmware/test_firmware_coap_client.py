"""The CoAP client over sockets in memory: every wait ends, and what comes is taken as it is."""

import errno
import unittest

from coap_bench import Chance
from firmware_support import raises
from imprint import port
from imprint.errors import ProtocolError, WeatherError
from imprint.net.coap_client import Client
from imprint.wire.coap.codes import ACK, GET, NON, POST, RST
from imprint.wire.coap.message import Message, decode
from imprint.wire.coap.params import Parameters

_PEER = ("192.0.2.1", 5684)


class Socket:
    """A datagram socket in memory. `answer(message)` gives the datagrams that a request causes:
    bytes of the peer, (bytes, address), or an OSError for the next recvfrom."""

    def __init__(self, answer):
        self.sent = []
        self.timeouts = []  # seconds
        self.closed = False
        self.refuse = None  # an OSError for the next sendto
        self.nothing = errno.EAGAIN  # what recvfrom says when nothing has come
        self._answer = answer
        self._arrived = []

    def settimeout(self, seconds):
        self.timeouts.append(seconds)

    def sendto(self, data, address):
        if self.refuse:
            error, self.refuse = self.refuse, None
            raise error
        self.sent.append((bytes(data), address))
        self._arrived += self._answer(decode(data))
        return len(data)

    def recvfrom(self, n):
        if not self._arrived:
            port.sleep_ms(int(min(self.timeouts[-1], 0.02) * 1000))
            raise OSError(self.nothing)
        entry = self._arrived.pop(0)
        if isinstance(entry, OSError):
            raise entry
        return entry if isinstance(entry, tuple) else (entry, _PEER)

    def arrive(self, datagram):
        self._arrived.append(datagram)

    def close(self):
        self.closed = True


def _reply(message, payload=b"", code=0x45, kind=ACK, options=()):
    answer = Message(code, payload, kind)
    answer.message_id = message.message_id if kind == ACK else 0x7000
    answer.token = message.token
    for number, value in options:
        answer.add(number, value)
    return answer.encode()


def _client(answer, address=_PEER, **changes):
    sock = Socket(answer)
    parameters = Parameters(
        ACK_TIMEOUT_MS=40, ACK_RANDOM_FACTOR=1, MAX_RETRANSMIT=2, MAX_LATENCY_MS=50
    )
    return Client(sock, address, parameters, Chance(1), **changes), sock


class TestRequest(unittest.TestCase):
    def test_answered(self):
        """Path, options and payload go out, the response comes back."""
        client, sock = _client(lambda message: [_reply(message, b"22.3 C")])
        response = client.request(POST, ["a", "b"], b"body", [(12, b"\x32")])
        self.assertEqual((0x45, b"22.3 C"), (response.code, response.payload))
        sent = decode(sock.sent[0][0])
        self.assertEqual((POST, b"body"), (sent.code, sent.payload))
        self.assertEqual([(11, b"a"), (11, b"b"), (12, b"\x32")], sent.options)
        self.assertEqual(_PEER, sock.sent[0][1])
        client.close()
        self.assertTrue(sock.closed)

    def test_error_response(self):
        """A response is a response, whatever its code."""
        client, _ = _client(lambda message: [_reply(message, code=0x84)])
        self.assertEqual(0x84, client.request(GET, ["a"]).code)

    def test_separate(self):
        """The acknowledgement of a separate response goes out before the response is handed on,
        and again when the peer repeats itself."""

        def answer(message):
            return [_reply(message, b"x", kind=0)] if message.code == GET else []

        client, sock = _client(answer)
        self.assertEqual(b"x", client.request(GET, ["a"]).payload)
        self.assertEqual(b"\x60\x00\x70\x00", sock.sent[-1][0])
        sock.arrive(_reply(decode(sock.sent[0][0]), b"x", kind=0))
        client.poll(30)
        self.assertEqual([b"\x60\x00\x70\x00"] * 2, [entry[0] for entry in sock.sent[1:]])
        self.assertEqual(1, client.exchange.duplicates)

    def test_retransmitted(self):
        """The first transmission is lost, the second is answered."""
        heard = []

        def answer(message):
            heard.append(message.message_id)
            return [_reply(message, b"x")] if len(heard) == 2 else []

        client, _ = _client(answer)
        self.assertEqual(b"x", client.request(GET, ["a"]).payload)
        self.assertEqual(heard[0], heard[1])

    def test_non(self):
        """A NON request is sent once."""
        client, sock = _client(lambda message: [])
        with raises(WeatherError, 330):
            client.request(GET, ["a"], kind=NON)
        self.assertEqual(1, len(sock.sent))

    def test_blocks(self):
        """A body that exceeds a message goes in blocks, and so does the response."""
        received = []

        def answer(message):
            block1 = message.get(27)
            received.append(message.payload)
            if block1 is not None and block1[-1] & 8:
                return [_reply(message, code=0x5F, options=[(27, block1)])]
            at = len(received) - 4
            more = 8 if at < 2 else 0
            block2 = bytes((at << 4 | more,))
            return [_reply(message, b"%d" % at * 16, 0x44, options=[(23, block2)])]

        client, sock = _client(answer, whole_max=32, exponent=0)
        response = client.request(POST, ["a"], bytes(range(60)))
        self.assertEqual(bytes(range(60)), b"".join(received[:4]))
        self.assertEqual(b"0" * 16 + b"1" * 16 + b"2" * 16, response.payload)
        self.assertEqual(6, len(sock.sent))
        self.assertEqual(6, len(set([decode(entry[0]).message_id for entry in sock.sent])))


class TestTrouble(unittest.TestCase):
    def test_unanswered(self):
        """When nobody answers, it ends by the parameters, and the next request is a new one."""
        client, sock = _client(lambda message: [])
        for _ in range(2):
            before = port.ticks_ms()
            with raises(WeatherError, 330):
                client.request(GET, ["a"])
            self.assertTrue(250 <= port.ticks_diff(port.ticks_ms(), before) < 3000)
        self.assertEqual(6, len(sock.sent))

    def test_timeout(self):
        """A timeout ends it earlier, also between two blocks."""
        client, sock = _client(lambda message: [])
        with raises(WeatherError, 330):
            client.request(GET, ["a"], timeout_ms=10)
        self.assertEqual(1, len(sock.sent))

    def test_endless_blocks(self):
        """The timeout bounds a transfer of which each block is answered."""

        def answer(message):
            port.sleep_ms(10)
            at = len(sock.sent) - 1
            return [_reply(message, b"b" * 16, options=[(23, (at << 4 | 8).to_bytes(2, "big"))])]

        client, sock = _client(answer)
        with raises(WeatherError, 330):
            client.request(GET, ["a"], timeout_ms=60)
        self.assertTrue(2 <= len(sock.sent) <= 8)

    def test_reset(self):
        """A reset ends the request at once."""

        def answer(message):
            reset = Message(0, b"", RST)
            reset.message_id = message.message_id
            return [reset.encode()]

        client, _ = _client(answer)
        with raises(ProtocolError, 331):
            client.request(GET, ["a"])

    def test_garbage(self):
        """Garbage and strangers before the answer are counted, no more."""

        def answer(message):
            return [b"", b"\xff" * 50, b"\x40" * 1281,
                    (_reply(message, b"forged"), ("198.51.100.7", 5684)),
                    _reply(message, b"x")]  # fmt: skip

        client, _ = _client(answer)
        self.assertEqual(b"x", client.request(GET, ["a"]).payload)
        self.assertEqual((3, 1), (client.exchange.malformed, client.foreign))

    def test_connected(self):
        """A socket with one peer needs no address, and its datagrams have whichever."""
        client, sock = _client(lambda message: [(_reply(message, b"x"), None)], address=None)
        self.assertEqual(b"x", client.request(GET, ["a"]).payload)
        self.assertIsNone(sock.sent[0][1])

    def test_socket_breaks(self):
        """An OSError is WeatherError with its number; EAGAIN is one more lost datagram."""
        client, sock = _client(lambda message: [OSError(errno.ECONNRESET)])
        with raises(WeatherError, 304) as caught:
            client.request(GET, ["a"])
        self.assertEqual(errno.ECONNRESET, caught.exception.number)
        client, sock = _client(lambda message: [_reply(message, b"x")])
        sock.refuse = OSError(errno.ECONNRESET)
        with raises(WeatherError, 304):
            client.request(GET, ["a"])
        sock.refuse = OSError(errno.EAGAIN)
        self.assertEqual(b"x", client.request(GET, ["a"]).payload)

    def test_nothing_has_come(self):
        """However a socket says so: non-blocking, timed out, or in CPython's words."""
        for word in (errno.EAGAIN, errno.ETIMEDOUT, "timed out"):
            client, sock = _client(lambda message: [])
            sock.nothing = word
            with raises(WeatherError, 330):
                client.request(GET, ["a"], timeout_ms=30)

    def test_too_long(self):
        """A request that no message holds is the caller's mistake, and leaves nothing behind."""
        client, _ = _client(lambda message: [_reply(message, b"x")])
        with self.assertRaises(ValueError):
            client.request(GET, ["s" * 1200])
        self.assertEqual(b"x", client.request(GET, ["a"]).payload)

    def test_idle(self):
        """The watchdog's food: while waiting, idle is called; no wait is longer than a second."""
        fed = []
        client, sock = _client(lambda message: [], idle=lambda: fed.append(1))
        with raises(WeatherError, 330):
            client.request(GET, ["a"])
        self.assertTrue(len(fed) >= 3)
        client.poll(30)
        self.assertTrue(0 <= min(sock.timeouts) and max(sock.timeouts) <= 1)
