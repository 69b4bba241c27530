"""The vendor's own device SDK, unmodified, is at home in the local Aliyun."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from imprint_tools.localcloud.aliyun.cloud import AliyunCloud, AliyunConfig, ProductConfig

pytestmark = pytest.mark.interop

PK, DN = "a1B2c3D4e5F", "press-07"
INSTANCE = "iot-060a0bgd"
DEVICE = Path(__file__).with_name("aliyun_sdk_device.py")
WAIT_S = 30.0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AliyunCloud]:
    config = AliyunConfig(products=(ProductConfig(PK),))
    with AliyunCloud(tmp_path / "aliyun", config) as running:
        yield running


@contextmanager
def sdk(cloud: AliyunCloud, **orders: Any) -> Iterator[subprocess.Popen[str]]:
    """The SDK in a process of its own, ordered about over stdin."""
    secret = cloud.product_secret(PK).reveal().decode()
    document = {
        "product_key": PK,
        "device_name": DN,
        "product_secret": secret,
        "port": next(e.target[1] for e in cloud.endpoints if e.port == 8883),
        "ca": cloud.ca_pem.read_text(),
        **orders,
    }
    with subprocess.Popen(  # noqa: S603 - this interpreter, the file beside
        [sys.executable, str(DEVICE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(document) + "\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the device said at its end: its last line."""
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def journey(cloud: AliyunCloud, **orders: Any) -> dict[str, Any]:
    """Through to a property set that the device has answered."""
    with sdk(cloud, **orders) as process:
        cloud.event_log.wait(
            "down", timeout_s=WAIT_S, topic=f"/sys/{PK}/{DN}/thing/event/property/post_reply"
        )
        # QoS 0, so that the SDK has no PUBACK to write while its other thread writes the answer.
        message_id, fate = cloud.set_properties(PK, DN, {"relay": 1}, qos=0)
        assert fate == "sent"
        cloud.event_log.wait("set-reply", timeout_s=WAIT_S, id=message_id, code=200)
        assert process.stdin is not None
        process.stdin.write("seen\n")
        process.stdin.flush()
        return result(process)


def check_journey(cloud: AliyunCloud, found: dict[str, Any], host: str) -> None:
    assert found["seen"] == {
        "connected": 0, "enabled": None, "posted": 200, "set": {"relay": 1},
    }  # fmt: skip
    assert found["asked"] == [host], "the SDK built and verified the vendor's own host name"
    assert {e["server_name"] for e in cloud.events if e["kind"] == "open"} == {host}
    (device,) = cloud.devices()
    assert device["activated"] is True
    assert device["points"]["temperature"]["value"] == 21.5


@pytest.mark.parametrize("instance_id", [None, INSTANCE])
def test_it_registers_unlisted_logs_in_with_its_token_and_posts(
    cloud: AliyunCloud, instance_id: str | None
) -> None:
    """regnwl at both shapes of host name, connwl, property post and reply, property set."""
    found = journey(cloud, auth_type="regnwl", instance_id=instance_id)
    assert found["code"] == 0
    host = (
        f"{instance_id}.mqtt.iothub.aliyuncs.com"
        if instance_id
        else f"{PK}.iot-as-mqtt.cn-shanghai.aliyuncs.com"
    )
    check_journey(cloud, found, host)
    assert [e["auth"] for e in cloud.events if e["kind"] == "login"] == ["connwl"]


def test_it_registers_listed_logs_in_with_its_secret_and_posts(cloud: AliyunCloud) -> None:
    """register, signed login with HMAC-SHA1, property post and reply, property set."""
    cloud.create_device(PK, DN)
    found = journey(cloud, auth_type="register")
    assert found["code"] == 0
    check_journey(cloud, found, f"{PK}.iot-as-mqtt.cn-shanghai.aliyuncs.com")
    assert [e["auth"] for e in cloud.events if e["kind"] == "login"] == ["signed"]


def test_it_logs_in_with_a_burned_in_triple(cloud: AliyunCloud) -> None:
    """No registration at all."""
    secret = cloud.create_device(PK, DN).reveal().decode()
    found = journey(cloud, credentials={"device_secret": secret})
    check_journey(cloud, found, f"{PK}.iot-as-mqtt.cn-shanghai.aliyuncs.com")


@pytest.mark.parametrize(("auth_type", "expected"), [("regnwl", -770), ("register", -769)])
def test_it_takes_a_refusal_for_what_it_is(
    cloud: AliyunCloud, auth_type: str, expected: int
) -> None:
    """With the switch off, the SDK reports its own code for a refused registration."""
    cloud.create_device(PK, DN)
    cloud.set_dynamic_registration(PK, False)
    with sdk(cloud, auth_type=auth_type) as process:
        assert result(process)["code"] == expected


def test_it_refuses_a_server_of_another_authority(tmp_path: Path) -> None:
    """The judge itself verifies: what it accepts above is not accepted from a stranger."""
    config = AliyunConfig(products=(ProductConfig(PK),), certificate="other-ca")
    with (
        AliyunCloud(tmp_path / "aliyun", config) as cloud,
        sdk(cloud, auth_type="regnwl"),
    ):
        cloud.event_log.wait("tls-failed", timeout_s=WAIT_S)
        assert not [e for e in cloud.events if e["kind"] == "connect"]
