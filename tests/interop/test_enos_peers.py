"""The local EnOS, judged by other people's DTLS and CoAP: openssl, libcoap and aiocoap.

openssl is on every Debian. libcoap's clients (Debian: libcoap3-bin, one built with OpenSSL and one
with GnuTLS) are asked where they are installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import aiocoap
import pytest
from imprint_tools.localcloud.enos.auth import psk
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig, EnosProduct
from imprint_tools.secret import Secret

sys.path.append(str(Path(__file__).parents[1] / "host"))
from enosdevice import CBC_SHA256, CCM_8, EnosDevice, envelope

pytestmark = pytest.mark.interop

PK, DK = "MuGsF6W4", "15bBZlRknc"
SUITES = {"PSK-AES128-CCM8": CCM_8, "PSK-AES128-CBC-SHA256": CBC_SHA256}
WAIT_S = 30.0
POINTS = f"/topic/sys/{PK}/{DK}/thing/measurepoint/post"
ACTIVATE = f"/topic/ext/session/{PK}/{DK}/thing/activate/info"
LIBCOAP = [
    name
    for name in ("coap-client-openssl", "coap-client-gnutls")
    if shutil.which(name) is not None
]
COMMAND_TOPIC = 2100


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[EnosCloud]:
    # A product's secret whose PSK has no zero byte: libcoap's client takes it as a C string.
    product = EnosProduct(PK, Secret("abcdefg"), devices=(DK,))
    with EnosCloud(tmp_path / "enos", EnosConfig(products=(product,))) as running:
        yield running


def device_for_libcoap(cloud: EnosCloud) -> tuple[str, Secret]:
    """A device whose PSK has no zero byte either."""
    while True:
        name = f"unit-{len(cloud.devices())}"
        secret = cloud.create_device(PK, name)
        if 0 not in psk(secret).reveal():
            return name, secret


# -- openssl -----------------------------------------------------------------------------------


def s_client(cloud: EnosCloud, suite: str, identity: str, key: bytes) -> str:
    """What openssl says of a handshake and of what comes back for a CoAP ping and its end."""
    done = subprocess.run(  # noqa: S603 - the judge
        [
            shutil.which("openssl") or "openssl", "s_client", "-dtls1_2",
            "-connect", f"127.0.0.1:{cloud.port}", "-cipher", suite,
            "-psk_identity", identity, "-psk", key.hex(),
        ],
        input=b"",
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )  # fmt: skip
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize("suite", SUITES)
def test_openssl_connects(cloud: EnosCloud, suite: str) -> None:
    """Cookie exchange and handshake with either suite; the device is Online by it."""
    key = psk(cloud.device_secret(PK, DK)).reveal()
    said = s_client(cloud, suite, f"{PK},{DK},2,3600", key)
    assert re.search(rf"Cipher *(is|:) {suite}", said)
    login = cloud.event_log.wait("login", timeout_s=WAIT_S)
    assert (login["suite"], login["handshake"]["up_datagrams"]) == (SUITES[suite], 3)
    ended = cloud.event_log.wait("session-end", timeout_s=WAIT_S)
    assert ended["reason"] == "closed by the peer"


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(
    ("identity", "key", "reason"),
    [
        (f"{PK},{DK},2,3600", bytes(16), "wrong-key"),
        (f"{PK},nobody,2,3600", bytes(16), "device-unknown"),
        (f"{PK},{DK},2,10", bytes(16), "lifetime-outside"),
    ],
)
def test_openssl_is_refused(
    cloud: EnosCloud, suite: str, identity: str, key: bytes, reason: str
) -> None:
    """By an alert that it understands."""
    assert "alert" in s_client(cloud, suite, identity, key)
    refused = cloud.event_log.wait("handshake-refused", timeout_s=WAIT_S)
    assert (refused["identity"], refused["reason"]) == (identity, reason)


def test_openssl_finds_no_common_suite(cloud: EnosCloud) -> None:
    """With a suite that EnOS does not have."""
    key = psk(cloud.device_secret(PK, DK)).reveal()
    said = s_client(cloud, "PSK-AES256-GCM-SHA384", f"{PK},{DK},2,3600", key)
    assert "handshake failure" in said
    refused = cloud.event_log.wait("handshake-refused", timeout_s=WAIT_S)
    assert refused["reason"] == "no-common-suite"


# -- libcoap -----------------------------------------------------------------------------------


def coap_client(client: str, cloud: EnosCloud, identity: str, secret: Secret, *more: str) -> str:
    """Run it to its end; what it printed. The path is the last argument."""
    *options, path = more
    done = subprocess.run(  # noqa: S603 - the judge
        [
            client.encode(), b"-B", b"10", b"-v", b"6", b"-u", identity.encode(),
            b"-k", psk(secret).reveal(), *(option.encode() for option in options),
            f"coaps://127.0.0.1:{cloud.port}{path}".encode(),
        ],
        capture_output=True,
        timeout=WAIT_S,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize("client", LIBCOAP)
def test_libcoap_activates(cloud: EnosCloud, client: str) -> None:
    """GET in a session of mode 3."""
    secret = cloud.product_secret(PK)
    said = coap_client(client, cloud, f"{PK},{DK},3,3600", secret, "-m", "get", ACTIVATE)
    issued = cloud.device_secret(PK, DK).reveal().decode()
    assert f'"deviceSecret":"{issued}"' in said
    assert cloud.event_log.wait("activated", timeout_s=WAIT_S)["device_key"] == DK


@pytest.mark.parametrize("client", LIBCOAP)
@pytest.mark.parametrize("size", [10, 3000])
def test_libcoap_reports(cloud: EnosCloud, client: str, size: int, tmp_path: Path) -> None:
    """POST in a session of mode 2, also in blocks, and the reply."""
    name, secret = device_for_libcoap(cloud)
    body = tmp_path / "body.json"
    body.write_bytes(envelope({"measurepoints": {"text": "x" * size}}))
    options = ("-m", "post", "-b", "256", "-f", str(body), POINTS.replace(DK, name))
    said = coap_client(client, cloud, f"{PK},{name},2,3600", secret, *options)
    assert '{"id":"1","code":200' in said
    report = cloud.event_log.wait("report", timeout_s=WAIT_S)
    assert (report["code"], report["bytes"]) == (200, len(body.read_bytes()))


# -- aiocoap -----------------------------------------------------------------------------------


class Tunnel:
    """DTLS for a client that has none for pre-shared keys: plain UDP at one end, and at the other
    a session of `EnosDevice`."""

    def __init__(self, device: EnosDevice) -> None:
        self._device = device.handshake()
        self._plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._plain.bind(("127.0.0.1", 0))
        self.port: int = self._plain.getsockname()[1]
        self._over = False
        self._thread = threading.Thread(target=self._move)

    def __enter__(self) -> Tunnel:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(WAIT_S)
        self._plain.close()
        self._device.sock.close()

    def _move(self) -> None:
        """Each request that comes has one answer here."""
        while True:
            data, address = self._plain.recvfrom(4096)
            if self._over:
                return
            self._device.send(data)
            self._plain.sendto(self._device.receive(), address)


def aiocoap_request(
    tunnel: Tunnel, code: aiocoap.Code, path: str, payload: bytes = b""
) -> aiocoap.Message:
    """One request by aiocoap's client, block-wise where it has to be."""

    async def ask() -> aiocoap.Message:
        context = await aiocoap.Context.create_client_context(transports=["simple6"])
        try:
            uri = f"coap://127.0.0.1:{tunnel.port}{path}"
            message = aiocoap.Message(code=code, uri=uri, payload=payload)
            return await asyncio.wait_for(context.request(message).response, WAIT_S)
        finally:
            await context.shutdown()

    return asyncio.run(ask())


def test_aiocoap_activates_and_reports(cloud: EnosCloud) -> None:
    """Both requests of the journey, with aiocoap's own tokens and message ids."""
    with Tunnel(EnosDevice(cloud.port, f"{PK},{DK},3,3600", cloud.product_secret(PK))) as tunnel:
        answer = aiocoap_request(tunnel, aiocoap.GET, ACTIVATE)
        assert answer.code == aiocoap.CONTENT
        secret = Secret(json.loads(answer.payload)["params"]["deviceSecret"])
    command = cloud.set_measurepoints(PK, DK, {"relay": 1})
    with Tunnel(EnosDevice(cloud.port, f"{PK},{DK},2,3600", secret)) as tunnel:
        answer = aiocoap_request(
            tunnel, aiocoap.POST, POINTS, envelope({"measurepoints": {"t": 1}})
        )
        assert (answer.code, json.loads(answer.payload)["code"]) == (aiocoap.CHANGED, 200)
        (topic,) = answer.opt.get_option(COMMAND_TOPIC)
        fetched = aiocoap_request(tunnel, aiocoap.GET, topic.value.decode())
        assert json.loads(fetched.payload)["id"] == command


def test_aiocoap_moves_blocks_both_ways(cloud: EnosCloud) -> None:
    """A report and an answer of several kilobytes."""
    secret = cloud.device_secret(PK, DK)
    values = {f"attribute-{number}": "x" * 100 for number in range(40)}
    with Tunnel(EnosDevice(cloud.port, f"{PK},{DK},2,3600", secret)) as tunnel:
        base = f"/topic/sys/{PK}/{DK}/thing/attribute/"
        payload = envelope({"attributes": values})
        assert len(payload) > 4096
        answer = aiocoap_request(tunnel, aiocoap.POST, base + "update", payload)
        assert json.loads(answer.payload)["code"] == 200
        answer = aiocoap_request(
            tunnel, aiocoap.POST, base + "query", envelope({"attributes": []})
        )
        assert json.loads(answer.payload)["data"] == values
