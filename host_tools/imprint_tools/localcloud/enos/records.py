"""What the local EnOS keeps: organisations, applications, products, devices, certificates.

Dataclasses, and their way to JSON and back. Keys that a file of an earlier version lacks have
their defaults; a tuple comes back as one, a Secret as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from imprint_tools.secret import Secret

_R = TypeVar("_R")

Name = tuple[str, str]
"""A device anywhere in EnOS: (product key, device key)."""

GATEWAY, DEVICE = "gateway", "device"
"""Node types of a product. Only a gateway may have sub-devices; a device may be one."""

DEVICES_RIGHT, CERTIFICATES_RIGHT = "devices", "certificates"
"""What an organisation's policy may grant an application: all of device management, or to apply
for, renew and revoke certificates."""
RIGHTS = (DEVICES_RIGHT, CERTIFICATES_RIGHT)

_EVENTS_MAX = 20


@dataclass
class Command:
    """What a device is to do: `topic` is below `/sys/{productKey}/{deviceKey}/`. `fetched`: it was
    handed out and not replied to."""

    id: str
    topic: str
    params: Any
    fetched: bool = False


@dataclass
class Device:
    """A device of a product. `activations`: how often its secret was handed out. `activated`: it
    may not be again, until the console says so. `last_seen`: None is EnOS's "inactive".
    `gateway`: the one in whose topology it is; it then may not log in by itself. `mirror`: a
    shadow of another organisation's device, that can never log in. `profile`: what it was created
    with (deviceName, timezone, deviceDesc)."""

    key: str
    secret: Secret
    asset_id: str
    enabled: bool = True
    activated: bool = False
    activations: int = 0
    last_seen: float | None = None
    gateway: Name | None = None
    mirror: bool = False
    measurepoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    def happened(self, event: dict[str, Any]) -> None:
        """Keep an event that it reported; the last twenty."""
        self.events = [*self.events, event][-_EVENTS_MAX:]


@dataclass
class Product:
    """`certificate`: bi-directional authentication, its devices log in with a certificate too;
    `certificate_days`: the longest that one of theirs is valid."""

    key: str
    secret: Secret
    dynamic_activation: bool = True
    devices: dict[str, Device] = field(default_factory=dict)
    kind: str = DEVICE
    organisation: str = ""
    certificate: bool = False
    certificate_days: int = 730


@dataclass
class Application:
    """A service account. `grants`: by organisation that has registered it, what its policy lets it
    do there."""

    key: str
    secret: Secret
    name: str = ""
    grants: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Certificate:
    """One that was issued to a device. `serial` as in certSN; `revoked`: the reason's number."""

    serial: str
    owner: Name
    authority: str
    pem: str
    csr: str
    subject: str
    not_after: float
    revoked: int | None = None


def product_out(product: Product) -> dict[str, Any]:
    devices = [_device_out(device) for device in product.devices.values()]
    return _plain(product) | {"devices": devices}


def product_in(entry: Mapping[str, Any]) -> Product:
    devices = [_device_in(device) for device in entry["devices"]]
    return _made(Product, entry, devices={device.key: device for device in devices})


def application_out(application: Application) -> dict[str, Any]:
    return _plain(application)


def application_in(entry: Mapping[str, Any]) -> Application:
    return _made(Application, entry)


def certificate_out(certificate: Certificate) -> dict[str, Any]:
    return vars(certificate) | {}


def certificate_in(entry: Mapping[str, Any]) -> Certificate:
    return Certificate(**{**entry, "owner": _name(entry["owner"])})


def _device_out(device: Device) -> dict[str, Any]:
    return _plain(device) | {"commands": [asdict(command) for command in device.commands]}


def _device_in(entry: Mapping[str, Any]) -> Device:
    commands = [Command(**command) for command in entry["commands"]]
    gateway = entry.get("gateway")
    return _made(Device, entry, commands=commands, gateway=gateway and _name(gateway))


def _plain(record: Product | Device | Application) -> dict[str, Any]:
    return vars(record) | {"secret": record.secret.reveal().decode()}


def _made(kind: Callable[..., _R], entry: Mapping[str, Any], **read: Any) -> _R:
    return kind(**{**entry, "secret": Secret(entry["secret"]), **read})


def _name(pair: list[str]) -> Name:
    product_key, device_key = pair
    return product_key, device_key
