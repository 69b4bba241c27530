"""A virtual chip without a board round it: for tests that start from a file system's content.

Runs in a thread of its own, starts again when the program resets it, and waits for console output
instead of sleeping.
"""

from __future__ import annotations

import asyncio
import os
import threading
import tty
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from imprint_tools.partitions import APP, DATA, SECTOR, Partition
from imprint_tools.virtual.chips import CHIPS
from imprint_tools.virtual.flash import Flash
from imprint_tools.virtual.machine import Machine, ResetCause, Rtc
from imprint_tools.virtual.network import AccessPoint
from littlefs import LittleFS

FLASH_SIZE = 1024 * 1024
NVS = Partition("nvs", DATA, 2, 0x9000, 0x6000)
APPLICATION = Partition("factory", APP, 0, 0x10000, 0x10000)
VFS = Partition("vfs", DATA, 0x81, 0x80000, 0x80000)
MAC = bytes.fromhex("240ac4c0ffee")
SSID, PASSWORD = "bench", "open sesame"

_T = TypeVar("_T")
_TIMEOUT_S = 5.0


class Raised(Exception):
    """The traceback that a program on the chip printed."""


class VirtualChip:
    """`files` (path: text) make the LittleFS image; None leaves the flash blank."""

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, str] | None = None,
        *,
        access_point: AccessPoint | None = None,
        heap: str = "64k",
        arch: str = "i386",
    ) -> None:
        self.flash = Flash(folder / "flash.bin", FLASH_SIZE)
        self.access_point = access_point or AccessPoint(SSID, PASSWORD, [])
        self.resets: list[tuple[ResetCause, float]] = []
        self.power_lost = threading.Event()
        self._console = bytearray()
        self._seen = 0
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._pty: tuple[int, int] | None = None
        self.machine = Machine(
            chip=CHIPS["esp32"],
            mac=MAC,
            flash=self.flash,
            partitions=[NVS, APPLICATION, VFS],
            folder=folder,
            access_point=self.access_point,
            on_console=self._print,
            on_reset=self._on_reset,
            on_power_lost=self.power_lost.set,
            rtc=Rtc(folder / "clock"),
            heap=heap,
            arch=arch,
        )
        if files is not None:
            self.flash.write(VFS.offset, file_system(files))

    def __enter__(self) -> VirtualChip:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.in_loop(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT_S)
        self._loop.close()
        self.flash.close()
        for end in self._pty or ():
            os.close(end)

    async def _close(self) -> None:
        if self._pty:
            self._loop.remove_reader(self._pty[0])
        await self.machine.stop()
        self.machine.close()

    def start(self, cause: ResetCause = ResetCause.PWRON) -> VirtualChip:
        self.in_loop(lambda: self.machine.start(cause))
        return self

    def stop(self) -> None:
        self.in_loop(self.machine.stop)

    def in_loop(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(60)

    def feed(self, data: bytes) -> None:
        self._loop.call_soon_threadsafe(self.machine.feed, data)

    def expect(self, needle: bytes, timeout_s: float = _TIMEOUT_S) -> bytes:
        """Wait for console output from where the last call stopped; what came up to `needle`."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._console.find(needle, self._seen) >= 0, timeout_s
            ):
                raise TimeoutError(f"no {needle!r} in {bytes(self._console[self._seen :])!r}")
            end = self._console.find(needle, self._seen) + len(needle)
            start, self._seen = self._seen, end
            return bytes(self._console[start:end])

    def execute(self, program: str) -> str:
        """Run `program` in the raw REPL; what it printed. Raises Raised with its traceback."""
        self.feed(b"\r\x03\r\x01")
        self.expect(b"raw REPL; CTRL-B to exit\r\n>")
        self.feed(program.encode() + b"\x04")
        self.expect(b"OK")
        printed = self.expect(b"\x04")[:-1].decode()
        if error := self.expect(b"\x04>")[:-2].decode():
            raise Raised(error)
        return printed.replace("\r\n", "\n").strip()

    def pty(self) -> str:
        """A pseudo-terminal that is the console's, for programs that open a port."""
        near, far = os.openpty()
        tty.setraw(far)
        os.set_blocking(near, False)
        self._pty = near, far
        self._loop.call_soon_threadsafe(self._loop.add_reader, near, self._from_pty, near)
        return os.ttyname(far)

    def _from_pty(self, near: int) -> None:
        self.machine.feed(os.read(near, 4096))

    def _print(self, data: bytes) -> None:
        if self._pty:
            os.write(self._pty[0], data)
        with self._changed:
            self._console += data
            self._changed.notify_all()

    def _on_reset(self, cause: ResetCause, delay_s: float) -> None:
        """As a board does, but without waiting: a sleeping chip wakes at once."""
        self.resets.append((cause, delay_s))
        self._again = self._loop.create_task(self.machine.start(cause))


def file_system(files: Mapping[str, str]) -> bytes:
    """A LittleFS image of the vfs partition."""
    image = LittleFS(block_size=SECTOR, block_count=VFS.size // SECTOR)
    for path, text in files.items():
        with image.open(path, "wb") as file:
            file.write(text.encode())
    return bytes(image.context.buffer)
