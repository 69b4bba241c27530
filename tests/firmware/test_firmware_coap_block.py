"""Bodies in blocks: RFC 7959's own flows, and peers that do not keep to it."""

import unittest

from firmware_support import raises
from imprint.errors import ProtocolError
from imprint.wire.coap.block import BODY_MAX, pack, transfer, unpack
from imprint.wire.coap.codes import BLOCK1, BLOCK2, ETAG, GET, NON, POST, PUT, URI_PATH
from imprint.wire.coap.message import Message

_CONTENT = 0x45  # 2.05
_CHANGED = 0x44  # 2.04
_CONTINUE = 0x5F  # 2.31
_INCOMPLETE = 0x88  # 4.08
_TOO_LARGE = 0x8D  # 4.13
_BODY = bytes(range(200)) * 2


def _request(code=GET, payload=b"", kind=0):
    message = Message(code, payload, kind)
    message.add(URI_PATH, b"status")
    return message


def _response(code, payload=b"", **options):
    message = Message(code, payload)
    numbers = {"block1": BLOCK1, "block2": BLOCK2, "etag": ETAG}
    for name, value in options.items():
        message.add(numbers[name], value)
    return message


def _shown(message):
    # As RFC 7959 writes a request: "1:0/1/128 2:0/0/64" and how much payload.
    words = []
    for mark, number in (("1", BLOCK1), ("2", BLOCK2)):
        value = message.get(number)
        if value is not None:
            block, more, exponent = unpack(value)
            words.append("%s:%d/%d/%d" % (mark, block, more, 16 << exponent))
    return " ".join(words), len(message.payload)


def _b(number, more, size):
    return pack(number, more, {16: 0, 32: 1, 64: 2, 128: 3, 256: 4, 512: 5, 1024: 6}[size])


class Talk:
    """Drives a transfer with prepared responses; `asked` is what it sent."""

    def __init__(self, request, responses, **limits):
        self.asked = []
        self.requests = []
        self.result = None
        dialogue = transfer(request, **limits)
        message = next(dialogue)
        responses = iter(responses)
        while True:
            self.asked.append(_shown(message))
            self.requests.append(message)
            try:
                message = dialogue.send(next(responses))
            except StopIteration as end:
                self.result = end.value
                return


class TestOption(unittest.TestCase):
    def test_wire(self):
        """The values of RFC 7959's figures, and the edges of each length."""
        for wire, number, more, exponent in (
            (b"", 0, False, 0),
            (b"\x0b", 0, True, 3),
            (b"\x12", 1, False, 2),
            (b"\x23", 2, False, 3),
            (b"\xfe", 15, True, 6),
            (b"\x01\x06", 16, False, 6),
            (b"\xff\xfe", 4095, True, 6),
            (b"\x01\x00\x00", 4096, False, 0),
            (b"\xff\xff\xf6", 1048575, False, 6),
        ):
            with self.subTest(str(wire)):
                self.assertEqual(wire, pack(number, more, exponent))
                self.assertEqual((number, more, exponent), unpack(wire))

    def test_reserved(self):
        """Exponent 7 is no size."""
        with raises(ProtocolError, 332):
            unpack(b"\x07")


class TestWhole(unittest.TestCase):
    def test_small(self):
        """What fits is one exchange, and carries no block option."""
        answer = _response(_CHANGED, b"ok")
        talk = Talk(_request(POST, b"p" * 1024), [answer])
        self.assertEqual([("", 1024)], talk.asked)
        self.assertIs(answer, talk.result)

    def test_error(self):
        """An error's diagnostic payload is whole, whatever option it has."""
        talk = Talk(_request(), [_response(0xA0, b"x", block2=_b(3, True, 16))])
        self.assertEqual(0xA0, talk.result.code)


class TestDownload(unittest.TestCase):
    def test_late_negotiation(self):
        """RFC 7959, 3.1: the server chooses 128 bytes, the client asks on."""
        talk = Talk(_request(), [
            _response(_CONTENT, _BODY[:128], block2=_b(0, True, 128)),
            _response(_CONTENT, _BODY[128:256], block2=_b(1, True, 128)),
            _response(_CONTENT, _BODY[256:300], block2=_b(2, False, 128)),
        ])  # fmt: skip
        self.assertEqual([("", 0), ("2:1/0/128", 0), ("2:2/0/128", 0)], talk.asked)
        self.assertEqual(_BODY[:300], talk.result.payload)
        for message in talk.requests:
            self.assertEqual((GET, b"status"), (message.code, message.get(URI_PATH)))

    def test_early_negotiation(self):
        """RFC 7959, 3.1: the client asks for 64 bytes from the start."""
        request = _request()
        request.add(BLOCK2, _b(0, False, 64))
        talk = Talk(request, [
            _response(_CONTENT, _BODY[:64], block2=_b(0, True, 64)),
            _response(_CONTENT, _BODY[64:70], block2=_b(1, False, 64)),
        ])  # fmt: skip
        self.assertEqual([("2:0/0/64", 0), ("2:1/0/64", 0)], talk.asked)
        self.assertEqual(_BODY[:70], talk.result.payload)

    def test_smaller_on_the_way(self):
        """The server may take smaller blocks later; the offset is what counts."""
        talk = Talk(_request(), [
            _response(_CONTENT, _BODY[:64], block2=_b(0, True, 64)),
            _response(_CONTENT, _BODY[64:96], block2=_b(2, True, 32)),
            _response(_CONTENT, _BODY[96:100], block2=_b(3, False, 32)),
        ])  # fmt: skip
        self.assertEqual("2:3/0/32", talk.asked[2][0])
        self.assertEqual(_BODY[:100], talk.result.payload)

    def test_one_block(self):
        """A body of one block, and an empty one, are there at once."""
        for payload in (b"x", b""):
            answer = _response(_CONTENT, payload, block2=_b(0, False, 16), etag=b"e")
            self.assertEqual(payload, Talk(_request(), [answer]).result.payload)

    def test_error_in_the_middle(self):
        """An error response ends it and says why."""
        talk = Talk(_request(), [
            _response(_CONTENT, _BODY[:64], block2=_b(0, True, 64)),
            _response(_INCOMPLETE, b"gone"),
        ])  # fmt: skip
        self.assertEqual((_INCOMPLETE, b"gone"), (talk.result.code, talk.result.payload))

    def test_does_not_fit(self):
        """Blocks that are not the next one, of another representation or of a wrong size."""
        first = _response(_CONTENT, _BODY[:64], block2=_b(0, True, 64), etag=b"1")
        for name, responses in (
            ("begins in the middle", [_response(_CONTENT, _BODY[:64], block2=_b(1, True, 64))]),
            ("the same again", [first, _response(
                _CONTENT, _BODY[:64], block2=_b(0, True, 64), etag=b"1")]),
            ("one left out", [first, _response(
                _CONTENT, _BODY[:64], block2=_b(2, True, 64), etag=b"1")]),
            ("another ETag", [first, _response(
                _CONTENT, _BODY[:64], block2=_b(1, True, 64), etag=b"2")]),
            ("no ETag", [first, _response(_CONTENT, _BODY[:64], block2=_b(1, True, 64))]),
            ("no Block2", [first, _response(_CONTENT, _BODY[:64], etag=b"1")]),
            ("too short", [_response(_CONTENT, _BODY[:63], block2=_b(0, True, 64))]),
            ("too long", [_response(_CONTENT, _BODY[:65], block2=_b(0, False, 64))]),
            ("reserved size", [_response(_CONTENT, b"", block2=b"\x07")]),
        ):  # fmt: skip
            with self.subTest(name), raises(ProtocolError, 332):
                Talk(_request(), responses)

    def test_endless(self):
        """A body that does not end is not taken for longer than the limit."""
        asked = []

        def endless():
            while True:
                asked.append(1)
                yield _response(_CONTENT, b"b" * 512, block2=_b(len(asked) - 1, True, 512))

        with raises(ProtocolError, 332):
            Talk(_request(), endless())
        self.assertEqual(BODY_MAX // 512 + 1, len(asked))


class TestUpload(unittest.TestCase):
    def test_atomic(self):
        """RFC 7959, 3.2: one block after the other, each confirmed."""
        talk = Talk(_request(PUT, _BODY[:300]), [
            _response(_CONTINUE, block1=_b(0, True, 128)),
            _response(_CONTINUE, block1=_b(1, True, 128)),
            _response(_CHANGED, block1=_b(2, False, 128)),
        ], whole_max=128, exponent=3)  # fmt: skip
        self.assertEqual([("1:0/1/128", 128), ("1:1/1/128", 128), ("1:2/0/128", 44)], talk.asked)
        self.assertEqual(_BODY[:300], b"".join([m.payload for m in talk.requests]))
        self.assertEqual(_CHANGED, talk.result.code)

    def test_smaller_blocks(self):
        """RFC 7959, 3.2: the server asks for 32 bytes, and the client goes on with them."""
        talk = Talk(_request(PUT, _BODY[:180]), [
            _response(_CONTINUE, block1=_b(0, True, 32)),
            _response(_CONTINUE, block1=_b(4, True, 32)),
            _response(_CHANGED, block1=_b(5, False, 32)),
        ], whole_max=128, exponent=3)  # fmt: skip
        self.assertEqual([("1:0/1/128", 128), ("1:4/1/32", 32), ("1:5/0/32", 20)], talk.asked)

    def test_each_block_for_itself(self):
        """RFC 7959, 3.2: a stateless server takes each block with the final code."""
        talk = Talk(_request(PUT, _BODY[:256]), [
            _response(_CHANGED, block1=_b(0, False, 128)),
            _response(_CHANGED, block1=_b(1, False, 128)),
        ], whole_max=128, exponent=3)  # fmt: skip
        self.assertEqual(2, len(talk.asked))

    def test_too_large(self):
        """4.13 with a smaller size: once more from the start; without one it is final."""
        talk = Talk(_request(POST, _BODY[:100]), [
            _response(_TOO_LARGE, block1=_b(0, True, 64)),
            _response(_CONTINUE, block1=_b(0, True, 64)),
            _response(_CHANGED, block1=_b(1, False, 64)),
        ], whole_max=64, exponent=6)  # fmt: skip
        self.assertEqual([("1:0/0/1024", 100), ("1:0/1/64", 64), ("1:1/0/64", 36)], talk.asked)
        for options in ({}, {"block1": _b(0, True, 1024)}):
            talk = Talk(_request(POST, _BODY[:100]), [_response(_TOO_LARGE, **options)],
                        whole_max=64)  # fmt: skip
            self.assertEqual(_TOO_LARGE, talk.result.code)

    def test_refused(self):
        """An error in the middle ends it."""
        talk = Talk(_request(POST, _BODY), [_response(_INCOMPLETE)], whole_max=64, exponent=2)
        self.assertEqual(_INCOMPLETE, talk.result.code)
        self.assertEqual(1, len(talk.asked))

    def test_both_ways(self):
        """RFC 7959, 3.3: a body up, a body down; only the last block up negotiates."""
        request = _request(POST, _BODY[:128])
        request.add(BLOCK2, _b(0, False, 64))
        talk = Talk(request, [
            _response(_CONTINUE, block1=_b(0, True, 64)),
            _response(_CHANGED, _BODY[:64], block1=_b(1, False, 64), block2=_b(0, True, 64)),
            _response(_CHANGED, _BODY[64:80], block2=_b(1, False, 64)),
        ], whole_max=64, exponent=2)  # fmt: skip
        self.assertEqual(
            [("1:0/1/64", 64), ("1:1/0/64 2:0/0/64", 64), ("2:1/0/64", 0)], talk.asked
        )
        self.assertEqual(_BODY[:80], talk.result.payload)

    def test_kind_is_kept(self):
        """The blocks of a NON request are NON."""
        talk = Talk(_request(POST, _BODY[:32], NON), [
            _response(_CONTINUE, block1=_b(0, True, 16)),
            _response(_CHANGED, block1=_b(1, False, 16)),
        ], whole_max=16, exponent=0)  # fmt: skip
        self.assertEqual([NON, NON], [m.kind for m in talk.requests])

    def test_does_not_fit(self):
        """Confirmations that are not of this block, or ask for more than was offered."""
        for name, answer in (
            ("no Block1", _response(_CONTINUE)),
            ("another block", _response(_CONTINUE, block1=_b(1, True, 64))),
            ("larger blocks", _response(_CONTINUE, block1=_b(0, True, 128))),
            ("reserved size", _response(_CONTINUE, block1=b"\x0f")),
        ):
            with self.subTest(name), raises(ProtocolError, 332):
                Talk(_request(POST, _BODY), [answer], whole_max=64, exponent=2)
        with raises(ProtocolError, 332):
            Talk(_request(POST, b"p" * 40), [_response(_CONTINUE, block1=_b(0, False, 64))],
                 whole_max=16, exponent=2)  # fmt: skip
