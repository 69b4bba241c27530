"""One CoAP message and its bytes (RFC 7252, section 3). Pure.

    0                   1                   2                   3
    |Ver| T |  TKL  |      Code     |          Message ID           |
    |   Token (0 to 8 bytes) ...
    |   Options ...                     delta and length, 4 bits each, then their extensions
    |1 1 1 1 1 1 1 1|    Payload ...    the marker stands only before a payload

Decoding knows one failure, ValueError, whatever the bytes are; what a datagram can make us keep
is bounded.
"""

from micropython import const

# codes.py
_CON = const(0)
_EMPTY = const(0)
_BLOCK2 = const(23)
_BLOCK1 = const(27)
_SEND_MAX = const(1152)
_RECEIVE_MAX = const(1280)

# A request of EnOS has ten options at most, a response three. Each costs the heap some 40 bytes,
# and 1280 bytes could spell a thousand of them.
_OPTIONS_MAX = const(32)

_MARKER = const(0xFF)


class Message:
    """A message. `options` is a list of (number, value), in order of the numbers."""

    def __init__(self, code: int, payload: bytes = b"", kind: int = _CON) -> None:
        self.kind = kind  # CON, NON, ACK or RST
        self.code = code
        self.message_id = 0  # 0 to 65535; the exchange gives it
        self.token = b""  # 0 to 8 bytes; the exchange gives it
        self.options: "list[tuple[int, bytes]]" = []
        self.payload = payload

    def add(self, number: int, value: bytes = b"") -> None:
        """Add an option after those of the same number, whose order has a meaning."""
        at = len(self.options)
        while at and self.options[at - 1][0] > number:
            at -= 1
        self.options.insert(at, (number, value))

    def get(self, number: int) -> bytes | None:
        """The value of the first option of that number, or None."""
        for found, value in self.options:
            if found == number:
                return value
        return None

    def encode(self) -> bytes:
        """The bytes. ValueError: longer than SEND_MAX, a token longer than 8, an option number
        above 65535."""
        token = self.token
        if len(token) > 8:
            raise ValueError("token")
        out = bytearray((
            0x40 | self.kind << 4 | len(token),
            self.code,
            self.message_id >> 8,
            self.message_id & 0xFF,
        ))  # fmt: skip
        out += token
        last = 0
        for number, value in self.options:
            if number > 0xFFFF or len(value) > _SEND_MAX:
                raise ValueError("option")
            delta, delta_more = _nibble(number - last)
            length, length_more = _nibble(len(value))
            out.append(delta << 4 | length)
            out += delta_more
            out += length_more
            out += value
            last = number
        if self.payload:
            out.append(_MARKER)
            out += self.payload
        if len(out) > _SEND_MAX:
            raise ValueError("longer than %d bytes" % _SEND_MAX)
        return bytes(out)


def decode(datagram: "bytes | bytearray | memoryview") -> Message:
    """The message in a datagram, of which nothing is kept but copies of its parts.

    ValueError: a message format error, another version, more than RECEIVE_MAX bytes or 32 options.
    """
    size = len(datagram)
    if not 4 <= size <= _RECEIVE_MAX:
        raise ValueError("size")
    view = memoryview(datagram)
    token_end = 4 + (view[0] & 0x0F)
    if view[0] >> 6 != 1 or not token_end <= min(size, 12) or view[1] == _EMPTY and size != 4:
        raise ValueError("head")
    message = Message(view[1], b"", view[0] >> 4 & 3)
    message.message_id = view[2] << 8 | view[3]
    message.token = bytes(view[4:token_end])
    at = token_end
    number = 0
    while at < size and view[at] != _MARKER:
        head = view[at]
        delta, at = _extended(head >> 4, view, at + 1)
        length, at = _extended(head & 0x0F, view, at)
        number += delta
        end = at + length
        if number > 0xFFFF or end > size or len(message.options) == _OPTIONS_MAX:
            raise ValueError("option")
        message.options.append((number, bytes(view[at:end])))
        at = end
    if at < size:
        if at + 1 == size:
            raise ValueError("a marker and no payload")
        message.payload = bytes(view[at + 1 :])
    return message


def unusable_option(message: Message) -> int | None:
    """The number of an option for which 5.4.1 has a response rejected; None when it is usable.

    Of the critical options (odd numbers), a response may have Block1 and Block2, once each and no
    longer than 3 bytes; any other, and a second one (5.4.5), is as good as unknown. Elective
    options (even numbers) are for whom they are of use.
    """
    last = 0
    for number, value in message.options:
        if number & 1:
            if number not in (_BLOCK1, _BLOCK2) or number == last or len(value) > 3:
                return number
        last = number
    return None


def _nibble(value: int) -> tuple:
    # 3.1: delta and length alike. 13 and 14 say that one byte or two follow.
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    value -= 269
    return 14, bytes((value >> 8, value & 0xFF))


def _extended(value: int, view: memoryview, at: int) -> tuple:
    # The reverse: (value, where what follows begins).
    if value < 13:
        return value, at
    end = at + value - 12
    if value == 15 or end > len(view):
        raise ValueError("option")
    if value == 13:
        return 13 + view[at], end
    return 269 + (view[at] << 8 | view[at + 1]), end
