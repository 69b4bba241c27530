"""A socket of the modem's: a path through the air, with or without DTLS, and what has come in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from imprint_tools.virtual.modem.air import Air, Path
from imprint_tools.virtual.modem.clock import Clock
from imprint_tools.virtual.modem.dtls import Dtls, State

_LOOK_S = 0.02
"""So often Mbed TLS is asked whether it is time to retransmit."""
_QUEUE_BYTES = 16 * 1024


class Socket:
    """`on_data(size)` tells of each datagram queued in `waiting`, `on_closed()` that the server
    ended the session."""

    def __init__(self, air: Air, clock: Clock) -> None:
        self.air = air
        self.dtls: Dtls | None = None
        self.waiting: deque[bytes] = deque()
        self.closed = False
        self.on_data: Callable[[int], None] = lambda _size: None
        self.on_closed: Callable[[], None] = lambda: None
        self._clock = clock
        self._path: Path | None = None
        self._changed = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Payloads can be sent."""
        return (
            self._path is not None
            and not self.closed
            and (self.dtls is None or self.dtls.state is State.OPEN)
        )

    @property
    def queued(self) -> int:
        """Bytes that wait."""
        return sum(map(len, self.waiting))

    async def connect(self, host: str, port: int, timeout_s: float) -> bool:
        """Whether the handshake came to its end in time; without DTLS always."""
        self._path = self.air.path(host, port, self._datagram)
        if self.dtls is None:
            return True
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            self._changed.set()

        timer = self._clock.call_later(timeout_s, expire)
        try:
            while self.dtls.state is State.HANDSHAKE and not late:
                self._transmit(self.dtls.step())
                if self.dtls.state is State.HANDSHAKE:
                    await self._wait()
        finally:
            timer.cancel()
        return self.dtls.state is State.OPEN

    def send(self, data: bytes) -> None:
        """Send one datagram; `connected` must hold."""
        self._transmit(self.dtls.write(data) if self.dtls else [data])

    async def receive(self, timeout_s: float) -> bytes | None:
        """The oldest datagram; None when none comes in time."""
        await self.wait_for_data(timeout_s)
        return self.waiting.popleft() if self.waiting else None

    async def wait_for_data(self, timeout_s: float) -> None:
        """Until a datagram waits, the session is over, or the time."""
        end = self._clock.now() + timeout_s
        while not self.waiting and not self.closed and self._clock.now() < end:
            await self._wait()

    def close(self) -> None:
        """Say goodbye and let go."""
        if self.dtls:
            self._transmit(self.dtls.close())
        self.drop()

    def drop(self) -> None:
        """Let go without a word, as when the power is lost."""
        self.closed = True
        self._changed.set()
        if self._path:
            self._path.close()
            self._path = None

    def _transmit(self, datagrams: list[bytes]) -> None:
        if self._path:
            for datagram in datagrams:
                self._path.send(datagram)

    def _datagram(self, data: bytes) -> None:
        if self.dtls is None:
            self._queue(data)
            return
        was_open = self.dtls.state is State.OPEN
        self._transmit(self.dtls.receive(data))
        for payload in self.dtls.received:
            self._queue(payload)
        self.dtls.received.clear()
        self._changed.set()
        if was_open and self.dtls.state is State.CLOSED:
            self.closed = True
            self.on_closed()

    def _queue(self, data: bytes) -> None:
        if self.queued + len(data) <= _QUEUE_BYTES:
            self.waiting.append(data)
            self._changed.set()
            self.on_data(len(data))

    async def _wait(self) -> None:
        """Until something came, or a moment has passed."""
        self._changed.clear()
        # Mbed TLS retransmits by the host's clock, so this is not the modem's
        timer = asyncio.get_running_loop().call_later(_LOOK_S, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
