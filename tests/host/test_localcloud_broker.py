"""The MQTT endpoint: its own rules, whatever the cloud behind it, and its faults on order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imprint_tools.localcloud import packets
from imprint_tools.localcloud.aliyun.cloud import AliyunCloud, AliyunConfig, ProductConfig
from imprint_tools.localcloud.aliyun.platform import Platform
from imprint_tools.localcloud.link import Limits, Link
from rawmqtt import RawClient, connect, login, packet

PK, DN = "a1B2c3D4e5F", "press-07"
POST = f"/sys/{PK}/{DN}/thing/event/property/post"
GET = f"/{PK}/{DN}/user/get"
WAIT_S = 10.0


def config(**changes: Any) -> AliyunConfig:
    return AliyunConfig(products=(ProductConfig(PK, devices=(DN,)),), **changes)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AliyunCloud]:
    with AliyunCloud(tmp_path / "aliyun", config()) as running:
        yield running


def credentials(cloud: AliyunCloud, **options: Any) -> tuple[str, str, str]:
    return login(cloud.device_secret(PK, DN).reveal().decode(), PK, DN, **options)


def closed(cloud: AliyunCloud, connection: int) -> dict[str, Any]:
    return cloud.event_log.wait("close", timeout_s=WAIT_S, connection=connection)


# -- the protocol's own rules --------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"\x00\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xc0\x00", b"\x10\xff\xff\xff\xff", b"\x10\x01x"],
)
def test_what_is_no_connect_ends_the_connection(cloud: AliyunCloud, data: bytes) -> None:
    """Garbage, another protocol, or a packet before CONNECT: closed without an answer."""
    with RawClient(cloud) as client:
        client.send(data)
        assert client.ended()
    assert closed(cloud, 1)["reason"] == "malformed packet"


@pytest.mark.parametrize(
    "data",
    [
        connect("c", "u", "p"), b"\x20\x02\x00\x00", b"\x30\x03\x00\x01#", b"\x62\x02\x00\x01",
        b"\x34\x07\x00\x01t\x00\x09ok", b"\x30\xff\xff\xff\x7f",
    ],
)  # fmt: skip
def test_a_malformed_packet_ends_a_session_and_no_other(cloud: AliyunCloud, data: bytes) -> None:
    """A second CONNECT, a server's packet, QoS 2, a packet too big."""
    with RawClient(cloud) as client, RawClient(cloud) as other:
        assert client.connect(*credentials(cloud)) == 0
        client.send(data)
        assert client.ended()
        assert other.connect(*credentials(cloud)) == 0
        other.send(b"\xc0\x00")
        assert other.packet() == (0xD0, b"")


def test_mqtt_5_gets_connack_1(cloud: AliyunCloud) -> None:
    """A level that is not offered is refused with its own code."""
    with RawClient(cloud) as client:
        assert client.connect("c", "u", "p", protocol=b"\x00\x04MQTT\x05") == 1
        assert client.ended()


def test_a_client_that_never_sends_connect_is_closed(tmp_path: Path) -> None:
    """So that half-open connections do not pile up."""
    with (
        AliyunCloud(tmp_path / "aliyun", config(limits=Limits(connect_s=0.2))) as cloud,
        RawClient(cloud) as client,
    ):
        client.send(b"\x10")
        assert client.ended()
        assert closed(cloud, 1)["reason"] == "timeout"


def test_a_client_that_never_begins_tls_is_closed(tmp_path: Path) -> None:
    """On the port for both, too, where the first byte decides."""
    with AliyunCloud(tmp_path / "aliyun", config(limits=Limits(connect_s=0.2))) as cloud:
        for port in (8883, 1883):
            with RawClient(cloud, port=port, tls=False) as client:
                assert client.ended()


def test_a_silent_client_is_closed_after_one_and_a_half_keepalives(tmp_path: Path) -> None:
    """MQTT 3.1.1, 3.1.2.10; the factor is smaller here, so that the test is short."""
    limits = Limits(keepalive_factor=0.01)
    with (
        AliyunCloud(tmp_path / "aliyun", config(limits=limits)) as cloud,
        RawClient(cloud) as client,
    ):
        assert client.connect(*credentials(cloud), keepalive_s=30) == 0
        assert client.ended()
        assert closed(cloud, 1)["reason"] == "keepalive"
        silent = cloud.event_log.wait("silent", timeout_s=WAIT_S)
        assert silent["seconds"] == pytest.approx(0.3)


def test_a_newcomer_takes_the_session_and_the_older_is_closed(cloud: AliyunCloud) -> None:
    """One connection a device; the newer one wins, and stays online when the older goes."""
    with RawClient(cloud) as older, RawClient(cloud) as newer:
        assert older.connect(*credentials(cloud)) == 0
        assert newer.connect(*credentials(cloud)) == 0
        assert older.ended()
        closed(cloud, 1)
        newer.send(b"\xc0\x00")
        assert newer.packet() == (0xD0, b"")
        assert cloud.devices()[0]["online"] is True


def test_ping_and_disconnect(cloud: AliyunCloud) -> None:
    """PINGREQ is answered; DISCONNECT ends in good order."""
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud)) == 0
        client.send(b"\xc0\x00\xe0\x00")
        assert client.packet() == (0xD0, b"")
        assert client.ended()
    assert closed(cloud, 1)["reason"] == "DISCONNECT"
    assert cloud.devices()[0]["online"] is False


def test_bytes_are_counted_both_ways(cloud: AliyunCloud) -> None:
    """MQTT's bytes, TLS aside."""
    name = credentials(cloud)
    with RawClient(cloud) as client:
        assert client.connect(*name) == 0
        client.send(b"\xc0\x00\xe0\x00")
        client.packet()
    end = closed(cloud, 1)
    assert (end["bytes_up"], end["bytes_down"]) == (len(connect(*name)) + 4, 6)


def test_unsubscribe_ends_delivery(cloud: AliyunCloud) -> None:
    """What is not subscribed to is dropped."""
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud)) == 0
        assert client.subscribe(GET) == b"\x01"
        assert cloud.publish_user(PK, DN, "get", b"x", qos=0) == "sent"
        assert client.message() == (GET, b"x", 0)
        client.send(packet(0xA2, b"\x00\x08\x00" + bytes([len(GET)]) + GET.encode()))
        assert client.packet() == (0xB0, b"\x00\x08")
        assert cloud.publish_user(PK, DN, "get", b"x", qos=0) == "dropped"


def test_an_unacknowledged_downlink_comes_again_to_the_same_session(cloud: AliyunCloud) -> None:
    """QoS 1: after a reconnect with clean session 0, marked as a duplicate, until acknowledged."""
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud), clean=False) == 0
        client.subscribe(GET)
        assert cloud.publish_user(PK, DN, "get", b"one") == "sent"
        topic, payload, packet_id = client.message()
        assert (topic, payload) == (GET, b"one")
        assert packet_id
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud), clean=False) == 0
        assert client.session_present == 1
        again = client.packet()
        assert again is not None
        assert again[0] == 0x3A, "DUP and QoS 1"
        client.send(b"\x40\x02" + packet_id.to_bytes(2, "big") + b"\xc0\x00")
        assert client.packet() == (0xD0, b"")
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud), clean=False) == 0
        client.send(b"\xc0\x00")
        assert client.packet() == (0xD0, b""), "nothing comes a third time"


def test_downlinks_wait_for_a_session_that_is_not_clean(tmp_path: Path) -> None:
    """Offline, QoS 1 is kept up to a limit, the oldest going first; QoS 0 is not kept."""
    limits = Limits(queued_max=2)
    with AliyunCloud(tmp_path / "aliyun", config(limits=limits)) as cloud:
        with RawClient(cloud) as client:
            assert client.connect(*credentials(cloud), clean=False) == 0
            client.subscribe(GET)
        closed(cloud, 1)
        assert cloud.publish_user(PK, DN, "get", b"zero", qos=0) == "dropped"
        for payload in (b"one", b"two", b"three"):
            assert cloud.publish_user(PK, DN, "get", payload) == "queued"
        with RawClient(cloud) as client:
            assert client.connect(*credentials(cloud), clean=False) == 0
            assert [client.message()[1] for _ in range(2)] == [b"two", b"three"]


def test_a_clean_session_forgets(cloud: AliyunCloud) -> None:
    """Clean session 1: nothing is kept, and what was kept before is dropped."""
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud), clean=False) == 0
        client.subscribe(GET)
    closed(cloud, 1)
    assert cloud.publish_user(PK, DN, "get", b"lost") == "queued"
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud), clean=True) == 0
        assert client.session_present == 0
        client.send(b"\xc0\x00")
        assert client.packet() == (0xD0, b"")
    closed(cloud, 2)
    assert cloud.publish_user(PK, DN, "get", b"lost") == "dropped"


def test_no_more_than_the_limit_is_in_flight(tmp_path: Path) -> None:
    """Beyond it, a message goes out when an acknowledgement has come in."""
    with (
        AliyunCloud(tmp_path / "aliyun", config(limits=Limits(inflight_max=1))) as cloud,
        RawClient(cloud) as client,
    ):
        assert client.connect(*credentials(cloud)) == 0
        client.subscribe(GET)
        cloud.publish_user(PK, DN, "get", b"one")
        cloud.publish_user(PK, DN, "get", b"two")
        _, first, packet_id = client.message()
        client.send(b"\xc0\x00")
        assert client.packet() == (0xD0, b""), "the second waits"
        client.send(b"\x40\x02" + packet_id.to_bytes(2, "big"))
        assert (first, client.message()[1]) == (b"one", b"two")


def test_a_client_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    """What waits for it is bounded."""
    with (
        AliyunCloud(tmp_path / "aliyun", config(limits=Limits(unsent_max=1000))) as cloud,
        RawClient(cloud) as client,
    ):
        assert client.connect(*credentials(cloud)) == 0
        client.subscribe(GET)
        mark = cloud.event_log.mark()
        for _ in range(200):
            if cloud.publish_user(PK, DN, "get", bytes(200_000), qos=0) == "dropped":
                break
        end = cloud.event_log.wait("close", timeout_s=WAIT_S, after=mark)
        assert end["reason"] == "client does not read"


def test_a_hundred_clients_that_vanish_leave_nothing_behind(cloud: AliyunCloud) -> None:
    """Connections cut at every byte of a CONNECT end, and the endpoint lives on."""
    data = connect(*credentials(cloud))
    for end in range(0, len(data), 2):
        with RawClient(cloud, port=1883, tls=False) as client:
            client.send(data[:end] or b"\x10")
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud)) == 0
    assert not [e for e in cloud.events if e["kind"] in ("internal-error", "loop")]


def test_a_bug_in_a_rule_closes_one_connection_and_is_raised_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours is loud, and does not look like an answer of the platform's."""

    def broken(self: Platform, link: Link, message: packets.Publish) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Platform, "on_publish", broken)
    cloud = AliyunCloud(tmp_path / "aliyun", config())
    cloud.start()
    try:
        with RawClient(cloud) as client, RawClient(cloud) as other:
            assert client.connect(*credentials(cloud)) == 0
            client.publish(POST, b"{}")
            assert client.ended()
            assert other.connect(*credentials(cloud)) == 0
            cloud.event_log.wait("internal-error", timeout_s=WAIT_S)
    finally:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            cloud.stop()


# -- faults on order -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("garbage_connack", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("short_connack", b"\x20\x01\x00"),
        ("cut_connack", b"\x20\x02\x00"),
    ],
)
def test_a_spoilt_connack_comes_as_often_as_ordered(
    cloud: AliyunCloud, fault: str, answer: bytes
) -> None:
    """Once, and then the truth again."""
    setattr(cloud.faults, fault, 1)
    with RawClient(cloud) as client:
        client.send(connect(*credentials(cloud)))
        assert client.read(100) == answer
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud)) == 0


def test_a_server_that_never_answers(cloud: AliyunCloud) -> None:
    """The connection stays and is silent until the client gives up."""
    cloud.faults.no_answer = 1
    with RawClient(cloud) as client:
        client.send(connect(*credentials(cloud)))
        cloud.event_log.wait("fault", timeout_s=WAIT_S, name="no_answer")
        client.send(b"\xc0\x00")
    closed(cloud, 1)


def test_an_unavailable_server_says_so(cloud: AliyunCloud) -> None:
    """CONNACK 3 twice, as ordered, then in."""
    cloud.faults.unavailable = 2
    codes = []
    for _ in range(3):
        with RawClient(cloud) as client:
            codes.append(client.connect(*credentials(cloud)))
    assert codes == [3, 3, 0]


def test_a_delayed_connack_still_comes(cloud: AliyunCloud) -> None:
    """The delay is in seconds, before each CONNACK."""
    cloud.faults.delay_s = 0.05
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud)) == 0
    times = {e["kind"]: e["time"] for e in cloud.events if e["connection"] == 1}
    assert times["connect"] - times["open"] >= 0.04


def test_an_acknowledgement_can_be_lost(cloud: AliyunCloud) -> None:
    """No PUBACK for one publish; the next one has its own."""
    cloud.faults.no_puback = 1
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud)) == 0
        client.publish(f"/{PK}/{DN}/user/update", b"x", packet_id=1)
        client.publish(f"/{PK}/{DN}/user/update", b"x", packet_id=2)
        assert client.packet() == (0x40, b"\x00\x02")


def test_a_connection_can_be_lost_at_a_publish(cloud: AliyunCloud) -> None:
    """The publish is not taken."""
    cloud.faults.drop_on_publish = 1
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud)) == 0
        client.publish(POST, b'{"id":"1","params":{"a":1}}', packet_id=1)
        assert client.ended()
    assert cloud.devices()[0]["points"] == {}


# -- start and stop ------------------------------------------------------------------------------


def test_stopping_ends_every_connection_and_thread(cloud: AliyunCloud) -> None:
    """No thread of the cloud's is left, and its clients see the end."""
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud)) == 0
        cloud.stop()
        assert client.ended()
    assert "aliyun" not in {thread.name for thread in threading.enumerate()}
    cloud.stop()


def test_a_cloud_that_starts_again_listens_where_it_was(cloud: AliyunCloud) -> None:
    """An outage can be played without telling the boards another port."""
    before = cloud.endpoints
    cloud.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(before[0].target, WAIT_S)
    cloud.start()
    assert cloud.endpoints == before
    with RawClient(cloud) as client:
        assert client.connect(*credentials(cloud)) == 0
