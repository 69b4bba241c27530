"""Requests and responses over a path that loses, repeats and reorders; time turned by hand."""

import unittest

from coap_bench import Bench, Chance, Server
from firmware_support import raises
from imprint import ticks
from imprint.errors import ProtocolError, WeatherError
from imprint.wire.coap.codes import GET, NON
from imprint.wire.coap.exchange import Exchange
from imprint.wire.coap.message import Message, decode
from imprint.wire.coap.params import Parameters, nb_iot


def _scripted(*chances):
    # rand() of which each call gives the next of these numbers; zeros after the last.
    left = list(chances)

    def rand(n):
        return (left.pop(0) if left else 0).to_bytes(n, "big")

    return rand


def _exchange(parameters=None, first_id=0x7D33, token=0x20, jitter=0):
    return Exchange(parameters or Parameters(TOKEN_BYTES=1), _scripted(first_id, token, jitter))


def _temperature(kind=0):
    message = Message(GET, b"", kind)
    message.add(11, b"temperature")
    return message


class TestRfc(unittest.TestCase):
    """Message flows of RFC 7252, appendix A and section 5.2, byte by byte."""

    def test_piggybacked(self):
        """Figure 17: a request, and its response in the ACK."""
        exchange = _exchange(first_id=0x7D34)
        token = exchange.request(_temperature(), 0)
        self.assertEqual(0, exchange.next_timeout(0))
        self.assertEqual(b"\x41\x01\x7d\x35\x20\xbbtemperature", exchange.to_send(0))
        self.assertIsNone(exchange.to_send(0))
        self.assertIsNone(exchange.response(token))
        exchange.receive(b"\x61\x45\x7d\x35\x20\xff22.3 C", 50)
        self.assertIsNone(exchange.to_send(50))
        self.assertIsNone(exchange.next_timeout(50))
        response = exchange.response(token)
        self.assertEqual((0x45, b"22.3 C"), (response.code, response.payload))
        with self.assertRaises(KeyError):
            exchange.response(token)

    def test_request_lost(self):
        """Figure 18: after the timeout the same bytes again."""
        exchange = _exchange(first_id=0x7D35, token=0x31)
        token = exchange.request(_temperature(), 0)
        first = exchange.to_send(0)
        self.assertEqual(b"\x41\x01\x7d\x36\x31\xbbtemperature", first)
        self.assertEqual(2000, exchange.next_timeout(0))
        exchange.handle_timer(1999)
        self.assertIsNone(exchange.to_send(1999))
        exchange.handle_timer(2000)
        self.assertEqual(0, exchange.next_timeout(2000))
        self.assertEqual(first, exchange.to_send(2000))
        self.assertEqual(4000, exchange.next_timeout(2000))
        exchange.receive(b"\x61\x45\x7d\x36\x31\xff22.3 C", 2100)
        self.assertEqual(b"22.3 C", exchange.response(token).payload)

    def test_separate(self):
        """Figure 20: an empty ACK ends the retransmission, the response comes by itself and is
        acknowledged."""
        exchange = _exchange(first_id=0x7D37, token=0x53)
        token = exchange.request(_temperature(), 0)
        exchange.to_send(0)
        exchange.receive(b"\x60\x00\x7d\x38", 100)
        exchange.handle_timer(60_000)
        self.assertIsNone(exchange.to_send(60_000))
        exchange.receive(b"\x41\x45\xad\x7b\x53\xff22.3 C", 61_000)
        self.assertEqual(b"\x60\x00\xad\x7b", exchange.to_send(61_000))
        self.assertEqual(b"22.3 C", exchange.response(token).payload)

    def test_separate_before_ack(self):
        """The ACK is lost, and the response says as much (5.2.2); it is acknowledged."""
        exchange = _exchange(first_id=0x7D38, token=0x53)
        token = exchange.request(_temperature(), 0)
        exchange.to_send(0)
        exchange.receive(b"\x41\x45\xad\x7c\x53\xff22.3 C", 100)
        self.assertEqual(b"\x60\x00\xad\x7c", exchange.to_send(100))
        self.assertIsNone(exchange.next_timeout(100))
        self.assertEqual(b"22.3 C", exchange.response(token).payload)
        exchange.receive(b"\x60\x00\x7d\x39", 200)
        self.assertEqual(1, exchange.unexpected)

    def test_non(self):
        """A NON request and its NON response (5.2.3); nothing is acknowledged."""
        exchange = _exchange(first_id=0x7D3A, token=0x6F)
        token = exchange.request(_temperature(NON), 0)
        self.assertEqual(b"\x51\x01\x7d\x3b\x6f\xbbtemperature", exchange.to_send(0))
        exchange.receive(b"\x51\x45\x03\x1a\x6f\xff22.3 C", 100)
        self.assertIsNone(exchange.to_send(100))
        self.assertEqual(b"22.3 C", exchange.response(token).payload)


class TestTimers(unittest.TestCase):
    def times(self, jitter, parameters=None):
        """(times of transmission, time of the end) of a request that nobody answers."""
        exchange = _exchange(parameters, jitter=jitter)
        token = exchange.request(_temperature(), 0)
        now = 0
        sent = []
        while True:
            if exchange.to_send(now):
                sent.append(now)
            now = ticks.add(now, exchange.next_timeout(now))
            exchange.handle_timer(now)
            try:
                exchange.response(token)
            except WeatherError as error:
                self.assertEqual(330, error.code)
                return sent, now

    def test_shortest(self):
        """Without jitter: 2, 4, 8, 16 s between the transmissions, 32 s to the end."""
        self.assertEqual(([0, 2000, 6000, 14_000, 30_000], 62_000), self.times(0))

    def test_longest(self):
        """With the most of it: MAX_TRANSMIT_SPAN to the last, MAX_TRANSMIT_WAIT to the end."""
        p = Parameters(TOKEN_BYTES=1)
        sent, end = self.times(0xFFFF)
        span = p.MAX_TRANSMIT_SPAN_MS
        self.assertEqual((span, span * 31 // 15), (sent[-1], end))

    def test_other_parameters(self):
        """They are taken from where they were configured."""
        p = Parameters(ACK_TIMEOUT_MS=100, ACK_RANDOM_FACTOR=1, MAX_RETRANSMIT=0, TOKEN_BYTES=2)
        self.assertEqual(([0], 100), self.times(0xFFFF, p))

    def test_separate_never_comes(self):
        """After an empty ACK the response is waited for EXCHANGE_LIFETIME."""
        exchange = _exchange()
        token = exchange.request(_temperature(), 0)
        exchange.to_send(0)
        exchange.receive(b"\x60\x00\x7d\x34", 1000)
        self.assertEqual(247_000, exchange.next_timeout(1000))
        exchange.handle_timer(248_000)
        with raises(WeatherError, 330):
            exchange.response(token)

    def test_non_is_not_repeated(self):
        """A NON request ends after MAX_RTT."""
        exchange = _exchange()
        token = exchange.request(_temperature(NON), 0)
        exchange.to_send(0)
        self.assertEqual(202_000, exchange.next_timeout(0))
        exchange.handle_timer(202_000)
        self.assertIsNone(exchange.to_send(202_000))
        with raises(WeatherError, 330):
            exchange.response(token)

    def test_timer_starts_when_sent(self):
        """A request that waits to be sent is not late, however long the radio sleeps."""
        exchange = _exchange()
        exchange.request(_temperature(), 0)
        exchange.handle_timer(500_000)
        self.assertEqual(0, exchange.next_timeout(500_000))
        self.assertEqual(0x34, exchange.to_send(500_000)[3])
        self.assertEqual(2000, exchange.next_timeout(500_000))

    def test_clock_wraps(self):
        """The board's milliseconds begin again in the middle of a request."""
        bench = Bench(Parameters(), Server("separate"), loss=40, seed=5, start=0x3FFFFFF0)
        self.assertEqual(b"=a", bench.ask(b"a"))
        self.assertTrue(bench.now < 0x3FFFFFF0)


class TestMatching(unittest.TestCase):
    def asked(self, kind=0):
        exchange = _exchange()
        token = exchange.request(_temperature(kind), 0)
        exchange.to_send(0)
        return exchange, token

    def test_ignored(self):
        """What does not match in message id and token leaves the request as it was."""
        for name, datagram in (
            ("ACK of another id", b"\x61\x45\x7d\x35\x20\xffx"),
            ("ACK with another token", b"\x61\x45\x7d\x34\x21\xffx"),
            ("ACK with a longer token", b"\x62\x45\x7d\x34\x20\x20\xffx"),
            ("ACK without the token", b"\x60\x45\x7d\x34\xffx"),
            ("ACK with a request in it", b"\x61\x01\x7d\x34\x20"),
            ("ACK of a reserved class", b"\x61\xe1\x7d\x34\x20"),
            ("RST of another id", b"\x70\x00\x7d\x35"),
            ("NON with another token", b"\x51\x45\x00\x01\x21\xffx"),
            ("empty NON", b"\x50\x00\x00\x01"),
        ):
            with self.subTest(name):
                exchange, token = self.asked()
                exchange.receive(datagram, 1)
                self.assertIsNone(exchange.response(token))
                self.assertIsNone(exchange.to_send(1))
                self.assertEqual(1, exchange.unexpected)

    def test_rejected(self):
        """A confirmable message that we have no use for gets a reset."""
        for name, datagram in (
            ("ping", b"\x40\x00\x00\x07"),
            ("another token", b"\x41\x45\x00\x07\x21\xffx"),
            ("a request", b"\x41\x01\x00\x07\x20"),
            ("a reserved class", b"\x41\xe1\x00\x07\x20"),
        ):
            with self.subTest(name):
                exchange, token = self.asked()
                exchange.receive(datagram, 1)
                self.assertEqual(b"\x70\x00\x00\x07", exchange.to_send(1))
                self.assertIsNone(exchange.response(token))
                self.assertEqual((1, 0), (exchange.unexpected, exchange.malformed))

    def test_malformed(self):
        """A format error is counted; a confirmable one with a head is rejected (4.2)."""
        exchange, token = self.asked()
        for datagram in (b"", b"\x40\x01\x00", b"\x60\x45\x7d\x34\xff", b"\x80\x01\x00\x07",
                         b"\x50\x45\x00\x07\xff"):  # fmt: skip
            exchange.receive(datagram, 1)
            self.assertIsNone(exchange.to_send(1))
        exchange.receive(b"\x49\x45\x00\x07", 1)
        self.assertEqual(b"\x70\x00\x00\x07", exchange.to_send(1))
        self.assertEqual((0, 6), (exchange.unexpected, exchange.malformed))
        self.assertIsNone(exchange.response(token))

    def test_reset(self):
        """A reset ends the request, CON or NON."""
        for kind in (0, NON):
            exchange, token = self.asked(kind)
            exchange.receive(b"\x70\x00\x7d\x34", 1)
            self.assertIsNone(exchange.next_timeout(1))
            with raises(ProtocolError, 331):
                exchange.response(token)

    def test_ack_of_a_non(self):
        """A NON request cannot be acknowledged."""
        exchange, token = self.asked(NON)
        exchange.receive(b"\x61\x45\x7d\x34\x20\xffx", 1)
        self.assertIsNone(exchange.response(token))
        self.assertEqual(1, exchange.unexpected)

    def test_critical_option(self):
        """A response with an unknown critical option ends the request; a CON one is reset."""
        exchange, token = self.asked()
        exchange.receive(b"\x61\x45\x7d\x34\x20\xb1x", 1)
        with raises(ProtocolError, 332) as caught:
            exchange.response(token)
        self.assertEqual("option 11", caught.exception.detail)
        exchange, token = self.asked()
        exchange.receive(b"\x41\x45\x00\x07\x20\xb1x", 1)
        self.assertEqual(b"\x70\x00\x00\x07", exchange.to_send(1))
        with raises(ProtocolError, 332):
            exchange.response(token)

    def test_elective_option(self):
        """EnOS's option 2100 arrives; nobody is bothered by one that is not known."""
        exchange, token = self.asked()
        exchange.receive(b"\x61\x44\x7d\x34\x20\xe1\x07\x27t", 1)
        self.assertEqual([(2100, b"t")], exchange.response(token).options)

    def test_answered_twice(self):
        """The first response counts; a second one, before it is collected, is rejected."""
        exchange, token = self.asked()
        exchange.receive(b"\x41\x45\x00\x07\x20\xff1", 1)
        exchange.receive(b"\x41\x45\x00\x08\x20\xff2", 1)
        self.assertEqual(b"\x60\x00\x00\x07", exchange.to_send(1))
        self.assertEqual(b"\x70\x00\x00\x08", exchange.to_send(1))
        self.assertEqual(b"1", exchange.response(token).payload)

    def test_cancelled(self):
        """Of a request that was given up nothing is kept; what comes late is unexpected."""
        exchange, token = self.asked()
        exchange.cancel(token)
        exchange.cancel(token)
        exchange.receive(b"\x61\x45\x7d\x34\x20\xffx", 1)
        self.assertEqual(1, exchange.unexpected)
        self.assertIsNone(exchange.next_timeout(1))

    def test_message_ids_and_tokens(self):
        """Ids count on and wrap; a token that is in use is not given twice."""
        parameters = Parameters(NSTART=4, TOKEN_BYTES=1)
        exchange = Exchange(parameters, _scripted(0xFFFE, 0xFF, 0, 0xFF, 0, 0xFF, 0))
        tokens = [exchange.request(_temperature(), 0) for _ in range(3)]
        self.assertEqual([b"\xff", b"\x00", b"\x01"], tokens)
        ids = [decode(exchange.to_send(0)).message_id for _ in range(3)]
        self.assertEqual([0xFFFF, 0, 1], ids)

    def test_nstart(self):
        """One request waits for its answer at a time; one that is acknowledged does not count,
        and memory is bounded all the same."""
        exchange, token = self.asked()
        with self.assertRaises(ValueError):
            exchange.request(_temperature(), 1)
        message_id = 0x7D34
        for _ in range(3):
            exchange.receive(bytes((0x60, 0, message_id >> 8, message_id & 0xFF)), 1)
            exchange.request(_temperature(), 1)
            message_id = decode(exchange.to_send(1)).message_id
        exchange.receive(bytes((0x60, 0, message_id >> 8, message_id & 0xFF)), 1)
        with self.assertRaises(ValueError):
            exchange.request(_temperature(), 1)
        self.assertEqual(247_000, exchange.next_timeout(1))

    def test_answered_before_sent_again(self):
        """An answer that comes while the retransmission waits to be sent takes it back."""
        exchange, token = self.asked()
        exchange.handle_timer(2000)
        exchange.receive(b"\x61\x45\x7d\x34\x20\xffx", 2000)
        self.assertIsNone(exchange.to_send(2000))
        self.assertEqual(b"x", exchange.response(token).payload)


class TestDuplicates(unittest.TestCase):
    _RESPONSE = b"\x41\x45\xad\x7b\x20\xff22.3 C"

    def answered(self, datagram):
        exchange = _exchange()
        token = exchange.request(_temperature(), 0)
        exchange.to_send(0)
        exchange.receive(datagram, 0)
        exchange.response(token)
        return exchange

    def test_acknowledged_again(self):
        """A separate response that comes again was not acknowledged in the peer's eyes."""
        exchange = self.answered(self._RESPONSE)
        self.assertEqual(b"\x60\x00\xad\x7b", exchange.to_send(0))
        for now in (10, 246_999):
            exchange.receive(self._RESPONSE, now)
            self.assertEqual(b"\x60\x00\xad\x7b", exchange.to_send(now))
        self.assertEqual((2, 0), (exchange.duplicates, exchange.unexpected))

    def test_after_exchange_lifetime(self):
        """Then the message id may be another message's: it answers nothing, and is reset."""
        exchange = self.answered(self._RESPONSE)
        exchange.to_send(0)
        exchange.receive(self._RESPONSE, 247_000)
        self.assertEqual(b"\x70\x00\xad\x7b", exchange.to_send(247_000))
        self.assertEqual((0, 1), (exchange.duplicates, exchange.unexpected))

    def test_non(self):
        """A NON response that comes twice is ignored the second time, for NON_LIFETIME."""
        exchange = self.answered(b"\x51\x45\xad\x7b\x20\xffx")
        exchange.receive(b"\x51\x45\xad\x7b\x20\xffx", 144_999)
        self.assertEqual((1, 0), (exchange.duplicates, exchange.unexpected))
        exchange.receive(b"\x51\x45\xad\x7b\x20\xffx", 145_000)
        self.assertEqual((1, 1), (exchange.duplicates, exchange.unexpected))
        self.assertIsNone(exchange.to_send(145_000))

    def test_bounded(self):
        """A flood makes us remember and answer a bounded number of messages."""
        exchange = _exchange()
        for number in range(1000):
            exchange.receive(bytes((0x40, 0, number >> 8, number & 0xFF)), 0)
        replies = 0
        while exchange.to_send(0):
            replies += 1
        self.assertTrue(replies <= 8)
        self.assertEqual(1000, exchange.unexpected)
        self.assertTrue(len(exchange._seen) <= 16)


class TestTwoEnds(unittest.TestCase):
    def test_clean_path(self):
        """Each manner of answering works, and costs the datagrams that it must."""
        for manner, sent in (("piggybacked", 1), ("separate", 2), ("hasty", 2), ("non", 1)):
            with self.subTest(manner):
                bench = Bench(Parameters(), Server(manner))
                self.assertEqual(b"=ping", bench.ask(b"ping"))
                bench.calm()
                self.assertEqual(sent, bench.sent)
                self.assertEqual([b"ping"], bench.server.executed)

    def test_non_on_a_clean_path(self):
        """A NON request is answered, by whichever kind of message."""
        for manner, sent in (("piggybacked", 2), ("separate", 2), ("non", 1)):
            with self.subTest(manner):
                bench = Bench(Parameters(), Server(manner))
                self.assertEqual(b"=ping", bench.ask(b"ping", NON))
                bench.calm()
                self.assertEqual(sent, bench.sent)

    def test_bad_path(self):
        """20 % lost and 20 % doubled, late and out of order: each answer is its request's, and
        the server has executed each request once."""
        for manner in ("piggybacked", "separate", "hasty", "non"):
            for seed in range(4):
                bench = Bench(
                    Parameters(), Server(manner), seed, loss=20, twice=20, latency_ms=(5, 4000)
                )
                answered = self.talk(bench, 8)
                with self.subTest("%s %d" % (manner, seed)):
                    self.assertTrue(answered >= 5)
                    self.assertEqual((0, 0), (bench.client.malformed, bench.server.rejected))

    def test_nb_iot(self):
        """10 s latency each way: nothing is sent twice. With 20 % loss most requests arrive."""
        bench = Bench(nb_iot(), Server("piggybacked"), latency_ms=(9000, 10_000))
        self.assertEqual(6, self.talk(bench, 6))
        self.assertEqual(6, bench.sent)
        bench = Bench(nb_iot(), Server("piggybacked"), loss=20, latency_ms=(9000, 10_000))
        self.assertTrue(self.talk(bench, 12) >= 10)

    def test_dead_path(self):
        """Nothing arrives: the error comes after MAX_TRANSMIT_WAIT at the latest."""
        bench = Bench(Parameters(), Server("piggybacked"), loss=100)
        with raises(WeatherError, 330):
            bench.ask(b"ping")
        self.assertEqual(5, bench.sent)
        self.assertTrue(62_000 <= bench.now <= 93_000)

    def talk(self, bench, count):
        """How many of `count` requests were answered; all of those rightly."""
        answered = 0
        for number in range(count):
            payload = b"%d" % number
            try:
                self.assertEqual(b"=" + payload, bench.ask(payload))
                answered += 1
            except WeatherError as error:
                self.assertEqual(330, error.code)
        bench.calm()
        executed = bench.server.executed
        self.assertEqual(len(set(executed)), len(executed))
        return answered


class TestChance(unittest.TestCase):
    def test_jitter_is_used(self):
        """Two units that start together do not retransmit together."""
        first = set()
        for seed in range(20):
            exchange = Exchange(Parameters(), Chance(seed))
            exchange.request(_temperature(), 0)
            exchange.to_send(0)
            first.add(exchange.next_timeout(0))
        self.assertTrue(len(first) > 10)
        self.assertTrue(2000 <= min(first) and max(first) <= 3000)
