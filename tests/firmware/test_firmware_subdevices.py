"""The list of sub-devices and what their cloud issued: parsed, kept, torn, and never mixed up."""

import io
import unittest

from firmware_support import MemoryFolder, Power, PowerCut, raises
from imprint import subdevices as s
from imprint.errors import SetupError
from imprint.subdevices import Subdevices, Text

_TEXT = (
    b'={"baudrate":9600,"id":2}\n'
    b"!inv modbus power:h:1:u16 energy:h:3:u32\n"
    b"!sim simulated t:1:1\n"
    b"inv-1 inv 1\n"
    b"meterPK/m:1@x sim 200 burned1\n"
    b"\n"
    b"inv-2 inv 3"
)


def _list(text=_TEXT, store=None):
    return Subdevices(io.BytesIO(text), store or MemoryFolder(), "invPK")


class TestList(unittest.TestCase):
    def test_read(self):
        """Names, places, tables and the bus; a product key only where it is another."""
        found = _list()
        self.assertEqual(3, len(found))
        self.assertEqual('{"baudrate":9600,"id":2}', found.bus)
        names = [found.name(at) for at in range(3)]
        self.assertEqual([("invPK", "inv-1"), ("meterPK", "m:1@x"), ("invPK", "inv-2")], names)
        self.assertEqual(
            [("inv", 1), ("sim", 200), ("inv", 3)], [found.place(n) for n in range(3)]
        )
        self.assertEqual(["modbus", "power:h:1:u16", "energy:h:3:u32"], found.table("inv"))
        self.assertEqual(2, found.find("invPK", "inv-2"))
        self.assertEqual(-1, found.find("invPK", "m:1@x"))
        self.assertEqual(-1, found.find(None, None))

    def test_secrets(self):
        """A burned secret counts before one that was issued."""
        found = _list()
        self.assertEqual([b"", b"burned1", b""], [found.secret(at) for at in range(3)])
        self.assertEqual([False, True, False], [found.has_secret(at) for at in range(3)])

    def test_malformed(self):
        """A line that breaks a rule is named by its number."""
        for text in (
            b"inv-1\n", b"inv-1 inv\n", b"inv-1 inv 1\n", b"!inv\n",
            b"!inv modbus\ninv-1 inv x\n", b"!inv modbus\ninv-1 inv 1 a b\n",
            b"!inv modbus\ninv-1 inv 123456\n", b"\xff\n", b"!" + b"x" * 600 + b" sim\n",
            b"!i modbus\n" + b"k i 1\n" * 201,
        ):  # fmt: skip
            with raises(SetupError, 106) as caught:
                _list(text)
            self.assertIn("line ", caught.exception.detail)
        with raises(SetupError, 106):
            _list().table("none")

    def test_two_hundred(self):
        """Two hundred are a few hundred bytes in memory, and each is found."""
        lines = b"".join([b"inv-%d inv %d\n" % (n, n % 248) for n in range(200)])
        found = _list(b"!inv modbus power:h:1:u16\n" + lines)
        self.assertEqual(200, len(found))
        self.assertEqual(199, found.find("invPK", "inv-199"))


class TestText(unittest.TestCase):
    def setUp(self):
        lines = [b"inv-%d inv %d\n" % (n, n) for n in range(200)]
        self.parts = [b"!inv modbus power:h:1:u16\n" + b"".join(lines[:80])]
        self.parts += [b"".join(lines[80:81]), b"".join(lines[81:])]
        keys = ("subdevices", "subdevices2", "subdevices3", "subdevices4")
        self.store = dict(zip(keys, self.parts + [b"old sim 1\n"]))
        self.named = Named(**{key + "_sha256": "0" if key in keys[:3] else None for key in keys})

    def test_parts(self):
        """A list in three parts is as the same in one, and an older list's rest is none of it."""
        whole = _list(b"".join(self.parts))
        found = Subdevices(Text(self.store, self.named), MemoryFolder(), "invPK")
        self.assertEqual(200, len(found))
        for at in (0, 79, 80, 81, 199, 3, 80, 150):
            self.assertEqual(whole.name(at), found.name(at))
        self.assertEqual(whole.table("inv"), found.table("inv"))
        found.keep(0, b"secret")
        self.assertEqual(199, found.find("invPK", "inv-199"))

    def test_none(self):
        """An edge without sub-devices has no list."""
        for store, named in ((self.store, Named()), ({}, self.named)):
            text = Text(store, named)
            self.assertEqual((0, b""), (text.size, text.readline()))


class Named:
    """What an identity says of a list's parts."""

    def __init__(self, **hashes):
        for number in ("", "2", "3", "4"):
            setattr(self, "subdevices" + number + "_sha256", None)
        for name, value in hashes.items():
            setattr(self, name, value)


class TestRecords(unittest.TestCase):
    def test_kept(self):
        """What was issued is there after a restart; writing it again writes nothing."""
        store = MemoryFolder()
        found = _list(store=store)
        found.keep(0, b"secret1")
        writes = store.power.writes
        found.keep(0, b"secret1")
        self.assertEqual(writes, store.power.writes)
        again = _list(store=store)
        self.assertEqual(b"secret1", again.secret(0))
        self.assertEqual(s.ISSUED, again.flags[0])
        self.assertEqual([0, 0], [again.flags[1], again.flags[2]])
        self.assertEqual(1, again.count(s.ISSUED))

    def test_forgotten(self):
        """A secret that is of no use leaves nothing behind."""
        store = MemoryFolder()
        found = _list(store=store)
        found.keep(0, b"secret1")
        self.assertEqual((b"secret1", s.ISSUED), (found.secret(0), found.flags[0]))
        found.forget(0)
        self.assertEqual((b"", 0), (found.secret(0), found.flags[0]))
        self.assertEqual([], store.names())

    def test_deleted(self):
        """What the cloud deleted stays deleted, until the list is another one."""
        store = MemoryFolder()
        found = _list(store=store)
        found.keep(2, flags=s.DELETED)
        self.assertEqual(s.DELETED, _list(store=store).flags[2])
        self.assertEqual(0, _list(_TEXT + b"\n\n", store).flags[2])

    def test_damaged(self):
        """Every flipped bit and every cut of a record is noticed, and costs that record only."""
        store = MemoryFolder()
        found = _list(store=store)
        found.keep(0, b"secret1")
        found.keep(2, b"secret2")
        name = [n for n in store.names() if b"secret1" in store.content[n]][0]
        whole = store.content[name]
        broken = [whole[:size] for size in range(len(whole))]
        for bit in range(len(whole) * 8):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            broken.append(bytes(flipped))
        for content in broken:
            store.content[name] = content
            again = _list(store=store)
            self.assertEqual((b"", b"secret2"), (again.secret(0), again.secret(2)))
            self.assertTrue(again.damaged > 0)

    def test_mixed_up(self):
        """A record under another's name is not taken for its own."""
        store = MemoryFolder()
        found = _list(store=store)
        found.keep(0, b"secret1")
        found.keep(2, b"secret2")
        first, second = store.names()
        store.content[first], store.content[second] = store.content[second], store.content[first]
        again = _list(store=store)
        self.assertEqual([0, 0, 0], list(again.flags))

    def test_settled(self):
        """Who is in the topology is remembered for all, once, and for this list only."""
        store = MemoryFolder()
        found = _list(store=store)
        found.keep(0, b"secret1")
        found.settle()
        writes = store.power.writes
        found.settle()
        again = _list(store=store)
        again.settle()
        self.assertEqual(writes, store.power.writes)
        self.assertEqual([s.ISSUED | s.BOUND, s.BOUND, 0], list(again.flags))
        self.assertEqual([s.ISSUED, 0, 0], list(_list(_TEXT + b"\n", store).flags))
        store.content["bound"] = store.content["bound"][:2]
        self.assertEqual([s.ISSUED, 0, 0], list(_list(store=store).flags))

    def test_power_cuts(self):
        """A cut at any write leaves each with its old record, its new one or none, never a
        neighbour's, and the next start goes on from there."""
        for writes in range(1, 9):
            for torn in (False, True):
                content = {}
                try:
                    found = _list(store=MemoryFolder(content, Power(writes, torn)))
                    for at in (0, 2):
                        found.keep(at, b"secret%d" % at)
                        found.keep(at, None, s.DELETED)
                    found.forget(0)
                except PowerCut:
                    pass
                again = _list(store=MemoryFolder(content))
                for at in (0, 2):
                    self.assertTrue(again.secret(at) in (b"", b"secret%d" % at))
                    again.keep(at, b"secret%d" % at)
                    self.assertEqual(b"secret%d" % at, again.secret(at))

    def test_full(self):
        """A file system that takes nothing is said so, of the one that it was for."""
        store = MemoryFolder()
        store.room = 0
        with raises(SetupError, 112) as caught:
            _list(store=store).keep(0, b"secret1")
        self.assertEqual("inv-1", caught.exception.detail)


if __name__ == "__main__":
    unittest.main()
