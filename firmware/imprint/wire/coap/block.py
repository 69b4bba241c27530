"""Block-wise transfer (RFC 7959) of bodies that do not fit into one message. Pure.

`transfer` is a dialogue: it yields requests, is sent their responses, and returns the last of them
with the whole body as its payload. It knows no message ids, tokens and timeouts:

    dialogue = transfer(request)
    message = next(dialogue)
    ... message = dialogue.send(response) ... StopIteration.value
"""

from micropython import const

from imprint.errors import ProtocolError
from imprint.wire.coap.message import Message

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Generator

    Dialogue = Generator[Message, Message, Message]

# codes.py
_ETAG = const(4)
_BLOCK1 = const(27)
_BLOCK2 = const(23)
_CONTINUE = const(0x5F)
_REQUEST_ENTITY_TOO_LARGE = const(0x8D)

BODY_MAX = const(2048)  # bytes; a ceiling on what the network fills

# errors.py
_COAP_ANSWER_UNUSABLE = const(332)


def pack(number: int, more: bool, exponent: int) -> bytes:
    """A Block option's value (2.2): block `number` of 2 ** (exponent + 4) bytes; `more` follow."""
    value = number << 4 | more << 3 | exponent
    length = 0 if not value else 1 if value < 0x100 else 2 if value < 0x10000 else 3
    return value.to_bytes(length, "big")


def unpack(value: bytes) -> tuple:
    """(number, more, exponent) of a Block option. ProtocolError: the reserved exponent 7."""
    bits = int.from_bytes(value, "big")
    if bits & 7 == 7:
        raise _unusable("exponent")
    return bits >> 4, bool(bits & 8), bits & 7


def transfer(
    request: Message,
    whole_max: int = 1024,
    exponent: int = 6,
    body_max: int = BODY_MAX,
    response: "Message | None" = None,
) -> "Dialogue":
    """Exchange `request`, whatever the size of its payload and of the response's.

    A payload of more than `whole_max` bytes goes out in blocks of 2 ** (exponent + 4), or of less
    where the peer asks so. A Block2 option that the request has asks the peer for blocks of that
    size (early negotiation). Returns the final response, which may be an error's; raises
    ProtocolError when the blocks of a response do not fit together or exceed `body_max`.
    `response` is the one to `request`, if that was exchanged already.
    """
    if response is not None:
        pass
    elif len(request.payload) > whole_max:
        response = yield from _upload(request, exponent)
    else:
        response = yield request
    if response.get(_BLOCK2) is not None and response.code >> 5 == 2:
        response = yield from _download(request, response, body_max)
    return response


def _upload(request: Message, exponent: int) -> "Dialogue":
    body = memoryview(request.payload)
    at = 0
    while True:
        size = 16 << exponent
        end = min(at + size, len(body))
        more = end < len(body)
        part = _copy(request, not more)
        part.payload = bytes(body[at:end])
        part.add(_BLOCK1, pack(at // size, more, exponent))
        response = yield part
        asked = response.get(_BLOCK1)
        if response.code == _REQUEST_ENTITY_TOO_LARGE and asked is not None:
            # 2.9.3: too large for one message; with a smaller size it is tried from the start.
            _, _, smaller = unpack(asked)
            if smaller >= exponent:
                return response
            at, exponent = 0, smaller
            continue
        if response.code >> 5 != 2 or not more:
            if response.code == _CONTINUE:
                raise _unusable("2.31 after the last block")
            return response
        # Block 2.31, or, of a peer that takes each block for itself, another success. It confirms
        # the block by its number, and may ask for smaller ones from here on (2.3).
        if asked is None:
            raise _unusable("no Block1")
        number, _, smaller = unpack(asked)
        if number != at // size or smaller > exponent:
            raise _unusable("Block1")
        at, exponent = end, smaller


def _download(request: Message, response: Message, body_max: int) -> "Dialogue":
    etag = response.get(_ETAG)
    body = bytearray()
    while True:
        block = response.get(_BLOCK2)
        if response.code >> 5 != 2:
            return response  # the peer gave up in the middle: its error says why
        if block is None or response.get(_ETAG) != etag:
            raise _unusable("Block2")  # 2.4: a block of another representation
        number, more, exponent = unpack(block)
        size = 16 << exponent
        length = len(response.payload)
        if number * size != len(body) or length > size or more and length != size:
            raise _unusable("Block2")
        body += response.payload
        if len(body) > body_max:
            raise _unusable("longer than %d bytes" % body_max)
        if not more:
            response.payload = bytes(body)
            return response
        follow = _copy(request, False)
        follow.add(_BLOCK2, pack(len(body) // size, False, exponent))
        response = yield follow


def _copy(request: Message, with_block2: bool) -> Message:
    # A block is a request of its own; only the last one that goes up negotiates Block2 (3.3).
    part = Message(request.code, b"", request.kind)
    for number, value in request.options:
        if number != _BLOCK2 or with_block2:
            part.add(number, value)
    return part


def _unusable(detail: str) -> ProtocolError:
    return ProtocolError(_COAP_ANSWER_UNUSABLE, "block-wise: " + detail)
