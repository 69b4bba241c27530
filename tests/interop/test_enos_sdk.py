"""The vendor's own device SDK for Python, unmodified, is at home in the local EnOS.

Where the SDK itself is faulty (its float timestamps, a method that ends in "Error", a batch whose
timestamp is in seconds, replies that it cannot read), the hub takes it as the vendor's must.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from imprint_tools import certificates
from imprint_tools.localcloud.enos.cloud import (
    MQTT_PORT,
    MQTTS_PORT,
    EnosCloud,
    EnosConfig,
    EnosProduct,
)
from imprint_tools.localcloud.enos.config import EnosLimits
from imprint_tools.localcloud.enos.records import GATEWAY

pytestmark = pytest.mark.interop

PK, DK, SUB_PK = "gwPK0001", "edge-1", "subPK001"
DEVICE = Path(__file__).with_name("enos_sdk_device.py")
WAIT_S = 30.0
# It reconnects at once after an activation, which the documented limits forbid.
CONFIG = EnosConfig(
    products=(EnosProduct(PK, devices=(DK,), kind=GATEWAY), EnosProduct(SUB_PK)),
    limits=EnosLimits(connects=None),
)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[EnosCloud]:
    with EnosCloud(tmp_path / "enos", CONFIG) as running:
        yield running


class Sdk:
    """The process, ordered about over stdin."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def line(self) -> dict[str, Any]:
        """The next JSON object that it writes."""
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if text.startswith("{"):
                found: dict[str, Any] = json.loads(text)
                return found
        assert self._process.stderr is not None
        raise AssertionError(self._process.stderr.read())

    def result(self) -> dict[str, Any]:
        """What it said at its end."""
        out, err = self._process.communicate(timeout=WAIT_S)
        assert self._process.returncode == 0, err
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found


@contextmanager
def sdk(cloud: EnosCloud, *, port: int = MQTT_PORT, **orders: Any) -> Iterator[Sdk]:
    target = next(e.target[1] for e in cloud.endpoints if e.port == port)
    scheme = "tcp" if port == MQTT_PORT else "ssl"
    document = {
        "url": f"{scheme}://{cloud.config.mqtt_host}:{target}",
        "product_key": PK,
        "device_key": DK,
        "device_secret": cloud.device_secret(PK, DK).reveal().decode(),
        **orders,
    }
    with subprocess.Popen(  # noqa: S603 - this interpreter, the file beside
        [sys.executable, str(DEVICE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        found = Sdk(process)
        found.say(json.dumps(document))
        try:
            yield found
        finally:
            process.kill()


def shown(cloud: EnosCloud, dk: str) -> dict[str, Any]:
    return next(device for device in cloud.devices() if device["device_key"] == dk)


def test_a_gateway_brings_up_a_sub_device_and_speaks_for_it(cloud: EnosCloud) -> None:
    """Registered, bound, logged in, posted for, commanded, disabled, and let go."""
    with sdk(cloud, subdevice_product_key=SUB_PK) as gateway:
        assert gateway.line() == {"waits": "set"}
        assert shown(cloud, "meter-1")["status"] == "online"
        command_id = cloud.set_measurepoints(SUB_PK, "meter-1", {"relay": 1})
        cloud.event_log.wait("command-reply", timeout_s=WAIT_S, id=command_id, code=200)
        # The SDK has no handler for this one, and says so in its own way.
        command_id = cloud.invoke(SUB_PK, "meter-1", "reboot", {})
        cloud.event_log.wait("command-reply", timeout_s=WAIT_S, id=command_id, code=1101)
        gateway.say("seen")
        assert gateway.line() == {"waits": "disable"}
        mark = cloud.event_log.mark()
        cloud.set_enabled(SUB_PK, "meter-1", False)
        cloud.event_log.wait(
            "command-reply", timeout_s=WAIT_S, after=mark, topic="combine/disable", code=200
        )
        gateway.say("seen")
        found = gateway.result()
    sub = {"productKey": SUB_PK, "deviceKey": "meter-1"}
    asset = found["said"]["login"][1].pop("assetId")
    assert asset
    assert found == {
        "connected": True,
        "said": {
            "add": [200, None],
            "get": [200, [sub]],
            "login": [200, sub],
            "post for it": [200, None],
            "post": [200, None],
            "batch": [200, None],
            "resume": [200, None],
            "event": [200, None],
            "attributes": [200, None],
            "attributes again": [200, {"a": 1}],
            "tags": [200, None],
            "tags again": [200, {"row": "7"}],
            "set": [SUB_PK, "meter-1", {"relay": 1}],
            "logout": [200, None],
            "login batch": [200, 1],
            "disable": [sub],
            "delete": [200, None],
        },
    }
    meter, edge = shown(cloud, "meter-1"), shown(cloud, DK)
    assert meter["measurepoints"]["temp"]["value"] == 4
    assert (meter["attributes"], meter["gateway"]) == ({"site": "north"}, None)
    assert {name: p["value"] for name, p in edge["measurepoints"].items()} == {
        "temp": 3, "speed": 5,
    }  # fmt: skip
    assert edge["events"][0]["fields"] == {"temp": 99}
    cloud.stop()
    kept = json.loads((cloud.folder / "devices.json").read_text())
    secrets = {one["secret"] for p in kept["products"] for one in (p, *p["devices"])}
    said = (cloud.folder / "events.jsonl").read_text()
    assert len(secrets) == 4 and not any(secret in said for secret in secrets)


@pytest.mark.parametrize("method", ["hmacsha256", "hmacsha1", "hmacmd5"])
def test_it_logs_in_with_each_of_its_methods(cloud: EnosCloud, method: str) -> None:
    """With the decimal text of a float for a timestamp."""
    with sdk(cloud, sign_method=method) as gateway:
        assert gateway.result()["connected"] is True
    (event,) = [e for e in cloud.events if e["kind"] == "connect"]
    assert f"signmethod={method}" in event["client_id"] and "." in event["client_id"]


def test_it_activates_and_logs_in_with_what_it_was_given(cloud: EnosCloud) -> None:
    """One type one secret; it replies, and comes back in mode 2."""
    secret = cloud.product_secret(PK).reveal().decode()
    with sdk(cloud, product_secret=secret) as gateway:
        cloud.event_log.wait("command-reply", timeout_s=WAIT_S, topic="thing/activate/info")
        gateway.say("seen")
        found = gateway.result()
    assert found == {"activated": True, "connected": True, "said": {}}
    assert [e["secure_mode"] for e in cloud.events if e["kind"] == "login"] == [3, 2]
    assert shown(cloud, DK)["activated"] is True


def test_it_logs_in_with_a_certificate(cloud: EnosCloud, tmp_path: Path) -> None:
    """Over TLS, where its product demands one; the certificate is the service's."""
    cloud.require_certificate(PK)
    key = certificates.new_key("ec")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DK)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    csr = request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    issued = cloud.issue_certificate(PK, DK, csr)
    (tmp_path / "key.pem").write_bytes(certificates.key_bytes(key).reveal())
    (tmp_path / "chain.pem").write_text(issued["cert"] + issued["caCert"])
    files = {
        "ca": str(cloud.ca_pem),
        "certificate": str(tmp_path / "chain.pem"),
        "key": str(tmp_path / "key.pem"),
    }
    with sdk(cloud, port=MQTTS_PORT, **files) as gateway:
        assert gateway.result()["connected"] is True
    (event,) = [e for e in cloud.events if e["kind"] == "login"]
    assert event["tls"] is True


def test_it_takes_a_refusal_for_what_it_is(cloud: EnosCloud) -> None:
    """742 in the device log; the SDK is not connected."""
    with sdk(cloud, device_secret="wrong", wait_s=1) as gateway:  # noqa: S106 - to be refused
        event = cloud.event_log.wait("refused", timeout_s=WAIT_S)
        assert event["code"] == 742
        assert gateway.result() == {"connected": False, "said": {}}


def test_it_refuses_a_server_of_another_authority(tmp_path: Path) -> None:
    """The judge itself verifies."""
    config = EnosConfig(products=CONFIG.products, certificate_variant="other-ca")
    with EnosCloud(tmp_path / "enos", config) as cloud:
        key = certificates.new_key("ec")
        now = certificates.utc_now()
        own = certificates.build(DK, key.public_key(), None, key, now, now.replace(year=2099))
        (tmp_path / "key.pem").write_bytes(certificates.key_bytes(key).reveal())
        (tmp_path / "chain.pem").write_bytes(certificates.pem(own))
        files = {
            "ca": str(cloud.ca_pem),
            "certificate": str(tmp_path / "chain.pem"),
            "key": str(tmp_path / "key.pem"),
        }
        with sdk(cloud, port=MQTTS_PORT, **files):
            cloud.event_log.wait("tls-failed", timeout_s=WAIT_S)
            assert not [e for e in cloud.events if e["kind"] == "connect"]
