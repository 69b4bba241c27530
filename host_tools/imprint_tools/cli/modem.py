"""`imprint modem`: virtual cellular modems in the state folder, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import click

from imprint_tools import endpoints, paths
from imprint_tools.cli import background
from imprint_tools.cli.output import emit, json_option, note
from imprint_tools.endpoints import Endpoint
from imprint_tools.errors import BenchStateError
from imprint_tools.virtual import control
from imprint_tools.virtual.modem.air import Weather
from imprint_tools.virtual.modem.cellular import Cell, Coverage, Sim
from imprint_tools.virtual.modem.families import FAMILIES
from imprint_tools.virtual.modem.quirks import NAMES, Quirks, from_words
from imprint_tools.virtual.modem.server import KIND, ServedModem, read_state

_STOPPED_S = 30.0
_name = click.argument("name", default="one")
_chance = click.FloatRange(0, 100)


@click.group()
def modem() -> None:
    """Virtual cellular modems: a port that speaks a family's AT commands, with real DTLS."""


@modem.command()
@_name
@click.option("--family", type=click.Choice(list(FAMILIES)), default="nrf91", show_default=True)
@click.option(
    "--route",
    "routes",
    multiple=True,
    metavar="HOST:PORT=HOST:PORT",
    help="Where UDP to a name (or a pattern as in coap-*) and port leads (repeatable).",
)
@click.option("--cloud", "clouds", multiple=True, help="A local cloud it can reach (repeatable).")
@click.option("--loss", type=_chance, default=0, help="Datagrams lost, in percent.")
@click.option("--duplicate", type=_chance, default=0, help="Datagrams heard twice, in percent.")
@click.option("--reorder", type=_chance, default=0, help="Datagrams overtaken, in percent.")
@click.option("--latency-ms", type=click.FloatRange(0), default=0, help="Each way.")
@click.option("--seed", type=int, default=0, help="The weather is the same for the same seed.")
@click.option(
    "--coverage",
    type=click.Choice([coverage.value for coverage in Coverage]),
    default=Coverage.HOME.value,
    show_default=True,
)
@click.option("--no-sim", is_flag=True, help="The SIM is missing.")
@click.option(
    "--quirk",
    "quirks",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Something that it should not do (repeatable): "
    + ", ".join(NAMES)
    + ". VALUE is on, off, a number, or COMMAND:NUMBER as in slow=+CFUN:2.5.",
)
@click.option("--foreground", is_flag=True, help="Stay, and print the commands that come.")
@click.option("--ready-fd", type=int, hidden=True)
@json_option
def up(name: str, foreground: bool, ready_fd: int | None, as_json: bool, **options: Any) -> None:
    """Power a modem up, in the background, and print its port. Its NAME is `one`, or given."""
    shown = note if foreground and ready_fd is None else _nowhere
    served = _modem(name, options, shown)
    if not foreground:
        _show(background.start(KIND, served.folder, _arguments(name, options)), as_json=as_json)
        return
    signal.signal(signal.SIGTERM, lambda *_: served.went_down.set())
    with served:
        state = read_state(served.folder)
        if ready_fd is None:
            _show(state, as_json=as_json)
        else:
            with os.fdopen(ready_fd, "w") as ready:
                json.dump(state, ready)
        try:
            served.went_down.wait()
        except KeyboardInterrupt:
            note("imprint: the modem goes down")


@modem.command()
@_name
@json_option
def down(name: str, as_json: bool) -> None:
    """Take a modem's power and process away."""
    folder = _folder(name)
    control.request(folder, "down", kind=KIND)
    with control.lock(folder, kind=KIND, wait_s=_STOPPED_S):
        pass  # free again: the process let go of everything
    emit({"name": name, "up": False}, f"{name} is down", as_json=as_json)


@modem.command(name="list")
@json_option
def list_modems(as_json: bool) -> None:
    """Show all modems, their registration and what crossed the air."""
    found = [_facts(path.parent) for path in sorted(_home().glob("*/modem.json"))]
    emit(found, "\n".join(map(_line, found)) or "no modems", as_json=as_json)


@modem.command()
@_name
@json_option
def reboot(name: str, as_json: bool) -> None:
    """Take its power for a moment: all sessions are lost."""
    _tell(name, "reboot", as_json=as_json)


@modem.command()
@_name
@json_option
def rebind(name: str, as_json: bool) -> None:
    """Let the carrier's NAT forget: the server sees new source ports, old ones are dead."""
    _tell(name, "rebind", as_json=as_json)


@modem.command()
@_name
@json_option
def wake(name: str, as_json: bool) -> None:
    """Press the power key of a modem in power saving mode."""
    _tell(name, "wake", as_json=as_json)


def _modem(name: str, options: dict[str, Any], shown: Any) -> ServedModem:
    routes = [_route(text) for text in options["routes"]]
    for cloud in options["clouds"]:
        routes += endpoints.load(paths.state_dir() / "clouds" / cloud).endpoints
    return ServedModem(
        _folder(name),
        options["family"],
        routes=routes,
        sim=Sim(present=not options["no_sim"]),
        cell=Cell(coverage=Coverage(options["coverage"])),
        weather=Weather(
            latency_s=options["latency_ms"] / 1000,
            loss=options["loss"] / 100,
            duplicate=options["duplicate"] / 100,
            reorder=options["reorder"] / 100,
        ),
        quirks=_quirks(options["quirks"]),
        seed=options["seed"],
        on_command=shown,
    )


def _nowhere(_line: str) -> None:
    """A modem in the background tells its commands to nobody."""


def _quirks(words: tuple[str, ...]) -> Quirks:
    try:
        return from_words(words)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--quirk") from None


def _route(text: str) -> Endpoint:
    """`coap-*:5684=127.0.0.1:5684`, for UDP."""
    sides = [side.rpartition(":") for side in text.split("=")]
    if len(sides) != 2 or not all(host and port.isdecimal() for host, _, port in sides):
        raise click.BadParameter(f"{text!r} is not HOST:PORT=HOST:PORT", param_hint="--route")
    (host, _, port), (target, _, target_port) = sides
    return Endpoint(host, int(port), (target, int(target_port)), "udp")


def _arguments(name: str, options: dict[str, Any]) -> list[str]:
    arguments = [name]
    for option, value in options.items():
        flag = "--" + option.replace("_", "-")
        if isinstance(value, tuple):
            arguments += [word for one in value for word in (flag.removesuffix("s"), one)]
        elif value is True:
            arguments.append(flag)
        elif value:
            arguments += [flag, str(value)]
    return arguments


def _tell(name: str, do: str, *, as_json: bool) -> None:
    answer = control.request(_folder(name), do, kind=KIND)
    emit({"name": name, **answer}, f"{name}: done", as_json=as_json)


def _facts(folder: Path) -> dict[str, Any]:
    facts = read_state(folder)
    try:
        return {**facts, "up": True, **control.request(folder, "status", kind=KIND)}
    except BenchStateError:
        return {key: facts[key] for key in facts if key not in ("port", "pid")} | {"up": False}


def _show(state: dict[str, Any], *, as_json: bool) -> None:
    emit({**state, "up": True}, state["port"], as_json=as_json)


def _line(facts: dict[str, Any]) -> str:
    state = f"+CEREG {facts['registration']}" if facts["up"] else "down"
    where = facts.get("port", "") if facts["up"] else ""
    return f"{facts['name']:<16} {facts['family']:<10} {state:<10} {where}".rstrip()


def _home() -> Path:
    return paths.state_dir() / "modems"


def _folder(name: str) -> Path:
    if name in ("", ".", "..") or "/" in name:
        raise click.BadParameter(f"{name!r} is not a name for a modem")
    return _home() / name
