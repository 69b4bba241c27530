"""How a cloud's rules say no."""

from __future__ import annotations


class Refusal(Exception):
    """The cloud says no. `reason` is a short stable name; what a device is told of it is decided
    where the protocol is spoken."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
