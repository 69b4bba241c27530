"""The local provisioning service's MQTT: every answer that a device can get."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azuredevice import DpsDevice, by_certificate, files
from azurerest import Rest, token
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure import sas as azure_sas
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig, Trouble
from imprint_tools.secret import Secret

HUB = "imprint-hub.azure-devices.net"
WRONG = "A" * 43 + "="
WAIT_S = 10.0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AzureCloud]:
    with AzureCloud(tmp_path / "azure") as running:
        yield running


def enrolled(cloud: AzureCloud, name: str = "unit-1", **body: Any) -> str:
    """Enrol by symmetric key; the key."""
    cloud.create_enrolment(name, **body)
    return cloud.enrolment_key(name).reveal().decode()


def provision(cloud: AzureCloud, name: str, key: str) -> tuple[str, Any]:
    with DpsDevice(cloud, name) as device:
        assert device.enter(key) == 0
        return device.provision()


def test_a_registration_is_202_then_200(cloud: AzureCloud) -> None:
    """Topics, rids percent-encoded, retry-after, and the whole registration state."""
    key = enrolled(cloud)
    with DpsDevice(cloud, "unit-1") as device:
        assert device.enter(key) == 0
        topic, document = device.register(rid="a%2Fb")
        assert topic == "202/?$rid=a%2Fb&retry-after=3"
        assert document["status"] == "assigning" and document["operationId"]
        assert document["registrationState"] == {
            "registrationId": "unit-1", "status": "assigning",
        }  # fmt: skip
        topic, document = device.poll(document["operationId"], rid="9")
        assert topic == "200/?$rid=9"
    state = document["registrationState"]
    assert (document["status"], state["status"]) == ("assigned", "assigned")
    assert (state["assignedHub"], state["deviceId"]) == (HUB, "unit-1")
    assert state["substatus"] == "initialAssignment" and state["symmetricKey"] == {}
    assert {"createdDateTimeUtc", "lastUpdatedDateTimeUtc", "etag"} <= state.keys()


def test_polls_can_be_told_to_wait_and_to_give_no_time(tmp_path: Path) -> None:
    """202 as often as configured; without retry-after where that is configured."""
    config = AzureConfig(polls=2, retry_after_s=None)
    with AzureCloud(tmp_path / "azure", config) as cloud, DpsDevice(cloud, "unit-1") as device:
        device.enter(enrolled(cloud))
        topic, document = device.register()
        assert topic == "202/?$rid=1"
        found = [device.poll(document["operationId"])[0] for _ in range(3)]
        assert found == ["202/?$rid=2", "202/?$rid=2", "200/?$rid=2"]


@pytest.mark.parametrize("after_poll", [False, True])
def test_disabled_is_an_answer_and_enabling_ends_it(tmp_path: Path, after_poll: bool) -> None:
    """Topic status 200, body status "disabled", at the first answer or after a poll."""
    config = AzureConfig(disabled_after_poll=after_poll)
    with AzureCloud(tmp_path / "azure", config) as cloud:
        key = enrolled(cloud, provisioningStatus="disabled")
        with DpsDevice(cloud, "unit-1") as device:
            device.enter(key)
            topic, document = device.register()
            assert topic.startswith("202/" if after_poll else "200/")
            if after_poll:
                topic, document = device.poll(document["operationId"])
            assert topic.startswith("200/")
            assert document["status"] == "disabled" and document["operationId"] == ""
            state = document["registrationState"]
            assert state["status"] == "disabled" and "assignedHub" not in state
            cloud.set_enabled("unit-1", True)
            assert device.provision()[1]["status"] == "assigned"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda key: token("0ne00123456/registrations/unit-1", WRONG), "sas-signature-wrong"),
        (lambda key: token("0ne00123456/registrations/unit-2", key), "sas-resource-wrong"),
        (lambda key: token("other/registrations/unit-1", key), "sas-resource-wrong"),
        (
            lambda key: token(
                "0ne00123456/registrations/unit-1", key, expiry=int(time.time()) - 1
            ),
            "sas-expired",
        ),
        (
            lambda key: token("0ne00123456/registrations/unit-1", key, policy="owner"),
            "sas-policy-wrong",
        ),
    ],
)
def test_a_wrong_token_is_401002(cloud: AzureCloud, make: Any, reason: str) -> None:
    """At the registration, as the vendor's tools have seen it."""
    key = enrolled(cloud)
    with DpsDevice(cloud, "unit-1") as device:
        assert device.enter(password=make(key)) == 0
        topic, document = device.register()
        assert topic == "401/?$rid=1"
        assert document["errorCode"] == 401002
        assert {"trackingId", "message", "timestampUtc"} <= document.keys()
    (refused,) = [e for e in cloud.events if e["kind"] == "registration-refused"]
    assert refused["reason"] == reason


def test_a_wrong_token_can_be_refused_at_once(tmp_path: Path) -> None:
    """CONNACK 5, which a device must take for the same."""
    with AzureCloud(tmp_path / "azure", AzureConfig(sas_refused_at="connect")) as cloud:
        enrolled(cloud)
        with DpsDevice(cloud, "unit-1") as device:
            assert device.enter(WRONG) == 5
            assert device.ended()


def test_a_primary_and_a_secondary_key_are_good(cloud: AzureCloud) -> None:
    """And each spelling of the resource that the vendor's SDKs use."""
    enrolled(cloud)
    keys = Rest.dps(cloud).ask("POST", "/enrollments/unit-1/attestationmechanism", {})[2]
    for key in keys["symmetricKey"].values():
        assert provision(cloud, "unit-1", key)[1]["status"] == "assigned"


@pytest.mark.parametrize(
    ("client_id", "username", "code"),
    [
        ("unit-2", "0ne00123456/registrations/unit-1/api-version=2019-03-31", 5),
        ("unit-1", "0ne00000000/registrations/unit-1/api-version=2019-03-31", 5),
        ("unit-1", "0ne00123456/registrations/unit-1", 4),
        ("unit-1", "0ne00123456/devices/unit-1/api-version=2019-03-31", 4),
        ("unit-1", "0ne00123456/registrations/unit-1/?api-version=2019-03-31", 5),
        ("unit-1", "0ne00123456/registrations/unit-1/ClientVersion=x", 5),
        ("unit-.", "0ne00123456/registrations/unit-./api-version=2019-03-31", 5),
    ],
)
def test_a_wrong_name_is_refused_at_the_door(
    cloud: AzureCloud, client_id: str, username: str, code: int
) -> None:
    """clientId, scope, grammar, and no `?` before api-version, unlike at a hub."""
    key = enrolled(cloud)
    with DpsDevice(cloud, "unit-1") as device:
        password = token("0ne00123456/registrations/unit-1", key)
        assert device.connect(client_id, username, password) == code
        assert device.ended()


def test_nothing_shown_is_refused(cloud: AzureCloud) -> None:
    """Neither token nor certificate."""
    enrolled(cloud)
    with DpsDevice(cloud, "unit-1") as device:
        assert device.enter() == 5
    with DpsDevice(cloud, "unit-1") as device:
        assert device.enter(**{"password": "SharedAccessSignature x"}) == 5


def test_an_unknown_id_is_404201(cloud: AzureCloud, tmp_path: Path) -> None:
    """By key and by certificate."""
    found = provision(cloud, "unit-1", WRONG)
    assert found[0].startswith("404/") and found[1]["errorCode"] == 404201
    pair = files(tmp_path, azure_pki.self_signed("unit-1"))
    with DpsDevice(cloud, "unit-1", pair) as device:
        assert device.enter() == 0
        assert device.register()[1]["errorCode"] == 404201


def test_a_registration_needs_its_own_json(cloud: AzureCloud) -> None:
    """What is none, or another id's, is 400; an operation that is not is 404."""
    with DpsDevice(cloud, "unit-1") as device:
        device.enter(enrolled(cloud))
        for payload in (b"", b"{", b"[]", b"{}", b'{"registrationId": "unit-2"}'):
            topic, document = device.register(payload=payload)
            assert topic == "400/?$rid=1" and document["errorCode"] // 1000 == 400
        assert device.poll("4.none")[0].startswith("404/")
        body = json.dumps({"registrationId": "UNIT-1", "payload": {"modelId": "dtmi:x;1"}})
        assert device.register(payload=body.encode())[0].startswith("202/")


@pytest.mark.parametrize(
    "topic",
    [
        "$dps/registrations/PUT/iotdps-register/", "$dps/registrations/PUT/other/?$rid=1",
        "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1", "devices/x/messages/events/",
    ],
)  # fmt: skip
def test_an_unknown_topic_ends_the_connection(cloud: AzureCloud, topic: str) -> None:
    """MQTT 3.1.1 has no word for it."""
    with DpsDevice(cloud, "unit-1") as device:
        device.enter(enrolled(cloud))
        device.publish(topic, b"{}")
        assert device.ended()


def test_only_its_own_answers_can_be_subscribed_to(cloud: AzureCloud) -> None:
    """QoS 2 is granted as 1; without a subscription there is no answer."""
    with DpsDevice(cloud, "unit-1") as device:
        device.enter(enrolled(cloud), subscribe=False)
        assert device.subscribe("$dps/#", "#") == b"\x80\x80"
        device.publish("$dps/registrations/PUT/iotdps-register/?$rid=1", b"{}", packet_id=3)
        assert device.packet() == (0x40, b"\x00\x03")
        assert device.subscribe("$dps/registrations/res/#", qos=2) == b"\x01"


def test_a_device_is_throttled(tmp_path: Path) -> None:
    """Registrations in a minute, polls in ten seconds; with retry-after and without."""
    for retry_after_s, more in ((5, "&retry-after=5"), (None, "")):
        config = AzureConfig(
            registrations_per_min=1, polls_per_10_s=1, throttle_retry_after_s=retry_after_s
        )
        with AzureCloud(tmp_path / "azure", config) as cloud:
            with DpsDevice(cloud, "unit-1") as device:
                device.enter(enrolled(cloud))
                _, document = device.register()
                assert device.register()[0] == "429/?$rid=1" + more
                assert device.poll(document["operationId"])[0].startswith("200/")
                topic, error = device.poll(document["operationId"])
                assert topic == "429/?$rid=2" + more
                assert error["errorCode"] // 1000 == 429
            with DpsDevice(cloud, "unit-1") as device:
                device.enter(cloud.enrolment_key("unit-1").reveal().decode())
                assert device.poll(document["operationId"])[0].startswith("429/")


@pytest.mark.parametrize(
    "code", [400001, 401002, 403001, 404201, 409203, 412001, 415001, 500001, 503001]
)
def test_any_status_can_be_ordered(cloud: AzureCloud, code: int) -> None:
    """Each once, then all is well."""
    cloud.faults.provisioning.append(Trouble(code, 2))
    with DpsDevice(cloud, "unit-1") as device:
        device.enter(enrolled(cloud))
        topic, document = device.register()
        assert topic == f"{code // 1000}/?$rid=1&retry-after=2"
        assert document["errorCode"] == code
        assert device.provision()[1]["status"] == "assigned"


def test_faults_of_the_connection(cloud: AzureCloud) -> None:
    """Lost before the answer, after which the next attempt finds the same hub; no answer."""
    key = enrolled(cloud)
    cloud.faults.register_drop = 1
    with DpsDevice(cloud, "unit-1") as device:
        device.enter(key)
        device.publish(
            "$dps/registrations/PUT/iotdps-register/?$rid=1", b'{"registrationId":"unit-1"}'
        )
        assert device.ended()
    cloud.faults.no_reply = 1
    with DpsDevice(cloud, "unit-1") as device:
        device.enter(key)
        device.publish(
            "$dps/registrations/PUT/iotdps-register/?$rid=1", b'{"registrationId":"unit-1"}'
        )
        assert device.provision()[1]["status"] == "assigned"


# -- X.509 and groups ----------------------------------------------------------------------------


def test_a_leaf_is_judged_by_its_thumbprint(cloud: AzureCloud, tmp_path: Path) -> None:
    """The enrolled one is in; another one of the same name is CONNACK 5."""
    good, other = azure_pki.self_signed("unit-1"), azure_pki.self_signed("unit-1")
    cloud.create_enrolment("unit-1", attestation=by_certificate(good))
    with DpsDevice(cloud, "unit-1", files(tmp_path, good)) as device:
        assert device.enter() == 0
        state = device.provision()[1]["registrationState"]
        assert state["status"] == "assigned" and state["x509"] == {}
    with DpsDevice(cloud, "unit-1", files(tmp_path, good)) as device:
        assert device.enter(password="") == 0, "an empty password is none"
    with DpsDevice(cloud, "unit-1", files(tmp_path, other)) as device:
        assert device.enter() == 5
    with DpsDevice(cloud, "unit-1") as device:
        assert device.enter(WRONG) == 0
        assert device.register()[1]["errorCode"] == 401002, "a token for an x509 enrolment"


def test_a_wrong_certificate_can_be_401_at_the_registration(tmp_path: Path) -> None:
    """Both places are known from reports."""
    config = AzureConfig(certificate_refused_at="register")
    with AzureCloud(tmp_path / "azure", config) as cloud:
        cloud.create_enrolment(
            "unit-1", attestation=by_certificate(azure_pki.self_signed("unit-1"))
        )
        pair = files(tmp_path, azure_pki.self_signed("unit-1"))
        with DpsDevice(cloud, "unit-1", pair) as device:
            assert device.enter() == 0
            assert device.register()[1]["errorCode"] == 401002


def test_a_group_takes_what_its_authority_signed(cloud: AzureCloud, tmp_path: Path) -> None:
    """With the intermediate in the handshake and the id as common name; not otherwise."""
    root = azure_pki.authority("factory root")
    line = azure_pki.intermediate(root, "line 2")
    cloud.enrol_group("line-2", attestation=by_certificate(root, group=True))
    unit = azure_pki.leaf(line, "unit-8")
    with DpsDevice(cloud, "unit-8", files(tmp_path, unit)) as device:
        assert device.enter() == 0
        state = device.provision()[1]["registrationState"]
        assert (state["deviceId"], state["x509"]) == ("unit-8", {"enrollmentGroupId": "line-2"})
    alone = azure_pki.Issued(unit.certificate, unit.key)
    with DpsDevice(cloud, "unit-8", files(tmp_path, alone)) as device:
        assert device.enter() == 0
        assert device.register()[1]["errorCode"] == 404201, "the intermediate is missing"
    with DpsDevice(cloud, "unit-9", files(tmp_path, unit)) as device:
        assert device.enter() == 5, "another unit's name"
    with DpsDevice(cloud, "line 2".replace(" ", "-"), files(tmp_path, line)) as device:
        assert device.enter() == 5, "a CA is no device"


def test_the_nearest_group_counts_and_a_device_of_its_own_before_it(
    cloud: AzureCloud, tmp_path: Path
) -> None:
    """And a disabled one ends the search: there is no falling through."""
    root = azure_pki.authority("factory root")
    line = azure_pki.intermediate(root, "line 2")
    cloud.enrol_group("all", attestation=by_certificate(root, group=True))
    cloud.enrol_group("line-2", attestation=by_certificate(line, group=True))
    unit = azure_pki.leaf(line, "unit-8")
    pair = files(tmp_path, unit)

    def outcome() -> tuple[str, Any]:
        with DpsDevice(cloud, "unit-8", pair) as device:
            assert device.enter() == 0
            document = device.provision()[1]
        return document["status"], document["registrationState"].get("x509")

    assert outcome() == ("assigned", {"enrollmentGroupId": "line-2"})
    disabled = by_certificate(line, group=True)
    cloud.enrol_group("line-2", attestation=disabled, provisioningStatus="disabled")
    assert outcome()[0] == "disabled"
    cloud.create_enrolment("unit-8", attestation=by_certificate(unit))
    assert outcome() == ("assigned", {})


def test_an_uploaded_authority_serves_a_group_by_its_name(
    cloud: AzureCloud, tmp_path: Path
) -> None:
    """caReferences."""
    root = azure_pki.authority("factory root")
    cloud.upload_ca("factory", azure_pki.certificates.pem(root.certificate))
    references = {"type": "x509", "x509": {"caReferences": {"primary": "factory"}}}
    cloud.enrol_group("line", attestation=references)
    pair = files(tmp_path, azure_pki.leaf(root, "unit-8"))
    with DpsDevice(cloud, "unit-8", pair) as device:
        assert device.enter() == 0
        assert device.provision()[1]["status"] == "assigned"


def test_a_group_takes_keys_that_are_derived_from_its_own(cloud: AzureCloud) -> None:
    """From the id as the device spells it; another key is 401."""
    cloud.enrol_group("line-1")
    group = cloud.group_key("line-1")
    key = azure_sas.derive(group, "unit-7").reveal().decode()
    document = provision(cloud, "unit-7", key)[1]
    assert document["registrationState"]["symmetricKey"] == {"enrollmentGroupId": "line-1"}
    assert provision(cloud, "unit-6", key)[1]["errorCode"] == 401002
    assert provision(cloud, "UNIT-7", key)[1]["errorCode"] == 401002


# -- hubs ----------------------------------------------------------------------------------------


def test_policies_choose_the_hub(tmp_path: Path) -> None:
    """hashed spreads, static names one, geoLatency takes the first, iotHubs narrows."""
    config = AzureConfig(hubs=("north", "south"), allocation="static", static_hub="south")
    with AzureCloud(tmp_path / "azure", config) as cloud:

        def hub(name: str, **body: Any) -> str:
            key = enrolled(cloud, name, **body)
            state = provision(cloud, name, key)[1]["registrationState"]
            return str(state["assignedHub"]).split(".")[0]

        assert hub("a") == "south"
        assert hub("b", allocationPolicy="geoLatency") == "north"
        assert hub("c", iotHubHostName="north.azure-devices.net") == "north"
        one = ["south.azure-devices.net"]
        assert hub("d", allocationPolicy="hashed", iotHubs=one) == "south"
        spread = {hub(f"e{n}", allocationPolicy="hashed") for n in range(8)}
        assert spread == {"north", "south"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"allocationPolicy": "custom"}, 400207),
        ({"iotHubHostName": "elsewhere.azure-devices.net"}, 400209),
    ],
)
def test_an_allocation_that_fails_is_200_and_failed(
    cloud: AzureCloud, body: dict[str, Any], code: int
) -> None:
    """With its code in the registration state."""
    topic, document = provision(cloud, "unit-1", enrolled(cloud, **body))
    assert topic.startswith("200/") and document["status"] == "failed"
    assert document["registrationState"]["errorCode"] == code
    assert document["registrationState"]["errorMessage"]


def test_no_hub_is_400208(tmp_path: Path) -> None:
    """None is linked."""
    with AzureCloud(tmp_path / "azure", AzureConfig(hubs=())) as cloud:
        document = provision(cloud, "unit-1", enrolled(cloud))[1]
        assert document["registrationState"]["errorCode"] == 400208


def test_a_device_keeps_its_hub_or_moves_by_its_policy(tmp_path: Path) -> None:
    """With its twin, with a new one, or not at all; a deleted device is made again."""
    twin = {"tags": {"new": True}}
    config = AzureConfig(hubs=("north", "south"), allocation="static", static_hub="north")
    with AzureCloud(tmp_path / "azure", config) as cloud:
        south = {"iotHubHostName": "south.azure-devices.net", "initialTwin": twin}

        def state(**body: Any) -> dict[str, Any]:
            found: dict[str, Any] = provision(cloud, "unit-1", enrolled(cloud, **body))[1]
            registration: dict[str, Any] = found["registrationState"]
            return registration

        assert state(initialTwin=twin)["assignedHub"].startswith("north")
        cloud.set_tags("unit-1", {"kept": True})
        stay = {"updateHubAssignment": False, "migrateDeviceData": False}
        assert state(**south, reprovisionPolicy=stay)["assignedHub"].startswith("north")
        moved = state(**south)
        assert (moved["assignedHub"][:5], moved["substatus"]) == ("south", "deviceDataMigrated")
        assert cloud.twin("unit-1")["tags"] == {"new": True, "kept": True}
        reset = {"updateHubAssignment": True, "migrateDeviceData": False}
        moved = state(initialTwin=twin, reprovisionPolicy=reset)
        assert (moved["assignedHub"][:5], moved["substatus"]) == ("north", "deviceDataReset")
        assert cloud.twin("unit-1")["tags"] == {"new": True}
        cloud.delete_device("unit-1")
        assert state()["substatus"] == "reprovisionedToInitialAssignment"


def test_the_service_sees_the_registration(cloud: AzureCloud) -> None:
    """By itself, in the enrolment, and by its group."""
    cloud.enrol_group("line-1")
    key = azure_sas.derive(cloud.group_key("line-1"), "unit-7").reveal().decode()
    provision(cloud, "unit-7", key)
    provision(cloud, "unit-1", enrolled(cloud, deviceId="press-07"))
    rest = Rest.dps(cloud)
    assert rest.ask("GET", "/registrations/unit-1")[2]["deviceId"] == "press-07"
    assert rest.ask("GET", "/enrollments/unit-1")[2]["registrationState"]["status"] == "assigned"
    (member,) = rest.ask("POST", "/registrations/line-1/query", {})[2]
    assert member["registrationId"] == "unit-7"
    assert rest.ask("DELETE", "/registrations/unit-7")[0] == 204
    assert rest.ask("POST", "/registrations/line-1/query", {})[2] == []
    shown = {d["registration_id"]: d for d in cloud.devices()}
    assert shown["unit-1"]["device_id"] == "press-07" and shown["unit-1"]["auth"] == "sas"


def test_no_secret_is_in_the_events(cloud: AzureCloud) -> None:
    """Neither key nor token, of a device or of a service."""
    key = enrolled(cloud)
    provision(cloud, "unit-1", key)
    text = (cloud.folder / "events.jsonl").read_text()
    assert key not in text and "sig=" not in text
    assert cloud.service_key.reveal().decode() not in text
    assert repr(Secret(key)) != key
