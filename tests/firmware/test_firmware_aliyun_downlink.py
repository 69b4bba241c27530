"""Aliyun: what a downlink means, whatever it is. A file of its own: a board's heap is small."""

import unittest

from imprint.clouds import aliyun
from imprint.identity import build

_SYS = b"/sys/al123456789/device1/thing/"


def _identity():
    return build({"journey": "aliyun", "product_key": "al123456789", "device_name": "device1"})


_REPLY = _SYS + b"event/property/post_reply"
_SET = _SYS + b"service/property/set"
_USER = b"/al123456789/device1/user/get"

# (name, topic, payload, what it is)
_DOWNLINKS = (
    (
        "reply",
        _REPLY,
        b'{"code":200,"data":{},"id":"7","message":"success","version":"1.0"}',
        ("reply", 7, 200, "success"),
    ),
    ("reply without message", _REPLY, b'{"code":460,"id":"7"}', ("reply", 7, 460, "")),
    ("numbers either way", _REPLY, b'{"code":"200","id":7}', ("reply", 7, 200, "")),
    ("message of another type", _REPLY, b'{"code":1,"id":"7","message":[]}', ("reply", 7, 1, "")),
    (
        "long message",
        _REPLY,
        b'{"code":460,"id":"7","message":"' + b"m" * 200 + b'"}',
        ("reply", 7, 460, "m" * 80),
    ),
    (
        "set",
        _SET,
        b'{"id":"9","method":"thing.service.property.set","params":{"led":1},"version":"1.0"}',
        ("set", "9", {"led": 1}),
    ),
    ("set of nothing", _SET, b'{"id":"9","params":{}}', ("set", "9", {})),
    ("user", _USER, b"\x00anything", ("user", _USER, b"\x00anything")),
)

_NOT_UNDERSTOOD = (
    ("reply without id", _REPLY, b'{"code":200}'),
    ("reply without code", _REPLY, b'{"id":"7"}'),
    ("reply with words for a code", _REPLY, b'{"code":"ok","id":"7"}'),
    ("reply with a list for a code", _REPLY, b'{"code":[],"id":"7"}'),
    ("reply with an endless id", _REPLY, b'{"code":200,"id":1e999}'),
    ("reply that is no object", _REPLY, b"[200]"),
    ("reply torn", _REPLY, b'{"code":200,"id":"7"'),
    ("set without id", _SET, b'{"params":{}}'),
    ("set with a number for an id", _SET, b'{"id":9,"params":{}}'),
    ("set with a long id", _SET, b'{"id":"' + b"9" * 65 + b'","params":{}}'),
    ("set without params", _SET, b'{"id":"9"}'),
    ("set with a list", _SET, b'{"id":"9","params":[1]}'),
    ("set too long", _SET, b'{"id":"9","params":{"a":"' + b"x" * 4096 + b'"}}'),
    ("set not UTF-8", _SET, b'{"id":"9","params":{"a":"\xff"}}'),
    ("another topic", _SYS + b"event/error/post_reply", b"{}"),
    ("another device", b"/sys/al123456789/device2/thing/service/property/set", b"{}"),
    ("another device's user topic", b"/al123456789/device11/user/get", b"{}"),
    ("no topic", b"", b"{}"),
)


class TestDownlink(unittest.TestCase):
    def test_understood(self):
        """Replies, property sets and user messages."""
        for name, topic, payload, expected in _DOWNLINKS:
            with self.subTest(name):
                self.assertEqual(expected, aliyun.downlink(_identity(), topic, payload))

    def test_not_understood(self):
        """Anything else is "other", and never an exception that would end the session."""
        for name, topic, payload in _NOT_UNDERSTOOD:
            with self.subTest(name):
                self.assertEqual(("other", topic), aliyun.downlink(_identity(), topic, payload))

    def test_every_cut(self):
        """A payload cut anywhere is "other", except where what is left means the same."""
        for name, topic, payload, _ in _DOWNLINKS[:-1]:
            for end in range(len(payload)):
                self.assertEqual(
                    ("other", topic), aliyun.downlink(_identity(), topic, payload[:end])
                )
