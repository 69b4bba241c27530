"""Figures side by side: medians of runs that alternate, with their spread. Never a verdict."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

_A = TypeVar("_A")
_B = TypeVar("_B")


@dataclass(frozen=True)
class Figure:
    """The same thing measured `runs` times."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        found = list(values)
        return cls(statistics.median(found), min(found), max(found), len(found))

    def document(self) -> dict[str, float]:
        return {"median": self.median, "min": self.low, "max": self.high, "runs": self.runs}


@dataclass(frozen=True)
class Row:
    """One line: imprint's figure, and what people use today beside it.

    `unit` is `s`, `ms`, `B` or empty for a plain number; `against` says who the other is.
    """

    what: str
    unit: str
    imprint: Figure
    today: Figure | None = None
    against: str = ""
    aim: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as much the other takes."""
        return self.today.median / self.imprint.median if self.today else None

    def document(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "unit": self.unit,
            "imprint": self.imprint.document(),
            "today": self.today.document() if self.today else None,
            "against": self.against,
            "ratio": self.ratio,
            "aim": self.aim,
        }


@dataclass(frozen=True)
class Section:
    """Rows that belong together. `counted` says, for a reader, what is in the figures."""

    title: str
    counted: str
    rows: tuple[Row, ...]
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "counted": self.counted,
            "rows": [row.document() for row in self.rows],
            "details": dict(self.details),
        }


def alternate(
    rounds: int, one: Callable[[], _A], other: Callable[[], _B]
) -> tuple[list[_A], list[_B]]:
    """One, other, one, other: so that a machine that slows down does so for both."""
    pairs = [(one(), other()) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]
