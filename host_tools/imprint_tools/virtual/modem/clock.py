"""Time as the modem sees it: the event loop's, or a hand-turned one for tests."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """What `Clock.call_later` returns."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Seconds, and calls to come. Used in the modem's event loop only."""

    def now(self) -> float: ...

    def call_later(self, delay_s: float, action: Callable[[], object]) -> Timer: ...


async def sleep(clock: Clock, delay_s: float) -> None:
    """Wait by that clock."""
    if delay_s > 0:
        done = asyncio.get_running_loop().create_future()
        timer = clock.call_later(delay_s, lambda: None if done.done() else done.set_result(None))
        try:
            await done
        finally:
            timer.cancel()


class LoopClock:
    """The running event loop's."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def call_later(self, delay_s: float, action: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, action)


class HandClock:
    """Stands still until `advance`, which may be called from any thread."""

    def __init__(self) -> None:
        self._now = 0.0
        self._calls: list[tuple[float, int, _Call]] = []
        self._count = itertools.count()
        self._mutex = threading.Lock()

    def now(self) -> float:
        return self._now

    def call_later(self, delay_s: float, action: Callable[[], object]) -> Timer:
        call = _Call(action, asyncio.get_running_loop())
        with self._mutex:
            heapq.heappush(self._calls, (self._now + delay_s, next(self._count), call))
        return call

    def advance(self, seconds: float) -> None:
        """Let that time pass; what falls due, and what that makes due, happens in its order."""
        end = self._now + seconds
        while call := self._due(end):
            call.run()
        self._now = end

    def _due(self, end: float) -> _Call | None:
        with self._mutex:
            if not self._calls or self._calls[0][0] > end:
                return None
            self._now, _, call = heapq.heappop(self._calls)
        return call


class _Call:
    _TIMEOUT_S = 5.0

    def __init__(self, action: Callable[[], object], loop: asyncio.AbstractEventLoop) -> None:
        self._action: Callable[[], object] | None = action
        self._loop = loop

    def cancel(self) -> None:
        self._action = None

    def run(self) -> None:
        """Do it in its loop, and let the loop settle."""
        if self._action is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._settle(), self._loop).result(self._TIMEOUT_S)

    async def _settle(self) -> None:
        if self._action is not None:
            self._action()
        for _ in range(20):  # tasks woken by it, and those woken by them
            await asyncio.sleep(0)
