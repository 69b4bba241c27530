"""Milliseconds that wrap, as the board's clock counts them. Pure.

`time.ticks_ms()` counts from 0 to 2^30 - 1 and begins again. Pure modules get the time as an
argument and compare only through these two; larger clocks (CPython's) do as well.
"""

from micropython import const

_MASK = const(0x3FFFFFFF)
_HALF = const(0x20000000)


def add(ticks: int, delta_ms: int) -> int:
    """The moment `delta_ms` after `ticks`, which must be less than six days."""
    return (ticks + delta_ms) & _MASK


def diff(later: int, earlier: int) -> int:
    """Milliseconds from `earlier` to `later`; negative if it is the other way round."""
    return ((later - earlier + _HALF) & _MASK) - _HALF
