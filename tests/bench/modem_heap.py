"""The smallest heap with which a unit with a modem activates and reports."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cell_lab import DIALECTS, travel
from heap import guest_bytes, smallest
from lab import Lab, NotOnlineError
from measure import Figure, Row, Section

_KIB = 1024
_PATIENCE_S = 20.0
_SIDE_BY_SIDE = 2


def measure(lab: Lab) -> Section:
    """A first boot with each family in both secure modes; a quick run has one."""
    folder = lab.folder / "modem-heap"
    folder.mkdir()
    cases = [(family, mode) for mode in (3, 2) for family in DIALECTS][: 1 if lab.quick else None]
    guest = guest_bytes(folder / "guest")
    assert lab.firmware  # made once, before threads ask for it

    def least(case: tuple[str, int]) -> int:
        family, mode = case
        place = folder / f"{family}-{mode}"
        place.mkdir()
        return _KIB * smallest(lambda kib: _fits(lab, place, family, mode, kib))

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        found = dict(zip(cases, pool.map(least, cases), strict=True))
    rows = [
        Row(f"first boot with {family}, secure mode {mode}", "B", Figure.of([size]),
            aim=f"<= {64 * _KIB:,}")
        for (family, mode), size in found.items()
    ]  # fmt: skip
    rows.append(Row("of each, the virtual board's own", "B", Figure.of([guest])))
    return Section(
        "Heap of the EnOS journey (-X heapsize of 32-bit MicroPython, in steps of 1 KiB)",
        "The smallest with which a first boot came online over the virtual modem, in mode 3 by "
        "activating itself, and had a report acknowledged, by bisection. The virtual board's own "
        "share is of an empty main.py.",
        tuple(rows),
    )


def _fits(lab: Lab, folder: Path, family: str, mode: int, kib: int) -> bool:
    heap = f"{kib}k"
    try:
        travel(lab, folder, family=family, heap=heap, timeout_s=_PATIENCE_S, secure_mode=mode)
    except NotOnlineError:
        return False
    return True
