"""`imprint demo`: a whole journey on this machine, shown as it happens."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

from imprint_tools import demo as library
from imprint_tools.cli.output import emit, json_option, note, report_error
from imprint_tools.cli.types import HeapType
from imprint_tools.errors import JourneyFailedError
from imprint_tools.journey import JourneyResult, Message, Step
from imprint_tools.recorder import Watcher
from imprint_tools.report import render
from imprint_tools.report_parts import size_text


@click.command()
@click.option(
    "--journey", type=click.Choice(list(library.WORLDS)), default="aliyun", show_default=True
)
@click.option(
    "--chip", type=click.Choice(library.CHIPS), help="The board's, where no modem decides; esp32."
)
@click.option(
    "--registration",
    type=click.Choice(library.REGISTRATIONS),
    help="aliyun: how the unit gets its credential; regnwl. none: a deviceSecret is burned.",
)
@click.option(
    "--modem", type=click.Choice(library.MODEMS), help="enos-coap: its family, on a kit; nrf91."
)
@click.option(
    "--secure-mode",
    type=click.Choice([str(mode) for mode in library.SECURE_MODES]),
    help="enos-coap: 3, the unit activates itself (default), or 2, its deviceSecret is burned.",
)
@click.option(
    "--loss", type=click.FloatRange(0, 90), help="enos-coap: datagrams lost each way, in percent."
)
@click.option(
    "--subdevices",
    type=click.IntRange(1, library.SUBDEVICES_MAX),
    help="enos-gateway: inverters behind the edge; 20.",
)
@click.option(
    "--certificate",
    is_flag=True,
    default=None,
    help="enos-gateway: the edge applies for a certificate and logs in with it.",
)
@click.option(
    "--heap",
    type=HeapType(),
    help="MicroPython's heap; 96k, aliyun and enos-coap: 64k, enos-gateway: 128k.",
)
@click.option(
    "--reports", type=click.IntRange(1, 1000), default=3, show_default=True,
    help="Telemetry reports to wait for.",
)  # fmt: skip
@click.option(
    "--report", "page", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html",
    help="Write the journey as one page to look at.",
)  # fmt: skip
@click.option(
    "--keep", is_flag=True, help="Keep the folder with flash, logs and the cloud's data."
)
@json_option
def demo(
    journey: str,
    heap: str | None,
    reports: int,
    page: Path | None,
    keep: bool,
    as_json: bool,
    **of_journey: str | float | None,
) -> None:
    """Take a blank virtual board to telemetry in a local cloud, with the real tools.

    Exit status 0 says that the cloud has acknowledged telemetry. Nothing leaves this machine.
    """
    if page is not None and not page.parent.is_dir():
        raise click.BadParameter(f"there is no folder {page.parent}", param_hint="--report")
    chosen = _chosen(journey, of_journey)
    console = Console(stderr=as_json, highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="imprint-demo-")) if keep else None
    if folder is not None:  # said first: after Ctrl-C it is there, too
        note(f"kept: {folder}")
    plan = library.Plan(journey=journey, heap=heap, reports=reports, **chosen)
    with console.status("") as status:
        result = library.run(plan, watcher=_Timeline(console, status), folder=folder)
    if page is not None:
        page.write_text(render(result), encoding="utf-8")
    if as_json:
        emit(result.document(), "", as_json=True)
    else:
        console.print(_summary(result, page))
    if not result.ok:
        # The result is on stdout already, and there is room for one JSON document only.
        error = JourneyFailedError(result.failure, next_step=result.next_step)
        report_error(error, as_json=False)
        sys.exit(error.exit_code)


def _chosen(journey: str, options: Mapping[str, str | float | None]) -> dict[str, Any]:
    """Of the options that belong to one journey those that were given, as fields of the plan."""
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in library.WORLDS[journey].OPTIONS:
            raise click.UsageError(f"--{name.replace('_', '-')} is no option of {journey}")
    if "secure_mode" in given:
        given["secure_mode"] = int(given["secure_mode"])
    return given


class _Timeline(Watcher):
    """One line for each thing that happens, and a spinner for what takes time."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._step = ""

    def step_began(self, name: str) -> None:
        self._step = name
        self._status.update(Text(name))

    def progress(self, text: str) -> None:
        self._status.update(Text(f"{self._step}: {text}"))

    def step_ended(self, step: Step) -> None:
        mark, style = ("✓", "green") if step.ok else ("✗", "red")
        self._line(
            step.started_s + step.seconds,
            Text.assemble(
                (f"{mark} {step.name:<16}", f"bold {style}"),
                f" {step.seconds:6.2f} s  ",
                (step.detail, "" if step.ok else style),
            ),
        )

    def said(self, message: Message) -> None:
        who = message.sender.value
        if message.receiver is not message.sender:
            who += f" → {message.receiver.value}"
        size = "" if message.size is None else f" · {size_text(message.size)}"
        style = "dim" if message.ok else "red"
        self._line(message.at_s, Text(f"  {who:<22} {message.text}{size}", style=style))

    def entered(self, state: str, at_s: float) -> None:
        self._line(at_s, Text(f"● {state}", style="cyan"))

    def _line(self, at_s: float, text: Text) -> None:
        line = Text.assemble((f"{at_s:7.2f} s  ", "dim"), text)
        if self._console.is_terminal:
            self._console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(line, soft_wrap=True)


def _summary(result: JourneyResult, page: Path | None) -> Text:
    verdict = "acknowledged telemetry" if result.ok else "no telemetry acknowledged"
    peak = "not seen" if result.heap_peak_bytes is None else size_text(result.heap_peak_bytes)
    datagrams = ""
    if result.datagrams_up is not None:
        datagrams = f" in {result.datagrams_up} and {result.datagrams_down} datagrams"
    lines = [
        f"{verdict} after {result.seconds:.1f} s; "
        f"reports: {result.reports}, registrations: {result.registrations}",
        f"{size_text(result.bytes_up)} up, {size_text(result.bytes_down)} down{datagrams}; "
        f"heap peak {peak}; firmware {size_text(result.mpy_bytes)} as .mpy",
    ]
    if page is not None:
        lines.append(f"report: {page}")
    return Text("\n" + "\n".join(lines), style="bold" if result.ok else "bold red")
