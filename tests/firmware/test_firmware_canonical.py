"""The one way that the firmware writes and reads JSON."""

import json
import unittest

from imprint import canonical

_WRITTEN = (
    ("empty", {}, b"{}"),
    ("names sorted", {"b": 1, "a": 2, "aa": 3}, b'{"a":2,"aa":3,"b":1}'),
    (
        "nested",
        {"p": {"z": [1, {"b": 2, "a": 1}], "y": ()}},
        b'{"p":{"y":[],"z":[1,{"a":1,"b":2}]}}',
    ),
    ("constants", [None, True, False], b"[null,true,false]"),
    ("integers", [0, -7, 4294967295], b"[0,-7,4294967295]"),
    ("quotes", {'a"b': 'c"\\'}, b'{"a\\"b":"c\\"\\\\"}'),
    ("float", 21.5, b"21.5"),
    ("whole float", 20.0, b"20.0"),
    ("zero", -0.0, b"-0.0"),
    ("large float", 1e20, b"1.0e+20"),
    ("small float", -1e-7, b"-1.0e-07"),
    ("large with decimals", 1.5e20, b"1.5e+20"),
)

_NOT_WRITTEN = (
    ("infinity", float("inf"), ValueError),
    ("minus infinity", float("-inf"), ValueError),
    ("not a number", {"a": [float("nan")]}, ValueError),
    ("bytes", {"a": b"b"}, TypeError),
    ("an object", {"a": object()}, TypeError),
)

_READ = (
    ("object", b'{"a":1}', {"a": 1}),
    ("spaces around", b' \r\n{"a": [1, null]}\n', {"a": [1, None]}),
    ("UTF-8", b'{"a":"\xc3\xbc"}', {"a": "\u00fc"}),
    ("escape", b'{"a":"\\u00fc"}', {"a": "\u00fc"}),
)

_NOT_READ = (
    ("nothing", b""),
    ("a list", b"[1]"),
    ("a string", b'"{}"'),
    ("torn", b'{"a":1'),
    ("torn in a name", b'{"a'),
    ("two objects", b'{"a":1}{"b":2}'),
    ("a tail", b'{"a":1} x'),
    ("not UTF-8", b'{"a":"\xff"}'),
    ("half a UTF-8 character", b'{"a":"\xc3"}'),
    ("a bare word", b'{"a":nul}'),
    ("a list for a name", b"{[1]:2}"),
    ("a number that is none", b'{"a":-}'),
    ("brackets", b'{"a":' + b"[" * 1100 + b"}"),
    ("one byte too many", b'{"a":"' + b"x" * 4000 + b'"}'),
)


class TestWriting(unittest.TestCase):
    def test_written(self):
        """Sorted names, no spaces, and a decimal point in every float."""
        for name, value, expected in _WRITTEN:
            with self.subTest(name):
                self.assertEqual(expected, canonical.dumps(value))

    def test_read_back(self):
        """What is written is JSON: the runtime's own parser reads the same value."""
        for name, value, _ in _WRITTEN:
            with self.subTest(name):
                again = json.loads(canonical.dumps(value).decode())
                self.assertEqual(canonical.dumps(value), canonical.dumps(again))

    def test_not_written(self):
        """What JSON has no form for is refused, and never written as something else."""
        for name, value, error in _NOT_WRITTEN:
            with self.subTest(name):
                with self.assertRaises(error):
                    canonical.dumps(value)


class TestReading(unittest.TestCase):
    def test_read(self):
        """One object, with white space around it."""
        for name, wire, expected in _READ:
            with self.subTest(name):
                self.assertEqual(expected, canonical.loads(wire, 100))

    def test_not_read(self):
        """Anything else is a ValueError, on every runtime."""
        for name, wire in _NOT_READ:
            with self.subTest(name):
                with self.assertRaises(ValueError):
                    canonical.loads(wire, 4000)

    def test_every_cut(self):
        """A text that was torn anywhere is refused, although MicroPython's parser forgives it."""
        wire = b'{"a":{"b":[1,2],"c":"d"},"e":-1.5}'
        for end in range(len(wire)):
            with self.subTest(end):
                with self.assertRaises(ValueError):
                    canonical.loads(wire[:end], 4000)
        self.assertEqual({"a": {"b": [1, 2], "c": "d"}, "e": -1.5}, canonical.loads(wire, 4000))

    def test_bound(self):
        """The ceiling itself is allowed, one byte more is not."""
        self.assertEqual({"a": 1}, canonical.loads(b'{"a":1}', 7))
        with self.assertRaises(ValueError):
            canonical.loads(b'{"a":1}', 6)
