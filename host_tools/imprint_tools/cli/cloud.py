"""`imprint cloud`: the clouds on loopback."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from imprint_tools.cli.output import emit, json_option, note
from imprint_tools.endpoints import CloudState
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import control, daemon
from imprint_tools.localcloud.aliyun import AliyunCloud

_F = TypeVar("_F", bound=Callable[..., Any])

_FOLLOW_S = 0.2
_cloud_option = click.option(
    "--cloud",
    "name",
    type=click.Choice(daemon.NAMES),
    default=daemon.NAMES[0],
    show_default=True,
    help="Which cloud.",
)
_device_arguments = (click.argument("product_key"), click.argument("device_name"))
_name_argument = click.argument("name", type=click.Choice(daemon.NAMES), default=daemon.NAMES[0])


@click.group()
def cloud() -> None:
    """The clouds on loopback: real protocols, real checks, nobody's data centre."""


@cloud.command()
@_name_argument
@click.option("--product", "products", multiple=True, metavar="KEY", help="A productKey to serve.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file of products with their secrets.",
)
@click.option("--foreground", is_flag=True, help="Stay, until Ctrl-C.")
@json_option
def up(
    name: str, products: tuple[str, ...], config: Path | None, foreground: bool, as_json: bool
) -> None:
    """Start a cloud; without a product one is made, with an identity ready to inject."""
    if products and config:
        raise click.UsageError("--product and --config exclude each other")
    if not foreground:
        _show_up(name, daemon.up(name, products, config), as_json=as_json)
        return

    def ready(served: AliyunCloud) -> None:
        _show_up(name, served.state, as_json=as_json)
        note("Ctrl-C ends it")

    daemon.serve(daemon.folder(name), daemon.configuration(products, config), ready)


@cloud.command()
@_name_argument
@json_option
def down(name: str, as_json: bool) -> None:
    """Stop a cloud; what it knows stays in its folder."""
    daemon.down(name)
    emit({"cloud": name, "up": False}, f"{name} is down", as_json=as_json)


@cloud.command()
@_cloud_option
@json_option
def devices(name: str, as_json: bool) -> None:
    """List what the cloud knows of its devices."""
    found = control.ask(daemon.folder(name), "devices")
    emit(found, "\n".join(map(_device_line, found)) or "no device yet", as_json=as_json)


@cloud.command()
@_cloud_option
@click.option("--follow", is_flag=True, help="Stay and print what happens, until Ctrl-C.")
def events(name: str, follow: bool) -> None:
    """Print the cloud's events, one JSON object a line."""
    for line in _lines(daemon.folder(name) / "events.jsonl", follow=follow):
        click.echo(line, nl=False)


@cloud.command("set")
@_device_arguments[0]
@_device_arguments[1]
@click.argument("params", metavar="JSON")
@_cloud_option
@json_option
def set_properties(
    product_key: str, device_name: str, params: str, name: str, as_json: bool
) -> None:
    """Set properties on a device: JSON is an object such as '{"relay": 1}'."""
    try:
        wanted = json.loads(params)
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict) or not wanted:
        raise click.BadParameter("not a JSON object with a property in it", param_hint="JSON")
    message_id, fate = _ask(name, "set", product_key, device_name, params=wanted)
    emit({"id": message_id, "fate": fate}, f"{fate}, id {message_id}", as_json=as_json)


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
@click.option(
    "--identity",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an identity file with the device's own secret there.",
)
@_cloud_option
def add(product_key: str, device_name: str, identity: Path | None, name: str) -> None:
    """Pre-register a device, for `register` or for a secret burned in."""
    path = str(identity.resolve()) if identity else None
    _ask(name, "add", product_key, device_name, identity=path)
    note(f"{device_name} is known" + (f"; its identity is in {identity}" if identity else ""))


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
@_cloud_option
def reset(product_key: str, device_name: str, name: str) -> None:
    """Let an activated device `register` again (ResetThing)."""
    _ask(name, "reset", product_key, device_name)
    note(f"{device_name} may register again")


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
@_cloud_option
def forget(product_key: str, device_name: str, name: str) -> None:
    """Wipe the ClientIDs of a name, all five slots (DeleteClientIds)."""
    _ask(name, "forget", product_key, device_name)
    note(f"{device_name} has no ClientID any more")


@cloud.command()
@click.argument("product_key")
@click.argument("switch", type=click.Choice(("on", "off")))
@_cloud_option
def registration(product_key: str, switch: str, name: str) -> None:
    """Turn a product's dynamic registration on or off."""
    control.ask(daemon.folder(name), "registration", product_key=product_key, on=switch == "on")
    note(f"dynamic registration of {product_key} is {switch}")


def _ask(name: str, operation: str, product_key: str, device_name: str, **arguments: Any) -> Any:
    return control.ask(
        daemon.folder(name),
        operation,
        product_key=product_key,
        device_name=device_name,
        **arguments,
    )


def _show_up(name: str, state: CloudState, *, as_json: bool) -> None:
    identity = daemon.folder(name) / "identity.toml"
    document = {
        "cloud": name,
        "pid": state.pid,
        "ca": str(state.ca),
        "identity": str(identity),
        "endpoints": [
            {"host": e.host, "port": e.port, "target": list(e.target), "proto": e.proto}
            for e in state.endpoints
        ],
    }
    lines = [f"{name} is up, process {state.pid}"]
    lines += [f"  {e.host}:{e.port} -> {e.target[0]}:{e.target[1]}" for e in state.endpoints]
    lines += [f"  identity for a board: {identity}", f"  root CA: {state.ca}"]
    emit(document, "\n".join(lines), as_json=as_json)


def _device_line(device: dict[str, Any]) -> str:
    flags = [name for name in ("registered", "activated", "online") if device[name]]
    seen = device["last_seen"]
    when = datetime.fromtimestamp(seen).isoformat(" ", "seconds") if seen else "never"
    points = " ".join(f"{name}={point['value']}" for name, point in device["points"].items())
    line = (
        f"{device['product_key']} {device['device_name']}: {', '.join(flags) or 'known'};"
        f" {device['client_ids']} ClientIDs; seen {when}"
    )
    return f"{line}; {points}" if points else line


def _lines(path: Path, *, follow: bool) -> Iterator[str]:
    """The lines of a file that may still grow."""
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        raise BenchStateError(
            "this cloud has never been up",
            next_step=f"start it: imprint cloud up {path.parent.name}",
        ) from None
    with file:
        while True:
            where = file.tell()
            line = file.readline()
            if line.endswith("\n"):
                yield line
            elif follow:
                file.seek(where)
                time.sleep(_FOLLOW_S)
            else:
                return
