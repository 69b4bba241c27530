"""What the local Aliyun knows: products, devices and what was issued to them, kept in one file.

`devices.json` is the platform's data base: it holds secrets in clear, as a data base must to
check signatures, and is readable by its owner alone. It is replaced whole at each change of a
credential; what a device merely reported is written when it leaves.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imprint_tools.localcloud.datafile import DataFile, random_text
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

CLIENT_IDS_MAX = 5
"""ClientIDs that one {productKey, productSecret, deviceName} may hold (74006, 371987)."""

_CLIENT_ID_LENGTH = 28  # QueryClientIds shows 25 to 30 letters and digits
_TOKEN_LENGTH = 32  # the vendor's C SDK keeps it in 64 bytes with the final NUL


@dataclass
class Client:
    """What a registration without pre-registration issued: one physical device."""

    client_id: str
    token: Secret
    created: float


@dataclass
class Device:
    """A device of a product.

    `locked`: a login has closed the way to `register`, until ResetThing opens it again.
    `registered`: it was given a credential by dynamic registration. `activated`: it has logged in.
    """

    name: str
    secret: Secret
    enabled: bool = True
    registered: bool = False
    activated: bool = False
    locked: bool = False
    registrations: int = 0
    clients: list[Client] = field(default_factory=list)
    last_seen: float | None = None
    points: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Product:
    key: str
    secret: Secret
    dynamic_registration: bool = True
    devices: dict[str, Device] = field(default_factory=dict)


class Registry(DataFile):
    """Products and devices. Not thread-safe: one loop owns it."""

    LOSS = "register again"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.products: dict[str, Product] = {}

    def _read(self, document: dict[str, Any]) -> None:
        products = [_product_in(entry) for entry in document["products"]]
        self.products = {product.key: product for product in products}

    def _written(self) -> dict[str, Any]:
        return {"products": [_product_out(product) for product in self.products.values()]}

    # -- what the platform does ----------------------------------------------------------------

    def product(self, key: str) -> Product:
        """Refuses "product-unknown"."""
        try:
            return self.products[key]
        except KeyError:
            raise Refusal("product-unknown") from None

    def device(self, product_key: str, name: str) -> Device:
        """Refuses "product-unknown" and "device-unknown"."""
        try:
            return self.product(product_key).devices[name]
        except KeyError:
            raise Refusal("device-unknown") from None

    def register(self, product_key: str, name: str) -> Device:
        """Issue a new deviceSecret to a pre-registered device that has not logged in.

        May be repeated, each time with a new secret, of which only the last one counts (173007).
        Refuses "registration-off", "device-unknown", "device-disabled", "already-activated".
        """
        self._open_for_registration(product_key)
        device = self.device(product_key, name)
        if not device.enabled:
            raise Refusal("device-disabled")
        if device.locked:
            raise Refusal("already-activated")
        device.secret = _new_secret()
        device.registered = True
        device.registrations += 1
        self.save()
        return device

    def register_unlisted(self, product_key: str, name: str, now: float) -> Client:
        """Issue a clientId and token to a device that nobody announced, creating its name.

        Refuses "registration-off", "device-disabled" and, after five, "client-ids-exhausted".
        """
        self._open_for_registration(product_key)
        devices = self.product(product_key).devices
        device = devices.get(name) or Device(name, _new_secret())
        if not device.enabled:
            raise Refusal("device-disabled")
        if len(device.clients) >= CLIENT_IDS_MAX:
            raise Refusal("client-ids-exhausted")
        client = Client(random_text(_CLIENT_ID_LENGTH), Secret(random_text(_TOKEN_LENGTH)), now)
        devices[name] = device
        device.clients.append(client)
        device.registered = True
        device.registrations += 1
        self.save()
        return client

    def logged_in(self, device: Device) -> None:
        """A device is activated by its first login; the way to `register` is then closed."""
        if not device.activated or not device.locked:
            device.activated = device.locked = True
            self.save()

    # -- what its console does -----------------------------------------------------------------

    def create_product(self, key: str | None = None, secret: Secret | None = None) -> Product:
        """Make a product, or give a known one the secret named."""
        key = key or "a1" + random_text(9)
        product = self.products.get(key)
        if product is None:
            product = self.products[key] = Product(key, secret or _new_secret())
        elif secret is not None:
            product.secret = secret
        self.save()
        return product

    def create_device(self, product_key: str, name: str) -> Device:
        """Pre-register a device; a known one stays as it is."""
        devices = self.product(product_key).devices
        if name not in devices:
            devices[name] = Device(name, _new_secret())
            self.save()
        return devices[name]

    def _open_for_registration(self, product_key: str) -> None:
        if not self.product(product_key).dynamic_registration:
            raise Refusal("registration-off")


def _product_out(product: Product) -> dict[str, Any]:
    return {
        "key": product.key,
        "secret": product.secret.reveal().decode(),
        "dynamic_registration": product.dynamic_registration,
        "devices": [_device_out(device) for device in product.devices.values()],
    }


def _device_out(device: Device) -> dict[str, Any]:
    clients = [
        {"client_id": c.client_id, "token": c.token.reveal().decode(), "created": c.created}
        for c in device.clients
    ]
    return vars(device) | {"secret": device.secret.reveal().decode(), "clients": clients}


def _product_in(entry: dict[str, Any]) -> Product:
    devices = [_device_in(device) for device in entry["devices"]]
    return Product(
        entry["key"],
        Secret(entry["secret"]),
        entry["dynamic_registration"],
        {device.name: device for device in devices},
    )


def _device_in(entry: dict[str, Any]) -> Device:
    clients = [
        Client(client["client_id"], Secret(client["token"]), client["created"])
        for client in entry["clients"]
    ]
    return Device(**(entry | {"secret": Secret(entry["secret"]), "clients": clients}))


def _new_secret() -> Secret:
    # A deviceSecret and a productSecret in the vendor's samples: 32 lower-case hex digits or
    # 16 letters and digits. The longer one serves for both.
    return Secret(secrets.token_hex(16))
