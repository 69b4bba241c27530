"""A factory's folder: factory.toml, and what it names.

    listen = "0.0.0.0:8443"           # where the server listens
    names = ["factory.example"]       # host names and addresses in its certificate
    authority = "/srv/ca/line-1"      # the folder of the authority that issues (imprint ca)
    id_scope = "0ne00123456"          # of the DPS
    root_ca = "root_ca.pem"           # what the units trust: the root above DPS and hubs
    ledger = "sqlite:///ledger.db"    # or postgresql://USER@HOST/NAME
    hubs = ["two.azure-devices.net"]  # linked hubs beyond those below

    [dps]
    connection = "dps.connection"     # a file with the service connection string
    ca = "cloud_ca.pem"               # for a local service: what it is verified against,
    address = "127.0.0.1:12345"       # and where it listens

    [[hub]]                           # a hub whose devices the portal sees, disables, deletes
    connection = "hub-1.connection"

Paths are relative to the folder. A file with a connection string is its owner's alone. The
passwords in a PostgreSQL URL may be left to PGPASSFILE.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imprint_tools.control import azure_dps, azure_hub
from imprint_tools.control.azure_rest import AzureRest, ServiceConnection
from imprint_tools.errors import LedgerError

FILE = "factory.toml"
SERVER_CERTIFICATE, SERVER_KEY, SERVER_CA = "server.pem", "server.key", "server_ca.pem"

_CONNECTION_BYTES_MAX = 4096


@dataclass(frozen=True)
class Service:
    """How to reach one control plane."""

    connection: Path
    ca: Path | None
    address: tuple[str, int] | None

    def rest(self, api_version: str, **options: Any) -> AzureRest:
        """A client for it. Raises ServiceError, LedgerError."""
        parsed = ServiceConnection.parse(_secret_text(self.connection))
        return AzureRest(parsed, api_version, ca_file=self.ca, address=self.address, **options)

    def dps(self, **options: Any) -> azure_dps.DpsClient:
        """Likewise, of a DPS."""
        return azure_dps.DpsClient(self.rest(azure_dps.API_VERSION, **options))

    def hub(self, **options: Any) -> azure_hub.HubClient:
        """Likewise, of a hub."""
        return azure_hub.HubClient(self.rest(azure_hub.API_VERSION, **options))


@dataclass(frozen=True)
class FactoryConfig:
    """factory.toml, checked."""

    folder: Path
    listen: tuple[str, int]
    names: tuple[str, ...]
    authority: Path
    id_scope: str
    root_ca: Path
    ledger: str
    dps: Service
    hub_services: tuple[Service, ...] = ()
    hubs: tuple[str, ...] = ()


def load(folder: Path) -> FactoryConfig:
    """Read FOLDER/factory.toml. Raises LedgerError, which quotes nothing of it."""
    path = folder / FILE
    try:
        return _config(folder, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        problem = error.strerror or "unreadable"
    except KeyError as error:
        problem = f"{error.args[0]} is missing or unknown"
    except (ValueError, TypeError, AttributeError):
        problem = "it is not TOML, or a value has a wrong type"
    raise LedgerError(f"{path} cannot be used: {problem}", next_step="imprint factory init")


def write(config: FactoryConfig) -> None:
    """Write factory.toml anew."""
    values: dict[str, Any] = {
        "listen": join(config.listen), "names": list(config.names),
        "authority": str(config.authority), "id_scope": config.id_scope,
        "root_ca": str(config.root_ca), "ledger": config.ledger, "hubs": list(config.hubs),
    }  # fmt: skip
    # A JSON string or list of strings is a TOML one.
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    for head, service in [("[dps]", config.dps), *(("[[hub]]", s) for s in config.hub_services)]:
        lines += ["", head, f"connection = {json.dumps(str(service.connection))}"]
        if service.ca:
            lines.append(f"ca = {json.dumps(str(service.ca))}")
        if service.address:
            lines.append(f"address = {json.dumps(join(service.address))}")
    path = config.folder / FILE
    path.touch(mode=0o600)  # the ledger's URL may hold a password
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def split(text: str) -> tuple[str, int]:
    """`HOST:PORT`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not 0 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def join(address: tuple[str, int]) -> str:
    """The contrary of `split`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _config(folder: Path, document: dict[str, Any]) -> FactoryConfig:
    known = {
        "listen", "names", "authority", "id_scope", "root_ca", "ledger", "hubs", "dps", "hub",
    }  # fmt: skip
    for name in document:
        if name not in known:
            raise KeyError(name)
    ledger = document.get("ledger", "sqlite:///ledger.db")
    if ledger.startswith("sqlite:///") and not ledger.startswith("sqlite:////"):
        ledger = f"sqlite:///{(folder / ledger.removeprefix('sqlite:///')).resolve()}"
    return FactoryConfig(
        folder=folder,
        listen=split(document.get("listen", "127.0.0.1:8443")),
        names=_words(document.get("names", ["localhost"])),
        authority=folder / document["authority"],
        id_scope=_words([document["id_scope"]])[0],
        root_ca=folder / document["root_ca"],
        ledger=ledger,
        dps=_service(folder, document["dps"]),
        hub_services=tuple(_service(folder, one) for one in document.get("hub", [])),
        hubs=_words(document.get("hubs", [])),
    )


def _service(folder: Path, table: Mapping[str, Any]) -> Service:
    for name in table:
        if name not in ("connection", "ca", "address"):
            raise KeyError(name)
    return Service(
        folder / table["connection"],
        folder / table["ca"] if "ca" in table else None,
        split(table["address"]) if "address" in table else None,
    )


def _words(values: list[Any]) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise TypeError
    return tuple(values)


def _secret_text(path: Path) -> str:
    """The text of a file that nobody else may read. Raises LedgerError."""
    try:
        with path.open(encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise LedgerError(f"{path} may be read by others", next_step=f"chmod 600 {path}")
            return file.read(_CONNECTION_BYTES_MAX)
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise LedgerError(f"{path} is not text") from None
