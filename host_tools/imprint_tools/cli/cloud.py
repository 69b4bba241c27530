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
from imprint_tools.localcloud.service import Served

_F = TypeVar("_F", bound=Callable[..., Any])

_FOLLOW_S = 0.2


def _which(*names: str, otherwise: str) -> Callable[[_F], _F]:
    """`--cloud` of those names; without it the one of them that is up, `otherwise` if not one."""

    def default() -> str:
        up = [name for name in names if (daemon.folder(name) / "cloud.json").exists()]
        return up[0] if len(up) == 1 else otherwise

    return click.option(
        "--cloud",
        "name",
        type=click.Choice(names),
        default=default,
        show_default=f"the one that is up, or {otherwise}",
        help="Which cloud.",
    )


_cloud_option = _which(*daemon.NAMES, otherwise=daemon.NAMES[0])
_product_cloud_option = _which("aliyun", "enos", otherwise="aliyun")
_device_arguments = (click.argument("product_key"), click.argument("device_name"))
_switch_argument = click.argument("switch", type=click.Choice(("on", "off")))
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
    """Start a cloud; without a product one is made, with an identity ready to inject.

    EnOS has two: identity.toml activates (secure mode 3), identity-2.toml has its own secret; and
    the same for a gateway, identity-gateway.toml and identity-gateway-2.toml.
    Azure has three: by a symmetric key, by a certificate, and behind a gateway.
    """
    if products and config:
        raise click.UsageError("--product and --config exclude each other")
    if not foreground:
        _show_up(name, daemon.up(name, products, config), as_json=as_json)
        return

    def ready(served: Served) -> None:
        _show_up(name, served.state, as_json=as_json)
        note("Ctrl-C ends it")

    daemon.serve(name, products, config, ready)


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
    line = _DEVICE_LINES[name]
    emit(found, "\n".join(map(line, found)) or "no device yet", as_json=as_json)


@cloud.command()
@json_option
def sessions(as_json: bool) -> None:
    """List EnOS's live sessions, with what each has cost on the air."""
    found = control.ask(daemon.folder("enos"), "sessions")
    emit(found, "\n".join(map(_session_line, found)) or "no session", as_json=as_json)


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
    """Set properties (EnOS: measurepoints, Azure: desired properties): JSON is an object such as
    '{"relay": 1}'. For Azure, PRODUCT_KEY is the hub's name."""
    wanted = _object(params)
    if not wanted:
        raise click.BadParameter("not a JSON object with a property in it", param_hint="JSON")
    message_id, fate = _ask(name, "set", product_key, device_name, params=wanted)
    emit({"id": message_id, "fate": fate}, f"{fate}, id {message_id}", as_json=as_json)


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
@click.argument("service")
@click.argument("params", metavar="JSON", default="{}")
@_which("enos", "azure", otherwise="enos")
@json_option
def invoke(
    product_key: str, device_name: str, service: str, params: str, name: str, as_json: bool
) -> None:
    """Have a device run a service (Azure: a direct method): JSON is an object of its inputs.

    EnOS's command waits until the device says something; Azure's is answered at once or never.
    """
    wanted = _object(params)
    if wanted is None:
        raise click.BadParameter("not a JSON object", param_hint="JSON")
    first, second = _ask(name, "invoke", product_key, device_name, service=service, params=wanted)
    if name == "azure":
        answer = {"status": int(first), "payload": second}
        emit(answer, f"status {first}: {json.dumps(second)}", as_json=as_json)
    else:
        emit({"id": first, "fate": second}, f"{second}, id {first}", as_json=as_json)


@cloud.command()
@click.argument("product_key", required=False)
@click.option("--gateway", is_flag=True, help="EnOS: its devices are gateways, with sub-devices.")
@_product_cloud_option
@json_option
def product(product_key: str | None, gateway: bool, name: str, as_json: bool) -> None:
    """Add a product; without a key one is made up."""
    if gateway and name != "enos":
        raise click.UsageError("--gateway is EnOS's: add --cloud enos")
    more = {"gateway": True} if gateway else {}
    key = control.ask(daemon.folder(name), "product", product_key=product_key, **more)
    emit({"product_key": key}, key, as_json=as_json)


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
@click.option(
    "--identity",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an identity file with the device's own secret there.",
)
@click.option(
    "--mode",
    type=click.Choice(("2", "3")),
    help="EnOS's secure mode of that identity; 3 has the product's secret.  [default: 2]",
)
@_cloud_option
def add(
    product_key: str, device_name: str, identity: Path | None, mode: str | None, name: str
) -> None:
    """Add a device, for `register`, for an activation or for a secret burned in.

    For Azure, PRODUCT_KEY is `dps` for an enrolment, a hub's name, or a gateway's host name.
    """
    if mode is not None and name != "enos":
        raise click.UsageError("--mode is EnOS's: add --cloud enos")
    more = {"mode": int(mode or 2)} if name == "enos" else {}
    path = str(identity.resolve()) if identity else None
    _ask(name, "add", product_key, device_name, identity=path, **more)
    note(f"{device_name} is known" + (f"; its identity is in {identity}" if identity else ""))


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
@_switch_argument
@_cloud_option
def enable(product_key: str, device_name: str, switch: str, name: str) -> None:
    """Enable a device or disable it. For Azure, PRODUCT_KEY is `dps` for its enrolment, else the
    hub's name."""
    _ask(name, "enable", product_key, device_name, on=switch == "on")
    note(f"{device_name} is {'enabled' if switch == 'on' else 'disabled'}")


@cloud.command()
@click.argument("host")
@click.argument("state", type=click.Choice(("up", "down", "cut", "mend")))
def gateway(host: str, state: str) -> None:
    """Take an Azure gateway's power or give it (down, up); cut its way to the hub or mend it."""
    control.ask(daemon.folder("azure"), "gateway", host=host, state=state)
    note(f"{host}: {state}")


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
@_product_cloud_option
def reset(product_key: str, device_name: str, name: str) -> None:
    """Let an activated device `register` (EnOS: activate) again."""
    _ask(name, "reset", product_key, device_name)
    note(f"{device_name} may register again")


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
def forget(product_key: str, device_name: str) -> None:
    """Wipe the ClientIDs of an Aliyun name, all five slots (DeleteClientIds)."""
    _ask("aliyun", "forget", product_key, device_name)
    note(f"{device_name} has no ClientID any more")


@cloud.command()
@click.argument("product_key")
@_switch_argument
@_product_cloud_option
def registration(product_key: str, switch: str, name: str) -> None:
    """Turn a product's dynamic registration (EnOS: activation) on or off."""
    control.ask(daemon.folder(name), "registration", product_key=product_key, on=switch == "on")
    note(f"dynamic {_SWITCHES[name]} of {product_key} is {switch}")


@cloud.command()
@click.argument("product_key")
@_switch_argument
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=730,
    show_default=True,
    help="The longest that a certificate is valid.",
)
def certificate(product_key: str, switch: str, days: int) -> None:
    """Have an EnOS product demand that its devices log in with a certificate, or not."""
    on = switch == "on"
    control.ask(daemon.folder("enos"), "certificate", product_key=product_key, on=on, days=days)
    note(f"{product_key} demands {'certificates' if on else 'no certificate'}")


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
@click.argument("gateway", nargs=2, metavar="GATEWAY_PRODUCT_KEY GATEWAY_NAME")
def bind(product_key: str, device_name: str, gateway: tuple[str, str]) -> None:
    """Put an EnOS device into the topology of a gateway."""
    _ask("enos", "bind", product_key, device_name, gateway=list(gateway))
    note(f"{device_name} is a sub-device of {gateway[1]}")


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
def delete(product_key: str, device_name: str) -> None:
    """Delete an EnOS device; its gateway is told."""
    _ask("enos", "delete", product_key, device_name)
    note(f"{device_name} is deleted")


@cloud.command()
@_device_arguments[0]
@_device_arguments[1]
@json_option
def log(product_key: str, device_name: str, as_json: bool) -> None:
    """Print an EnOS device's log: what it was refused, with EnOS's codes."""
    found = _ask("enos", "log", product_key, device_name)
    lines = [
        f"{_when(e['time_ms'] / 1000)} {e['what']}: {e['code']} {e['message']}" for e in found
    ]
    emit(found, "\n".join(lines) or "nothing was refused", as_json=as_json)


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
        "ca": None if state.ca is None else str(state.ca),
        "identity": str(identity),
        "endpoints": [
            {"host": e.host, "port": e.port, "target": list(e.target), "proto": e.proto}
            for e in state.endpoints
        ],
    }
    lines = [f"{name} is up, process {state.pid}"]
    lines += [f"  {e.host}:{e.port} -> {e.target[0]}:{e.target[1]}" for e in state.endpoints]
    lines += [f"  identity for a board: {identity}"]
    if others := sorted(path.name for path in identity.parent.glob("identity-*.toml")):
        lines += [f"  others beside it: {', '.join(others)}"]
    lines += [] if state.ca is None else [f"  root CA: {state.ca}"]
    emit(document, "\n".join(lines), as_json=as_json)


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object in a text, or None when there is no such thing."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _aliyun_line(device: dict[str, Any]) -> str:
    flags = [name for name in ("registered", "activated", "online") if device[name]]
    when = _when(device["last_seen"])
    points = " ".join(f"{name}={point['value']}" for name, point in device["points"].items())
    line = (
        f"{device['product_key']} {device['device_name']}: {', '.join(flags) or 'known'};"
        f" {device['client_ids']} ClientIDs; seen {when}"
    )
    return f"{line}; {points}" if points else line


def _enos_line(device: dict[str, Any]) -> str:
    points = (f"{name}={point['value']}" for name, point in device["measurepoints"].items())
    line = (
        f"{device['product_key']} {device['device_key']}: {device['status']};"
        f" {device['activations']} activations; {len(device['commands'])} commands wait;"
        f" seen {_when(device['last_seen'])}"
    )
    if device["gateway"] is not None:
        line += f"; at {device['gateway'][1]}"
    return "; ".join(filter(None, (line, " ".join(points))))


def _azure_line(device: dict[str, Any]) -> str:
    name = device["device_id"] or device["registration_id"]
    words = [
        f"enrolment {device['enrolment']}" if device["enrolment"] else "",
        device["registration"] or "",
        "online" if device.get("online") else "",
        "" if device.get("enabled", True) else "disabled at the hub",
        "a gateway" if device.get("gateway") else "",
        f"behind {device['parent']}" if device.get("parent") else "",
        f"seen {_when(device.get('last_seen'))}",
    ]
    reported = device.get("reported") or {}
    line = f"{device['hub'] or 'no hub'} {name}: {', '.join(filter(None, words))}"
    return f"{line}; reported {json.dumps(reported)}" if reported else line


def _session_line(session: dict[str, Any]) -> str:
    counts = ", ".join(
        f"{part} {c['up_bytes']} B in {c['up_datagrams']} up,"
        f" {c['down_bytes']} B in {c['down_datagrams']} down"
        for part in ("handshake", "application")
        for c in (session[part],)
    )
    return (
        f"{session['product_key']} {session['device_key']}: mode {session['secure_mode']},"
        f" lifetime {session['lifetime_s']} s, {session['suite']}; {counts}"
    )


_DEVICE_LINES = {"aliyun": _aliyun_line, "enos": _enos_line, "azure": _azure_line}
_SWITCHES = {"aliyun": "registration", "enos": "activation"}


def _when(seen: float | None) -> str:
    return datetime.fromtimestamp(seen).isoformat(" ", "seconds") if seen else "never"


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
