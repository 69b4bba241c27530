"""ESP-IDF's NVS: typed values under (namespace, key), on NOR flash, safe against power cuts.

The format and the rules are those of ESP-IDF's `nvs_flash` (format version 2), so that a board
reads what this writes and the other way round: what the factory burns, what the virtual board's
`esp32.NVS` keeps, and what `imprint verify` reads back all pass through here.

How a value survives a power cut:
  * a new value is written whole before the old one is erased; at the next mount the later of two
    is the value, and the earlier one goes;
  * a blob's chunks carry version 0 or 1, the other one than the old blob's; its index, written
    last, is what makes them a blob. Chunks without an index are erased at the next mount;
  * one page is always kept free. When space runs out, the page with most to gain is marked
    FREEING, copied to the free page and erased; a mount that finds a FREEING page finishes that.

Where this differs from ESP-IDF, on purpose:
  * a key holds one value whatever its type (as ESP-IDF has it since 5.5), also at mount;
  * "does not fit" is found out before anything is written;
  * copying a FREEING page is not begun again when the copy is already whole.
Not supported: encryption (MicroPython's builds do not use it).

Source: ESP-IDF programming guide, "Non-Volatile Storage Library"; `nvs_storage.cpp` and
`nvs_pagemanager.cpp` for the rules, `nvs.h` for the error numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from imprint_tools.nvs_page import (
    CHUNK_ANY,
    CHUNK_MAX,
    PAGE_SIZE,
    SLOT_SIZE,
    SLOTS,
    BytesRegion,
    Item,
    ItemType,
    NorRegion,
    Page,
    PageState,
    slots_for,
)

__all__ = [
    "BytesRegion", "Entry", "NorRegion", "NvsBadName", "NvsError", "NvsFull", "NvsNewVersion",
    "NvsNoFreePages", "NvsNotFound", "NvsPartition", "NvsValueTooLong", "format",
]  # fmt: skip

NAME_MAX = 15  # bytes of a namespace's name or of a key

_INTEGERS: Final = {
    "u8": (ItemType.U8, "<B"), "i8": (ItemType.I8, "<b"),
    "u16": (ItemType.U16, "<H"), "i16": (ItemType.I16, "<h"),
    "u32": (ItemType.U32, "<I"), "i32": (ItemType.I32, "<i"),
    "u64": (ItemType.U64, "<Q"), "i64": (ItemType.I64, "<q"),
}  # fmt: skip
_NAMES: Final = {kind: (name, code) for name, (kind, code) in _INTEGERS.items()}
_INDEX = struct.Struct("<IBB2x")  # a blob's size, its number of chunks, its first chunk's number
_VERSION_STARTS = (0x00, 0x80)
_CHUNKS_MAX = 0x7F  # chunk numbers a version has; 0xFF means "not a chunk"
_WORTH_A_CHUNK = CHUNK_MAX // 10  # a blob that must be split does not begin in less room
_NAMESPACES = 0  # the namespace whose keys are the names of namespaces

_Id = tuple[int, bytes, int]  # namespace, key, chunk (CHUNK_ANY for what is not a chunk)


class NvsError(Exception):
    """What ESP-IDF reports as an `esp_err_t`."""

    esp_err = 0x1100


class NvsNotFound(NvsError):
    """No value of that type under that namespace and key."""

    esp_err = 0x1102


class NvsFull(NvsError):
    """The value does not fit; nothing was changed."""

    esp_err = 0x1105


class NvsBadName(NvsError):
    """A namespace or key is empty, longer than 15 bytes, or holds a NUL."""

    esp_err = 0x1109


class NvsNoFreePages(NvsError):
    """No page is free, which a sound partition never shows. Boards erase it and start afresh."""

    esp_err = 0x110D


class NvsValueTooLong(NvsError):
    """A string or blob longer than the partition could ever hold."""

    esp_err = 0x110E


class NvsNewVersion(NvsError):
    """The partition was written by a later format than this one."""

    esp_err = 0x1110


@dataclass(frozen=True)
class Entry:
    """One value. `kind` is `u8` ... `i64`, `string` or `blob`; the value may be a secret."""

    namespace: str
    key: str
    kind: str
    value: int | str | bytes = field(repr=False)


def format(region: NorRegion) -> None:
    """Erase the whole partition."""
    region.erase(0, region.size)


class NvsPartition:
    """A mounted partition. Every change is on flash when the call returns (commit does nothing).

    Mounting repairs what a power cut left. After an exception from the region the object is
    stale: drop it and mount again.
    """

    def __init__(self, region: NorRegion) -> None:
        """Raises NvsNoFreePages or NvsNewVersion, as `nvs_flash_init` does."""
        if region.size <= 0 or region.size % PAGE_SIZE:
            raise ValueError(f"an NVS partition is whole pages of {PAGE_SIZE} bytes")
        self._region = region
        pages = [Page(region, number) for number in range(region.size // PAGE_SIZE)]
        self._free = [page for page in pages if page.is_free]
        self._used = sorted((p for p in pages if not p.is_free), key=lambda p: p.sequence)
        if any(page.version < 0xFE for page in self._used):
            raise NvsNewVersion("the NVS partition was written by a later version of ESP-IDF")
        self._sequence = self._used[-1].sequence + 1 if self._used else 0
        self._places: dict[_Id, tuple[Page, int]] = {}
        self._mount()

    # -- values

    def get_int(self, namespace: str, key: str, kind: str) -> int:
        """An integer of `kind` (`u8` ... `i64`). Raises NvsNotFound."""
        number, code = _INTEGERS[kind]
        name = self._typed(namespace, key, number)
        value: int = struct.unpack_from(code, self._head(name).field)[0]
        return value

    def set_int(self, namespace: str, key: str, kind: str, value: int) -> None:
        """Store an integer. Raises NvsFull, NvsBadName; ValueError if it is out of range."""
        number, code = _INTEGERS[kind]
        try:
            packed = struct.pack(code, value)
        except struct.error:
            raise ValueError(f"{value} does not fit {kind}") from None
        self._set(namespace, key, number, packed.ljust(8, b"\xff"))

    def get_i32(self, namespace: str, key: str) -> int:
        """As `nvs_get_i32`. Raises NvsNotFound."""
        return self.get_int(namespace, key, "i32")

    def set_i32(self, namespace: str, key: str, value: int) -> None:
        """As `nvs_set_i32`. Raises NvsFull, NvsBadName."""
        self.set_int(namespace, key, "i32", value)

    def get_blob(self, namespace: str, key: str) -> bytes:
        """As `nvs_get_blob`. Raises NvsNotFound, also when a stored CRC denies the data."""
        return self._sound(self._typed(namespace, key, ItemType.BLOB_INDEX, ItemType.BLOB))

    def set_blob(self, namespace: str, key: str, value: bytes) -> None:
        """As `nvs_set_blob`. Raises NvsFull, NvsBadName, NvsValueTooLong."""
        if len(value) > min(self._page_count - 1, _CHUNKS_MAX) * CHUNK_MAX:
            raise NvsValueTooLong(f"a blob of {len(value)} bytes")
        self._set(namespace, key, ItemType.BLOB_INDEX, bytes(value))

    def get_str(self, namespace: str, key: str) -> str:
        """As `nvs_get_str`. Raises NvsNotFound, also when a stored CRC denies the data."""
        return _text(self._sound(self._typed(namespace, key, ItemType.STRING)))

    def set_str(self, namespace: str, key: str, value: str) -> None:
        """As `nvs_set_str`. Raises NvsFull, NvsBadName, NvsValueTooLong."""
        raw = value.encode() + b"\0"
        if len(raw) > CHUNK_MAX:
            raise NvsValueTooLong(f"a string of {len(raw)} bytes with its NUL")
        self._set(namespace, key, ItemType.STRING, raw)

    def erase_key(self, namespace: str, key: str) -> None:
        """As `nvs_erase_key`, whatever the type. Raises NvsNotFound."""
        name = self._typed(namespace, key)
        chunks = self._chunks(name)
        self._drop(name)
        for chunk in chunks:
            self._drop(chunk)

    def create_namespace(self, namespace: str) -> None:
        """Make sure that a namespace exists, as opening it for writing does. Raises NvsFull."""
        if _name(namespace) not in self._namespaces():
            self._rehearse_if_tight(1, lambda twin: twin._create(namespace))
            self._create(namespace)

    def entries(self) -> list[Entry]:
        """Every value, sorted by namespace and key. A damaged one is left out."""
        spaces = {number: _text(raw) for raw, number in self._namespaces().items()}
        found = []
        for name in self._places:
            number, key, chunk = name
            value = self._value(name) if chunk == CHUNK_ANY and number in spaces else None
            if value is None:
                continue
            kind = self._head(name).kind
            if kind in _NAMES:
                title, code = _NAMES[ItemType(kind)]
                shown: int | str | bytes = struct.unpack_from(code, value)[0]
            elif kind == ItemType.STRING:
                title, shown = "string", _text(value)
            else:
                title, shown = "blob", value
            found.append(Entry(spaces[number], _text(key), title, shown))
        return sorted(found, key=lambda entry: (entry.namespace, entry.key))

    # -- reading

    def _typed(self, namespace: str, key: str, *kinds: ItemType) -> _Id:
        """The name of a value that is there and of one of `kinds` (none given: any)."""
        number = self._namespaces().get(_name(namespace))
        name = (number or 0, _name(key), CHUNK_ANY)
        if number is None or name not in self._places:
            raise NvsNotFound(f"nothing under {namespace}/{key}")
        if kinds and self._head(name).kind not in kinds:
            raise NvsNotFound(f"{namespace}/{key} is of another type")
        return name

    def _sound(self, name: _Id) -> bytes:
        value = self._value(name)
        if value is None:
            raise NvsNotFound(f"the value under {_text(name[1])} is damaged")
        return value

    def _head(self, name: _Id) -> Item:
        page, slot = self._places[name]
        return page.items[slot]

    def _value(self, name: _Id) -> bytes | None:
        """The bytes under a name as `_set` was given them; None if a CRC denies them."""
        page, slot = self._places[name]
        kind = page.items[slot].kind
        if kind in _NAMES:
            return page.items[slot].field
        if kind != ItemType.BLOB_INDEX:
            return page.data(slot) if page.is_sound(slot) else None
        parts = [self._value(chunk) for chunk in self._chunks(name)]
        return None if None in parts else b"".join(filter(None, parts))

    def _chunks(self, name: _Id) -> list[_Id]:
        """The names of a blob's chunks in order; none for what is not an indexed blob."""
        head = self._head(name)
        if head.kind != ItemType.BLOB_INDEX:
            return []
        _size, count, start = _INDEX.unpack(head.field)
        return [(name[0], name[1], start + number) for number in range(count)]

    def _namespaces(self) -> dict[bytes, int]:
        """Each namespace's number."""
        return {
            name[1]: self._head(name).field[0] for name in self._places if name[0] == _NAMESPACES
        }

    # -- writing

    def _set(self, namespace: str, key: str, kind: ItemType, value: bytes) -> None:
        """Store `value`: an integer's field, a string with its NUL, or a blob's bytes."""
        try:
            if self._value(self._typed(namespace, key, kind)) == value:
                return
        except NvsNotFound:
            pass
        # A namespace's entry, the value with its head, a blob's index.
        slots = 2 + (1 if kind in _NAMES else slots_for(len(value)))
        self._rehearse_if_tight(slots, lambda twin: twin._store(namespace, key, kind, value))
        self._store(namespace, key, kind, value)

    def _rehearse_if_tight(self, slots: int, change: Callable[[NvsPartition], object]) -> None:
        """Find out whether a change fits by making it on a copy in memory first."""
        if slots > self._room:
            change(NvsPartition(BytesRegion(self._region.read(0, self._region.size))))

    def _store(self, namespace: str, key: str, kind: ItemType, value: bytes) -> None:
        number = self._create(namespace)
        name = (number, _name(key), CHUNK_ANY)
        old_chunks = self._chunks(name) if name in self._places else []
        if kind == ItemType.BLOB_INDEX:
            old_start = old_chunks[0][2] if old_chunks else _VERSION_STARTS[1]
            start = _VERSION_STARTS[1] if old_start == _VERSION_STARTS[0] else _VERSION_STARTS[0]
            self._store_blob(name, value, start)
        elif kind == ItemType.STRING:
            self._append(Item.sized(number, kind, name[1], value), value)
        else:
            self._append(Item(number, kind, name[1], value))
        for chunk in old_chunks:
            self._drop(chunk)

    def _store_blob(self, name: _Id, value: bytes, start: int) -> None:
        number, key, _ = name
        if self._chunk_room < min(len(value), _WORTH_A_CHUNK):
            self._next_page()
        count, written = 0, 0
        while count == 0 or written < len(value):
            if self._room < 2:  # a head and data; an empty blob's index needs the second one
                self._next_page()
            if self._room < 2 or count == _CHUNKS_MAX:
                raise NvsFull(f"no room for a blob of {len(value)} bytes")
            part = value[written : written + self._chunk_room]
            self._append(Item.sized(number, ItemType.BLOB_DATA, key, part, start + count), part)
            count, written = count + 1, written + len(part)
        index = _INDEX.pack(len(value), count, start)[:6] + b"\xff\xff"
        self._append(Item(number, ItemType.BLOB_INDEX, key, index))

    def _create(self, namespace: str) -> int:
        """The number of a namespace, new if need be."""
        numbers = self._namespaces()
        raw = _name(namespace)
        if raw in numbers:
            return numbers[raw]
        taken = set(numbers.values())
        number = next((n for n in range(1, 0xFF) if n not in taken), None)
        if number is None:
            raise NvsFull("254 namespaces are taken")
        value = bytes([number]).ljust(8, b"\xff")
        self._append(Item(_NAMESPACES, ItemType.U8, raw, value))
        return number

    def _append(self, item: Item, data: bytes = b"") -> None:
        """Write an item on the current page or the next; then erase what its name held before."""
        if item.span > self._room:
            self._next_page()
        if item.span > self._room:
            raise NvsFull(f"no room for {item.span * SLOT_SIZE} bytes")
        name = (item.namespace, item.key, item.chunk)
        page = self._used[-1]
        slot = page.append(item, data)
        old = self._places.get(name)
        self._places[name] = (page, slot)
        if old is not None:
            old[0].drop(old[1])

    def _drop(self, name: _Id) -> None:
        page, slot = self._places.pop(name)
        page.drop(slot)

    # -- pages

    @property
    def _page_count(self) -> int:
        return len(self._used) + len(self._free)

    @property
    def _room(self) -> int:
        return self._used[-1].room if self._used else 0

    @property
    def _chunk_room(self) -> int:
        return max(0, self._room - 1) * SLOT_SIZE

    def _next_page(self) -> None:
        """Make a page with room the current one; collect garbage if it were the last free one."""
        if self._used and self._used[-1].state == PageState.ACTIVE:
            self._used[-1].mark(PageState.FULL)
        if len(self._free) >= 2:
            self._start_page()
            return
        victim = min(self._used, key=lambda page: page.used, default=None)
        if victim is None or victim.used == SLOTS:
            raise NvsFull("every page is full")
        victim.mark(PageState.FREEING)
        self._collect(victim)

    def _start_page(self) -> Page:
        if not self._free:
            raise NvsNoFreePages("the NVS partition has no free page")
        page = self._free.pop(0)
        page.start(self._sequence)
        self._sequence += 1
        self._used.append(page)
        return page

    def _collect(self, victim: Page) -> None:
        """Copy a FREEING page's items to a new page and free it."""
        victim.copy_to(self._start_page())
        self._release(victim)

    def _release(self, page: Page) -> None:
        page.erase()
        self._used.remove(page)
        self._free.append(page)
        self._places = {}
        for used in self._used:
            self._index(used)

    # -- mounting

    def _mount(self) -> None:
        self._finish_collection()
        self._places = {}
        for page in self._used:
            page.repair()
            for old_page, slot in self._index(page):
                old_page.drop(slot)
        self._drop_broken_blobs()
        if not self._free:
            raise NvsNoFreePages("the NVS partition has no free page")

    def _finish_collection(self) -> None:
        """Resume where the power was cut while a page was being freed."""
        victim = next((p for p in self._used if p.state == PageState.FREEING), None)
        if victim is None:
            return
        copy = self._used[-1]
        if copy.state == PageState.ACTIVE:
            if copy.holds(victim):
                self._release(victim)
                return
            self._release(copy)
        self._collect(victim)

    def _index(self, page: Page) -> list[tuple[Page, int]]:
        """Enter a page's items, later ones over earlier ones. Returns what was superseded."""
        superseded = []
        for slot, item in page.items.items():
            name = (item.namespace, item.key, item.chunk)
            if name in self._places:
                superseded.append(self._places[name])
            self._places[name] = (page, slot)
        return superseded

    def _drop_broken_blobs(self) -> None:
        """Erase indexes whose chunks are not all there, then chunks that no index names."""
        named: set[_Id] = set()
        for name in [n for n in self._places if self._head(n).kind == ItemType.BLOB_INDEX]:
            size, count, start = _INDEX.unpack(self._head(name).field)
            chunks = self._chunks(name) if start in _VERSION_STARTS else []
            sizes = [self._head(chunk).size for chunk in chunks if chunk in self._places]
            if len(sizes) == count <= _CHUNKS_MAX and sum(sizes) == size:
                named.update(chunks)
            else:
                self._drop(name)
        for name in [n for n in self._places if n[2] != CHUNK_ANY and n not in named]:
            self._drop(name)


def _name(text: str) -> bytes:
    raw = text.encode()
    if not 1 <= len(raw) <= NAME_MAX or b"\0" in raw:
        raise NvsBadName(f"{text!r} is not 1 to {NAME_MAX} bytes without NUL")
    return raw


def _text(raw: bytes) -> str:
    return raw.removesuffix(b"\0").decode("utf-8", "replace")
