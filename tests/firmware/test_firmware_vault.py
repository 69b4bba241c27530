"""The issued credential survives whatever happens to the power and to the store."""

import hashlib
import unittest

from firmware_support import MemoryBlobs, Power, PowerCut, raises
from imprint.errors import SetupError
from imprint.vault import Vault

_OLD = {"product_key": "pk", "device_name": "dn", "device_secret": "old"}
_NEW = {"product_key": "pk", "device_name": "dn", "device_secret": "new"}
_THIRD = {"product_key": "pk", "device_name": "dn", "device_secret": "third"}


def _vault(*records):
    blobs = MemoryBlobs()
    vault = Vault(blobs)
    for record in records:
        vault.store(record)
    return vault, blobs


class TestKeeping(unittest.TestCase):
    def test_absent(self):
        """An empty store holds no credential, and that is no error."""
        self.assertIsNone(_vault()[0].load())

    def test_newest(self):
        """What was stored last is loaded, by another vault on the same store too."""
        vault, blobs = _vault(_OLD, _NEW, _THIRD)
        self.assertEqual(_THIRD, vault.load())
        self.assertEqual(_THIRD, Vault(blobs).load())

    def test_wire(self):
        """The slot's bytes: magic, number, JSON, digest."""
        body = b'IMP1\x00\x00\x00\x01{"device_name":"dn","device_secret":"old","product_key":"pk"}'
        blobs = _vault(_OLD)[1]
        self.assertEqual({"cred_a": body + hashlib.sha256(body).digest()}, blobs.content)

    def test_slots_alternate(self):
        """The slot that holds the newest is never written."""
        vault, blobs = _vault(_OLD)
        first = blobs.content["cred_a"]
        vault.store(_NEW)
        self.assertEqual(first, blobs.content["cred_a"])
        second = blobs.content["cred_b"]
        vault.store(_THIRD)
        self.assertEqual(second, blobs.content["cred_b"])

    def test_equal_record(self):
        """Storing what is the newest already writes nothing."""
        vault, blobs = _vault(_OLD, _NEW)
        writes = blobs.power.writes
        vault.store(dict(_NEW))
        self.assertEqual(writes, blobs.power.writes)

    def test_older_record_again(self):
        """An older record that is stored again is the newest again."""
        self.assertEqual(_OLD, _vault(_OLD, _NEW, _OLD)[0].load())


class TestDamage(unittest.TestCase):
    def test_newest_damaged(self):
        """A newest slot of which any byte is wrong gives way to the older."""
        vault, blobs = _vault(_OLD, _NEW)
        whole = blobs.content["cred_b"]
        for at in range(len(whole)):
            blobs.content["cred_b"] = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
            self.assertEqual(_OLD, vault.load())

    def test_torn_at_every_byte(self):
        """A slot that was cut anywhere gives way too."""
        vault, blobs = _vault(_OLD, _NEW)
        whole = blobs.content["cred_b"]
        for end in range(len(whole)):
            blobs.content["cred_b"] = whole[:end]
            self.assertEqual(_OLD, vault.load())

    def test_damaged_is_not_absent(self):
        """When something is there but nothing whole, that is said."""
        vault, blobs = _vault(_OLD)
        blobs.content["cred_a"] = b"IMP1garbage"
        with raises(SetupError, 110):
            vault.load()
        blobs.content["cred_b"] = b""
        del blobs.content["cred_a"]
        with raises(SetupError, 110):
            vault.load()

    def test_repaired_by_storing(self):
        """A record stored over damage is loaded."""
        vault, blobs = _vault()
        for damage in ({"cred_a": b"x"}, {"cred_b": b"x"}, {"cred_a": b"x", "cred_b": b"y"}):
            blobs.content.clear()
            blobs.content.update(damage)
            vault.store(_NEW)
            self.assertEqual(_NEW, vault.load())

    def test_a_digest_over_nonsense(self):
        """A slot whose digest fits but whose body is none is damaged, not an exception."""
        vault, blobs = _vault()
        body = b"IMP1\x00\x00\x00\x01not JSON"
        blobs.content["cred_a"] = body + hashlib.sha256(body).digest()
        with raises(SetupError, 110):
            vault.load()
        body = b"IMP1"
        blobs.content["cred_a"] = body + hashlib.sha256(body).digest()
        with raises(SetupError, 110):
            vault.load()


class TestRefusal(unittest.TestCase):
    def test_store_full(self):
        """A store that refuses is an error with its number; the last good record stays."""
        vault, blobs = _vault(_OLD)
        blobs.full = True
        with raises(SetupError, 111) as caught:
            vault.store(_NEW)
        self.assertEqual(28, caught.exception.number)
        self.assertEqual(_OLD, vault.load())

    def test_read_back_differs(self):
        """A store that keeps other bytes than it was given is found out before commit."""

        class Liar(MemoryBlobs):
            def set(self, key, value):
                super().set(key, value[:-1])

        blobs = Liar(_vault(_OLD)[1].content)
        vault = Vault(blobs)
        with raises(SetupError, 111):
            vault.store(_NEW)
        self.assertEqual(1, blobs.power.writes)  # no commit
        self.assertEqual(_OLD, vault.load())


class TestRollback(unittest.TestCase):
    def test_rollback(self):
        """The older record becomes the newest; a second call undoes it."""
        vault, _ = _vault(_OLD, _NEW)
        self.assertEqual(_OLD, vault.rollback())
        self.assertEqual(_OLD, vault.load())
        self.assertEqual(_NEW, vault.rollback())
        self.assertEqual(_NEW, vault.load())

    def test_an_older_record_that_does_not_fit(self):
        """The caller may refuse the older record: then nothing changes and nothing is written."""
        vault, blobs = _vault(_OLD, _NEW)
        writes = blobs.power.writes
        self.assertIsNone(vault.rollback(lambda record: record != _OLD))
        self.assertEqual((_NEW, writes), (vault.load(), blobs.power.writes))
        self.assertEqual(_OLD, vault.rollback(lambda record: record == _OLD))

    def test_nothing_older(self):
        """Without a whole older record nothing changes: the only good one is kept."""
        self.assertIsNone(_vault()[0].rollback())
        vault, blobs = _vault(_OLD)
        self.assertIsNone(vault.rollback())
        self.assertEqual(_OLD, vault.load())
        blobs.content["cred_b"] = b"torn"
        self.assertIsNone(vault.rollback())
        self.assertEqual(_OLD, vault.load())


class TestPowerCut(unittest.TestCase):
    def sweep(self, before, act, allowed):
        # Cut at every write of `act`, whole and torn; then load must give one of `allowed`.
        cuts = 0
        for torn in (False, True):
            n = 0
            while True:
                n += 1
                content = dict(before)
                try:
                    act(Vault(MemoryBlobs(content, Power(n, torn))))
                    break  # no cut: act has fewer writes than n
                except PowerCut:
                    cuts += 1
                with self.subTest("write %d, torn %s" % (n, torn)):
                    self.assertIn(Vault(MemoryBlobs(content)).load(), allowed)
        self.assertTrue(cuts >= 4)  # set and commit, whole and torn

    def test_while_storing(self):
        """At every cut the old record or the new one is there, whole."""
        before = _vault(_OLD, _NEW)[1].content
        self.sweep(before, lambda vault: vault.store(_THIRD), (_NEW, _THIRD))

    def test_while_storing_the_second(self):
        """The same when only one slot was ever used."""
        before = _vault(_OLD)[1].content
        self.sweep(before, lambda vault: vault.store(_NEW), (_OLD, _NEW))

    def test_while_rolling_back(self):
        """A cut while rolling back loses neither credential's last whole copy."""
        before = _vault(_OLD, _NEW)[1].content
        self.sweep(before, lambda vault: vault.rollback(), (_OLD, _NEW))

    def test_while_storing_the_first(self):
        """Torn at the very first, nothing was ever held: damaged, and the next store heals it."""
        content = {}
        with self.assertRaises(PowerCut):
            Vault(MemoryBlobs(content, Power(1, torn=True))).store(_OLD)
        vault = Vault(MemoryBlobs(content))
        with raises(SetupError, 110):
            vault.load()
        vault.store(_OLD)
        self.assertEqual(_OLD, vault.load())
