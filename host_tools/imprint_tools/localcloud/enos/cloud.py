"""Envision EnOS on loopback: its IoT hub and its console.

It checks what the real one checks: by CoAP with real DTLS and a pre-shared key at one UDP port
(`platform`), by MQTT at a plain port and one with TLS (`mqtt`, `gateway`), and the
REST API with its tokens and certificates (`api`). Where the vendor's documents are silent,
`config` says so.

A device reaches it under the vendor's true host names: `endpoints` says which names lead to which
port. Its files are those of `daemon`, and an identity for each way to log in.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imprint_tools.endpoints import Endpoint
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import pki
from imprint_tools.localcloud.broker import Security
from imprint_tools.localcloud.cloud import Cloud
from imprint_tools.localcloud.enos import auth as enos_auth
from imprint_tools.localcloud.enos.api import EnosApi
from imprint_tools.localcloud.enos.config import EnosConfig, EnosProduct, Inferred
from imprint_tools.localcloud.enos.faults import EnosFaults
from imprint_tools.localcloud.enos.hub import Hub, status
from imprint_tools.localcloud.enos.port import Clock, UdpPort
from imprint_tools.localcloud.enos.records import DEVICE, RIGHTS, Device, Name, Product
from imprint_tools.localcloud.enos.registry import ORGANISATION, EnosRegistry
from imprint_tools.localcloud.loop import LoopThread
from imprint_tools.localcloud.rest import RestServer
from imprint_tools.localcloud.tls import asking_context
from imprint_tools.secret import Secret

__all__ = ["EnosCloud", "EnosConfig", "EnosProduct", "Inferred"]

MQTT_PORT, MQTTS_PORT, HTTPS_PORT = 11883, 18883, 443
"""That devices name: MQTT, plain with a secret; over TLS, with a certificate besides; REST."""

MEASUREPOINT_SET = "thing/service/measurepoint/set"

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class _Served:
    """The rules, and the UDP port that some of them are reached at."""

    hub: Hub
    port: UdpPort


class EnosCloud(Cloud[_Served]):
    """The platform. `start()` and `stop()`, or a `with` block; every method is thread-safe."""

    NAME = "enos"
    DEVICES = "imprint cloud devices --cloud enos"

    def __init__(
        self, folder: Path, config: EnosConfig | None = None, *, clock: Clock = time.monotonic
    ) -> None:
        """`clock`: seconds, for lifetimes and exchanges; `tick()` has it looked at."""
        self._registry = EnosRegistry(folder / "devices.json")
        super().__init__(folder, self._registry)
        self.config = config or EnosConfig()
        self.faults = EnosFaults()
        self._clock = clock
        config = self.config
        self._ports = (config.port, config.mqtt_port, config.mqtts_port, config.api_port)
        self._bugs: list[str] = []

    def _open(self, runner: LoopThread, undo: contextlib.ExitStack) -> _Served:
        config = self.config
        hub = Hub(self._registry, config, self._log, self.faults, self._clock, self.folder)
        names = (config.mqtt_host, config.api_host)
        files = self._server_files(names, variant=config.certificate_variant)
        api = EnosApi(
            self._registry, hub, config, self._log, self.faults, self._clock, files.root_ca
        )
        port = UdpPort(hub.coap, self._clock)
        udp, plain, tls, https = self._ports
        udp = runner.run(port.open(udp))
        undo.callback(runner.call, port.close)
        undo.callback(lambda: runner.run(hub.mqtt.broker.close()))
        listen = hub.mqtt.broker.listen
        plain = runner.call(lambda: listen(Security.PLAIN, port=plain))
        asking = asking_context(files.chain, files.key)
        tls = runner.call(lambda: listen(Security.TLS, asking, port=tls))
        rest = runner.call(
            lambda: RestServer(api.handle, _context(files), body_max=config.limits.body_max)
        )
        undo.callback(lambda: runner.run(rest.close()))
        https = runner.run(rest.open(https))
        self._ports = (udp, plain, tls, https)
        self.endpoints = [
            Endpoint("coap-*", config.device_port, (_LOOPBACK, udp), "udp"),
            Endpoint(config.mqtt_host, MQTT_PORT, (_LOOPBACK, plain)),
            Endpoint(config.mqtt_host, MQTTS_PORT, (_LOOPBACK, tls)),
            Endpoint(config.api_host, HTTPS_PORT, (_LOOPBACK, https)),
        ]
        return _Served(hub, port)

    def stop(self) -> None:
        """End every session and write down what is known. Raises RuntimeError for a bug that a
        rule had."""
        super().stop()
        if self._bugs:
            raise RuntimeError(self._bugs.pop())

    def _on_loop_error(self, text: str) -> None:
        super()._on_loop_error(text)
        self._bugs.append(text)

    def _prepare(self) -> None:
        for wanted in self.config.products:
            _check_name(wanted.key)
            product = self._registry.create_product(
                wanted.key,
                wanted.secret,
                kind=wanted.kind,
                organisation=wanted.organisation or ORGANISATION,
            )
            product.dynamic_activation = wanted.dynamic_activation
            product.certificate = wanted.certificate
            for key in wanted.devices:
                _check_name(key)
                self._registry.create_device(wanted.key, key)
        self._registry.save()

    # -- what is to be seen --------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The UDP port on loopback."""
        return self._ports[0]

    def devices(self) -> list[dict[str, Any]]:
        """One dictionary a device, as the console shows them; no secret in it."""

        def look() -> list[dict[str, Any]]:
            return [self._shown(product, device) for product, device in self._registry.devices()]

        return self._look(look)

    def sessions(self) -> list[dict[str, Any]]:
        """One dictionary a live session: address, identity, suite, and how many datagrams and
        bytes its handshake and its application took, each way."""
        return self._console(lambda served: served.hub.coap.sessions())

    def product_keys(self, kind: str | None = None) -> list[str]:
        """Of all products, or of those of that kind."""
        return self._console(
            lambda _: [p.key for p in self._registry.products.values() if kind in (None, p.kind)]
        )

    def product_secret(self, product_key: str) -> Secret:
        return self._console(lambda _: self._registry.product(product_key).secret)

    def device_secret(self, product_key: str, device_key: str) -> Secret:
        return self._console(lambda _: self._registry.device(product_key, device_key).secret)

    def _shown(self, product: Product, device: Device) -> dict[str, Any]:
        name = (product.key, device.key)
        online = self._up is not None and self._up.platform.hub.online(name)
        return {
            "product_key": product.key,
            "device_key": device.key,
            "enabled": device.enabled,
            "status": status(device, online=online),
            "online": online,
            "activated": device.activated,
            "activations": device.activations,
            "last_seen": device.last_seen,
            "measurepoints": {name: dict(p) for name, p in device.measurepoints.items()},
            "attributes": dict(device.attributes),
            "tags": dict(device.tags),
            "gateway": None if device.gateway is None else list(device.gateway),
            "events": list(device.events),
            "commands": [
                {"id": c.id, "topic": c.topic, "fetched": c.fetched} for c in device.commands
            ],
        }

    # -- what the console does -----------------------------------------------------------------

    def tick(self) -> None:
        """Look at the clock now, as the platform does ten times a second by itself."""
        if self._up is not None:
            self._up.runner.call(self._up.platform.port.tick)

    def create_organisation(self, name: str = "") -> str:
        """Make an organisation; returns its id (orgId)."""
        key = self._console(lambda _: self._registry.create_organisation(name))
        self._log.add("organisation-created", organisation=key)
        return key

    def create_application(
        self, name: str = "", organisations: Sequence[str] = (ORGANISATION,)
    ) -> tuple[str, Secret]:
        """Make an application, or find a known one by its name; returns its service account,
        (accessKey, accessSecret).

        The organisations register a new one, with every right. See `set_rights`.
        """
        known = self._console(lambda _: self._registry.application_named(name))
        if known is not None:
            return known.key, known.secret
        application = self._console(lambda _: self._registry.create_application(name))
        self._log.add("application-created", access_key=application.key)
        for organisation in organisations:
            self.set_rights(application.key, organisation, RIGHTS)
        return application.key, application.secret

    def set_rights(self, access_key: str, organisation: str, rights: Sequence[str] | None) -> None:
        """What an organisation's policy lets an application do, of enos_records.RIGHTS; None: the
        organisation has not registered it."""

        def change(_: _Served) -> None:
            self._registry.organisation(organisation)
            grants = self._registry.application(access_key).grants
            grants.pop(organisation, None)
            if rights is not None:
                grants[organisation] = list(rights)
            self._registry.save()

        self._console(change)
        self._log.add(
            "rights", access_key=access_key, organisation=organisation, rights=rights and [*rights]
        )

    def create_product(
        self,
        product_key: str | None = None,
        secret: Secret | None = None,
        *,
        kind: str = DEVICE,
        organisation: str = ORGANISATION,
    ) -> str:
        """Make a product (or set a known one's secret); returns its productKey.

        `kind`: enos_records.GATEWAY or DEVICE.
        """
        if product_key is not None:
            _check_name(product_key)
        product = self._console(
            lambda _: self._registry.create_product(
                product_key, secret, kind=kind, organisation=organisation
            )
        )
        self._log.add("product-created", product_key=product.key)
        return product.key

    def require_certificate(self, product_key: str, on: bool = True, *, days: int = 730) -> None:
        """The product's switch "certificate bi-directional authentication"; `days`: the longest
        that a certificate of its devices is valid."""

        def change(_: _Served) -> None:
            product = self._registry.product(product_key)
            product.certificate, product.certificate_days = on, days
            self._registry.save()

        self._console(change)
        self._log.add("certificate-switch", product_key=product_key, on=on)

    def issue_certificate(self, product_key: str, device_key: str, csr: str) -> dict[str, str]:
        """Apply for a device's certificate as the REST API does; returns its reply's data: cert,
        caCert, certSN and so on, in PEM."""
        name = (product_key, device_key)
        return self._console(lambda served: served.hub.certificates.apply(name, {"csr": csr}))

    def revoke_certificate(self, product_key: str, device_key: str) -> None:
        """End all certificates of a device, for no reason that is told."""
        name = (product_key, device_key)

        def change(served: _Served) -> None:
            for listed in served.hub.certificates.listed(name):
                served.hub.certificates.revoke(name, {"certSn": listed["certSN"]})

        self._console(change)
        self._log.add("certificate-revoked", product_key=product_key, device_key=device_key)

    def create_device(self, product_key: str, device_key: str) -> Secret:
        """Add a device; returns its deviceSecret."""
        _check_name(device_key)
        device = self._console(lambda _: self._registry.create_device(product_key, device_key))
        self._log.add("device-created", product_key=product_key, device_key=device_key)
        return device.secret

    def bind(self, gateway: Name, name: Name) -> None:
        """Put a device, by (productKey, deviceKey), into a gateway's topology."""

        def change(_: _Served) -> None:
            self._registry.bind(gateway, name)
            self._registry.save()

        self._console(change)
        self._log.add(
            "topology-added", product_key=name[0], device_key=name[1], gateway=list(gateway)
        )

    def unbind(self, product_key: str, device_key: str) -> None:
        """Take a device out of its gateway's topology, which is not told."""

        def change(served: _Served) -> None:
            served.hub.mqtt.leave((product_key, device_key), "topology")
            self._registry.device(product_key, device_key).gateway = None
            self._registry.save()

        self._console(change)
        self._log.add("topology-deleted", product_key=product_key, device_key=device_key)

    def set_mirror(self, product_key: str, device_key: str, on: bool = True) -> None:
        """Make a device a mirror of another organisation's, which cannot log in."""

        def change(device: Device) -> None:
            device.mirror = on

        self._change(product_key, device_key, "device-mirror", change, on=on)

    def set_dynamic_activation(self, product_key: str, on: bool) -> None:
        """The product's switch. Devices that hold their secret are not touched by it."""

        def change(_: _Served) -> None:
            self._registry.product(product_key).dynamic_activation = on
            self._registry.save()

        self._console(change)
        self._log.add("activation-switch", product_key=product_key, on=on)

    def set_enabled(self, product_key: str, device_key: str, on: bool) -> None:
        """Disable a device or enable it: disabled, it cannot log in any more, and over CoAP is
        refused in its session; over MQTT it is told, a sub-device by its gateway."""
        self._console(lambda served: served.hub.set_enabled((product_key, device_key), on))

    def delete_device(self, product_key: str, device_key: str) -> None:
        """Forget a device; over MQTT it is told, a sub-device by its gateway."""
        self._console(lambda served: served.hub.delete((product_key, device_key)))

    def drop(self, product_key: str, device_key: str) -> bool:
        """Lose a device's MQTT connection, as a network does; False where there was none."""
        return self._console(lambda served: served.hub.mqtt.drop((product_key, device_key)))

    def drop_all(self) -> None:
        """Lose every MQTT connection and session, as a broker does that starts anew."""
        self._console(lambda served: served.hub.mqtt.drop_all())

    def device_log(self, product_key: str, device_key: str) -> list[dict[str, Any]]:
        """What went wrong with a device, with its codes, oldest first.

        A name that nobody has, and that never called, is refused as "device-unknown".
        """

        def look(served: _Served) -> list[dict[str, Any]]:
            entries = served.hub.mqtt.device_log.of((product_key, device_key))
            if not entries:
                self._registry.device(product_key, device_key)
            return [
                {"time_ms": e.time_ms, "what": e.what, "code": e.code, "message": e.message}
                for e in entries
            ]

        return self._console(look)

    def reset_activation(self, product_key: str, device_key: str) -> None:
        """Let a device activate again, as after the loss of its secret."""

        def change(device: Device) -> None:
            device.activated = False

        self._change(product_key, device_key, "activation-reset", change)

    def set_measurepoints(self, product_key: str, device_key: str, params: dict[str, Any]) -> str:
        """Have a device set measurepoints; returns the command's id. See `command`."""
        return self.command(product_key, device_key, MEASUREPOINT_SET, params)

    def invoke(
        self, product_key: str, device_key: str, service: str, params: dict[str, Any]
    ) -> str:
        """Have a device run a service of its model; returns the command's id. See `command`."""
        _check_name(service)
        return self.command(product_key, device_key, f"thing/service/{service}", params)

    def command(self, product_key: str, device_key: str, topic: str, params: Any) -> str:
        """Have a device do something; returns the command's id. See `send_command`."""
        return self.send_command(product_key, device_key, topic, params)[0]

    def send_command(
        self, product_key: str, device_key: str, topic: str, params: Any
    ) -> tuple[str, str]:
        """Have a device do something; returns (the command's id, "sent" or "queued").

        `topic` is below `/sys/{productKey}/{deviceKey}/`. A device that is online over MQTT, or by
        its gateway, is sent the command now; for another it is kept until it logs in, or by CoAP
        says something. The device's answer is the event `command-reply` of that id.
        """
        name = (product_key, device_key)

        def keep(served: _Served) -> tuple[str, str]:
            command = self._registry.add_command(self._registry.device(*name), topic, params)
            return command.id, "sent" if served.hub.mqtt.push_commands(name) else "queued"

        command_id, fate = self._console(keep)
        self._log.add(
            "command",
            product_key=product_key,
            device_key=device_key,
            id=command_id,
            topic=topic,
            fate=fate,
        )
        return command_id, fate

    def _change(
        self,
        product_key: str,
        device_key: str,
        kind: str,
        change: Callable[[Device], None],
        **details: Any,
    ) -> None:
        def run(_: _Served) -> None:
            change(self._registry.device(product_key, device_key))
            self._registry.save()

        self._console(run)
        self._log.add(kind, product_key=product_key, device_key=device_key, **details)


def _context(files: pki.ServerFiles) -> ssl.SSLContext:
    """For REST, which asks nobody for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.chain, files.key)
    return context


def _check_name(name: str) -> None:
    if not enos_auth.valid_name(name):
        raise BenchStateError(
            f"{name!r} cannot be a product key, device key or service",
            next_step="use 1 to 64 letters, digits or -_.:@",
        )
