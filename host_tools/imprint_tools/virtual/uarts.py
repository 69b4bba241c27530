"""The chip's other UARTs, at which peripherals are."""

from __future__ import annotations

import socket

NUMBERS = (1, 2)
"""UART 0 is the console's."""


class Uarts:
    """What is soldered to UART 1 and 2. It outlives resets, so the board keeps it."""

    def __init__(self) -> None:
        self.fds: dict[int, int] = {}
        """The guest's ends."""
        self._pairs: dict[int, tuple[socket.socket, socket.socket]] = {}

    def far_end(self, number: int) -> socket.socket:
        """A non-blocking stream to and from the guest's `machine.UART(number)`.

        To be asked for before the chip starts: a UART that nobody asked for is not connected.
        """
        if number not in NUMBERS:
            raise ValueError(f"UART {number} is not one of {NUMBERS}")
        if number not in self._pairs:
            here, there = self._pairs[number] = socket.socketpair()
            here.setblocking(False)
            self.fds[number] = there.fileno()
        return self._pairs[number][0]

    def close(self) -> None:
        for pair in self._pairs.values():
            for end in pair:
                end.close()
        self._pairs.clear()
        self.fds.clear()
