"""EnOS's device log: what went wrong with whom. The hub tells a device little; this is the place
where its owner finds the code."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from imprint_tools.localcloud.enos.records import Name

_KEPT_MAX = 10_000


@dataclass(frozen=True)
class Entry:
    """`time_ms` since 1970; `what`: "login", "sub-device login" and so on."""

    time_ms: int
    name: Name
    what: str
    code: int
    message: str


class DeviceLog:
    """The newest entries, oldest first. One loop owns it."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_KEPT_MAX)

    def add(self, name: Name, what: str, code: int, message: str) -> None:
        self._entries.append(Entry(int(time.time() * 1000), name, what, code, message))

    def of(self, name: Name) -> list[Entry]:
        return [entry for entry in self._entries if entry.name == name]
