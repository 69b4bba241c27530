"""The vendor's own device SDK, unmodified, is at home in the local Azure and behind a gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig

pytestmark = pytest.mark.interop

DEVICE = Path(__file__).with_name("azure_sdk_device.py")
HUB = "imprint-hub.azure-devices.net"
GLOBAL = "global.azure-devices-provisioning.net"
WAIT_S = 40.0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AzureCloud]:
    with AzureCloud(tmp_path / "azure", AzureConfig(retry_after_s=1)) as running:
        yield running


class Sdk:
    """The SDK in a process of its own, ordered about over stdin."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def order(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def said(self, **wanted: Any) -> dict[str, Any]:
        """The next line that holds what is wanted."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found: dict[str, Any] = json.loads(line)
            if wanted.items() <= found.items():
                return found
        raise AssertionError(f"the device ended before it said {wanted}")

    def do(self, what: str, **order: Any) -> dict[str, Any]:
        self.order(do=what, **order)
        return self.said(did=what)


@contextmanager
def sdk(cloud: AzureCloud, do: str, ca: Path | None = None, **orders: Any) -> Iterator[Sdk]:
    document = {
        "do": do,
        "ways": {e.host: e.target for e in cloud.endpoints if e.port == 8883},
        "ca": (ca or cloud.ca_pem).read_text(),
        **orders,
    }
    with subprocess.Popen(  # noqa: S603 - this interpreter, the file beside
        [sys.executable, str(DEVICE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        device = Sdk(process)
        device.order(**document)
        try:
            yield device
        finally:
            process.kill()


def provision(cloud: AzureCloud, registration_id: str, **orders: Any) -> dict[str, Any]:
    with sdk(
        cloud,
        "provision",
        registration_id=registration_id,
        id_scope=cloud.config.id_scope,
        **orders,
    ) as device:
        return device.said(did="provision")


def certificate(folder: Path, issued: azure_pki.Issued) -> dict[str, str]:
    """As the SDK wants it: the leaf with what is above it, and its key, in files."""
    chain, key = folder / "device.pem", folder / "device.key"
    chain.write_bytes(issued.chain_pem)
    key.write_bytes(issued.key_pem.reveal())
    return {"certificate": str(chain), "key_file": str(key)}


def use(cloud: AzureCloud, device: Sdk, device_id: str, via: list[str]) -> None:
    """All that a device does: telemetry, twin both ways, a method, a message."""
    assert "error" not in device.said(did="connect")
    device.do("send", data={"temperature": 21.5}, properties={"temperatureAlert": "false"})
    seen = cloud.event_log.wait("telemetry", timeout_s=WAIT_S, device_id=device_id)
    assert (seen["body"], seen["via"]) == ({"temperature": 21.5}, via)
    assert seen["properties"] == {
        "$.ct": "application/json", "$.ce": "utf-8", "temperatureAlert": "false",
    }  # fmt: skip
    twin = device.do("twin")["twin"]
    assert twin["desired"]["interval"] == 5 and twin["desired"]["$version"] >= 1
    device.do("report", patch={"interval": 5})
    assert cloud.twin(device_id)["reported"] == {"interval": 5, "$version": 2}
    version = cloud.set_desired(device_id, {"interval": 7})
    assert device.do("patch")["patch"] == {"interval": 7, "$version": version}
    assert cloud.invoke_method(device_id, "blink", {"n": 3}) == (200, {"echo": {"n": 3}})
    message_id = cloud.send_c2d(device_id, b"hello", colour="red")
    assert device.said(saw="c2d") == {
        "saw": "c2d", "data": "hello", "id": message_id, "properties": {"colour": "red"},
    }  # fmt: skip
    cloud.event_log.wait("c2d-completed", timeout_s=WAIT_S, id=message_id)


def test_it_provisions_by_symmetric_key_and_is_a_device(cloud: AzureCloud) -> None:
    """From the enrolment to telemetry, at the vendor's host names."""
    cloud.create_enrolment("unit-1", initialTwin={"properties": {"desired": {"interval": 5}}})
    key = cloud.enrolment_key("unit-1").reveal().decode()
    found = provision(cloud, "unit-1", key=key)
    assert (found["status"], found["hub"], found["device"]) == ("assigned", HUB, "unit-1")
    assert found["substatus"] == "initialAssignment"
    with sdk(cloud, "serve", key=key, hub=found["hub"], device=found["device"]) as device:
        use(cloud, device, "unit-1", [])
        assert device.do("end")["asked"] == [HUB]
    opened = {e["server_name"] for e in cloud.events if e["kind"] == "open"}
    assert opened == {GLOBAL, HUB}


def test_it_provisions_by_certificate_and_is_a_device(cloud: AzureCloud, tmp_path: Path) -> None:
    """An enrolled leaf, at the provisioning service and at the hub."""
    issued = azure_pki.self_signed("unit-1")
    cloud.create_enrolment(
        "unit-1",
        attestation={
            "type": "x509",
            "x509": {
                "clientCertificates": {"primary": {"certificate": issued.chain_pem.decode()}}
            },
        },
        initialTwin={"properties": {"desired": {"interval": 5}}},
    )
    files = certificate(tmp_path, issued)
    found = provision(cloud, "unit-1", **files)
    assert (found["status"], found["hub"]) == ("assigned", HUB)
    with sdk(cloud, "serve", hub=found["hub"], device=found["device"], **files) as device:
        use(cloud, device, "unit-1", [])


def test_it_provisions_as_a_member_of_groups(cloud: AzureCloud, tmp_path: Path) -> None:
    """By a key that is derived from a group's, and by a CA above an intermediate."""
    from azure.iot.device.common.auth.signing_mechanism import SymmetricKeySigningMechanism

    cloud.enrol_group("line-1")
    group = SymmetricKeySigningMechanism(cloud.group_key("line-1").reveal().decode())
    found = provision(cloud, "unit-7", key=group.sign("unit-7"))
    assert (found["status"], found["device"]) == ("assigned", "unit-7")
    root = azure_pki.authority("factory root")
    pem = azure_pki.certificates.pem(root.certificate).decode()
    cloud.enrol_group(
        "line-2",
        attestation={
            "type": "x509",
            "x509": {"signingCertificates": {"primary": {"certificate": pem}}},
        },
    )
    issued = azure_pki.leaf(azure_pki.intermediate(root, "line 2"), "unit-8")
    found = provision(cloud, "unit-8", **certificate(tmp_path, issued))
    assert (found["status"], found["device"]) == ("assigned", "unit-8")


def test_it_takes_a_refusal_for_what_it_is(cloud: AzureCloud) -> None:
    """Not enrolled, a wrong key, and a disabled enrolment, which is an answer with status 200."""
    cloud.create_enrolment("unit-1", provisioningStatus="disabled")
    key = cloud.enrolment_key("unit-1").reveal().decode()
    wrong = "A" * 43 + "="
    assert "status code 404" in provision(cloud, "unit-2", key=key)["detail"]
    assert "status code 401" in provision(cloud, "unit-1", key=wrong)["detail"]
    disabled = provision(cloud, "unit-1", key=key)["detail"]
    assert "disabled" in disabled and "status code of 200" in disabled
    cloud.set_enabled("unit-1", True)
    assert provision(cloud, "unit-1", key=key)["status"] == "assigned"


def test_it_waits_where_it_is_told_to(tmp_path: Path) -> None:
    """A 429 with retry-after is asked again on the same connection, and so is 202."""
    from imprint_tools.localcloud.azure.faults import Trouble

    with AzureCloud(tmp_path / "azure", AzureConfig(retry_after_s=1, polls=1)) as cloud:
        cloud.create_enrolment("unit-1")
        cloud.faults.provisioning.append(Trouble(429001, 1))
        key = cloud.enrolment_key("unit-1").reveal().decode()
        assert provision(cloud, "unit-1", key=key)["status"] == "assigned"
        statuses = [e["status"] for e in cloud.events if e["kind"] == "provisioning-answer"]
        assert statuses == [429, 202, 202, 200]


def test_it_renews_its_token_by_connecting_again(cloud: AzureCloud) -> None:
    """Two minutes before the end, as the SDK does: with 122 s to live that is soon."""
    cloud.create_device("unit-1")
    text = cloud.connection_string("unit-1").reveal().decode()
    with sdk(cloud, "serve", connection_string=text, sas_ttl_s=122) as device:
        device.said(did="connect")
        mark = cloud.event_log.mark()
        cloud.event_log.wait("login", timeout_s=WAIT_S, after=mark, device_id="unit-1")
        device.said(saw="connection", on=True)
        device.do("send", data={"after": "renewal"})
    logins = [e["expiry"] for e in cloud.events if e["kind"] == "login"]
    assert logins[1] > logins[0]


def test_it_refuses_a_server_of_another_authority(tmp_path: Path) -> None:
    """The judge itself verifies."""
    with AzureCloud(tmp_path / "azure", AzureConfig(certificate="other-ca")) as cloud:
        cloud.create_enrolment("unit-1")
        key = cloud.enrolment_key("unit-1").reveal().decode()
        with sdk(
            cloud, "provision", registration_id="unit-1", id_scope=cloud.config.id_scope, key=key
        ):
            cloud.event_log.wait("tls-failed", timeout_s=WAIT_S)
        assert not [e for e in cloud.events if e["kind"] == "connect"]


def test_it_is_a_device_behind_a_gateway(cloud: AzureCloud) -> None:
    """With GatewayHostName: the gateway's chain and name, the hub's user name and SAS."""
    edge = cloud.gateway("edge.example")
    cloud.create_device("unit-1", gateway="edge.example")
    cloud.set_desired("unit-1", {"interval": 5})
    text = cloud.connection_string("unit-1", gateway="edge.example").reveal().decode()
    with sdk(cloud, "serve", edge.root_ca, connection_string=text) as device:
        use(cloud, device, "unit-1", ["edge.example"])
        assert device.do("end")["asked"] == ["edge.example"]
    (connect,) = [e for e in cloud.events if e["kind"] == "connect"]
    assert connect["username"].startswith(f"{HUB}/unit-1/")
    assert {e["server_name"] for e in cloud.events if e["kind"] == "open"} == {"edge.example"}


def test_it_is_a_device_behind_two_gateways(cloud: AzureCloud, tmp_path: Path) -> None:
    """A gateway behind a gateway, and a certificate of a CA that both trust."""
    cloud.gateway("top.example")
    edge = cloud.gateway("low.example", parent="top.example")
    root = azure_pki.authority("factory root")
    cloud.upload_ca("factory", azure_pki.certificates.pem(root.certificate))
    cloud.create_device("unit-1", gateway="low.example", authority=True)
    cloud.set_desired("unit-1", {"interval": 5})
    files = certificate(tmp_path, azure_pki.leaf(root, "unit-1"))
    with sdk(
        cloud, "serve", edge.root_ca, gateway="low.example", hub=HUB, device="unit-1", **files
    ) as device:
        use(cloud, device, "unit-1", ["low.example", "top.example"])


def test_nothing_is_lost_while_the_gateway_is_cut_off(cloud: AzureCloud) -> None:
    """The gateway takes telemetry, keeps its order, and answers for the twin."""
    edge = cloud.gateway("edge.example")
    cloud.create_device("unit-1", gateway="edge.example")
    text = cloud.connection_string("unit-1", gateway="edge.example").reveal().decode()
    with sdk(cloud, "serve", edge.root_ca, connection_string=text) as device:
        device.said(did="connect")
        device.do("send", data={"n": 0})
        assert device.do("twin")["twin"]["reported"] == {"$version": 1}
        edge.cut()
        for n in range(1, 4):
            device.do("send", data={"n": n})
        device.do("report", patch={"offline": True})
        assert device.do("twin")["twin"]["reported"] == {"offline": True, "$version": 2}
        assert edge.waiting == 3
        assert cloud.twin("unit-1")["reported"] == {"$version": 1}
        edge.mend()
        assert edge.waiting == 0
        assert cloud.twin("unit-1")["reported"] == {"offline": True, "$version": 2}
        assert cloud.invoke_method("unit-1", "blink", 1) == (200, {"echo": 1})
    bodies = [e["body"] for e in cloud.events if e["kind"] == "telemetry"]
    assert bodies == [{"n": n} for n in range(4)]
