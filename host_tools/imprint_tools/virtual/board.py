"""A virtual board: chip, flash and doors in a folder, in a thread of its own.

    with Board(folder, chip="esp32") as board:
        board.port    # a pseudo-terminal for esptool and mpremote
        board.url     # virtual://..., for pyserial in this process, with modem lines
        board.expect(b">>> ")

The folder holds flash.bin, board.json (chip, MAC, and while it is up its doors and process),
console.log and the sockets. The methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from imprint_tools import paths
from imprint_tools.errors import BenchStateError
from imprint_tools.virtual import control
from imprint_tools.virtual.chips import CHIPS
from imprint_tools.virtual.console import Console
from imprint_tools.virtual.devkit import DevKit, Machine, MachineFactory, State, Uart
from imprint_tools.virtual.doors import Door, PtyDoor, Rfc2217Door, SocketDoor
from imprint_tools.virtual.flash import Flash
from imprint_tools.virtual.network import AccessPoint
from imprint_tools.virtual.silicon import Rtc
from imprint_tools.virtual.uarts import Uarts
from imprint_tools.virtual.urlhandler.protocol_virtual import SOCKET_NAME

_T = TypeVar("_T")
_ANSWER_S = 30.0
_BOOT_S = 600.0  # the first boot may fetch the runtime
_ESPRESSIF_OUI = b"\x24\x0a\xc4"

PTY, RFC2217, VIRTUAL = "pty", "rfc2217", "virtual"


class Board:
    """One virtual board, down until `start` or `with`."""

    def __init__(
        self,
        folder: Path,
        *,
        chip: str = "esp32",
        flash_size: int | None = None,
        doors: Iterable[str] = (PTY,),
        realtime: bool = False,
        baud: int = 115_200,
        access_point: AccessPoint | None = None,
        heap: str = "64k",
        arch: str = "i386",
        machine: MachineFactory | None = None,
    ) -> None:
        """`flash_size` in bytes is the chip's usual one by default; `doors` come in addition to
        `virtual://`; `realtime` makes bytes take their time at the baud rate in force.

        Raises BenchStateError when the folder is the home of another kind of board.
        """
        self.folder = folder
        self.name = folder.name
        self.chip = CHIPS[chip]
        self.flash_size = flash_size or self.chip.flash_size
        self.mac = mac_of(self.name)
        self.access_point = access_point or AccessPoint("", "", [], up=False)
        self.console = Console(folder / "console.log")
        self.went_down = threading.Event()
        self.uarts = Uarts()
        """What is soldered to UART 1 and 2; ask for its ends before `start`. `stop` unsolders."""
        self._uart = Uart(baud, realtime)
        self._door_names = tuple(dict.fromkeys(doors))
        self._heap, self._arch = heap, arch
        self._machine = machine or self._micropython
        self._urls: dict[str, str] = {}
        self._changed = threading.Condition()
        self._check_home()

    def start(self) -> None:
        """Open the doors and give it power. Raises BenchStateError when it is up already."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # flash holds secrets
        self._lock = control.lock(self.folder)
        self._flash = Flash(self.folder / "flash.bin", self.flash_size)
        self._rtc = Rtc(self.folder / "clock")
        self._kit = DevKit(
            self.chip,
            self.mac,
            self._flash,
            self._machine,
            self.console.write,
            self._uart,
            self._state_changed,
        )
        self._control: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"board {self.name}", daemon=True
        )
        self._thread.start()
        try:
            self._run(self._up(), _BOOT_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Take the power away and close the doors. What is in flash stays."""
        self._run(self._down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_S)
        self._loop.close()
        self._flash.close()
        self.uarts.close()
        self.console.close()
        self._write_state(up=False)
        self._lock.close()
        self.went_down.set()

    def __enter__(self) -> Board:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def urls(self) -> dict[str, str]:
        """Where each door is, by the door's name."""
        return dict(self._urls)

    @property
    def port(self) -> str:
        """The pseudo-terminal if there is that door, else RFC 2217, else `virtual://`."""
        return next(self._urls[name] for name in (PTY, RFC2217, VIRTUAL) if name in self._urls)

    @property
    def url(self) -> str:
        """`virtual://...`, for processes that have imported `imprint_tools.ports`."""
        return self._urls[VIRTUAL]

    @property
    def state(self) -> State:
        """What the chip is doing."""
        return self._kit.state

    @property
    def machine(self) -> Machine | None:
        """What runs now, for its pins; a new one after each reset. Its loop is the board's."""
        return self._kit.machine

    @property
    def flash(self) -> Flash:
        """The flash chip. Touch it from outside only while the board is off."""
        return self._flash

    @property
    def wire_bytes(self) -> int:
        """Bytes that went over the serial line since the doors were opened, both ways."""
        return self._kit.heard + self._kit.said

    def reset(self) -> None:
        """Press EN; a board that is off is switched on. Returns when it has booted or cannot."""
        self._run(self._kit.reset(), _BOOT_S)

    def power_off(self) -> None:
        """Pull the plug."""
        self._run(self._kit.power_off())

    def power_on(self) -> None:
        """Put the plug in. Returns when it has booted or cannot."""
        if self.state is State.OFF:
            self._run(self._kit.reset(), _BOOT_S)

    def cut(self, after: int, *, torn: bool = False) -> None:
        """Order a power cut at the `after`-th flash operation from now; `torn` halves it."""
        self._run(_called(partial(self._flash.order_power_cut, after, torn=torn)))

    def set_wifi(self, up: bool) -> None:
        """Switch the access point on or off."""
        self.access_point.set_up(up)

    def wait_for(self, state: State, timeout_s: float = 10.0) -> None:
        """Wait until the chip is doing that. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.state is state, timeout_s):
                raise TimeoutError(f"the board is not {state.value}, but {self.state.value}")

    def expect(self, needle: bytes, timeout_s: float = 10.0) -> bytes:
        """Wait until the console has shown `needle`; return what came up to it.

        Looks on from where the last call stopped. Raises TimeoutError with what came instead.
        """
        return self.console.expect(needle, timeout_s)

    # -- in the loop ----------------------------------------------------------------------------

    async def _up(self) -> None:
        self._alive = asyncio.create_task(self._kit.run())
        for name in (*self._door_names, VIRTUAL):
            door = self._door(name)
            await door.open()
            self._kit.doors.append(door)
            self._urls[name] = door.url
        self._control = await control.serve(self.folder, self._answer)
        self._write_state(up=True)
        await self._kit.reset()

    async def _down(self) -> None:
        for door in self._kit.doors:
            await door.close()
        if self._control:
            self._control.close()
        (self.folder / control.SOCKET_NAME).unlink(missing_ok=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        what = request["do"]
        if what == "reset":
            await self._kit.reset()
        elif what == "cut":
            self._flash.order_power_cut(int(request["after"]), torn=bool(request["torn"]))
        elif what == "wifi":
            self.access_point.set_up(bool(request["up"]))
        elif what == "down":
            self.went_down.set()
        elif what != "status":
            raise ValueError(f"no such request: {what}")
        return {"state": self._kit.state.value, "flash_operations": self._flash.ops}

    def _state_changed(self, _state: State) -> None:
        with self._changed:
            self._changed.notify_all()

    # -- parts ----------------------------------------------------------------------------------

    def _door(self, name: str) -> Door:
        if name == PTY:
            return PtyDoor(self._kit, self.folder / "tty")
        if name == RFC2217:
            return Rfc2217Door(self._kit)
        home = self.folder.resolve()
        in_state_folder = home.parent == (paths.state_dir() / "boards").resolve()
        url = f"virtual://{self.name}" if in_state_folder else f"virtual://{home}"
        return SocketDoor(self._kit, self.folder / SOCKET_NAME, url)

    def _micropython(self, **parts: Any) -> Machine:
        # Here, because it brings the runtime's installer, which a blank board can do without
        from imprint_tools.virtual.machine import Machine as MicroPython

        return MicroPython(
            folder=self.folder,
            access_point=self.access_point,
            rtc=self._rtc,
            uarts=self.uarts,
            heap=self._heap,
            arch=self._arch,
            **parts,
        )

    def _check_home(self) -> None:
        known = read_state(self.folder)
        for key, now in (("chip", self.chip.name), ("flash_size", self.flash_size)):
            if known.get(key, now) != now:
                raise BenchStateError(
                    f"the board {self.name} was made with {key} {known[key]}, not {now}",
                    next_step=f"take another name, or delete {self.folder}",
                )

    def _write_state(self, *, up: bool) -> None:
        state: dict[str, Any] = {
            "chip": self.chip.name,
            "flash_size": self.flash_size,
            "mac": self.mac.hex(":"),
            "name": self.name,
        }
        if up:
            state |= {"doors": self._urls, "pid": os.getpid()}
        staged = self.folder / "board.json.new"
        staged.write_text(json.dumps(state, indent=2, sort_keys=True))
        staged.replace(self.folder / "board.json")

    def _run(self, work: Coroutine[Any, Any, _T], within_s: float = _ANSWER_S) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)


def mac_of(name: str) -> bytes:
    """The MAC address of the board of that name: always the same one, in Espressif's range."""
    return _ESPRESSIF_OUI + hashlib.sha256(name.encode()).digest()[:3]


def read_state(folder: Path) -> dict[str, Any]:
    """board.json, empty when there is none. Raises BenchStateError when it is damaged."""
    try:
        state: dict[str, Any] = json.loads((folder / "board.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        raise BenchStateError(
            f"{folder / 'board.json'} is damaged", next_step=f"delete {folder}"
        ) from None
    return state


async def _called(function: Callable[[], _T]) -> _T:
    return function()
