"""The local Aliyun as a process of its own: started, made ready, asked, stopped.

folder/
  cloud.json     where it listens, while it is up (imprint_tools.endpoints)
  identity.toml  an identity for `imprint inject`, readable by its owner alone
  root_ca.pem    what that identity trusts
  devices.json   products, devices and what was issued to them
  events.jsonl   what happened
  cloud.log      what the process itself had to say
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from select import select
from typing import Any, NoReturn

from imprint_tools import endpoints, paths
from imprint_tools.endpoints import CloudState
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import control
from imprint_tools.localcloud.aliyun import AliyunCloud, AliyunConfig, ProductConfig
from imprint_tools.localcloud.files import replace
from imprint_tools.secret import Secret

NAMES = ("aliyun",)

WIFI_SSID = "imprint"
"""What an identity made here joins: the open network that `imprint board up` has by default."""

_START_S = 30.0
_STOP_S = 15.0
_ENTRY = "import sys; from imprint_tools.localcloud import daemon; daemon.child(sys.argv[1:])"


def folder(name: str) -> Path:
    """Where that cloud keeps everything."""
    return paths.state_dir() / "clouds" / name


def load_config(path: Path) -> AliyunConfig:
    """Read a TOML file of products:

        region = "cn-shanghai"
        [[product]]
        key = "a1B2c3D4e5F"
        secret = "..."               # left out: made, or kept from before
        dynamic_registration = true
        devices = ["press-07"]       # pre-registered

    Raises BenchStateError, which never quotes the file.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        products = tuple(_product(entry) for entry in document.pop("product", []))
        return AliyunConfig(products=products, **_settings(document))
    except OSError as error:
        problem = error.strerror or "unreadable"
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = "it is not TOML, or a key in it is unknown or of a wrong type"
    raise BenchStateError(
        f"{path} cannot be used: {problem}",
        next_step="give it region, instance_id, plain_tcp and [[product]] tables with key, "
        "secret, dynamic_registration, devices",
    )


def up(name: str, products: tuple[str, ...] = (), config: Path | None = None) -> CloudState:
    """Start that cloud in the background and wait until it listens.

    Raises BenchStateError when it is up already or does not come up.
    """
    place = folder(name)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    ready, ready_in_child = os.pipe()
    arguments = [name, str(ready_in_child), str(config.resolve()) if config else "", *products]
    with (place / "cloud.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            [sys.executable, "-c", _ENTRY, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[ready_in_child],
            start_new_session=True,
        )
    os.close(ready_in_child)
    try:
        report = _await_report(ready)
    finally:
        os.close(ready)
    if report == {"up": True}:
        # It outlives this process; without a return code the interpreter would complain of that.
        process.returncode = 0
        return endpoints.load(place)
    process.kill()
    process.wait()
    raise BenchStateError(
        report.get("error", f"the local cloud {name} did not come up"),
        next_step=report.get("next_step") or f"read {place / 'cloud.log'}",
    )


def down(name: str) -> None:
    """Stop that cloud and wait until it has ended. Raises BenchStateError when it is not up."""
    place = folder(name)
    state = endpoints.load(place)
    try:
        process = os.pidfd_open(state.pid)
        try:
            control.ask(place, "stop")
            if not select([process], [], [], _STOP_S)[0]:
                raise BenchStateError(
                    f"the local cloud {name} does not stop",
                    next_step=f"end its process, {state.pid}",
                )
        finally:
            os.close(process)
    except (ProcessLookupError, control.NotUpError):
        # It was killed: what it left behind would lead boards astray.
        (place / "cloud.json").unlink(missing_ok=True)
        raise BenchStateError(
            f"the local cloud {name} had ended without a word",
            next_step=f"read {place / 'cloud.log'}, or start it: imprint cloud up {name}",
        ) from None


def serve(place: Path, config: AliyunConfig, on_ready: Callable[[AliyunCloud], None]) -> None:
    """Run the cloud in this process until it is told to stop, SIGTERM or Ctrl-C included."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with AliyunCloud(place, config) as cloud, control.listen(place) as listener:
            write_identity(cloud)
            on_ready(cloud)
            control.serve(listener, _operations(cloud))
    except KeyboardInterrupt:
        pass  # the way a person ends it, and it has ended in good order


def child(arguments: list[str]) -> None:
    """The background process: [name, file descriptor for the report, config file, product...]."""
    name, descriptor, config, *products = arguments
    with os.fdopen(int(descriptor), "w") as report:

        def ready(_: AliyunCloud) -> None:
            report.write(json.dumps({"up": True}) + "\n")
            report.close()

        try:
            serve(folder(name), configuration(tuple(products), config), ready)
        except BenchStateError as error:
            json.dump({"error": str(error), "next_step": error.next_step}, report)


def configuration(products: tuple[str, ...], config: Path | str | None) -> AliyunConfig:
    """What a command line asks for: productKeys, or a file."""
    if config:
        return load_config(Path(config))
    return AliyunConfig(products=tuple(ProductConfig(key) for key in products))


def write_identity(cloud: AliyunCloud) -> Path:
    """Write `identity.toml` for the first product, which is made if there is none."""
    keys = cloud.product_keys()
    product_key = keys[0] if keys else cloud.create_product()
    fields = {
        "registration": "regnwl",
        "product_secret": cloud.product_secret(product_key).reveal().decode(),
    }
    return _write_identity(cloud, cloud.folder / "identity.toml", product_key, fields)


def _write_identity(
    cloud: AliyunCloud, path: Path, product_key: str, fields: Mapping[str, str]
) -> Path:
    document = {
        "journey": "aliyun",
        "product_key": product_key,
        **fields,
        "root_ca": str(cloud.ca_pem),
        "wifi_ssid": WIFI_SSID,
    }
    # A JSON string is a TOML basic string.
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in document.items()]
    replace(path, "".join(lines).encode(), mode=0o600)
    return path


def _operations(cloud: AliyunCloud) -> dict[str, control.Operation]:
    def stop() -> NoReturn:
        raise control.Stop

    def add(product_key: str, device_name: str, identity: str | None) -> None:
        secret = cloud.create_device(product_key, device_name)
        if identity is not None:
            fields = {
                "registration": "none",
                "device_name": device_name,
                "device_secret": secret.reveal().decode(),
            }
            _write_identity(cloud, Path(identity), product_key, fields)

    return {
        "stop": stop,
        "add": add,
        "devices": cloud.devices,
        "set": cloud.set_properties,
        "reset": cloud.reset_thing,
        "forget": cloud.delete_client_ids,
        "enable": cloud.set_enabled,
        "registration": cloud.set_dynamic_registration,
    }


def _await_report(descriptor: int) -> dict[str, Any]:
    """The child's one line; empty when it ended or fell silent without a word."""
    if not select([descriptor], [], [], _START_S)[0]:
        return {}
    with os.fdopen(os.dup(descriptor)) as report:
        line = report.readline()
    return json.loads(line) if line else {}


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _product(entry: dict[str, Any]) -> ProductConfig:
    secret, devices = entry.pop("secret", None), entry.pop("devices", [])
    key, switch = entry.pop("key"), entry.pop("dynamic_registration", True)
    words = [key, *devices] if secret is None else [key, secret, *devices]
    if entry or not isinstance(switch, bool) or not all(isinstance(w, str) and w for w in words):
        raise TypeError
    return ProductConfig(key, None if secret is None else Secret(secret), switch, tuple(devices))


def _settings(document: dict[str, Any]) -> dict[str, Any]:
    kinds = {"region": str, "instance_id": str, "plain_tcp": bool}
    if not all(isinstance(value, kinds[name]) for name, value in document.items()):
        raise TypeError
    return document
