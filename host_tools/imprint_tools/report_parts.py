"""What the pictures of a report share: numbers for people, axes with round ticks, SVG elements."""

from __future__ import annotations

from html import escape
from math import floor, log10

ADVANCE = 6.3
"""Width in pixels that a character of the 12 px text takes, on average and a little above."""


def size_text(size: int) -> str:
    """Bytes in the unit that fits: `812 B`, `8.2 kB`, `1.35 MB`."""
    if size < 1000:
        return f"{size} B"
    for unit, factor in (("kB", 1_000), ("MB", 1_000_000)):
        value = size / factor
        if value < 1000 or unit == "MB":
            return f"{value:.{max(0, 2 - floor(log10(value)))}f} {unit}"
    raise AssertionError("unreachable")


def seconds_text(seconds: float) -> str:
    """`0.042 s`, `3.14 s`, `125 s`: three digits that count."""
    return (
        f"{seconds:.3f} s"
        if seconds < 1
        else f"{seconds:.2f} s"
        if seconds < 100
        else f"{seconds:.0f} s"
    )


def ticks(most: float, wanted: int) -> list[float]:
    """Round numbers from 0 to at least `most`: steps of 1, 2 or 5 times a power of ten."""
    most = max(most, 1e-9)
    raw = most / wanted
    power: float = 10.0 ** floor(log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    count = int(most / step)
    if count * step < most * 0.999:
        count += 1
    return [round(i * step, 10) for i in range(count + 1)]


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """One SVG element. `content` is markup; attribute names lose a trailing underscore."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def words(x: float, y: float, text: str, class_: str = "") -> str:
    """One line of plain text with its baseline at `y`."""
    return element("text", escape(text), x=x, y=y, class_=class_)


def drawing(
    width: float, height: float, title: str, description: str, content: str, key: str
) -> str:
    """A whole SVG with the names that a screen reader speaks."""
    return element(
        "svg",
        element("title", escape(title), id=f"{key}-title")
        + element("desc", escape(description), id=f"{key}-desc")
        + content,
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def fitted(text: str, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    most = max(1, int(width / ADVANCE))
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
