"""The chip on its dev kit: reset, download mode, boot, power, and what goes over its UART.

Everything runs in one event loop. Changes of state are steps of a queue, done one after the
other, so that a reset in the middle of a boot waits for its turn. Bytes are never blocked on: a
UART loses what nobody takes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from imprint_tools.errors import ImprintError
from imprint_tools.partitions import Partition
from imprint_tools.virtual import boot
from imprint_tools.virtual.chips import Chip
from imprint_tools.virtual.doors import Door
from imprint_tools.virtual.flash import Flash, PowerCut
from imprint_tools.virtual.reset import Edge, ResetCircuit
from imprint_tools.virtual.rom import ROM_BAUD, SYNC_FRAME, Leave, RomLoader, SetBaud, Way
from imprint_tools.virtual.silicon import ResetCause

_log = logging.getLogger(__name__)

_COMPLAINT_INTERVAL_S = 1.0
_UNSENT_LIMIT = 1024 * 1024
_PENDING_LIMIT = 64 * 1024
_PACE = 256  # bytes between two looks at the clock when the line is throttled
_BITS_A_BYTE = 10  # start, eight, stop

_RESET_REASON = {
    ResetCause.PWRON: b"rst:0x1 (POWERON_RESET)",
    ResetCause.HARD: b"rst:0x1 (POWERON_RESET)",
    ResetCause.WDT: b"rst:0x10 (RTCWDT_RTC_RESET)",
    ResetCause.DEEPSLEEP: b"rst:0x5 (DEEPSLEEP_RESET)",
    ResetCause.SOFT: b"rst:0xc (SW_CPU_RESET)",
}


class State(Enum):
    """What the chip is doing."""

    OFF = "off"
    HELD = "held in reset"
    DOWNLOAD = "download mode"
    RUNNING = "running"
    ASLEEP = "asleep"
    STUCK = "nothing to boot"


class Machine(Protocol):
    """The chip while it runs MicroPython."""

    async def start(self, cause: ResetCause) -> None:
        """Come out of reset."""

    def feed(self, data: bytes) -> None:
        """Bytes arrive at UART0."""

    async def stop(self) -> None:
        """EN is low or the power is gone: stop at once. May be called twice."""

    def close(self) -> None:
        """Let go of everything; after `stop`."""


class MachineFactory(Protocol):
    """Makes the machine for one boot."""

    def __call__(
        self,
        *,
        chip: Chip,
        mac: bytes,
        flash: Flash,
        partitions: list[Partition],
        on_console: Callable[[bytes], None],
        on_reset: Callable[[ResetCause, float], None],
        on_power_lost: Callable[[], None],
    ) -> Machine: ...


@dataclass
class Uart:
    """How the UART is used. `baud` is what the application sets."""

    baud: int = ROM_BAUD
    realtime: bool = False


class DevKit:
    """One chip with its flash, between the doors and the machine. It is the doors' `Line`."""

    def __init__(
        self,
        chip: Chip,
        mac: bytes,
        flash: Flash,
        machine: MachineFactory,
        console: Callable[[bytes], None],
        uart: Uart,
        on_state: Callable[[State], None] = lambda _state: None,
    ) -> None:
        self._state = State.OFF
        self._on_state = on_state
        self.doors: list[Door] = []
        self._chip = chip
        self._mac = mac
        self._flash = flash
        self._make_machine = machine
        self._console = console
        self._uart = uart
        self._rom = RomLoader(chip, mac, flash, self._client_baud)
        self._circuit = ResetCircuit()
        self.machine: Machine | None = None
        self._complaint: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._steps: asyncio.Queue[_Step] = asyncio.Queue()
        self._talker: Door | None = None
        self._recent = b""
        self._pulled_by: Door | None = None
        self._pending: bytearray | None = None
        self._baud = ROM_BAUD
        self._transmit: asyncio.Queue[bytes | int] = asyncio.Queue()
        self._unsent = 0
        self._line_free_at = 0.0
        self.heard = 0
        """Bytes that came in over the UART, whether or not anything took them."""
        self.said = 0
        """Bytes that went out over the UART, whether or not anybody listened."""

    async def run(self) -> None:
        """Be alive until cancelled; then the machine is stopped."""
        transmitter = asyncio.create_task(self._transmitter())
        try:
            while True:
                await self._take_step(await self._steps.get())
        finally:
            transmitter.cancel()
            await self._halt()

    @property
    def state(self) -> State:
        """What the chip is doing; `on_state` is told of each change."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._on_state(state)

    # -- what people do to a board --------------------------------------------------------------

    async def reset(self) -> None:
        """Press EN; a board without power gets it. Done when it has booted or cannot."""
        await self._done(self._reset)

    async def power_off(self) -> None:
        """Take the power away."""
        await self._done(self._lose_power)

    # -- the line, as the doors see it ----------------------------------------------------------

    def attached(self, door: Door) -> None:
        self._talker = door

    def detached(self, door: Door) -> None:
        if self._pulled_by is door:
            self._pulled_by = None
            self._order(self._reset)

    def lines(self, *, dtr: bool, rts: bool) -> None:
        edge = self._circuit.set(dtr=dtr, rts=rts)
        if edge is Edge.HOLD:
            self._order(self._hold)
        elif edge is Edge.DOWNLOAD:
            self._order(self._strapped_to_download)
        elif edge is Edge.RUN:
            self._order(self._reset)
        elif edge is Edge.CHARGE:
            asyncio.get_running_loop().call_later(self._circuit.CHARGE_S, self._charged)

    async def receive(self, door: Door, data: bytes) -> None:
        if self._uart.realtime:
            await self._time_on_line(len(data))
        self.heard += len(data)
        self._talker = door
        if self._pending is not None:
            self._pending += data[: _PENDING_LIMIT - len(self._pending)]
        elif self.state is State.DOWNLOAD:
            self._load(data)
        elif self.state in (State.RUNNING, State.STUCK, State.ASLEEP):
            self._hear(door, data)

    def _hear(self, door: Door, data: bytes) -> None:
        """Console input, unless a SYNC frame asks for download mode where no modem line can."""
        heard = self._recent + data
        at = heard.find(SYNC_FRAME) if door.enters_on_sync else -1
        if at >= 0:
            self._recent, self._pending, self._pulled_by = b"", bytearray(heard[at:]), door
            self._order(self._pulled_to_download)
            return
        self._recent = heard[-len(SYNC_FRAME) + 1 :]
        if self.machine:
            self.machine.feed(data)

    # -- steps ----------------------------------------------------------------------------------

    async def _reset(self) -> None:
        await self._boot(ResetCause.PWRON if self.state is State.OFF else ResetCause.HARD)

    async def _boot(self, cause: ResetCause) -> None:
        await self._halt()
        if self._pending is None:  # else a SYNC came meanwhile, and its step comes next
            self._pulled_by = None
        self._flash.power_on()
        self._set_baud(self._uart.baud)
        self._print(self._chip.rom_banner, _RESET_REASON[cause] + b"," + self._chip.flash_boot)
        self.state = State.STUCK
        try:
            partitions = boot.load(self._flash, self._chip)
        except boot.BootError as error:
            self._complaint = asyncio.create_task(self._complain(str(error)))
            return
        self.machine = self._make_machine(
            chip=self._chip,
            mac=self._mac,
            flash=self._flash,
            partitions=partitions,
            on_console=self._speak,
            on_reset=self._machine_resets,
            on_power_lost=self._power_lost,
        )
        await self.machine.start(cause)
        self.state = State.RUNNING

    async def _hold(self) -> None:
        await self._halt()
        if self.state is not State.OFF:
            self.state = State.HELD

    async def _strapped_to_download(self) -> None:
        self._pulled_by = self._pending = None
        await self._enter_download()
        self._print(
            self._chip.rom_banner,
            _RESET_REASON[ResetCause.HARD] + b"," + self._chip.download_boot,
            b"waiting for download",
        )

    async def _pulled_to_download(self) -> None:
        if self._pending is None:
            return  # the power was lost in between
        await self._enter_download()
        data, self._pending = bytes(self._pending), None
        self._load(data)

    async def _enter_download(self) -> None:
        await self._halt()
        self._flash.power_on()
        self._rom.restart()
        self._set_baud(ROM_BAUD)
        self.state = State.DOWNLOAD

    async def _lose_power(self) -> None:
        self._flash.power_off()
        await self._halt()
        self.state = State.OFF
        self._pulled_by = self._pending = None

    async def _sleep(self, cause: ResetCause, delay_s: float) -> None:
        await self._halt()
        self.state = State.ASLEEP
        if math.isfinite(delay_s):
            self._later(delay_s, partial(self._boot, cause))

    async def _halt(self) -> None:
        if self._alarm:
            self._alarm.cancel()
        if self._complaint:
            self._complaint.cancel()
        self._alarm = self._complaint = None
        machine, self.machine = self.machine, None
        if machine:
            await machine.stop()
            machine.close()

    async def _complain(self, text: str) -> None:
        """As the ROM does that its watchdog starts again and again."""
        while True:
            self._print(text.encode())
            await asyncio.sleep(_COMPLAINT_INTERVAL_S)

    # -- what the chip does by itself -----------------------------------------------------------

    def _machine_resets(self, cause: ResetCause, delay_s: float) -> None:
        if delay_s > 0:
            self._order(partial(self._sleep, cause, delay_s))
        else:
            self._order(partial(self._boot, cause))

    def _power_lost(self) -> None:
        self.state = State.OFF
        self._pulled_by = None
        self._order(self._lose_power)

    def _charged(self) -> None:
        if self._circuit.charged() is Edge.RUN:
            self._order(self._reset)

    def _load(self, data: bytes) -> None:
        try:
            actions = self._rom.feed(data)
        except PowerCut:
            self._power_lost()
            return
        for action in actions:
            if isinstance(action, SetBaud):
                self._set_baud(action.baud)
            elif isinstance(action, Leave):
                self._later(action.delay_s, partial(self._leave_loader, action.way))
            else:
                self._send(action)

    async def _leave_loader(self, way: Way) -> None:
        if way is Way.RELOAD:
            await self._enter_download()
            return
        await self._boot(ResetCause.WDT if way is Way.WATCHDOG else ResetCause.HARD)

    # -- the UART -------------------------------------------------------------------------------

    def _print(self, *lines: bytes) -> None:
        self._speak(b"".join(line + b"\r\n" for line in lines))

    def _speak(self, data: bytes) -> None:
        self._send(data)  # first, so that who waits for a line on the console finds it on the port
        self._console(data)

    def _send(self, data: bytes) -> None:
        self.said += len(data)
        if not self._uart.realtime:
            for door in self.doors:
                door.send(data)
        elif self._unsent + len(data) <= _UNSENT_LIMIT:
            self._unsent += len(data)
            self._transmit.put_nowait(data)

    def _set_baud(self, baud: int) -> None:
        """Takes effect after what was sent before."""
        self._transmit.put_nowait(baud)

    async def _transmitter(self) -> None:
        loop = asyncio.get_running_loop()
        free_at = 0.0
        while True:
            item = await self._transmit.get()
            if isinstance(item, int):
                self._baud = item
                continue
            for at in range(0, len(item), _PACE):
                piece = item[at : at + _PACE]
                free_at = max(free_at, loop.time()) + len(piece) * _BITS_A_BYTE / self._baud
                await asyncio.sleep(free_at - loop.time())
                for door in self.doors:
                    door.send(piece)
            self._unsent -= len(item)

    async def _time_on_line(self, length: int) -> None:
        now = asyncio.get_running_loop().time()
        taken = length * _BITS_A_BYTE / self._baud
        self._line_free_at = max(self._line_free_at, now) + taken
        await asyncio.sleep(self._line_free_at - now)

    def _client_baud(self) -> int:
        return self._talker.baud() if self._talker else ROM_BAUD

    # -- the queue of steps ---------------------------------------------------------------------

    def _order(self, step: Callable[[], Awaitable[None]]) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        self._steps.put_nowait((step, done))
        return done

    async def _done(self, step: Callable[[], Awaitable[None]]) -> None:
        await self._order(step)

    def _later(self, delay_s: float, step: Callable[[], Awaitable[None]]) -> None:
        if self._alarm:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self._order, step)

    async def _take_step(self, order: _Step) -> None:
        step, done = order
        try:
            await step()
        except ImprintError as error:  # the host cannot run the chip: say so where people look
            self._print(f"imprint: {error.code}: {error}".encode())
            _log.error("%s: %s", error.code, error)
        except Exception:
            self._print(b"imprint: the virtual board failed; its log has the traceback")
            _log.exception("a step of the virtual board failed")
        if not done.done():
            done.set_result(None)


_Step = tuple[Callable[[], Awaitable[None]], asyncio.Future[None]]
