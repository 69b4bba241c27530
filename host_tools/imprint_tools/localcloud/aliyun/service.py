"""The local Aliyun as `daemon` runs it: its configuration file, its identity, its console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from imprint_tools.localcloud import control, service
from imprint_tools.localcloud.aliyun.cloud import AliyunCloud, AliyunConfig, ProductConfig
from imprint_tools.localcloud.service import Served
from imprint_tools.secret import Secret


@contextmanager
def run(place: Path, products: tuple[str, ...], config: Path | None) -> Iterator[Served]:
    """service.Service."""
    if config is None:
        wanted = AliyunConfig(products=tuple(ProductConfig(key) for key in products))
    else:
        wanted = load_config(config)
    with AliyunCloud(place, wanted) as cloud:
        _write_first_identity(cloud)
        yield Served(cloud.state, _operations(cloud))


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
    return service.read_config(
        path,
        _config,
        "give it region, instance_id, plain_tcp and [[product]] tables with key, "
        "secret, dynamic_registration, devices",
    )


def _config(document: dict[str, Any]) -> AliyunConfig:
    products = tuple(_product(entry) for entry in document.pop("product", []))
    kinds = {"region": str, "instance_id": str, "plain_tcp": bool}
    return AliyunConfig(products=products, **service.check_settings(document, kinds))


def _product(entry: dict[str, Any]) -> ProductConfig:
    kinds = {"key": str, "secret": str, "dynamic_registration": bool, "devices": list}
    given = service.check_settings(entry, kinds)
    secret, devices = given.get("secret"), tuple(given.get("devices", ()))
    service.check_words(given["key"], *devices, *([] if secret is None else [secret]))
    return ProductConfig(
        given["key"],
        None if secret is None else Secret(secret),
        given.get("dynamic_registration", True),
        devices,
    )


def _write_first_identity(cloud: AliyunCloud) -> None:
    """Write `identity.toml` for the first product, which is made if there is none."""
    keys = cloud.product_keys()
    product_key = keys[0] if keys else cloud.create_product()
    fields = {
        "registration": "regnwl",
        "product_secret": cloud.product_secret(product_key).reveal().decode(),
    }
    _write_identity(cloud, cloud.folder / "identity.toml", product_key, fields)


def _write_identity(
    cloud: AliyunCloud, path: Path, product_key: str, fields: Mapping[str, str]
) -> None:
    document = {
        "journey": "aliyun",
        "product_key": product_key,
        **fields,
        "root_ca": str(cloud.ca_pem),
        "wifi_ssid": service.WIFI_SSID,
    }
    service.write_identity(path, document)


def _operations(cloud: AliyunCloud) -> dict[str, control.Operation]:
    def stop() -> NoReturn:
        raise control.Stop

    def product(product_key: str | None) -> str:
        return cloud.create_product(product_key)

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
        "product": product,
        "add": add,
        "devices": cloud.devices,
        "set": cloud.set_properties,
        "reset": cloud.reset_thing,
        "forget": cloud.delete_client_ids,
        "enable": cloud.set_enabled,
        "registration": cloud.set_dynamic_registration,
    }
