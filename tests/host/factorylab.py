"""A factory on loopback: an authority, a local Azure, the server in a thread of this process."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from imprint_tools.factory.config import FactoryConfig, Service
from imprint_tools.factory.server import Factory
from imprint_tools.issuer import Authority
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig
from imprint_tools.secret import Secret

PASSPHRASE = Secret("a passphrase for tests")
PASSWORD = Secret("correct horse battery")
WAIT_S = 30.0


@dataclass
class Lab:
    """What a test has to do with. `station` and `account` are tokens of the first ones."""

    cloud: AzureCloud
    factory: Factory
    station: Secret
    account: Secret

    @property
    def url(self) -> str:
        return f"https://localhost:{self.factory.port}"

    @property
    def ca(self) -> Path:
        return self.factory.config.folder / "server_ca.pem"

    def client(self, token: Secret | None = None) -> httpx.Client:
        """A browser without JavaScript, or a program with a token."""
        headers = {"Authorization": f"Bearer {token.reveal().decode()}"} if token else {}
        context = ssl.create_default_context(cafile=self.ca)
        return httpx.Client(
            base_url=self.url, verify=context, headers=headers, timeout=WAIT_S, trust_env=False
        )


def make_authority(folder: Path) -> Path:
    """A root and an authority below it; the folder of the latter."""
    with Authority.create_root(folder / "root", "Test root", PASSPHRASE) as root:
        root.create_intermediate(folder / "line", "Test line", PASSPHRASE).close()
    return folder / "line"


def make_config(folder: Path, cloud: AzureCloud, authority: Path, **more: object) -> FactoryConfig:
    """A factory's folder for that cloud."""
    folder.mkdir(parents=True, exist_ok=True)
    return FactoryConfig(
        folder=folder,
        listen=("127.0.0.1", 0),
        names=("localhost",),
        authority=authority,
        id_scope=cloud.config.id_scope,
        root_ca=cloud.ca_pem,
        ledger=f"sqlite:///{folder / 'ledger.db'}",
        dps=service(folder / "dps.connection", cloud),
        hub_services=tuple(
            hub_service(folder / f"{host}.connection", cloud, host)
            for host in cloud.config.hub_hosts
        ),
        **more,  # type: ignore[arg-type]
    )


def service(path: Path, cloud: AzureCloud) -> Service:
    """How to reach the cloud's provisioning service."""
    host, key = cloud.config.dps_host, cloud.service_key
    return _service(path, cloud, host, "provisioningserviceowner", key)


def hub_service(path: Path, cloud: AzureCloud, host: str) -> Service:
    """How to reach one of its hubs."""
    return _service(path, cloud, host, "iothubowner", cloud.hub_key(host))


def _service(path: Path, cloud: AzureCloud, host: str, policy: str, key: Secret) -> Service:
    path.touch(mode=0o600)
    path.write_text(
        f"HostName={host};SharedAccessKeyName={policy};SharedAccessKey={key.reveal().decode()}"
    )
    return Service(path, cloud.ca_pem, address(cloud))


def address(cloud: AzureCloud) -> tuple[str, int]:
    """Where its REST listens."""
    return next(e.target for e in cloud.endpoints if e.port == 443)


@contextlib.contextmanager
def serving(config: FactoryConfig) -> Iterator[Factory]:
    """The server while the block lasts."""
    with Authority.open(config.authority, PASSPHRASE) as authority:
        with Factory(config, authority) as factory:
            thread = threading.Thread(target=factory.serve)
            thread.start()
            try:
                yield factory
            finally:
                factory.stop()
                thread.join(WAIT_S)
                assert not thread.is_alive()


@contextlib.contextmanager
def lab(folder: Path, azure: AzureConfig | None = None) -> Iterator[Lab]:
    """All of it, with a station and an account of the organisation `acme`."""
    with AzureCloud(folder / "azure", azure) as cloud:
        config = make_config(folder / "factory", cloud, make_authority(folder))
        with serving(config) as factory:
            people = factory.people
            station = people.add_station("line-1", "acme")
            people.add_account("ann", "acme", PASSWORD)
            yield Lab(cloud, factory, station, people.new_token("ann"))
