"""How often a device may connect, as EnOS's limits page has it. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque

from imprint_tools.localcloud.enos.config import ConnectLimits
from imprint_tools.localcloud.enos.records import Name


class ConnectCounter:
    """Counts every device's connects, those included that are refused for another reason."""

    def __init__(self, limits: ConnectLimits | None) -> None:
        self._limits = limits
        self._recent: dict[Name, deque[float]] = {}
        self._blocked: dict[Name, float] = {}

    def allow(self, name: Name, now: float) -> bool:
        """May that device connect now?"""
        limits = self._limits
        if limits is None:
            return True
        if now < self._blocked.get(name, now):
            return False
        recent = self._recent.setdefault(name, deque())
        too_soon = bool(recent) and now < recent[-1] + limits.apart_s
        while recent and recent[0] <= now - limits.window_s:
            recent.popleft()
        recent.append(now)
        if len(recent) > limits.most:
            self._blocked[name] = now + limits.blocked_s
            recent.clear()
            return False
        return not too_soon
