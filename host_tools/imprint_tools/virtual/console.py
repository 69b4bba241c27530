"""What a board printed: kept in a bounded file, and watched by those who wait for a line."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import IO

_LOG_LIMIT = 1024 * 1024
_WATCH_LIMIT = 256 * 1024


class Console:
    """The log of one board. `write` never blocks on a reader."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._size = 0
        self._recent = bytearray()
        self._seen = 0
        self._changed = threading.Condition()

    def write(self, data: bytes) -> None:
        """Append; a log that grows past 1 MiB loses its older half."""
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
            self._size = self._file.tell()
        self._file.write(data)
        self._size += len(data)
        if self._size > _LOG_LIMIT:
            self._shorten()
        with self._changed:
            self._recent += data
            surplus = len(self._recent) - _WATCH_LIMIT
            if surplus > 0:
                del self._recent[:surplus]
                self._seen = max(0, self._seen - surplus)
            self._changed.notify_all()

    def text(self) -> bytes:
        """The last 256 KiB since the board came up."""
        with self._changed:
            return bytes(self._recent)

    def expect(self, needle: bytes, timeout_s: float) -> bytes:
        """See `Board.expect`."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while (at := self._recent.find(needle, self._seen)) < 0:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    tail = bytes(self._recent[self._seen :])[-2000:]
                    raise TimeoutError(f"{needle!r} did not come in {timeout_s} s, but: {tail!r}")
            start, self._seen = self._seen, at + len(needle)
            return bytes(self._recent[start : self._seen])

    def skip(self) -> None:
        """What came so far is not what the next `expect` waits for."""
        with self._changed:
            self._seen = len(self._recent)

    def close(self) -> None:
        """Let go of the file."""
        if self._file:
            self._file.close()
        self._file = None

    def _shorten(self) -> None:
        self.close()
        kept = self._path.read_bytes()[-_LOG_LIMIT // 2 :]
        self._path.write_bytes(kept)
