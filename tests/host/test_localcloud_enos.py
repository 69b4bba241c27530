"""The local EnOS: who gets in, who is refused and with which code, and what the console sees."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from enosdevice import (
    CBC_SHA256,
    CCM_8,
    GET,
    POST,
    PUT,
    URI_PATH,
    WAIT_S,
    EnosDevice,
    RefusedError,
    device,
    envelope,
)
from imprint_tools import endpoints
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.coap_codec import Kind, Message, dump
from imprint_tools.localcloud.enos.auth import PskIdentity, parse_identity, psk
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig, EnosProduct, Inferred
from imprint_tools.localcloud.enos.platform import EnosPlatform
from imprint_tools.localcloud.enos.registry import COMMANDS_MAX
from imprint_tools.localcloud.faults import FOREVER
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

PK, DK = "MuGsF6W4", "15bBZlRknc"
PRODUCT = EnosProduct(PK, Secret("PrOdSeCrEt01"), devices=(DK,))
CONFIG = EnosConfig(products=(PRODUCT,))
ACTIVATE = f"/topic/ext/session/{PK}/{DK}/thing/activate/info"
SYS = f"/topic/sys/{PK}/{DK}/"
POINTS = SYS + "thing/measurepoint/post"
PATH = tuple((URI_PATH, part.encode()) for part in POINTS.strip("/").split("/"))
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


def shown(cloud: EnosCloud, dk: str = DK) -> dict[str, Any]:
    return next(d for d in cloud.devices() if d["device_key"] == dk)


def online(cloud: EnosCloud, **options: Any) -> EnosDevice:
    """A device with a session in mode 2."""
    return device(cloud, PK, DK, **options).handshake()


def dotted(message: Message) -> str:
    return f"{message.code >> 5}.{message.code & 31:02d}"


def points(values: Any, **more: Any) -> bytes:
    return envelope({"measurepoints": values, **more})


def command_of(message: Message) -> str | None:
    topic = message.value(2100)
    return None if topic is None else topic.decode()


# -- identity and key -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("M3yy874uGY8INjEGddTR", "43e307fffce19a0176803de3445fe0e3"),
        ("abcdefg", "f5b79b5fb0803061152a44f92b37e23c"),
        ("u2kWIr9eQXcIpXF18X4R", "55ca0f1224140d8d9b7d238065ab2ff4"),
    ],
)
def test_the_key_of_a_secret(secret: str, key: str) -> None:
    """Bytes 9 to 24 of its SHA-256."""
    assert psk(Secret(secret)).reveal().hex() == key


def test_an_identity_has_four_parts() -> None:
    """The vendor's example."""
    assert parse_identity("MuGsF6W4,15bBZlRknc,2,3600") == PskIdentity(PK, DK, 2, 3600)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "identity-malformed"), (PK, "identity-malformed"), (",,,", "identity-malformed"),
        (f"{PK},{DK},2,3600,", "identity-malformed"), (f"{PK}, {DK},2,60", "identity-malformed"),
        (f"{PK},{'x' * 65},2,60", "identity-malformed"), (f"{PK},ä,2,60", "identity-malformed"),
        (f"{PK},{DK},1,60", "secure-mode-unknown"), (f"{PK},{DK},,60", "secure-mode-unknown"),
        (f"{PK},{DK},2,29", "lifetime-outside"), (f"{PK},{DK},2,86401", "lifetime-outside"),
        (f"{PK},{DK},2,-60", "lifetime-outside"), (f"{PK},{DK},2,", "lifetime-outside"),
        (f"{PK},{DK},2,٣٦٠٠", "lifetime-outside"), (f"{PK},{DK},2,6e1", "lifetime-outside"),
        (f"{PK},{DK},2,000060", "lifetime-outside"),
    ],
)  # fmt: skip
def test_other_identities_are_refused(text: str, reason: str) -> None:
    """Each with its reason."""
    with pytest.raises(Refusal) as caught:
        parse_identity(text)
    assert caught.value.reason == reason


# -- login ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [CCM_8, CBC_SHA256])
def test_a_device_is_online_by_its_handshake(cloud: EnosCloud, suite: str) -> None:
    """Inactive before, Online after, with either suite; and what it cost is known."""
    assert shown(cloud)["status"] == "inactive"
    with online(cloud, suites=(suite,)) as unit:
        assert shown(cloud)["status"] == "online"
        login = cloud.event_log.wait("login", timeout_s=WAIT_S)
        (session,) = cloud.sessions()
        assert session["address"] == unit.address
        assert (session["suite"], session["secure_mode"], session["lifetime_s"]) == (
            suite, 2, 3600,
        )  # fmt: skip
        assert session["handshake"] == login["handshake"] == {
            "up_datagrams": len(unit.sent), "up_bytes": sum(unit.sent),
            "down_datagrams": len(unit.received), "down_bytes": sum(unit.received),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (f"{PK},{DK},2,29", "lifetime-outside"),
        (f"{PK},{DK},4,3600", "secure-mode-unknown"),
        (f"{PK},nobody,2,3600", "device-unknown"),
        (f"nothing,{DK},2,3600", "product-unknown"),
        (f"{PK},{DK},3,3600", "wrong-key"),
        ("\u20ac", "identity-malformed"),
    ],
)
def test_a_wrong_identity_does_not_get_in(cloud: EnosCloud, identity: str, reason: str) -> None:
    """The event says why; the device is told that its handshake failed."""
    secret = cloud.device_secret(PK, DK)
    with pytest.raises(RefusedError):
        EnosDevice(cloud.port, identity, secret).handshake()
    event = cloud.event_log.wait("handshake-refused", timeout_s=WAIT_S)
    assert (event["identity"], event["reason"]) == (identity, reason)
    assert shown(cloud)["status"] == "inactive"


def test_a_disabled_device_does_not_get_in(cloud: EnosCloud) -> None:
    """Until it is enabled again."""
    cloud.set_enabled(PK, DK, False)
    with pytest.raises(RefusedError):
        online(cloud)
    cloud.set_enabled(PK, DK, True)
    online(cloud).sock.close()


def test_a_disabled_device_says_nothing_in_its_session_either(cloud: EnosCloud) -> None:
    """In a session that goes on it may say nothing while it is disabled, or once it is deleted."""
    with online(cloud) as unit:
        assert dotted(unit.request(POST, POINTS, points({"t": 1}))) == "2.04"
        cloud.set_enabled(PK, DK, False)
        assert dotted(unit.request(POST, POINTS, points({"t": 2}))) == "4.03"
        cloud.set_enabled(PK, DK, True)
        assert dotted(unit.request(POST, POINTS, points({"t": 3}))) == "2.04"
        cloud.delete_device(PK, DK)
        assert dotted(unit.request(POST, POINTS, points({"t": 4}))) == "4.03"


def test_a_second_session_of_a_device_ends_the_first(cloud: EnosCloud) -> None:
    """As after a rebound NAT; the device stays online, the old session gets no answer."""
    with online(cloud) as old, online(cloud) as new:
        assert dotted(new.request(POST, POINTS, points({"t": 1}))) == "2.04"
        ended = cloud.event_log.wait("session-end", timeout_s=WAIT_S)
        assert ended["reason"] == "another session of the device"
        old.send(b"\x40\x00\x00\x01")
        assert old.nothing_comes()
        assert shown(cloud)["online"] and len(cloud.sessions()) == 1
        assert not [event for event in cloud.events if event["kind"] == "offline"]


# -- lifetime -------------------------------------------------------------------------------------


def test_a_silent_device_is_offline_after_its_lifetime(cloud: EnosCloud, clock: Clock) -> None:
    """Each message begins it anew; what comes too late is answered 4.01."""
    with online(cloud, lifetime=30) as unit:
        for _ in range(3):
            clock.now += 29
            cloud.tick()
            assert dotted(unit.request(POST, POINTS, points({"t": 1}))) == "2.04"
        clock.now += 31
        cloud.tick()
        assert shown(cloud)["status"] == "offline"
        assert cloud.event_log.wait("offline", timeout_s=WAIT_S)["reason"] == "lifetime"
        assert dotted(unit.request(POST, POINTS, points({"t": 2}))) == "4.01"
        assert shown(cloud)["measurepoints"]["t"]["value"] == 1
    with online(cloud):
        assert shown(cloud)["status"] == "online"


def test_a_session_is_forgotten_at_last(cloud: EnosCloud, clock: Clock) -> None:
    """A lifetime and an hour after the last message: then there is silence."""
    with online(cloud, lifetime=30) as unit:
        clock.now += 30 + CONFIG.session_kept_s + 1
        cloud.tick()
        assert cloud.sessions() == []
        unit.send(b"\x40\x00\x00\x01")
        assert unit.nothing_comes()


def test_an_expired_session_may_be_met_with_silence(tmp_path: Path, clock: Clock) -> None:
    """Which of the two the real one does is not documented."""
    config = replace(CONFIG, inferred=Inferred(after_lifetime="silence"))
    with EnosCloud(tmp_path / "e", config, clock=clock) as cloud, online(cloud) as unit:
        clock.now += 3601
        cloud.tick()
        unit.send(b"\x40\x00\x00\x01")
        assert unit.nothing_comes()


# -- activation -----------------------------------------------------------------------------------


def activate(cloud: EnosCloud) -> Message:
    with device(cloud, PK, DK, mode=3).handshake() as unit:
        return unit.request(GET, ACTIVATE)


def test_a_device_activates_and_logs_in_with_its_secret(cloud: EnosCloud) -> None:
    """Mode 3 with the product's secret, then mode 2; the log has no more than a fingerprint."""
    answer = activate(cloud)
    assert dotted(answer) == "2.05"
    document = json.loads(answer.payload)
    assert document["method"] == "thing.activate.info"
    params = document["params"]
    assert set(params) == {"assetId", "productKey", "deviceKey", "deviceSecret"}
    assert (params["productKey"], params["deviceKey"]) == (PK, DK)
    with EnosDevice(cloud.port, f"{PK},{DK},2,3600", Secret(params["deviceSecret"])) as unit:
        unit.handshake()
        assert shown(cloud) | {"activated": True, "activations": 1} == shown(cloud)
    assert params["deviceSecret"] not in (cloud.folder / "events.jsonl").read_text()
    issued = cloud.event_log.wait("activated", timeout_s=WAIT_S)["issued"]
    assert issued == Secret(params["deviceSecret"]).fingerprint


def test_a_device_may_activate_until_it_has_logged_in(cloud: EnosCloud) -> None:
    """The answer may be lost, or the power before it is stored; afterwards the console decides."""
    first, second = activate(cloud), activate(cloud)
    assert json.loads(first.payload)["params"] == json.loads(second.payload)["params"]
    online(cloud).sock.close()
    assert dotted(activate(cloud)) == "4.03"
    refused = cloud.event_log.wait("refused", timeout_s=WAIT_S)
    assert (refused["reason"], refused["code"]) == ("already-activated", "4.03")
    cloud.reset_activation(PK, DK)
    assert dotted(activate(cloud)) == "2.05"


def test_activation_can_be_switched_off(cloud: EnosCloud) -> None:
    """The device gets a session, not its secret, and is not online by it."""
    cloud.set_dynamic_activation(PK, False)
    assert dotted(activate(cloud)) == "4.03"
    assert shown(cloud)["online"] is False
    cloud.set_dynamic_activation(PK, True)
    assert dotted(activate(cloud)) == "2.05"


def test_a_refused_activation_may_be_a_refused_handshake(tmp_path: Path) -> None:
    """Which of the two the real one does is not documented."""
    config = replace(CONFIG, inferred=Inferred(activation_refused_at="handshake"))
    with EnosCloud(tmp_path / "enos", config) as cloud:
        cloud.set_dynamic_activation(PK, False)
        with pytest.raises(RefusedError):
            activate(cloud)
        event = cloud.event_log.wait("handshake-refused", timeout_s=WAIT_S)
        assert event["reason"] == "activation-off"


def test_an_activation_may_count_when_it_was_answered(tmp_path: Path) -> None:
    """Which of the two the real one does is not documented."""
    config = replace(CONFIG, inferred=Inferred(activated_by="answer"))
    with EnosCloud(tmp_path / "enos", config) as cloud:
        assert [dotted(activate(cloud)) for _ in range(2)] == ["2.05", "4.03"]


def test_a_mode_is_for_what_it_is_for(cloud: EnosCloud) -> None:
    """No reports in mode 3, no activation in mode 2."""
    with device(cloud, PK, DK, mode=3).handshake() as unit:
        assert dotted(unit.request(POST, POINTS, points({"t": 1}))) == "4.03"
    with online(cloud) as unit:
        assert dotted(unit.request(GET, ACTIVATE)) == "4.03"


# -- reports --------------------------------------------------------------------------------------


def test_measurepoints_are_reported(cloud: EnosCloud) -> None:
    """Plain or with a quality, with a time or without; the reply is EnOS's."""
    with online(cloud) as unit:
        payload = points({"temp": 1.02, "p": {"value": 3, "quality": 9}}, time=1548753362502)
        answer = unit.request(POST, POINTS, payload)
        assert dotted(answer) == "2.04"
        assert json.loads(answer.payload) == {"id": "1", "code": 200, "message": "", "data": None}
        assert answer.options == ()
    assert shown(cloud)["measurepoints"] == {
        "temp": {"value": 1.02, "time": 1548753362502},
        "p": {"value": 3, "quality": 9, "time": 1548753362502},
    }
    event = cloud.event_log.wait("report", timeout_s=WAIT_S)
    assert (event["topic"], event["id"], event["code"]) == ("thing/measurepoint/post", "1", 200)


def test_late_measurepoints_do_not_replace_newer_ones(cloud: EnosCloud) -> None:
    """`resume` is for them."""
    with online(cloud) as unit:
        resume = SYS + "thing/measurepoint/resume"
        unit.request(POST, POINTS, points({"t": 2}, time=2000))
        unit.request(POST, resume, points({"t": 1, "u": 1}, time=1000))
        unit.request(POST, resume, points({"u": 3}, time=3000))
    found = {name: p["value"] for name, p in shown(cloud)["measurepoints"].items()}
    assert found == {"t": 2, "u": 3}


def test_events_and_attributes(cloud: EnosCloud) -> None:
    """Posted, updated, asked for and deleted, at the paths that the rule gives."""
    with online(cloud) as unit:
        path = SYS + "thing/event/overheat/post"
        assert dotted(unit.request(POST, path, envelope({"events": {"t": 99}, "time": 5}))) == (
            "2.04"
        )
        attribute = SYS + "thing/attribute/"
        unit.request(POST, attribute + "update", envelope({"attributes": {"a": 1, "b": 2}}))
        unit.request(POST, attribute + "delete", envelope({"attributes": ["b"]}))
        for names in ([], ["a", "b"]):
            asked = unit.request(POST, attribute + "query", envelope({"attributes": names}))
            assert json.loads(asked.payload)["data"] == {"a": 1}
    found = shown(cloud)
    assert found["events"] == [{"id": "overheat", "fields": {"t": 99}, "time": 5}]
    assert found["attributes"] == {"a": 1}


@pytest.mark.parametrize(
    ("method", "path", "payload", "code", "reason"),
    [
        (POST, POINTS, b"", "4.00", "payload-malformed"),
        (POST, POINTS, b'{"id":"1","params":{"measu', "4.00", "payload-malformed"),
        (POST, POINTS, b"[1]", "4.00", "payload-malformed"),
        (POST, POINTS, b'{"id":1,"params":{}}', "4.00", "payload-malformed"),
        (POST, POINTS, b'{"id":"1"}', "4.00", "payload-malformed"),
        (POST, POINTS, b'{"params":NaN}', "4.00", "payload-malformed"),
        (POST, POINTS, b"[" * 1000, "4.00", "payload-malformed"),
        (POST, f"/topic/sys/{PK}/other/thing/measurepoint/post", b"", "4.03", "other-device"),
        (POST, f"/topic/sys/other/{DK}/thing/measurepoint/post", b"", "4.03", "other-device"),
        (GET, f"/topic/ext/session/{PK}/x/thing/activate/info", b"", "4.03", "other-device"),
        (POST, SYS + "thing/measurepoint/nothing", b"", "4.04", "path-unknown"),
        (GET, SYS + SET, b"", "4.04", "path-unknown"),
        (POST, "/sys/x", b"", "4.04", "path-unknown"),
        (POST, "/", b"", "4.04", "path-unknown"),
        (GET, POINTS, b"", "4.05", "method-wrong"),
        (PUT, POINTS, b"", "4.05", "method-wrong"),
        (POST, ACTIVATE, b"", "4.05", "method-wrong"),
        (GET, SYS + SET + "_reply", b"", "4.05", "method-wrong"),
    ],
)
def test_a_request_is_refused_with_the_code_of_the_table(
    cloud: EnosCloud, method: int, path: str, payload: bytes, code: str, reason: str
) -> None:
    """Without a payload; and the session goes on."""
    with online(cloud) as unit:
        answer = unit.request(method, path, payload)
        assert (dotted(answer), answer.payload) == (code, b"")
        event = cloud.event_log.wait("refused", timeout_s=WAIT_S)
        assert (event["code"], event["reason"]) == (code, reason)
        assert dotted(unit.request(POST, POINTS, points({"t": 1}))) == "2.04"


@pytest.mark.parametrize(
    ("tail", "params"),
    [
        ("thing/measurepoint/post", {}), ("thing/measurepoint/post", []),
        ("thing/measurepoint/post", {"measurepoints": {}}),
        ("thing/measurepoint/post", {"measurepoints": {"": 1}}),
        ("thing/measurepoint/post", {"measurepoints": {"t": None}}),
        ("thing/measurepoint/post", {"measurepoints": {"t": {"value": 1, "quality": 10}}}),
        ("thing/measurepoint/post", {"measurepoints": {"t": {"value": 1, "quality": "9"}}}),
        ("thing/measurepoint/post", {"measurepoints": {"t": 1}, "time": -1}),
        ("thing/measurepoint/post", {"measurepoints": {"t": 1}, "time": "now"}),
        ("thing/event/e/post", {"events": 1}), ("thing/event/e/post", 1),
        ("thing/attribute/update", {"attributes": []}),
        ("thing/attribute/query", {"attributes": [1]}),
        ("thing/attribute/delete", {"attributes": {}}),
    ],
)  # fmt: skip
def test_params_of_a_wrong_shape_are_accepted_by_coap_and_refused_by_enos(
    cloud: EnosCloud, tail: str, params: Any
) -> None:
    """2.04, and 1220 in the reply."""
    with online(cloud) as unit:
        answer = unit.request(POST, SYS + tail, envelope(params))
        assert (dotted(answer), json.loads(answer.payload)["code"]) == ("2.04", 1220)
    assert shown(cloud)["measurepoints"] == {} and shown(cloud)["events"] == []


def test_a_content_format_may_be_named(tmp_path: Path) -> None:
    """Whether the real one does is not documented."""
    config = replace(CONFIG, inferred=Inferred(content_format=50))
    with EnosCloud(tmp_path / "enos", config) as cloud, online(cloud) as unit:
        answer = unit.request(POST, POINTS, points({"t": 1}))
        assert answer.options == ((12, b"\x32"),)


# -- commands -------------------------------------------------------------------------------------


def test_commands_wait_are_fetched_and_replied_to(cloud: EnosCloud) -> None:
    """Any answer names the next one in option 2100, until none is left."""
    first = cloud.set_measurepoints(PK, DK, {"relay": 1})
    second = cloud.invoke(PK, DK, "reboot", {"delay": 5})
    with online(cloud) as unit:
        path = command_of(unit.request(POST, POINTS, points({"t": 1})))
        assert path == SYS + SET
        fetched = unit.request(GET, path)
        assert dotted(fetched) == "2.05"
        assert json.loads(fetched.payload) == {
            "id": first, "version": "1.0", "method": "thing.service.measurepoint.set",
            "params": {"relay": 1},
        }  # fmt: skip
        assert command_of(fetched) == SYS + "thing/service/reboot"
        reply = json.dumps({"id": first, "code": 200, "data": {}}).encode()
        answer = unit.request(POST, path + "_reply", reply)
        assert (dotted(answer), answer.payload) == ("2.04", b"")
        again = command_of(answer)
        assert again == SYS + "thing/service/reboot"
        unit.request(GET, again)
        done = unit.request(
            POST, again + "_reply", json.dumps({"id": second, "code": 1101}).encode()
        )
        assert command_of(done) is None
    replies = [event for event in cloud.events if event["kind"] == "command-reply"]
    assert [(r["id"], r["code"], r["known"]) for r in replies] == [
        (first, 200, True), (second, 1101, True),
    ]  # fmt: skip
    assert shown(cloud)["commands"] == []


def test_a_command_that_was_not_replied_to_is_named_in_the_next_session(cloud: EnosCloud) -> None:
    """It was fetched, and then the power went; within a session it can be fetched again."""
    cloud.set_measurepoints(PK, DK, {"relay": 1})
    with online(cloud) as unit:
        assert unit.request(GET, SYS + SET).payload == unit.request(GET, SYS + SET).payload
        assert command_of(unit.request(POST, POINTS, points({"t": 1}))) is None
    with online(cloud) as unit:
        assert command_of(unit.request(POST, POINTS, points({"t": 1}))) == SYS + SET


def test_a_reply_to_nothing_is_taken_and_noted(cloud: EnosCloud) -> None:
    """And one that is no reply is 4.00."""
    with online(cloud) as unit:
        path = SYS + SET + "_reply"
        assert dotted(unit.request(POST, path, b'{"id":"77","code":200}')) == "2.04"
        assert cloud.event_log.wait("command-reply", timeout_s=WAIT_S)["known"] is False
        assert dotted(unit.request(POST, path, b'{"id":"77"}')) == "4.00"


def test_a_command_may_come_in_the_option(tmp_path: Path) -> None:
    """2102, as without DTLS: then there is nothing to fetch."""
    with EnosCloud(tmp_path / "enos", replace(CONFIG, command_in_option=True)) as cloud:
        cloud.set_measurepoints(PK, DK, {"relay": 1})
        with online(cloud) as unit:
            answer = unit.request(POST, POINTS, points({"t": 1}))
            assert command_of(answer) == SYS + SET
            payload = answer.value(2102)
            assert payload is not None and json.loads(payload)["params"] == {"relay": 1}
            assert command_of(unit.request(POST, POINTS, points({"t": 1}))) is None


def test_commands_are_bounded(cloud: EnosCloud) -> None:
    """The console is told when a device has too many."""
    for number in range(COMMANDS_MAX):
        cloud.set_measurepoints(PK, DK, {"n": number})
    with pytest.raises(BenchStateError, match="too-many-commands"):
        cloud.set_measurepoints(PK, DK, {"n": 0})


# -- faults ---------------------------------------------------------------------------------------


def test_the_nth_datagram_is_lost(cloud: EnosCloud) -> None:
    """Up or down; Mbed TLS sends the flight again."""
    cloud.faults.drop_up_after = 2
    online(cloud).sock.close()
    cloud.faults.drop_down_after = 2
    with online(cloud) as unit:
        assert dotted(unit.request(POST, POINTS, points({"t": 1}))) == "2.04"
    assert len([event for event in cloud.events if event["kind"] == "fault"]) == 2


def test_a_server_that_is_not_there(cloud: EnosCloud) -> None:
    """Nothing is answered as long as it is deaf."""
    cloud.faults.deaf = FOREVER
    with pytest.raises(TimeoutError):
        device(cloud, PK, DK).handshake(within_s=0.3)


def test_a_server_with_neither_suite(cloud: EnosCloud) -> None:
    """The handshake fails, as often as told."""
    cloud.faults.no_suite = 1
    with pytest.raises(RefusedError):
        online(cloud)
    event = cloud.event_log.wait("handshake-refused", timeout_s=WAIT_S)
    assert event["reason"] == "no-common-suite"
    online(cloud).sock.close()


def test_answers_of_another_device(cloud: EnosCloud) -> None:
    """Its keys in an activation, its message id in a reply."""
    cloud.faults.other_device = 1
    assert json.loads(activate(cloud).payload)["params"]["deviceKey"] != DK
    with online(cloud) as unit:
        cloud.faults.other_device = 1
        assert json.loads(unit.request(POST, POINTS, points({"t": 1})).payload)["id"] != "1"


# -- the platform as a whole ----------------------------------------------------------------------


def test_what_it_knows_survives(tmp_path: Path) -> None:
    """Secrets, the switch, what was activated and which commands wait; and its port."""
    cloud = EnosCloud(tmp_path / "enos", CONFIG)
    with cloud:
        with online(cloud) as unit:
            unit.request(POST, POINTS, points({"t": 1}))
        port, secret = cloud.port, cloud.device_secret(PK, DK)
        cloud.set_measurepoints(PK, DK, {"relay": 1})
        cloud.create_product("second")
        cloud.set_dynamic_activation("second", False)
    before = cloud.devices()
    with cloud:
        assert cloud.port == port
    assert (cloud.folder / "devices.json").stat().st_mode & 0o777 == 0o600
    with EnosCloud(tmp_path / "enos") as again:
        assert again.devices() == before
        assert again.device_secret(PK, DK) == secret
        assert again.set_measurepoints(PK, DK, {"relay": 0}) == "2"
        assert again.product_keys() == [PK, "second"]


def test_a_damaged_data_base_is_said_so(tmp_path: Path) -> None:
    """It is not overwritten."""
    (tmp_path / "devices.json").write_text('{"products": [{}]}')
    with pytest.raises(BenchStateError, match=r"devices\.json is damaged"):
        EnosCloud(tmp_path).start()
    assert (tmp_path / "devices.json").read_text() == '{"products": [{}]}'


def test_where_it_listens_is_written_while_it_is_up(cloud: EnosCloud) -> None:
    """Under the vendor's host names and ports."""
    assert endpoints.load(cloud.folder) == cloud.state
    assert [(e.host, e.port, e.proto) for e in cloud.endpoints] == [
        ("coap-*", 5684, "udp"),
        ("mqtt-cn5.envisioniot.com", 11883, "tcp"),
        ("mqtt-cn5.envisioniot.com", 18883, "tcp"),
        ("apim-cn5.envisioniot.com", 443, "tcp"),
    ]
    with pytest.raises(BenchStateError, match="up already"):
        EnosCloud(cloud.folder).start()
    cloud.stop()
    with pytest.raises(BenchStateError, match="not up"):
        endpoints.load(cloud.folder)


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    """And nothing stays behind."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(BenchStateError, match=f"UDP port {port} cannot be had"):
            EnosCloud(tmp_path, EnosConfig(port=port)).start()


def test_a_cloud_that_goes_down_says_goodbye(cloud: EnosCloud) -> None:
    """close_notify to every session; the console then says that it is not up."""
    with online(cloud) as unit:
        cloud.stop()
        assert unit.datagram()[0] == 21
    with pytest.raises(BenchStateError, match="not up"):
        cloud.create_product()
    assert [event["kind"] for event in cloud.events][-3:] == [
        "offline", "session-end", "cloud-down",
    ]  # fmt: skip


def test_a_bug_is_not_swept_under_the_carpet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request gets no answer, the others do, and it is raised when the cloud goes down."""

    def bug(*_: object) -> None:
        raise ZeroDivisionError("made up")

    cloud = EnosCloud(tmp_path / "enos", CONFIG)
    cloud.start()
    with online(cloud) as unit:
        with monkeypatch.context() as patch:
            patch.setattr(EnosPlatform, "_report", bug)
            unit.send(dump(Message(Kind.CON, POST, 1, b"", PATH)))
            cloud.event_log.wait("loop", timeout_s=WAIT_S)
        assert dotted(unit.request(POST, POINTS, points({"t": 1}))) == "2.04"
    with pytest.raises(RuntimeError, match="made up"):
        cloud.stop()


def test_names_that_an_identity_cannot_hold_are_refused(cloud: EnosCloud) -> None:
    """A comma would make it another's."""
    for name in ("", "a,b", "a/b", "a b", "x" * 65, "ä"):
        with pytest.raises(BenchStateError):
            cloud.create_device(PK, name)
        with pytest.raises(BenchStateError):
            cloud.create_product(name)


def test_many_devices_at_one_port(tmp_path: Path) -> None:
    """Each with its own session: nobody gets another's answer."""
    names = tuple(f"unit-{number:03d}" for number in range(200))
    config = EnosConfig(products=(replace(PRODUCT, devices=names),))
    with EnosCloud(tmp_path / "enos", config) as cloud:
        units = [device(cloud, PK, name).handshake() for name in names]
        for number, (name, unit) in enumerate(zip(names, units, strict=True)):
            path = f"/topic/sys/{PK}/{name}/thing/measurepoint/post"
            answer = unit.request(POST, path, envelope({"measurepoints": {"n": number}}, name))
            assert json.loads(answer.payload)["id"] == name
            unit.sock.close()
        assert len(cloud.sessions()) == len(names)
        found = {d["device_key"]: d["measurepoints"]["n"]["value"] for d in cloud.devices()}
    assert found == {name: number for number, name in enumerate(names)}
