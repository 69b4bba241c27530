"""CoAP messages, byte by byte: the RFC's examples, the edges of each field, and every cut."""

import binascii
import unittest

from imprint.wire.coap.codes import (
    ACK,
    BLOCK1,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    ETAG,
    GET,
    NON,
    POST,
    RECEIVE_MAX,
    RST,
    SEND_MAX,
    URI_PATH,
)
from imprint.wire.coap.message import Message, decode, unusable_option

_CONTENT = 0x45

# (name, wire, kind, code, message id, token, options, payload)
_EXAMPLES = (
    # RFC 7252, appendix A, by its figures.
    ("figure 16, request", b"\x40\x01\x7d\x34\xbbtemperature",
     CON, GET, 0x7D34, b"", [(11, b"temperature")], b""),
    ("figure 16, response", b"\x60\x45\x7d\x34\xff22.3 C",
     ACK, _CONTENT, 0x7D34, b"", [], b"22.3 C"),
    ("figure 17, request", b"\x41\x01\x7d\x35\x20\xbbtemperature",
     CON, GET, 0x7D35, b"\x20", [(11, b"temperature")], b""),
    ("figure 17, response", b"\x61\x45\x7d\x35\x20\xff22.3 C",
     ACK, _CONTENT, 0x7D35, b"\x20", [], b"22.3 C"),
    ("figure 20, empty ACK", b"\x60\x00\x7d\x38",
     ACK, 0, 0x7D38, b"", [], b""),
    ("figure 20, separate", b"\x41\x45\xad\x7b\x53\xff22.3 C",
     CON, _CONTENT, 0xAD7B, b"\x53", [], b"22.3 C"),
    ("reset", b"\x70\x00\xad\x7b",
     RST, 0, 0xAD7B, b"", [], b""),
    ("longest token", b"\x58\x45\x00\x01tokentok",
     NON, _CONTENT, 1, b"tokentok", [], b""),
    # RFC 7959, 3.1: Block2 number 2, no more, 128 bytes.
    ("block", b"\x40\x01\x12\x36\xb6status\xc1\x23",
     CON, GET, 0x1236, b"", [(11, b"status"), (23, b"\x23")], b""),
    ("empty value", b"\x40\x45\x00\x00\xc0\xff\x00",
     CON, _CONTENT, 0, b"", [(12, b"")], b"\x00"),
    ("a repeated option", b"\x40\x02\x00\x00\xb1a\x01b\x00",
     CON, POST, 0, b"", [(11, b"a"), (11, b"b"), (11, b"")], b""),
    # 3.1: where the extensions begin.
    ("delta 12", b"\x40\x45\x00\x00\xc0", CON, 69, 0, b"", [(12, b"")], b""),
    ("delta 13", b"\x40\x45\x00\x00\xd0\x00", CON, 69, 0, b"", [(13, b"")], b""),
    ("delta 268", b"\x40\x45\x00\x00\xd0\xff", CON, 69, 0, b"", [(268, b"")], b""),
    ("delta 269", b"\x40\x45\x00\x00\xe0\x00\x00", CON, 69, 0, b"", [(269, b"")], b""),
    ("EnOS 2100", b"\x60\x44\x00\x00\xe1\x07\x27x", ACK, 68, 0, b"", [(2100, b"x")], b""),
    ("EnOS 2100 and 2102", b"\x60\x44\x00\x00\xe1\x07\x27x\x21y",
     ACK, 68, 0, b"", [(2100, b"x"), (2102, b"y")], b""),
    ("delta 65535", b"\x40\x45\x00\x00\xe0\xfe\xf2", CON, 69, 0, b"", [(65535, b"")], b""),
    ("length 12", b"\x40\x45\x00\x00\x1c" + b"v" * 12, CON, 69, 0, b"", [(1, b"v" * 12)], b""),
    ("length 13", b"\x40\x45\x00\x00\x1d\x00" + b"v" * 13,
     CON, 69, 0, b"", [(1, b"v" * 13)], b""),
    ("length 268", b"\x40\x45\x00\x00\x1d\xff" + b"v" * 268,
     CON, 69, 0, b"", [(1, b"v" * 268)], b""),
    ("length 269", b"\x40\x45\x00\x00\x1e\x00\x00" + b"v" * 269,
     CON, 69, 0, b"", [(1, b"v" * 269)], b""),
    # What microCoAPy 0.6.0 heads with de01011f.
    ("both extended", b"\x40\x45\x00\x00\xde\x01\x00\x1f" + b"v" * 300,
     CON, 69, 0, b"", [(14, b"v" * 300)], b""),
)  # fmt: skip

_MALFORMED = (
    ("nothing", b""),
    ("a short head", b"\x40\x01\x7d"),
    ("version 0", b"\x00\x01\x7d\x34"),
    ("version 2", b"\x80\x01\x7d\x34"),
    ("token of 9", b"\x49\x01\x00\x00" + b"t" * 20),
    ("token of 15", b"\x4f\x01\x00\x00" + b"t" * 20),
    ("token cut off", b"\x44\x01\x00\x00abc"),
    ("empty with token", b"\x61\x00\x00\x00t"),
    ("empty with option", b"\x60\x00\x00\x00\xb1a"),
    ("empty with payload", b"\x60\x00\x00\x00\xffp"),
    ("marker alone", b"\x40\x45\x00\x00\xff"),
    ("delta 15", b"\x40\x45\x00\x00\xf0"),
    ("length 15", b"\x40\x45\x00\x00\x1f" + b"v" * 40),
    ("delta extension cut off", b"\x40\x45\x00\x00\xd0"),
    ("long delta extension cut off", b"\x40\x45\x00\x00\xe0\x00"),
    ("length extension cut off", b"\x40\x45\x00\x00\x1d"),
    ("value cut off", b"\x40\x45\x00\x00\x14val"),
    ("number above 65535", b"\x40\x45\x00\x00\xe0\xfe\xf3"),
    ("number above 65535 in two", b"\x40\x45\x00\x00\xe0\xfe\xf2\x10"),
    ("33 options", b"\x40\x45\x00\x00" + b"\x00" * 33),
    ("too long", b"\x40\x45\x00\x00\xff" + b"p" * (RECEIVE_MAX - 4)),
)


def _fields(message):
    return (
        message.kind, message.code, message.message_id, message.token, message.options,
        message.payload,
    )  # fmt: skip


class TestWire(unittest.TestCase):
    def test_decode(self):
        """Each example is read as what it says, from bytes and from a borrowed buffer."""
        for name, wire, *expected in _EXAMPLES:
            with self.subTest(name):
                self.assertEqual(tuple(expected), _fields(decode(wire)))
                self.assertEqual(tuple(expected), _fields(decode(memoryview(bytearray(wire)))))

    def test_encode(self):
        """And written as those very bytes."""
        for name, wire, kind, code, message_id, token, options, payload in _EXAMPLES:
            with self.subTest(name):
                message = Message(code, payload, kind)
                message.message_id = message_id
                message.token = token
                for number, value in options:
                    message.add(number, value)
                self.assertEqual(wire, message.encode())

    def test_malformed(self):
        """A format error is a ValueError, and there is no other."""
        for name, wire in _MALFORMED:
            with self.subTest(name), self.assertRaises(ValueError):
                decode(wire)

    def test_every_cut(self):
        """Each example, cut anywhere, is a message or a ValueError; nothing is read beyond it."""
        for name, wire, *_ in _EXAMPLES:
            for end in range(len(wire)):
                try:
                    message = decode(wire[:end])
                except ValueError:
                    continue
                with self.subTest("%s, %d bytes" % (name, end)):
                    self.assertEqual(wire[:end], message.encode())

    def test_every_head(self):
        """Each first byte and each code: read, or a ValueError."""
        for first in range(256):
            for code in (0, 1, 31, 69, 95, 160, 255):
                try:
                    message = decode(bytes((first, code, 0, 0)) + b"12345678")
                except ValueError:
                    continue
                self.assertEqual(1, first >> 6)
                self.assertEqual((first & 15), len(message.token))

    def test_no_buffer_is_kept(self):
        """What was read stays true when the buffer is filled again."""
        buffer = bytearray(b"\x41\x45\x7d\x35\x20\xb1a\xff22.3 C")
        message = decode(memoryview(buffer))
        for at in range(len(buffer)):
            buffer[at] = 0
        self.assertEqual((b"\x20", b"a", b"22.3 C"),
                         (message.token, message.get(11), message.payload))  # fmt: skip

    def test_largest(self):
        """As long as we take them, and as long as we send them, and no byte more."""
        room = RECEIVE_MAX - 5
        self.assertEqual(room, len(decode(b"\x40\x45\x00\x00\xff" + b"p" * room).payload))
        self.assertEqual(32, len(decode(b"\x40\x45\x00\x00" + b"\x00" * 32).options))
        room = SEND_MAX - 5
        self.assertEqual(SEND_MAX, len(Message(POST, b"p" * room).encode()))
        with self.assertRaises(ValueError):
            Message(POST, b"p" * (room + 1)).encode()

    def test_what_cannot_be_encoded(self):
        """A token, an option number or an option value that CoAP has no room for."""
        message = Message(GET)
        message.token = b"123456789"
        with self.assertRaises(ValueError):
            message.encode()
        for number, value in ((0x10000, b""), (URI_PATH, b"v" * (SEND_MAX + 1))):
            message = Message(GET)
            message.add(number, value)
            with self.assertRaises(ValueError):
                message.encode()


class TestOptions(unittest.TestCase):
    def test_order(self):
        """Options stand in order of their numbers; those of one number as they were added."""
        message = Message(GET)
        for number, value in ((15, b"q"), (11, b"a"), (2100, b"z"), (11, b"b"), (4, b"e")):
            message.add(number, value)
        self.assertEqual(
            [(4, b"e"), (11, b"a"), (11, b"b"), (15, b"q"), (2100, b"z")], message.options
        )

    def test_get(self):
        """The first of a number, or None."""
        message = decode(b"\x40\x45\x00\x00\xb1a\x01b")
        self.assertEqual(b"a", message.get(URI_PATH))
        self.assertIsNone(message.get(ETAG))

    def test_activation_request(self):
        """EnOS's activation is asked for in 64 bytes, with a token of two and the path whole."""
        message = Message(GET)
        message.message_id = 0x0102
        message.token = b"\xaa\xbb"
        path = "topic/ext/session/MuGsF6W4/15bBZlRknc/thing/activate/info"
        for segment in path.split("/"):
            message.add(URI_PATH, segment.encode())
        wire = message.encode()
        self.assertEqual(64, len(wire))
        self.assertEqual(
            b"42010102aabbb5746f70696303657874",
            binascii.hexlify(wire[:16]),
        )
        self.assertEqual(path, "/".join([value.decode() for _, value in decode(wire).options]))

    def test_critical(self):
        """A response is unusable for a critical option that it may not have, or has twice."""
        for expected, options in (
            (None, ()),
            (None, ((ETAG, b"e"), (CONTENT_FORMAT, b""), (2100, b"t"), (2102, b"p"))),
            (None, ((4000, b"x"), (65534, b""))),
            (None, ((BLOCK2, b""), (BLOCK1, b"\x00\x00\x0b"))),
            (1, ((1, b"if"),)),
            (11, ((URI_PATH, b"a"),)),
            (2101, ((2100, b"t"), (2101, b"sign"))),
            (65535, ((65535, b""),)),
            (BLOCK2, ((BLOCK2, b"\x08"), (BLOCK2, b"\x18"))),
            (BLOCK1, ((BLOCK1, b"\x00\x00\x00\x0b"),)),
        ):
            message = Message(_CONTENT)
            for number, value in options:
                message.add(number, value)
            with self.subTest(str(options)):
                self.assertEqual(expected, unusable_option(message))
