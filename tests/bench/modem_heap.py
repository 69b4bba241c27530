"""The smallest heap with which a unit with a modem activates and reports."""

from __future__ import annotations

from pathlib import Path

from cell_lab import DIALECTS, travel
from heap import smallest
from lab import Lab, NotOnlineError
from measure import Figure, Row, Section

_KIB = 1024
_PATIENCE_S = 25.0


def measure(lab: Lab) -> Section:
    """A first boot in secure mode 3 with each family; a quick run has one."""
    runs = 1 if lab.quick else 2
    folder = lab.folder / "modem-heap"
    folder.mkdir()
    rows = [
        Row(f"first boot with {family}: activate, log in, report", "B",
            Figure.of([_KIB * smallest(lambda kib, of=family: _fits(lab, folder, of, kib, runs))]),
            aim=f"<= {64 * _KIB:,}")
        for family in (("nrf91",) if lab.quick else DIALECTS)
    ]  # fmt: skip
    return Section(
        "Heap of the EnOS journey (-X heapsize of 32-bit MicroPython, in steps of 1 KiB)",
        f"The smallest with which {runs} of {runs} first boots activated themselves over the "
        "virtual modem and had a report acknowledged, by bisection.",
        tuple(rows),
    )


def _fits(lab: Lab, folder: Path, family: str, kib: int, runs: int) -> bool:
    try:
        for _ in range(runs):
            travel(lab, folder, family=family, heap=f"{kib}k", timeout_s=_PATIENCE_S)
    except NotOnlineError:
        return False
    return True
