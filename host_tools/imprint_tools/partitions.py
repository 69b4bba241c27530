"""ESP-IDF partition tables: 32-byte entries at 0x8000, closed by an MD5 entry.

Source: ESP-IDF API guide "Partition Tables" and `gen_esp32part.py` (entry layout
`<2sBBLL16sL`, magic AA 50, MD5 magic EB EB followed by FFs and the digest).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imprint_tools.errors import BoardFileError

TABLE_OFFSET = 0x8000
TABLE_SIZE = 0x1000
SECTOR = 0x1000
ENTRIES_MAX = 95  # 0xC00 bytes of 32, less the MD5's (the bootloader's own limit)

APP, DATA = 0, 1
SUBTYPES = {
    APP: {"factory": 0x00, "ota_0": 0x10, "ota_1": 0x11},
    DATA: {"ota": 0x00, "phy": 0x01, "nvs": 0x02, "fat": 0x81, "spiffs": 0x82, "littlefs": 0x83},
}

_ENTRY = struct.Struct("<2sBBLL16sL")
_MAGIC = b"\xaa\x50"
_MD5_MAGIC = b"\xeb\xeb" + b"\xff" * 14


@dataclass(frozen=True)
class Partition:
    """One entry: `offset` and `size` in bytes of flash, `kind` APP or DATA."""

    label: str
    kind: int
    subtype: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


def parse(table: bytes) -> list[Partition]:
    """Read a table as the bootloader does. Raises BoardFileError when it is not one."""
    found: list[Partition] = []
    for at in range(0, min(len(table), TABLE_SIZE) - _ENTRY.size + 1, _ENTRY.size):
        entry = table[at : at + _ENTRY.size]
        if entry == b"\xff" * _ENTRY.size:
            return found
        if entry.startswith(_MD5_MAGIC):
            if entry[16:] != hashlib.md5(table[:at], usedforsecurity=False).digest():
                raise BoardFileError("the partition table's MD5 does not match its entries")
            return found
        magic, kind, subtype, offset, size, label, _flags = _ENTRY.unpack(entry)
        if magic != _MAGIC:
            raise BoardFileError(f"no partition table entry at byte {at} (magic {magic.hex()})")
        name = label.split(b"\0", 1)[0].decode("ascii", "replace")
        found.append(Partition(name, kind, subtype, offset, size))
    raise BoardFileError("the partition table has no end")


def build(partitions: Sequence[Partition]) -> bytes:
    """The table's bytes, one sector, with its MD5 entry."""
    body = b"".join(
        _ENTRY.pack(_MAGIC, p.kind, p.subtype, p.offset, p.size, p.label.encode("ascii"), 0)
        for p in partitions
    )
    body += _MD5_MAGIC + hashlib.md5(body, usedforsecurity=False).digest()
    return body.ljust(TABLE_SIZE, b"\xff")


def check(partitions: Iterable[Partition], flash_size: int) -> None:
    """Raise BoardFileError for an overlap, a bad alignment or a place outside the flash.

    Also for a bad label, one that stands twice, and more entries than a table holds.
    """
    end, previous = TABLE_OFFSET + TABLE_SIZE, "the partition table"
    labels: set[str] = set()
    for part in sorted(partitions, key=lambda p: p.offset):
        aligned = 0x10000 if part.kind == APP else SECTOR
        if not 1 <= len(part.label) <= 15 or not part.label.isascii():
            raise BoardFileError(f"partition label {part.label!r} is not 1 to 15 ASCII characters")
        if part.label in labels:
            raise BoardFileError(f"two partitions have the label {part.label!r}")
        labels.add(part.label)
        if part.offset % aligned or part.size <= 0 or part.size % SECTOR:
            raise BoardFileError(
                f"partition {part.label}: offset {part.offset:#x} must be a multiple of "
                f"{aligned:#x} and size {part.size:#x} a positive multiple of {SECTOR:#x}"
            )
        if part.offset < end:
            raise BoardFileError(
                f"partition {part.label} at {part.offset:#x} overlaps {previous}, "
                f"which ends at {end:#x}"
            )
        if part.end > flash_size:
            raise BoardFileError(
                f"partition {part.label} ends at {part.end:#x}, beyond the flash ({flash_size:#x})"
            )
        end, previous = part.end, part.label
    if len(labels) > ENTRIES_MAX:
        raise BoardFileError(f"{len(labels)} partitions; a table holds {ENTRIES_MAX}")


def find(partitions: Iterable[Partition], label: str) -> Partition | None:
    """The partition of that label, or None."""
    return next((p for p in partitions if p.label == label), None)


def vfs(partitions: Sequence[Partition], flash_size: int) -> Partition | None:
    """The file system's place as MicroPython finds it.

    A partition labelled `vfs` or `ffat`; where the table names none, MicroPython registers one
    from the end of the last partition to the end of the flash (ports/esp32/main.c).
    """
    named = find(partitions, "vfs") or find(partitions, "ffat")
    if named is not None:
        return named
    start = max((p.end for p in partitions), default=flash_size)
    if start >= flash_size:
        return None
    return Partition("vfs", DATA, SUBTYPES[DATA]["fat"], start, flash_size - start)
