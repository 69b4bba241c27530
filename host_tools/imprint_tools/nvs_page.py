"""One page of an NVS partition: its bytes, its slots, and its repair after a power cut.

A page is one flash sector: a 32-byte header (state, sequence number, version, CRC), a bitmap of
two bits a slot, and 126 slots of 32 bytes. An item takes one slot, and a string, a blob's chunk
or a legacy blob the slots after it for its data. Bits only go from 1 to 0 until the sector is
erased, so every change of state below is a write that clears bits.

This module knows one page and no names; `nvs.py` makes a store of several.

Source: ESP-IDF programming guide, "Non-Volatile Storage Library", Internals; the behaviour of
`nvs_page.cpp`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

PAGE_SIZE = 4096
SLOT_SIZE = 32
SLOTS = 126
CHUNK_MAX = (SLOTS - 1) * SLOT_SIZE  # the most that fits behind one header in one page
CHUNK_ANY = 0xFF  # the chunk number of whatever is not a chunk

_BITMAP_OFFSET = 32
_SLOTS_OFFSET = 64
_VERSION = 0xFE  # blobs may span pages; 0xFF is the version before, which is read as well
_ITEM = struct.Struct("<BBBBI16s8s")
_SIZED = struct.Struct("<HHI")  # the data field of an item with slots behind it
_EMPTY, _WRITTEN, _ERASED = 0b11, 0b10, 0b00  # a slot's two bits; 0b01 holds nothing either
_BLANK_SLOT = b"\xff" * SLOT_SIZE


class NorRegion(Protocol):
    """A stretch of NOR flash, offsets from its own start."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """The bytes as they stand."""

    def write(self, offset: int, data: bytes) -> None:
        """Clear bits: what stands there afterwards is the old bytes AND `data`."""

    def erase(self, offset: int, length: int) -> None:
        """Set whole sectors of 4096 bytes to 0xFF."""


class BytesRegion:
    """A NorRegion in memory, for images that are built or inspected on the host."""

    def __init__(self, data: bytes | bytearray | int) -> None:
        """Take a copy of an image, or be that many bytes of blank flash."""
        self._data = bytearray(b"\xff" * data if isinstance(data, int) else data)
        self.size = len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        for at, byte in enumerate(data, offset):
            self._data[at] &= byte

    def erase(self, offset: int, length: int) -> None:
        self._data[offset : offset + length] = b"\xff" * length

    def image(self) -> bytes:
        """The whole region's bytes."""
        return bytes(self._data)


class PageState(IntEnum):
    """A page's life, each state a subset of the bits of the one before."""

    BLANK = 0xFFFFFFFF
    ACTIVE = 0xFFFFFFFE
    FULL = 0xFFFFFFFC
    FREEING = 0xFFFFFFF8
    CORRUPT = 0  # ours alone, never written: neither blank nor a sound header


class ItemType(IntEnum):
    """The type byte of an item."""

    U8 = 0x01
    U16 = 0x02
    U32 = 0x04
    U64 = 0x08
    I8 = 0x11
    I16 = 0x12
    I32 = 0x14
    I64 = 0x18
    STRING = 0x21
    BLOB = 0x41  # of version 0xFF: one page, no index. Read, never written
    BLOB_DATA = 0x42
    BLOB_INDEX = 0x48


_SIZED_TYPES = frozenset((ItemType.STRING, ItemType.BLOB, ItemType.BLOB_DATA))


@dataclass(frozen=True)
class Item:
    """The 32 bytes that head a value. `field` is the value itself, or what describes it."""

    namespace: int
    kind: int
    key: bytes
    field: bytes
    span: int = 1
    chunk: int = CHUNK_ANY

    @classmethod
    def sized(
        cls, namespace: int, kind: ItemType, key: bytes, data: bytes, chunk: int = CHUNK_ANY
    ) -> Item:
        """The head of an item whose `data` lies in the slots behind it."""
        field = _SIZED.pack(len(data), 0xFFFF, crc32(data))
        return cls(namespace, kind, key, field, slots_for(len(data)), chunk)

    @classmethod
    def unpack(cls, raw: bytes) -> Item | None:
        """The item in a slot, or None if its CRC or its span says that there is none."""
        namespace, kind, span, chunk, crc, key, field = _ITEM.unpack(raw)
        if crc != crc32(raw[:4] + raw[8:]):
            return None
        item = cls(namespace, kind, key.split(b"\0", 1)[0], field, span, chunk)
        return item if span == slots_for(item.size) else None

    def pack(self) -> bytes:
        """The slot's bytes."""
        raw = _ITEM.pack(self.namespace, self.kind, self.span, self.chunk, 0, self.key, self.field)
        return raw[:4] + struct.pack("<I", crc32(raw[:4] + raw[8:])) + raw[8:]

    @property
    def size(self) -> int:
        """Bytes of data in the slots behind the head."""
        length: int = _SIZED.unpack(self.field)[0]
        return length if self.kind in _SIZED_TYPES else 0

    def accepts(self, data: bytes) -> bool:
        """Whether `data` is what this head was written for."""
        return self.kind not in _SIZED_TYPES or _SIZED.unpack(self.field)[2] == crc32(data)


class Page:
    """One page of a region, mirrored in memory. Mounting it may write: see `repair`.

    `items` maps the first slot of each whole item to its head. After an exception from the region
    (the power was cut) the mirror is stale and the object must be dropped.
    """

    def __init__(self, region: NorRegion, number: int) -> None:
        self._region = region
        self._base = number * PAGE_SIZE
        self.state = PageState.BLANK
        self.sequence = 0
        self.version = _VERSION
        self.items: dict[int, Item] = {}
        self.next_free = 0  # the first slot that can still be written
        self._slots = [_EMPTY] * SLOTS
        self._read()

    # -- looking

    @property
    def is_free(self) -> bool:
        """Whether the page holds nothing and may be started (after an erase if corrupt)."""
        return self.state in (PageState.BLANK, PageState.CORRUPT)

    @property
    def room(self) -> int:
        """Slots that can still be written here."""
        return SLOTS - self.next_free if self.state == PageState.ACTIVE else 0

    @property
    def used(self) -> int:
        """Slots that hold whole items."""
        return sum(item.span for item in self.items.values())

    def data(self, slot: int) -> bytes:
        """The data behind the item at `slot`, sound or not."""
        return self._region.read(self._slot_offset(slot + 1), self.items[slot].size)

    def is_sound(self, slot: int) -> bool:
        """Whether the data behind the item at `slot` is what was written there."""
        return self.items[slot].accepts(self.data(slot))

    def holds(self, other: Page) -> bool:
        """Whether every sound item of `other` stands here too, byte for byte."""
        mine = {self._raw(slot, item.span) for slot, item in self.items.items()}
        return all(
            other._raw(slot, item.span) in mine
            for slot, item in other.items.items()
            if other.is_sound(slot)
        )

    # -- changing; each line that calls the region is one flash operation

    def start(self, sequence: int) -> None:
        """Turn a free page into the active one."""
        if self.state == PageState.CORRUPT:
            self.erase()
        header = struct.pack("<IIB", PageState.ACTIVE, sequence, _VERSION).ljust(28, b"\xff")
        self._region.write(self._base, header + struct.pack("<I", crc32(header[4:])))
        self.state, self.sequence = PageState.ACTIVE, sequence

    def mark(self, state: PageState) -> None:
        """Move on in the page's life: FULL, then FREEING."""
        self._region.write(self._base, struct.pack("<I", state))
        self.state = state

    def erase(self) -> None:
        """Make the page blank."""
        self._region.erase(self._base, PAGE_SIZE)
        self.state = PageState.BLANK
        self.items = {}
        self.next_free = 0
        self._slots = [_EMPTY] * SLOTS

    def append(self, item: Item, data: bytes = b"") -> int:
        """Write an item and its data; the caller has looked at `room`. Returns its slot.

        The head is declared written before its data: a cut in between leaves a span that is not
        whole, which the next mount erases.
        """
        slot = self.next_free
        self._write_slot(slot, item.pack())
        self._set_states(slot, slot + 1, _WRITTEN)
        for number in range(1, item.span):
            piece = data[(number - 1) * SLOT_SIZE : number * SLOT_SIZE]
            self._write_slot(slot + number, piece.ljust(SLOT_SIZE, b"\xff"))
        self._set_states(slot + 1, slot + item.span, _WRITTEN)
        self.next_free = slot + item.span
        self.items[slot] = item
        return slot

    def drop(self, slot: int) -> None:
        """Erase an item. Its head goes last, so that a cut never leaves data without a head."""
        end = slot + self.items[slot].span
        self._set_states(slot + 1, end, _ERASED)
        self._set_states(slot, slot + 1, _ERASED)
        del self.items[slot]

    def copy_to(self, other: Page) -> None:
        """Append every item to another page, which has room for them."""
        for slot, item in sorted(self.items.items()):
            other.append(item, self._raw(slot + 1, item.span - 1))

    def repair(self) -> None:
        """Erase what a power cut left half done: slots begun but not declared, broken spans."""
        for slot in range(self.next_free):
            if self._slots[slot] == _EMPTY and self.state == PageState.ACTIVE:
                self._set_states(slot, slot + 1, _ERASED)
        covered = {s for slot, item in self.items.items() for s in range(slot, slot + item.span)}
        # From the end: a broken item's head goes after its data.
        for slot in reversed(range(SLOTS)):
            if self._slots[slot] == _WRITTEN and slot not in covered:
                self._set_states(slot, slot + 1, _ERASED)

    # -- within

    def _read(self) -> None:
        raw = self._region.read(self._base, PAGE_SIZE)
        state, self.sequence, self.version = struct.unpack_from("<IIB", raw)
        (crc,) = struct.unpack_from("<I", raw, 28)
        if raw.count(0xFF) == PAGE_SIZE:
            return
        if crc != crc32(raw[4:28]) or state not in (
            PageState.ACTIVE,
            PageState.FULL,
            PageState.FREEING,
        ):
            self.state = PageState.CORRUPT
            return
        self.state = PageState(state)
        bitmap = int.from_bytes(raw[_BITMAP_OFFSET:_SLOTS_OFFSET], "little")
        self._slots = [bitmap >> (2 * slot) & 3 for slot in range(SLOTS)]
        slots = [raw[at : at + SLOT_SIZE] for at in range(_SLOTS_OFFSET, PAGE_SIZE, SLOT_SIZE)]
        self.next_free = 1 + max(
            (
                slot
                for slot in range(SLOTS)
                if self._slots[slot] != _EMPTY or slots[slot] != _BLANK_SLOT
            ),
            default=-1,
        )
        self.items = dict(self._whole_items(slots))

    def _whole_items(self, slots: list[bytes]) -> Iterator[tuple[int, Item]]:
        slot = 0
        while slot < SLOTS:
            item = Item.unpack(slots[slot]) if self._slots[slot] == _WRITTEN else None
            if item is None:
                slot += 1
                continue
            # A broken span is stepped over whole: its data must not be taken for items.
            states = self._slots[slot : slot + item.span]
            if len(states) == item.span and set(states) == {_WRITTEN}:
                yield slot, item
            slot += item.span

    def _slot_offset(self, slot: int) -> int:
        return self._base + _SLOTS_OFFSET + slot * SLOT_SIZE

    def _raw(self, slot: int, count: int) -> bytes:
        return self._region.read(self._slot_offset(slot), count * SLOT_SIZE)

    def _write_slot(self, slot: int, data: bytes) -> None:
        self._region.write(self._slot_offset(slot), data)

    def _set_states(self, begin: int, end: int, state: int) -> None:
        """Set the states of a run of slots, one 32-bit word of the bitmap a write, last first."""
        if begin == end:
            return
        for word in reversed(range(begin // 16, (end + 15) // 16)):
            first = word * 16
            for slot in range(max(first, begin), min(first + 16, end)):
                self._slots[slot] = state
            value = 0xFFFFFFFF
            for slot in range(first, min(first + 16, SLOTS)):
                value &= ~((~self._slots[slot] & 3) << (2 * (slot - first)))
            self._region.write(self._base + _BITMAP_OFFSET + word * 4, struct.pack("<I", value))


def crc32(data: bytes) -> int:
    """The CRC-32 of the ESP32's ROM, started with all ones."""
    return zlib.crc32(data, 0xFFFFFFFF)


def slots_for(size: int) -> int:
    """Slots that an item with `size` bytes of data takes, its head included."""
    return 1 + (size + SLOT_SIZE - 1) // SLOT_SIZE
