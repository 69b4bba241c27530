"""The local EnOS over MQTT: login, activation, reports, commands, and every code of a refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from enosmqtt import PLAIN, TLS, EnosClient, T, login, sign
from imprint_tools import endpoints
from imprint_tools.localcloud.broker import (
    BAD_USERNAME_OR_PASSWORD,
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
)
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig, EnosProduct, Inferred
from imprint_tools.localcloud.enos.config import ConnectLimits, EnosLimits
from imprint_tools.localcloud.enos.records import GATEWAY
from imprint_tools.secret import Secret

PK, DK = "KV315idW", "tPbZGCdmaE"
PS = Secret("PrOdSeCrEt01")
NAME = (PK, DK)
GATEWAY_NAME = ("gwPK0001", "edge-1")
WAIT_S = 10.0
UNLIMITED = EnosLimits(connects=None)
CONFIG = EnosConfig(
    products=(
        EnosProduct(PK, PS, devices=(DK, "other")),
        EnosProduct(GATEWAY_NAME[0], PS, devices=(GATEWAY_NAME[1],), kind=GATEWAY),
    ),
    limits=UNLIMITED,
)
POST = "thing/measurepoint/post"
SET = "thing/service/measurepoint/set"


class Clock:
    """Seconds, turned by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cloud(tmp_path: Path, clock: Clock) -> Iterator[EnosCloud]:
    with EnosCloud(tmp_path / "enos", CONFIG, clock=clock) as running:
        yield running


def online(cloud: EnosCloud, name: tuple[str, str] = NAME) -> EnosClient:
    client = EnosClient(cloud, name)
    assert client.login(cloud.device_secret(*name)) == 0
    return client


def shown(cloud: EnosCloud, name: tuple[str, str] = NAME) -> dict[str, Any]:
    return next(d for d in cloud.devices() if (d["product_key"], d["device_key"]) == name)


def attempt(cloud: EnosCloud, *credentials: str, **options: Any) -> int:
    """The CONNACK's code."""
    with EnosClient(cloud, NAME) as client:
        return client.connect(*credentials, **options)


def refused(cloud: EnosCloud) -> dict[str, Any]:
    """Why the last login was refused, as the log has it."""
    return [event for event in cloud.events if event["kind"] == "refused"][-1]


# -- login ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [PLAIN, TLS])
def test_a_device_is_online_while_it_is_connected(cloud: EnosCloud, port: int) -> None:
    """Inactive, Online, Offline, at the port with TLS and at the plain one."""
    assert shown(cloud)["status"] == "inactive"
    with EnosClient(cloud, NAME, port=port) as client:
        assert client.login(cloud.device_secret(*NAME)) == 0
        assert shown(cloud)["status"] == "online" and shown(cloud)["activated"]
        event = cloud.event_log.wait("login", timeout_s=WAIT_S)
        assert (event["secure_mode"], event["tls"]) == (2, port == TLS)
    cloud.event_log.wait("offline", timeout_s=WAIT_S, device_key=DK)
    assert shown(cloud)["status"] == "offline"


@pytest.mark.parametrize("method", ["sha256", "hmacsha256", "sha1", "hmacsha1", "md5", "hmacmd5"])
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_every_method_and_both_cases_of_a_signature(
    cloud: EnosCloud, method: str, case: Any
) -> None:
    """Plain digests, whatever they are called."""
    client_id, username, password = login(NAME, cloud.device_secret(*NAME), method=method)
    assert attempt(cloud, client_id, username, case(password)) == 0


def test_what_the_java_sdk_appends_is_signed_and_does_not_count(cloud: EnosCloud) -> None:
    """Braces with commas, so that a clientId is more than 64 characters."""
    more = "{ip=10.0.0.5,version=2.2.15,compress=DEFAULT,and=somewhat-more-than-64}"
    assert attempt(cloud, *login(NAME, cloud.device_secret(*NAME), more=more)) == 0


def test_a_second_connection_ends_the_first(cloud: EnosCloud) -> None:
    """One at a time; the device stays online."""
    with online(cloud) as old, online(cloud) as new:
        assert old.ended()
        assert new.code(POST, {"measurepoints": {"t": 1}}) == 200
        assert shown(cloud)["status"] == "online"
        assert not [event for event in cloud.events if event["kind"] == "offline"]


def client_id(own: str = DK, mode: str = "2", method: str = "sha256", time: str = T) -> str:
    return f"{own}|securemode={mode},signmethod={method},timestamp={time}|"


@pytest.mark.parametrize(
    ("client", "username", "reason", "code", "connack"),
    [
        (DK, f"{DK}&{PK}", "client-id-malformed", 460, IDENTIFIER_REJECTED),
        (client_id(own=""), f"{DK}&{PK}", "client-id-malformed", 460, IDENTIFIER_REJECTED),
        (client_id(own="x" * 65), f"{DK}&{PK}", "client-id-malformed", 460, IDENTIFIER_REJECTED),
        (client_id() + "x", f"{DK}&{PK}", "client-id-malformed", 460, IDENTIFIER_REJECTED),
        (f"{DK}|securemode=2|", f"{DK}&{PK}", "client-id-malformed", 460, IDENTIFIER_REJECTED),
        (client_id(time=""), f"{DK}&{PK}", "client-id-malformed", 460, IDENTIFIER_REJECTED),
        (client_id(), DK, "username-malformed", 460, BAD_USERNAME_OR_PASSWORD),
        (client_id(), f"{PK}&{DK}", "product-unknown", 705, BAD_USERNAME_OR_PASSWORD),
        (client_id(), f"nobody&{PK}", "device-unknown", 705, BAD_USERNAME_OR_PASSWORD),
        (client_id(mode="4"), f"{DK}&{PK}", "secure-mode-unknown", 460, IDENTIFIER_REJECTED),
        (client_id(method="crc"), f"{DK}&{PK}", "sign-method-unknown", 742, IDENTIFIER_REJECTED),
        (client_id(), f"{DK}&{PK}", "signature-wrong", 742, BAD_USERNAME_OR_PASSWORD),
        (client_id(mode="3"), f"{DK}&{PK}", "signature-wrong", 742, BAD_USERNAME_OR_PASSWORD),
    ],
)
def test_a_wrong_login_is_refused(
    cloud: EnosCloud, client: str, username: str, reason: str, code: int, connack: int
) -> None:
    """The log says why, with EnOS's code; the device sees a CONNACK."""
    assert attempt(cloud, client, username, "0" * 64) == connack
    event = refused(cloud)
    assert (event["reason"], event["code"], event["connack"]) == (reason, code, connack)
    assert shown(cloud)["status"] == "inactive"


def test_the_device_log_keeps_the_code(cloud: EnosCloud) -> None:
    """Also of a device that there is not."""
    attempt(cloud, client_id(), f"{DK}&{PK}", "0" * 64)
    attempt(cloud, client_id(), f"nobody&{PK}", "0" * 64)
    (entry,) = cloud.device_log(PK, DK)
    assert (entry["what"], entry["code"]) == ("login", 742)
    assert [e["code"] for e in cloud.device_log(PK, "nobody")] == [705]


def test_who_may_not_log_in_though_its_signature_is_right(cloud: EnosCloud) -> None:
    """723 disabled, 719 a mirror, 741 a sub-device."""
    secret = cloud.device_secret(*NAME)
    cloud.set_enabled(*NAME, False)
    assert attempt(cloud, *login(NAME, secret)) == NOT_AUTHORIZED
    assert refused(cloud)["code"] == 723
    cloud.set_enabled(*NAME, True)
    cloud.set_mirror(*NAME)
    assert attempt(cloud, *login(NAME, secret)) == NOT_AUTHORIZED
    assert refused(cloud)["code"] == 719
    cloud.set_mirror(*NAME, False)
    cloud.bind(GATEWAY_NAME, NAME)
    assert attempt(cloud, *login(NAME, secret)) == NOT_AUTHORIZED
    assert refused(cloud)["code"] == 741
    assert [e["code"] for e in cloud.device_log(*NAME)] == [723, 719, 741]


@pytest.mark.parametrize(("keepalive_s", "code"), [(29, 2), (30, 0), (300, 0), (301, 2), (0, 2)])
def test_keepalive_has_a_range(cloud: EnosCloud, keepalive_s: int, code: int) -> None:
    """The documented one, widened to what the vendor's own C SDK does."""
    credentials = login(NAME, cloud.device_secret(*NAME))
    assert attempt(cloud, *credentials, keepalive_s=keepalive_s) == code


def test_codes_and_windows_can_be_changed(tmp_path: Path) -> None:
    """What is not documented is configuration."""
    inferred = Inferred(
        codes={"timestamp-outside": 999}, connack={"timestamp-outside": 5}, timestamp_window_s=60
    )
    config = replace(CONFIG, inferred=inferred)
    with EnosCloud(tmp_path / "enos", config) as cloud:
        assert attempt(cloud, *login(NAME, cloud.device_secret(*NAME))) == 5
        assert refused(cloud)["code"] == 999


# -- how often ------------------------------------------------------------------------------------


def test_connects_are_counted(tmp_path: Path, clock: Clock) -> None:
    """One a second; the fifth in two minutes blocks the device for five."""
    config = replace(CONFIG, limits=EnosLimits())
    with EnosCloud(tmp_path / "enos", config, clock=clock) as cloud:
        credentials = login(NAME, cloud.device_secret(*NAME))
        assert attempt(cloud, *credentials) == 0
        clock.now += 0.9
        assert attempt(cloud, *credentials) == SERVER_UNAVAILABLE
        assert (refused(cloud)["code"], refused(cloud)["reason"]) == (429, "too-frequent")
        for _ in range(2):
            clock.now += 1
            assert attempt(cloud, *credentials) == 0
        clock.now += 1
        assert attempt(cloud, *credentials) == SERVER_UNAVAILABLE, "the fifth of two minutes"
        clock.now += 299
        assert attempt(cloud, *credentials) == SERVER_UNAVAILABLE, "still blocked"
        other = login((PK, "other"), cloud.device_secret(PK, "other"))
        assert attempt(cloud, *other) == 0, "another device is not"
        clock.now += 1
        assert attempt(cloud, *credentials) == 0


def test_connect_limits_are_configuration(tmp_path: Path, clock: Clock) -> None:
    """Their numbers are a vendor's page of one edition."""
    limits = EnosLimits(connects=ConnectLimits(apart_s=0, most=2, window_s=10, blocked_s=20))
    config = replace(CONFIG, limits=limits)
    with EnosCloud(tmp_path / "enos", config, clock=clock) as cloud:
        credentials = login(NAME, cloud.device_secret(*NAME))
        assert [attempt(cloud, *credentials) for _ in range(3)] == [0, 0, SERVER_UNAVAILABLE]
        clock.now += 20
        assert attempt(cloud, *credentials) == 0


# -- activation -----------------------------------------------------------------------------------


def activate(cloud: EnosCloud) -> tuple[int, dict[str, Any] | None]:
    """(CONNACK, what was pushed), with the device's reply."""
    with EnosClient(cloud, NAME) as client:
        code = client.login(PS, mode="3")
        if code:
            return code, None
        topic, document = client.json()
        assert topic == client.topic("thing/activate/info")
        client.answer(topic, document["id"])
        cloud.event_log.wait("command-reply", timeout_s=WAIT_S, id=document["id"], code=200)
        return code, document


def test_a_device_activates_and_logs_in_with_its_secret(cloud: EnosCloud) -> None:
    """Pushed without a subscription; the log has no more than a fingerprint."""
    _, document = activate(cloud)
    assert document is not None
    assert (document["method"], document["version"]) == ("thing.activate.info", "1.0")
    params = document["params"]
    assert set(params) == {"assetId", "productKey", "deviceKey", "deviceSecret"}
    assert (params["productKey"], params["deviceKey"]) == NAME
    assert shown(cloud)["activated"] is False
    with EnosClient(cloud, NAME) as client:
        assert client.login(params["deviceSecret"]) == 0
    assert shown(cloud)["activated"] is True and shown(cloud)["activations"] == 1
    assert params["deviceSecret"] not in (cloud.folder / "events.jsonl").read_text()


def test_it_may_be_repeated_until_the_first_login(cloud: EnosCloud) -> None:
    """771 afterwards, until the console resets it; 770 where the product does not allow it."""
    first, second = activate(cloud)[1], activate(cloud)[1]
    assert first and second and first["params"] == second["params"]
    with online(cloud):
        pass
    assert activate(cloud) == (NOT_AUTHORIZED, None)
    assert refused(cloud)["code"] == 771
    cloud.reset_activation(*NAME)
    assert activate(cloud)[0] == 0
    cloud.set_dynamic_activation(PK, False)
    assert activate(cloud) == (NOT_AUTHORIZED, None)
    assert refused(cloud)["code"] == 770


def test_an_activation_may_count_when_it_was_pushed(tmp_path: Path) -> None:
    """Which of the two the real one does is not documented."""
    config = replace(CONFIG, inferred=Inferred(activated_by="answer"))
    with EnosCloud(tmp_path / "enos", config) as cloud:
        assert [activate(cloud)[0] for _ in range(2)] == [0, NOT_AUTHORIZED]


def test_an_activating_connection_is_for_nothing_else(cloud: EnosCloud) -> None:
    """It does not make the device online, and its reports are not heard."""
    with EnosClient(cloud, NAME) as client:
        assert client.login(PS, mode="3") == 0
        client.json()
        client.publish(client.topic(POST), b'{"id":"1","params":{"measurepoints":{"t":1}}}')
        event = cloud.event_log.wait("publish-refused", timeout_s=WAIT_S)
        assert event["reason"] == "activation-connection"
        assert shown(cloud)["online"] is False


@pytest.mark.parametrize("fault", ["drop_before_push", "drop_after_push", "cut_push"])
def test_a_lost_activation_can_be_repeated(cloud: EnosCloud, fault: str) -> None:
    """The connection goes; the next one brings the secret."""
    setattr(cloud.faults, fault, 1)
    with EnosClient(cloud, NAME) as client:
        client.login(PS, mode="3")
        while client.read(100):
            pass
    assert activate(cloud)[0] == 0


def test_a_garbled_activation(cloud: EnosCloud) -> None:
    """Not JSON; or another device's."""
    cloud.faults.garbage_push = 1
    with EnosClient(cloud, NAME) as client:
        client.login(PS, mode="3")
        with pytest.raises(ValueError):
            json.loads(client.message()[1])
    cloud.faults.other_device = 1
    _, document = activate(cloud)
    assert document and document["params"]["deviceKey"] == DK + "0"


# -- reports --------------------------------------------------------------------------------------


def test_measurepoints_events_attributes_and_tags(cloud: EnosCloud) -> None:
    """All that a device says of itself."""
    with online(cloud) as client:
        assert client.code(POST, {"measurepoints": {"t": 1, "p": {"value": 2, "quality": 9}}}) == (
            200
        )
        resume = {"measurepoints": {"t": 0, "u": 3}, "time": 1000}
        assert client.code("thing/measurepoint/resume", resume) == 200
        assert client.code("thing/event/hot/post", {"events": {"t": 99}, "time": 5}) == 200
        assert client.code("thing/attribute/update", {"attributes": {"a": 1, "b": 2}}) == 200
        assert client.code("thing/attribute/delete", {"attributes": ["b"]}) == 200
        assert client.ask("thing/attribute/query", {"attributes": []})["data"] == {"a": 1}
        tags = [{"tagKey": "site", "tagValue": "north"}, {"tagKey": "row", "tagValue": "7"}]
        assert client.code("thing/tag/update", tags) == 200
        assert client.code("thing/tag/delete", {"tags": ["row"]}) == 200
        assert client.ask("thing/tag/query", {"tags": ["site", "row"]})["data"] == {
            "site": "north"
        }
    found = shown(cloud)
    assert {n: p["value"] for n, p in found["measurepoints"].items()} == {"t": 1, "p": 2, "u": 3}
    assert found["measurepoints"]["p"]["quality"] == 9
    assert found["events"] == [{"id": "hot", "fields": {"t": 99}, "time": 5}]
    assert (found["attributes"], found["tags"]) == ({"a": 1}, {"site": "north"})
    event = cloud.event_log.wait("report", timeout_s=WAIT_S)
    assert (event["topic"], event["device_key"], event["code"]) == (POST, DK, 200)


def test_a_batch_of_its_own(cloud: EnosCloud) -> None:
    """Without keys, or with its own; all or nothing; invalid points may be skipped."""
    with online(cloud) as client:
        tail = "thing/measurepoint/post/batch"
        good = [
            {"measurepoints": {"t": 1}, "time": 1},
            {"productKey": PK, "deviceKey": DK, "measurepoints": {"u": 2}},
        ]
        assert client.code(tail, good) == 200
        bad = [{"measurepoints": {"t": 5}}, {"measurepoints": {"u": None, "v": 6}}]
        assert client.code(tail, bad) == 1220
        assert shown(cloud)["measurepoints"]["t"]["value"] == 1
        assert client.code(tail, bad, skipInvalidMeasurepoints=True) == 200
        assert client.code(tail, good, skipInvalidMeasurepoints="yes") == 1220
        assert client.code(tail, []) == 1220
        late = "thing/measurepoint/resume/batch"
        assert client.code(late, [{"measurepoints": {"t": 7, "w": 8}, "time": 2}]) == 200
    found = {name: p["value"] for name, p in shown(cloud)["measurepoints"].items()}
    assert found == {"t": 5, "u": 2, "v": 6, "w": 8}


@pytest.mark.parametrize(
    ("tail", "params"),
    [
        (POST, {}), (POST, []), (POST, {"measurepoints": {"": 1}}), (POST, None),
        (POST, {"measurepoints": {"t": {"value": 1, "quality": 10}}}),
        ("thing/measurepoint/post/batch", {}), ("thing/measurepoint/post/batch", [1]),
        ("thing/measurepoint/post/batch", [{"productKey": 1, "measurepoints": {"t": 1}}]),
        ("thing/event/e/post", {"events": 1}), ("thing/attribute/update", {"attributes": []}),
        ("thing/tag/update", {}), ("thing/tag/update", [{"tagKey": "a"}]),
        ("thing/tag/update", [{"tagKey": "a" * 51, "tagValue": "b"}]),
        ("thing/tag/update", [{"tagKey": "a", "tagValue": "b" * 201}]),
        ("thing/tag/update", [{"tagKey": str(n), "tagValue": "b"} for n in range(101)]),
        ("thing/tag/query", {"tags": [1]}), ("thing/tag/delete", {}),
    ],
)  # fmt: skip
def test_params_of_a_wrong_shape_get_1220(cloud: EnosCloud, tail: str, params: Any) -> None:
    """And nothing of them is kept."""
    with online(cloud) as client:
        assert client.code(tail, params) == 1220
    assert (shown(cloud)["measurepoints"], shown(cloud)["tags"]) == ({}, {})


@pytest.mark.parametrize("payload", [b"", b"[1]", b"{", b'{"id":1,"params":{}}', b'{"id":"1"}'])
def test_what_is_no_envelope_gets_1200(cloud: EnosCloud, payload: bytes) -> None:
    """With no id, since none can be read."""
    with online(cloud) as client:
        reply = client.say(client.topic(POST), payload)
        assert (reply["id"], reply["code"]) == ("", 1200)


def test_a_disabled_device_is_told_and_put_out(cloud: EnosCloud) -> None:
    """thing/disable, then the connection ends; thing/delete alike."""
    with online(cloud) as client:
        cloud.set_enabled(*NAME, False)
        topic, document = client.json()
        assert (topic, document["params"]) == (client.topic("thing/disable"), {})
        assert client.ended()
    cloud.set_enabled(*NAME, True)
    with online(cloud) as client:
        cloud.delete_device(*NAME)
        assert client.json()[0] == client.topic("thing/delete")
        assert client.ended()
    assert DK not in {d["device_key"] for d in cloud.devices()}


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("/sys/x", "topic-unknown"), ("elsewhere", "topic-unknown"),
        (f"/sys/{PK}/{DK}/thing/nothing", "topic-unknown"),
        (f"/ext/session/{PK}/{DK}/combine/nothing", "topic-unknown"),
        (f"/ext/session/{PK}/other/combine/login", "other-device"),
    ],
)  # fmt: skip
def test_other_topics_are_not_heard(cloud: EnosCloud, topic: str, reason: str) -> None:
    """Nor answered; the connection goes on."""
    with online(cloud) as client:
        client.publish(topic, b'{"id":"1","params":{}}')
        event = cloud.event_log.wait("publish-refused", timeout_s=WAIT_S)
        assert event["reason"] == reason
        assert client.code(POST, {"measurepoints": {"t": 1}}) == 200


def test_a_device_may_subscribe_to_its_own_topics_alone(cloud: EnosCloud) -> None:
    """With wildcards below them; never QoS 2."""
    with online(cloud) as client:
        wanted = (
            f"/sys/{PK}/{DK}/#", f"/sys/{PK}/{DK}/thing/+/x", f"/sys/{PK}/other/#",
            f"/sys/{PK}/+/thing/x", "/sys/#", "#", f"/ext/session/{PK}/{DK}/#",
        )  # fmt: skip
        assert client.subscribe(*wanted, qos=2) == bytes([1, 1, 0x80, 0x80, 0x80, 0x80, 1])


def test_a_reply_goes_to_who_has_subscribed(cloud: EnosCloud) -> None:
    """The event says that it was dropped."""
    with online(cloud) as client:
        client.publish(client.topic(POST), b'{"id":"1","params":{"measurepoints":{"t":1}}}')
        event = cloud.event_log.wait("reply-dropped", timeout_s=WAIT_S)
        assert event["topic"] == client.topic(POST) + "_reply"


def test_a_message_has_a_size(tmp_path: Path) -> None:
    """512 KB, or what is configured: beyond it a message is not heard, far beyond the connection
    ends."""
    config = replace(CONFIG, limits=replace(UNLIMITED, message_max=1000))
    with EnosCloud(tmp_path / "enos", config) as cloud, online(cloud) as client:
        client.publish(client.topic(POST), b" " * 1001)
        event = cloud.event_log.wait("publish-refused", timeout_s=WAIT_S)
        assert event["reason"] == "message-too-big"
        client.publish(client.topic(POST), b" " * 10_000)
        assert client.ended()


# -- commands -------------------------------------------------------------------------------------


def test_a_command_is_sent_and_answered(cloud: EnosCloud) -> None:
    """Unasked, to a device that has not subscribed; the reply ends it."""
    with online(cloud) as client:
        command_id = cloud.set_measurepoints(*NAME, {"relay": 1})
        assert cloud.event_log.wait("command", timeout_s=WAIT_S)["fate"] == "sent"
        topic, document = client.json()
        assert topic == client.topic(SET)
        assert document == {
            "id": command_id, "version": "1.0", "method": "thing.service.measurepoint.set",
            "params": {"relay": 1},
        }  # fmt: skip
        client.answer(topic, command_id)
        reply = cloud.event_log.wait("command-reply", timeout_s=WAIT_S, id=command_id)
        assert (reply["code"], reply["known"], reply["topic"]) == (200, True, SET)
        assert shown(cloud)["commands"] == []

        command_id = cloud.invoke(*NAME, "reboot", {"delay": 5})
        topic, document = client.json()
        assert (topic, document["method"]) == (
            client.topic("thing/service/reboot"), "thing.service.reboot",
        )  # fmt: skip
        client.answer(topic, command_id, {"done": True}, code=2000)
        reply = cloud.event_log.wait("command-reply", timeout_s=WAIT_S, id=command_id)
        assert (reply["code"], reply["data"]) == (2000, {"done": True})


def test_a_command_waits_for_its_device(cloud: EnosCloud) -> None:
    """And comes again at the next login, if it was not answered."""
    command_id = cloud.command(*NAME, "thing/service/measurepoint/get", ["t"])
    assert cloud.event_log.wait("command", timeout_s=WAIT_S)["fate"] == "queued"
    for _ in range(2):
        with online(cloud) as client:
            topic, document = client.json()
            assert (document["id"], document["params"]) == (command_id, ["t"])
    with online(cloud) as client:
        client.json()
        client.answer(topic, command_id, {"t": 1})
        cloud.event_log.wait("command-reply", timeout_s=WAIT_S, id=command_id, known=True)
    with online(cloud) as client:
        assert client.code(POST, {"measurepoints": {"t": 1}}) == 200


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"id":"9","code":"200 "}'])
def test_a_reply_that_cannot_be_read_is_logged(cloud: EnosCloud, payload: bytes) -> None:
    """And the connection goes on."""
    with online(cloud) as client:
        client.publish(client.topic(SET) + "_reply", payload)
        assert cloud.event_log.wait("command-reply", timeout_s=WAIT_S)["code"] is None
        assert client.code(POST, {"measurepoints": {"t": 1}}) == 200


# -- faults ---------------------------------------------------------------------------------------


def test_faults_of_replies(cloud: EnosCloud) -> None:
    """Another id, half of it, none at all; and then it is well again."""
    with online(cloud) as client:
        params = {"measurepoints": {"t": 1}}
        assert client.code(POST, params) == 200
        request = json.dumps({"id": "7", "params": params}).encode()
        cloud.faults.other_id = 1
        client.publish(client.topic(POST), request)
        assert client.json()[1]["id"] == "70"
        cloud.faults.half_reply = 1
        client.publish(client.topic(POST), request)
        with pytest.raises(ValueError):
            json.loads(client.message()[1])
        cloud.faults.no_reply = 1
        client.publish(client.topic(POST), request)
        cloud.event_log.wait("fault", timeout_s=WAIT_S, name="no_reply")
        assert client.code(POST, params) == 200


def test_connections_can_be_lost(cloud: EnosCloud) -> None:
    """One of them, or all, with what was kept for them."""
    with online(cloud) as client, online(cloud, GATEWAY_NAME) as gateway:
        assert cloud.drop(*NAME)
        assert client.ended()
        cloud.event_log.wait("offline", timeout_s=WAIT_S, device_key=DK)
        assert not cloud.drop(*NAME)
        cloud.drop_all()
        assert gateway.ended()


def test_the_cloud_comes_back_at_the_same_ports(tmp_path: Path) -> None:
    """With all that it knew."""
    cloud = EnosCloud(tmp_path / "enos", CONFIG)
    with cloud:
        before = [(e.host, e.port, e.target) for e in cloud.endpoints]
        assert endpoints.load(cloud.folder) == cloud.state
        cloud.bind(GATEWAY_NAME, (PK, "other"))
        with online(cloud) as client:
            client.code("thing/tag/update", [{"tagKey": "a", "tagValue": "b"}])
    with cloud:
        assert [(e.host, e.port, e.target) for e in cloud.endpoints] == before
        assert shown(cloud)["tags"] == {"a": "b"}
        assert shown(cloud, (PK, "other"))["gateway"] == list(GATEWAY_NAME)
        with online(cloud) as client:
            assert client.code(POST, {"measurepoints": {"t": 1}}) == 200


def test_the_formula_of_the_tests_is_the_documented_one() -> None:
    """Against the vendor's SDK's own number."""
    found = sign(
        "M3yy874uGY8INjEGddTR", clientId="123456", deviceKey=DK, productKey=PK, timestamp=T
    )
    assert found.lower() == "a3c438ddcb6eaa0cf07ad1c36655245ccdd67aa1917e4cc4eff57bf6f464abff"
