"""Messages wait in order, within bounds, through power cuts."""

import unittest

from firmware_support import MemoryFolder, Power, PowerCut, raises
from imprint.errors import SetupError
from imprint.outbox import Outbox


def _drain(outbox):
    found = []
    while True:
        held = outbox.peek()
        if held is None:
            return found
        found.append(held[1])
        outbox.done(held[0])


class TestOrder(unittest.TestCase):
    def test_empty(self):
        """Nothing waits in a new box."""
        box = Outbox(MemoryFolder(), 3)
        self.assertEqual((0, None, 0), (len(box), box.peek(), box.dropped))

    def test_first_in_first_out(self):
        """Messages leave in the order in which they came; an empty one is a message too."""
        box = Outbox(MemoryFolder(), 5)
        for message in (b"one", b"", b"three"):
            box.put(message)
        self.assertEqual(3, len(box))
        self.assertEqual([b"one", b"", b"three"], _drain(box))

    def test_peek_keeps(self):
        """Only done() removes; a second done() of the same number is no error."""
        box = Outbox(MemoryFolder(), 5)
        box.put(b"one")
        number, message = box.peek()
        self.assertEqual((number, message), box.peek())
        box.done(number)
        box.done(number)
        self.assertEqual(0, len(box))

    def test_after_a_restart(self):
        """Another box on the same folder goes on where the first stopped, numbers included."""
        folder = MemoryFolder()
        box = Outbox(folder, 20)
        for i in range(12):
            box.put(b"%d" % i)
        box.done(box.peek()[0])
        again = Outbox(folder, 20)
        again.put(b"12")
        self.assertEqual([b"%d" % i for i in range(1, 13)], _drain(again))

    def test_wire(self):
        """The file's name is the number, its content CRC-32 and message."""
        folder = MemoryFolder()
        Outbox(folder, 3).put(b"123456789")
        # CRC-32's check value, as its catalogues print it
        self.assertEqual({"00000001": b"\xcb\xf4\x39\x26123456789"}, folder.content)


class TestBounds(unittest.TestCase):
    def test_oldest_dropped_first(self):
        """Beyond the limit the oldest goes, and is counted."""
        box = Outbox(MemoryFolder(), 3)
        for i in range(5):
            box.put(b"%d" % i)
        self.assertEqual((3, 2), (len(box), box.dropped))
        self.assertEqual([b"2", b"3", b"4"], _drain(box))

    def test_smaller_limit_after_a_restart(self):
        """A box that was made smaller drops the oldest at once."""
        folder = MemoryFolder()
        box = Outbox(folder, 5)
        for i in range(5):
            box.put(b"%d" % i)
        box = Outbox(folder, 2)
        self.assertEqual((2, 3), (len(box), box.dropped))
        self.assertEqual([b"3", b"4"], _drain(box))

    def test_storage_full(self):
        """When the file system is full before the box is, the oldest make room."""
        folder = MemoryFolder()
        folder.room = 2
        box = Outbox(folder, 10)
        for i in range(4):
            box.put(b"%d" % i)
        self.assertEqual(2, box.dropped)
        self.assertEqual([b"2", b"3"], _drain(box))

    def test_no_storage_at_all(self):
        """When nothing can be written even so, that is an error with its number."""
        folder = MemoryFolder()
        folder.room = 0
        with raises(SetupError, 120) as caught:
            Outbox(folder, 10).put(b"lost")
        self.assertEqual(28, caught.exception.number)

    def test_a_file_that_stays(self):
        """A file that cannot be removed is forgotten until the restart: at least once."""
        folder = MemoryFolder()
        box = Outbox(folder, 10)
        box.put(b"one")
        folder.read_only = True
        box.done(box.peek()[0])
        self.assertIsNone(box.peek())
        self.assertEqual([b"one"], _drain(Outbox(folder, 10)))


class TestDamage(unittest.TestCase):
    def test_damaged_is_dropped_and_counted(self):
        """A file of which any byte is wrong, or missing, never leaves the box."""
        whole = b"\xcb\xf4\x39\x26123456789"
        damaged = [whole[:end] for end in range(len(whole))]
        damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(13)]
        for content in damaged:
            with self.subTest(content):
                folder = MemoryFolder({"00000001": content, "00000002": whole})
                box = Outbox(folder, 5)
                self.assertEqual((2, b"123456789"), box.peek())
                self.assertEqual((1, 1), (len(box), box.dropped))

    def test_foreign_names(self):
        """Files that are not ours are neither read nor removed."""
        names = ("notes.txt", "00000001~", "1", "0000000G", "-0000001", " 0000001", "0000000A", "")
        content = dict([(name, b"x") for name in names])
        folder = MemoryFolder(content)
        box = Outbox(folder, 1)
        box.put(b"one")
        box.put(b"two")
        self.assertEqual([b"two"], _drain(box))
        self.assertEqual(sorted(names), sorted(folder.content))

    def test_a_file_that_vanished(self):
        """A file that somebody else removed is counted as dropped."""
        folder = MemoryFolder()
        box = Outbox(folder, 5)
        box.put(b"one")
        folder.content.clear()
        self.assertIsNone(box.peek())
        self.assertEqual(1, box.dropped)


class TestPowerCut(unittest.TestCase):
    def test_every_write(self):
        """Cut at any write, whole or torn: what left is gone, the rest is there, in order."""
        cuts = 0
        for torn in (False, True):
            n = 0
            while True:
                n += 1
                content = {}
                sent = []
                try:
                    self.day(MemoryFolder(content, Power(n, torn)), sent)
                    break
                except PowerCut:
                    cuts += 1
                with self.subTest("write %d, torn %s" % (n, torn)):
                    box = Outbox(MemoryFolder(content), 3)
                    left = _drain(box)
                    self.assertEqual(sorted(left), left)
                    self.assertEqual(len(left), len(set(left)))
                    # At least once: only what was being acknowledged may come a second time.
                    self.assertFalse([m for m in left if m in sent[:-1]])
                    self.assertTrue(len(left) <= 3)
        self.assertTrue(cuts >= 16)

    def day(self, folder, sent):
        box = Outbox(folder, 3)
        for i in range(5):
            box.put(b"%d" % i)
        number, message = box.peek()
        sent.append(message)
        box.done(number)
        box.put(b"5")
        sent.extend(_drain(box))
