"""`imprint board`: virtual boards in the state folder, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from imprint_tools import endpoints, paths
from imprint_tools.cli import background
from imprint_tools.cli.output import emit, json_option, note
from imprint_tools.cli.types import HeapType
from imprint_tools.errors import BenchStateError
from imprint_tools.virtual import control
from imprint_tools.virtual.board import PTY, RFC2217, Board, read_state
from imprint_tools.virtual.chips import CHIPS, MIB
from imprint_tools.virtual.network import AccessPoint

_STOPPED_S = 30.0
_PASSWORD_VARIABLE = "IMPRINT_WIFI_PASSWORD"  # noqa: S105  # the variable's name
_name = click.argument("name")


@click.group()
def board() -> None:
    """Virtual boards: esptool, mpremote and imprint take them for real ones."""


@board.command()
@_name
@click.option("--chip", type=click.Choice(list(CHIPS)), help="Default: esp32, or as it was.")
@click.option("--flash-mib", type=click.IntRange(1, 16), help="Default: the chip's usual size.")
@click.option("--door", type=click.Choice([PTY, RFC2217]), default=PTY, show_default=True)
@click.option("--realtime", is_flag=True, help="Bytes take their time at the baud rate in force.")
@click.option("--baud", type=click.IntRange(300, 5_000_000), default=115_200, show_default=True)
@click.option("--ssid", default="imprint", show_default=True, help="The Wi-Fi around the board.")
@click.option("--cloud", "clouds", multiple=True, help="A local cloud it can reach (repeatable).")
@click.option(
    "--heap",
    default="64k",
    show_default=True,
    type=HeapType(),
    help="MicroPython's heap; an EnOS edge needs 128k.",
)
@click.option("--foreground", is_flag=True, help="Stay until it is taken down or interrupted.")
@click.option("--ready-fd", type=int, hidden=True)
@json_option
def up(name: str, foreground: bool, ready_fd: int | None, as_json: bool, **options: Any) -> None:
    """Power a board up, in the background, and print where it is.

    A new board is blank. The Wi-Fi is open unless IMPRINT_WIFI_PASSWORD holds a password.
    """
    the_board = _board(name, options)
    if not foreground:
        state = background.start("board", the_board.folder, _arguments(name, options))
        _show(state, as_json=as_json)
        return
    signal.signal(signal.SIGTERM, lambda *_: the_board.went_down.set())
    with the_board:
        state = read_state(the_board.folder)
        if ready_fd is None:
            _show(state, as_json=as_json)
        else:
            with os.fdopen(ready_fd, "w") as ready:
                json.dump(state, ready)
        try:
            the_board.went_down.wait()
        except KeyboardInterrupt:
            note("imprint: the board goes down")


@board.command()
@_name
@json_option
def down(name: str, as_json: bool) -> None:
    """Take a board's power and process away. Its flash stays."""
    folder = _folder(name)
    control.request(folder, "down")
    with control.lock(folder, wait_s=_STOPPED_S):
        pass  # free again: the process let go of everything
    emit({"name": name, "up": False}, f"{name} is down", as_json=as_json)


@board.command(name="list")
@json_option
def list_boards(as_json: bool) -> None:
    """Show all boards and what each is doing."""
    found = [_facts(path.parent) for path in sorted(_home().glob("*/board.json"))]
    text = "\n".join(_line(facts) for facts in found) or "no boards"
    emit(found, text, as_json=as_json)


@board.command()
@_name
@json_option
def reset(name: str, as_json: bool) -> None:
    """Press EN; a board whose power was cut gets it back."""
    _tell(name, "reset", as_json=as_json)


@board.command()
@_name
@click.option("--after", type=click.IntRange(1), required=True, help="Flash operations from now.")
@click.option("--torn", is_flag=True, help="In the middle of that operation.")
@json_option
def cut(name: str, after: int, torn: bool, as_json: bool) -> None:
    """Order a power cut at a flash write or erase to come."""
    _tell(name, "cut", after=after, torn=torn, as_json=as_json)


@board.command()
@_name
@click.argument("state", type=click.Choice(["up", "down"]))
@json_option
def wifi(name: str, state: str, as_json: bool) -> None:
    """Switch the access point around a board on or off."""
    _tell(name, "wifi", up=state == "up", as_json=as_json)


def _board(name: str, options: dict[str, Any]) -> Board:
    folder = _folder(name)
    known = read_state(folder)
    mib = options["flash_mib"]
    clouds = [paths.state_dir() / "clouds" / cloud for cloud in options["clouds"]]
    for cloud in clouds:
        endpoints.load(cloud)  # it is up, or this says so now
    password = os.environ.get(_PASSWORD_VARIABLE, "")
    return Board(
        folder,
        chip=options["chip"] or known.get("chip", "esp32"),
        flash_size=mib * MIB if mib else known.get("flash_size"),
        doors=[options["door"]],
        realtime=options["realtime"],
        baud=options["baud"],
        access_point=AccessPoint(options["ssid"], password, [], look_up=partial(_routes, clouds)),
        heap=options["heap"],
    )


def _routes(clouds: list[Path]) -> Iterator[endpoints.Endpoint]:
    """Where those of the clouds listen that are up."""
    for cloud in clouds:
        with contextlib.suppress(BenchStateError):
            yield from endpoints.load(cloud).endpoints


def _arguments(name: str, options: dict[str, Any]) -> list[str]:
    arguments = [name]
    for option, value in options.items():
        flag = "--" + option.replace("_", "-")
        if option == "clouds":
            arguments += [word for cloud in value for word in ("--cloud", cloud)]
        elif value is True:
            arguments.append(flag)
        elif value:
            arguments += [flag, str(value)]
    return arguments


def _tell(name: str, do: str, *, as_json: bool, **arguments: Any) -> None:
    answer = control.request(_folder(name), do, **arguments)
    emit({"name": name, **answer}, f"{name}: {answer['state']}", as_json=as_json)


def _facts(folder: Path) -> dict[str, Any]:
    facts = read_state(folder)
    try:
        return {**facts, "up": True, **control.request(folder, "status")}
    except BenchStateError:
        return {key: facts[key] for key in facts if key not in ("doors", "pid")} | {"up": False}


def _show(state: dict[str, Any], *, as_json: bool) -> None:
    emit({**state, "up": True}, "\n".join(state["doors"].values()), as_json=as_json)


def _line(facts: dict[str, Any]) -> str:
    where = "  ".join(facts["doors"].values()) if facts["up"] else ""
    state = facts["state"] if facts["up"] else "down"
    return f"{facts['name']:<16} {facts['chip']:<8} {state:<16} {where}".rstrip()


def _home() -> Path:
    return paths.state_dir() / "boards"


def _folder(name: str) -> Path:
    if name in ("", ".", "..") or "/" in name:
        raise click.BadParameter(f"{name!r} is not a name for a board")
    return _home() / name
