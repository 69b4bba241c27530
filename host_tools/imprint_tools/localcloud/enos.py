"""Envision EnOS's IoT hub on loopback, its CoAP side: activation, reports, commands, its console.

It checks what the real one checks, with real DTLS and a pre-shared key at one UDP port
(`enos_platform`); where the vendor's documents are silent, `enos_config` says so.

A device reaches it under the vendor's true host name: `endpoints` says which names lead to the
port. Its files are those of `daemon`, and an identity for each of the two secure modes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imprint_tools.endpoints import Endpoint
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import enos_auth
from imprint_tools.localcloud.cloud import Cloud
from imprint_tools.localcloud.enos_config import EnosConfig, EnosProduct, Inferred
from imprint_tools.localcloud.enos_faults import EnosFaults
from imprint_tools.localcloud.enos_platform import EnosPlatform
from imprint_tools.localcloud.enos_records import Device, Product
from imprint_tools.localcloud.enos_registry import EnosRegistry
from imprint_tools.localcloud.loop import LoopThread
from imprint_tools.secret import Secret

__all__ = ["EnosCloud", "EnosConfig", "EnosProduct", "Inferred"]

_Clock = Callable[[], float]

_TICK_S = 0.1
_RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes asked of the kernel: thousands of units may come back together after a cut."""


class _Port(asyncio.DatagramProtocol):
    """The UDP port and the clock of a platform: moves datagrams, knows no protocol."""

    def __init__(self, platform: EnosPlatform, clock: _Clock) -> None:
        self._platform = platform
        self._clock = clock
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, port: int) -> int:
        """Listen on loopback; returns the port."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            sock.close()
            raise BenchStateError(
                f"UDP port {port} cannot be had: {error.strerror}",
                next_step="end what listens there, or let the cloud choose: port 0",
            ) from None
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)
        self._tick()
        return int(sock.getsockname()[1])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._platform.close()
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def tick(self) -> None:
        """Let the platform look at the clock."""
        self._platform.handle_timer(self._clock())
        self.flush()

    def flush(self) -> None:
        while (outgoing := self._platform.to_send()) is not None:
            if self._transport is not None:
                self._transport.sendto(*outgoing)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._platform.receive(data, (addr[0], addr[1]), self._clock())
        self.flush()

    def error_received(self, exc: Exception) -> None:
        """A peer's port is closed (ICMP): it will be silent, which its lifetime is for."""

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        self.tick()


@dataclass(frozen=True)
class _Served:
    """The rules, and the port that they are reached at."""

    rules: EnosPlatform
    port: _Port


class EnosCloud(Cloud[_Served]):
    """The platform. `start()` and `stop()`, or a `with` block; every method is thread-safe."""

    NAME = "enos"
    DEVICES = "imprint cloud devices --cloud enos"

    def __init__(
        self, folder: Path, config: EnosConfig | None = None, *, clock: _Clock = time.monotonic
    ) -> None:
        """`clock`: seconds, for lifetimes and exchanges; `tick()` has it looked at."""
        self._registry = EnosRegistry(folder / "devices.json")
        super().__init__(folder, self._registry)
        self.config = config or EnosConfig()
        self.faults = EnosFaults()
        self._clock = clock
        self._port = self.config.port
        self._bugs: list[str] = []

    def _open(self, runner: LoopThread, undo: contextlib.ExitStack) -> _Served:
        platform = EnosPlatform(self._registry, self.config, self._log, self.faults)
        port = _Port(platform, self._clock)
        self._port = runner.run(port.open(self._port))
        undo.callback(runner.call, port.close)
        self.endpoints = [
            Endpoint("coap-*", self.config.device_port, ("127.0.0.1", self._port), "udp")
        ]
        return _Served(platform, port)

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
            product = self._registry.create_product(wanted.key, wanted.secret)
            product.dynamic_activation = wanted.dynamic_activation
            for key in wanted.devices:
                _check_name(key)
                self._registry.create_device(wanted.key, key)
        self._registry.save()

    # -- what is to be seen --------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The UDP port on loopback."""
        return self._port

    def devices(self) -> list[dict[str, Any]]:
        """One dictionary a device, as the console shows them; no secret in it."""

        def look() -> list[dict[str, Any]]:
            return [
                self._shown(product, device)
                for product in self._registry.products.values()
                for device in product.devices.values()
            ]

        return self._look(look)

    def sessions(self) -> list[dict[str, Any]]:
        """One dictionary a live session: address, identity, suite, and how many datagrams and
        bytes its handshake and its application took, each way."""
        return self._console(lambda served: served.rules.sessions())

    def product_keys(self) -> list[str]:
        return self._console(lambda _: list(self._registry.products))

    def product_secret(self, product_key: str) -> Secret:
        return self._console(lambda _: self._registry.product(product_key).secret)

    def device_secret(self, product_key: str, device_key: str) -> Secret:
        return self._console(lambda _: self._registry.device(product_key, device_key).secret)

    def _shown(self, product: Product, device: Device) -> dict[str, Any]:
        online = self._up is not None and self._up.platform.rules.online(product.key, device.key)
        return {
            "product_key": product.key,
            "device_key": device.key,
            "enabled": device.enabled,
            "status": _status(device, online),
            "online": online,
            "activated": device.activated,
            "activations": device.activations,
            "last_seen": device.last_seen,
            "measurepoints": {name: dict(p) for name, p in device.measurepoints.items()},
            "attributes": dict(device.attributes),
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

    def create_product(self, product_key: str | None = None, secret: Secret | None = None) -> str:
        """Make a product (or set a known one's secret); returns its productKey."""
        if product_key is not None:
            _check_name(product_key)
        product = self._console(lambda _: self._registry.create_product(product_key, secret))
        self._log.add("product-created", product_key=product.key)
        return product.key

    def create_device(self, product_key: str, device_key: str) -> Secret:
        """Add a device; returns its deviceSecret."""
        _check_name(device_key)
        device = self._console(lambda _: self._registry.create_device(product_key, device_key))
        self._log.add("device-created", product_key=product_key, device_key=device_key)
        return device.secret

    def set_dynamic_activation(self, product_key: str, on: bool) -> None:
        """The product's switch. Devices that hold their secret are not touched by it."""

        def change(_: _Served) -> None:
            self._registry.product(product_key).dynamic_activation = on
            self._registry.save()

        self._console(change)
        self._log.add("activation-switch", product_key=product_key, on=on)

    def set_enabled(self, product_key: str, device_key: str, on: bool) -> None:
        """Disable a device (its next handshake is refused) or enable it."""

        def change(device: Device) -> None:
            device.enabled = on

        self._change(product_key, device_key, "device-enabled", change, on=on)

    def reset_activation(self, product_key: str, device_key: str) -> None:
        """Let a device activate again, as after the loss of its secret."""

        def change(device: Device) -> None:
            device.activated = False

        self._change(product_key, device_key, "activation-reset", change)

    def set_measurepoints(self, product_key: str, device_key: str, params: dict[str, Any]) -> str:
        """Have a device set measurepoints; returns the command's id. See `command`."""
        return self.command(product_key, device_key, "thing/service/measurepoint/set", params)

    def invoke(
        self, product_key: str, device_key: str, service: str, params: dict[str, Any]
    ) -> str:
        """Have a device run a service of its model; returns the command's id. See `command`."""
        _check_name(service)
        return self.command(product_key, device_key, f"thing/service/{service}", params)

    def command(self, product_key: str, device_key: str, topic: str, params: Any) -> str:
        """Keep a command until the device says something and can be told of it; returns its id.

        `topic` is below `/sys/{productKey}/{deviceKey}/`. The device's answer is the event
        `command-reply` of that id.
        """

        def keep(_: _Served) -> str:
            device = self._registry.device(product_key, device_key)
            return self._registry.add_command(device, topic, params).id

        command_id = self._console(keep)
        self._log.add(
            "command",
            product_key=product_key,
            device_key=device_key,
            id=command_id,
            topic=topic,
        )
        return command_id

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


def _status(device: Device, online: bool) -> str:
    """EnOS's word for it: inactive until its first login."""
    if device.last_seen is None:
        return "inactive"
    return "online" if online else "offline"


def _check_name(name: str) -> None:
    if not enos_auth.valid_name(name):
        raise BenchStateError(
            f"{name!r} cannot be a product key, device key or service",
            next_step="use 1 to 64 letters, digits or -_.:@",
        )
