"""The Aliyun journey as it should go: first power-on to telemetry, and every day after."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from imprint_tools.localcloud.aliyun.config import AliyunConfig
from journey_bench import NAME, JourneyBench, flash_content

MakeBench = Callable[..., JourneyBench]

INSTANCE = "iot-06z00abcdefgh01"


def test_regnwl_registers_logs_in_and_reports(bench: JourneyBench) -> None:
    """A unit that nobody announced registers once, keeps its token and reports with it."""
    bench.board.power_on()
    bench.wait("registered")
    bench.online()
    shown = bench.device()
    assert (shown["registrations"], shown["client_ids"], shown["online"]) == (1, 1, True)
    assert set(shown["points"]) == {"heap_free", "uptime_s"}
    assert [event["auth"] for event in bench.events("login")] == ["connwl"]
    assert "cred_a" in bench.entries()


def test_its_name_is_the_chips_mac_by_default(make_bench: MakeBench) -> None:
    """One image and one identity serve a whole product: what differs is the chip's MAC."""
    bench = make_bench(device_name=None)
    bench.board.power_on()
    bench.online()
    assert bench.device(bench.board.mac.hex())["online"]


def test_register_fetches_the_device_secret(make_bench: MakeBench) -> None:
    """A pre-registered unit fetches its deviceSecret and signs its login with it."""
    bench = make_bench(registration="register")
    bench.cloud.create_device(bench.product_key, NAME)
    bench.board.power_on()
    bench.online()
    assert bench.registrations() == 1
    assert [event["auth"] for event in bench.events("login")] == ["signed"]


def test_a_burned_device_secret_needs_no_registration(make_bench: MakeBench) -> None:
    """A unit with its triple burned logs in with it, and never registers."""
    bench = make_bench(registration="regnwl")
    secret = bench.cloud.create_device(bench.product_key, NAME).reveal().decode()
    bench.burn(bench.make_identity(registration="none", device_secret=secret, product_secret=None))
    bench.board.power_on()
    bench.online()
    assert bench.registrations() == 0


@pytest.mark.parametrize("method", ["hmacmd5", "hmacsha1", "hmacsha256"])
def test_every_sign_method_is_understood(make_bench: MakeBench, method: str) -> None:
    """The registration and the login may be signed by each of the three methods."""
    bench = make_bench(registration="register", sign_method=method)
    bench.cloud.create_device(bench.product_key, NAME)
    bench.board.power_on()
    bench.online()


def test_an_instance_has_its_own_host(make_bench: MakeBench) -> None:
    """With an instance id the unit goes to the instance's host and names it at registration."""
    bench = make_bench(config=AliyunConfig(instance_id=INSTANCE), instance_id=INSTANCE)
    bench.board.power_on()
    bench.online()
    hosts = {record.host for record in bench.air.connections if record.port == 8883}
    assert hosts == {f"{INSTANCE}.mqtt.iothub.aliyuncs.com"}


def test_the_public_instance_has_a_host_per_product(bench: JourneyBench) -> None:
    """Without an instance id the host name is made of product and region."""
    bench.board.power_on()
    bench.online()
    hosts = {record.host for record in bench.air.connections if record.port == 8883}
    assert hosts == {f"{bench.product_key}.iot-as-mqtt.cn-shanghai.aliyuncs.com"}


def test_the_second_power_on_does_not_register(bench: JourneyBench) -> None:
    """Once a credential is held, power-on leads straight to a login."""
    bench.board.power_on()
    bench.online()
    kept = bench.entries()
    bench.power_cycle()
    bench.wait("state", s="CONNECT")
    bench.online()
    assert bench.registrations() == 1
    assert bench.entries() == kept


def test_a_new_file_system_leaves_the_credential(bench: JourneyBench) -> None:
    """Identity and credential live in NVS: an update of the files costs no registration."""
    bench.board.power_on()
    bench.online()
    nvs = bench.entries()
    bench.write(flash_content()[0x200000:], 0x200000)
    bench.board.power_on()
    bench.online()
    assert bench.registrations() == 1
    assert bench.entries() == nvs


def test_a_push_of_qos_1_is_acknowledged(make_bench: MakeBench) -> None:
    """Whether the platform pushes and replies with QoS 0 or 1 is not documented: both work."""
    bench = make_bench(config=AliyunConfig(push_qos=1, reply_qos=1))
    bench.board.power_on()
    bench.online()
    bench.reported()
    assert bench.registrations() == 1


def test_a_property_set_that_nobody_takes_is_refused(bench: JourneyBench) -> None:
    """Without an application the unit answers a property set with 400, and stays online."""
    bench.board.power_on()
    bench.online()
    number, fate = bench.cloud.set_properties(bench.product_key, NAME, {"lamp": 1})
    assert fate == "sent"
    assert bench.wait("set").data["code"] == 400
    assert bench.cloud.event_log.wait("set-reply", id=number, timeout_s=5)["code"] == 400
    bench.reported()


def test_an_application_reads_and_obeys(make_bench: MakeBench) -> None:
    """An application's values are what is reported, and what it takes is answered with 200."""
    application = b"""
state = {"lamp": 0}
def read():
    return state
def apply(params):
    if params["lamp"] not in (0, 1):
        raise ValueError
    state["lamp"] = params["lamp"]
"""
    bench = make_bench(flash_content({"application.py": application}))
    bench.board.power_on()
    bench.online()
    assert bench.device()["points"]["lamp"]["value"] == 0
    for value, code in ((1, 200), (7, 400)):
        number, _ = bench.cloud.set_properties(bench.product_key, NAME, {"lamp": value})
        answer = bench.cloud.event_log.wait("set-reply", id=number, timeout_s=5)
        assert answer["code"] == code
    bench.wait("set", code=400)
    bench.reported()
    assert bench.device()["points"]["lamp"]["value"] == 1


def test_an_application_hears_and_answers(make_bench: MakeBench) -> None:
    """What an application's `hear` returns is published on the unit's own user topic."""
    application = b"""
def read():
    return {"n": 1}
def hear(payload):
    return b"heard " + payload
"""
    bench = make_bench(flash_content({"application.py": application}))
    bench.board.power_on()
    bench.online()
    bench.cloud.publish_user(bench.product_key, NAME, "get", b"hello")
    topic = f"/{bench.product_key}/{NAME}/user/update"
    published = bench.cloud.event_log.wait("publish", topic=topic, timeout_s=5)
    assert published["bytes"] == len(b"heard hello")


def test_a_user_topic_reaches_the_unit(bench: JourneyBench) -> None:
    """What an application server publishes to the unit's user topic arrives."""
    bench.board.power_on()
    bench.online()
    assert bench.cloud.publish_user(bench.product_key, NAME, "get", b"hello") == "sent"
    assert bench.wait("user").data["bytes"] == len(b"hello")
