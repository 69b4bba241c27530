"""What runs while the local Azure is up: the provisioning service, hubs, gateways, their doors.

Everything here runs in the cloud's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL
from starlette.applications import Starlette
from starlette.routing import Host

from imprint_tools.endpoints import Endpoint
from imprint_tools.localcloud import tls
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.config import GLOBAL_DPS_HOST, AzureConfig, GatewayConfig
from imprint_tools.localcloud.azure.data import AzureData, Device
from imprint_tools.localcloud.azure.dps import Dps
from imprint_tools.localcloud.azure.dps_mqtt import DpsFront
from imprint_tools.localcloud.azure.dps_rest import DpsRest
from imprint_tools.localcloud.azure.faults import AzureFaults
from imprint_tools.localcloud.azure.front import Front
from imprint_tools.localcloud.azure.gateway import Gateway
from imprint_tools.localcloud.azure.hub import Hub, Upstream
from imprint_tools.localcloud.azure.hub_rest import HubRest
from imprint_tools.localcloud.broker import Broker, Security
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.pki import ServerFiles
from imprint_tools.localcloud.refusal import Refusal

_MQTT, _HTTPS, _AMQP = 8883, 443, 5671
_FLUSH_S = 1.0

# What the vendor's hubs have taken since August 2025 (TLS 1.2); of the provisioning service the
# list is not known. Gateways take what OpenSSL does.
_CIPHERS = ":".join(
    f"ECDHE-{key}-{rest}"
    for rest in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA256", "AES256-SHA384")
    for key in ("ECDSA", "RSA")
).encode()


@dataclass(frozen=True)
class _HubDoor:
    """front.Door of a hub."""

    hub: Hub
    config: AzureConfig
    data: AzureData

    @property
    def upstream(self) -> Upstream:
        return self.hub

    @property
    def grace_s(self) -> float:
        return self.config.sas_grace_s

    def device(self, device_id: str) -> Device:
        return self.hub.device(device_id)

    def check_host(self, host: str) -> None:
        if host.casefold() != self.hub.host.casefold():
            raise Refusal("host-wrong")

    def resources(self, device_id: str) -> Sequence[str]:
        return [f"{self.hub.host}/devices/{device_id}"]

    def authorities(self) -> dict[str, list[x509.Certificate]]:
        return self.data.certificate_authorities()


@dataclass
class _Listener:
    """An MQTT endpoint that can go away and come back at the same port."""

    broker: Broker
    context: SSL.Context
    port: int = 0

    def open(self) -> None:
        self.port = self.broker.listen(Security.TLS, self.context, port=self.port)

    async def close(self) -> None:
        await self.broker.close()


@dataclass(frozen=True)
class _Edge:
    gateway: Gateway
    listener: _Listener
    files: azure_pki.GatewayFiles


class AzurePlatform:
    """The rules and the doors. `ports` are those of the last time, by host name."""

    def __init__(
        self,
        folder: Path,
        data: AzureData,
        config: AzureConfig,
        log: EventLog,
        faults: AzureFaults,
        ports: dict[str, int],
    ) -> None:
        self.data = data
        self.hubs = {
            host: Hub(name, data.policy_key(host), data.hub_devices(host), log, data.changed)
            for name, host in zip(config.hubs, config.hub_hosts, strict=True)
        }
        self.dps = Dps(data, config, self.hubs, log)
        self.edges: dict[str, _Edge] = {}
        self._folder = folder
        self._config = config
        self._log = log
        self._faults = faults
        self._ports = ports
        self._listeners: dict[str, _Listener] = {}
        self._timer: asyncio.TimerHandle | None = None

    # -- up and down ---------------------------------------------------------------------------

    def open(self, files: ServerFiles) -> None:
        """Listen."""
        context = tls.asking_context(files.chain, files.key)
        context.set_cipher_list(_CIPHERS)
        self._listen(self._config.dps_host, DpsFront(self.dps, self._faults).broker, context)
        for host, hub in self.hubs.items():
            door = _HubDoor(hub, self._config, self.data)
            front = Front(hub.name, door, self._config, self._log, self._faults)
            self._listen(host, front.broker, context)
            hub.up = True
        for wanted in self._config.gateways:
            self.add_gateway(wanted)
        self._flush()

    async def close(self) -> None:
        """End every connection. Raises a bug that a rule had."""
        if self._timer is not None:
            self._timer.cancel()
        for edge in self.edges.values():
            edge.gateway.stop()
        ends = [listener.close() for listener in self._listeners.values()]
        for result in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def _listen(self, name: str, broker: Broker, context: SSL.Context) -> _Listener:
        listener = _Listener(broker, context, self._ports.get(name, 0))
        listener.open()
        self._ports[name] = listener.port
        self._listeners[name] = listener
        return listener

    def _flush(self) -> None:
        self.data.flush()
        self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)

    def application(self) -> Starlette:
        """The services, each at its host name."""
        doors = [Host(self._config.dps_host, DpsRest(self.dps, self._faults).application())]
        doors += [Host(host, HubRest(hub).application()) for host, hub in self.hubs.items()]
        return Starlette(routes=doors)

    def endpoints(self, rest_port: int) -> list[Endpoint]:
        """What leads where, now."""
        dps = self._config.dps_host
        found = [Endpoint(GLOBAL_DPS_HOST, _MQTT, self._target(dps))]
        for host in (dps, *self.hubs):
            found.append(Endpoint(host, _MQTT, self._target(host)))
            found.append(Endpoint(host, _HTTPS, ("127.0.0.1", rest_port)))
        for host in self.edges:
            # All three show the same certificate; MQTT is what is spoken behind it.
            found += [Endpoint(host, port, self._target(host)) for port in (_MQTT, _HTTPS, _AMQP)]
        return found

    def _target(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", self._listeners[name].port

    # -- hubs ----------------------------------------------------------------------------------

    def hub(self, name: str | None = None) -> Hub:
        """By its name or host name; the first for None. Refuses "hub-unknown"."""
        for hub in self.hubs.values():
            if name in (None, hub.name, hub.host):
                return hub
        raise Refusal("hub-unknown")

    def hub_of(self, device_id: str) -> Hub:
        """The hub that has that device. Refuses "device-unknown"."""
        for hub in self.hubs.values():
            if device_id in hub.devices:
                return hub
        raise Refusal("device-unknown")

    async def hub_away(self, hub: Hub) -> None:
        """Nobody reaches the hub, until `hub_back`."""
        hub.up = False
        await self._listeners[hub.host].close()

    def hub_back(self, hub: Hub) -> None:
        self._listeners[hub.host].open()
        hub.up = True
        self._refresh_gateways()

    # -- gateways ------------------------------------------------------------------------------

    def add_gateway(self, wanted: GatewayConfig) -> None:
        """Stand a gateway before the first hub, or behind another one.

        Refuses "gateway-unknown" for its parent.
        """
        hub = self.hub()
        parent: Upstream = hub
        above: str | None = None
        if wanted.parent is not None:
            gateway = self.edge(wanted.parent).gateway
            parent, above = gateway, gateway.device_id
        if wanted.device_id not in hub.devices:
            hub.add(Device(wanted.device_id, edge=True, parent=above))
        files = azure_pki.gateway(
            self._folder / "gateways" / wanted.host, wanted.host, self._config.key_type
        )
        gateway = Gateway(
            wanted.host, wanted.device_id, hub, parent, self.data, self._config, self._log
        )
        front = Front(wanted.host, gateway, self._config, self._log, self._faults)
        context = tls.asking_context(files.chain, files.key)
        listener = self._listen(wanted.host, front.broker, context)
        self.edges[wanted.host] = _Edge(gateway, listener, files)
        gateway.start()

    def edge(self, host: str) -> _Edge:
        """Refuses "gateway-unknown"."""
        try:
            return self.edges[host]
        except KeyError:
            raise Refusal("gateway-unknown") from None

    async def gateway_away(self, host: str) -> None:
        """Cut its power."""
        edge = self.edge(host)
        edge.gateway.stop()
        await edge.listener.close()
        self._log.add("gateway-down", gateway=host)

    def gateway_back(self, host: str) -> None:
        edge = self.edge(host)
        edge.listener.open()
        edge.gateway.start()
        self._log.add("gateway-up", gateway=host)
        self._refresh_gateways()

    def _refresh_gateways(self) -> None:
        """Parents are before their children here."""
        for edge in self.edges.values():
            edge.gateway.refresh()
