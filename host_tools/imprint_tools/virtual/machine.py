"""The chip while it runs MicroPython: a real one as a child process, and its console.

    Board  --feed-->  Machine  --stdin-->   MicroPython (unix port) + guest/*.py from ROM
           <-on_console-       <-stdout--
                               <-requests-  Silicon: flash, NVS, RTC, WDT, Wi-Fi, pins

The guest's heap is that of `heap`, and all that stands for silicon is kept on this side. The
guest's own modules run in place from a ROM image, so they take of the heap, on i386 with 64 kB
(63,264 B free in a bare unix port), about 6 kB: names, functions, the file system's buffers.
57.2 kB are free when main.py starts; `tests/host/test_virtual_machine.py` holds the limit.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from imprint_tools import runtime
from imprint_tools.errors import RuntimeMissingError
from imprint_tools.partitions import Partition
from imprint_tools.virtual import guest_image
from imprint_tools.virtual.chips import Chip
from imprint_tools.virtual.flash import Flash, PowerCut
from imprint_tools.virtual.guest_process import Begin, GuestProcess, Launch, Pipe
from imprint_tools.virtual.network import AccessPoint
from imprint_tools.virtual.silicon import ChipReset, Op, ResetCause, Rtc, Silicon, SoftReset
from imprint_tools.virtual.uarts import Uarts

__all__ = ["Machine", "ResetCause", "Rtc", "Uarts"]

_CTRL_C = 3

# MicroPython's unix port raises KeyboardInterrupt in the signal handler itself. The program needs
# time to end of it: a second one would meet the guest's own code.
_SIGINT_SPACING_S = 0.25

_CRASH_PAUSE_S = 0.5  # so that a guest that dies at once does not start a thousand times a second


class Machine:
    """One chip. Everything happens in the running event loop; see the module's picture.

    `on_reset(cause, delay_s)`: the program reset the chip, which is off until `start` is called
    again, `delay_s` from now (infinite: it sleeps until somebody resets it). `on_power_lost`: the
    flash raised PowerCut. In both cases the guest has ended already.
    """

    def __init__(
        self,
        *,
        chip: Chip,
        mac: bytes,
        flash: Flash,
        partitions: list[Partition],
        folder: Path,
        access_point: AccessPoint,
        on_console: Callable[[bytes], None],
        on_reset: Callable[[ResetCause, float], None],
        on_power_lost: Callable[[], None] = lambda: None,
        rtc: Rtc | None = None,
        uarts: Uarts | None = None,
        heap: str = "64k",
        arch: str = "i386",
    ) -> None:
        self.access_point = access_point
        self._model = chip.title
        self._on_console = on_console
        self._on_reset = on_reset
        self._on_power_lost = on_power_lost
        self._heap = heap
        self._arch = arch
        self._rtc = rtc or Rtc(folder / "clock")
        self._owns_uarts = uarts is None
        self._uarts = uarts or Uarts()
        self._silicon = Silicon(
            mac=mac,
            flash=flash,
            partitions=partitions,
            rtc=self._rtc,
            access_point=access_point,
            set_watchdog=self._set_watchdog,
            uart_fds=self._uarts.fds,
        )
        self._guest: GuestProcess | None = None
        self._launch: Launch | None = None
        self._running = False
        self._interrupt_char = _CTRL_C
        self._interrupt_wanted = False
        self._interrupted = False  # the program that runs, or the last one
        self._interrupt_pause: asyncio.TimerHandle | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._watchdog_s = 0.0

    @property
    def pins(self) -> dict[int, int]:
        """The level of each pin that the program or the bench has set; the bench may set more."""
        return self._silicon.pins

    @property
    def pid(self) -> int | None:
        """The process that runs MicroPython."""
        return self._guest.pid if self._guest else None

    def uart(self, number: int) -> socket.socket:
        """The far end of UART 1 or 2: see `Uarts.far_end`."""
        return self._uarts.far_end(number)

    async def start(self, cause: ResetCause) -> None:
        """Run from reset. Raises RuntimeMissingError, FetchError where there is no MicroPython."""
        await self.stop()
        image = await asyncio.to_thread(guest_image.path)
        found = await asyncio.to_thread(runtime.find, self._arch)
        if found.faketime is None:
            raise RuntimeMissingError(
                "the virtual board sets its clock with libfaketime, which this MicroPython lacks",
                next_step="`imprint runtime install` on Debian or Ubuntu gets one that has it",
            )
        if cause is ResetCause.PWRON:
            self._rtc.power_on()
        self._silicon.reset(cause)
        self.access_point.open()
        self._launch = Launch(
            found, found.faketime, image, self._rtc.file, self._heap, self._model
        )
        self._spawn(self._launch, Pipe(), Begin.MAIN)

    async def stop(self) -> None:
        """Hold the chip in reset: the guest ends at once, its connections are cut."""
        self._halt()
        await self.access_point.close()

    def close(self) -> None:
        """Let go of what `stop` leaves open: UARTs that nobody handed in."""
        if self._owns_uarts:
            self._uarts.close()

    def feed(self, data: bytes) -> None:
        """Bytes arriving at UART0. While a program runs, its interrupt character interrupts it."""
        guest = self._guest
        if guest is None:
            return
        for byte in data:
            if byte == self._interrupt_char and self._running:
                self._interrupt()
            elif byte == _CTRL_C and not guest.talked:
                self._interrupt_wanted = True  # as soon as there is a program
            else:
                guest.stdin.write(bytes((byte,)))
        self._watch_stdin(guest)

    def _watch_stdin(self, guest: GuestProcess) -> None:
        """Flush what the pipe had no room for as soon as it has."""
        loop = asyncio.get_running_loop()
        guest.stdin.flush()
        if guest.stdin.full:
            loop.add_writer(guest.stdin, self._watch_stdin, guest)
        else:
            loop.remove_writer(guest.stdin)

    def _spawn(self, launch: Launch, stdin: Pipe, begin: Begin) -> None:
        self._running = self._interrupted = False
        self._interrupt_char = _CTRL_C
        try:
            guest = GuestProcess(launch, stdin, self._uarts.fds.values(), begin)
        except OSError:
            stdin.close()
            raise
        self._guest = guest
        loop = asyncio.get_running_loop()
        loop.add_reader(guest.wire, self._serve, guest)
        loop.add_reader(guest.stdout, self._hear, guest)

    def _halt(self) -> None:
        """End the guest and what belongs to this life of the chip."""
        if self._watchdog:
            self._watchdog.cancel()
            self._watchdog = None
        if stdin := self._end_guest():
            stdin.close()
        self._silicon.station.power_off()

    def _end_guest(self) -> Pipe | None:
        """Kill the guest, pass on what it had printed; the pipe of its console input is left."""
        guest, self._guest = self._guest, None
        if guest is None:
            return None
        self._program_changes()
        loop = asyncio.get_running_loop()
        loop.remove_reader(guest.wire)
        loop.remove_reader(guest.stdout)
        loop.remove_writer(guest.stdin)
        guest.kill()
        self._print(guest.printed())
        guest.close()
        return guest.stdin

    # Console

    def _hear(self, guest: GuestProcess) -> None:
        self._print(guest.printed())

    def _print(self, data: bytes) -> None:
        """What print() sends; the board turns a line feed into CR LF."""
        if data:
            self._on_console(data.replace(b"\n", b"\r\n"))

    def _interrupt(self) -> None:
        """Send SIGINT; while the last one may be pending, later, if the program still runs."""
        guest = self._guest
        if guest is None:
            return
        if self._interrupt_pause:
            self._interrupt_wanted = True
            return
        loop = asyncio.get_running_loop()
        self._interrupt_pause = loop.call_later(_SIGINT_SPACING_S, self._interrupt_again)
        self._interrupted = True
        guest.send_signal(signal.SIGINT)

    def _interrupt_again(self) -> None:
        self._interrupt_pause = None
        if self._interrupt_wanted:
            self._interrupt_wanted = False
            self._interrupt()

    def _program_changes(self) -> bool:
        """No interrupt is pending between two programs; whether one was wanted before."""
        wanted, self._interrupt_wanted = self._interrupt_wanted, False
        if self._interrupt_pause:
            self._interrupt_pause.cancel()
            self._interrupt_pause = None
        return wanted

    # Requests of the guest

    def _serve(self, guest: GuestProcess) -> None:
        """Answer what the guest asks; its end of file is a crash."""
        if not guest.receive():
            self._crashed(guest)
        while guest is self._guest and (request := guest.next_request()):
            try:
                answer = self._answer(guest, *request)
            except SoftReset as wish:
                self._soft_reset(Begin.RAW_REPL if wish.raw else Begin.MAIN)
            except ChipReset as wish:
                self._reset(wish.cause, wish.delay_s)
            except PowerCut:
                self._halt()
                self._on_power_lost()
            else:
                guest.reply(answer)

    def _answer(self, guest: GuestProcess, op: Op, a: int, b: int, data: bytes) -> int | bytes:
        if op is Op.RUNNING:
            guest.talked = True
            self._running = bool(a)
            self._interrupt_char = _CTRL_C
            wanted = self._program_changes()
            if a:
                self._interrupted = False
                if wanted:
                    self._interrupt()
        elif op is Op.KBD_INTR:
            self._interrupt_char = a
        elif op is Op.STDOUT:
            self._print(guest.printed())  # all that was written before
            self._on_console(data)
        else:
            return self._silicon.answer(op, a, b, data)
        return 0

    def _soft_reset(self, begin: Begin) -> None:
        stdin = self._end_guest()
        self._silicon.soft_reset()
        if stdin and self._launch:
            self._spawn(self._launch, stdin, begin)

    def _reset(self, cause: ResetCause, delay_s: float) -> None:
        self._halt()
        self._on_reset(cause, delay_s)

    def _crashed(self, guest: GuestProcess) -> None:
        if self._interrupted:
            # Ctrl-C came in the middle of a garbage collection, which leaves the heap locked. On
            # a chip it waits for the next jump: give the prompt that it would have given.
            self._soft_reset(Begin.REPL)
            return
        status = guest.kill()
        self._halt()
        self._on_console(b"Guru Meditation Error: MicroPython ended (%d)\r\n" % status)
        self._on_reset(ResetCause.HARD, _CRASH_PAUSE_S)

    # Watchdog

    def _set_watchdog(self, timeout_s: float | None) -> None:
        if timeout_s is not None:
            self._watchdog_s = timeout_s
        if self._watchdog:
            self._watchdog.cancel()
        elif timeout_s is None:
            return
        loop = asyncio.get_running_loop()
        self._watchdog = loop.call_later(self._watchdog_s, self._bite)

    def _bite(self) -> None:
        self._halt()
        self._on_console(b"E (0) task_wdt: Task watchdog got triggered.\r\n")
        self._on_reset(ResetCause.WDT, 0.0)
