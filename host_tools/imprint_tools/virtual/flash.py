"""A NOR flash chip in a file: erase sets sectors to 0xFF, a write only clears bits.

A write is programmed page by page and an erase is done sector by sector; each piece is one
operation, and the unit of a power cut. Nothing is synced to disk: a power cut here ends the
virtual board, not the host.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType

PAGE = 256
SECTOR = 4096


class PowerCut(Exception):
    """The supply went away at a flash operation; none works until `Flash.power_on()`."""


class Flash:
    """The whole chip. `ops` counts the page programs and sector erases since it was opened."""

    def __init__(self, path: Path, size: int) -> None:
        """Open the chip whose content is `path`; bytes that the file lacks are blank.

        Raises ValueError when `size` is not whole sectors or the file is of a bigger chip.
        """
        if size <= 0 or size % SECTOR:
            raise ValueError(f"a flash of {size} bytes is not whole sectors of {SECTOR}")
        have = path.stat().st_size if path.exists() else 0
        if have > size:
            raise ValueError(f"{path} holds {have} bytes, more than a flash of {size}")
        with path.open("ab") as file:
            file.write(b"\xff" * (size - have))
        with path.open("r+b") as file:
            self._cells = mmap.mmap(file.fileno(), size)
        self.path = path
        self.size = size
        self.ops = 0
        self._cut_at: int | None = None
        self._torn = False
        self._powered = True

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset`. Raises ValueError outside the chip."""
        self._check(offset, length)
        return self._cells[offset : offset + length]

    def write(self, offset: int, data: bytes) -> None:
        """Program `data`: each cell becomes old AND new. Raises PowerCut as ordered."""
        self._check(offset, len(data))
        at = 0
        while at < len(data):
            step = min(PAGE - (offset + at) % PAGE, len(data) - at)
            self._operate(offset + at, data[at : at + step], erase=False)
            at += step

    def erase(self, offset: int, length: int) -> None:
        """Set whole sectors to 0xFF. Raises ValueError unless aligned, PowerCut as ordered."""
        self._check(offset, length)
        if offset % SECTOR or length % SECTOR:
            raise ValueError(f"erase of {length} at {offset:#x} is not whole sectors")
        for at in range(offset, offset + length, SECTOR):
            self._operate(at, b"\xff" * SECTOR, erase=True)

    def region(self, offset: int, size: int) -> Region:
        """A window that is addressed from 0, such as a partition."""
        self._check(offset, size)
        return Region(self, offset, size)

    def order_power_cut(self, after: int, torn: bool = False) -> None:
        """Cut the power at the `after`-th operation from now (1 = the next one).

        That operation completes, or is half done when `torn`; then PowerCut is raised.
        """
        if after < 1:
            raise ValueError("a power cut can be ordered for the first operation at the earliest")
        self._cut_at, self._torn = self.ops + after, torn

    def power_off(self) -> None:
        """Take the supply away between two operations."""
        self._powered = False

    def power_on(self) -> None:
        """Bring the supply back. A cut that was ordered and not reached stays ordered."""
        self._powered = True

    def close(self) -> None:
        """Let go of the file."""
        self._cells.close()

    def __enter__(self) -> Flash:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, offset: int, length: int) -> None:
        if not self._powered:
            raise PowerCut("the flash has no power")
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset:#x} are outside the flash")

    def _operate(self, offset: int, data: bytes, *, erase: bool) -> None:
        self.ops += 1
        cut = self.ops == self._cut_at
        if cut and self._torn:
            data = data[: len(data) // 2]
        end = offset + len(data)
        old = self._cells[offset:end]
        self._cells[offset:end] = data if erase else _and(old, data)
        if cut:
            self._cut_at = None
            self._powered = False
            raise PowerCut(f"the power was cut at flash operation {self.ops}")


class Region:
    """Part of a flash chip, addressed from 0 to `size`; otherwise as `Flash`."""

    def __init__(self, flash: Flash, offset: int, size: int) -> None:
        self._flash = flash
        self._offset = offset
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        return self._flash.read(self._at(offset, length), length)

    def write(self, offset: int, data: bytes) -> None:
        self._flash.write(self._at(offset, len(data)), data)

    def erase(self, offset: int, length: int) -> None:
        self._flash.erase(self._at(offset, length), length)

    def _at(self, offset: int, length: int) -> int:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset:#x} are outside the region")
        return self._offset + offset


def _and(old: bytes, new: bytes) -> bytes:
    both = int.from_bytes(old, "little") & int.from_bytes(new, "little")
    return both.to_bytes(len(old), "little")
