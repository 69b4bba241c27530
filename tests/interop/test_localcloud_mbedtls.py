"""A board's TLS, MicroPython's mbedTLS, against the local cloud's good and bad servers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from imprint_tools import certificates, runtime
from imprint_tools.localcloud import pki
from imprint_tools.localcloud.aliyun.cloud import AliyunCloud, AliyunConfig
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig, GatewayConfig
from imprint_tools.localcloud.cloud import Cloud

pytestmark = pytest.mark.interop

HOSTS = ["a1B2.iot-as-mqtt.cn-shanghai.aliyuncs.com", "iot-060a0bgd.mqtt.iothub.aliyuncs.com"]
CLIENT = """
import json, socket, sys, tls
orders = json.loads(sys.stdin.readline())
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.verify_mode = tls.CERT_REQUIRED
with open(orders["ca"], "rb") as file:
    context.load_verify_locations(file.read())
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", orders["port"])[0][-1])
try:
    context.wrap_socket(sock, server_hostname=orders["host"]).close()
    print("accepted")
except (OSError, ValueError) as error:
    print("refused:", error)
"""


def shake(
    cloud: Cloud[Any], host: str, folder: Path, *, port: int | None = None, ca_der: bytes = b""
) -> str:
    """What the board says of the server; it trusts `ca_der`, or the cloud's own."""
    script, ca = folder / "client.py", folder / "ca.der"
    script.write_text(CLIENT)
    ca.write_bytes(ca_der or cloud.ca_der)
    orders = {"ca": str(ca), "port": port or cloud.endpoints[0].target[1], "host": host}
    done = subprocess.run(  # noqa: S603 - the bench's own MicroPython
        runtime.find("i386").argv(str(script)),
        input=json.dumps(orders) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("key_type", ["ec", "rsa"])
def test_a_board_accepts_the_wildcards_of_both_host_names(tmp_path: Path, key_type: str) -> None:
    """The left-most label may be anything, with either kind of key."""
    with AliyunCloud(tmp_path / "aliyun", AliyunConfig(key_type=key_type)) as cloud:
        assert [shake(cloud, host, tmp_path) for host in HOSTS] == ["accepted\n"] * 2


@pytest.mark.parametrize("key_type", ["ec", "rsa"])
def test_a_board_accepts_servers_that_ask_for_a_certificate(tmp_path: Path, key_type: str) -> None:
    """A hub's and a gateway's, the gateway's chain of four with its root left out."""
    config = AzureConfig(key_type=key_type, gateways=(GatewayConfig("edge.example"),))
    with AzureCloud(tmp_path / "azure", config) as cloud:
        for host in ("imprint-hub.azure-devices.net", "edge.example"):
            port = next(e.target[1] for e in cloud.endpoints if (e.host, e.port) == (host, 8883))
            root = cloud.ca_pem if host != "edge.example" else cloud.known_gateway(host).root_ca
            der = certificates.der(certificates.load(root.read_bytes())[0])
            assert shake(cloud, host, tmp_path, port=port, ca_der=der) == "accepted\n"


@pytest.mark.parametrize("variant", sorted(set(pki.VARIANTS) - {pki.GOOD}))
def test_a_board_refuses_every_bad_server(tmp_path: Path, variant: str) -> None:
    """And the cloud's log says that the handshake failed."""
    with AliyunCloud(tmp_path / "aliyun", AliyunConfig(certificate=variant)) as cloud:
        assert shake(cloud, HOSTS[0], tmp_path).startswith("refused:")
        cloud.event_log.wait("tls-failed", timeout_s=10)
