"""The local EnOS as `daemon` runs it: its configuration file, its identities, its console."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from imprint_tools.localcloud import control, service
from imprint_tools.localcloud.enos import EnosCloud, EnosConfig, EnosProduct
from imprint_tools.localcloud.enos_auth import DYNAMIC, STATIC
from imprint_tools.localcloud.service import Served
from imprint_tools.secret import Secret

MODEM = "nrf91"
"""The modem of an identity made here: the family that `imprint modem up` has by default."""

_FIRST_DEVICES = {DYNAMIC: "bench-3", STATIC: "bench-2"}
"""Made when there is no device: one for each secure mode."""


@contextmanager
def run(place: Path, products: tuple[str, ...], config: Path | None) -> Iterator[Served]:
    """service.Service."""
    if config is None:
        wanted = EnosConfig(products=tuple(EnosProduct(key) for key in products))
    else:
        wanted = load_config(config)
    with EnosCloud(place, wanted) as cloud:
        _write_first_identities(cloud)
        yield Served(cloud.state, _operations(cloud))


def load_config(path: Path) -> EnosConfig:
    """Read a TOML file of products:

        hostname = "cn5.envisioniot.com"
        port = 0                     # on loopback; 0: a free one
        device_port = 5684           # that devices name
        command_in_option = false    # commands whole in option 2102
        [[product]]
        key = "MuGsF6W4"
        secret = "..."               # left out: made, or kept from before
        dynamic_activation = true
        devices = ["15bBZlRknc"]

    Raises BenchStateError, which never quotes the file.
    """
    return service.read_config(
        path,
        _config,
        "give it hostname, port, device_port, command_in_option and [[product]] tables with key, "
        "secret, dynamic_activation, devices",
    )


def _config(document: dict[str, Any]) -> EnosConfig:
    products = tuple(_product(entry) for entry in document.pop("product", []))
    kinds = {"hostname": str, "port": int, "device_port": int, "command_in_option": bool}
    given = service.check_settings(document, kinds)
    if not all(0 <= given.get(name, 0) <= 65535 for name in ("port", "device_port")):
        raise ValueError
    return EnosConfig(products=products, **given)


def _product(entry: dict[str, Any]) -> EnosProduct:
    kinds = {"key": str, "secret": str, "dynamic_activation": bool, "devices": list}
    given = service.check_settings(entry, kinds)
    secret, devices = given.get("secret"), tuple(given.get("devices", ()))
    service.check_words(given["key"], *devices, *([] if secret is None else [secret]))
    return EnosProduct(
        given["key"],
        None if secret is None else Secret(secret),
        given.get("dynamic_activation", True),
        devices,
    )


def _write_first_identities(cloud: EnosCloud) -> None:
    """Write `identity.toml` for a device that activates, and `identity-2.toml` for one that has
    its own secret: the first product's devices of these names, made if they are not there."""
    keys = cloud.product_keys()
    product_key = keys[0] if keys else cloud.create_product()
    for mode, name in ((DYNAMIC, "identity.toml"), (STATIC, "identity-2.toml")):
        device_key = _FIRST_DEVICES[mode]
        cloud.create_device(product_key, device_key)
        _write_identity(cloud, cloud.folder / name, product_key, device_key, mode)


def _write_identity(
    cloud: EnosCloud, path: Path, product_key: str, device_key: str, mode: int
) -> None:
    if mode == STATIC:
        name, secret = "device_secret", cloud.device_secret(product_key, device_key)
    else:
        name, secret = "product_secret", cloud.product_secret(product_key)
    document: dict[str, str | int] = {
        "journey": "enos-coap",
        "product_key": product_key,
        "secure_mode": mode,
        "device_key_source": "burned",
        "device_key": device_key,
        name: secret.reveal().decode(),
        "host": cloud.config.host,
        "port": cloud.config.device_port,
        "modem": MODEM,
    }
    service.write_identity(path, document)


def _operations(cloud: EnosCloud) -> dict[str, control.Operation]:
    def stop() -> NoReturn:
        raise control.Stop

    def product(product_key: str | None) -> str:
        return cloud.create_product(product_key)

    def add(product_key: str, device_name: str, identity: str | None, mode: int) -> None:
        cloud.create_device(product_key, device_name)
        if identity is not None:
            _write_identity(cloud, Path(identity), product_key, device_name, mode)

    def set_measurepoints(product_key: str, device_name: str, params: dict[str, Any]) -> Any:
        return cloud.set_measurepoints(product_key, device_name, params), "queued"

    def invoke(product_key: str, device_name: str, service: str, params: dict[str, Any]) -> Any:
        return cloud.invoke(product_key, device_name, service, params), "queued"

    def reset(product_key: str, device_name: str) -> None:
        cloud.reset_activation(product_key, device_name)

    def enable(product_key: str, device_name: str, on: bool) -> None:
        cloud.set_enabled(product_key, device_name, on)

    return {
        "stop": stop,
        "product": product,
        "add": add,
        "devices": cloud.devices,
        "sessions": cloud.sessions,
        "set": set_measurepoints,
        "invoke": invoke,
        "reset": reset,
        "enable": enable,
        "registration": cloud.set_dynamic_activation,
    }
