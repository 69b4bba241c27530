"""A local IoT Edge gateway: its chain, whom it lets in, and what it keeps while it is cut off."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azuredevice import HUB_HOST, HubDevice, files
from cryptography import x509
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.cloud import (
    AzureCloud,
    AzureConfig,
    AzureGateway,
    GatewayConfig,
)

HOST, UNIT = "edge.example", "unit-1"
TWIN, METHODS = "$iothub/twin/res/#", "$iothub/methods/POST/#"
C2D = f"devices/{UNIT}/messages/devicebound/#"
WAIT_S = 10.0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AzureCloud]:
    with AzureCloud(tmp_path / "azure", AzureConfig(gateways=(GatewayConfig(HOST),))) as running:
        running.create_device(UNIT, gateway=HOST)
        yield running


@pytest.fixture
def edge(cloud: AzureCloud) -> AzureGateway:
    return cloud.known_gateway(HOST)


@pytest.fixture
def key(cloud: AzureCloud) -> str:
    return cloud.device_key(UNIT).reveal().decode()


def at(cloud: AzureCloud, edge: AzureGateway, unit: str = UNIT, **options: Any) -> HubDevice:
    return HubDevice(cloud, unit, host=edge.host, ca=edge.root_ca, **options)


def bodies(cloud: AzureCloud) -> list[Any]:
    return [e["body"] for e in cloud.events if e["kind"] == "telemetry"]


# -- the chain -----------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [8883, 443, 5671])
def test_a_gateway_shows_a_chain_of_its_own(
    cloud: AzureCloud, edge: AzureGateway, port: int
) -> None:
    """Server, Edge CA, intermediate; the name in SAN; the root is not sent, and is not Azure's."""
    target = next(e.target for e in cloud.endpoints if (e.host, e.port) == (HOST, port))
    context = ssl.create_default_context(cafile=str(edge.root_ca))
    with (
        socket.create_connection(target, WAIT_S) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as tls,
    ):
        server = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST, "edgeHub"]
    chain = x509.load_pem_x509_certificates((edge.root_ca.parent / "server.pem").read_bytes())
    assert [c.subject.rfc4514_string() for c in chain] == [
        f"CN={HOST}", f"CN={HOST}.ca", "CN=imprint gateway intermediate",
    ]  # fmt: skip
    assert edge.root_ca.read_bytes() != cloud.ca_pem.read_bytes()


@pytest.mark.parametrize(("host", "ca"), [("other.example", "edge"), (HOST, "cloud")])
def test_another_name_or_authority_does_not_verify(
    cloud: AzureCloud, edge: AzureGateway, host: str, ca: str
) -> None:
    """So a device that checks finds out."""
    context = ssl.create_default_context(
        cafile=str(edge.root_ca if ca == "edge" else cloud.ca_pem)
    )
    with (
        socket.create_connection(edge.target, WAIT_S) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname=host)


# -- who may enter -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, 0),
        ({"resource": f"{HOST}/devices/{UNIT}"}, 0),
        ({"resource": f"{HOST.upper()}/devices/{UNIT}"}, 0),
        ({"username": f"{HOST}/{UNIT}/?api-version=2021-04-12"}, 0),
        ({"username": f"whatever/{UNIT}/api-version=1&x=y"}, 5),
        ({"resource": f"other.example/devices/{UNIT}"}, 5),
        ({"key": "A" * 43 + "="}, 5),
        ({"password": ""}, 5),
    ],
)
def test_names_of_the_hub_and_of_the_gateway_are_good(
    cloud: AzureCloud, edge: AzureGateway, key: str, options: dict[str, Any], code: int
) -> None:
    """In user name and token."""
    with at(cloud, edge) as device:
        assert device.enter(**{"key": key, **options}) == code


def test_a_token_holds_five_minutes_longer(
    cloud: AzureCloud, edge: AzureGateway, key: str
) -> None:
    """As the vendor's gateway does it."""
    with at(cloud, edge) as device:
        assert device.enter(key, expiry=int(time.time()) - 240) == 0
    with at(cloud, edge) as device:
        assert device.enter(key, expiry=int(time.time()) - 301) == 5


def test_only_its_children_may_enter(cloud: AzureCloud, edge: AzureGateway) -> None:
    """A device becomes one in the cloud; the gateway looks there for whom it does not know."""
    cloud.create_device("unit-2")
    key = cloud.device_key("unit-2").reveal().decode()
    with at(cloud, edge, "unit-2") as device:
        assert device.enter(key) == 5
    cloud.set_parent("unit-2", HOST)
    with at(cloud, edge, "unit-2") as device:
        assert device.enter(key) == 0
    cloud.set_parent("unit-2", None)
    edge.refresh()
    with at(cloud, edge, "unit-2") as device:
        assert device.enter(key) == 5
    with pytest.raises(BenchStateError, match="gateway-unknown"):
        cloud.set_parent("unit-2", "nowhere.example")


def test_a_certificate_enters_here_too(
    cloud: AzureCloud, edge: AzureGateway, tmp_path: Path
) -> None:
    """By an authority that the gateway trusts; a password counts before it."""
    root = azure_pki.authority("factory root")
    cloud.upload_ca("factory", azure_pki.certificates.pem(root.certificate))
    cloud.create_device("unit-2", authority=True, gateway=HOST)
    pair = files(tmp_path, azure_pki.leaf(root, "unit-2"))
    with at(cloud, edge, "unit-2", certificate=pair) as device:
        assert device.enter() == 0
    with at(cloud, edge, "unit-2", certificate=pair) as device:
        assert device.enter("A" * 43 + "=") == 5


def test_a_device_is_at_one_place_at_a_time(
    cloud: AzureCloud, edge: AzureGateway, key: str
) -> None:
    """Straight or by the gateway: the newer connection stays."""
    with at(cloud, edge) as behind, HubDevice(cloud, UNIT) as straight:
        assert behind.enter(key) == 0
        assert straight.enter(key) == 0
        assert behind.ended()
        with at(cloud, edge) as again:
            assert again.enter(key) == 0
            assert straight.ended()
            assert again.tell(b"1")


def test_a_gateway_has_room_for_so_many(tmp_path: Path) -> None:
    """A hundred by default; who is in may come again."""
    config = AzureConfig(gateways=(GatewayConfig(HOST),), gateway_clients_max=1)
    with AzureCloud(tmp_path / "azure", config) as cloud:
        edge = cloud.known_gateway(HOST)
        keys = {}
        for unit in (UNIT, "unit-2"):
            cloud.create_device(unit, gateway=HOST)
            keys[unit] = cloud.device_key(unit).reveal().decode()
        with at(cloud, edge) as device, at(cloud, edge, "unit-2") as other:
            assert device.enter(keys[UNIT]) == 0
            assert other.enter(keys["unit-2"]) == 5
            with at(cloud, edge) as again:
                assert again.enter(keys[UNIT]) == 0


# -- offline -------------------------------------------------------------------------------------


def test_telemetry_waits_in_its_order(cloud: AzureCloud, edge: AzureGateway, key: str) -> None:
    """While the way up is cut, and while the hub is away; devices notice nothing."""
    with at(cloud, edge) as device:
        device.enter(key)
        assert device.tell(b"0")
        edge.cut()
        assert device.tell(b"1") and device.tell(b"2")
        assert (bodies(cloud), edge.waiting) == ([0], 2)
        edge.mend()
        assert (bodies(cloud), edge.waiting) == ([0, 1, 2], 0)
        cloud.hub_away()
        assert device.tell(b"3")
        assert edge.waiting == 1
        cloud.hub_back()
        assert device.tell(b"4")
    assert bodies(cloud) == [0, 1, 2, 3, 4]
    taken = [e["taken"] for e in cloud.events if e["kind"] == "telemetry"]
    assert taken == sorted(taken)


def test_a_gateway_that_loses_power_keeps_what_it_had(
    cloud: AzureCloud, edge: AzureGateway, key: str
) -> None:
    """Its devices are cut off, and come back to the same port."""
    with at(cloud, edge) as device:
        device.enter(key)
        edge.cut()
        assert device.tell(b"1")
        edge.down()
        assert device.ended()
    with pytest.raises(OSError):
        at(cloud, edge)
    edge.up()
    assert edge.waiting == 1
    with at(cloud, edge) as device:
        assert device.enter(key) == 0, "it knows its scope although it is cut off"
        assert device.tell(b"2")
    edge.mend()
    assert bodies(cloud) == [1, 2]


def test_the_store_outlives_the_process(tmp_path: Path) -> None:
    """It is on the gateway's disk."""
    config = AzureConfig(gateways=(GatewayConfig(HOST),))
    with AzureCloud(tmp_path / "azure", config) as cloud:
        cloud.create_device(UNIT, gateway=HOST)
        key = cloud.device_key(UNIT).reveal().decode()
        edge = cloud.known_gateway(HOST)
        with at(cloud, edge) as device:
            device.enter(key)
            edge.cut()
            assert device.tell(b"\xff\x00", "a=b")
    with AzureCloud(tmp_path / "azure", config) as cloud:
        seen = cloud.event_log.wait("telemetry", timeout_s=WAIT_S)
        assert (seen["bytes"], seen["properties"], seen["via"]) == (2, {"a": "b"}, [HOST])


def test_the_store_has_a_size_and_a_life(tmp_path: Path) -> None:
    """The oldest go first, and what is too old; both are told."""
    for limit, lost in (({"store_max": 2}, "too many"), ({"store_life_s": 0.0}, "too old")):
        config = AzureConfig(gateways=(GatewayConfig(HOST),), **limit)  # type: ignore[arg-type]
        with AzureCloud(tmp_path / lost, config) as cloud:
            cloud.create_device(UNIT, gateway=HOST)
            edge = cloud.known_gateway(HOST)
            with at(cloud, edge) as device:
                device.enter(cloud.device_key(UNIT).reveal().decode())
                edge.cut()
                assert all(device.tell(b"%d" % n) for n in range(3))
                edge.mend()
            assert cloud.event_log.wait("lost", timeout_s=WAIT_S)["why"] == lost
            assert bodies(cloud) == ([1, 2] if lost == "too many" else [])


def test_twins_are_answered_from_the_copy(cloud: AzureCloud, edge: AzureGateway, key: str) -> None:
    """What is reported meanwhile goes up in its order; what was never read is 503."""
    cloud.create_device("unit-2", gateway=HOST)
    other_key = cloud.device_key("unit-2").reveal().decode()
    cloud.set_desired(UNIT, {"interval": 5})
    edge.refresh()
    with at(cloud, edge) as device, at(cloud, edge, "unit-2") as other:
        device.enter(key)
        other.enter(other_key)
        device.subscribe(TWIN, qos=0)
        other.subscribe(TWIN, qos=0)
        first = device.twin()
        edge.cut()
        cloud.set_desired(UNIT, {"interval": 7})
        assert device.twin() == first
        assert device.report(b'{"a": 1, "b": 1}')[0] == "204/?$rid=2&$version=2"
        assert device.report(b'{"a": null}')[0] == "204/?$rid=2&$version=3"
        assert json.loads(device.twin()[1])["reported"] == {"b": 1, "$version": 3}
        assert device.report(b"{")[0] == "400/?$rid=2"
        assert other.twin()[0] == "503/?$rid=1"
        assert cloud.twin(UNIT)["reported"] == {"$version": 1}
        edge.mend()
        assert cloud.twin(UNIT)["reported"] == {"b": 1, "$version": 3}
        assert json.loads(device.twin()[1])["desired"] == {"interval": 7, "$version": 3}
        assert other.twin()[0] == "200/?$rid=1"


def test_what_comes_down_is_passed_on_and_not_kept(
    cloud: AzureCloud, edge: AzureGateway, key: str
) -> None:
    """A method fails while the way is cut; a message is the hub's to keep."""
    with at(cloud, edge) as device:
        device.enter(key)
        device.subscribe(C2D, METHODS)
        edge.cut()
        with pytest.raises(BenchStateError, match="404103"):
            cloud.invoke_method(UNIT, "blink")
        cloud.send_c2d(UNIT, b"later")
        edge.mend()
        _, payload, packet_id = device.message()
        assert payload == b"later"
        device.acknowledge(packet_id)
        cloud.event_log.wait("c2d-completed", timeout_s=WAIT_S)


def test_a_gateway_behind_a_gateway(cloud: AzureCloud, tmp_path: Path) -> None:
    """Telemetry passes both, waits where the way is cut, and the device is the lower one's."""
    low = cloud.gateway("low.example", parent=HOST)
    top = cloud.known_gateway(HOST)
    cloud.create_device("unit-2", gateway="low.example")
    key = cloud.device_key("unit-2").reveal().decode()
    with at(cloud, low, "unit-2") as device:
        assert device.enter(key) == 0
        assert device.tell(b"0")
        top.cut()
        assert device.tell(b"1")
        assert (low.waiting, top.waiting) == (0, 1)
        top.down()
        assert device.tell(b"2")
        assert (low.waiting, top.waiting) == (1, 1)
        top.up()
        assert (low.waiting, top.waiting) == (0, 2)
        top.mend()
        device.subscribe(TWIN, qos=0)
        assert device.twin()[0] == "200/?$rid=1"
        assert device.tell(b"3")
    assert bodies(cloud) == [0, 1, 2, 3]
    vias = {tuple(e["via"]) for e in cloud.events if e["kind"] == "telemetry"}
    assert vias == {("low.example", HOST)}
    with pytest.raises(BenchStateError, match="gateway-unknown"):
        cloud.gateway("lost.example", parent="nowhere.example")


def test_a_connection_string_names_the_gateway(cloud: AzureCloud) -> None:
    """In the vendor's spelling and order."""
    text = cloud.connection_string(UNIT, gateway=HOST).reveal().decode()
    key = cloud.device_key(UNIT).reveal().decode()
    assert text == (
        f"HostName={HUB_HOST};DeviceId={UNIT};SharedAccessKey={key};GatewayHostName={HOST}"
    )
