"""Requests and their responses over one lossy path: RFC 7252, sections 4 and 5, a client's side.

Pure: datagrams go in by `receive`, come out by `to_send`; `now` is a time of imprint.ticks, chance
comes from `rand`. Whoever drives it

    1. sends what `to_send(now)` returns, until it returns None;
    2. waits for a datagram, but not longer than `next_timeout(now)`;
    3. hands it to `receive`, or calls `handle_timer`, and asks `response(token)`.

One exchange is one path: its peer is the one that the socket, or the DTLS session, is connected
to. Nothing that arrives raises: what cannot be used is dropped and counted. All lists are bounded.

Not here, since a client of ours has no use for it: serving requests (they are rejected), multicast
and observation. PROBING_RATE is kept by NSTART and by waiting for each response.
"""

from micropython import const

from imprint import ticks
from imprint.errors import ImprintError, ProtocolError, WeatherError
from imprint.wire.coap.message import Message, decode, unusable_option

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from imprint.wire.coap.params import Parameters

# codes.py
_ACK = const(2)
_CON = const(0)
_EMPTY = const(0)
_RST = const(3)

# Requests of which the response is not collected yet. NSTART bounds those without an answer.
_REQUESTS_MAX = const(4)
# Message ids of the peer that are remembered (16 bytes each and a tuple), and replies that wait
# to be sent: ours is the one that asks, so the peer has as many on the way as we have requests.
_SEEN_MAX = const(16)
_REPLIES_MAX = const(8)

# errors.py
_COAP_UNANSWERED = const(330)
_COAP_RESET = const(331)
_COAP_ANSWER_UNUSABLE = const(332)


class _Request:
    def __init__(self, message: Message, timeout_ms: int) -> None:
        self.message_id = message.message_id
        self.token = message.token
        self._confirmable = message.kind == _CON
        self.datagram = message.encode()
        self._acknowledged = False  # by an empty ACK: the response will come separately
        self._retransmissions = 0
        self.timeout_ms = timeout_ms  # to wait after the next transmission
        self.deadline: "int | None" = None  # ticks; None: it is due to be sent
        self._outcome: "Message | ImprintError | None" = None


class Exchange:
    """All requests to one peer. `rand(n)` gives n random bytes."""

    def __init__(self, parameters: "Parameters", rand: "Callable[[int], bytes]") -> None:
        self._parameters = parameters
        self._rand = rand
        self._message_id = int.from_bytes(rand(2), "big")
        self._requests: "list[_Request]" = []
        self._replies: "list[bytes]" = []  # empty ACKs and RSTs to be sent
        self._seen: "list[tuple[int, int, int]]" = []  # (message id, reply's type, expiry)
        self.malformed = 0  # datagrams that are not CoAP
        self.duplicates = 0  # messages that had been there already
        self.unexpected = 0  # messages that answer nothing: late, foreign, requests, pings

    def request(self, message: Message, now: int) -> bytes:
        """Queue a request, CON or NON; the token by which to ask for its response.

        Message id and token are set here. ValueError: NSTART requests are still without an
        answer, or the message cannot be encoded.
        """
        waiting = 0
        for request in self._requests:
            if request._outcome is None and not request._acknowledged:
                waiting += 1
        if waiting >= self._parameters.NSTART or len(self._requests) >= _REQUESTS_MAX:
            raise ValueError("NSTART")
        self._message_id = (self._message_id + 1) & 0xFFFF
        message.message_id = self._message_id
        message.token = self._fresh_token()
        if message.kind == _CON:
            timeout_ms = self._first_timeout_ms()
        else:
            timeout_ms = self._parameters.MAX_RTT_MS
        self._requests.append(_Request(message, timeout_ms))
        return message.token

    def response(self, token: bytes) -> Message | None:
        """The response to that request, once; None while it is awaited.

        Raises WeatherError (nobody answered) or ProtocolError (the peer reset the request, or the
        response has a critical option that we do not know). KeyError: no such request.
        """
        request = self._by_token(token)
        if request is None:
            raise KeyError(token)
        outcome = request._outcome
        if outcome is not None:
            self._requests.remove(request)
            if isinstance(outcome, ImprintError):
                raise outcome
        return outcome

    def cancel(self, token: bytes) -> None:
        """Forget that request, if there is one; what still comes for it is unexpected."""
        request = self._by_token(token)
        if request:
            self._requests.remove(request)

    def to_send(self, now: int) -> bytes | None:
        """The next datagram to send, None when there is none. `now` is when it is sent."""
        if self._replies:
            return self._replies.pop(0)
        for request in self._requests:
            if request.deadline is None and request._outcome is None:
                request.deadline = ticks.add(now, request.timeout_ms)
                return request.datagram
        return None

    def next_timeout(self, now: int) -> int | None:
        """Milliseconds until `to_send` or `handle_timer` must be called; None: not by itself."""
        soonest = 0 if self._replies else None
        for request in self._requests:
            if request._outcome is None:
                left = 0
                if request.deadline is not None:
                    left = max(0, ticks.diff(request.deadline, now))
                if soonest is None or left < soonest:
                    soonest = left
        return soonest

    def handle_timer(self, now: int) -> None:
        """Retransmit what is due (4.2), and give up what was transmitted often enough."""
        for request in self._requests:
            deadline = request.deadline
            if request._outcome or deadline is None or ticks.diff(deadline, now) > 0:
                continue
            if (
                request._confirmable
                and not request._acknowledged
                and request._retransmissions < self._parameters.MAX_RETRANSMIT
            ):
                request._retransmissions += 1
                request.timeout_ms *= 2
                request.deadline = None
            else:
                request._outcome = WeatherError(_COAP_UNANSWERED)

    def receive(self, datagram: "bytes | bytearray | memoryview", now: int) -> None:
        """Take in a datagram of the peer, whatever it is."""
        try:
            message = decode(datagram)
        except ValueError:
            self.malformed += 1
            # 4.2: a confirmable message that has a format error is rejected, if it has a head.
            if len(datagram) >= 4 and datagram[0] & 0xF0 == 0x40:
                self._reply(_RST, datagram[2] << 8 | datagram[3])
            return
        if message.kind == _ACK:
            self._receive_ack(message, now)
        elif message.kind == _RST:
            request = self._by_id(message.message_id)
            if request:
                request._outcome = ProtocolError(_COAP_RESET)
            else:
                self.unexpected += 1
        else:
            self._receive_separate(message, now)

    def _receive_ack(self, message: Message, now: int) -> None:
        request = self._by_id(message.message_id)
        if request is None or not request._confirmable:
            self.unexpected += 1
        elif message.code == _EMPTY:
            # 5.2.2: the response follows. The RFC sets it no limit; this one leaves the peer all
            # of its retransmissions.
            request._acknowledged = True
            request.deadline = ticks.add(now, self._parameters.EXCHANGE_LIFETIME_MS)
        elif message.token == request.token and _is_response(message):
            # 5.3.2: both must match. A response that has to be rejected ends the request at once
            # (the RFC would have the ACK ignored): the peer would only repeat it.
            request._outcome = _outcome(message)
        else:
            self.unexpected += 1

    def _receive_separate(self, message: Message, now: int) -> None:
        # A response that is not in an ACK, or anything else that a peer sends by itself.
        reply = self._seen_reply(message.message_id, now)
        if reply is not None:
            self.duplicates += 1
        else:
            reply = _RST
            request = self._by_token(message.token) if _is_response(message) else None
            if request and request._outcome is None:
                request._outcome = _outcome(message)  # also when the ACK was lost: 5.2.2
                if isinstance(request._outcome, Message):
                    reply = _ACK
            else:
                self.unexpected += 1
            self._remember(message, reply, now)
        if message.kind == _CON:
            self._reply(reply, message.message_id)

    def _seen_reply(self, message_id: int, now: int) -> int | None:
        for known, reply, expiry in self._seen:
            if known == message_id and ticks.diff(expiry, now) > 0:
                return reply
        return None

    def _remember(self, message: Message, reply: int, now: int) -> None:
        # 4.5: a duplicate gets the same reply and is not processed again.
        if len(self._seen) == _SEEN_MAX:
            self._seen.pop(0)
        parameters = self._parameters
        lifetime_ms = parameters.NON_LIFETIME_MS
        if message.kind == _CON:
            lifetime_ms = parameters.EXCHANGE_LIFETIME_MS
        self._seen.append((message.message_id, reply, ticks.add(now, lifetime_ms)))

    def _reply(self, kind: int, message_id: int) -> None:
        if len(self._replies) < _REPLIES_MAX:  # else it is lost, as any datagram can be
            reply = Message(_EMPTY, b"", kind)
            reply.message_id = message_id
            self._replies.append(reply.encode())

    def _by_token(self, token: bytes) -> "_Request | None":
        for request in self._requests:
            if request.token == token:
                return request
        return None

    def _by_id(self, message_id: int) -> "_Request | None":
        for request in self._requests:
            if request.message_id == message_id and request._outcome is None:
                return request
        return None

    def _fresh_token(self) -> bytes:
        token = self._rand(self._parameters.TOKEN_BYTES)
        while self._by_token(token):  # by bad luck; the next number is not in use for ever
            number = int.from_bytes(token, "big") + 1 & (1 << 8 * len(token)) - 1
            token = number.to_bytes(len(token), "big")
        return token

    def _first_timeout_ms(self) -> int:
        # 4.2: between ACK_TIMEOUT and ACK_TIMEOUT * ACK_RANDOM_FACTOR.
        least = self._parameters.ACK_TIMEOUT_MS
        span = int(least * self._parameters.ACK_RANDOM_FACTOR) - least
        return least + (int.from_bytes(self._rand(2), "big") * (span + 1) >> 16)


def _is_response(message: Message) -> bool:
    return 2 <= message.code >> 5 <= 5


def _outcome(message: Message) -> "Message | ImprintError":
    number = unusable_option(message)
    if number is None:
        return message
    return ProtocolError(_COAP_ANSWER_UNUSABLE, "option %d" % number)
