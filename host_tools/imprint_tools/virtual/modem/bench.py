"""A virtual modem on the bench: in a thread of its own, at the end of any byte stream.

    with Modem("nrf91", routes=[Route("coap-*", 5684, ("127.0.0.1", port), "udp")]) as modem:
        modem.stream          # our end of its UART: a non-blocking socket
        modem.rebind()        # what the world does to it

The methods may be called from any thread. What `Modem` has as attributes may be changed while it
runs: `sim`, `cell`, `weather`, `quirks`.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from imprint_tools.endpoints import Endpoint
from imprint_tools.virtual.doors import Door, PtyDoor
from imprint_tools.virtual.modem.air import Air, Counts, Weather
from imprint_tools.virtual.modem.cellular import Cell, Radio, Sim
from imprint_tools.virtual.modem.clock import Clock, LoopClock
from imprint_tools.virtual.modem.core import Core, Parts
from imprint_tools.virtual.modem.families import FAMILIES
from imprint_tools.virtual.modem.quirks import Quirks

_T = TypeVar("_T")
_ANSWER_S = 10.0
_CHUNK = 4096
_UNSENT_LIMIT = 1024 * 1024


class Modem:
    """One modem, without power until `start` or `with`; it goes on when a board is reset."""

    def __init__(
        self,
        family: str,
        *,
        routes: Iterable[Endpoint] = (),
        stream: socket.socket | None = None,
        pty: Path | None = None,
        imei: str | None = None,
        sim: Sim | None = None,
        cell: Cell | None = None,
        weather: Weather | None = None,
        quirks: Quirks | None = None,
        clock: Clock | None = None,
        seed: int = 0,
        boot_s: float = 0.5,
        retransmit_s: tuple[float, float] = (1.0, 60.0),
        on_command: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """`stream` is the modem's end of its UART (`Uarts.far_end(1)` of a virtual board), `pty`
        a link to a pseudo-terminal; with neither, `stream` becomes the host's end of a new pair.

        `boot_s` passes from power-up to the first URC, `retransmit_s` are the first and longest
        waits of DTLS before it sends again (by the host's clock, as Mbed TLS has no other),
        `on_command` gets each command line, secrets left out. Raises KeyError: no such family.
        """
        self.family = FAMILIES[family]
        self.sim, self.cell = sim or Sim(), cell or Cell()
        self.weather, self.quirks = weather or Weather(), quirks or Quirks()
        self.routes = list(routes)
        self.imei = imei or imei_of(family)
        self.pty = pty
        self._pair: tuple[socket.socket, socket.socket] | None = None
        if stream is None and pty is None:
            self._pair = socket.socketpair()
            stream = self._pair[0]
            for end in self._pair:
                end.setblocking(False)
        # A handle of our own: the board closes its own when it goes
        self._line = stream.dup() if stream is not None else None
        self._clock = clock or LoopClock()
        self._seed, self._boot_s, self._retransmit_s = seed, boot_s, retransmit_s
        self._on_command = on_command
        self.nvm: dict[str, Any] = {}
        """What it keeps without power; keys and values are the family's own."""
        self._unsent = bytearray()
        self._door: Door | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def stream(self) -> socket.socket:
        """The host's end of the UART. Raises ValueError: the UART leads elsewhere."""
        if self._pair is None:
            raise ValueError("this modem was given its stream")
        return self._pair[1]

    def start(self) -> None:
        """Give it power; it boots by its clock."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"modem {self.family.FAMILY}", daemon=True
        )
        self._thread.start()
        self._run(self._up())

    def stop(self) -> None:
        """Take its power; what is in its NVM stays for the next `start`."""
        loop = self._loop
        if loop is None:
            return
        self._run(self._down())
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(_ANSWER_S)
        loop.close()
        self._loop = None

    def close(self) -> None:
        """Stop, and let go of the stream."""
        self.stop()
        for end in (self._line, *(self._pair or ())):
            if end is not None:
                end.close()

    def __enter__(self) -> Modem:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- what one sees --------------------------------------------------------------------------

    @property
    def core(self) -> Core:
        """The inside; its loop is the modem's."""
        return self._core

    @property
    def commands(self) -> list[str]:
        """The command lines that came, secrets left out."""
        return list(self._core.log)

    @property
    def counts(self) -> Counts:
        """What crossed the air."""
        return self._core.air.counts

    @property
    def starts(self) -> int:
        """How often it has started."""
        return self._core.starts

    @property
    def early(self) -> int:
        """Bytes of commands that came before the final of the one before."""
        return self._core.terminal.early

    def facts(self) -> dict[str, Any]:
        """What `imprint modem list` shows."""
        radio, counts = self._core.radio, self.counts
        return {
            "asleep": radio.asleep,
            "bytes_down": counts.bytes_down,
            "bytes_up": counts.bytes_up,
            "commands": len(self._core.log),
            "datagrams_down": counts.datagrams_down,
            "datagrams_up": counts.datagrams_up,
            "registration": radio.stat,
            "sockets": len(self._core.sockets),
            "starts": self.starts,
        }

    # -- what the world does to it --------------------------------------------------------------

    def reboot(self) -> None:
        """Lose the power for a moment."""
        self._call(self._core.power_on)

    def order_reboot(self, at_command: int, *, after: bool = False) -> None:
        """Reboot at the n-th command from now: received but not done; or done, not answered."""
        self._call(lambda: self._core.order_reboot(at_command, after=after))

    def wake(self) -> None:
        """Press the power key of a modem that sleeps."""
        self._call(self._core.wake)

    def inject(self, data: bytes) -> None:
        """Noise on the line towards the host."""
        self._call(lambda: self._write(data))

    def rebind(self) -> None:
        """The carrier's NAT forgets its bindings, silently."""
        self._call(self._core.air.rebind)

    def retry(self) -> None:
        """Look for the network anew, after `cell` or `sim` was changed."""
        self._call(self._core.radio.retry)

    def lose_network(self) -> None:
        """Drop out of the network and look for it again."""
        self._call(self._core.radio.lose)

    def cut_line(self, deaf: bool = True) -> None:
        """Neither hear nor speak on the UART; False: again."""
        self._call(lambda: setattr(self, "_deaf", deaf))

    # -- in the loop ----------------------------------------------------------------------------

    _deaf = False

    async def _up(self) -> None:
        radio = Radio(self.sim, self.cell, self._clock)
        air = Air(self.routes, self.weather, self._clock, seed=self._seed)
        self._core = self.family(
            Parts(
                radio=radio,
                air=air,
                clock=self._clock,
                quirks=self.quirks,
                write=self._write,
                imei=self.imei,
                retransmit_s=self._retransmit_s,
                boot_s=self._boot_s,
                nvm=self.nvm,
            )
        )
        self._core.on_command = self._on_command
        if self._line is not None:
            self._line.setblocking(False)
            asyncio.get_running_loop().add_reader(self._line, self._readable, self._line)
        if self.pty is not None:
            self._door = PtyDoor(self, self.pty)
            await self._door.open()
        self._core.power_on()

    async def _down(self) -> None:
        self._core.power_off()
        self._core.radio.set_functionality(0)
        self._core.air.close()
        if self._line is not None:
            asyncio.get_running_loop().remove_reader(self._line)
            asyncio.get_running_loop().remove_writer(self._line)
        if self._door:
            await self._door.close()
            self._door = None
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _readable(self, line: socket.socket) -> None:
        try:
            data = line.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(line)
        self._heard(data)

    def _heard(self, data: bytes) -> None:
        if data and not self._deaf:
            self._core.feed(data)

    def _write(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._door:
            self._door.send(data)
        elif self._line is not None and len(self._unsent) + len(data) <= _UNSENT_LIMIT:
            self._unsent += data
            self._flush(self._line)

    def _flush(self, line: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._unsent:
                del self._unsent[: line.send(self._unsent[:_CHUNK])]
        except BlockingIOError:
            loop.add_writer(line, self._flush, line)
            return
        except OSError:
            self._unsent.clear()  # nobody is at the other end
        loop.remove_writer(line)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the modem has no power")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_S)

    def _call(self, action: Callable[[], object]) -> None:
        async def called() -> None:
            action()

        self._run(called())

    # -- the pseudo-terminal's line -------------------------------------------------------------

    def attached(self, door: Door) -> None:
        """A program has opened the port: nothing that a UART would see."""

    def detached(self, door: Door) -> None:
        """It has closed it."""

    def lines(self, *, dtr: bool, rts: bool) -> None:
        """A pseudo-terminal has none."""

    async def receive(self, door: Door, data: bytes) -> None:
        self._heard(data)


def imei_of(name: str) -> str:
    """The IMEI of the modem of that name: always the same one, of the range for tests (001)."""
    digits = "00101" + f"{int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) % 10**9:09d}"
    # Luhn's check digit, TS 23.003
    doubled = (int(digit) * (1 + index % 2) for index, digit in enumerate(digits))
    return digits + str(-sum(value // 10 + value % 10 for value in doubled) % 10)
