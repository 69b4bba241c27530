"""`imprint monitor`: the board's console, with its events in words."""

from __future__ import annotations

import json

import click

from imprint_tools import monitor as library
from imprint_tools.cli.output import json_option
from imprint_tools.cli.types import port_option, resolve_port
from imprint_tools.monitor import Event, Item, Link, Text

_UNTIL_S = 300  # a first power-on, registration with its retries included, is done long before


@click.command()
@port_option
@click.option("--baud", default=115200, show_default=True, help="Baud rate of the console.")
@click.option("--until", metavar="EVENT", help="Stop at this event, e.g. online, reported.acked.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    help="Seconds in all; with --until 300 unless given.",
)
@json_option
def monitor(
    port: str | None, baud: int, until: str | None, timeout_s: float | None, as_json: bool
) -> None:
    """Follow a board's console and explain its events.

    With --until the exit status says whether the event came: 0, or 23 when the time was up or
    the board gave up before. With --json each line of output is one JSON object.
    """
    if until is not None and timeout_s is None:
        timeout_s = _UNTIL_S
    items = library.follow(resolve_port(port), baudrate=baud, until=until, timeout_s=timeout_s)
    try:
        for item in items:
            click.echo(json.dumps(_record(item)) if as_json else _line(item))
    except KeyboardInterrupt:
        items.close()


def _record(item: Item) -> dict[str, object]:
    if isinstance(item, Text):
        return {"kind": "text", "line": item.line}
    if isinstance(item, Link):
        return {"kind": "port", "up": item.up}
    record: dict[str, object] = {"kind": "event", "t_ms": item.t_ms, "event": item.name}
    record["data"] = dict(item.data)
    if item.error is not None:
        record["cause"], record["next_step"] = item.error.cause, item.error.next_step
    return record


def _line(item: Item) -> str:
    if isinstance(item, Text):
        return item.line
    if isinstance(item, Link):
        return "-- the port is back" if item.up else "-- the port went away; waiting for it"
    return _event_line(item)


def _event_line(event: Event) -> str:
    hidden = ("code", "name", "retry") if event.error is not None else ()
    fields = {key: value for key, value in event.data.items() if key not in hidden}
    if event.name == "state":
        words = str(fields.pop("s", ""))
    elif event.error is not None:
        words = f"{event.error.code} {event.data.get('name', event.error.name)}"
    else:
        words = ""
    words += "".join(f" {key}={value}" for key, value in sorted(fields.items()))
    line = f"{event.t_ms / 1000:10.3f} s  {event.name:<10} {words.strip()}".rstrip()
    if event.error is None:
        return line
    indent = "\n" + " " * 14
    return f"{line}{indent}{event.error.cause}{indent}next: {event.error.next_step}"
