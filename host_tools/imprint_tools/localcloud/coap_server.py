"""A CoAP server's side of one session: RFC 7252 with block-wise transfer (RFC 7959). Sans I/O.

What it does for whoever handles the requests: answers a confirmable request in its
acknowledgement, repeats the answer to a repeated request without handling it twice, puts blocks
together and cuts answers into blocks, refuses options that it must not overlook.

Invariant: any datagram gives datagrams to send; never an exception, and never more kept than
`Limits` says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from imprint_tools.localcloud.coap_codec import FormatError, Kind, Message, dump, parse
from imprint_tools.localcloud.enos.faults import EnosFaults

# RFC 7252, 12.1
EMPTY, GET, POST, PUT, DELETE = range(5)
CREATED, DELETED, VALID, CHANGED, CONTENT = range(0x41, 0x46)
CONTINUE = 0x5F
BAD_REQUEST, UNAUTHORIZED, BAD_OPTION, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED = range(0x80, 0x86)
REQUEST_ENTITY_INCOMPLETE, REQUEST_ENTITY_TOO_LARGE = 0x88, 0x8D
INTERNAL_SERVER_ERROR, PROXYING_NOT_SUPPORTED = 0xA0, 0xA5

# RFC 7252, 12.2; RFC 7959, 6
_URI_HOST, _URI_PORT, _URI_PATH, CONTENT_FORMAT, _URI_QUERY, _ACCEPT = 3, 7, 11, 12, 15, 17
_IF_MATCH, _IF_NONE_MATCH, _BLOCK2, _BLOCK1, _PROXY_URI, _PROXY_SCHEME = 1, 5, 23, 27, 35, 39
_UNDERSTOOD = {
    _IF_MATCH, _URI_HOST, _IF_NONE_MATCH, _URI_PORT, _URI_PATH, _URI_QUERY, _ACCEPT, _BLOCK2,
    _BLOCK1,
}  # fmt: skip
_REQUEST_CLASS = range(1, 32)
_SZX_RESERVED = 7


@dataclass(frozen=True)
class Limits:
    """`exchange_lifetime_s`: RFC 7252, 4.8.2, how long a message id may come again. `exchanges`:
    how many are remembered. `body`: the largest payload put together from blocks, in bytes.
    `block_exponent`: answers longer than 2 ** (this + 4) bytes are cut into such blocks;
    EnOS wants messages of 1 KB at most."""

    exchange_lifetime_s: float = 247.0
    exchanges: int = 32
    body: int = 64 * 1024
    block_exponent: int = 5


@dataclass(frozen=True)
class Request:
    """A request, whole."""

    method: int
    path: tuple[str, ...]
    payload: bytes


@dataclass(frozen=True)
class Response:
    """What a handler answers. `options`: (number, value), in any order."""

    code: int
    payload: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()


Handler = Callable[[Request], Response]


@dataclass(frozen=True)
class _Block:
    """A Block1 or Block2 option: number, whether more follow, and the size as its exponent."""

    number: int
    more: bool
    exponent: int

    @property
    def size(self) -> int:
        return 1 << (self.exponent + 4)

    @property
    def start(self) -> int:
        return self.number * self.size

    def option(self) -> bytes:
        value = self.number << 4 | self.more << 3 | self.exponent
        return value.to_bytes((value.bit_length() + 7) // 8, "big")


@dataclass
class _Exchange:
    """An answered request: what to send when it comes again, and until when it may."""

    answer: list[bytes]
    until: float


_Resource = tuple[int, tuple[bytes, ...]]


class CoapServer:
    """One session's exchanges."""

    def __init__(
        self, handler: Handler, faults: EnosFaults | None = None, limits: Limits | None = None
    ) -> None:
        self._handler = handler
        self._faults = faults or EnosFaults()
        self._limits = limits or Limits()
        self._exchanges: OrderedDict[int, _Exchange] = OrderedDict()
        self._message_id = 0
        self._uploading: tuple[_Resource, bytearray] | None = None
        self._downloading: tuple[_Resource, Response] | None = None
        self.malformed = 0
        """Datagrams that were no CoAP."""
        self.repeated = 0
        """Requests that came again."""

    def receive(self, datagram: bytes, now: float) -> list[bytes]:
        """Take a datagram; returns those to send."""
        try:
            message = parse(datagram)
        except FormatError as error:
            self.malformed += 1
            return [] if error.reject is None else [_reset(error.reject)]
        if message.kind in (Kind.ACK, Kind.RST):
            return []  # it asks for nothing: nothing confirmable is sent from here
        if message.code not in _REQUEST_CLASS:
            # An empty one is a ping; anything else has lost its way. Reset says so to both.
            return [_reset(message.message_id)] if message.kind is Kind.CON else []
        return self._exchange(message, now)

    def _exchange(self, message: Message, now: float) -> list[bytes]:
        for old in [mid for mid, one in self._exchanges.items() if one.until <= now]:
            del self._exchanges[old]
        known = self._exchanges.get(message.message_id)
        if known is not None:
            self.repeated += 1
            return known.answer
        if self._faults.take("silent"):
            return []
        if self._faults.take("server_error"):
            # Not remembered: the same request sent again may fare better.
            return [self._datagram(message, Response(INTERNAL_SERVER_ERROR))]
        response = self._answer(message)
        if response is None:
            return []
        answer = [self._datagram(message, response)]
        lifetime = self._limits.exchange_lifetime_s
        self._exchanges[message.message_id] = _Exchange(answer, now + lifetime)
        if len(self._exchanges) > self._limits.exchanges:
            self._exchanges.popitem(last=False)
        if self._faults.take("wrong_token"):
            other = bytes(byte ^ 0xFF for byte in message.token) or b"\x01"
            return [self._datagram(replace(message, token=other), response)]
        return answer

    def _datagram(self, request: Message, response: Response) -> bytes:
        if request.kind is Kind.CON:
            kind, message_id = Kind.ACK, request.message_id
        else:
            self._message_id = self._message_id + 1 & 0xFFFF
            kind, message_id = Kind.NON, self._message_id
        options = tuple(sorted(response.options, key=lambda option: option[0]))
        return dump(
            Message(kind, response.code, message_id, request.token, options, response.payload)
        )

    # -- one request, or a block of one ----------------------------------------------------------

    def _answer(self, message: Message) -> Response | None:
        """The response; None where there is none, for a request that confirms nothing and has an
        option that it should not have (RFC 7252, 5.4.1)."""
        numbers = {number for number, _ in message.options}
        if numbers & {_PROXY_URI, _PROXY_SCHEME}:
            return Response(PROXYING_NOT_SUPPORTED)
        if any(number & 1 and number not in _UNDERSTOOD for number in numbers):
            return Response(BAD_OPTION) if message.kind is Kind.CON else None
        try:
            up, down = (_block(message.value(number)) for number in (_BLOCK1, _BLOCK2))
        except ValueError:
            return Response(BAD_REQUEST)
        resource = _resource(message)
        if down is not None and down.number and up is None:
            return self._download(message, resource, down)
        if up is None:
            return self._cut(self._handle(message, message.payload), resource, down)
        return self._upload(message, resource, up, down)

    def _upload(
        self, message: Message, resource: _Resource, up: _Block, down: _Block | None
    ) -> Response:
        if up.number == 0:
            self._uploading = (resource, bytearray())
        if self._uploading is None or self._uploading[0] != resource:
            return Response(REQUEST_ENTITY_INCOMPLETE)
        body = self._uploading[1]
        if up.start != len(body):
            return Response(REQUEST_ENTITY_INCOMPLETE)
        if (up.more and len(message.payload) != up.size) or len(message.payload) > up.size:
            return Response(BAD_REQUEST)
        if len(body) + len(message.payload) > self._limits.body:
            self._uploading = None
            return Response(REQUEST_ENTITY_TOO_LARGE)
        body += message.payload
        acknowledged = (_BLOCK1, up.option())
        if up.more:
            return Response(CONTINUE, options=(acknowledged,))
        self._uploading = None
        response = self._cut(self._handle(message, bytes(body)), resource, down)
        return replace(response, options=(*response.options, acknowledged))

    def _download(self, message: Message, resource: _Resource, block: _Block) -> Response:
        """A later block of an answer: of the one that was cut, or of a fresh one to a GET."""
        if self._downloading is not None and self._downloading[0] == resource:
            return self._cut(self._downloading[1], resource, block)
        if message.code != GET:
            return Response(REQUEST_ENTITY_INCOMPLETE)
        return self._cut(self._handle(message, b""), resource, block)

    def _cut(self, whole: Response, resource: _Resource, wanted: _Block | None) -> Response:
        """The block of an answer that is wanted, or the answer itself where it fits."""
        exponent = self._limits.block_exponent
        block = wanted or _Block(0, False, exponent)
        if block.exponent > exponent:
            if block.number:
                return Response(BAD_REQUEST)  # the size was settled by the first block
            block = _Block(0, False, exponent)
        if block.number == 0 and len(whole.payload) <= block.size:
            return whole
        if block.start >= len(whole.payload):
            return Response(BAD_REQUEST)
        self._downloading = (resource, whole)
        end = block.start + block.size
        sent = _Block(block.number, end < len(whole.payload), block.exponent)
        return replace(
            whole,
            payload=whole.payload[block.start : end],
            options=(*whole.options, (_BLOCK2, sent.option())),
        )

    def _handle(self, message: Message, payload: bytes) -> Response:
        path = tuple(value.decode() for value in message.values(_URI_PATH))
        response = self._handler(Request(message.code, path, payload))
        if response.payload and self._faults.take("truncated_json"):
            return replace(response, payload=response.payload[: len(response.payload) // 2])
        return response


def _resource(message: Message) -> _Resource:
    """What blocks of one transfer have in common: the method, the path and the query."""
    return message.code, tuple(
        value for number, value in message.options if number in (_URI_PATH, _URI_QUERY)
    )


def _block(value: bytes | None) -> _Block | None:
    """Read a block option. Raises ValueError."""
    if value is None:
        return None
    number = int.from_bytes(value, "big")
    if len(value) > 3 or number & 7 == _SZX_RESERVED:
        raise ValueError("not a block")
    return _Block(number >> 4, bool(number & 8), number & 7)


def _reset(message_id: int) -> bytes:
    return dump(Message(Kind.RST, EMPTY, message_id))
