"""What happened on the way from a blank board to telemetry: the record that a demo leaves.

Plain data, no I/O: `demo` fills it, `report` draws it. Times are seconds since the journey began,
sizes are bytes, and nothing in it is a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ACKNOWLEDGED = "acknowledged"
FAILED = "failed"


class Party(StrEnum):
    """Who takes part, in the order in which a picture shows them."""

    BENCH = "bench"
    BOARD = "board"
    ACCESS_POINT = "access point"
    MODEM = "modem"
    CLOUD = "cloud"


@dataclass(frozen=True)
class Step:
    """One step of the bench, or of the board on its own."""

    name: str
    started_s: float
    seconds: float
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class Message:
    """Who told whom what. A message to oneself is something that happened there."""

    at_s: float
    sender: Party
    receiver: Party
    text: str
    size: int | None = None
    ok: bool = True


@dataclass(frozen=True)
class Span:
    """The board was in one state, of its ROM or of the firmware's onboarding table."""

    state: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Traffic:
    """Bytes that had crossed the network by then."""

    at_s: float
    up: int
    down: int


@dataclass(frozen=True)
class Heap:
    """Bytes of MicroPython's heap in use at that moment, garbage included."""

    at_s: float
    used: int


@dataclass(frozen=True)
class JourneyResult:
    """A journey and how it ended."""

    journey: str
    outcome: str
    began: str
    """When, as ISO 8601 with the offset."""
    network: Party = Party.ACCESS_POINT
    """What is between board and cloud."""
    facts: dict[str, str] = field(default_factory=dict)
    """What a reader wants to know about the set-up: name and value, in order."""
    steps: tuple[Step, ...] = ()
    messages: tuple[Message, ...] = ()
    states: tuple[Span, ...] = ()
    traffic: tuple[Traffic, ...] = ()
    heap: tuple[Heap, ...] = ()
    heap_limit_bytes: int | None = None
    registrations: int = 0
    reports: int = 0
    """Telemetry messages that the cloud recorded and acknowledged."""
    bytes_up: int = 0
    bytes_down: int = 0
    datagrams_up: int | None = None
    """None: not counted, as the way is a stream."""
    datagrams_down: int | None = None
    heap_peak_bytes: int | None = None
    mpy_bytes: int = 0
    failure: str = ""
    next_step: str = ""

    @property
    def ok(self) -> bool:
        return self.outcome == ACKNOWLEDGED

    @property
    def seconds(self) -> float:
        """From the beginning to the end of the last step."""
        return max((step.started_s + step.seconds for step in self.steps), default=0.0)

    def document(self) -> dict[str, Any]:
        """The result for a script: what `imprint demo --json` prints."""
        document: dict[str, Any] = {
            "journey": self.journey,
            "outcome": self.outcome,
            "steps": [
                {"name": step.name, "seconds": round(step.seconds, 3), "ok": step.ok}
                for step in self.steps
            ],
            "registrations": self.registrations,
            "reports": self.reports,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "datagrams_up": self.datagrams_up,
            "datagrams_down": self.datagrams_down,
            "heap_peak_bytes": self.heap_peak_bytes,
            "mpy_bytes": self.mpy_bytes,
        }
        if not self.ok:
            document["failure"] = self.failure
            document["next_step"] = self.next_step
        return document
