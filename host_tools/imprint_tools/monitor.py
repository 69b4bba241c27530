"""The board's console, followed: events decoded, everything else passed through.

The firmware prints one line an event: `@imprint {"t":1234,"e":"state","s":"CONNECT"}`. What is
not such a line is MicroPython's, or the application's, and is handed on as text. A port that goes
away (a USB chip that resets takes its port with it) is opened again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import serial  # type: ignore[import-untyped]

from imprint_tools.device_errors import DeviceErrorInfo, explain
from imprint_tools.errors import DeviceError, PortError
from imprint_tools.ports import open_port

_PREFIX = b"@imprint "
_LINE_MAX = 4096  # a line that grows beyond this is cut there: noise must not fill the memory
_POLL_S = 0.1
_BACK_WITHIN_S = 10


@dataclass(frozen=True)
class Event:
    """What the firmware reports: `t_ms` since its boot, the event's name, its other fields."""

    t_ms: int
    name: str
    data: Mapping[str, Any]

    def matches(self, wanted: str) -> bool:
        """`reported`: any such event; `reported.acked`: one whose field `acked` is true."""
        name, _, key = wanted.partition(".")
        return self.name == name and (not key or bool(self.data.get(key)))

    @property
    def error(self) -> DeviceErrorInfo | None:
        """For an `error` event: what its code means."""
        code = self.data.get("code")
        return explain(code) if self.name == "error" and isinstance(code, int) else None

    @property
    def halted(self) -> bool:
        """The board has given up until a person acts. The error before it says why."""
        return self.name == "state" and self.data.get("s") == "HALT"


@dataclass(frozen=True)
class Text:
    """A line of the console that is not an event."""

    line: str


@dataclass(frozen=True)
class Link:
    """The port went away (`up` false) or came back."""

    up: bool


Item = Event | Text | Link


class Decoder:
    """Bytes in, items out; cut anywhere. Any bytes are items, never an exception."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[Event | Text]:
        """Items of the lines that `data` completes."""
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            yield from _cut(line)
        while len(self._tail) > _LINE_MAX:
            piece, self._tail = self._tail[:_LINE_MAX], self._tail[_LINE_MAX:]
            yield decode(piece)

    def flush(self) -> Iterator[Event | Text]:
        """The unfinished line, if there is one."""
        tail, self._tail = self._tail, b""
        if tail:
            yield decode(tail)


def _cut(line: bytes) -> Iterator[Event | Text]:
    for at in range(0, max(len(line), 1), _LINE_MAX):
        yield decode(line[at : at + _LINE_MAX])


def decode(line: bytes) -> Event | Text:
    """One line: an event if it is one in all its parts, else text."""
    line = line.rstrip(b"\r")
    # A reset may leave half a line on the wire, so that the next event starts in its middle.
    _, found, body = line.partition(_PREFIX)
    if found:
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError):
            fields = None
        if isinstance(fields, dict):
            t_ms, name = fields.pop("t", None), fields.pop("e", None)
            if isinstance(t_ms, int) and isinstance(name, str):
                return Event(t_ms, name, fields)
    return Text(line.decode("utf-8", "replace"))


def follow(
    url: str,
    *,
    baudrate: int = 115200,
    until: str | None = None,
    timeout_s: float | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Generator[Item, None, None]:
    """Items as they come, for ever, or until the event `until` (see Event.matches).

    The port is open when this returns. `timeout_s` bounds the whole wait. Raises PortError when
    the port cannot be opened; the items end in PortError when it does not come back within 10 s,
    and with `until` in DeviceError when the time is up or the board halts.
    """
    port = open_port(url, baudrate, timeout_s=_POLL_S)
    return _items(port, url, baudrate, until, timeout_s, now)


def _items(
    port: serial.SerialBase,
    url: str,
    baudrate: int,
    until: str | None,
    timeout_s: float | None,
    now: Callable[[], float],
) -> Generator[Item, None, None]:
    deadline = None if timeout_s is None else now() + timeout_s
    decoder = Decoder()
    last_error: Event | None = None
    try:
        while deadline is None or now() < deadline:
            try:
                data = port.read(max(1, port.in_waiting))
            except (OSError, TypeError):  # pyserial's own close() race ends in a TypeError
                port.close()
                yield from decoder.flush()
                yield Link(up=False)
                port = _reopen(url, baudrate, now)
                yield Link(up=True)
                continue
            for item in decoder.feed(data):
                yield item
                if until and isinstance(item, Event):
                    if item.matches(until):
                        return
                    if item.halted:
                        raise _halted(last_error, until)
                    last_error = item if item.name == "error" else last_error
        yield from decoder.flush()
    finally:
        port.close()
    if until:
        raise DeviceError(
            f"no event {until} within {timeout_s:g} s",
            next_step="Look at the last state and error above; allow more with --timeout.",
        )


def _reopen(url: str, baudrate: int, now: Callable[[], float]) -> serial.SerialBase:
    deadline = now() + _BACK_WITHIN_S
    while True:
        try:
            return open_port(url, baudrate, timeout_s=_POLL_S)
        except PortError:
            if now() >= deadline:
                raise
            time.sleep(_POLL_S)


def _halted(error: Event | None, until: str) -> DeviceError:
    info = error.error if error is not None else None
    if info is None:
        return DeviceError(f"the board halted before {until}")
    return DeviceError(
        f"the board halted with error {info.code} {info.name} before {until}: {info.cause}",
        next_step=info.next_step,
    )
