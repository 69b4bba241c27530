"""Alibaba Cloud's IoT Platform on loopback: registration, login, telemetry, and its console.

It checks what the real one checks and answers with the real one's codes (`platform`); where
the vendor's documents are silent, `config` says so.

A device reaches it under the vendor's true host names: `endpoints` says which of them lead to
which loopback port, and the certificate is made for them.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imprint_tools.endpoints import Endpoint
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.aliyun import auth as aliyun_auth
from imprint_tools.localcloud.aliyun import topics as aliyun_topics
from imprint_tools.localcloud.aliyun.config import AliyunConfig, ProductConfig
from imprint_tools.localcloud.aliyun.platform import Platform
from imprint_tools.localcloud.aliyun.registry import Device, Product, Registry
from imprint_tools.localcloud.broker import Security
from imprint_tools.localcloud.cloud import Cloud
from imprint_tools.localcloud.faults import Faults
from imprint_tools.localcloud.loop import LoopThread
from imprint_tools.secret import Secret

__all__ = ["AliyunCloud", "AliyunConfig", "ProductConfig"]


class AliyunCloud(Cloud[Platform]):
    """The platform. `start()` and `stop()`, or a `with` block; every method is thread-safe."""

    NAME = "aliyun"
    DEVICES = "imprint cloud devices"
    ca_pem: Path

    def __init__(self, folder: Path, config: AliyunConfig | None = None) -> None:
        self._registry = Registry(folder / "devices.json")
        super().__init__(folder, self._registry)
        self.config = config or AliyunConfig()
        self.faults = Faults()
        self.ca_pem = folder / "root_ca.pem"
        self._ports = (0, 0)

    def _open(self, runner: LoopThread, undo: contextlib.ExitStack) -> Platform:
        names = (
            f"*.iot-as-mqtt.{self.config.region}.aliyuncs.com",
            "*.mqtt.iothub.aliyuncs.com",
        )
        context = self._aliyun_context(names)
        platform = Platform(self._registry, self.config, self._log, self.faults)
        undo.callback(lambda: runner.run(platform.broker.close()))
        tls, either = self._ports
        self._ports = tls, either = runner.call(
            lambda: (
                platform.broker.listen(Security.TLS, context, port=tls),
                platform.broker.listen(Security.EITHER, context, port=either),
            )
        )
        # 8883 is TLS; 1883 TLS and plain TCP on one port; 443 the same service over TLS.
        self.endpoints = [
            Endpoint(name, port, ("127.0.0.1", target))
            for name in names
            for port, target in ((8883, tls), (443, tls), (1883, either))
        ]
        return platform

    def _prepare(self) -> None:
        for wanted in self.config.products:
            product = self._registry.create_product(wanted.key, wanted.secret)
            product.dynamic_registration = wanted.dynamic_registration
            for name in wanted.devices:
                self._registry.create_device(wanted.key, _checked_name(name))
        self._registry.save()

    def _aliyun_context(self, names: tuple[str, ...]) -> ssl.SSLContext:
        # The documents name TLS 1.0 to 1.2 and advise 1.2; the C SDK speaks nothing newer.
        variant, key_type = self.config.certificate, self.config.key_type
        context = self._tls_context(names, variant=variant, key_type=key_type)
        if key_type == "rsa":
            # RSA key exchange first, the one that the vendor's C SDK has. In an ECDHE one OpenSSL
            # signs with PSS, which an mbedTLS 3.6 with TLS 1.3 offers and cannot check in 1.2.
            context.set_ciphers("AES128-GCM-SHA256:AES256-GCM-SHA384:ECDHE+AESGCM")
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        return context

    # -- what is to be seen --------------------------------------------------------------------

    def devices(self) -> list[dict[str, Any]]:
        """One dictionary a device, as the console shows them; no secret in it."""

        def look() -> list[dict[str, Any]]:
            return [
                self._shown(product, device)
                for product in self._registry.products.values()
                for device in product.devices.values()
            ]

        return self._look(look)

    def product_keys(self) -> list[str]:
        return self._console(lambda _: list(self._registry.products))

    def product_secret(self, product_key: str) -> Secret:
        return self._console(lambda _: self._registry.product(product_key).secret)

    def device_secret(self, product_key: str, device_name: str) -> Secret:
        return self._console(lambda _: self._registry.device(product_key, device_name).secret)

    def _shown(self, product: Product, device: Device) -> dict[str, Any]:
        online = self._up is not None and self._up.platform.online(product.key, device.name)
        return {
            "product_key": product.key,
            "device_name": device.name,
            "enabled": device.enabled,
            "registered": device.registered,
            "activated": device.activated,
            "registrations": device.registrations,
            "client_ids": len(device.clients),
            "online": online,
            "last_seen": device.last_seen,
            "points": {name: dict(point) for name, point in device.points.items()},
        }

    # -- what the console does -----------------------------------------------------------------

    def create_product(self, product_key: str | None = None, secret: Secret | None = None) -> str:
        """Make a product (or set a known one's secret); returns its productKey."""
        product = self._console(lambda _: self._registry.create_product(product_key, secret))
        self._log.add("product-created", product_key=product.key)
        return product.key

    def create_device(self, product_key: str, device_name: str) -> Secret:
        """Pre-register a device; returns its deviceSecret."""
        _checked_name(device_name)
        device = self._console(lambda _: self._registry.create_device(product_key, device_name))
        self._log.add("device-created", product_key=product_key, device_name=device_name)
        return device.secret

    def set_dynamic_registration(self, product_key: str, on: bool) -> None:
        """The product's switch. Devices that hold a credential are not touched by it."""

        def change(_: Platform) -> None:
            self._registry.product(product_key).dynamic_registration = on
            self._registry.save()

        self._console(change)
        self._log.add("registration-switch", product_key=product_key, on=on)

    def set_enabled(self, product_key: str, device_name: str, on: bool) -> None:
        """Disable a device (logins are refused, requests answered with 6204) or enable it."""

        def change(device: Device) -> None:
            device.enabled = on

        self._change(product_key, device_name, "device-enabled", change, on=on)

    def reset_thing(self, product_key: str, device_name: str) -> None:
        """Let an activated device register again (ResetThing); it stays activated."""

        def change(device: Device) -> None:
            device.locked = False

        self._change(product_key, device_name, "reset-thing", change)

    def delete_client_ids(self, product_key: str, device_name: str) -> None:
        """Wipe every clientId and token of a name (DeleteClientIds).

        Felt at the next login: whether the real one cuts a connection is not documented.
        """

        def change(device: Device) -> None:
            device.clients.clear()

        self._change(product_key, device_name, "client-ids-deleted", change)

    def set_properties(
        self, product_key: str, device_name: str, params: Mapping[str, Any], *, qos: int = 1
    ) -> tuple[str, str]:
        """Set properties on a device; returns (message id, "sent" | "queued" | "dropped").

        The device's answer is the event `set-reply` of that id.
        """
        message_id, fate = self._console(
            lambda platform: platform.set_properties(product_key, device_name, params, qos)
        )
        self._log.add(
            "set", product_key=product_key, device_name=device_name, id=message_id, fate=fate
        )
        return message_id, fate

    def publish_user(
        self, product_key: str, device_name: str, name: str, payload: bytes, *, qos: int = 1
    ) -> str:
        """Publish to `/{productKey}/{deviceName}/user/{name}`; returns what became of it."""
        topic = aliyun_topics.user(product_key, device_name) + name
        return self._console(
            lambda platform: platform.deliver(product_key, device_name, topic, payload, qos)
        )

    def _change(
        self,
        product_key: str,
        device_name: str,
        kind: str,
        change: Callable[[Device], None],
        **details: Any,
    ) -> None:
        def run(_: Platform) -> None:
            change(self._registry.device(product_key, device_name))
            self._registry.save()

        self._console(run)
        self._log.add(kind, product_key=product_key, device_name=device_name, **details)


def _checked_name(device_name: str) -> str:
    if not aliyun_auth.valid_device_name(device_name):
        raise BenchStateError(
            f"{device_name!r} is not a device name",
            next_step="use 4 to 32 letters, digits or -_@.:",
        )
    return device_name
