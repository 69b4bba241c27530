"""A local hub's MQTT and its service REST: who may enter, what is said, and every refusal."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azuredevice import HUB_HOST, HubDevice, files
from azurerest import Rest, token
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.azure import certificates as azure_certificates
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig, Trouble
from imprint_tools.localcloud.azure.hub import C2D_MAX

UNIT = "unit-1"
WRONG = "A" * 43 + "="
C2D = f"devices/{UNIT}/messages/devicebound/#"
TWIN, DESIRED = "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"
METHODS = "$iothub/methods/POST/#"
WAIT_S = 10.0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AzureCloud]:
    with AzureCloud(tmp_path / "azure") as running:
        running.create_device(UNIT)
        yield running


@pytest.fixture
def key(cloud: AzureCloud) -> str:
    return cloud.device_key(UNIT).reveal().decode()


def reason(cloud: AzureCloud) -> str:
    found = cloud.event_log.wait("refused", timeout_s=WAIT_S)
    return str(found["reason"])


# -- who may enter -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        ({"key": WRONG}, 5, "sas-signature-wrong"),
        ({"resource": f"{HUB_HOST}/devices/unit-2"}, 5, "sas-resource-wrong"),
        ({"resource": f"edge.example/devices/{UNIT}"}, 5, "sas-resource-wrong"),
        ({"expiry": 1_000_000_000}, 5, "sas-expired"),
        ({"password": "secret"}, 5, "sas-malformed"),
        ({"password": None}, 5, "credentials-missing"),
        ({"password": ""}, 5, "credentials-missing"),
        ({"client_id": "unit-2"}, 5, "client-id-wrong"),
        ({"username": f"other.azure-devices.net/{UNIT}/?api-version=2021-04-12"}, 5, "host-wrong"),
        ({"username": f"{HUB_HOST}/{UNIT}/"}, 5, "api-version-missing"),
        ({"username": f"{HUB_HOST}/{UNIT}"}, 4, "username-malformed"),
        ({"username": f"{HUB_HOST}/{UNIT}/m/?api-version=2021-04-12/x"}, 4, "username-malformed"),
        (
            {
                "username": f"{HUB_HOST}/{UNIT}/m/?api-version=2021-04-12",
                "client_id": f"{UNIT}/m",
            },
            5,
            "module-unknown",
        ),
        (
            {"username": f"{HUB_HOST}/x/?api-version=2021-04-12", "client_id": "x"},
            5,
            "device-unknown",
        ),
    ],
)
def test_whoever_is_wrong_is_refused(
    cloud: AzureCloud, key: str, options: dict[str, Any], code: int, why: str
) -> None:
    """With a CONNACK; the reason is in the events."""
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(**{"key": key, **options}) == code
        assert device.ended()
    assert reason(cloud) == why


@pytest.mark.parametrize("query", ["?api-version=2021-04-12", "api-version=2020-09-30&x=%2F"])
def test_user_names_of_the_vendors_sdks_are_taken(cloud: AzureCloud, key: str, query: str) -> None:
    """With a question mark and without; names in a token have no case."""
    with HubDevice(cloud, UNIT) as device:
        resource = f"{HUB_HOST.upper()}/devices/{UNIT}"
        assert device.enter(key, username=f"{HUB_HOST}/{UNIT}/{query}", resource=resource) == 0


def test_a_token_ends_the_connection_when_it_ends(cloud: AzureCloud, key: str) -> None:
    """There is no way to hand in another one."""
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(key, expiry=int(time.time()) + 2) == 0
        assert device.tell(b"{}")
        assert device.ended()
        end = cloud.event_log.wait("close", timeout_s=WAIT_S)
        assert end["reason"] == "token expired"


def test_a_token_may_be_given_grace(tmp_path: Path) -> None:
    """As the real hub is reported to."""
    with AzureCloud(tmp_path / "azure", AzureConfig(sas_grace_s=300)) as cloud:
        cloud.create_device(UNIT)
        key = cloud.device_key(UNIT).reveal().decode()
        with HubDevice(cloud, UNIT) as device:
            assert device.enter(key, expiry=int(time.time()) - 60) == 0
        with HubDevice(cloud, UNIT) as device:
            assert device.enter(key, expiry=int(time.time()) - 301) == 5


def test_a_disabled_device_is_cut_off_and_refused(cloud: AzureCloud, key: str) -> None:
    """Until it is enabled; a deleted one for good."""
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(key) == 0
        cloud.set_device_enabled(UNIT, False)
        assert device.ended()
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(key) == 5
    assert reason(cloud) == "device-disabled"
    cloud.set_device_enabled(UNIT, True)
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(key) == 0
        cloud.delete_device(UNIT)
        assert device.ended()
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(key) == 5


def test_the_newer_connection_stays(cloud: AzureCloud, key: str) -> None:
    """One an identity."""
    with HubDevice(cloud, UNIT) as older, HubDevice(cloud, UNIT) as newer:
        assert older.enter(key) == 0
        assert newer.enter(key) == 0
        assert older.ended()
        assert newer.tell(b"{}")
        assert cloud.devices()[0]["online"] is True


def test_a_certificate_enters_by_its_thumbprint(cloud: AzureCloud, tmp_path: Path) -> None:
    """SHA-1 or SHA-256, in any case; another certificate does not, and no token for it."""
    good, other = azure_pki.self_signed("unit-2"), azure_pki.self_signed("unit-2")
    for make in (azure_certificates.sha1, azure_certificates.sha256):
        cloud.create_device("unit-2", thumbprint=make(good.certificate).lower())
        with HubDevice(cloud, "unit-2", certificate=files(tmp_path, good)) as device:
            assert device.enter() == 0
            assert device.tell(b"{}")
    with HubDevice(cloud, "unit-2", certificate=files(tmp_path, other)) as device:
        assert device.enter() == 5
    with HubDevice(cloud, "unit-2", certificate=files(tmp_path, good)) as device:
        assert device.enter(WRONG) == 5, "a password counts before a certificate"


def test_a_certificate_enters_by_its_authority(cloud: AzureCloud, tmp_path: Path) -> None:
    """With the intermediate, and the device id as common name."""
    root = azure_pki.authority("factory root")
    line = azure_pki.intermediate(root, "line")
    cloud.upload_ca("factory", azure_pki.certificates.pem(root.certificate))
    cloud.create_device("unit-2", authority=True)
    unit = azure_pki.leaf(line, "unit-2")
    stranger = azure_pki.leaf(azure_pki.authority("other root"), "unit-2")
    for issued, code in (
        (unit, 0),
        (azure_pki.Issued(unit.certificate, unit.key), 5),
        (azure_pki.leaf(line, "Unit-2"), 5),
        (stranger, 5),
    ):
        with HubDevice(cloud, "unit-2", certificate=files(tmp_path, issued)) as device:
            assert device.enter() == code


def test_a_device_with_a_key_needs_its_token(cloud: AzureCloud, tmp_path: Path) -> None:
    """A certificate does not stand in for it."""
    pair = files(tmp_path, azure_pki.self_signed(UNIT))
    with HubDevice(cloud, UNIT, certificate=pair) as device:
        assert device.enter() == 5
    assert reason(cloud) == "sas-missing"


# -- telemetry -----------------------------------------------------------------------------------


def test_telemetry_is_seen_with_its_properties(cloud: AzureCloud, key: str) -> None:
    """Percent-encoded on the wire; a retained one is marked, and not kept."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        assert device.tell(b'{"t": 1}', "%24.ct=application%2Fjson&a%20b=c%2Fd&empty=&alone")
        seen = cloud.event_log.wait("telemetry", timeout_s=WAIT_S)
        assert (seen["device_id"], seen["body"], seen["via"]) == (UNIT, {"t": 1}, [])
        assert seen["properties"] == {
            "$.ct": "application/json", "a b": "c/d", "empty": "", "alone": None,
        }  # fmt: skip
        mark = cloud.event_log.mark()
        device.publish(f"devices/{UNIT}/messages/events/", b"text", flags=1)
        seen = cloud.event_log.wait("telemetry", timeout_s=WAIT_S, after=mark)
        assert (seen["body"], seen["properties"]) == ("text", {"mqtt-retain": "true"})


@pytest.mark.parametrize(
    "topic",
    [
        "devices/unit-2/messages/events/", "devices/unit-1/messages/devicebound/x", "telemetry",
        "$iothub/twin/GET/", "$iothub/twin/GET/?rid=1",
        "$iothub/twin/PATCH/properties/desired/?$rid=1",
        "$iothub/methods/res/ok/?$rid=1", "$iothub/other", "devices/unit-1/messages/events/a=%ff",
    ],
)  # fmt: skip
def test_an_unknown_topic_ends_the_connection(cloud: AzureCloud, key: str, topic: str) -> None:
    """Another device's, too."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        device.publish(topic, b"{}")
        assert device.ended()
    assert not [e for e in cloud.events if e["kind"] == "telemetry"]


def test_a_message_may_have_256_kb(cloud: AzureCloud, key: str) -> None:
    """With its topic; more ends the connection."""
    room = 256 * 1024 - len(f"devices/{UNIT}/messages/events/")
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        assert device.tell(b"x" * room)
        device.publish(f"devices/{UNIT}/messages/events/", b"x" * (room + 1))
        assert device.ended()


def test_qos_2_ends_the_connection(cloud: AzureCloud, key: str) -> None:
    """It is not offered; a subscription is granted 1."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        assert device.subscribe(TWIN, qos=2) == b"\x01"
        device.publish(f"devices/{UNIT}/messages/events/", b"\x00\x05{}", flags=4)
        assert device.ended()


def test_only_its_own_topics_can_be_subscribed_to(cloud: AzureCloud, key: str) -> None:
    """All that there are, and nothing else."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        assert device.subscribe(C2D, TWIN, DESIRED, METHODS) == b"\x01\x01\x01\x01"
        others = ("#", "$iothub/#", "devices/unit-2/messages/devicebound/#", "devices/#")
        assert device.subscribe(*others) == b"\x80" * 4


def test_a_will_is_telemetry(cloud: AzureCloud, key: str) -> None:
    """Of a device that goes without a word; on another topic it is refused."""
    topic = f"devices/{UNIT}/messages/events/"
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(key, will=(topic, "gone")) == 0
    seen = cloud.event_log.wait("telemetry", timeout_s=WAIT_S)
    assert (seen["body"], seen["properties"]) == ("gone", {"iothub-MessageType": "Will"})
    mark = cloud.event_log.mark()
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(key, will=(topic, "gone")) == 0
        device.send(b"\xe0\x00")
        assert device.ended()
    cloud.event_log.wait("close", timeout_s=WAIT_S, after=mark)
    assert len([e for e in cloud.events if e["kind"] == "telemetry"]) == 1
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(key, will=("$iothub/twin/GET/?$rid=1", "")) == 5


# -- twin ----------------------------------------------------------------------------------------


def test_a_twin_is_read_reported_and_patched(cloud: AzureCloud, key: str) -> None:
    """Versions begin at 1 and grow by 1; null deletes; a patch comes while connected."""
    cloud.set_desired(UNIT, {"interval": 5, "led": {"on": True}})
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        assert device.subscribe(TWIN, DESIRED, qos=0) == b"\x00\x00"
        topic, body = device.twin(rid="a%20b")
        assert topic == "200/?$rid=a%20b"
        assert json.loads(body) == {
            "desired": {"interval": 5, "led": {"on": True}, "$version": 2},
            "reported": {"$version": 1},
        }
        assert device.report(b'{"led": {"on": true, "n": 1}}') == ("204/?$rid=2&$version=2", b"")
        assert device.report(b'{"led": {"n": null}, "x": [1]}')[0] == "204/?$rid=2&$version=3"
        reported = {"led": {"on": True}, "x": [1], "$version": 3}
        assert cloud.twin(UNIT)["reported"] == reported
        assert cloud.set_desired(UNIT, {"interval": 7, "led": None}) == 3
        assert device.message() == (
            "$iothub/twin/PATCH/properties/desired/?$version=3",
            b'{"interval":7,"led":null,"$version":3}', 0,
        )  # fmt: skip
        assert json.loads(device.twin()[1])["desired"] == {"interval": 7, "$version": 3}


def test_a_patch_goes_to_nobody_who_is_not_there(cloud: AzureCloud, key: str) -> None:
    """Nor to one that did not subscribe; it is read with the twin later."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key, clean=False)
        device.subscribe(DESIRED)
    cloud.event_log.wait("close", timeout_s=WAIT_S)
    cloud.set_desired(UNIT, {"interval": 7})
    with HubDevice(cloud, UNIT) as device:
        device.enter(key, clean=False)
        device.send(b"\xc0\x00")
        assert device.packet() == (0xD0, b""), "nothing was kept for it"


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"[]", b"7", b'{"a": NaN}', b"\xff", b'{"$version": 1}', b'{"a.b": 1}',
        b'{"": 1}', b'{"a b": 1}', b'{"a": {"b$": 1}}', b'{"x": "' + b"y" * 33_000 + b'"}',
        b'{"a":' * 11 + b"1" + b"}" * 11,
    ],
    ids=lambda payload: str(payload[:16]),
)  # fmt: skip
def test_a_wrong_report_is_400_and_changes_nothing(
    cloud: AzureCloud, key: str, payload: bytes
) -> None:
    """Not JSON, no object, keys that are not allowed, too large, too deep."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        device.subscribe(TWIN)
        topic, body = device.report(payload)
        assert topic == "400/?$rid=2" and json.loads(body)["errorCode"] // 1000 == 400
        assert device.tell(b"{}"), "the connection stays"
    assert cloud.twin(UNIT)["reported"] == {"$version": 1}


def test_reported_properties_may_have_32_kb_in_all(cloud: AzureCloud, key: str) -> None:
    """Piece by piece, too."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        device.subscribe(TWIN)
        answers = [
            device.report(json.dumps({f"p{n}": "x" * 8000}).encode())[0][:3] for n in range(5)
        ]
        assert answers == ["204", "204", "204", "204", "400"]
    with pytest.raises(BenchStateError, match="twin-too-large"):
        cloud.set_desired(UNIT, {"x": "y" * 33_000})
    with pytest.raises(BenchStateError, match="twin-too-large"):
        cloud.set_tags(UNIT, {"x": "y" * 8_200})


def test_twin_answers_can_be_spoilt(cloud: AzureCloud, key: str) -> None:
    """Any status, half of the JSON, silence; a desired patch, too."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        device.subscribe(TWIN, DESIRED)
        cloud.faults.twin.extend([Trouble(429001), Trouble(500001)])
        assert device.twin()[0] == "429/?$rid=1"
        assert device.report(b"{}")[0] == "500/?$rid=2"
        cloud.faults.garbage_twin = 1
        with pytest.raises(ValueError):
            json.loads(device.twin()[1])
        cloud.faults.no_reply = 1
        device.publish("$iothub/twin/GET/?$rid=lost", b"")
        assert device.twin(rid="found")[0] == "200/?$rid=found"
        cloud.faults.garbage_desired = 1
        cloud.set_desired(UNIT, {"interval": 7})
        with pytest.raises(ValueError):
            device.json()


# -- methods and messages ------------------------------------------------------------------------


def test_a_method_is_called_and_answered(cloud: AzureCloud, key: str) -> None:
    """Its name percent-encoded, any integer as status; an answer to nothing is no harm."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        device.subscribe(METHODS, qos=0)
        answers: list[Any] = []
        call = threading.Thread(
            target=lambda: answers.append(cloud.invoke_method(UNIT, "blink it", {"n": 3}))
        )
        call.start()
        topic, payload, _ = device.message()
        begin, _, rid = topic.partition("?$rid=")
        assert begin == "$iothub/methods/POST/blink%20it/" and json.loads(payload) == {"n": 3}
        device.publish(f"$iothub/methods/res/-7/?$rid={rid}", b'{"done": true}')
        call.join(WAIT_S)
        assert answers == [(-7, {"done": True})]
        device.publish(f"$iothub/methods/res/200/?$rid={rid}", b"")
        assert device.tell(b"{}")


def test_a_method_needs_a_device_that_is_there(cloud: AzureCloud, key: str) -> None:
    """Not online, not subscribed, not in time; and a body of 128 KB at most."""
    with pytest.raises(BenchStateError, match="413"):
        cloud.invoke_method(UNIT, "blink", "x" * 131_071)
    with pytest.raises(BenchStateError, match="404103"):
        cloud.invoke_method(UNIT, "blink")
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        with pytest.raises(BenchStateError, match="404103"):
            cloud.invoke_method(UNIT, "blink")
        device.subscribe(METHODS)
        with pytest.raises(BenchStateError, match="504101"):
            cloud.invoke_method(UNIT, "blink", timeout_s=0.2)


def test_messages_wait_for_the_device_and_end_with_its_acknowledgement(
    cloud: AzureCloud, key: str
) -> None:
    """Over a reconnect, in their order; what was not acknowledged comes again."""
    first = cloud.send_c2d(UNIT, b"one", **{"a b": "c/d"})
    cloud.send_c2d(UNIT, b"two")
    with HubDevice(cloud, UNIT) as device:
        device.enter(key, clean=False)
        device.subscribe(C2D)
        topic, payload, packet_id = device.message()
        assert payload == b"one" and f"%24.mid={first}" in topic and "a%20b=c%2Fd" in topic
        device.acknowledge(packet_id)
        cloud.event_log.wait("c2d-completed", timeout_s=WAIT_S, id=first)
        assert device.message()[1] == b"two"
    cloud.event_log.wait("close", timeout_s=WAIT_S)
    cloud.send_c2d(UNIT, b"three")
    with HubDevice(cloud, UNIT) as device:
        device.enter(key, clean=False)
        assert device.session_present == 1
        for expected in (b"two", b"three"):
            _, payload, packet_id = device.message()
            assert payload == expected
            device.acknowledge(packet_id)
        device.send(b"\xc0\x00")
        assert device.packet() == (0xD0, b"")
    assert cloud.devices()[0]["messages_waiting"] == 0


def test_fifty_messages_wait_and_no_more(cloud: AzureCloud) -> None:
    """The fifty-first is refused, and one of more than 64 KB."""
    with pytest.raises(BenchStateError, match="message-too-large"):
        cloud.send_c2d(UNIT, b"x" * (64 * 1024 + 1))
    for _ in range(C2D_MAX):
        cloud.send_c2d(UNIT, b"x")
    with pytest.raises(BenchStateError, match="too-many-messages"):
        cloud.send_c2d(UNIT, b"x")


def test_faults_of_the_connection(cloud: AzureCloud, key: str) -> None:
    """Half a packet, a publish that is lost with its connection, no PUBACK."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        device.subscribe(C2D)
        cloud.faults.cut_message = 1
        cloud.send_c2d(UNIT, b"x" * 100)
        data = device.read(1000)
        assert data[0] & 0xF0 == 0x30 and 100 < len(data) < data[1] - 0x80 + data[2] * 128
    cloud.faults.drop_on_publish = 1
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        assert not device.tell(b"{}")
    cloud.faults.no_puback = 1
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        device.publish(f"devices/{UNIT}/messages/events/", b"{}", packet_id=3)
        device.send(b"\xc0\x00")
        assert device.packet() == (0xD0, b"")


def test_a_hub_can_go_away_and_come_back(cloud: AzureCloud, key: str) -> None:
    """At the same port."""
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        cloud.hub_away()
        assert device.ended()
    with pytest.raises(OSError):
        HubDevice(cloud, UNIT)
    cloud.hub_back()
    with HubDevice(cloud, UNIT) as device:
        assert device.enter(key) == 0


# -- the service's REST --------------------------------------------------------------------------


@pytest.fixture
def rest(cloud: AzureCloud) -> Rest:
    return Rest(cloud, HUB_HOST, cloud.hub_key().reveal().decode(), "iothubowner")


def test_a_service_makes_finds_disables_and_deletes_identities(
    cloud: AzureCloud, rest: Rest
) -> None:
    """By symmetric keys and by thumbprint; etags as everywhere."""
    status, _, made = rest.ask("PUT", "/devices/unit-2", {"deviceId": "unit-2"})
    assert (status, made["status"], made["connectionState"]) == (200, "enabled", "Disconnected")
    key = made["authentication"]["symmetricKey"]["primaryKey"]
    with HubDevice(cloud, "unit-2") as device:
        assert device.enter(key) == 0
        assert rest.ask("GET", "/devices/unit-2")[2]["connectionState"] == "Connected"
        assert rest.ask("PUT", "/devices/unit-2", {**made, "status": "disabled"})[0] == 409
        etag = made["etag"]
        body = {**made, "status": "disabled"}
        assert rest.ask("PUT", "/devices/unit-2", body, If_Match=f'"{etag}"')[0] == 200
        assert device.ended()
    assert rest.ask("PUT", "/devices/unit-2", body, If_Match=etag)[0] == 412
    assert '"' not in etag, "unlike the provisioning service's"
    assert rest.ask("DELETE", "/devices/unit-2", If_Match=f'"{etag}"')[0] == 412
    assert rest.ask("DELETE", "/devices/unit-2", If_Match="*")[0] == 204
    status, _, error = rest.ask("GET", "/devices/unit-2")
    assert (status, error["errorCode"]) == (404, 404001)
    prints = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "AB" * 20}}
    made = rest.ask("PUT", "/devices/unit-3", {"deviceId": "unit-3", "authentication": prints})[2]
    assert made["authentication"]["x509Thumbprint"]["primaryThumbprint"] == "AB" * 20


@pytest.mark.parametrize(
    "body",
    [
        {}, {"deviceId": "other"}, {"deviceId": "unit-2", "authentication": {"type": "tpm"}},
        {"deviceId": "unit-2", "authentication": {"symmetricKey": {"primaryKey": "x"}}},
        {"deviceId": "unit-2", "authentication": {"type": "selfSigned"}},
    ],
)  # fmt: skip
def test_a_wrong_identity_is_400(rest: Rest, body: dict[str, Any]) -> None:
    """And nothing is made."""
    assert rest.ask("PUT", "/devices/unit-2", body)[0] == 400
    assert rest.ask("GET", "/devices/unit-2")[0] == 404


def test_a_service_uses_twin_method_and_message(cloud: AzureCloud, key: str, rest: Rest) -> None:
    """While the device is there."""
    patch = {"tags": {"line": 7}, "properties": {"desired": {"interval": 5}}}
    status, _, twin = rest.ask("PATCH", f"/twins/{UNIT}", patch)
    assert status == 200 and twin["tags"] == {"line": 7}
    assert rest.ask("GET", f"/twins/{UNIT}")[2] == twin
    assert twin["properties"]["desired"] == {"interval": 5, "$version": 2}
    assert rest.ask("PATCH", f"/twins/{UNIT}", patch, If_Match='"0"')[0] == 412
    assert rest.ask("PATCH", f"/twins/{UNIT}", {"tags": {"a.b": 1}})[0] == 400
    assert rest.ask("PATCH", "/twins/nobody", patch)[0] == 404
    method = {"methodName": "blink", "payload": {"n": 3}, "responseTimeoutInSeconds": 5}
    status, _, error = rest.ask("POST", f"/twins/{UNIT}/methods", method)
    assert (status, error["errorCode"]) == (404, 404103)
    wrong = {**method, "responseTimeoutInSeconds": 4}
    assert rest.ask("POST", f"/twins/{UNIT}/methods", wrong)[0] == 400
    assert (
        rest.ask("POST", "/messages/devicebound", b"hello", iothub_to=f"/devices/{UNIT}")[0] == 201
    )
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        device.subscribe(C2D, METHODS)
        _, payload, packet_id = device.message()
        assert payload == b"hello"
        device.acknowledge(packet_id)
        answers: list[Any] = []
        call = threading.Thread(
            target=lambda: answers.append(rest.ask("POST", f"/twins/{UNIT}/methods", method))
        )
        call.start()
        topic, _, packet_id = device.message()
        device.acknowledge(packet_id)
        device.publish("$iothub/methods/res/200/?$rid=" + topic.partition("=")[2], b'{"ok":1}')
        call.join(WAIT_S)
        assert answers[0][::2] == (200, {"status": 200, "payload": {"ok": 1}})


def test_a_service_needs_the_hubs_own_key(cloud: AzureCloud, rest: Rest) -> None:
    """Not the provisioning service's, and not a device's token."""
    other = token(HUB_HOST, cloud.service_key.reveal().decode(), policy="iothubowner")
    assert rest.ask("GET", f"/devices/{UNIT}", authorization=other)[0] == 401
    device = token(f"{HUB_HOST}/devices/{UNIT}", cloud.device_key(UNIT).reveal().decode())
    assert rest.ask("GET", f"/devices/{UNIT}", authorization=device)[0] == 401
