"""The demo's factory: an authority, the factory server and its portal, as they run for real.

A station enrols the unit, with a key that is made for it here, and the unit's enrolment is born
disabled. The maker of the machine then activates it over the portal's REST API.
"""

from __future__ import annotations

import secrets
import ssl
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from imprint_tools.errors import JourneyFailedError
from imprint_tools.factory.client import StationClient
from imprint_tools.factory.config import SERVER_CA, FactoryConfig, Service
from imprint_tools.factory.server import Factory
from imprint_tools.issuer import Authority
from imprint_tools.localcloud.azure.cloud import AzureCloud
from imprint_tools.secret import Secret

_ORGANISATION = "acme"
_HTTPS = 443
_HTTP_OK = 200
_WAIT_S = 30.0


class DemoFactory:
    """`start` it within a stack, whose end is its end."""

    def __init__(self, folder: Path, cloud: AzureCloud) -> None:
        self._folder = folder
        self._cloud = cloud

    def start(self, stack: ExitStack) -> None:
        """Serve on a free port of loopback, with a station and an account of one organisation."""
        passphrase = Secret(secrets.token_urlsafe(16))
        root = Authority.create_root(self._folder / "root", "Demo root", passphrase)
        with root:
            line = self._folder / "line-1"
            authority = root.create_intermediate(line, "Demo line 1", passphrase)
        stack.enter_context(authority)
        self._factory = stack.enter_context(Factory(self._config(line), authority))
        thread = threading.Thread(target=self._factory.serve, name="demo-factory")
        thread.start()
        stack.callback(thread.join, _WAIT_S)
        stack.callback(self._factory.stop)
        people = self._factory.people
        self._station = people.add_station("line-1", _ORGANISATION)
        people.add_account("ann", _ORGANISATION, Secret(secrets.token_urlsafe(16)))
        self._account = people.new_token("ann")

    @property
    def url(self) -> str:
        return f"https://localhost:{self._factory.port}"

    def enrol(self, fields: Mapping[str, Any]) -> tuple[str, Path]:
        """A station's work: the unit's id, and its identity file."""
        with StationClient(self.url, self._ca, self._station) as station:
            made = station.enrol(self._folder / "unit", fields, patience_s=_WAIT_S)
        return made.id, made.identity

    def activate(self, unit_id: str, settings: Mapping[str, Any]) -> None:
        """What the maker of the machine does in the portal. Raises JourneyFailedError."""
        context = ssl.create_default_context(cafile=self._ca)
        token = self._account.reveal().decode()
        with httpx.Client(base_url=self.url, verify=context, timeout=_WAIT_S) as portal:
            answer = portal.post(
                f"/api/v1/units/{unit_id}/activate",
                json=dict(settings),
                headers={"Authorization": f"Bearer {token}"},
            )
        if answer.status_code != _HTTP_OK:
            raise JourneyFailedError(
                f"the portal answers {answer.status_code} to the activation",
                next_step="Look at the factory's log with --keep.",
            )

    @property
    def _ca(self) -> Path:
        return self._factory.config.folder / SERVER_CA

    def _config(self, authority: Path) -> FactoryConfig:
        cloud, folder = self._cloud, self._folder / "server"
        folder.mkdir(mode=0o700, parents=True)
        owner = "provisioningserviceowner"
        dps = self._service(folder / "dps", cloud.config.dps_host, owner, cloud.service_key)
        hubs = tuple(
            self._service(folder / host, host, "iothubowner", cloud.hub_key(host))
            for host in cloud.config.hub_hosts
        )
        return FactoryConfig(
            folder=folder,
            listen=("127.0.0.1", 0),
            names=("localhost",),
            authority=authority,
            id_scope=cloud.config.id_scope,
            root_ca=cloud.ca_pem,
            ledger=f"sqlite:///{folder / 'ledger.db'}",
            dps=dps,
            hub_services=hubs,
        )

    def _service(self, path: Path, host: str, policy: str, key: Secret) -> Service:
        """How to reach one of the cloud's services; the file is for its owner's eyes alone."""
        path.touch(mode=0o600)
        path.write_bytes(
            f"HostName={host};SharedAccessKeyName={policy};SharedAccessKey=".encode()
            + key.reveal()
        )
        rest = next(e.target for e in self._cloud.endpoints if e.port == _HTTPS)
        return Service(path, self._cloud.ca_pem, rest)
