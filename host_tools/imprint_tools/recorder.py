"""Turns what board, network and cloud tell of themselves into one record of a journey.

Three sources, each with its own words: the console events of the firmware, which are known here,
and those of network and cloud, which the `World` of a journey puts into messages. Everything gets
the host's time, which all three share.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from imprint_tools.errors import ImprintError
from imprint_tools.journey import Heap, Message, Party, Span, Step, Traffic
from imprint_tools.monitor import Event

BOARD = Party.BOARD


class Watcher:
    """Who looks on while a journey runs. Each method may be overridden; calls come one at a time,
    from whichever thread something happened in."""

    def step_began(self, name: str) -> None:
        """A step has begun."""

    def step_ended(self, step: Step) -> None:
        """It has ended, well or not."""

    def progress(self, text: str) -> None:
        """How far the running step is."""

    def said(self, message: Message) -> None:
        """Somebody told somebody something."""

    def entered(self, state: str, at_s: float) -> None:
        """The board is in another state."""


class Recorder:
    """Collects a journey. Safe to use from any thread."""

    def __init__(self, watcher: Watcher, clock: Callable[[], float] = time.time) -> None:
        self.began = clock()
        self.steps: list[Step] = []
        self.messages: list[Message] = []
        self.traffic: list[Traffic] = []
        self.heap: list[Heap] = []
        self.acknowledged: set[str] = set()
        """Ids of the reports that the cloud has taken and replied to with 200."""
        self._clock = clock
        self._watcher = watcher
        self._lock = threading.RLock()
        self._states: list[tuple[str, float]] = []
        self._step: tuple[str, float] | None = None
        self._free: int | None = None
        self._up = self._down = 0
        self._log_seen = 0
        self._closed = False

    def now(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self.began

    def close(self) -> None:
        """Take no more notes."""
        with self._lock:
            self._closed = True

    # -- the bench ------------------------------------------------------------------------------

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step; what it appends to the list is its detail. An expected failure is noted
        and goes on its way."""
        detail: list[str] = []
        self.begin(name)
        try:
            yield detail
        except ImprintError as error:
            self.end(str(error), ok=False)
            raise
        self.end("; ".join(detail))

    def begin(self, name: str) -> None:
        """Another step begins."""
        with self._lock:
            self._step = name, self.now()
            self._watcher.step_began(name)

    def end(self, detail: str = "", *, ok: bool = True) -> None:
        """The running step has ended; harmless where none runs."""
        with self._lock:
            if self._step is not None:
                name, began = self._step
                self._step = None
                step = Step(name, began, self.now() - began, ok, detail)
                self.steps.append(step)
                self._watcher.step_ended(step)

    def progress(self, text: str) -> None:
        """Tell who looks on how far the step is."""
        with self._lock:
            self._watcher.progress(text)

    def say(
        self,
        sender: Party,
        receiver: Party,
        text: str,
        size: int | None = None,
        *,
        ok: bool = True,
        at_s: float | None = None,
    ) -> None:
        """Note a message, now or as of `at_s`."""
        with self._lock:
            if self._closed:
                return
            message = Message(
                self.now() if at_s is None else at_s, sender, receiver, text, size, ok
            )
            self.messages.append(message)
            self._watcher.said(message)

    def enter(self, state: str) -> None:
        """The board is in that state from now on."""
        with self._lock:
            now = self.now()
            self._states.append((state, now))
            self._watcher.entered(state, now)

    def states(self) -> tuple[Span, ...]:
        """The states so far; the last one lasts until now."""
        with self._lock:
            ends = [at for _, at in self._states[1:]] + [self.now()]
            return tuple(
                Span(state, start, end)
                for (state, start), end in zip(self._states, ends, strict=bool(self._states))
            )

    # -- the board's console --------------------------------------------------------------------

    def take_console(self, event: Event) -> None:
        """Note an event of the firmware."""
        with self._lock:
            data = event.data
            if isinstance(free := data.get("free"), int) and event.name == "boot":
                self._free = free
                self.say(BOARD, BOARD, f"boot: {free:,} B of heap are free")
            if isinstance(used := data.get("alloc"), int):
                self.heap.append(Heap(self.now(), used))
            if event.name == "state":
                self.enter(str(data.get("s")))
            elif event.name == "registered":
                self.say(BOARD, BOARD, "credential kept, read back, compared")
            elif event.name == "disabled":
                self.say(BOARD, BOARD, "is not activated yet, and waits")
            elif event.name == "renewed":
                self.say(BOARD, BOARD, "a new token in place of one that ends")
            elif event.name == "error":
                self.say(BOARD, BOARD, _error_text(event), ok=False)
            elif event.name == "dropped":
                self.say(BOARD, BOARD, f"{data.get('n')} reports dropped in all", ok=False)

    # -- the network and the cloud -------------------------------------------------------------

    def sample_traffic(self, up: int, down: int) -> None:
        """Note how much has crossed the network, if that is news."""
        with self._lock:
            if (up, down) != (self._up, self._down):
                self._up, self._down = up, down
                self.traffic.append(Traffic(self.now(), up, down))

    def take_log(
        self, log: Sequence[Mapping[str, Any]], tell: Callable[[Mapping[str, Any], float], None]
    ) -> None:
        """Tell what is new in the cloud's log, which is given whole: event and moment."""
        with self._lock:
            for event in log[self._log_seen :]:
                tell(event, event["time"] - self.began)
            self._log_seen = len(log)

    # -- the end --------------------------------------------------------------------------------

    def in_order(self) -> tuple[Message, ...]:
        """The messages by time; the sources are not read at the same moment."""
        with self._lock:
            return tuple(
                replace(message, at_s=max(0.0, message.at_s))
                for message in sorted(self.messages, key=lambda m: m.at_s)
            )


def _error_text(event: Event) -> str:
    info = event.error
    code = event.data.get("code")
    return f"error {code}" if info is None else f"error {code} {info.name}"
