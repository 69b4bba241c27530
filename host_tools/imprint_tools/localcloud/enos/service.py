"""The local EnOS as `daemon` runs it: its configuration file, its identities, its console."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from imprint_tools.localcloud import control, service
from imprint_tools.localcloud.enos.auth import DYNAMIC, STATIC
from imprint_tools.localcloud.enos.cloud import (
    HTTPS_PORT,
    MEASUREPOINT_SET,
    MQTTS_PORT,
    EnosCloud,
    EnosConfig,
    EnosProduct,
)
from imprint_tools.localcloud.enos.config import EnosLimits
from imprint_tools.localcloud.enos.records import DEVICE, GATEWAY
from imprint_tools.localcloud.enos.registry import ORGANISATION
from imprint_tools.localcloud.service import Served
from imprint_tools.secret import Secret

MODEM = "nrf91"
"""The modem of an identity made here: the family that `imprint modem up` has by default."""

APPLICATION = "edge"
"""The application whose service account a gateway's identity has."""

_FIRST_DEVICES = {DYNAMIC: "bench-3", STATIC: "bench-2"}
_FIRST_GATEWAYS = {DYNAMIC: "gateway-3", STATIC: "gateway-2"}
"""Made when they are not there: one for each secure mode."""


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
        port = 0                     # of CoAP on loopback; 0: a free one
        device_port = 5684           # that devices name for CoAP
        command_in_option = false    # commands whole in option 2102
        connect_limits = true        # MQTT connects: 4 in two minutes, then 5 minutes' pause
        [[product]]
        key = "MuGsF6W4"
        secret = "..."               # left out: made, or kept from before
        dynamic_activation = true
        kind = "device"              # or "gateway"
        certificate = false          # its devices log in with a certificate, too
        devices = ["15bBZlRknc"]

    Raises BenchStateError, which never quotes the file.
    """
    return service.read_config(
        path,
        _config,
        "give it hostname, port, device_port, command_in_option, connect_limits and [[product]] "
        "tables with key, secret, dynamic_activation, kind, certificate, devices",
    )


def _config(document: dict[str, Any]) -> EnosConfig:
    products = tuple(_product(entry) for entry in document.pop("product", []))
    kinds = {
        "hostname": str,
        "port": int,
        "device_port": int,
        "command_in_option": bool,
        "connect_limits": bool,
    }
    given = service.check_settings(document, kinds)
    limits = EnosLimits() if given.pop("connect_limits", True) else EnosLimits(connects=None)
    if not all(0 <= given.get(name, 0) <= 65535 for name in ("port", "device_port")):
        raise ValueError
    return EnosConfig(products=products, limits=limits, **given)


def _product(entry: dict[str, Any]) -> EnosProduct:
    kinds = {
        "key": str,
        "secret": str,
        "dynamic_activation": bool,
        "kind": str,
        "certificate": bool,
        "devices": list,
    }
    given = service.check_settings(entry, kinds)
    secret, devices = given.get("secret"), tuple(given.get("devices", ()))
    service.check_words(given["key"], *devices, *([] if secret is None else [secret]))
    if given.get("kind", DEVICE) not in (DEVICE, GATEWAY):
        raise ValueError
    return EnosProduct(
        given["key"],
        None if secret is None else Secret(secret),
        given.get("dynamic_activation", True),
        devices,
        given.get("kind", DEVICE),
        given.get("certificate", False),
    )


def _write_first_identities(cloud: EnosCloud) -> None:
    """Write an identity for each way to log in, of the first products' devices of these names,
    made if they are not there.

    `identity.toml` activates by CoAP, `identity-2.toml` has its own secret; the same for gateways
    by MQTT: `identity-gateway.toml` and `identity-gateway-2.toml`. A gateway's sub-devices are of
    the last product that is no gateway's.
    """
    if not cloud.product_keys(DEVICE):
        cloud.create_product()
    if not cloud.product_keys(GATEWAY):
        cloud.create_product(kind=GATEWAY)
    product_key, gateway_key = cloud.product_keys(DEVICE)[0], cloud.product_keys(GATEWAY)[0]
    for mode, ending in ((DYNAMIC, ""), (STATIC, "-2")):
        cloud.create_device(product_key, _FIRST_DEVICES[mode])
        path = cloud.folder / f"identity{ending}.toml"
        _write_identity(cloud, path, product_key, _FIRST_DEVICES[mode], mode)
        cloud.create_device(gateway_key, _FIRST_GATEWAYS[mode])
        path = cloud.folder / f"identity-gateway{ending}.toml"
        _write_identity(cloud, path, gateway_key, _FIRST_GATEWAYS[mode], mode)


def _write_identity(
    cloud: EnosCloud, path: Path, product_key: str, device_key: str, mode: int
) -> None:
    """Of the journey that its product is for: a gateway's is one of its own."""
    if mode == STATIC:
        name, secret = "device_secret", cloud.device_secret(product_key, device_key)
    else:
        name, secret = "product_secret", cloud.product_secret(product_key)
    common: dict[str, str | int] = {
        "product_key": product_key,
        "secure_mode": mode,
        "device_key": device_key,
        name: secret.reveal().decode(),
    }
    gateway = product_key in cloud.product_keys(GATEWAY)
    service.write_identity(path, common | (_gateway if gateway else _coap)(cloud))


def _coap(cloud: EnosCloud) -> dict[str, str | int]:
    return {
        "journey": "enos-coap",
        "device_key_source": "burned",
        "host": cloud.config.host,
        "port": cloud.config.device_port,
        "modem": MODEM,
    }


def _gateway(cloud: EnosCloud) -> dict[str, str | int]:
    """With a service account, and the product of its sub-devices."""
    access_key, access_secret = cloud.create_application(APPLICATION)
    subdevices = cloud.product_keys(DEVICE)[-1]
    return {
        "journey": "enos-gateway",
        "host": cloud.config.mqtt_host,
        "port": MQTTS_PORT,
        "api_host": cloud.config.api_host,
        "api_port": HTTPS_PORT,
        "access_key": access_key,
        "access_secret": access_secret.reveal().decode(),
        "org_id": ORGANISATION,
        "subdevice_product_key": subdevices,
        "subdevice_product_secret": cloud.product_secret(subdevices).reveal().decode(),
        "root_ca": str(cloud.ca_pem),
        "wifi_ssid": service.WIFI_SSID,
    }


def _operations(cloud: EnosCloud) -> dict[str, control.Operation]:
    def stop() -> NoReturn:
        raise control.Stop

    def product(product_key: str | None, gateway: bool = False) -> str:
        return cloud.create_product(product_key, kind=GATEWAY if gateway else DEVICE)

    def certificate(product_key: str, on: bool, days: int) -> None:
        cloud.require_certificate(product_key, on, days=days)

    def add(product_key: str, device_name: str, identity: str | None, mode: int) -> None:
        cloud.create_device(product_key, device_name)
        if identity is not None:
            _write_identity(cloud, Path(identity), product_key, device_name, mode)

    def set_measurepoints(product_key: str, device_name: str, params: dict[str, Any]) -> Any:
        return cloud.send_command(product_key, device_name, MEASUREPOINT_SET, params)

    def invoke(product_key: str, device_name: str, service: str, params: dict[str, Any]) -> Any:
        return cloud.send_command(product_key, device_name, f"thing/service/{service}", params)

    def reset(product_key: str, device_name: str) -> None:
        cloud.reset_activation(product_key, device_name)

    def enable(product_key: str, device_name: str, on: bool) -> None:
        cloud.set_enabled(product_key, device_name, on)

    def bind(product_key: str, device_name: str, gateway: list[str]) -> None:
        cloud.bind((gateway[0], gateway[1]), (product_key, device_name))

    def delete(product_key: str, device_name: str) -> None:
        cloud.delete_device(product_key, device_name)

    def log(product_key: str, device_name: str) -> list[dict[str, Any]]:
        return cloud.device_log(product_key, device_name)

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
        "certificate": certificate,
        "bind": bind,
        "delete": delete,
        "log": log,
    }
