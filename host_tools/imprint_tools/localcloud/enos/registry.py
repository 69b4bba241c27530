"""What the local EnOS knows, in one file: organisations and their products, devices, topology,
the applications that may speak for them, certificates, and the commands that wait.

`devices.json` is the platform's data base: it holds secrets in clear, as a data base must to check
keys, and is readable by its owner alone. It is replaced whole: at once for what the console
changes, a second later at most for what a device changes by what it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imprint_tools.localcloud.datafile import DataFile, random_text
from imprint_tools.localcloud.enos import records
from imprint_tools.localcloud.enos.records import (
    DEVICE,
    GATEWAY,
    Application,
    Certificate,
    Command,
    Device,
    Name,
    Product,
)
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

COMMANDS_MAX = 32
"""Commands that may wait for one device."""

ORGANISATION = "o15000000000001"
"""Whose a product is that was made without naming one."""

# As in the vendor's samples: keys of 8 letters and digits, secrets of 20; the key of an
# application is a UUID there.
_KEY_LENGTH, _SECRET_LENGTH = 8, 20
_APPLICATION_KEY_LENGTH, _APPLICATION_SECRET_LENGTH = 36, 36


class EnosRegistry(DataFile):
    """All of it. Not thread-safe: one loop owns it."""

    LOSS = "be added and activated again"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.products: dict[str, Product] = {}
        self.organisations: dict[str, str] = {ORGANISATION: "bench"}
        """Id: name."""
        self.applications: dict[str, Application] = {}
        self.certificates: dict[str, Certificate] = {}
        """By serial number."""
        self._command_id = 0

    def _read(self, document: dict[str, Any]) -> None:
        products = [records.product_in(entry) for entry in document["products"]]
        applications = [records.application_in(e) for e in document.get("applications", [])]
        certificates = [records.certificate_in(e) for e in document.get("certificates", [])]
        self._command_id = int(document["command_id"])
        self.products = {product.key: product for product in products}
        self.applications = {application.key: application for application in applications}
        self.certificates = {certificate.serial: certificate for certificate in certificates}
        self.organisations |= document.get("organisations", {})

    def _written(self) -> dict[str, Any]:
        return {
            "command_id": self._command_id,
            "organisations": self.organisations,
            "applications": list(map(records.application_out, self.applications.values())),
            "products": list(map(records.product_out, self.products.values())),
            "certificates": list(map(records.certificate_out, self.certificates.values())),
        }

    # -- looking up ----------------------------------------------------------------------------

    def organisation(self, key: str) -> str:
        """Its id, for one that there is. Refuses "organisation-unknown"."""
        if key not in self.organisations:
            raise Refusal("organisation-unknown")
        return key

    def application(self, key: str) -> Application:
        """Refuses "application-unknown"."""
        try:
            return self.applications[key]
        except KeyError:
            raise Refusal("application-unknown") from None

    def application_named(self, name: str) -> Application | None:
        """The one of that name; a name may be empty, and is nobody's then."""
        found = (one for one in self.applications.values() if name and one.name == name)
        return next(found, None)

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

    def by_asset(self, asset_id: str) -> tuple[Product, Device]:
        """Refuses "device-unknown"."""
        for product, device in self.devices():
            if device.asset_id == asset_id:
                return product, device
        raise Refusal("device-unknown")

    def devices(self) -> Iterator[tuple[Product, Device]]:
        for product in self.products.values():
            for device in product.devices.values():
                yield product, device

    def subdevices(self, gateway: Name) -> list[Name]:
        """The topology of a gateway."""
        return [(p.key, d.key) for p, d in self.devices() if d.gateway == gateway]

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

    # -- making and ending ---------------------------------------------------------------------

    def create_organisation(self, name: str = "", key: str | None = None) -> str:
        """Make an organisation, or name a known one; returns its id."""
        key = key or f"o{15000000000001 + len(self.organisations)}"
        self.organisations[key] = name
        self.save()
        return key

    def create_application(self, name: str = "") -> Application:
        """Make a service account, that no organisation has registered yet."""
        key, secret = random_text(_APPLICATION_KEY_LENGTH), random_text(_APPLICATION_SECRET_LENGTH)
        application = self.applications[key] = Application(key, Secret(secret), name)
        self.save()
        return application

    def create_product(
        self,
        key: str | None = None,
        secret: Secret | None = None,
        *,
        kind: str = DEVICE,
        organisation: str = ORGANISATION,
    ) -> Product:
        """Make a product, or give a known one the secret named. Refuses "organisation-unknown"."""
        key = key or random_text(_KEY_LENGTH)
        product = self.products.get(key)
        if product is None:
            self.organisation(organisation)
            product = Product(key, secret or _new_secret(), kind=kind, organisation=organisation)
            self.products[key] = product
        elif secret is not None:
            product.secret = secret
        self.save()
        return product

    def create_device(self, product_key: str, key: str | None = None) -> Device:
        """Add a device; a known one stays as it is. Without a key it gets one."""
        devices = self.product(product_key).devices
        key = key or random_text(_KEY_LENGTH)
        if key not in devices:
            devices[key] = Device(key, _new_secret(), random_text(_KEY_LENGTH))
            self.save()
        return devices[key]

    def delete_device(self, product_key: str, key: str) -> None:
        """Forget a device; those in its topology are in none then, its certificates revoked."""
        self.device(product_key, key)
        del self.products[product_key].devices[key]
        name = (product_key, key)
        for _, device in self.devices():
            if device.gateway == name:
                device.gateway = None
        for certificate in self.certificates.values():
            if certificate.owner == name and certificate.revoked is None:
                certificate.revoked = 5  # cessation of operation
        self.save()

    def bind(self, gateway: Name, name: Name) -> None:
        """Put a device into a gateway's topology. Refuses as `check_bind`."""
        self.check_bind(gateway, name).gateway = gateway
        self.changed()

    def check_bind(self, gateway: Name, name: Name) -> Device:
        """May that device come into the topology of that gateway? Refuses "not-a-gateway",
        "gateway-as-subdevice", "other-gateway" and unknown ones."""
        if self.product(gateway[0]).kind != GATEWAY:
            raise Refusal("not-a-gateway")
        self.device(*gateway)
        device = self.device(*name)
        if self.product(name[0]).kind == GATEWAY:
            raise Refusal("gateway-as-subdevice")
        if device.gateway not in (None, gateway):
            raise Refusal("other-gateway")
        return device

    def add_command(self, device: Device, topic: str, params: Any) -> Command:
        """Keep a command for a device. Refuses "too-many-commands"."""
        if len(device.commands) >= COMMANDS_MAX:
            raise Refusal("too-many-commands")
        command = Command(self.next_id(), topic, params)
        device.commands.append(command)
        self.save()
        return command

    def next_id(self) -> str:
        """The id of the next request from the cloud."""
        self._command_id += 1
        return str(self._command_id)


def _new_secret() -> Secret:
    return Secret(random_text(_SECRET_LENGTH))
