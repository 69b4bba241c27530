"""The local Azure as `daemon` runs it: its configuration file, its identities, its console."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import control, service
from imprint_tools.localcloud.azure import dps_rest, hub_rest
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig, GatewayConfig
from imprint_tools.localcloud.azure.config import GLOBAL_DPS_HOST, POLICIES
from imprint_tools.localcloud.files import replace
from imprint_tools.localcloud.service import Served

WIFI_SSID = "imprint"
"""What an identity made here joins: the open network that `imprint board up` has by default."""

DPS = "dps"
"""In place of a hub's name: the provisioning service."""

_GATEWAY = GatewayConfig("edge.imprint.test")
_BY_KEY, _BY_CERTIFICATE, _BEHIND = "bench-1", "bench-2", "bench-3"


@contextmanager
def run(place: Path, products: tuple[str, ...], config: Path | None) -> Iterator[Served]:
    """service.Service."""
    if products:
        raise BenchStateError(
            "Azure has no products",
            next_step="enrol units: imprint cloud add --cloud azure dps ID",
        )
    wanted = AzureConfig(gateways=(_GATEWAY,)) if config is None else load_config(config)
    with AzureCloud(place, wanted) as cloud:
        _write_first_identities(cloud)
        _write_connections(cloud)
        yield Served(cloud.state, _operations(cloud))


def load_config(path: Path) -> AzureConfig:
    """Read a TOML file:

        id_scope = "0ne00123456"
        dps = "imprint-dps"             # host: imprint-dps.azure-devices-provisioning.net
        hubs = ["north", "south"]       # hosts: north.azure-devices.net, ...
        allocation = "hashed"           # geoLatency, static
        static_hub = "north"
        retry_after_s = 3               # a 202's; -1 leaves it out
        polls = 0                       # 202 once more for each
        registrations_per_min = 1000
        operations_per_min = 1000
        get_returns_certificate = false
        [[gateway]]                     # stands before the first hub, or behind its parent
        host = "edge.imprint.test"
        parent = "top.imprint.test"

    Raises BenchStateError, which never quotes the file.
    """
    return service.read_config(
        path,
        _config,
        "give it id_scope, dps, hubs, allocation, static_hub, retry_after_s, polls, "
        "registrations_per_min, operations_per_min, get_returns_certificate and [[gateway]] "
        "tables with host, parent",
    )


def _config(document: dict[str, Any]) -> AzureConfig:
    gateways = tuple(_gateway(entry) for entry in document.pop("gateway", []))
    kinds: dict[str, type] = {
        "id_scope": str, "dps": str, "hubs": list, "allocation": str, "static_hub": str,
        "retry_after_s": int, "polls": int, "registrations_per_min": int,
        "operations_per_min": int, "get_returns_certificate": bool,
    }  # fmt: skip
    given = service.check_settings(document, kinds)
    if "hubs" in given:
        service.check_words(*given["hubs"])
        given["hubs"] = tuple(given["hubs"])
    if given.get("retry_after_s", 0) < 0:
        given["retry_after_s"] = None
    if given.get("allocation", POLICIES[0]) not in POLICIES:
        raise ValueError
    return AzureConfig(gateways=gateways, **given)


def _gateway(entry: dict[str, Any]) -> GatewayConfig:
    given = service.check_settings(entry, {"host": str, "parent": str})
    service.check_words(given["host"])
    return GatewayConfig(**given)


def _write_first_identities(cloud: AzureCloud) -> None:
    """Write `identity.toml` for a unit that provisions by a symmetric key, `identity-2.toml` for
    one with a certificate, and `identity-3.toml` for one behind the first gateway."""
    known = {entry["registration_id"] or entry["device_id"] for entry in cloud.devices()}
    if _BY_KEY not in known:
        cloud.create_enrolment(_BY_KEY)
    _write_dps(cloud, cloud.folder / "identity.toml", _BY_KEY)
    files = {"client_cert": "bench-2.pem", "client_key": "bench-2.key"}
    if _BY_CERTIFICATE not in known:
        _enrol_by_certificate(cloud, files)
    _write_dps(cloud, cloud.folder / "identity-2.toml", _BY_CERTIFICATE, files)
    if cloud.config.gateways:
        host = cloud.config.gateways[0].host
        if _BEHIND not in known:
            cloud.create_device(_BEHIND, gateway=host)
        _write_edge(cloud, cloud.folder / "identity-3.toml", _BEHIND, host)


def _write_connections(cloud: AzureCloud) -> None:
    """Write what a factory server needs: `dps.connection`, and one of each hub, as the portal of
    the real ones gives it."""
    keys = {DPS: (cloud.config.dps_host, dps_rest.POLICY, cloud.service_key)}
    for host in cloud.config.hub_hosts:
        keys[host.partition(".")[0]] = (host, hub_rest.POLICY, cloud.hub_key(host))
    for name, (host, policy, key) in keys.items():
        text = f"HostName={host};SharedAccessKeyName={policy};SharedAccessKey=".encode()
        replace(cloud.folder / f"{name}.connection", text + key.reveal())


def _enrol_by_certificate(cloud: AzureCloud, files: dict[str, str]) -> None:
    issued = azure_pki.self_signed(_BY_CERTIFICATE)
    replace(cloud.folder / files["client_cert"], issued.chain_pem, mode=0o644)
    replace(cloud.folder / files["client_key"], issued.key_pem.reveal(), mode=0o600)
    leaf = {"primary": {"certificate": issued.chain_pem.decode()}}
    cloud.create_enrolment(
        _BY_CERTIFICATE, attestation={"type": "x509", "x509": {"clientCertificates": leaf}}
    )


def _write_dps(
    cloud: AzureCloud, path: Path, registration_id: str, files: dict[str, str] | None = None
) -> None:
    credential: dict[str, str | int] = {"attestation": "x509", **(files or {})}
    if files is None:
        key = cloud.enrolment_key(registration_id).reveal().decode()
        credential = {"attestation": "symmetric-key", "symmetric_key": key}
    document = {
        "journey": "azure-dps",
        "id_scope": cloud.config.id_scope,
        "registration_id": registration_id,
        **credential,
        "host": GLOBAL_DPS_HOST,
        "root_ca": str(cloud.ca_pem),
        "wifi_ssid": WIFI_SSID,
    }
    service.write_identity(path, document)


def _write_edge(cloud: AzureCloud, path: Path, device_id: str, gateway: str | None) -> None:
    root_ca = cloud.ca_pem if gateway is None else cloud.gateway(gateway).root_ca
    document: dict[str, str | int] = {
        "journey": "azure-edge",
        "connection_string": cloud.connection_string(device_id, gateway=gateway).reveal().decode(),
        "root_ca": str(root_ca),
        "wifi_ssid": WIFI_SSID,
    }
    service.write_identity(path, document)


def _operations(cloud: AzureCloud) -> dict[str, control.Operation]:
    """`product_key` is a hub's name, or "dps", or a gateway's host name where that makes sense."""

    def stop() -> NoReturn:
        raise control.Stop

    def add(product_key: str, device_name: str, identity: str | None) -> None:
        path = None if identity is None else Path(identity)
        if product_key == DPS:
            cloud.create_enrolment(device_name)
            if path is not None:
                _write_dps(cloud, path, device_name)
            return
        gateway = product_key if product_key in cloud.gateways else None
        cloud.create_device(device_name, hub=None if gateway else product_key, gateway=gateway)
        if path is not None:
            _write_edge(cloud, path, device_name, gateway)

    def set_desired(product_key: str, device_name: str, params: dict[str, Any]) -> Any:
        online = any(d["device_id"] == device_name and d.get("online") for d in cloud.devices())
        return str(cloud.set_desired(device_name, params)), "sent" if online else "queued"

    def invoke(product_key: str, device_name: str, service: str, params: dict[str, Any]) -> Any:
        status, answer = cloud.invoke_method(device_name, service, params)
        return str(status), answer

    def enable(product_key: str, device_name: str, on: bool) -> None:
        if product_key == DPS:
            cloud.set_enabled(device_name, on)
        else:
            cloud.set_device_enabled(device_name, on)

    def gateway(host: str, state: str) -> None:
        edge = cloud.known_gateway(host)
        {"up": edge.up, "down": edge.down, "cut": edge.cut, "mend": edge.mend}[state]()

    return {
        "stop": stop,
        "add": add,
        "devices": cloud.devices,
        "set": set_desired,
        "invoke": invoke,
        "enable": enable,
        "gateway": gateway,
    }
