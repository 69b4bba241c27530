"""Where this runs: the only module that may ask.

An ESP32, the virtual board and (with the shims on its path) CPython all have `machine` and
`esp32`; what differs in `time` is evened out here. Milliseconds wrap on a board: differences
only through `ticks_diff`.
"""

import json
import os
import time

import machine
from esp32 import NVS
from micropython import const

TYPE_CHECKING = const(False)
if hasattr(time, "ticks_ms") and not TYPE_CHECKING:
    from time import sleep_ms, ticks_add, ticks_diff, ticks_ms
else:  # CPython; and the type checker, for whom ticks are int here, not opaque as in the stubs

    def ticks_ms() -> int:
        return time.monotonic_ns() // 1000000  # type: ignore[attr-defined]  # CPython's own

    def ticks_add(ticks: int, delta: int) -> int:
        return ticks + delta

    def ticks_diff(a: int, b: int) -> int:
        return a - b

    def sleep_ms(ms: int) -> None:
        time.sleep(ms / 1000)


# ESP-IDF's nvs.h
_NOT_FOUND = const(-0x1102)  # ESP_ERR_NVS_NOT_FOUND
_INVALID_LENGTH = const(-0x110C)  # ESP_ERR_NVS_INVALID_LENGTH: the buffer is too small

_EARLIEST_YEAR = const(2025)  # a clock that says less was never set

_BLOB_SIZES = (256, 1024, 4000)  # 4,000 is the most that one NVS page has room for


class NvsStore:
    """Keys and blobs in the NVS namespace `imprint`; keys of up to 15 characters."""

    def __init__(self) -> None:
        self._nvs = NVS("imprint")

    def get(self, key: str) -> "bytes | None":
        """The blob of that key, or None. Raises OSError when NVS cannot be read."""
        for size in _BLOB_SIZES:  # the length cannot be asked for
            buffer = bytearray(size)
            try:
                return bytes(memoryview(buffer)[: self._nvs.get_blob(key, buffer)])
            except OSError as error:
                if error.args[0] == _NOT_FOUND:
                    return None
                if error.args[0] != _INVALID_LENGTH:
                    raise
        raise OSError(_INVALID_LENGTH)

    def set(self, key: str, value: bytes) -> None:
        self._nvs.set_blob(key, value)

    def erase(self, key: str) -> None:
        try:
            self._nvs.erase_key(key)
        except OSError as error:
            if error.args[0] != _NOT_FOUND:
                raise

    def commit(self) -> None:
        self._nvs.commit()


def listdir(folder: str) -> "list[str]":
    """The names in `folder`; none when there is no such folder."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


class Watchdog:
    """Resets the chip when `feed` is not called for `timeout_ms`."""

    def __init__(self, timeout_ms: int) -> None:
        self._wdt = machine.WDT(timeout=timeout_ms)
        self.feed = self._wdt.feed

    def relax(self) -> None:
        """Give a person at the REPL an hour. A started watchdog cannot be stopped, only re-armed
        (ports/esp32/machine_wdt.c)."""
        self._wdt = machine.WDT(timeout=3600000)


def healthy() -> None:
    """This start has reported: the next crash begins a new count (see main.py)."""
    machine.RTC().memory(b"")


def clock_is_set() -> bool:
    """Whether the clock has been set: an ESP32 starts in 2000."""
    return time.gmtime()[0] >= _EARLIEST_YEAR


def unix_ms() -> int:
    """Milliseconds since 1970. MicroPython's epoch is 1970 or 2000, by port."""
    epoch_s = 946684800 if time.gmtime(0)[0] == 2000 else 0
    return (int(time.time()) + epoch_s) * 1000


def utc() -> str:
    """Now, as ISO 8601 has it: 2026-11-21T12:00:00Z."""
    return "%d-%02d-%02dT%02d:%02d:%02dZ" % tuple(time.gmtime()[:6])


def emit(event: str, **fields) -> None:
    """Tell the console, for `imprint monitor`: one line of JSON. Never a secret."""
    fields["e"] = event
    fields["t"] = ticks_ms()
    print("@imprint " + json.dumps(fields))


def emit_error(error, retry_ms: "int | None" = None) -> None:
    """Tell the console of an ImprintError, by its code."""
    fields: "dict" = {"code": error.code, "retry": error.retry}
    if error.detail:
        fields["detail"] = error.detail
    if error.number is not None:
        fields["number"] = error.number
    if retry_ms is not None:
        fields["retry_ms"] = retry_ms
    emit("error", **fields)


unique_id = machine.unique_id
reset_cause = machine.reset_cause
