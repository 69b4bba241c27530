"""An event loop in a thread of its own, for code that is not asynchronous."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")

WAIT_S = 10.0
"""No call into the loop takes longer than this; one that does is a bug, not load."""


class LoopThread:
    """Runs an event loop until `stop()`. `on_error` is told what asyncio would have logged."""

    def __init__(self, name: str, on_error: Callable[[str], None]) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: on_error(_describe(context)))
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], _T]) -> _T:
        """Run a function in the loop and return what it returns, or raise what it raises."""
        if threading.current_thread() is self._thread:
            return function()
        result: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def run() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return result.result(WAIT_S)

    def run(self, coroutine: Coroutine[Any, Any, _T], wait_s: float = WAIT_S) -> _T:
        """Run a coroutine in the loop to its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(wait_s)

    def stop(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()


def _describe(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context.get('message', '')} {error!r}" if error else str(context.get("message"))
