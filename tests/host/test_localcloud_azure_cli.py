"""`imprint cloud ... azure`: the local Azure as a process, and its console from another one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imprint_tools import endpoints, identities
from imprint_tools.errors import BenchStateError
from imprint_tools.factory.config import Service
from imprint_tools.localcloud import daemon
from imprint_tools.localcloud.azure import names as azure_names
from imprint_tools.localcloud.azure import service as azure_service
from imprint_tools.localcloud.azure.cloud import AzureConfig, GatewayConfig

COMMAND_S = 60


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cloud's folder in a state folder of the test's own; whatever is up goes down."""
    monkeypatch.setenv("IMPRINT_STATE", str(tmp_path))
    folder = daemon.folder("azure")
    yield folder
    if (folder / "cloud.json").exists():
        daemon.down("azure")


def imprint(*arguments: str, status: int = 0) -> str:
    """Run `imprint cloud ...`; its stdout."""
    done = subprocess.run(  # noqa: S603 - this interpreter, this package
        [sys.executable, "-c", "from imprint_tools.cli import main; main()", "cloud", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def as_json(*arguments: str) -> Any:
    return json.loads(imprint(*arguments, "--json"))


def test_a_cloud_goes_up_is_asked_and_goes_down(folder: Path, tmp_path: Path) -> None:
    """The console, each command a process of its own; what it knew is there again."""
    up = as_json("up", "azure")
    hosts = {(e["host"], e["port"]) for e in up["endpoints"]}
    assert ("global.azure-devices-provisioning.net", 8883) in hosts
    assert ("imprint-dps.azure-devices-provisioning.net", 443) in hosts
    assert ("imprint-hub.azure-devices.net", 8883) in hosts
    assert ("edge.imprint.test", 8883) in hosts
    first = [identities.load_one(folder / f"identity{n}.toml") for n in ("", "-2", "-3")]
    assert [one.fields["journey"] for one in first] == ["azure-dps", "azure-dps", "azure-edge"]
    assert first[1].blobs.keys() == {"root_ca", "client_cert", "client_key"}
    assert first[2].blobs["root_ca"] != first[0].blobs["root_ca"], "the gateway's own root"

    for file, host in (("dps", "imprint-dps.azure-devices-provisioning.net"),
                       ("imprint-hub", "imprint-hub.azure-devices.net")):  # fmt: skip
        rest = Service(folder / f"{file}.connection", folder / "root_ca.pem", None).rest("x")
        assert rest.host == host
        rest.close()

    unit, device = tmp_path / "unit.toml", tmp_path / "device.toml"
    imprint("add", "--cloud", "azure", "dps", "unit-9", "--identity", str(unit))
    imprint("add", "--cloud", "azure", "imprint-hub", "unit-10", "--identity", str(device))
    assert identities.load_one(unit).fields["registration_id"] == "unit-9"
    text = identities.load_one(device).fields["connection_string"].reveal().decode()
    assert azure_names.parse_connection_string(text)["DeviceId"] == "unit-10"
    imprint("enable", "--cloud", "azure", "dps", "unit-9", "off")
    assert as_json("set", "--cloud", "azure", "imprint-hub", "unit-10", '{"interval": 5}') == {
        "id": "2", "fate": "queued",
    }  # fmt: skip
    imprint("gateway", "edge.imprint.test", "cut")
    imprint(
        "invoke",
        "--cloud",
        "azure",
        "imprint-hub",
        "unit-10",
        "blink",
        status=BenchStateError.exit_code,
    )
    shown = {
        d["registration_id"] or d["device_id"]: d for d in as_json("devices", "--cloud", "azure")
    }
    assert shown["unit-9"]["enrolment"] == "disabled"
    assert shown["unit-10"]["desired"] == {"interval": 5}
    assert "unit-9: enrolment disabled" in imprint("devices", "--cloud", "azure")
    imprint("down", "azure")

    imprint("up", "azure")
    again = [identities.load_one(folder / f"identity{n}.toml") for n in ("", "-2", "-3")]
    assert [one.fields for one in again] == [one.fields for one in first]
    assert [one.blobs for one in again] == [one.blobs for one in first]
    kinds = {
        json.loads(line)["kind"] for line in imprint("events", "--cloud", "azure").splitlines()
    }
    assert {"cloud-up", "cloud-down", "gateway-link", "desired"} <= kinds
    imprint("down", "azure")
    with pytest.raises(BenchStateError):
        endpoints.load(folder)


def test_a_configuration_file_is_read(tmp_path: Path) -> None:
    """Every key of the documented form."""
    path = tmp_path / "azure.toml"
    path.write_text(
        'id_scope = "0ne1"\ndps = "d"\nhubs = ["north", "south"]\nallocation = "static"\n'
        'static_hub = "south"\nretry_after_s = -1\npolls = 2\nregistrations_per_min = 9\n'
        "operations_per_min = 8\nget_returns_certificate = true\n"
        '[[gateway]]\nhost = "top.test"\n[[gateway]]\nhost = "low.test"\nparent = "top.test"\n'
    )
    assert azure_service.load_config(path) == AzureConfig(
        id_scope="0ne1",
        dps="d",
        hubs=("north", "south"),
        allocation="static",
        static_hub="south",
        retry_after_s=None,
        polls=2,
        registrations_per_min=9,
        operations_per_min=8,
        get_returns_certificate=True,
        gateways=(GatewayConfig("top.test"), GatewayConfig("low.test", "top.test")),
    )


@pytest.mark.parametrize(
    "text",
    [
        "hub = 1",
        'hubs = [""]',
        "hubs = 1",
        'allocation = "near"',
        "[[gateway]]\nparent = 'x'",
        "{",
    ],
)
def test_a_wrong_configuration_file_is_refused(tmp_path: Path, text: str) -> None:
    """Without a word of what is in it."""
    path = tmp_path / "azure.toml"
    path.write_text(text)
    with pytest.raises(BenchStateError):
        azure_service.load_config(path)


def test_it_has_no_products(folder: Path) -> None:
    """And says what to do in their place."""
    imprint("up", "azure", "--product", "x", status=BenchStateError.exit_code)
