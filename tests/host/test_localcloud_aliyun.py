"""The local Aliyun: who gets in, who is refused and with which code, and what the console sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imprint_tools import endpoints
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.aliyun.cloud import AliyunCloud, AliyunConfig, ProductConfig
from imprint_tools.secret import Secret
from rawmqtt import HOST, RawClient, login, registration, token_login

PK, DN = "a1B2c3D4e5F", "press-07"
SECRET = "h1nQFYPZS0mW2352"  # noqa: S105 - the example of the vendor's documents
PRODUCT = ProductConfig(PK, Secret(SECRET))
SYS = f"/sys/{PK}/{DN}/"
POST = SYS + "thing/event/property/post"
WAIT_S = 10.0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AliyunCloud]:
    with AliyunCloud(tmp_path / "aliyun", AliyunConfig(products=(PRODUCT,))) as running:
        yield running


def register(cloud: AliyunCloud, auth: str = "regnwl", dn: str = DN) -> dict[str, Any]:
    """Register and return what was pushed."""
    with RawClient(cloud) as client:
        assert client.connect(*registration(SECRET, PK, dn, auth=auth)) == 0
        topic, push = client.json()
        assert topic == f"/ext/{auth}"
        return push


def code(cloud: AliyunCloud, credentials: tuple[str, str, str], **options: Any) -> int:
    """The CONNACK's code; the connection is left at once."""
    with RawClient(cloud) as client:
        return client.connect(*credentials, **options)


def refused(cloud: AliyunCloud, reason: str, credentials: tuple[str, str, str]) -> int:
    """The CONNACK's code of a refusal for that reason."""
    mark = cloud.event_log.mark()
    got = code(cloud, credentials)
    event = cloud.event_log.wait("refused", timeout_s=WAIT_S, after=mark)
    assert (event["reason"], event["code"]) == (reason, got)
    return got


def online(cloud: AliyunCloud, *, more: str = "", **options: Any) -> RawClient:
    """A device that has logged in with a burned-in secret."""
    secret = cloud.create_device(PK, DN).reveal().decode()
    client = RawClient(cloud)
    assert client.connect(*login(secret, PK, DN, more=more), **options) == 0
    return client


def device(cloud: AliyunCloud, dn: str = DN) -> dict[str, Any]:
    return next(d for d in cloud.devices() if d["device_name"] == dn)


# -- registration --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hmacmd5", "hmacsha1", "hmacsha256"])
@pytest.mark.parametrize("mode", ["2", "-2"])
def test_an_unlisted_device_registers_and_logs_in_with_its_token(
    cloud: AliyunCloud, method: str, mode: str
) -> None:
    """regnwl: every sign method, both secure modes; the push comes without a SUBSCRIBE."""
    with RawClient(cloud) as client:
        assert client.connect(*registration(SECRET, PK, DN, method=method, mode=mode)) == 0
        topic, push = client.json()
    assert topic == "/ext/regnwl"
    assert set(push) == {"clientId", "productKey", "deviceName", "deviceToken"}
    assert (push["productKey"], push["deviceName"]) == (PK, DN)
    assert device(cloud) | {"registered": True, "activated": False, "client_ids": 1} == device(
        cloud
    )
    assert code(cloud, token_login(push)) == 0
    assert device(cloud)["activated"] is True


def test_a_registration_ignores_keepalive(cloud: AliyunCloud) -> None:
    """It is not checked while registering (132111)."""
    assert code(cloud, registration(SECRET, PK, DN), keepalive_s=0) == 0


@pytest.mark.parametrize("qos", [0, 1])
def test_the_push_may_be_of_either_qos(tmp_path: Path, qos: int) -> None:
    """The vendor does not say which, so a device must take both."""
    config = AliyunConfig(products=(PRODUCT,), push_qos=qos)
    with AliyunCloud(tmp_path / "aliyun", config) as cloud, RawClient(cloud) as client:
        assert client.connect(*registration(SECRET, PK, DN)) == 0
        assert bool(client.message()[2]) is bool(qos)


def test_a_registration_is_closed_when_its_time_is_over(tmp_path: Path) -> None:
    """15 s after the push on the real one; less here."""
    config = AliyunConfig(products=(PRODUCT,), registration_close_s=0.1)
    with AliyunCloud(tmp_path / "aliyun", config) as cloud, RawClient(cloud) as client:
        assert client.connect(*registration(SECRET, PK, DN)) == 0
        client.json()
        assert client.ended()
        end = cloud.event_log.wait("close", timeout_s=WAIT_S)
        assert end["reason"] == "registration is over"
    assert AliyunConfig().registration_close_s == 15.0


def test_five_units_may_share_a_name_and_no_more(cloud: AliyunCloud) -> None:
    """Each with its own clientId; the sixth is refused until the console wipes them."""
    pushes = [register(cloud) for _ in range(5)]
    assert len({p["clientId"] for p in pushes}) == len({p["deviceToken"] for p in pushes}) == 5
    assert refused(cloud, "client-ids-exhausted", registration(SECRET, PK, DN)) == 4
    assert all(code(cloud, token_login(push)) == 0 for push in pushes)
    cloud.delete_client_ids(PK, DN)
    assert refused(cloud, "client-id-unknown", token_login(pushes[0])) == 5
    assert register(cloud)["clientId"]
    assert (device(cloud)["registrations"], device(cloud)["client_ids"]) == (6, 1)


def test_a_listed_device_registers_until_it_has_logged_in(cloud: AliyunCloud) -> None:
    """register: each time a new secret, the last one counts; activated means refused."""
    cloud.create_device(PK, DN)
    first, second = register(cloud, "register"), register(cloud, "register")
    assert set(second) == {"deviceSecret", "productKey", "deviceName"}
    assert first["deviceSecret"] != second["deviceSecret"]
    assert refused(cloud, "signature-wrong", login(first["deviceSecret"], PK, DN)) == 4
    assert device(cloud)["activated"] is False
    assert code(cloud, login(second["deviceSecret"], PK, DN)) == 0
    again = registration(SECRET, PK, DN, auth="register")
    assert refused(cloud, "already-activated", again) == 4
    cloud.reset_thing(PK, DN)
    third = register(cloud, "register")
    assert code(cloud, login(third["deviceSecret"], PK, DN)) == 0
    assert device(cloud)["registrations"] == 3


def test_register_wants_a_name_that_was_announced(cloud: AliyunCloud) -> None:
    """Unlike regnwl."""
    assert refused(cloud, "device-unknown", registration(SECRET, PK, DN, auth="register")) == 4


def test_the_switch_stops_registration_and_nothing_else(cloud: AliyunCloud) -> None:
    """Devices that hold a credential go on."""
    push = register(cloud)
    cloud.set_dynamic_registration(PK, False)
    assert refused(cloud, "registration-off", registration(SECRET, PK, "press-08")) == 4
    assert code(cloud, token_login(push)) == 0
    cloud.set_dynamic_registration(PK, True)
    register(cloud, dn="press-08")


@pytest.mark.parametrize(
    ("credentials", "reason", "expected"),
    [
        (registration("wrong", PK, DN), "signature-wrong", 4),
        (registration(SECRET, "a1unknown00", DN), "product-unknown", 4),
        (registration(SECRET, PK, "abc"), "device-name-invalid", 2),
        (registration(SECRET, PK, "x" * 33), "device-name-invalid", 2),
        (registration(SECRET, PK, DN, mode="3"), "secure-mode-wrong", 2),
        (("c", f"{DN}&{PK}", "p"), "client-id-malformed", 2),
        (("c|authType=x|", f"{DN}&{PK}", "p"), "auth-type-unknown", 2),
        (("c|authType=regnwl,securemode=2|", f"{DN}&{PK}", "p"), "parameter-missing", 2),
        (("c|securemode=2|", "nobody", "p"), "username-malformed", 4),
        (("", "", ""), "client-id-malformed", 2),
    ],
)
def test_a_refused_registration_gets_the_platforms_code(
    cloud: AliyunCloud, credentials: tuple[str, str, str], reason: str, expected: int
) -> None:
    """2: a parameter missing or malformed; 4: not authenticated."""
    assert refused(cloud, reason, credentials) == expected
    assert cloud.devices() == []


def test_a_code_that_the_documents_do_not_give_can_be_set(tmp_path: Path) -> None:
    """So that a device is tested against whatever the real platform answers."""
    config = AliyunConfig(products=(PRODUCT,), refusals={"device-unknown": 5})
    with AliyunCloud(tmp_path / "aliyun", config) as cloud:
        assert code(cloud, registration(SECRET, PK, DN, auth="register")) == 5


def test_registration_wants_tls(cloud: AliyunCloud) -> None:
    """Plain TCP on 1883 gets CONNACK 2, TLS on the same port gets in."""
    with RawClient(cloud, port=1883, tls=False) as client:
        assert client.connect(*registration(SECRET, PK, DN)) == 2
    with RawClient(cloud, port=1883) as client:
        assert client.connect(*registration(SECRET, PK, DN)) == 0
    with RawClient(cloud, port=443) as client:
        assert client.connect(*registration(SECRET, PK, DN)) == 0


def test_a_foreign_instance_is_refused(tmp_path: Path) -> None:
    """Where the cloud has an instance id, a clientId may not name another."""
    config = AliyunConfig(products=(PRODUCT,), instance_id="iot-060a0bgd")
    with AliyunCloud(tmp_path / "aliyun", config) as cloud:
        client_id, *rest = registration(SECRET, PK, DN)
        right = client_id[:-1] + ",instanceId=iot-060a0bgd|"
        wrong = client_id[:-1] + ",instanceId=iot-other|"
        assert code(cloud, (right, rest[0], rest[1])) == 0
        assert refused(cloud, "instance-wrong", (wrong, rest[0], rest[1])) == 4


@pytest.mark.parametrize("fault", ["drop_before_push", "drop_after_push", "cut_push"])
def test_a_lost_push_has_used_a_slot(cloud: AliyunCloud, fault: str) -> None:
    """The platform has granted it; the device may not know, and registers once more."""
    setattr(cloud.faults, fault, 1)
    with RawClient(cloud) as client:
        try:
            client.connect(*registration(SECRET, PK, DN))
            client.read(1000)
        except AssertionError:
            assert fault == "drop_before_push"
    assert device(cloud)["client_ids"] == 1
    register(cloud)
    assert device(cloud)["client_ids"] == 2


def test_a_garbled_push_is_no_json(cloud: AliyunCloud) -> None:
    """A whole MQTT packet with half a document in it."""
    cloud.faults.garbage_push = 1
    with RawClient(cloud) as client:
        assert client.connect(*registration(SECRET, PK, DN)) == 0
        with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
            client.json()


def test_a_registering_connection_may_do_nothing_else(cloud: AliyunCloud) -> None:
    """No telemetry and no subscription before a login."""
    with RawClient(cloud) as client:
        assert client.connect(*registration(SECRET, PK, DN)) == 0
        client.json()
        assert client.subscribe(SYS + "#") == b"\x80"
        client.publish(POST, b'{"id":"1","params":{"a":1}}')
        event = cloud.event_log.wait("publish-refused", timeout_s=WAIT_S)
        assert event["reason"] == "registration-connection"


# -- login ---------------------------------------------------------------------------------------


def test_a_burned_in_secret_logs_in(cloud: AliyunCloud) -> None:
    """The triple alone, without any registration."""
    secret = cloud.create_device(PK, DN).reveal().decode()
    assert code(cloud, login(secret, PK, DN)) == 0
    assert device(cloud)["activated"] is True
    assert device(cloud)["registered"] is False


@pytest.mark.parametrize(
    ("keepalive_s", "expected"), [(29, 2), (30, 0), (1200, 0), (1201, 2), (0, 2)]
)
def test_a_login_wants_a_keepalive_of_30_to_1200_seconds(
    cloud: AliyunCloud, keepalive_s: int, expected: int
) -> None:
    """Outside, the connection is refused (73742)."""
    secret = cloud.create_device(PK, DN).reveal().decode()
    assert code(cloud, login(secret, PK, DN), keepalive_s=keepalive_s) == expected


def test_a_wrong_token_or_secret_is_refused(cloud: AliyunCloud) -> None:
    """A clientId that was never issued gets another code than a token that does not fit."""
    push = register(cloud)
    assert refused(cloud, "token-wrong", token_login({**push, "deviceToken": "x"})) == 4
    assert refused(cloud, "client-id-unknown", token_login({**push, "clientId": "x"})) == 5
    assert refused(cloud, "signature-wrong", login("wrong", PK, DN)) == 4
    assert refused(cloud, "device-unknown", login("wrong", PK, "press-99")) == 4
    assert refused(cloud, "product-unknown", login("wrong", "a1unknown00", DN)) == 4
    assert refused(cloud, "secure-mode-wrong", login("wrong", PK, DN, mode="3")) == 2
    client_id, username, password = token_login(push)
    wrong_mode = (client_id.replace("=-2", "=2"), username, password)
    assert refused(cloud, "secure-mode-wrong", wrong_mode) == 2


def test_a_disabled_device_is_refused_and_its_requests_answered_with_6204(
    cloud: AliyunCloud,
) -> None:
    """Disabling does not cut a connection; the next login fails."""
    push = register(cloud)
    with RawClient(cloud) as client:
        assert client.connect(*token_login(push)) == 0
        client.subscribe(SYS + "#")
        cloud.set_enabled(PK, DN, False)
        client.publish(POST, b'{"id":"7","params":{"a":1}}')
        assert client.json()[1]["code"] == 6204
    assert refused(cloud, "device-disabled", token_login(push)) == 5
    assert refused(cloud, "device-disabled", registration(SECRET, PK, DN)) == 5
    cloud.set_enabled(PK, DN, True)
    assert code(cloud, token_login(push)) == 0
    assert device(cloud)["points"] == {}


def test_plain_tcp_is_off_unless_it_is_turned_on(tmp_path: Path) -> None:
    """With securemode 3 or, for a token, -2; registration never."""
    folder = tmp_path / "aliyun"
    with AliyunCloud(folder, AliyunConfig(products=(PRODUCT,))) as cloud:
        push, secret = register(cloud), cloud.device_secret(PK, DN).reveal().decode()
        with RawClient(cloud, port=1883, tls=False) as client:
            assert client.connect(*token_login(push)) == 2
    with AliyunCloud(folder, AliyunConfig(plain_tcp=True)) as cloud:
        for credentials, expected in (
            (token_login(push), 0),
            (login(secret, PK, DN, mode="3"), 0),
            (login(secret, PK, DN, mode="2"), 2),
            (registration(SECRET, PK, DN), 2),
        ):
            with RawClient(cloud, port=1883, tls=False) as client:
                assert client.connect(*credentials) == expected


# -- telemetry -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"id":"7","version":"1.0","params":{"a":1},"method":"thing.event.property.post"}', 200),
        ('{"id":"7","params":{"a":1}}', 200),
        ('{"id":"7","params":{"a":{"value":21.5,"time":1700000000000}}}', 200),
        ('{"id":"7","params":{"a":1},"sys":{"ack":1}}', 200),
        ('{"id":"7","params":{}}', 460),
        ('{"id":"7"}', 460),
        ('{"id":"7","params":[1]}', 460),
        ('{"id":"7","params":{"a":null}}', 460),
        ('{"id":"7","params":{"a":{"value":1,"time":99999999999999}}}', 460),
        ('{"id":"7","params":{"a":{"value":1,"time":"now"}}}', 460),
        ('{"id":"7","params":{"a":1},"method":"thing.event.other.post"}', 460),
        ('{"id":"7","params":{"a":1},"sys":1}', 460),
    ],
)
def test_a_property_post_gets_the_code_that_it_deserves(
    cloud: AliyunCloud, payload: str, expected: int
) -> None:
    """200 with its own id, 460 for what is wrong in it; a missing method is accepted."""
    with online(cloud) as client:
        client.subscribe(SYS + "thing/event/property/post_reply")
        client.publish(POST, payload.encode())
        topic, reply = client.json()
    assert topic == POST + "_reply"
    assert (reply["id"], reply["code"], reply["version"]) == ("7", expected, "1.0")
    assert bool(device(cloud)["points"]) is (expected == 200)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(b"", 6207), (b"{", 6207), (b"[]", 6207), (b"\xff", 6207), (b'{"a":NaN}', 6207),
     (b"[" * 100_000, 6207), (b'{"id":7,"params":{"a":1}}', 460),
     (b'{"id":"4294967296","params":{"a":1}}', 460)],
)  # fmt: skip
def test_a_payload_without_a_proper_id_gets_an_empty_one_back(
    cloud: AliyunCloud, payload: bytes, expected: int
) -> None:
    """6207 for what is no JSON object, 460 for an id that is none."""
    with online(cloud) as client:
        client.subscribe(SYS + "#")
        client.publish(POST, payload)
        reply = client.json()[1]
    assert (reply["id"], reply["code"]) == ("", expected)


def test_a_post_that_wants_no_reply_gets_none(cloud: AliyunCloud) -> None:
    """sys.ack 0; the point is there all the same."""
    with online(cloud) as client:
        client.subscribe(SYS + "#")
        client.publish(POST, b'{"id":"7","params":{"a":1},"sys":{"ack":0}}')
        client.send(b"\xc0\x00")
        assert client.packet() == (0xD0, b"")
    assert device(cloud)["points"]["a"]["value"] == 1


def test_a_reply_can_be_lost(cloud: AliyunCloud) -> None:
    """Acknowledged by MQTT and stored, yet not answered."""
    cloud.faults.no_reply = 1
    with online(cloud) as client:
        client.subscribe(SYS + "#")
        client.publish(POST, b'{"id":"7","params":{"a":1}}', packet_id=3)
        client.publish(POST, b'{"id":"8","params":{"a":1}}', packet_id=4)
        assert client.packet() == (0x40, b"\x00\x03")
        assert client.packet() == (0x40, b"\x00\x04")
        assert client.json()[1]["id"] == "8"


def test_ss_1_brings_system_topics_without_a_subscription(cloud: AliyunCloud) -> None:
    """As the vendor's C and Python SDKs rely on; user topics want a SUBSCRIBE."""
    with online(cloud, more=",_ss=1") as client:
        client.publish(POST, b'{"id":"7","params":{"a":1}}')
        assert client.json()[1]["code"] == 200
        assert cloud.publish_user(PK, DN, "get", b"x") == "dropped"
    with online(cloud) as client:
        client.publish(POST, b'{"id":"8","params":{"a":1}}')
        client.send(b"\xc0\x00")
        assert client.packet() == (0xD0, b"")


def test_an_event_and_device_information_are_answered(cloud: AliyunCloud) -> None:
    """The other requests that a device's SDK makes by itself."""
    with online(cloud, more=",_ss=1") as client:
        for name in ("thing/event/alarm/post", "thing/deviceinfo/update"):
            client.publish(SYS + name, b'{"id":"1","params":{"x":1}}')
            topic, reply = client.json()
            assert (topic, reply["code"]) == (SYS + name + "_reply", 200)


def test_a_property_set_reaches_the_device_and_its_reply_is_recorded(cloud: AliyunCloud) -> None:
    """One document for all properties; the reply has the same id."""
    with online(cloud) as client:
        client.subscribe(SYS + "thing/service/property/set")
        message_id, fate = cloud.set_properties(PK, DN, {"relay": 1, "level": 2})
        assert fate == "sent"
        topic, request = client.json()
        assert topic == SYS + "thing/service/property/set"
        assert request == {
            "id": message_id,
            "version": "1.0",
            "params": {"relay": 1, "level": 2},
            "method": "thing.service.property.set",
        }
        reply = {"id": message_id, "code": 200, "data": {}}
        client.publish(topic + "_reply", json.dumps(reply).encode())
        event = cloud.event_log.wait("set-reply", timeout_s=WAIT_S, id=message_id)
        assert event["code"] == 200
        client.publish(topic + "_reply", b"nonsense")
        cloud.event_log.wait("set-reply", timeout_s=WAIT_S, id=None)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        (f"/sys/{PK}/other/thing/event/property/post", "topic-not-allowed"),
        (f"/sys/other/{DN}/thing/event/property/post", "topic-not-allowed"),
        (f"/{PK}/{DN}/user/get", "topic-not-allowed"),
        (f"/{PK}/{DN}/user/unheard", "topic-not-allowed"),
        (f"/{PK}/{DN}/user/a/b/c/d/e", "topic-not-allowed"),
        ("/ext/regnwl", "topic-not-allowed"),
        (SYS + "x" * 128, "topic-not-allowed"),
    ],
)
def test_a_device_may_publish_to_its_own_topics_only(
    cloud: AliyunCloud, topic: str, reason: str
) -> None:
    """MQTT 3.1.1 has no refusal: acknowledged, dropped, and visible in the log alone."""
    with online(cloud) as client:
        client.publish(topic, b'{"id":"1","params":{"a":1}}', packet_id=5)
        assert client.packet() == (0x40, b"\x00\x05")
    event = cloud.event_log.wait("publish-refused", timeout_s=WAIT_S)
    assert event["reason"] == reason


def test_a_payload_beyond_256_kb_is_dropped(cloud: AliyunCloud) -> None:
    """It still fits a packet that is taken, so the connection lives."""
    with online(cloud) as client:
        client.publish(f"/{PK}/{DN}/user/update", bytes(256 * 1024 + 1), packet_id=5)
        assert client.packet() == (0x40, b"\x00\x05")
    event = cloud.event_log.wait("publish-refused", timeout_s=WAIT_S)
    assert event["reason"] == "payload-too-big"


@pytest.mark.parametrize(
    ("topic_filter", "granted"),
    [
        (SYS + "#", 1), (SYS + "thing/service/+", 1), (f"/{PK}/{DN}/user/get", 1),
        (f"/shadow/get/{PK}/{DN}", 1), (f"/ota/device/upgrade/{PK}/{DN}", 1),
        (f"/broadcast/{PK}/news", 1), (f"/ext/rrpc/+{SYS}thing/service/x", 1),
        (f"/ext/session/{PK}/{DN}/combine/login_reply", 1),
        ("#", 0x80), ("/sys/+/+/thing", 0x80), (f"/sys/{PK}/other/#", 0x80),
        (f"/{PK}/{DN}/user/update", 0x80), (f"/{PK}/{DN}/user/#", 0x80),
        ("/ext/rrpc/+/sys/a/b/thing/service/x", 0x80), (SYS + "a#", 0x80), (SYS + "x" * 128, 0x80),
    ],
)  # fmt: skip
def test_a_device_may_subscribe_to_its_own_topics_only(
    cloud: AliyunCloud, topic_filter: str, granted: int
) -> None:
    """Wildcards only after the device's own names; a SUBACK of 0x80 for the rest."""
    with online(cloud) as client:
        assert client.subscribe(topic_filter) == bytes([granted])


def test_subscriptions_are_limited(cloud: AliyunCloud) -> None:
    """A hundred a device; qos 2 is granted as 1."""
    with online(cloud) as client:
        for batch in range(10):
            filters = [f"{SYS}thing/{batch}/{number}" for number in range(10)]
            assert client.subscribe(*filters, qos=2) == b"\x01" * 10
        assert client.subscribe(SYS + "one/more") == b"\x80"
        assert client.subscribe(SYS + "thing/0/0") == b"\x01"


@pytest.mark.parametrize("packet_id", [0, 9])
def test_throttling_is_silent(tmp_path: Path, packet_id: int) -> None:
    """Beyond the rate a message is acknowledged by MQTT, dropped and not answered."""
    config = AliyunConfig(products=(PRODUCT,), uplinks_per_s=(0, 0))
    with AliyunCloud(tmp_path / "aliyun", config) as cloud:
        with online(cloud, more=",_ss=1") as client:
            client.publish(POST, b'{"id":"7","params":{"a":1}}', packet_id=packet_id)
            client.send(b"\xc0\x00")
            if packet_id:
                assert client.packet() == (0x40, bytes([0, packet_id]))
            assert client.packet() == (0xD0, b"")
        assert device(cloud)["points"] == {}
        assert [e["topic"] for e in cloud.events if e["kind"] == "throttled"] == [POST]


def test_the_rate_counts_each_qos_on_its_own(tmp_path: Path) -> None:
    """Two of QoS 1 pass where two may, and QoS 0 has its own count."""
    config = AliyunConfig(products=(PRODUCT,), uplinks_per_s=(0, 1000))
    with (
        AliyunCloud(tmp_path / "aliyun", config) as cloud,
        online(cloud, more=",_ss=1") as client,
    ):
        client.publish(POST, b'{"id":"1","params":{"a":1}}')
        client.publish(POST, b'{"id":"2","params":{"a":1}}', packet_id=1)
        assert client.packet() == (0x40, b"\x00\x01")
        assert client.json()[1]["id"] == "2"


# -- the console, and what lasts -----------------------------------------------------------------


def test_a_restart_remembers(tmp_path: Path) -> None:
    """Credentials, slots, activation, switches and the last points are in the folder."""
    folder = tmp_path / "aliyun"
    with AliyunCloud(folder, AliyunConfig(products=(PRODUCT,))) as cloud:
        push = register(cloud)
        with RawClient(cloud) as client:
            assert client.connect(*token_login(push)) == 0
            client.subscribe(SYS + "#")
            client.publish(POST, b'{"id":"7","params":{"a":1}}')
            client.json()
        cloud.set_dynamic_registration(PK, False)
        cloud.event_log.wait("close", timeout_s=WAIT_S, connection=2)
        before, root = device(cloud), cloud.ca_der
        assert before["online"] is False
    with AliyunCloud(folder) as cloud:
        assert device(cloud) == before
        assert cloud.ca_der == root
        assert code(cloud, token_login(push)) == 0
        assert code(cloud, registration(SECRET, PK, "press-08")) == 4


def test_a_credential_is_written_before_it_is_told(cloud: AliyunCloud) -> None:
    """A crash of the platform after the push loses no device."""
    push = register(cloud)
    known = json.loads((cloud.folder / "devices.json").read_text())
    clients = known["products"][0]["devices"][0]["clients"]
    assert [c["client_id"] for c in clients] == [push["clientId"]]


def test_a_damaged_data_base_is_named(tmp_path: Path) -> None:
    """And not overwritten."""
    folder = tmp_path / "aliyun"
    folder.mkdir()
    (folder / "devices.json").write_text('{"products": [1]}')
    with pytest.raises(BenchStateError, match=r"devices\.json is damaged"):
        AliyunCloud(folder).start()
    assert (folder / "devices.json").read_text() == '{"products": [1]}'


def test_one_folder_has_one_cloud(cloud: AliyunCloud) -> None:
    """A second one is refused while the first is up."""
    with pytest.raises(BenchStateError, match="is up already"):
        AliyunCloud(cloud.folder).start()


def test_the_console_says_what_it_does_not_know(cloud: AliyunCloud) -> None:
    """A named error with a next step: a device, a product, a name, a cloud that is down."""
    with pytest.raises(BenchStateError, match="device-unknown"):
        cloud.reset_thing(PK, "nobody")
    with pytest.raises(BenchStateError, match="product-unknown"):
        cloud.set_properties("a1unknown00", DN, {"a": 1})
    with pytest.raises(BenchStateError, match="'abc' is not a device name"):
        cloud.create_device(PK, "abc")
    cloud.stop()
    with pytest.raises(BenchStateError, match="not up"):
        cloud.create_product()
    assert cloud.devices() == []


def test_endpoints_are_the_vendors_names(cloud: AliyunCloud) -> None:
    """Both shapes of host name on all three ports, and in cloud.json as long as it is up."""
    names = {"*.iot-as-mqtt.cn-shanghai.aliyuncs.com", "*.mqtt.iothub.aliyuncs.com"}
    assert {(e.host, e.port) for e in cloud.endpoints} == {
        (name, port) for name in names for port in (8883, 1883, 443)
    }
    assert endpoints.load(cloud.folder) == cloud.state
    cloud.stop()
    with pytest.raises(BenchStateError, match="not up"):
        endpoints.load(cloud.folder)


def test_events_tell_a_connections_story(cloud: AliyunCloud) -> None:
    """Each event has a time, a connection and a kind, in memory as in the file."""
    register(cloud)
    cloud.event_log.wait("close", timeout_s=WAIT_S)
    story = [e for e in cloud.events if e["connection"] == 1]
    assert [e["kind"] for e in story] == [
        "accept", "open", "connect", "registered", "down", "close",
    ]  # fmt: skip
    assert story[1]["server_name"] == HOST
    assert story[1]["tls"] is True
    lines = (cloud.folder / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == cloud.events


def test_a_secret_is_in_the_data_base_and_nowhere_else(cloud: AliyunCloud) -> None:
    """Events, the console's list and reprs show fingerprints only."""
    push = register(cloud)
    assert code(cloud, token_login(push)) == 0
    code(cloud, registration("wrong", PK, DN))
    device_secret = cloud.device_secret(PK, DN).reveal().decode()
    cloud.stop()
    shown = json.dumps(cloud.events) + json.dumps(cloud.devices()) + repr(cloud.config)
    for path in cloud.folder.rglob("*"):
        if path.is_file() and path.name != "devices.json":
            shown += path.read_text()
    for secret in (SECRET, push["deviceToken"], device_secret):
        assert secret not in shown
    assert (cloud.folder / "devices.json").stat().st_mode & 0o777 == 0o600
