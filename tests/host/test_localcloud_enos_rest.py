"""The local EnOS's REST API: tokens, signatures, rights, devices, topology, and every code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from enosmqtt import EnosClient, signed
from enosrest import TOKEN, EnosRest, encryption, now_ms, signature
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig, EnosProduct, Inferred
from imprint_tools.localcloud.enos.config import EnosLimits
from imprint_tools.localcloud.enos.records import DEVICES_RIGHT, GATEWAY
from imprint_tools.localcloud.enos.registry import ORGANISATION
from imprint_tools.secret import Secret

GW = ("gwPK0001", "edge-1")
SUB_PK = "subPK001"
DK = "subDK001"
CONFIG = EnosConfig(
    products=(
        EnosProduct(GW[0], devices=(GW[1],), kind=GATEWAY),
        EnosProduct(SUB_PK, devices=(DK,)),
    ),
    limits=EnosLimits(connects=None),
)
WAIT_S = 10.0
HERE = {"productKey": SUB_PK, "deviceKey": DK}


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


@pytest.fixture
def rest(cloud: EnosCloud) -> Iterator[EnosRest]:
    """With a token."""
    with EnosRest(cloud, cloud.create_application("edge"), ORGANISATION) as client:
        assert client.ask_token()["status"] == 0
        yield client


def wanted(**more: Any) -> dict[str, Any]:
    return {
        "productKey": SUB_PK, "timezone": "+08:00", "deviceName": {"defaultValue": "m"}, **more,
    }  # fmt: skip


def code(answer: httpx.Response) -> tuple[int, int]:
    return answer.status_code, answer.json()["code"]


# -- tokens ---------------------------------------------------------------------------------------


def test_a_token_is_the_same_while_it_lives(rest: EnosRest, clock: Clock) -> None:
    """7200 s from its first day on; then there is another one."""
    first = rest.token
    clock.now += 7000
    again = rest.ask_token()
    assert again["data"] == {"accessToken": first, "expire": 200}
    clock.now += 200
    other = rest.ask_token()["data"]
    assert other["accessToken"] != first and other["expire"] == 7200


def test_every_refusal_of_the_token_service(cloud: EnosCloud, rest: EnosRest) -> None:
    """By its status; HTTP says 200."""
    used = now_ms()
    assert rest.ask_token(timestamp=used)["status"] == 0
    assert rest.ask_token(timestamp=used)["status"] == 1001
    assert rest.ask_token(appKey="nobody")["status"] == 1002
    assert rest.ask_token(encryption="0" * 64)["status"] == 1003
    assert rest.ask_token(appKey=1)["status"] == 1004
    assert rest.ask_token(timestamp=now_ms() - 1_000_000)["status"] == 1004
    for name in ("appKey", "timestamp", "encryption"):
        assert rest.ask_token(**{name: None if name != "timestamp" else ""})["status"] == 1202
    answer = rest.send("POST", TOKEN + "get", content=b"{")
    assert (answer.json()["status"], answer.json()["data"]) == (1004, None)
    assert code(rest.send("GET", TOKEN + "get")) == (405, 405)
    assert code(rest.send("POST", TOKEN + "nothing")) == (404, 404)
    text = (cloud.folder / "events.jsonl").read_text()
    assert rest.token not in text and rest.secret not in text


def test_a_token_may_be_refreshed(rest: EnosRest, clock: Clock) -> None:
    """Its body is a guess: what is signed begins with the token."""

    def refresh(token: str) -> dict[str, Any]:
        timestamp = now_ms()
        document = {
            "appKey": rest.key, "accessToken": token, "timestamp": timestamp,
            "encryption": encryption(token, timestamp, rest.secret),
        }  # fmt: skip
        found: dict[str, Any] = rest.send("POST", TOKEN + "refresh", json=document).json()
        return found

    clock.now += 7000
    assert refresh(rest.token)["data"] == {"accessToken": rest.token, "expire": 7200}
    clock.now += 7199
    assert rest.ok("devices", "get", **HERE)
    clock.now += 1
    assert refresh(rest.token)["status"] == 1203
    assert refresh("nobody")["status"] == 1204


@pytest.mark.parametrize("window_s", [None, 900.0])
def test_a_clock_that_is_wrong(tmp_path: Path, window_s: float | None) -> None:
    """Is noticed, where a window is configured; the answer's Date says what the time is."""
    config = replace(CONFIG, inferred=Inferred(api_window_s=window_s))
    with (
        EnosCloud(tmp_path / "enos", config) as cloud,
        EnosRest(cloud, cloud.create_application(), ORGANISATION) as rest,
    ):
        assert rest.ask_token(timestamp=946684800000)["status"] == (1004 if window_s else 0)
        assert "date" in rest.send("POST", TOKEN + "get", content=b"{}").headers


# -- who may call ---------------------------------------------------------------------------------


def test_a_call_is_signed(rest: EnosRest) -> None:
    """Query and body; what is changed on its way is noticed."""
    timestamp = str(now_ms())
    query = {"action": "get", "orgId": ORGANISATION, **HERE, "z": "a b&c=ä", "A": "1"}
    headers = {
        "apim-accesstoken": rest.token, "apim-timestamp": timestamp,
        "apim-signature": signature(rest.token, query, b'{ "a": 1}', timestamp, rest.secret),
    }  # fmt: skip

    def send(query: dict[str, str], body: bytes, **changed: str) -> tuple[int, int]:
        answer = rest.send(
            "POST", "/connect-service/v2.1/devices", params=query, content=body,
            headers=headers | {f"apim-{name}": value for name, value in changed.items()},
        )  # fmt: skip
        return code(answer)

    assert send(query, b'{ "a": 1}') == (200, 0)
    assert send(query, b'{ "a": 1}', signature=headers["apim-signature"].upper()) == (200, 0)
    assert send(query, b'{"a": 1}') == (401, 497)
    assert send({**query, "z": "b"}, b'{ "a": 1}') == (401, 497)
    assert send(query, b'{ "a": 1}', timestamp=timestamp + "0") == (401, 497)
    assert send(query, b'{ "a": 1}', accesstoken="nobody") == (401, 1203)
    for name in ("accesstoken", "timestamp", "signature"):
        assert send(query, b'{ "a": 1}', **{name: ""}) == (401, 1202)


def test_a_stale_call_is_refused(rest: EnosRest) -> None:
    """Though its signature is right."""
    query = {"action": "get", "orgId": ORGANISATION, **HERE}
    for timestamp in (str(now_ms() - 1_000_000), "soon"):
        headers = {
            "apim-accesstoken": rest.token, "apim-timestamp": timestamp,
            "apim-signature": signature(rest.token, query, b"", timestamp, rest.secret),
        }  # fmt: skip
        path = "/connect-service/v2.1/devices"
        answer = rest.send("GET", path, params=query, headers=headers)
        assert code(answer) == (401, 497)


def test_a_token_ends(cloud: EnosCloud, rest: EnosRest, clock: Clock) -> None:
    """By its time, or in mid-run; a new one goes on."""
    clock.now += 7200
    answer = rest.call("devices", "get", **HERE)
    assert (*code(answer), answer.headers["apim_status"]) == (401, 1203, "4011")
    rest.ask_token()
    cloud.faults.token_expires = 1
    assert code(rest.call("devices", "get", **HERE)) == (401, 1203)
    rest.ask_token()
    assert rest.ok("devices", "get", **HERE)


def test_organisations_keep_apart(cloud: EnosCloud, rest: EnosRest) -> None:
    """498 where they have not registered the application, or gave it no right; their products and
    devices are nobody else's."""
    others = cloud.create_organisation("others")
    theirs = cloud.create_product(organisation=others)
    cloud.create_device(theirs, "d")
    assert rest.code("devices", "create", wanted(), orgId=others) == 498
    assert rest.code("devices", "create", wanted(), orgId="o1") == 99400
    assert rest.code("devices", "create", wanted(), orgId=None) == 99400
    cloud.set_rights(rest.key, others, [DEVICES_RIGHT])
    assert rest.ok("devices", "get", productKey=theirs, deviceKey="d", orgId=others)
    assert rest.code("devices", "create", wanted(productKey=theirs)) == 99400
    assert rest.code("devices", "create", wanted(), orgId=others) == 99400
    assert rest.code("devices", "get", productKey=theirs, deviceKey="d") == 11404
    listing = {"productKey": theirs, "deviceKey": "d", "orgId": others, "version": "v2.0"}
    assert rest.code("certificates", "list", method="GET", **listing) == 498
    cloud.set_rights(rest.key, ORGANISATION, None)
    assert rest.code("devices", "get", **HERE) == 498
    event = cloud.event_log.wait("api", timeout_s=WAIT_S, reason="application-unregistered")
    assert (event["action"], event["code"], event["access_key"]) == ("create", 498, rest.key)


def test_codes_that_are_inferred_can_be_changed(tmp_path: Path) -> None:
    """What the real ones are is not documented."""
    config = replace(CONFIG, inferred=Inferred(rest_codes={"application-unregistered": 77777}))
    with (
        EnosCloud(tmp_path / "enos", config) as cloud,
        EnosRest(cloud, cloud.create_application("x", ()), ORGANISATION) as rest,
    ):
        rest.ask_token()
        assert rest.code("devices", "get", **HERE) == 77777


def test_unknown_addresses(rest: EnosRest) -> None:
    """404, 405; the certificate of the authority is there for everybody."""
    assert code(rest.call("devices", "dance")) == (404, 404)
    assert code(rest.call("things", "get")) == (404, 404)
    assert code(rest.call("devices", "get", version="v1.0")) == (404, 404)
    assert code(rest.call("devices", "create", method="GET")) == (405, 405)
    assert code(rest.send("GET", "/")) == (404, 404)
    assert rest.send("GET", "/enos/CA/cacert").content.startswith(b"-----BEGIN CERTIFICATE-----")


def test_a_body_has_a_size(tmp_path: Path) -> None:
    """512 KB, or what is configured."""
    config = replace(CONFIG, limits=replace(CONFIG.limits, body_max=100))
    with (
        EnosCloud(tmp_path / "enos", config) as cloud,
        EnosRest(cloud, cloud.create_application(), ORGANISATION) as rest,
    ):
        assert rest.send("POST", "/", content=b" " * 101).status_code == 413


# -- devices --------------------------------------------------------------------------------------


def test_a_device_is_created_and_looked_at(cloud: EnosCloud, rest: EnosRest) -> None:
    """With a key of its own or one that is made; by keys or by assetId."""
    body = wanted(deviceKey="meter-1", deviceAttributes={"a": 1}, deviceTags={"row": "7"})
    made = rest.ok("devices", "create", body)
    assert made.keys() == {"assetId", "productKey", "deviceKey", "deviceSecret"}
    secret = cloud.device_secret(SUB_PK, "meter-1").reveal().decode()
    assert (made["deviceKey"], made["deviceSecret"]) == ("meter-1", secret)
    record = rest.ok("devices", "get", assetId=made["assetId"], method="GET")
    assert record["deviceName"] == {"defaultValue": "m"} and record["status"] == "inactive"
    assert (record["deviceAttributes"], record["deviceTags"]) == ({"a": 1}, {"row": "7"})
    assert record["deviceSecret"] == secret, "so that a lost one can be had again"
    other = rest.ok("devices", "create", wanted())
    assert other["deviceKey"] not in ("", "meter-1")
    assert secret not in (cloud.folder / "events.jsonl").read_text()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (wanted(deviceKey=DK), 11702),
        (wanted(productKey="nobody"), 99400),
        (wanted(timezone="x"), 99400), (wanted(deviceName=None), 99400),
        (wanted(deviceKey="a b"), 99400), ({}, 99400), ([1], 99400), (None, 99400),
    ],
)  # fmt: skip
def test_a_device_that_cannot_be_created(
    cloud: EnosCloud, rest: EnosRest, body: Any, expected: int
) -> None:
    """And is not."""
    assert rest.code("devices", "create", body) == expected
    assert len(cloud.devices()) == 2


def test_the_newer_version_keeps_its_secret(rest: EnosRest) -> None:
    """v2.4 tells it only encrypted for a public key of the service account, which has none."""
    made = rest.ok("devices", "create", wanted(), version="v2.4")
    assert "deviceSecret" not in made
    assert "deviceSecret" not in rest.ok("devices", "get", assetId=made["assetId"], version="v2.4")
    assert rest.code("devices", "create", wanted(requireSecret=True), version="v2.4") == 11858


def test_a_batch_says_of_each_how_it_went(cloud: EnosCloud, rest: EnosRest) -> None:
    """Good ones are made, whatever the others are; also where the service fails half-way."""

    def codes(answer: httpx.Response) -> tuple[list[int], int, int]:
        document = answer.json()
        assert document["code"] == 0
        found = [entry["code"] for entry in document["data"]]
        return found, document["successSize"], document["totalSize"]

    entries = [wanted(deviceKey="a"), wanted(deviceKey=DK), wanted(deviceKey="b"), {"x": 1}]
    answer = rest.call("devices", "batchCreate", {"deviceList": entries})
    assert codes(answer) == ([0, 11702, 0, 99400], 2, 4)
    assert {"a", "b"} < {device["device_key"] for device in cloud.devices()}
    cloud.faults.half_batch = 1
    entries = [wanted(deviceKey="c"), wanted(deviceKey="d")]
    answer = rest.call("devices", "batchCreate", {"deviceList": entries}, version="v2.0")
    assert codes(answer) == ([0, 99500], 1, 2)
    for bad in ({}, {"deviceList": []}, {"deviceList": [1]}, {"deviceList": [wanted()] * 1001}):
        assert rest.code("devices", "batchCreate", bad) == 99400


def test_a_product_holds_so_many_devices(tmp_path: Path) -> None:
    """10,000 is the vendor's default."""
    config = replace(CONFIG, limits=replace(CONFIG.limits, devices_per_product=2))
    with (
        EnosCloud(tmp_path / "enos", config) as cloud,
        EnosRest(cloud, cloud.create_application(), ORGANISATION) as rest,
    ):
        rest.ask_token()
        assert [rest.code("devices", "create", wanted()) for _ in range(2)] == [0, 11739]


def test_a_device_is_disabled_enabled_updated_and_deleted(
    cloud: EnosCloud, rest: EnosRest
) -> None:
    """A state twice is a conflict."""
    assert rest.code("devices", "enable", **HERE) == 11721
    assert rest.code("devices", "disable", **HERE) == 0
    assert rest.code("devices", "disable", **HERE) == 11721
    assert rest.ok("devices", "get", **HERE)["status"] == "disabled"
    with EnosClient(cloud, (SUB_PK, DK)) as client:
        assert client.login(cloud.device_secret(SUB_PK, DK)) != 0
    (entry,) = rest.ok("device-logs", "search", **HERE)
    assert (entry["code"], entry["deviceKey"]) == (723, DK)
    assert rest.code("devices", "enable", **HERE) == 0
    rest.ok("devices", "update", {"deviceAttributes": {"a": 1}, "deviceDesc": "x"}, **HERE)
    rest.ok("devices", "update", {"deviceAttributes": {"b": 2}}, isPatchUpdate="true", **HERE)
    record = rest.ok("devices", "get", **HERE)
    assert (record["deviceAttributes"], record["deviceDesc"]) == ({"a": 1, "b": 2}, "x")
    assert rest.code("devices", "update", {"deviceTags": 1}, **HERE) == 99400
    assert rest.code("devices", "delete", **HERE) == 0
    for action in ("delete", "get", "enable", "disable", "update"):
        assert rest.code("devices", action, {}, **HERE) == 11404
    assert rest.code("devices", "get", assetId="nobody") == 11404
    assert rest.code("devices", "get", productKey="nobody", deviceKey=DK) == 11404
    assert rest.code("devices", "get") == 99400


# -- topology -------------------------------------------------------------------------------------


def names(*keys: str) -> list[dict[str, str]]:
    return [{"productKey": SUB_PK, "deviceKey": key} for key in keys]


GATEWAY_ENTRY = {"productKey": GW[0], "deviceKey": GW[1]}


def test_a_sub_device_is_bound_by_rest_and_activates(cloud: EnosCloud, rest: EnosRest) -> None:
    """Created with the service account, bound, and then at home at its gateway, in mode 3 too."""
    made = rest.ok("devices", "create", wanted())
    name = (SUB_PK, made["deviceKey"])
    body = {"gateway": GATEWAY_ENTRY, "subDevices": names(DK, name[1])}
    rest.ok("device-topos", "addSubDevice", body)
    rest.ok("device-topos", "addSubDevice", body)
    with EnosClient(cloud, GW) as gateway:
        assert gateway.login(cloud.device_secret(*GW)) == 0
        product_secret = cloud.product_secret(SUB_PK)
        params = signed(name, product_secret, secureMode="3")
        assert gateway.ask("combine/login", params)["data"]["deviceSecret"] == made["deviceSecret"]
        rest.ok("devices", "disable", assetId=made["assetId"])
        assert gateway.json()[0] == gateway.topic("combine/disable")
        rest.ok("devices", "enable", assetId=made["assetId"])
        gateway.json()
        assert gateway.code("combine/login", signed(name, made["deviceSecret"])) == 200
        assert rest.ok("devices", "get", assetId=made["assetId"])["status"] == "online"
        body["subDevices"] = names(name[1])
        rest.ok("device-topos", "removeSubDevice", body)
        assert rest.ok("devices", "get", assetId=made["assetId"])["status"] == "offline"
        assert gateway.code("combine/login", signed(name, made["deviceSecret"])) == 740
    assert rest.ok("device-topos", "getGateway", assetId=made["assetId"]) is None
    found = rest.ok("device-topos", "getGateway", **HERE)
    assert (found["productKey"], found["deviceKey"]) == GW
    (sub,) = rest.ok("device-topos", "searchSubDevice", productKey=GW[0], deviceKey=GW[1])
    assert sub["deviceKey"] == DK


def test_a_topology_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """11738, 11739, 11404, 99400; and none is bound."""
    config = replace(CONFIG, limits=replace(CONFIG.limits, topology_max=2))
    with (
        EnosCloud(tmp_path / "enos", config) as cloud,
        EnosRest(cloud, cloud.create_application(), ORGANISATION) as rest,
    ):
        rest.ask_token()
        for key in ("b", "c"):
            cloud.create_device(SUB_PK, key)
        cloud.create_device(GW[0], "edge-2")
        sub = names(DK)[0]
        add = "addSubDevice"
        for gateway, subs, expected in (
            (sub, names("b"), 11738),
            (GATEWAY_ENTRY, names(DK, "b", "c"), 11739),
            (GATEWAY_ENTRY, names(DK, "nobody"), 11404),
            ({"productKey": GW[0], "deviceKey": "no"}, names(DK), 11404),
            (GATEWAY_ENTRY, [sub, {"productKey": GW[0], "deviceKey": "edge-2"}], 99400),
            (GATEWAY_ENTRY, [], 99400),
            (GATEWAY_ENTRY, [1], 99400),
            (None, [sub], 99400),
        ):
            body = {"gateway": gateway, "subDevices": subs}
            assert rest.code("device-topos", add, body) == expected, body
        search = {"productKey": GW[0], "deviceKey": GW[1]}
        assert rest.ok("device-topos", "searchSubDevice", **search) == []
        assert rest.code("device-topos", "searchSubDevice", **HERE) == 11738
        body = {"gateway": GATEWAY_ENTRY, "subDevices": names(DK)}
        assert rest.code("device-topos", "removeSubDevice", body) == 99400
        rest.ok("device-topos", add, body)
        body["gateway"] = {"productKey": GW[0], "deviceKey": "edge-2"}
        assert rest.code("device-topos", add, body) == 99400, "of another gateway"


# -- faults ---------------------------------------------------------------------------------------


def test_faults_of_the_api(cloud: EnosCloud, rest: EnosRest) -> None:
    """503, silence, and what is not JSON after it was done."""
    cloud.faults.api_error = 1
    assert rest.call("devices", "create", wanted()).status_code == 503
    cloud.faults.api_silent = 1
    rest.http.timeout = httpx.Timeout(0.3)
    with pytest.raises(httpx.ReadTimeout):
        rest.call("devices", "create", wanted())
    rest.http.timeout = httpx.Timeout(WAIT_S)
    assert len(cloud.devices()) == 2
    cloud.faults.api_garbage = 1
    answer = rest.call("devices", "create", wanted())
    assert answer.content.startswith(b"<html>") and len(cloud.devices()) == 3


def test_what_was_made_is_known_after_a_restart(tmp_path: Path) -> None:
    """Organisations, applications and their rights; tokens are not."""
    cloud = EnosCloud(tmp_path / "enos", CONFIG)
    with cloud:
        others = cloud.create_organisation("others")
        account = cloud.create_application("edge", [others])
        product = cloud.create_product(organisation=others)
        with EnosRest(cloud, account, others) as rest:
            rest.ask_token()
            made = rest.ok("devices", "create", wanted(productKey=product))
    with cloud, EnosRest(cloud, account, others) as rest:
        rest.token = "of-before"  # noqa: S105 - none
        assert rest.code("devices", "get", assetId=made["assetId"]) == 1203
        rest.ask_token()
        assert rest.ok("devices", "get", assetId=made["assetId"])["timezone"] == "+08:00"


def test_the_formulas_of_the_tests_are_the_documented_ones() -> None:
    """The document's own example, and two numbers computed apart from this code."""
    body = '{\n  "count": 20,\n  "page": 1,\n  "desc": "描述"\n}'.encode()
    query = {"k2": "v2", "k1": "v1", "k3": "v3"}
    assert signature("xxxxaaaxxxx", query, body, 1572574909697, "xxxappSecretxxx") == (
        "59828328f6c1f9771015dc74e4929ae30f518a35a3d2353972c2ea46556fc981"
    )
    key, secret = "5acb82e7-a11e-4300-9164-c8b20b638e8b", "1d0b6e2f-7c3a-4d5e-9f10-0123456789ab"
    assert encryption(key, 1572574909697, secret) == (
        "a6ab32dcc61fc81bd94c579d7161ff10d79860c5b5be5099e8bdb4af60f62173"
    )


def test_an_account_is_not_shown(cloud: EnosCloud) -> None:
    """Nor in the log."""
    key, secret = cloud.create_application("edge")
    assert isinstance(secret, Secret) and secret.reveal().decode() not in repr(secret)
    assert secret.reveal().decode() not in (cloud.folder / "events.jsonl").read_text()
    assert key in (cloud.folder / "events.jsonl").read_text()
