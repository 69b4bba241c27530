"""The result as a document, and the document as a table: for a terminal, a pipe, or a page."""

from __future__ import annotations

import os
import platform
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Literal

from imprint_tools import runtime
from measure import Section
from rich import box
from rich.console import Console
from rich.table import Table

_JUSTIFY: dict[str, Literal["left", "right"]] = {
    "what": "left",
    "imprint": "right",
    "today": "right",
    "who": "left",
    "ratio": "right",
    "aim": "left",
}
_HEAD = tuple(_JUSTIFY)
_PADDING = (0, 1)
_PAGE_WIDTH = 99
_TOOLS = ("imprint", "esptool", "mpremote", "aliyun-iot-linkkit", "esp-idf-nvs-partition-gen")


def document(
    sections: Mapping[str, Section], *, quick: bool, seconds: float, failed: Sequence[str]
) -> dict[str, Any]:
    """All there is to know of a run. Of the machine only its class: no names."""
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "micropython": runtime.find("i386").version,
            **{name: metadata.version(name) for name in _TOOLS},
        },
        "quick": quick,
        "seconds": round(seconds, 1),
        "failed": list(failed),
        "sections": {name: section.document() for name, section in sections.items()},
    }


def table(result: Mapping[str, Any]) -> str:
    """One table for all sections; with lines and colours on a terminal."""
    terminal = sys.stdout.isatty()
    sections = [
        (section["title"], list(_cells(section))) for section in result["sections"].values()
    ]
    rows = [_HEAD, *(cells for _title, found in sections for cells in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = sum(widths) + len(_PADDING) * len(widths)
    console = Console(width=None if terminal else room, highlight=False)
    with console.capture() as captured:
        for number, (title, found) in enumerate(sections):
            grid = Table(
                title=f"\n{title}",
                title_justify="left",
                title_style="bold",
                show_header=not number,
                box=box.SIMPLE_HEAD if terminal else None,
                pad_edge=False,
                padding=_PADDING,
            )
            for name, width in zip(_HEAD, widths, strict=True):
                grid.add_column(name, justify=_JUSTIFY[name], min_width=width)
            for cells in found:
                grid.add_row(*cells)
            console.print(grid)
        console.print(f"\n{_about(result)}")
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def markdown(result: Mapping[str, Any]) -> str:
    """The same for a page, with what is counted."""
    lines = [textwrap.fill(_about(result), _PAGE_WIDTH)]
    for section in result["sections"].values():
        lines += [
            "",
            f"## {section['title']}",
            "",
            textwrap.fill(section["counted"], _PAGE_WIDTH),
            "",
        ]
        lines += [
            _line(_HEAD),
            _line(["--:" if side == "right" else "---" for side in _JUSTIFY.values()]),
        ]
        lines += [_line(cells) for cells in _cells(section)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _about(result: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{result['machine']}; {versions}; {'quick run, ' * result['quick']}"
        f"{result['seconds']:.0f} s. "
        "Medians (min to max); the ratio is today's figure to imprint's."
    )


def _cells(section: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in section["rows"]:
        today, ratio = row["today"], row["ratio"]
        yield (
            row["what"],
            _figure(row["imprint"], row["unit"]),
            _figure(today, row["unit"]) if today else "",
            row["against"],
            _number(ratio) if ratio else "",
            row["aim"],
        )


def _figure(figure: Mapping[str, float], unit: str) -> str:
    median, low, high = (_number(figure[key]) for key in ("median", "min", "max"))
    spread = f" ({low} to {high})" if low != high else ""
    return f"{median} {unit}".rstrip() + spread


def _number(value: float) -> str:
    """Three figures, or all that a whole number has."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:#.3g}"
