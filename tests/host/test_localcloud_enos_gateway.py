"""A gateway at the local EnOS: sub-devices registered, bound, logged in and out, spoken for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from enosmqtt import EnosClient, Name, batch, signed
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig, EnosProduct, Inferred
from imprint_tools.localcloud.enos.config import EnosLimits
from imprint_tools.localcloud.enos.records import GATEWAY
from imprint_tools.secret import Secret

PS = Secret("subProdSecret")
GW: Name = ("gwPK0001", "edge-1")
OTHER_GW: Name = ("gwPK0001", "edge-2")
SUB_PK = "subPK001"
SUBS: list[Name] = [(SUB_PK, f"subDK00{n}") for n in range(1, 4)]
SUB = SUBS[0]
ALONE: Name = ("alonePK1", "single")
WAIT_S = 10.0
CONFIG = EnosConfig(
    products=(
        EnosProduct(GW[0], devices=(GW[1], OTHER_GW[1]), kind=GATEWAY),
        EnosProduct(SUB_PK, PS, devices=tuple(dk for _, dk in SUBS)),
        EnosProduct(ALONE[0], devices=(ALONE[1],)),
    ),
    limits=EnosLimits(connects=None, subdevices_online_max=200),
)
REGISTER, ADD, DELETE, GET = (
    "thing/device/register", "thing/topo/add", "thing/topo/delete", "thing/topo/get",
)  # fmt: skip
LOGIN, BATCH, LOGOUT = "combine/login", "combine/login/batch", "combine/logout"
POST, POST_BATCH = "thing/measurepoint/post", "thing/measurepoint/post/batch"
POINTS = {"measurepoints": {"t": 1}}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[EnosCloud]:
    with EnosCloud(tmp_path / "enos", CONFIG) as running:
        yield running


@pytest.fixture
def gateway(cloud: EnosCloud) -> Iterator[EnosClient]:
    """Online, with no sub-device."""
    with online(cloud, GW) as client:
        yield client


def online(cloud: EnosCloud, name: Name) -> EnosClient:
    client = EnosClient(cloud, name)
    assert client.login(cloud.device_secret(*name)) == 0
    return client


def entry(cloud: EnosCloud, name: Name, **more: Any) -> dict[str, Any]:
    return signed(name, cloud.device_secret(*name), **more)


def keys(name: Name) -> dict[str, str]:
    return {"productKey": name[0], "deviceKey": name[1]}


def asset(cloud: EnosCloud, name: Name) -> str:
    return cloud._registry.device(*name).asset_id


def login_all(cloud: EnosCloud, gateway: EnosClient) -> None:
    for name in SUBS:
        cloud.bind(gateway.name, name)
    entries = [(name, cloud.device_secret(*name)) for name in SUBS]
    assert gateway.code(BATCH, batch(entries)) == 200


def status(cloud: EnosCloud, name: Name = SUB) -> str:
    (found,) = [d for d in cloud.devices() if (d["product_key"], d["device_key"]) == name]
    return str(found["status"])


def point(cloud: EnosCloud, name: Name = SUB) -> Any:
    (found,) = [d for d in cloud.devices() if (d["product_key"], d["device_key"]) == name]
    return found["measurepoints"].get("t", {}).get("value")


# -- registration ---------------------------------------------------------------------------------


def wanted(pk: str = SUB_PK, **more: Any) -> dict[str, Any]:
    return {
        "productKey": pk, "timezone": "+08:00", "deviceName": {"defaultValue": "meter"}, **more,
    }  # fmt: skip


def test_sub_devices_are_registered_bound_and_logged_in(
    cloud: EnosCloud, gateway: EnosClient
) -> None:
    """The samples' order: register, topo/add, combine/login, post; with what the reply said."""
    reply = gateway.ask(
        REGISTER, [wanted(deviceKey="meter-1", deviceAttributes={"a": 1}), wanted()]
    )
    assert reply["code"] == 200
    first, second = reply["data"]
    assert first.keys() == {"assetId", "productKey", "deviceKey", "deviceSecret"}
    assert first["deviceKey"] == "meter-1" and second["deviceKey"] not in ("", "meter-1")
    assert status(cloud, (SUB_PK, "meter-1")) == "inactive"
    assert gateway.ask(GET, {})["data"] == [], "registering does not bind"
    for made in (first, second):
        name = (made["productKey"], made["deviceKey"])
        assert gateway.code(ADD, [signed(name, made["deviceSecret"])]) == 200
        reply = gateway.ask(LOGIN, signed(name, made["deviceSecret"], cleanSession="true"))
        assert reply["data"] == {"assetId": made["assetId"], **keys(name)}
        assert status(cloud, name) == "online"
        assert gateway.code(POST, POINTS, name=name) == 200
    assert len(gateway.ask(GET, {})["data"]) == 2


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([wanted("nobody")], 705),
        ([wanted(GW[0])], 791),
        ([wanted(deviceKey="subDK001")], 11702),
        ([wanted(deviceKey="a"), wanted(deviceKey="a")], 11702),
        ([], 1220), ({}, 1220), ([1], 1220), ([wanted()] * 1001, 1220),
        ([{"productKey": SUB_PK}], 1220),
        ([wanted(timezone="here")], 1220),
        ([wanted(deviceName="meter")], 1220),
        ([wanted(deviceName={"defaultValue": "m", "i18nValue": 1})], 1220),
        ([wanted(deviceKey="a b")], 1220),
        ([wanted(deviceAttributes=[])], 1220),
        ([wanted(deviceDesc=1)], 1220),
        ([wanted(), {"productKey": SUB_PK}], 1220),
    ],
)  # fmt: skip
def test_a_registration_is_whole_or_not_at_all(
    cloud: EnosCloud, gateway: EnosClient, entries: Any, code: int
) -> None:
    """One wrong entry, and no device is made."""
    before = len(cloud.devices())
    reply = gateway.ask(REGISTER, entries)
    assert (reply["code"], reply["data"]) == (code, None)
    assert len(cloud.devices()) == before


def test_a_product_of_another_organisation_is_out_of_reach(
    cloud: EnosCloud, gateway: EnosClient
) -> None:
    """705, as if it were not there; the number is inferred."""
    theirs = cloud.create_product(organisation=cloud.create_organisation("others"))
    assert gateway.code(REGISTER, [wanted(theirs)]) == 705


def test_a_product_holds_so_many_devices(tmp_path: Path) -> None:
    """10,000 is the vendor's default."""
    config = replace(CONFIG, limits=replace(CONFIG.limits, devices_per_product=4))
    with EnosCloud(tmp_path / "enos", config) as cloud, online(cloud, GW) as gateway:
        assert gateway.code(REGISTER, [wanted(), wanted()]) == 11739
        assert gateway.code(REGISTER, [wanted()]) == 200


def test_registering_may_bind(tmp_path: Path) -> None:
    """Whether the real one does is not documented."""
    config = replace(CONFIG, inferred=Inferred(register_binds=True))
    with EnosCloud(tmp_path / "enos", config) as cloud, online(cloud, GW) as gateway:
        gateway.ask(REGISTER, [wanted(deviceKey="meter-1")])
        assert gateway.ask(GET, {})["data"] == [keys((SUB_PK, "meter-1"))]


# -- topology -------------------------------------------------------------------------------------


def test_topology_is_added_shown_and_deleted(cloud: EnosCloud, gateway: EnosClient) -> None:
    """Signed in either spelling of signMethod; who leaves it is offline."""
    first = entry(cloud, SUBS[0])
    second = entry(cloud, SUBS[1])
    second["signmethod"] = second.pop("signMethod")
    second["sign"] = second["sign"].lower()
    assert gateway.code(ADD, [first, second]) == 200
    assert gateway.code(ADD, [first]) == 200, "again is no harm"
    assert gateway.ask(GET, {})["data"] == [keys(SUBS[0]), keys(SUBS[1])]
    assert gateway.code(LOGIN, entry(cloud, SUB)) == 200
    assert gateway.code(DELETE, [keys(SUBS[0])]) == 200
    assert gateway.ask(GET, {})["data"] == [keys(SUBS[1])]
    assert status(cloud) == "offline"
    assert gateway.code(DELETE, [keys(SUBS[1]), keys(SUBS[0])]) == 740
    assert gateway.ask(GET, {})["data"] == [keys(SUBS[1])], "nothing of it was done"


def test_a_device_may_change_gateways_only_by_leaving(
    cloud: EnosCloud, gateway: EnosClient
) -> None:
    """The code is inferred."""
    with online(cloud, OTHER_GW) as other:
        assert other.code(ADD, [entry(cloud, SUB)]) == 200
        assert gateway.code(ADD, [entry(cloud, SUB)]) == 740
        assert gateway.code(LOGIN, entry(cloud, SUB)) == 740
        assert other.code(DELETE, [keys(SUB)]) == 200
        assert gateway.code(ADD, [entry(cloud, SUB)]) == 200


def test_a_topology_is_whole_or_not_at_all(cloud: EnosCloud, gateway: EnosClient) -> None:
    """742 for a wrong signature, 705, 719, 791, 1220; and none is added."""
    good = entry(cloud, SUBS[1])
    cloud.set_mirror(*SUBS[2])
    for bad, code in (
        ({**entry(cloud, SUB), "sign": "0" * 64}, 742),
        ({**entry(cloud, SUB), "timestamp": "1"}, 742),
        ({**entry(cloud, SUB), "signMethod": "crc"}, 742),
        (signed(SUB, PS), 742),
        (signed((SUB_PK, "nobody"), "x"), 705),
        (entry(cloud, SUBS[2]), 719),
        (entry(cloud, OTHER_GW), 791),
        ({**entry(cloud, SUB), "clientId": ""}, 1220),
        ({**entry(cloud, SUB), "timestamp": None}, 1220),
        (keys(SUB), 1220),
    ):
        assert gateway.code(ADD, [good, bad]) == code, bad
    assert gateway.ask(GET, {})["data"] == []


@pytest.mark.parametrize("tail", [REGISTER, ADD, GET])
def test_a_device_that_is_no_gateway(cloud: EnosCloud, tail: str) -> None:
    """1200, as documented for topo/get."""
    with online(cloud, ALONE) as client:
        assert client.code(tail, [wanted()]) == 1200


# -- login ----------------------------------------------------------------------------------------


def test_a_sub_device_logs_in_and_out(cloud: EnosCloud, gateway: EnosClient) -> None:
    """Inactive, Online, Offline; twice out is no harm."""
    cloud.bind(GW, SUB)
    assert status(cloud) == "inactive"
    reply = gateway.ask(LOGIN, entry(cloud, SUB, secureMode="2"))
    assert reply["data"] == {"assetId": asset(cloud, SUB), **keys(SUB)}
    assert status(cloud) == "online"
    assert gateway.code(LOGOUT, keys(SUB)) == 200
    assert status(cloud) == "offline"
    assert gateway.code(LOGOUT, keys(SUB)) == 200
    assert gateway.code(LOGOUT, keys(SUBS[1])) == 740
    assert gateway.code(LOGOUT, {}) == 1220


def test_a_sub_device_activates_through_its_gateway(cloud: EnosCloud, gateway: EnosClient) -> None:
    """secureMode 3, signed with its product's secret: the reply brings its own."""
    cloud.bind(GW, SUB)
    reply = gateway.ask(LOGIN, signed(SUB, PS, secureMode="3"))
    assert reply["code"] == 200
    assert reply["data"]["deviceSecret"] == cloud.device_secret(*SUB).reveal().decode()
    assert reply["data"]["deviceSecret"] not in (cloud.folder / "events.jsonl").read_text()
    assert status(cloud) == "online"
    assert gateway.code(LOGIN, entry(cloud, SUB)) == 200, "with its own secret"
    assert gateway.code(LOGIN, signed(SUB, PS, secureMode="3")) == 771
    cloud.set_dynamic_activation(SUB_PK, False)
    assert gateway.code(LOGIN, signed(SUB, PS, secureMode="3")) == 770


def test_every_refusal_of_a_sub_device(cloud: EnosCloud, gateway: EnosClient) -> None:
    """With its code in the reply and in the device log; the others are unharmed."""
    login_all(cloud, gateway)
    cloud.bind(OTHER_GW, ALONE)
    assert gateway.code(LOGIN, signed((SUB_PK, "nobody"), "x")) == 705
    assert gateway.code(LOGIN, entry(cloud, ALONE)) == 740
    assert gateway.code(LOGIN, signed(SUB, "wrong")) == 742
    assert gateway.code(LOGIN, signed(SUB, PS)) == 742, "the product's secret without mode 3"
    assert gateway.code(LOGIN, entry(cloud, OTHER_GW)) == 791
    assert gateway.code(LOGIN, entry(cloud, GW)) == 791
    cloud.set_mirror(*SUB)
    assert gateway.code(LOGIN, entry(cloud, SUB)) == 719
    cloud.set_mirror(*SUB, False)
    cloud.set_enabled(*SUB, False)
    gateway.json()  # combine/disable
    assert gateway.code(LOGIN, entry(cloud, SUB)) == 723
    assert [e["code"] for e in cloud.device_log(*SUB)] == [742, 742, 719, 723]
    assert [status(cloud, name) for name in SUBS] == ["offline", "online", "online"]


@pytest.mark.parametrize("params", [{}, [], None, {**keys(SUB), "clientId": "c"}, "x"])
def test_a_login_of_a_wrong_shape(gateway: EnosClient, params: Any) -> None:
    """1220."""
    assert gateway.code(LOGIN, params) == 1220


def test_a_batch_says_of_each_how_it_went(cloud: EnosCloud, gateway: EnosClient) -> None:
    """The good ones are in; the code is that of the first that is not."""
    for name in SUBS:
        cloud.bind(GW, name)
    cloud.set_enabled(*SUBS[1], False)
    gateway.json()
    entries: list[tuple[Name, Any]] = [(name, cloud.device_secret(*name)) for name in SUBS]
    reply = gateway.ask(BATCH, batch([*entries, (ALONE, "x")]))
    assert reply["code"] == 723
    assert reply["data"] == {
        "loginedSubDevices": [
            {"assetId": asset(cloud, name), **keys(name)} for name in (SUBS[0], SUBS[2])
        ],
        "failedSubDevices": [keys(SUBS[1]), keys(ALONE)],
    }
    first, second = f"{SUB_PK}&subDK002 has error: ", f"{ALONE[0]}&single has error: "
    assert reply["message"].startswith(first) and second in reply["message"]
    assert [status(cloud, name) for name in SUBS] == ["online", "inactive", "online"]


def test_a_batch_of_a_wrong_shape(cloud: EnosCloud, gateway: EnosClient) -> None:
    """1220 with both lists empty."""
    good = batch([(SUB, cloud.device_secret(*SUB))])
    for params in (
        {}, [], {**good, "subDevices": []}, {**good, "subDevices": [{}]}, {**good, "clientId": 1},
        {**good, "subDevices": good["subDevices"] * 201},
    ):  # fmt: skip
        reply = gateway.ask(BATCH, params)
        assert (reply["code"], reply["data"]) == (
            1220, {"loginedSubDevices": [], "failedSubDevices": []},
        )  # fmt: skip


def test_an_entry_without_a_sign_fails_alone(cloud: EnosCloud, gateway: EnosClient) -> None:
    """The others of its batch are in."""
    cloud.bind(GW, SUBS[0])
    params = batch([(SUBS[0], cloud.device_secret(*SUBS[0])), (SUBS[1], "x")])
    del params["subDevices"][1]["sign"]
    cloud.bind(GW, SUBS[1])
    reply = gateway.ask(BATCH, params)
    assert (reply["code"], reply["data"]["failedSubDevices"]) == (1220, [keys(SUBS[1])])
    assert status(cloud) == "online"


def test_a_batch_may_be_half_accepted(cloud: EnosCloud, gateway: EnosClient) -> None:
    """A fault; the next one is whole."""
    for name in SUBS:
        cloud.bind(GW, name)
    entries = [(name, cloud.device_secret(*name)) for name in SUBS]
    cloud.faults.half_batch = 1
    reply = gateway.ask(BATCH, batch(entries))
    assert reply["code"] == 723 and len(reply["data"]["failedSubDevices"]) == 2
    assert gateway.code(BATCH, batch(entries)) == 200


def test_so_many_sub_devices_are_online_at_once(tmp_path: Path) -> None:
    """200, of which 2 are configured here; who is online already may log in again."""
    config = replace(CONFIG, limits=replace(CONFIG.limits, subdevices_online_max=2))
    with EnosCloud(tmp_path / "enos", config) as cloud, online(cloud, GW) as gateway:
        for name in SUBS:
            cloud.bind(GW, name)
        codes = [gateway.code(LOGIN, entry(cloud, name)) for name in (*SUBS, SUBS[0])]
        assert codes == [200, 200, 11739, 200]


def test_two_hundred_in_one_batch(cloud: EnosCloud, gateway: EnosClient) -> None:
    """Registered, bound and logged in with three requests."""
    made = gateway.ask(REGISTER, [wanted() for _ in range(200)])["data"]
    names = [((m["productKey"], m["deviceKey"]), m["deviceSecret"]) for m in made]
    assert gateway.code(ADD, [signed(name, secret) for name, secret in names]) == 200
    reply = gateway.ask(BATCH, batch(names))
    assert reply["code"] == 200 and len(reply["data"]["loginedSubDevices"]) == 200
    assert sum(device["status"] == "online" for device in cloud.devices()) == 201


# -- posts on behalf ------------------------------------------------------------------------------


def test_a_gateway_posts_for_its_sub_devices(cloud: EnosCloud, gateway: EnosClient) -> None:
    """At their topics, or in a batch at its own."""
    login_all(cloud, gateway)
    assert gateway.code(POST, {"measurepoints": {"t": 7}}, name=SUB) == 200
    entries = [
        {**keys(SUBS[1]), "measurepoints": {"t": 8}, "time": 5},
        {**keys(SUBS[2]), "measurepoints": {"t": 9, "u": 1}},
        {"measurepoints": {"t": 10}},
    ]
    assert gateway.code(POST_BATCH, entries) == 200
    assert [point(cloud, name) for name in (*SUBS, GW)] == [7, 8, 9, 10]
    event = cloud.event_log.wait("report", timeout_s=WAIT_S, topic=POST_BATCH)
    assert (event["entries"], event["points"]) == (3, 4)


def test_who_is_not_spoken_for(cloud: EnosCloud, gateway: EnosClient) -> None:
    """Offline 401, disabled 723, not its own 740; a batch is whole or not at all."""
    cloud.bind(GW, SUB)
    assert gateway.code(POST, POINTS, name=SUB) == 401
    assert gateway.subscribe(gateway.topic(POST, ALONE) + "_reply") == b"\x80"
    mixed = [POINTS, {**keys(SUB), **POINTS}]
    assert gateway.code(POST_BATCH, mixed) == 401
    assert point(cloud, GW) is None
    assert gateway.code(POST_BATCH, mixed, allowOfflineSubDevice=True) == 200
    assert (point(cloud, GW), point(cloud)) == (1, 1)
    assert gateway.code(POST_BATCH, [{**keys(ALONE), **POINTS}], allowOfflineSubDevice=True) == 740
    assert gateway.code(POST_BATCH, [{**keys((SUB_PK, "no")), **POINTS}]) == 740
    assert gateway.code(LOGIN, entry(cloud, SUB)) == 200
    cloud.set_enabled(*SUB, False)
    gateway.json()
    assert gateway.code(POST, POINTS, name=SUB) == 723


def test_a_command_for_a_sub_device_comes_to_its_gateway(
    cloud: EnosCloud, gateway: EnosClient
) -> None:
    """At the sub-device's topic; the answer is given there."""
    login_all(cloud, gateway)
    command_id = cloud.set_measurepoints(*SUB, {"relay": 1})
    topic, document = gateway.json()
    assert topic == gateway.topic("thing/service/measurepoint/set", SUB)
    gateway.answer(topic, document["id"])
    reply = cloud.event_log.wait("command-reply", timeout_s=WAIT_S, id=command_id)
    assert (reply["device_key"], reply["known"]) == (SUB[1], True)


def test_a_command_waits_for_its_sub_device(cloud: EnosCloud, gateway: EnosClient) -> None:
    """It comes behind the reply of its login, and again at the next, if it was not answered."""
    cloud.bind(GW, SUB)
    command_id = cloud.set_measurepoints(*SUB, {"relay": 1})
    for _ in range(2):
        assert gateway.code(LOGIN, entry(cloud, SUB)) == 200
        topic, document = gateway.json()
        assert (topic, document["id"]) == (
            gateway.topic("thing/service/measurepoint/set", SUB), command_id,
        )  # fmt: skip
        assert gateway.code(LOGOUT, keys(SUB)) == 200
    gateway.answer(topic, document["id"])
    cloud.event_log.wait("command-reply", timeout_s=WAIT_S, id=command_id, known=True)


# -- the cloud's side -----------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["disable", "delete"])
def test_a_sub_device_is_disabled_or_deleted_from_the_cloud(
    cloud: EnosCloud, gateway: EnosClient, change: str
) -> None:
    """Its gateway is told and answers; the others stay online."""
    login_all(cloud, gateway)
    if change == "disable":
        cloud.set_enabled(*SUB, False)
    else:
        cloud.delete_device(*SUB)
    topic, document = gateway.json()
    assert topic == gateway.topic(f"combine/{change}")
    assert (document["method"], document["params"]) == (f"combine.{change}", [keys(SUB)])
    gateway.answer(topic, document["id"], {})
    cloud.event_log.wait("command-reply", timeout_s=WAIT_S, id=document["id"], code=200)
    cloud.event_log.wait("offline", timeout_s=WAIT_S, device_key=SUB[1])
    assert status(cloud, SUBS[1]) == "online"
    assert gateway.code(LOGIN, signed(SUB, "x")) == (742 if change == "disable" else 705)
    if change == "disable":
        cloud.set_enabled(*SUB, True)
        assert gateway.json()[0] == gateway.topic("combine/enable")
        assert gateway.code(LOGIN, entry(cloud, SUB)) == 200
    else:
        with pytest.raises(BenchStateError, match="device-unknown"):
            cloud.device_secret(*SUB)


def test_sub_devices_go_with_their_gateway(cloud: EnosCloud) -> None:
    """Offline together; after a reconnect each logs in again."""
    with online(cloud, GW) as gateway:
        login_all(cloud, gateway)
    cloud.event_log.wait("offline", timeout_s=WAIT_S, device_key=GW[1])
    assert [status(cloud, name) for name in SUBS] == ["offline"] * 3
    with online(cloud, GW) as gateway:
        assert gateway.code(POST, POINTS, name=SUB) == 401
        login_all(cloud, gateway)
        mark = cloud.event_log.mark()
        with online(cloud, GW) as again:
            assert gateway.ended()
            assert status(cloud) == "offline", "a new connection begins without them"
            event = cloud.event_log.wait("offline", timeout_s=WAIT_S, after=mark)
            assert event["reason"] == "another session of the gateway"
            login_all(cloud, again)
            assert status(cloud) == "online"


def test_a_deleted_gateway_leaves_its_sub_devices_free(cloud: EnosCloud) -> None:
    """They may be bound elsewhere."""
    cloud.bind(GW, SUB)
    cloud.delete_device(*GW)
    with online(cloud, OTHER_GW) as other:
        assert other.code(ADD, [entry(cloud, SUB)]) == 200


@pytest.mark.parametrize(
    ("gateway", "name", "reason"),
    [
        (ALONE, SUB, "not-a-gateway"), (GW, OTHER_GW, "gateway-as-subdevice"),
        (GW, (SUB_PK, "nobody"), "device-unknown"), ((GW[0], "no"), SUB, "device-unknown"),
    ],
)  # fmt: skip
def test_the_console_says_no_too(cloud: EnosCloud, gateway: Name, name: Name, reason: str) -> None:
    """With the reason."""
    with pytest.raises(BenchStateError, match=reason):
        cloud.bind(gateway, name)
