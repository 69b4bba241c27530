"""TLS that asks for a client certificate: whatever the client does, its own connection ends."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azuredevice import HUB_HOST, HubDevice, files
from imprint_tools import certificates
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig
from imprint_tools.localcloud.link import Limits

UNIT = "unit-1"
WAIT_S = 10.0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AzureCloud]:
    with AzureCloud(tmp_path / "azure") as running:
        running.create_device(UNIT)
        yield running


def target(cloud: AzureCloud) -> tuple[str, int]:
    return next(e.target for e in cloud.endpoints if (e.host, e.port) == (HUB_HOST, 8883))


def closed(cloud: AzureCloud, connection: int = 1) -> str:
    event = cloud.event_log.wait("close", timeout_s=WAIT_S, connection=connection)
    return str(event["reason"])


@pytest.mark.parametrize(
    "data", [b"", b"\x16", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff"]
)
def test_what_is_no_handshake_ends_there(cloud: AzureCloud, data: bytes) -> None:
    """Nothing, half a record, another protocol: closed by the one or the other."""
    with socket.create_connection(target(cloud), WAIT_S) as plain:
        plain.sendall(data)
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(1000):
            pass
    assert closed(cloud) in ("TLS failed", "lost (ConnectionResetError)")


def test_a_client_that_never_begins_is_closed(tmp_path: Path) -> None:
    """So that half-open connections do not pile up."""
    config = AzureConfig(limits=Limits(connect_s=0.2))
    with (
        AzureCloud(tmp_path / "azure", config) as cloud,
        socket.create_connection(target(cloud), WAIT_S) as plain,
    ):
        assert plain.recv(1) == b""
        assert closed(cloud) == "timeout"


def test_a_client_that_does_not_trust_says_so(cloud: AzureCloud) -> None:
    """Its alert is in the events."""
    context = ssl.create_default_context()
    with socket.create_connection(target(cloud), WAIT_S) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname=HUB_HOST)
    event = cloud.event_log.wait("tls-failed", timeout_s=WAIT_S)
    assert "unknown ca" in event["detail"]


@pytest.mark.parametrize(
    "options",
    [
        {"maximum_version": ssl.TLSVersion.TLSv1_1},
        {"minimum_version": ssl.TLSVersion.TLSv1_3},
        {"ciphers": "AES128-GCM-SHA256"},
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_only_what_the_hubs_speak_is_spoken(cloud: AzureCloud, options: dict[str, Any]) -> None:
    """TLS 1.2 with an elliptic-curve key exchange."""
    context = ssl.create_default_context(cafile=str(cloud.ca_pem))
    if "ciphers" in options:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(options["ciphers"])
    for name in ("maximum_version", "minimum_version"):
        if name in options:
            setattr(context, name, options[name])
    with socket.create_connection(target(cloud), WAIT_S) as plain, pytest.raises(OSError):
        context.wrap_socket(plain, server_hostname=HUB_HOST)
    assert closed(cloud) in ("TLS failed", "lost (ConnectionResetError)")


def test_a_certificate_proves_its_key_and_is_seen_whole(cloud: AzureCloud, tmp_path: Path) -> None:
    """The client's own first; whoever signed it, the handshake is good."""
    root = azure_pki.authority("nobody's root")
    issued = azure_pki.leaf(azure_pki.intermediate(root, "between"), UNIT)
    with HubDevice(cloud, UNIT, certificate=files(tmp_path, issued)) as device:
        assert device.enter() == 5
    event = cloud.event_log.wait("connect", timeout_s=WAIT_S)
    assert event["certificates"] == [UNIT, "between"]
    opened = cloud.event_log.wait("open", timeout_s=WAIT_S)
    assert (opened["tls"], opened["server_name"]) == (True, HUB_HOST)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\x0c\x08unit-abc", b"\x14\x08unit-\xff\xfe\xff"),
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09"),
    ],
)
def test_a_certificate_that_nobody_can_read_ends_there(
    cloud: AzureCloud, tmp_path: Path, old: bytes, new: bytes
) -> None:
    """OpenSSL takes a subject in T.61 or a version 9; here the handshake is refused."""
    issued = azure_pki.self_signed("unit-abc")
    chain, key = files(tmp_path, issued)
    der = certificates.der(issued.certificate)
    assert old in der
    chain.write_text(ssl.DER_cert_to_PEM_cert(der.replace(old, new)))
    with HubDevice(cloud, UNIT, certificate=(chain, key)) as device:
        assert device.ended()
    event = cloud.event_log.wait("tls-failed", timeout_s=WAIT_S)
    assert event["detail"] == "certificate unreadable"


def test_large_messages_pass_both_ways(cloud: AzureCloud) -> None:
    """In as many records as it takes, with small ones behind them."""
    key = cloud.device_key(UNIT).reveal().decode()
    with HubDevice(cloud, UNIT) as device:
        device.enter(key)
        device.subscribe(f"devices/{UNIT}/messages/devicebound/#")
        assert device.tell(b"u" * 200_000)
        cloud.send_c2d(UNIT, b"d" * 60_000)
        assert device.message()[1] == b"d" * 60_000
        device.send(b"\xc0\x00" * 3 + b"\xe0\x00")
        assert device.read(100) == b"\xd0\x00" * 3
    assert closed(cloud) == "DISCONNECT"


def test_a_client_that_vanishes_is_noticed(cloud: AzureCloud) -> None:
    """Without close_notify, and with it."""
    key = cloud.device_key(UNIT).reveal().decode()
    for number in (1, 2):
        device = HubDevice(cloud, UNIT)
        assert device.enter(key) == 0
        if number == 2:
            device._sock.unwrap()  # type: ignore[attr-defined]
        device._sock.close()
        assert closed(cloud, number) in ("closed", "lost (ConnectionResetError)")
