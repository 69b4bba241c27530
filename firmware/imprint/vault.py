"""The credential that the cloud issued, kept so that it is never lost. Pure over a store.

Two slots, each a whole record with a number that grows and a digest. A new record goes to the
slot that does not hold the newest: write, read back, compare, commit. So the last good record
stands until the new one is proven, wherever the power fails.

    slot = b"IMP1"  number:u32 big-endian  JSON  SHA-256 of all before

The store: get(key) -> bytes or None, set(key, bytes), erase(key), commit(); OSError when it can
not. Each may be torn by a power cut; what is torn does not match its digest.
"""

import hashlib
import struct

from micropython import const

from imprint import canonical
from imprint.errors import SetupError

_KEYS = ("cred_a", "cred_b")
_MAGIC = b"IMP1"
_HEAD = const(8)  # bytes: magic and number
_DIGEST = const(32)  # bytes
_RECORD_MAX = const(2048)  # bytes of JSON; a credential is below 500

# errors.py
_VAULT_DAMAGED = const(110)
_VAULT_WRITE_FAILED = const(111)


class Vault:
    """Two slots in `store`, under two keys; nothing is kept in memory, so nothing can disagree
    with it."""

    def __init__(self, store, keys=_KEYS) -> None:
        self._store = store
        self._keys = keys

    def load(self) -> dict | None:
        """The newest whole record; None when nothing was ever stored.

        A newest slot that is damaged gives way to the older. SetupError when slots hold
        something but none is whole: what was issued is gone, which "never issued" is not.
        """
        slots = self._slots()
        if not slots:
            for key in self._keys:
                if self._store.get(key) is not None:
                    raise SetupError(_VAULT_DAMAGED)
            return None
        return slots[-1][2]

    def store(self, record: dict) -> None:
        """Make `record` the newest. An equal one that is the newest already writes nothing.

        SetupError: the store refused it or gave back other bytes; the record that was the
        newest still is.
        """
        slots = self._slots()
        if not slots:
            self._write(self._keys[0], 1, record)
        elif slots[-1][2] != record:
            number, key, _ = slots[-1]
            self._write(self._other(key), number + 1, record)

    def rollback(self, fits=None) -> dict | None:
        """Make the older record the newest again and return it; None when there is no older.

        `fits(record) -> bool` may refuse it: what was issued to an earlier identity of this board
        is older, too, and would only make the unit register anew.
        The two change places, so a second call undoes the first. A power cut in it can cost the
        older one, never the newest.
        """
        slots = self._slots()
        if len(slots) < len(self._keys):
            return None
        _, key, record = slots[0]
        if fits and not fits(record):
            return None
        self._write(key, slots[1][0] + 1, record)
        return record

    def _slots(self) -> list:
        # The whole ones as (number, key, record), the newest last.
        found = []
        for key in self._keys:
            slot = _unpack(self._store.get(key))
            if slot:
                found.append((slot[0], key, slot[1]))
        found.sort(key=_by_number)
        return found

    def _other(self, key: str) -> str:
        return self._keys[1] if key == self._keys[0] else self._keys[0]

    def _write(self, key: str, number: int, record: dict) -> None:
        body = _MAGIC + struct.pack(">I", number) + canonical.dumps(record)
        slot = body + hashlib.sha256(body).digest()
        try:
            self._store.set(key, slot)
            whole = self._store.get(key) == slot
            if whole:
                self._store.commit()
        except OSError as error:
            raise SetupError(_VAULT_WRITE_FAILED, "the store refused it", error.errno)
        if not whole:
            raise SetupError(_VAULT_WRITE_FAILED, "read back otherwise than written")


def _by_number(slot: tuple) -> int:
    return slot[0]


def _unpack(slot: bytes | None) -> tuple | None:
    # (number, record) of a whole slot, else None.
    if not slot or slot[: len(_MAGIC)] != _MAGIC:
        return None
    body = slot[:-_DIGEST]
    if hashlib.sha256(body).digest() != slot[-_DIGEST:]:
        return None
    try:
        return struct.unpack(">I", slot[4:_HEAD])[0], canonical.loads(body[_HEAD:], _RECORD_MAX)
    except ValueError:  # a digest that fits a body that is none: not written by us
        return None
