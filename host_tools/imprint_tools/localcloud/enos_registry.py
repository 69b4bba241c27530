"""What the local EnOS knows: products, devices and the commands that wait for them, in one file.

`devices.json` is the platform's data base: it holds secrets in clear, as a data base must to check
keys, and is readable by its owner alone. It is replaced whole: at once for what the console
changes, a second later at most for what a device changes by what it does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imprint_tools.localcloud.datafile import DataFile, random_text
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

COMMANDS_MAX = 32
"""Commands that may wait for one device."""

_EVENTS_MAX = 20
# As in the vendor's samples: keys of 8 letters and digits, secrets of 20.
_KEY_LENGTH, _SECRET_LENGTH = 8, 20


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
    may not be again, until the console says so. `last_seen`: None is EnOS's "inactive"."""

    key: str
    secret: Secret
    asset_id: str
    enabled: bool = True
    activated: bool = False
    activations: int = 0
    last_seen: float | None = None
    measurepoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    def happened(self, event: dict[str, Any]) -> None:
        """Keep an event that it reported; the last twenty."""
        self.events = [*self.events, event][-_EVENTS_MAX:]


@dataclass
class Product:
    key: str
    secret: Secret
    dynamic_activation: bool = True
    devices: dict[str, Device] = field(default_factory=dict)


class EnosRegistry(DataFile):
    """Products and devices. Not thread-safe: one loop owns it."""

    LOSS = "be added and activated again"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.products: dict[str, Product] = {}
        self._command_id = 0

    def _read(self, document: dict[str, Any]) -> None:
        products = [_product_in(entry) for entry in document["products"]]
        self._command_id = int(document["command_id"])
        self.products = {product.key: product for product in products}

    def _written(self) -> dict[str, Any]:
        return {
            "command_id": self._command_id,
            "products": [_product_out(product) for product in self.products.values()],
        }

    def product(self, key: str) -> Product:
        """Refuses "product-unknown"."""
        try:
            return self.products[key]
        except KeyError:
            raise Refusal("product-unknown") from None

    def device(self, product_key: str, key: str) -> Device:
        """Refuses "product-unknown" and "device-unknown"."""
        try:
            return self.product(product_key).devices[key]
        except KeyError:
            raise Refusal("device-unknown") from None

    def may_activate(self, product_key: str, key: str) -> Device:
        """Refuses "activation-off", "device-disabled", "already-activated", and unknown ones."""
        device = self.device(product_key, key)
        if not self.product(product_key).dynamic_activation:
            raise Refusal("activation-off")
        if not device.enabled:
            raise Refusal("device-disabled")
        if device.activated:
            raise Refusal("already-activated")
        return device

    def create_product(self, key: str | None = None, secret: Secret | None = None) -> Product:
        """Make a product, or give a known one the secret named."""
        key = key or random_text(_KEY_LENGTH)
        product = self.products.get(key)
        if product is None:
            product = self.products[key] = Product(key, secret or _new_secret())
        elif secret is not None:
            product.secret = secret
        self.save()
        return product

    def create_device(self, product_key: str, key: str) -> Device:
        """Add a device; a known one stays as it is."""
        devices = self.product(product_key).devices
        if key not in devices:
            devices[key] = Device(key, _new_secret(), random_text(_KEY_LENGTH))
            self.save()
        return devices[key]

    def add_command(self, device: Device, topic: str, params: Any) -> Command:
        """Keep a command for a device. Refuses "too-many-commands"."""
        if len(device.commands) >= COMMANDS_MAX:
            raise Refusal("too-many-commands")
        self._command_id += 1
        command = Command(str(self._command_id), topic, params)
        device.commands.append(command)
        self.save()
        return command


def _product_out(product: Product) -> dict[str, Any]:
    return {
        "key": product.key,
        "secret": product.secret.reveal().decode(),
        "dynamic_activation": product.dynamic_activation,
        "devices": [_device_out(device) for device in product.devices.values()],
    }


def _device_out(device: Device) -> dict[str, Any]:
    commands = [asdict(command) for command in device.commands]
    return vars(device) | {"secret": device.secret.reveal().decode(), "commands": commands}


def _product_in(entry: dict[str, Any]) -> Product:
    devices = [_device_in(device) for device in entry["devices"]]
    return Product(
        entry["key"],
        Secret(entry["secret"]),
        entry["dynamic_activation"],
        {device.key: device for device in devices},
    )


def _device_in(entry: dict[str, Any]) -> Device:
    commands = [Command(**command) for command in entry["commands"]]
    return Device(**(entry | {"secret": Secret(entry["secret"]), "commands": commands}))


def _new_secret() -> Secret:
    return Secret(random_text(_SECRET_LENGTH))
