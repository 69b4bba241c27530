"""Azure IoT on loopback: provisioning service, hubs, gateways, and a console onto them.

It checks what the real ones check and answers with their statuses (`dps`, `front`,
`hub`); where the vendor's documents are silent, `config` says so. Devices and
factories reach it under the vendor's true host names: `endpoints` says which of them lead to
which loopback port.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imprint_tools import endpoints
from imprint_tools.endpoints import Endpoint
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.azure import certificates, names
from imprint_tools.localcloud.azure import enrolment as azure_enrolment
from imprint_tools.localcloud.azure.config import GLOBAL_DPS_HOST, AzureConfig, GatewayConfig
from imprint_tools.localcloud.azure.data import AUTHORITY, SAS, SELF_SIGNED, AzureData, Device
from imprint_tools.localcloud.azure.enrolment import Enrolment
from imprint_tools.localcloud.azure.error import ServiceError
from imprint_tools.localcloud.azure.faults import AzureFaults, Trouble
from imprint_tools.localcloud.azure.platform import AzurePlatform
from imprint_tools.localcloud.cloud import Cloud
from imprint_tools.localcloud.loop import LoopThread
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.localcloud.web import WebServer
from imprint_tools.secret import Secret

__all__ = ["AzureCloud", "AzureConfig", "AzureGateway", "GatewayConfig", "Trouble"]

_METHOD_TIMEOUT_S = 10.0


class AzureCloud(Cloud[AzurePlatform]):
    """The cloud. `start()` and `stop()`, or a `with` block; every method is thread-safe.

    A `hub` is its name, the first one for None; a device is looked for at all of them.
    """

    NAME = "azure"
    DEVICES = "imprint cloud devices --cloud azure"
    ca_pem: Path

    def __init__(self, folder: Path, config: AzureConfig | None = None) -> None:
        self._azure = AzureData(folder / "devices.json")
        super().__init__(folder, self._azure)
        self.config = config or AzureConfig()
        self.faults = AzureFaults()
        self.ca_pem = folder / "root_ca.pem"
        self._ports: dict[str, int] = {}

    def _prepare(self) -> None:
        for host in (self.config.dps_host, *self.config.hub_hosts):
            self._azure.policy_key(host)
        self._azure.save()

    def _open(self, runner: LoopThread, undo: contextlib.ExitStack) -> AzurePlatform:
        names_served = (GLOBAL_DPS_HOST, self.config.dps_host, *self.config.hub_hosts)
        options = {"variant": self.config.certificate, "key_type": self.config.key_type}
        files = self._server_files(names_served, **options)
        platform = AzurePlatform(
            self.folder, self._azure, self.config, self._log, self.faults, self._ports
        )
        undo.callback(lambda: runner.run(platform.close()))
        runner.call(lambda: platform.open(files))
        server = WebServer(platform.application(), self._tls_context(names_served, **options))
        self._ports["rest"] = runner.run(server.open(self._ports.get("rest", 0)))
        undo.callback(lambda: runner.run(server.close()))
        self.endpoints = platform.endpoints(self._ports["rest"])
        return platform

    # -- provisioning --------------------------------------------------------------------------

    @property
    def service_key(self) -> Secret:
        """The key of the provisioning service's policy `provisioningserviceowner`."""
        return self._look(lambda: self._azure.policy_key(self.config.dps_host))

    def create_enrolment(self, registration_id: str, **body: Any) -> None:
        """Enrol a device with the vendor's body; without `attestation`, by symmetric keys.

        Raises BenchStateError for what the service would refuse.
        """
        self._console(lambda _: self._enrol(registration_id, body, group=False))

    def enrol_group(self, name: str, **body: Any) -> None:
        """Enrol a group: by symmetric keys, or by `attestation`."""
        self._console(lambda _: self._enrol(name, body, group=True))

    def set_enabled(self, registration_id: str, on: bool) -> None:
        """Enable an enrolment, or disable it. A device that has its hub keeps it."""

        def change(_: AzurePlatform) -> None:
            enrolment = self._enrolment(registration_id)
            enrolment.body["provisioningStatus"] = "enabled" if on else "disabled"
            enrolment.etag = azure_enrolment.new_etag()
            self._azure.changed()

        self._console(change)
        self._log.add("enrolment-enabled", name=registration_id, on=on)

    def delete_enrolment(self, registration_id: str) -> None:
        """Forget an enrolment and its registration; the hub's device stays."""

        def change(_: AzurePlatform) -> None:
            del self._azure.enrolments[self._enrolment(registration_id).name.casefold()]
            self._azure.registrations.pop(registration_id.casefold(), None)
            self._azure.changed()

        self._console(change)

    def enrolment_key(self, registration_id: str) -> Secret:
        """The primary key of a device's enrolment."""
        return self._console(lambda _: self._enrolment(registration_id).keys[0])

    def group_key(self, name: str) -> Secret:
        """The primary key of a group: it never leaves the factory."""

        def look(_: AzurePlatform) -> Secret:
            if name.casefold() not in self._azure.groups:
                raise Refusal("group-unknown")
            return self._azure.groups[name.casefold()].keys[0]

        return self._console(look)

    def upload_ca(self, name: str, pem: bytes) -> None:
        """Trust that CA for devices' certificates, at the hubs and gateways, and by that name in
        groups (`caReferences`)."""

        def change(_: AzurePlatform) -> None:
            self._azure.authorities[name] = certificates.pem(certificates.load(pem.decode()))
            self._azure.changed()

        self._console(change)

    def _enrolment(self, registration_id: str) -> Enrolment:
        try:
            return self._azure.enrolments[registration_id.casefold()]
        except KeyError:
            raise Refusal("enrolment-unknown") from None

    def _enrol(self, name: str, body: Mapping[str, Any], *, group: bool) -> None:
        known = self._azure.groups if group else self._azure.enrolments
        document = {"attestation": {"type": azure_enrolment.SYMMETRIC}, **body}
        try:
            known[name.casefold()] = azure_enrolment.read(
                document, name, known.get(name.casefold()), group=group
            )
        except ServiceError as error:
            raise Refusal(error.message) from None
        self._azure.changed()
        self._log.add("enrolment", name=name, group=group)

    # -- devices of the hubs -------------------------------------------------------------------

    def hub_key(self, hub: str | None = None) -> Secret:
        """The key of a hub's policy `iothubowner`."""
        return self._console(lambda platform: platform.hub(hub).key)

    def create_device(
        self,
        device_id: str,
        *,
        hub: str | None = None,
        thumbprint: str | None = None,
        authority: bool = False,
        gateway: str | None = None,
    ) -> None:
        """Make an identity: by symmetric keys, by a certificate's thumbprint, or by a CA that was
        uploaded. `gateway` is the host name of the one in whose scope it lies."""
        if not names.valid_device_id(device_id):
            raise BenchStateError(
                f"{device_id!r} is not a device id",
                next_step="use 1 to 128 letters, digits or -:.+%_#*?!(),=@$'",
            )

        def make(platform: AzurePlatform) -> None:
            device = Device(device_id)
            if thumbprint is not None:
                device.auth, device.thumbprints = SELF_SIGNED, (thumbprint,)
            elif authority:
                device.auth = AUTHORITY
            if gateway is not None:
                device.parent = platform.edge(gateway).gateway.device_id
            platform.hub(hub).add(device)

        self._console(make)
        self._log.add("device-created", device_id=device_id)

    def connection_string(self, device_id: str, *, gateway: str | None = None) -> Secret:
        """What the portal shows for a device; with `GatewayHostName` for one behind a gateway."""

        def look(platform: AzurePlatform) -> Secret:
            hub = platform.hub_of(device_id)
            device = hub.devices[device_id]
            text = f"HostName={hub.host};DeviceId={device_id}"
            if device.auth == SAS:
                text += f";SharedAccessKey={device.keys[0].reveal().decode()}"
            else:
                text += ";x509=true"
            return Secret(text + (f";GatewayHostName={gateway}" if gateway else ""))

        return self._console(look)

    def device_key(self, device_id: str) -> Secret:
        return self._console(lambda platform: _device(platform, device_id).keys[0])

    def set_parent(self, device_id: str, gateway: str | None) -> None:
        """Put a device into a gateway's scope, or take it out."""

        def change(platform: AzurePlatform) -> None:
            edge = None if gateway is None else platform.edge(gateway).gateway.device_id
            _device(platform, device_id).parent = edge
            self._azure.changed()

        self._console(change)

    def set_device_enabled(self, device_id: str, on: bool) -> None:
        """Disable a device at its hub, which cuts it off, or enable it."""
        self._console(lambda p: p.hub_of(device_id).set_enabled(device_id, on))
        self._log.add("device-enabled", device_id=device_id, on=on)

    def delete_device(self, device_id: str) -> None:
        """Forget a device at its hub; its enrolment stays."""
        self._console(lambda p: p.hub_of(device_id).remove(device_id))
        self._log.add("device-deleted", device_id=device_id)

    def twin(self, device_id: str) -> dict[str, Any]:
        """Tags, desired and reported, with versions."""

        def look(platform: AzurePlatform) -> dict[str, Any]:
            twin = _device(platform, device_id).twin
            return {"tags": dict(twin.tags), **twin.for_device()}

        return self._console(look)

    def set_desired(self, device_id: str, patch: Mapping[str, Any]) -> int:
        """Patch the desired properties; returns their version."""

        def change(platform: AzurePlatform) -> int:
            document = {"properties": {"desired": dict(patch)}}
            device = platform.hub_of(device_id).patch_twin(device_id, document)
            return device.twin.desired_version

        return self._console(change)

    def set_tags(self, device_id: str, patch: Mapping[str, Any]) -> None:
        """Patch the tags."""
        document = {"tags": dict(patch)}
        self._console(lambda p: p.hub_of(device_id).patch_twin(device_id, document))

    def send_c2d(self, device_id: str, payload: bytes, **properties: str) -> str:
        """Send a message, now or when the device comes; returns its id. When the device has it,
        the event is `c2d-completed`."""
        return self._console(
            lambda p: p.hub_of(device_id).send_c2d(device_id, payload, properties)
        )

    def invoke_method(
        self,
        device_id: str,
        name: str,
        payload: Any = None,
        *,
        timeout_s: float = _METHOD_TIMEOUT_S,
    ) -> tuple[int, Any]:
        """Have a device run a method; its status and the JSON of its answer.

        Raises BenchStateError when it is not there or does not answer.
        """
        body = json.dumps(payload).encode()
        try:
            status, answer = self._await(
                lambda p: p.hub_of(device_id).invoke(device_id, name, body, timeout_s),
                timeout_s + 5.0,
            )
        except ServiceError as error:
            raise BenchStateError(
                f"the hub says {error.message} ({error.code})", next_step=f"look: {self.DEVICES}"
            ) from None
        try:
            return status, json.loads(answer) if answer else None
        except ValueError:
            return status, answer.decode("utf-8", "replace")

    def hub_away(self, hub: str | None = None) -> None:
        """Nobody reaches that hub until `hub_back`: connections are cut and none is taken."""
        self._await(lambda platform: platform.hub_away(platform.hub(hub)))
        self._log.add("hub-away", hub=hub)

    def hub_back(self, hub: str | None = None) -> None:
        self._console(lambda platform: platform.hub_back(platform.hub(hub)))
        self._log.add("hub-back", hub=hub)

    # -- gateways ------------------------------------------------------------------------------

    def gateway(self, host: str, *, parent: str | None = None) -> AzureGateway:
        """The gateway of that host name: made if need be, behind another one or the hub."""

        def make(platform: AzurePlatform) -> list[Endpoint]:
            if host not in platform.edges:
                platform.add_gateway(GatewayConfig(host, parent))
            return platform.endpoints(self._ports["rest"])

        self.endpoints = self._console(make)
        state = self.state
        endpoints.save(self.folder, state.pid, state.ca, state.endpoints)
        return AzureGateway(self, host)

    @property
    def gateways(self) -> list[str]:
        """The host names of the gateways."""
        return self._console(lambda platform: list(platform.edges))

    def known_gateway(self, host: str) -> AzureGateway:
        """The gateway of that host name. Raises BenchStateError where there is none."""
        self._console(lambda platform: platform.edge(host))
        return AzureGateway(self, host)

    # -- what is to be seen --------------------------------------------------------------------

    def devices(self) -> list[dict[str, Any]]:
        """One dictionary a device, of a hub or merely enrolled; no secret in it."""
        return self._look(self._all_devices)

    def _all_devices(self) -> list[dict[str, Any]]:
        found: dict[tuple[str | None, str], dict[str, Any]] = {}
        for key in {**self._azure.enrolments, **self._azure.registrations}:
            entry = self._of_provisioning(key)
            found[entry["hub"], entry["device_id"] or key] = entry
        for host, devices in self._azure.devices.items():
            for device in devices.values():
                entry = found.setdefault((host, device.device_id), {
                    "registration_id": None, "enrolment": None, "registration": None,
                    "hub": host, "device_id": device.device_id,
                })  # fmt: skip
                entry |= self._of_hub(host, device)
        return list(found.values())

    def _of_provisioning(self, key: str) -> dict[str, Any]:
        enrolment = self._azure.enrolments.get(key)
        registration = self._azure.registrations.get(key)
        entry: dict[str, Any] = {
            "registration_id": key, "enrolment": None, "registration": None,
            "hub": None, "device_id": None,
        }  # fmt: skip
        if registration is not None:
            entry["registration_id"] = registration.registration_id
            entry["registration"] = registration.status
            entry["hub"], entry["device_id"] = registration.hub, registration.device_id
        if enrolment is not None:
            entry["registration_id"] = enrolment.name
            entry["enrolment"] = "enabled" if enrolment.enabled else "disabled"
        return entry

    def _of_hub(self, host: str, device: Device) -> dict[str, Any]:
        hub = None if self._up is None else self._up.platform.hubs.get(host)
        return {
            "auth": device.auth,
            "enabled": device.enabled,
            "online": hub is not None and hub.online(device.device_id),
            "gateway": device.edge,
            "parent": device.parent,
            "last_seen": device.last_seen,
            "messages_waiting": len(device.c2d),
            "tags": dict(device.twin.tags),
            "desired": dict(device.twin.desired),
            "reported": dict(device.twin.reported),
        }


class AzureGateway:
    """A gateway of an AzureCloud, from outside."""

    def __init__(self, cloud: AzureCloud, host: str) -> None:
        self.host = host
        self.root_ca = cloud.folder / "gateways" / host / "root_ca.pem"
        """All that a downstream device trusts."""
        self._cloud = cloud

    @property
    def target(self) -> tuple[str, int]:
        """Where it listens."""
        return next(e.target for e in self._cloud.endpoints if e.host == self.host)

    @property
    def waiting(self) -> int:
        """Messages that are stored until the way up is free."""
        return self._cloud._console(lambda p: p.edge(self.host).gateway.waiting)

    def down(self) -> None:
        """Cut its power: connections end and none is taken."""
        self._cloud._await(lambda platform: platform.gateway_away(self.host))

    def up(self) -> None:
        """Give it power again; what it had stored goes up."""
        self._cloud._console(lambda platform: platform.gateway_back(self.host))

    def cut(self) -> None:
        """Cut its way up, while its devices stay."""
        self._cloud._console(lambda p: p.edge(self.host).gateway.set_link(False))

    def mend(self) -> None:
        self._cloud._console(lambda p: p.edge(self.host).gateway.set_link(True))

    def refresh(self) -> None:
        """Read its scope now, as it does by itself once an hour."""
        self._cloud._console(lambda p: p.edge(self.host).gateway.refresh())


def _device(platform: AzurePlatform, device_id: str) -> Device:
    return platform.hub_of(device_id).devices[device_id]
