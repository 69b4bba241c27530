"""Between a modem's engine and its UART: moves bytes, waits, feeds the watchdog.

The stream is a `machine.UART` made with timeout=0 and a receive buffer of 1 kB or more, or
anything else with `readinto(buffer)` (None or 0: nothing is there now) and `write(data)` (how
many bytes it took). Bytes are read into one buffer, made once.
"""

from micropython import const

from imprint import port

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from imprint.modem.engine import Engine, Talk

_CHUNK = const(128)  # bytes: 11 ms at 115,200 baud
_STEP_MS = const(2)
_WRITE_MS = const(5000)  # 4 kB take 0.4 s; then the modem holds CTS


class ModemUart:
    """`feed` is called while waiting (the watchdog's). `listener(event)` gets what URCs say that
    concerns no socket (see dialects/common.py)."""

    def __init__(self, stream, engine: "Engine", dialect, feed: "Callable[[], None]") -> None:
        self.dialect = dialect
        self.engine = engine
        self.listener: "Callable[[tuple], None] | None" = None
        self._stream = stream
        self._feed = feed
        self._buf = bytearray(_CHUNK)
        self._sockets: dict = {}  # by handle
        self._troubled = 0  # URCs lost and lines mutilated, when sockets were last told

    def run(self, talk: "Talk"):
        """Hold a dialogue to its end: what it returns, or raises. Bounded, as each of its
        commands is; URCs that come meanwhile are dealt with afterwards.

        A dialogue that is cut off (KeyboardInterrupt) leaves the engine usable.
        """
        engine = self.engine
        engine.start(talk, port.ticks_ms())
        try:
            while not engine.done():
                self._turn(engine.next_timeout(port.ticks_ms()))
        finally:
            engine.abort()
        value = engine.result()
        self._tell()
        return value

    def poll(self, timeout_ms: int) -> bool:
        """Take in what comes; True as soon as a URC was dealt with, False when none came in
        `timeout_ms`."""
        deadline = port.ticks_add(port.ticks_ms(), timeout_ms)
        while not self._tell():
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            self._turn(max(0, left_ms))
            if left_ms <= 0:
                return self._tell()
        return True

    def attach(self, handle: int, socket) -> None:
        """`socket.notify(event)` is called for what concerns that handle, for reboots and when
        the data connection is lost."""
        self._sockets[handle] = socket

    def detach(self, handle: int) -> None:
        self._sockets.pop(handle, None)

    def _turn(self, wait_ms: "int | None") -> None:
        # Once round: write, read, let time pass if there was nothing.
        engine = self.engine
        engine.handle_timer(port.ticks_ms())
        data = engine.to_send()
        while data:
            self._write(data)
            data = engine.to_send()
        count = self._stream.readinto(self._buf)
        if count:
            engine.feed(self._buf, 0, count, port.ticks_ms())
        elif wait_ms is None or wait_ms:
            self._feed()
            port.sleep_ms(_STEP_MS)

    def _write(self, data: bytes) -> None:
        deadline = port.ticks_add(port.ticks_ms(), _WRITE_MS)
        view = memoryview(data)
        while view and port.ticks_diff(deadline, port.ticks_ms()) > 0:
            count = self._stream.write(view)
            if count:
                view = view[count:]
            else:
                self._feed()
                port.sleep_ms(_STEP_MS)
        # What could not be written is found by the command's own timeout.

    def _tell(self) -> bool:
        # Deal with all URCs; whether there were any.
        engine = self.engine
        told = False
        urc = engine.urc()
        while urc:
            told = True
            event = self.dialect.parse_urc(urc[0], urc[1])
            if event:
                self._dispatch(event)
            urc = engine.urc()
        troubled = engine.lost + engine.strays
        if troubled != self._troubled:
            # One of them may have said that data waits: have the sockets look.
            self._troubled = troubled
            for socket in list(self._sockets.values()):
                socket.notify(("data", None, None))
        return told

    def _dispatch(self, event: tuple) -> None:
        if event[0] in ("reboot", "pdp_lost"):
            for socket in list(self._sockets.values()):
                socket.notify(event)
        elif event[0] in ("data", "closed"):
            if event[1] in self._sockets:
                self._sockets[event[1]].notify(event)
            return
        if self.listener:
            self.listener(event)
