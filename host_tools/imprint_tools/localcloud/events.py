"""What happened at a local cloud: in memory for whoever waits, and as JSON lines in a file.

An event is a flat dictionary: `time` (seconds since 1970), `connection` (a number, or None for
what the console did), `kind`, and details. A secret is only ever there as its fingerprint.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

Event = dict[str, Any]

_KEPT_MAX = 20_000
"""Events kept in memory; the oldest go first. A whole journey makes about fifty."""

_FILE_MAX = 16 * 1024 * 1024
"""Bytes after which a file found at the start is put aside as `events.jsonl.1`."""


class EventLog:
    """Appends events; safe to use from any thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._gone = 0
        self._file: TextIO | None = None

    def open(self) -> None:
        """Begin to write the file, after putting an overgrown one aside."""
        if self._path.exists() and self._path.stat().st_size > _FILE_MAX:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        with self._changed:
            if self._file is not None:
                self._file.close()
                self._file = None

    def add(self, kind: str, connection: int | None = None, **details: Any) -> None:
        event: Event = {
            "time": round(self._clock(), 4), "connection": connection, "kind": kind, **details,
        }  # fmt: skip
        with self._changed:
            self._events.append(event)
            if len(self._events) > _KEPT_MAX:
                del self._events[0]
                self._gone += 1
            if self._file is not None:
                self._file.write(json.dumps(event, separators=(",", ":"), default=str) + "\n")
                self._file.flush()
            self._changed.notify_all()

    def all(self) -> list[Event]:
        """The events kept, oldest first."""
        with self._changed:
            return list(self._events)

    def mark(self) -> int:
        """A place in the log: pass it to `wait` as `after` to see only what comes later."""
        with self._changed:
            return self._gone + len(self._events)

    def wait(self, kind: str, *, timeout_s: float, after: int = 0, **details: Any) -> Event:
        """The first event of that kind and details since `after`, waiting for it if need be.

        Raises TimeoutError when none came within `timeout_s`.
        """
        found: Event | None = None

        def there() -> bool:
            nonlocal found
            wanted = {"kind": kind, **details}
            for event in self._events[max(0, after - self._gone) :]:
                if wanted.items() <= event.items():
                    found = event
                    return True
            return False

        with self._changed:
            if self._changed.wait_for(there, timeout_s) and found is not None:
                return found
        raise TimeoutError(f"no event {kind!r} {details} within {timeout_s} s")
