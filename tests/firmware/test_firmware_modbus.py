"""Modbus RTU: frames by the specification's examples, points, and slaves that misbehave."""

import sys
import unittest

from firmware_support import raises
from imprint.drivers import modbus
from imprint.errors import ProtocolError, SetupError, WeatherError

# MODBUS application protocol V1.1b3, 6.3: registers 107 to 109 hold 555, 0, 100.
_ASK = b"\x03\x00\x6b\x00\x03"
_SAID = b"\x03\x06\x02\x2b\x00\x00\x00\x64"


def _frame(address, pdu):
    return modbus.frame(address, pdu)


class Line:
    """A serial line with a slave that says, to each request, what the list has next."""

    def __init__(self, answers):
        self.sent = []
        self._answers = list(answers)
        self._waiting = b""

    def write(self, data):
        self.sent.append(bytes(data))
        if self._answers:
            self._waiting += self._answers.pop(0)

    def readinto(self, buf):
        count = min(len(buf), len(self._waiting), 3)  # in pieces, as they come
        buf[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count or None


def _driver(line, *points):
    return modbus.Driver(points or ("level:h:107:u16", "rest:h:109:u16:0.1"), line, lambda: None)


class TestCodec(unittest.TestCase):
    def test_crc(self):
        """The serial line specification's example, and the one of every manual."""
        self.assertEqual(0x1241, modbus.crc(b"\x02\x07"))
        self.assertEqual(b"\x01\x03\x00\x00\x00\x0a\xc5\xcd", _frame(1, b"\x03\x00\x00\x00\x0a"))

    def test_answer(self):
        """The specification's example of reading registers; of a write, the echo."""
        data = modbus.answer(17, _ASK, _frame(17, _SAID))
        self.assertEqual(b"\x02\x2b\x00\x00\x00\x64", data)
        pdu = b"\x06\x00\x01\x00\x03"
        self.assertEqual(b"", modbus.answer(17, pdu, _frame(17, pdu)))

    def test_lengths(self):
        """How long an answer will be is in its first three bytes."""
        self.assertEqual(0, modbus.length(b"\x11\x03"))
        self.assertEqual(11, modbus.length(_frame(17, _SAID)[:3]))
        self.assertEqual(5, modbus.length(b"\x11\x83\x02"))
        self.assertEqual(8, modbus.length(b"\x11\x10\x00"))

    def test_damaged(self):
        """Every flipped bit, a byte too few, another slave, another function: none is taken."""
        good = _frame(17, _SAID)
        for bit in range(len(good) * 8):
            damaged = bytearray(good)
            damaged[bit // 8] ^= 1 << bit % 8
            with raises(ProtocolError, 251):
                modbus.answer(17, _ASK, bytes(damaged))
        for data in (
            b"", good[:-1], _frame(18, _SAID), _frame(17, b"\x04" + _SAID[1:]),
            _frame(17, b"\x03\x04\x02\x2b\x00\x00"),
        ):  # fmt: skip
            with raises(ProtocolError, 251):
                modbus.answer(17, _ASK, data)

    def test_exceptions(self):
        """What a slave cannot do, and what it cannot do now."""
        for code in (1, 2, 3, 4, 11):
            with raises(SetupError, 252) as caught:
                modbus.answer(17, _ASK, _frame(17, bytes([0x83, code])))
            self.assertEqual(code, caught.exception.number)
        for code in (5, 6):
            with raises(WeatherError, 253):
                modbus.answer(17, _ASK, _frame(17, bytes([0x83, code])))


class TestPoints(unittest.TestCase):
    def test_types(self):
        """Each type, both word orders, and scales; a float that is no number is left out."""
        for point, data, value in (
            ("a:h:5:u16", b"\xff\xfe", 65534), ("a:h:5:s16", b"\xff\xfe", -2),
            ("a:h:5:u32", b"\x00\x01\x00\x02", 65538), ("a:h:5:u32r", b"\x00\x02\x00\x01", 65538),
            ("a:i:5:s32:0.1", b"\xff\xff\xff\xf6", -1.0), ("a:i:5:f32", b"\x3f\xc0\0\0", 1.5),
            ("a:i:5:f32r", b"\0\0\x3f\xc0", 1.5), ("a:i:5:f32", b"\x7f\xc0\0\0", None),
            ("a:i:5:f32", b"\x7f\x80\0\0", None), ("a:c:5:bit", b"\x01", 1),
            ("a:h:5:u16:10", b"\0\x07", 70), ("a:i:5:f32:1e300", b"\x7f\x7f\xff\xff", None),
        ):  # fmt: skip
            self.assertEqual(value, modbus.Point(point).decode(data, 5))
        self.assertEqual(1, modbus.Point("a:d:13:bit").decode(b"\x00\x01", 5))

    def test_malformed(self):
        """A point that breaks a rule is the list's fault."""
        for point in (
            "", "a", "a:h:5", "a:x:5:u16", "a:h:-1:u16", "a:h:65536:u16", "a:h:5:u64", "a:h:5:bit",
            "a:c:5:u16", "a:h:5:u16:0", "a:h:five:u16", "a:h:5:u16:x", "a:h:5:u16:1:2",
        ):  # fmt: skip
            with raises(SetupError, 106):
                _driver(Line([]), point)

    def test_spans(self):
        """Neighbours are read with one request, strangers with their own."""
        points = [
            modbus.Point(text)
            for text in ("a:h:0:u16", "b:h:2:u32", "c:h:50:u16", "d:i:3:u16", "e:c:9:bit",
                         "f:h:4:u16")
        ]  # fmt: skip
        expected = [("c", 9, 1), ("h", 0, 5), ("h", 50, 1), ("i", 3, 1)]
        self.assertEqual(expected, modbus.spans(points))

    def test_encode(self):
        """What can be set: holding registers within their type, and coils."""
        self.assertEqual(b"\x06\x00\x05\xff\xfe", modbus.Point("a:h:5:s16").encode(-2))
        self.assertEqual(b"\x06\x00\x05\x00\x0f", modbus.Point("a:h:5:u16:0.1").encode(1.5))
        self.assertEqual(
            b"\x10\x00\x05\x00\x02\x04\x00\x02\x00\x01", modbus.Point("a:h:5:u32r").encode(65538)
        )
        self.assertEqual(b"\x05\x00\x05\xff\x00", modbus.Point("a:c:5:bit").encode(1))
        for point, value in (
            ("a:h:5:u16", -1), ("a:h:5:u16", 65536), ("a:i:5:u16", 1), ("a:c:5:bit", 2),
            ("a:d:5:bit", 1), ("a:h:5:f32", 1e39), ("a:h:5:f32", float("1e999")),
            ("a:h:5:u16", float("1e999")), ("a:h:5:s32", 10**400), ("a:h:5:f32", 10**400),
        ):  # fmt: skip
            try:
                modbus.Point(point).encode(value)
            except ValueError:
                continue
            self.fail(point)


class TestDriver(unittest.TestCase):
    def test_poll(self):
        """One request for a table, and its points by name."""
        line = Line([_frame(17, _SAID)])
        self.assertEqual({"level": 555, "rest": 10.0}, _driver(line).poll(17))
        self.assertEqual([_frame(17, _ASK)], line.sent)

    def test_second_try(self):
        """Noise and silence are asked about once more, an exception is not."""
        for first in (b"", b"\xff\x00", _frame(18, _SAID), _frame(17, _SAID)[:-1] + b"\x00"):
            line = Line([first, _frame(17, _SAID)])
            self.assertEqual(555, _driver(line).poll(17)["level"])
            self.assertEqual(2, len(line.sent))
        line = Line([_frame(17, b"\x83\x02")])
        with raises(SetupError, 252):
            _driver(line).poll(17)
        self.assertEqual(1, len(line.sent))

    def test_address(self):
        """Nobody answers at these: the list is wrong, and the line is left alone."""
        for address in (0, 248, 300):
            line = Line([])
            with raises(SetupError, 106):
                _driver(line).poll(address)
            self.assertEqual([], line.sent)

    def test_bus(self):
        """A UART that the board has not is the list's fault, and said so."""

        class Machine:
            def UART(number, **_settings):  # noqa: N802, N805 - as machine has it
                raise ValueError("UART(%d) does not exist" % number)

        held = sys.modules.get("machine")
        sys.modules["machine"] = Machine
        try:
            with raises(SetupError, 106) as caught:
                modbus.Driver(["level:h:107:u16"], {"id": 9}, lambda: None)
            self.assertIn("UART(9)", caught.exception.detail)
        finally:
            del sys.modules["machine"]
            if held:
                sys.modules["machine"] = held

    def test_silent(self):
        """A slave that never answers costs two waits, and says who it is."""
        with raises(WeatherError, 250) as caught:
            _driver(Line([])).poll(9)
        self.assertIn("9", caught.exception.detail)

    def test_late(self):
        """An answer that comes too late is not taken for the next one's."""
        line = Line([_frame(17, _SAID)])
        line._waiting = _frame(16, b"\x03\x06\0\0\0\0\0\0")
        self.assertEqual(555, _driver(line).poll(17)["level"])

    def test_babble(self):
        """Who never stops talking is thrown away for a while, and is garbage then."""
        line = Line([])
        line._waiting = b"\x11\x03" * 5000
        with raises(ProtocolError, 251):
            _driver(line).poll(17)

    def test_command(self):
        """Setting writes and checks the echo; nothing is written for what cannot all be set."""
        pdu = b"\x06\x00\x6b\x00\x07"
        line = Line([_frame(17, pdu)])
        self.assertEqual({}, _driver(line).command(17, "set", {"level": 7}))
        self.assertEqual([_frame(17, pdu)], line.sent)
        for params in ({"level": 7, "colour": 1}, {"level": 7, "rest": -1}):
            line = Line([])
            try:
                _driver(line).command(17, "set", params)
            except ValueError:
                self.assertEqual([], line.sent)
                continue
            self.fail(params)
        try:
            _driver(Line([])).command(17, "dance", {})
        except KeyError:
            return
        self.fail("dance")


if __name__ == "__main__":
    unittest.main()
