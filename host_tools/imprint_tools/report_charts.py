"""The charts of a report, over one axis of time: what ran, bytes on the air, heap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from imprint_tools.journey import JourneyResult, Traffic
from imprint_tools.report_parts import (
    ADVANCE,
    drawing,
    element,
    seconds_text,
    size_text,
    ticks,
    words,
)

_WIDTH = 960
_LEFT, _RIGHT = 76, 96
_BAND = 24
_PLOT = 130


@dataclass(frozen=True)
class _Axis:
    """Data from 0 to `most` on pixels from `start` to `end`."""

    most: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (self.end - self.start) * value / self.most


def charts(result: JourneyResult) -> str:
    """The panels as one SVG element."""
    time_ticks = ticks(max(_last_moment(result), 0.1), 8)
    time = _Axis(time_ticks[-1], _LEFT, _WIDTH - _RIGHT)
    parts = [_bands(result, time, 10)]
    y = 10 + 2 * (_BAND + 8) + 34
    parts.append(_traffic(result, time, y))
    y += _PLOT + 52
    parts.append(_heap(result, time, y))
    y += _PLOT
    for tick in time_ticks:
        x = time.at(tick)
        parts.insert(0, element("line", x1=x, y1=10, x2=x, y2=y, class_="grid"))
        parts.append(words(x, y + 18, f"{tick:g}", "quiet middle"))
    parts.append(
        words((_LEFT + _WIDTH - _RIGHT) / 2, y + 36, "seconds since the start", "quiet middle")
    )
    return drawing(
        _WIDTH,
        y + 44,
        "What ran, bytes on the air and heap over time",
        f"{len(result.steps)} steps and {len(result.states)} states over "
        f"{_last_moment(result):.1f} seconds; {result.bytes_up} bytes up and "
        f"{result.bytes_down} bytes down in the end; heap peak {result.heap_peak_bytes} bytes.",
        "".join(parts),
        "charts",
    )


def _last_moment(result: JourneyResult) -> float:
    moments = [result.seconds]
    moments += [span.end_s for span in result.states]
    moments += [sample.at_s for sample in result.traffic]
    moments += [sample.at_s for sample in result.heap]
    return max(moments)


def _bands(result: JourneyResult, time: _Axis, y: float) -> str:
    steps = [
        (s.name, s.started_s, s.started_s + s.seconds, "step" if s.ok else "failed")
        for s in result.steps
    ]
    states = [(s.state, s.start_s, s.end_s, s.state) for s in result.states]
    drawn = ""
    for label, spans, top in (("steps", steps, y), ("state", states, y + _BAND + 8)):
        drawn += words(_LEFT - 10, top + 16, label, "quiet end")
        drawn += "".join(_block(time, top, *span) for span in spans)
    return drawn


def _block(time: _Axis, y: float, name: str, start_s: float, end_s: float, kind: str) -> str:
    x, width = time.at(start_s), max(1.5, time.at(end_s) - time.at(start_s))
    shape = element("rect", x=x, y=y, width=width, height=_BAND, rx=2, class_=f"state s-{kind}")
    title = element("title", escape(f"{name}: {seconds_text(end_s - start_s)}"))
    # Bold capitals are wider than the text that ADVANCE is for.
    fits = len(name) * ADVANCE * 1.25 + 8 < width
    text = words(x + width / 2, y + 16, name, f"state-word s-{kind}") if fits else ""
    return element("g", title + shape + text)


def _traffic(result: JourneyResult, time: _Axis, y: float) -> str:
    samples = (Traffic(0, 0, 0), *result.traffic)
    samples += (replace(samples[-1], at_s=_last_moment(result)),)
    most = max(max(s.up, s.down) for s in samples)
    drawn, up = _frame("Bytes over the access point", max(most, 1), y)
    last = samples[-1]
    ends = {"up": up.at(last.up), "down": up.at(last.down)}
    if abs(ends["up"] - ends["down"]) < 15:  # keep the two labels apart
        lower = max(ends, key=lambda name: ends[name])
        ends[lower] = min(ends.values()) + 15
    for name, values in (("up", [s.up for s in samples]), ("down", [s.down for s in samples])):
        points = _stairs(
            [(time.at(s.at_s), up.at(v)) for s, v in zip(samples, values, strict=True)]
        )
        drawn += element("path", d=points, class_=f"line {name}")
        text = f"{'↑' if name == 'up' else '↓'} {size_text(values[-1])} {name}"
        drawn += words(time.at(last.at_s) + 8, ends[name] + 4, text, f"{name} halo")
    return drawn


def _heap(result: JourneyResult, time: _Axis, y: float) -> str:
    limit = result.heap_limit_bytes
    most = max([limit or 0, 1, *(sample.used for sample in result.heap)])
    drawn, up = _frame("MicroPython heap in use", most, y)
    if limit:
        drawn += element(
            "line", x1=_LEFT, y1=up.at(limit), x2=_WIDTH - _RIGHT, y2=up.at(limit), class_="limit"
        )
        drawn += words(_WIDTH - _RIGHT + 8, up.at(limit) + 4, f"all {size_text(limit)}", "quiet")
    points = [(time.at(sample.at_s), up.at(sample.used)) for sample in result.heap]
    if points:
        drawn += element("path", d=_joined(points), class_="line heap")
        drawn += "".join(element("circle", cx=x, cy=y_, r=2.5, class_="heap") for x, y_ in points)
        peak = max(result.heap, key=lambda sample: sample.used)
        drawn += words(
            time.at(peak.at_s) + 8,
            up.at(peak.used) - 6,
            f"peak {size_text(peak.used)}",
            "heap halo",
        )
    return drawn


def _frame(title: str, most: float, y: float) -> tuple[str, _Axis]:
    marks = ticks(most, 4)
    axis = _Axis(marks[-1], y + _PLOT, y)
    drawn = words(_LEFT, y - 12, title, "strong halo")
    for mark in marks:
        at = axis.at(mark)
        kind = "axis" if mark == 0 else "grid"
        drawn += element("line", x1=_LEFT, y1=at, x2=_WIDTH - _RIGHT, y2=at, class_=kind)
        drawn += words(_LEFT - 10, at + 4, _tick_text(mark, most), "quiet end")
    return drawn, axis


def _tick_text(mark: float, most: float) -> str:
    return f"{mark / 1000:g} kB" if most >= 1000 else f"{mark:g} B"


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """A line that holds its value until the next sample."""
    x, y = points[0]
    return f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
