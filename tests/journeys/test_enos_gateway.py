"""An edge and its sub-devices: from a blank board to points in the local EnOS, and what can go
wrong on the way with one of them, with the cloud and with the bus."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from edge_bench import FREE, GATEWAY_DK, GATEWAY_PK, LEAPING, SUB_PK, EdgeBench, listed
from imprint_tools import image, inject
from imprint_tools.localcloud.enos.cloud import EnosConfig, Inferred
from imprint_tools.localcloud.enos.config import EnosLimits
from imprint_tools.localcloud.enos.records import GATEWAY
from imprint_tools.repl import Repl
from journey_bench import KIND, PASSWORD, flash_content

KEYS = ("inv-1", "inv-2", "inv-3")

Make = Callable[..., EdgeBench]


@pytest.fixture
def edge(make_edge: Make) -> EdgeBench:
    """An edge with three sub-devices that it creates over REST, without power."""
    return make_edge(subdevices=listed(*KEYS))


def requests(bench: EdgeBench, tail: str) -> list[dict[str, Any]]:
    """What the edge asked for at topics that end so."""
    return [e for e in bench.events("publish") if e["topic"].endswith(tail)]


def replied(bench: EdgeBench, number: str, code: int) -> None:
    """Wait for a command's reply."""
    bench.cloud.event_log.wait("command-reply", id=number, code=code, timeout_s=20)


def powered(bench: EdgeBench, count: int) -> None:
    bench.board.power_on()
    bench.all_online(count)
    bench.reported()


# --- Ways into the cloud


@pytest.mark.parametrize("registration", ["rest", "mqtt"])
def test_dynamic(make_edge: Make, registration: str) -> None:
    """Sub-devices are created, bound, online and reported; a second start creates nobody."""
    edge = make_edge(subdevices=listed(*KEYS), subdevice_registration=registration)
    powered(edge, 3)
    edge.reported()
    for key in KEYS:
        assert edge.device(key)["measurepoints"].keys() == {"power", "temperature"}
        assert edge.device(key)["gateway"] == [GATEWAY_PK, GATEWAY_DK]
    bound = len(requests(edge, "thing/topo/add"))
    edge.power_cycle()
    edge.all_online(3)
    assert bound == len(requests(edge, "thing/topo/add")) == 1
    assert len(requests(edge, "thing/device/register")) == (registration == "mqtt")


def test_static_by_secret(make_edge: Make) -> None:
    """Sub-devices whose own secrets are burned need neither the API nor its account."""
    edge = make_edge()
    secrets = edge.create(*KEYS)
    entries = listed(*KEYS)
    for entry in entries:
        entry["device_secret"] = secrets[entry["device_key"]]
    edge.list["subdevices"] = entries
    edge.burn(
        edge.make_identity(
            subdevice_registration="none", api_host=None, access_key=None, access_secret=None
        )
    )
    powered(edge, 3)
    assert not edge.events("api")


def test_static_by_product(make_edge: Make) -> None:
    """Sub-devices that exist and are bound are activated with their product's secret, once."""
    edge = make_edge(subdevices=listed(*KEYS))
    edge.create(*KEYS, bound=True)
    secret = edge.cloud.product_secret(SUB_PK).reveal().decode()
    edge.burn(
        edge.make_identity(
            subdevice_registration="none", subdevice_product_secret=secret, access_key=None
        )
    )
    powered(edge, 3)
    assert [edge.device(key)["activations"] for key in KEYS] == [1, 1, 1]
    edge.power_cycle()
    edge.all_online(3)
    assert [edge.device(key)["activations"] for key in KEYS] == [1, 1, 1]


def test_activation_of_the_edge(make_edge: Make) -> None:
    """In mode 3 the edge's own secret is stored before the cloud hears that it came."""
    edge = make_edge(subdevices=listed(*KEYS), config=EnosConfig())
    secret = edge.cloud.product_secret(GATEWAY_PK).reveal().decode()
    edge.burn(edge.make_identity(secure_mode=3, device_secret=None, product_secret=secret))
    powered(edge, 3)  # with the cloud's own limits: one connect a second
    assert edge.device(GATEWAY_DK, GATEWAY_PK)["activations"] == 1
    assert requests(edge, "thing/activate/info_reply")
    edge.power_cycle()
    edge.all_online(3)
    assert edge.device(GATEWAY_DK, GATEWAY_PK)["activations"] == 1


# --- Certificates


def certified(make_edge: Make, **options: Any) -> EdgeBench:
    """An edge of a product that demands certificates."""
    edge = make_edge(subdevices=listed(*KEYS), certificate="apply", **options)
    edge.cloud.require_certificate(GATEWAY_PK)
    return edge


def test_certificate(make_edge: Make) -> None:
    """An edge applies for its certificate at first power-on, keeps it, and logs in with it."""
    edge = certified(make_edge)
    edge.board.power_on()
    assert edge.wait("certified").data["renewed"] is False
    edge.all_online(3)
    edge.power_cycle()
    edge.all_online(3)
    issued = [e for e in edge.events("api") if e.get("action") == "apply"]
    assert len(issued) == 1
    assert {"cert_a"} <= set(edge.entries())


def test_certificate_renewed(make_edge: Make) -> None:
    """Two thirds of its life later an edge has a new one, and its sub-devices are online."""
    config = EnosConfig(limits=FREE, inferred=Inferred(api_window_s=None))
    edge = certified(make_edge, certificate_days=1, config=config)
    edge.board.power_on()
    edge.wait("certified")
    edge.all_online(3)
    edge.air.ahead_s = 9 * 3600  # it began a day ago, for clocks that are behind
    edge.power_cycle()
    assert edge.wait("certified").data["renewed"] is True
    edge.all_online(3)
    edge.air.ahead_s = 0
    edge.power_cycle()
    edge.all_online(3)
    assert len([e for e in edge.events("api") if e.get("action") == "renew"]) == 1
    (ended,) = [e for e in edge.events("api") if e.get("action") == "revoke"]
    assert ended["code"] == 0, "the one before it is good no more"


def test_certificate_not_renewed_yet(make_edge: Make) -> None:
    """An API that is down when a new one is due costs nothing as long as the old one is good."""
    config = EnosConfig(limits=FREE, inferred=Inferred(api_window_s=None))
    edge = certified(make_edge, certificate_days=1, config=config)
    edge.board.power_on()
    edge.all_online(3)
    edge.air.ahead_s = 9 * 3600
    edge.cloud.faults.api_error = 1
    edge.power_cycle()
    assert edge.wait("error").data["retry"]
    edge.all_online(3)
    edge.reported()
    assert len(edge.events("login")) == 2, "it did not have to connect again"


@pytest.mark.parametrize(
    ("hours", "down", "asked"),
    [(9, False, "renew"), (9, True, "renew"), (25, False, "apply")],
    ids=["due", "api-down", "expired"],
)
def test_certificate_renewed_online(make_edge: Make, hours: int, down: bool, asked: str) -> None:
    """An edge that is never switched off looks every hour: it has another one in time, and logs in
    with that one, once; where the API is down, at the next look."""
    content = flash_content({"application.py": LEAPING})
    config = EnosConfig(limits=FREE, inferred=Inferred(api_window_s=None))
    edge = certified(make_edge, content=content, certificate_days=1, config=config)
    edge.board.power_on()
    edge.all_online(3)
    if down:
        edge.cloud.faults.api_error = 1
        edge.leap(hours * 3600)
        edge.error(443)
        edge.reported()
        assert len(edge.events("login")) == 1
    edge.leap(hours * 3600)
    edge.wait("certified", renewed=asked == "renew")
    edge.error(451)
    edge.all_online(3)
    edge.reported()
    about = [e["action"] for e in edge.events("api") if "certificates" in e["path"]]
    assert about[:2] == ["apply", asked] and about[2:] in ([], ["revoke"])
    assert len(edge.events("login")) == 2


def test_certificate_revoked(make_edge: Make) -> None:
    """An edge whose certificate was revoked is not let in again, and does not get itself another;
    one that is burned anew has another key, and does."""
    edge = certified(make_edge)
    powered(edge, 3)
    edge.cloud.revoke_certificate(GATEWAY_PK, GATEWAY_DK)
    edge.reported()
    edge.cloud.drop_all()
    error = edge.halted_with(511).error
    assert error is not None and "745" in error.cause and "inject" in error.next_step
    edge.power_cycle()
    edge.halted_with(511)
    assert edge.cloud.device_log(GATEWAY_PK, GATEWAY_DK)[-1]["code"] == 745
    assert [e["action"] for e in edge.events("api") if "certificates" in e["path"]] == ["apply"]
    edge.board.power_off()
    held = edge.entries()
    burned = {**held, **edge.make_identity(certificate="apply").entries()}
    edge.write(image.build_nvs(burned, KIND.nvs.size), KIND.nvs.offset)
    edge.board.power_on()
    edge.wait("certified")
    edge.all_online(3)


# --- One is refused, the others are not


def test_disabled_and_enabled(edge: EdgeBench) -> None:
    """A sub-device that the cloud disables is left alone until the cloud enables it."""
    powered(edge, 3)
    edge.cloud.set_enabled(SUB_PK, "inv-2", False)
    edge.wait("subdevice", key="inv-2", to="disable")
    edge.all_online(2)
    edge.reported()
    edge.cloud.set_enabled(SUB_PK, "inv-2", True)
    edge.all_online(3)


def test_deleted(edge: EdgeBench) -> None:
    """A sub-device that the cloud deletes is not made anew, not even by the next start."""
    powered(edge, 3)
    edge.cloud.delete_device(SUB_PK, "inv-1")
    edge.wait("subdevice", key="inv-1", to="delete")
    edge.reported()
    edge.power_cycle()
    edge.all_online(2)
    edge.reported()


def relist(edge: EdgeBench, *keys: str) -> None:
    """Burn the identity anew with these sub-devices; the file system stays as it is."""
    edge.list["subdevices"] = listed(*keys)
    identity = edge.make_identity()
    edge.write(image.build_nvs(identity.entries(), KIND.nvs.size), KIND.nvs.offset)


def test_left_the_list(edge: EdgeBench) -> None:
    """Who is in the list no more is taken out of the topology, and its secret off the board; the
    power may fail meanwhile."""
    powered(edge, 3)
    relist(edge, "inv-1", "inv-4")
    edge.board.power_on()
    topic = f"/sys/{GATEWAY_PK}/{GATEWAY_DK}/thing/topo/delete"
    edge.cloud.event_log.wait("publish", topic=topic, timeout_s=30)
    edge.power_cycle()
    edge.all_online(2)
    assert edge.online_keys() == {"inv-1", "inv-4"}
    assert [edge.device(key)["gateway"] for key in ("inv-2", "inv-3")] == [None, None]
    asked = len(requests(edge, "thing/topo/delete"))
    edge.power_cycle()
    edge.all_online(2)
    edge.reported()
    assert len(requests(edge, "thing/topo/delete")) == asked
    edge.board.power_off()
    kept = [name for name in edge.files() if name.startswith("subdevices/")]
    assert len(kept) == 3, "two secrets, and who is bound"


def test_another_edges(make_edge: Make) -> None:
    """A sub-device of another edge's topology is named, with what to do."""
    edge = make_edge(subdevices=listed("mine", "theirs"))
    edge.cloud.create_device(GATEWAY_PK, "edge-2")
    edge.create("theirs")
    edge.cloud.bind((GATEWAY_PK, "edge-2"), (SUB_PK, "theirs"))
    edge.board.power_on()
    assert "theirs" in edge.error(522).data["detail"]
    edge.all_online(1)


def test_a_report_half_accepted(edge: EdgeBench) -> None:
    """One of three that are reported was taken out of the topology: the report is parted, the
    others' values are in the cloud, and that one is put back and logged in again."""
    powered(edge, 3)
    edge.cloud.unbind(SUB_PK, "inv-2")
    before = [edge.device(key)["measurepoints"] for key in ("inv-1", "inv-3")]
    error = edge.error(522)
    assert error.data["number"] == 740 and error.data["detail"].startswith("inv-2")
    edge.wait("reported", acked=True)
    assert before != [edge.device(key)["measurepoints"] for key in ("inv-1", "inv-3")]
    edge.all_online(3)


def test_unbound_in_the_console(edge: EdgeBench) -> None:
    """A sub-device that was taken out of the topology meanwhile is put there again."""
    powered(edge, 3)
    edge.board.power_off()
    edge.cloud.delete_device(SUB_PK, "inv-3")
    edge.cloud.create_device(SUB_PK, "inv-3")  # the same name, another secret
    edge.board.power_on()
    edge.all_online(2)


# --- The API


def test_token_expires(make_edge: Make) -> None:
    """A token that expires in mid-run is got anew, and nobody notices."""
    edge = make_edge(subdevices=listed(*KEYS))
    edge.cloud.faults.token_expires = 1
    powered(edge, 3)
    assert not [item for item in edge.items if getattr(item, "name", "") == "error"]


def test_clock_that_lies(edge: EdgeBench) -> None:
    """A signature that is refused for the time in it is not taken for a wrong secret: the clock is
    set anew, and all are online."""
    edge.air.ahead_s = 3600
    edge.board.power_on()
    assert "ahead" in edge.error(441).data["detail"]
    edge.air.ahead_s = 0
    edge.all_online(3, timeout_s=90)


def test_created_before(edge: EdgeBench) -> None:
    """Sub-devices that exist are not an error: the API is asked for their secrets."""
    edge.create("inv-1", "inv-3")
    powered(edge, 3)


# --- The connection


@pytest.mark.parametrize("way", ["rest", "static", "product", "certificate"])
def test_broker_restart(make_edge: Make, way: str) -> None:
    """After a broker's restart all are online again, by one connect and one batch; nothing is
    asked for that was had before."""
    edge = make_edge(subdevices=listed(*KEYS))
    if way == "certificate":
        edge.cloud.require_certificate(GATEWAY_PK)
        edge.identity = edge.make_identity(certificate="apply")
    elif way != "rest":
        secrets = edge.create(*KEYS, bound=True)
        if way == "static":
            for entry in edge.list["subdevices"]:
                entry["device_secret"] = secrets[entry["device_key"]]
        secret = edge.cloud.product_secret(SUB_PK).reveal().decode()
        edge.identity = edge.make_identity(
            subdevice_registration="none", subdevice_product_secret=secret, access_key=None
        )
    edge.burn(edge.identity)
    powered(edge, 3)
    issuing = ("api", "activated", "connect", "login")
    before = {kind: len(edge.events(kind)) for kind in issuing}
    edge.cloud.stop()
    edge.wait("wait")
    edge.cloud.start()
    edge.all_online(3, timeout_s=90)
    edge.reported()
    after = {kind: len(edge.events(kind)) for kind in issuing}
    assert after == before | {"connect": before["connect"] + 1, "login": before["login"] + 1}
    assert len(requests(edge, "combine/login/batch")) == 2
    assert len(requests(edge, "thing/topo/add")) == (0 if way == "product" else 1)


def test_no_storm(make_edge: Make) -> None:
    """An edge that loses its connection again and again keeps the cloud's limit of connects."""
    limits = dataclasses.replace(EnosLimits())
    edge = make_edge(subdevices=listed(*KEYS), config=EnosConfig(limits=limits))
    edge.board.power_on()
    for _ in range(3):
        edge.all_online(3)
        edge.cloud.drop(GATEWAY_PK, GATEWAY_DK)
        edge.wait("wait")
    edge.all_online(3)
    edge.cloud.drop(GATEWAY_PK, GATEWAY_DK)
    assert edge.wait("wait").data["ms"] > 60_000, "the fifth would block it for five minutes"
    assert not edge.events("refused")


def test_reply_of_another_id(edge: EdgeBench) -> None:
    """A reply for another request is not taken for ours: the edge waits, and connects anew."""
    edge.cloud.faults.other_id = 1
    edge.board.power_on()
    edge.wait("error", retry=True)
    edge.all_online(3, timeout_s=90)


def test_late_reports(edge: EdgeBench) -> None:
    """What was measured without a connection is reported as late, not as the latest value."""
    powered(edge, 3)
    edge.cloud.stop()
    edge.wait("wait")
    edge.wait("wait")
    edge.cloud.start()
    edge.all_online(3, timeout_s=90)
    edge.wait("reported", acked=True)
    assert requests(edge, "thing/measurepoint/resume/batch")


# --- Commands


def test_commands(edge: EdgeBench) -> None:
    """Set, get and services reach a sub-device's driver; what nobody has is answered 1101."""
    powered(edge, 3)
    number = edge.cloud.set_measurepoints(SUB_PK, "inv-2", {"power": 7})
    replied(edge, number, 200)
    edge.wait("reported")
    edge.reported()
    edge.reported()
    assert edge.device("inv-2")["measurepoints"]["power"]["value"] == 7
    number = edge.cloud.command(SUB_PK, "inv-1", "thing/service/measurepoint/get", ["power"])
    replied(edge, number, 200)
    number = edge.cloud.set_measurepoints(SUB_PK, "inv-2", {"colour": 7})
    replied(edge, number, 1200)
    number = edge.cloud.invoke(SUB_PK, "inv-2", "dance", {})
    replied(edge, number, 1101)


# --- Secrets


def test_no_secret_on_the_console(make_edge: Make) -> None:
    """Neither a good day nor one full of refusals brings a secret to the console."""
    edge = certified(make_edge)
    product_secret = edge.cloud.product_secret(GATEWAY_PK).reveal().decode()
    edge.burn(
        edge.make_identity(
            certificate="apply", secure_mode=3, device_secret=None, product_secret=product_secret
        )
    )
    edge.cloud.faults.token_expires = 1
    powered(edge, 3)
    edge.cloud.set_enabled(SUB_PK, "inv-1", False)
    edge.cloud.drop_all()
    edge.error(521, timeout_s=60)
    edge.power_cycle()
    edge.all_online(2)
    issued = [edge.cloud.device_secret(SUB_PK, key).reveal().decode() for key in KEYS]
    own = edge.cloud.device_secret(GATEWAY_PK, GATEWAY_DK).reveal().decode()
    key = edge.entries()["client_key"]
    said = "\n".join(str(item) for item in edge.items)
    for secret in (*issued, own, product_secret, edge.account[1].reveal().decode(), PASSWORD):
        assert secret not in said
    assert key.hex() not in said and "PRIVATE" not in said


# --- The table


def test_torn_record(edge: EdgeBench) -> None:
    """A record that is damaged costs one question to the API, and the others nothing."""
    powered(edge, 3)
    edge.board.power_off()
    damage(edge)
    created = len([e for e in edge.events("api") if e.get("action") == "create"])
    edge.board.power_on()
    edge.all_online(3)
    asked = [e for e in edge.events("api") if e.get("action") == "create"]
    assert len(asked) == created + 1


def damage(edge: EdgeBench) -> None:
    """Tear one record in the file system."""
    secret = edge.cloud.device_secret(SUB_PK, "inv-2").reveal()
    files = edge.files()
    name = next(n for n, data in files.items() if n.startswith("subdevices/") and secret in data)
    files[name] = files[name][:-3]
    edge.write(image.pack_vfs(files, KIND.vfs.size), KIND.vfs.offset)


@pytest.mark.parametrize("burned", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_two_hundred(make_edge: Make, burned: bool) -> None:
    """Two hundred are online with a heap of 128 kB, a score to a message, with burned secrets and
    (slower, since each is written to flash) with issued ones."""
    keys = [f"inverter-{n:03}" for n in range(1, 201)]
    secrets = {key: f"Secret{key[9:]}OfTwenty0000" for key in keys}
    entries = listed(*keys)
    if burned:
        entries = [e | {"device_secret": secrets[e["device_key"]]} for e in entries]
    edge = make_edge(subdevices=entries, interval_s=5)
    if burned:
        edge.cloud.stop()
        add_devices(edge, secrets)
        edge.cloud.start()
        edge.burn(None)
    edge.board.power_on()
    if burned:
        edge.halted_with(101)
        with Repl(edge.board.url) as repl:  # a list of three pages of NVS
            assert inject.inject(repl, edge.identity).written
            repl.restart()
    edge.all_online(200, timeout_s=150)
    edge.power_cycle()
    edge.all_online(200)
    batches = len(requests(edge, "combine/login/batch"))
    assert 10 <= batches <= 40
    if burned:
        connects = len(edge.events("connect"))
        edge.cloud.drop_all()
        edge.all_online(200)
        assert len(requests(edge, "combine/login/batch")) == batches * 3 // 2
        assert len(edge.events("connect")) == connects + 1
    for _ in range(12):
        edge.reported()
    assert all(d["measurepoints"] for d in edge.cloud.devices() if d["product_key"] == SUB_PK)


def add_devices(edge: EdgeBench, secrets: Mapping[str, str]) -> None:
    """Sub-devices of the cloud's data base, while it is down: all at once."""
    path = edge.cloud.folder / "devices.json"
    data = json.loads(path.read_text())
    product = next(p for p in data["products"] if p["key"] == SUB_PK)
    for at, (key, secret) in enumerate(secrets.items()):
        product["devices"].append(
            {"key": key, "secret": secret, "asset_id": f"asset{at}", "commands": []}
        )
    path.write_text(json.dumps(data))


def test_kinds_are_known() -> None:
    """The bench's own words for products are the cloud's."""
    assert GATEWAY == "gateway" and FREE.connects is None
