"""CoAP requests over a datagram socket: what moves the bytes of wire.coap and owns the clock.

The socket is a UDP socket, connected or not, or the modem's (modem.datagram). What is used of it:
`settimeout(seconds)`, `sendto(data, address)`, `recvfrom(n)` -> (data, address), `close()`.
"""

import errno

from micropython import const

from imprint import port
from imprint.errors import WeatherError
from imprint.wire.coap.exchange import Exchange
from imprint.wire.coap.message import Message

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from imprint.wire.coap.params import Parameters

# codes.py
_CON = const(0)
_RECEIVE_MAX = const(1280)
_URI_PATH = const(11)
_BLOCK2 = const(23)

_SLICE_MS = const(1000)  # the longest wait without a call of `idle`, which feeds the watchdog

# What recvfrom says when nothing has come; the words are CPython's, for a timeout.
_NOTHING = (errno.EAGAIN, errno.ETIMEDOUT, "timed out")

# errors.py
_CONNECTION_LOST = const(304)
_COAP_UNANSWERED = const(330)


class Client:
    """Requests to one peer, one after the other.

    `address` is the peer's, as the socket takes it; None for a socket that knows its one peer (a
    DTLS session). What another address sends is dropped and counted. `rand(n)` gives n random
    bytes; `idle()` is called at least once a second while a request waits.
    """

    def __init__(
        self,
        sock: "Any",
        address: "Any",
        parameters: "Parameters",
        rand: "Callable[[int], bytes]",
        idle: "Callable[[], None] | None" = None,
        whole_max: int = 1024,
        exponent: int = 6,
    ) -> None:
        """`whole_max` and `exponent` as block.transfer has them."""
        self.exchange = Exchange(parameters, rand)  # its counters are for everybody
        self.foreign = 0  # datagrams of another address
        self._sock = sock
        self._address = address
        self._idle = idle
        self._whole_max = whole_max
        self._exponent = exponent

    def request(
        self,
        code: int,
        segments: "Collection[str]",
        payload: bytes = b"",
        options: "Collection[tuple[int, bytes]]" = (),
        timeout_ms: int = 0,
        kind: int = _CON,
    ) -> Message:
        """The response, whole, whatever its code is.

        `code` is codes.GET and so on, `segments` the path, `options` further (number, value);
        `kind=codes.NON` for a request that is not to be retransmitted. The parameters end every
        wait; `timeout_ms`, unless 0, ends all of them earlier. Raises WeatherError (nobody
        answered, or the socket broke), ProtocolError (reset, or a response that cannot be used)
        and what the socket raises by itself; ValueError when the request is too long.
        """
        deadline = port.ticks_add(port.ticks_ms(), timeout_ms) if timeout_ms else None
        response = None
        if len(payload) <= self._whole_max:
            # The message is garbage once it is encoded: none of it is kept here.
            request = self.exchange.request
            token = request(_message(code, segments, payload, options, kind), port.ticks_ms())
            response = self._response(token, deadline)
            if response.get(_BLOCK2) is None:
                return response
        from imprint.wire.coap import block  # which little of what is said needs

        message = _message(code, segments, payload, options, kind)
        dialogue = block.transfer(message, self._whole_max, self._exponent, response=response)
        try:
            part = next(dialogue)
            while True:
                token = self.exchange.request(part, port.ticks_ms())
                part = dialogue.send(self._response(token, deadline))
        except StopIteration as end:
            return end.value

    def poll(self, timeout_ms: int) -> None:
        """Take in what comes without a request, for `timeout_ms`: the peer repeats its response
        when our acknowledgement was lost, and may ping."""
        deadline = port.ticks_add(port.ticks_ms(), timeout_ms)
        while True:
            self._flush()
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                return
            self._take_in(left_ms)

    def close(self) -> None:
        self._sock.close()

    def _response(self, token: bytes, deadline: "int | None") -> Message:
        exchange = self.exchange
        try:
            while True:
                exchange.handle_timer(port.ticks_ms())
                self._flush()  # an acknowledgement goes out before its response is handed on
                response = exchange.response(token)
                if response:
                    return response
                now = port.ticks_ms()
                left_ms = exchange.next_timeout(now) or 0
                if deadline is not None:
                    allowed_ms = port.ticks_diff(deadline, now)
                    if allowed_ms <= 0:
                        raise WeatherError(_COAP_UNANSWERED)
                    left_ms = min(left_ms, allowed_ms)
                self._take_in(left_ms)
        finally:
            exchange.cancel(token)

    def _flush(self) -> None:
        while True:
            datagram = self.exchange.to_send(port.ticks_ms())
            if datagram is None:
                return
            try:
                self._sock.sendto(datagram, self._address)
            except OSError as error:
                if error.args[0] not in _NOTHING:  # no room now is one more way to lose it
                    raise WeatherError(_CONNECTION_LOST, number=error.args[0])

    def _take_in(self, timeout_ms: int) -> None:
        if self._idle:
            self._idle()
        self._sock.settimeout(min(timeout_ms, _SLICE_MS) / 1000)
        try:
            datagram, source = self._sock.recvfrom(_RECEIVE_MAX + 1)
        except OSError as error:
            if error.args[0] in _NOTHING:
                return
            raise WeatherError(_CONNECTION_LOST, number=error.args[0])
        if self._address is not None and source != self._address:
            self.foreign += 1
        else:
            self.exchange.receive(datagram, port.ticks_ms())


def _message(code: int, segments: "Any", payload: bytes, options: "Any", kind: int) -> Message:
    message = Message(code, payload, kind)
    for segment in segments:
        message.add(_URI_PATH, segment.encode())
    for number, value in options:
        message.add(number, value)
    return message
