"""Azure IoT on loopback: provisioning service, hubs, gateways, and a console onto them.

It checks what the real ones check and answers with their statuses (`azure_dps`, `azure_hub`);
where the vendor's documents are silent, `azure_config` says so. Devices and factories reach it
under the vendor's true host names: `endpoints` says which of them lead to which loopback port.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Host

from imprint_tools.endpoints import Endpoint
from imprint_tools.localcloud import azure_enrolment
from imprint_tools.localcloud.azure_config import GLOBAL_DPS_HOST, AzureConfig
from imprint_tools.localcloud.azure_data import AzureData
from imprint_tools.localcloud.azure_dps import Dps
from imprint_tools.localcloud.azure_dps_rest import DpsRest
from imprint_tools.localcloud.azure_enrolment import Enrolment
from imprint_tools.localcloud.azure_error import ServiceError
from imprint_tools.localcloud.azure_faults import AzureFaults
from imprint_tools.localcloud.azure_hub import Hub
from imprint_tools.localcloud.cloud import Cloud
from imprint_tools.localcloud.loop import LoopThread
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.localcloud.web import WebServer
from imprint_tools.secret import Secret

__all__ = ["AzureCloud", "AzureConfig"]

_FLUSH_S = 1.0


@dataclass(frozen=True)
class Platform:
    """What there is only while the cloud runs."""

    dps: Dps
    hubs: dict[str, Hub]
    runner: LoopThread


class _Every:
    """Does something again and again."""

    def __init__(self, seconds: float, what: Callable[[], None]) -> None:
        self._seconds = seconds
        self._what = what
        self._set()

    def stop(self) -> None:
        self._timer.cancel()

    def _set(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._ring)

    def _ring(self) -> None:
        self._what()
        self._set()


class AzureCloud(Cloud[Platform]):
    """The cloud. `start()` and `stop()`, or a `with` block; every method is thread-safe."""

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

    def _open(self, runner: LoopThread, undo: contextlib.ExitStack) -> Platform:
        hubs = {
            host: Hub(
                name,
                self._azure.policy_key(host),
                self._azure.hub_devices(host),
                self._log,
                self._azure.changed,
            )
            for name, host in zip(self.config.hubs, self.config.hub_hosts, strict=True)
        }
        dps = Dps(self._azure, self.config, hubs, self._log)
        platform = Platform(dps, hubs, runner)
        self._serve_rest(platform, undo)
        undo.callback(runner.call, runner.call(lambda: _Every(_FLUSH_S, self._azure.flush)).stop)
        return platform

    def _serve_rest(self, platform: Platform, undo: contextlib.ExitStack) -> None:
        names = (self.config.dps_host, GLOBAL_DPS_HOST, *self.config.hub_hosts)
        context = self._tls_context(
            names, variant=self.config.certificate, key_type=self.config.key_type
        )
        doors = [Host(self.config.dps_host, DpsRest(platform.dps, self.faults).application())]
        server = WebServer(Starlette(routes=doors), context)
        runner = platform.runner
        self._ports["rest"] = runner.run(server.open(self._ports.get("rest", 0)))
        undo.callback(lambda: runner.run(server.close()))
        rest = ("127.0.0.1", self._ports["rest"])
        self.endpoints = [
            Endpoint(host, 443, rest) for host in (self.config.dps_host, *self.config.hub_hosts)
        ]

    # -- provisioning ----------------------------------------------------------------------------

    @property
    def service_key(self) -> Secret:
        """The key of the provisioning service's policy `provisioningserviceowner`."""
        return self._look(lambda: self._azure.policy_key(self.config.dps_host))

    def create_enrolment(self, registration_id: str, **body: Any) -> None:
        """Enrol a device with the vendor's body; without `attestation`, by symmetric keys.

        Raises BenchStateError for what the service would refuse.
        """
        self._console(lambda platform: self._enrol(registration_id, body, group=False))

    def enrol_group(self, name: str, **body: Any) -> None:
        """Enrol a group: by symmetric keys, or by `attestation`."""
        self._console(lambda platform: self._enrol(name, body, group=True))

    def set_enabled(self, registration_id: str, on: bool) -> None:
        """Enable an enrolment, or disable it. A device that has its hub keeps it."""

        def change(_: Platform) -> None:
            enrolment = self._enrolment(registration_id)
            enrolment.body["provisioningStatus"] = "enabled" if on else "disabled"
            enrolment.etag = azure_enrolment.new_etag()
            self._azure.changed()

        self._console(change)
        self._log.add("enrolment-enabled", name=registration_id, on=on)

    def enrolment_key(self, registration_id: str) -> Secret:
        """The primary key of a device's enrolment."""
        return self._console(lambda _: self._enrolment(registration_id).keys[0])

    def group_key(self, name: str) -> Secret:
        """The primary key of a group: it never leaves the factory."""

        def look(_: Platform) -> Secret:
            if name.casefold() not in self._azure.groups:
                raise Refusal("group-unknown")
            return self._azure.groups[name.casefold()].keys[0]

        return self._console(look)

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
