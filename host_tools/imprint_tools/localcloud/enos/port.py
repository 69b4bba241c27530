"""The UDP port and the clock of the local EnOS's CoAP side."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.enos.platform import EnosPlatform

Clock = Callable[[], float]
"""Seconds."""

_TICK_S = 0.1
_RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes asked of the kernel: thousands of units may come back together after a cut."""


class UdpPort(asyncio.DatagramProtocol):
    """The UDP port and the clock of a platform. Moves datagrams, knows no protocol."""

    def __init__(self, platform: EnosPlatform, clock: Clock) -> None:
        self._platform = platform
        self._clock = clock
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, port: int) -> int:
        """Listen on loopback; returns the port."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            sock.close()
            raise BenchStateError(
                f"UDP port {port} cannot be had: {error.strerror}",
                next_step="end what listens there, or let the cloud choose: port 0",
            ) from None
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)
        self._tick()
        return int(sock.getsockname()[1])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._platform.close()
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def tick(self) -> None:
        """Let the platform look at the clock."""
        self._platform.handle_timer(self._clock())
        self.flush()

    def flush(self) -> None:
        while (outgoing := self._platform.to_send()) is not None:
            if self._transport is not None:
                self._transport.sendto(*outgoing)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._platform.receive(data, (addr[0], addr[1]), self._clock())
        self.flush()

    def error_received(self, exc: Exception) -> None:
        """A peer's port is closed (ICMP): it will be silent, which its lifetime is for."""

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        self.tick()
