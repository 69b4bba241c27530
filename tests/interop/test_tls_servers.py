"""A board's TLS, the firmware's own on 32-bit MicroPython with mbedTLS, against bad servers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tls_servers
from imprint_tools import certificates, paths, runtime

pytestmark = pytest.mark.interop

# The unit's net/tls.py, and the handshake that net/stream.py makes with it at the first write.
CLIENT = """
import json, socket, sys
orders = json.loads(sys.stdin.readline())
sys.path.insert(0, orders["firmware"])
from imprint.errors import ImprintError
from imprint.net import tls
with open(orders["ca"], "rb") as file:
    context = tls.context(file.read())
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", orders["port"])[0][-1])
try:
    wrapped = context.wrap_socket(
        sock, server_hostname=orders["host"], do_handshake_on_connect=False
    )
    wrapped.write(b"CONNECT")
    print(json.dumps({"code": 0}))
except (OSError, ValueError) as error:
    told = tls.explain(error)
    print(json.dumps({"code": told.code, "detail": told.detail, "kind": type(told).__name__}))
"""

DATE, NAME, ISSUER, FAILED, UNFIT = 310, 311, 312, 313, 314
CODES = {
    "expired": DATE,
    "expired-intermediate": DATE,
    "not-yet-valid": DATE,
    "other-name": NAME,
    "name-in-cn-beside-another": NAME,
    "name-in-cn-only": NAME,
    # These are one thing to mbedTLS; `imprint gateway check` tells them apart.
    "other-ca": ISSUER,
    "other-ca-of-the-same-name": ISSUER,
    "self-signed": ISSUER,
    "missing-intermediate": ISSUER,
    "not-an-authority": ISSUER,
    "for-clients": UNFIT,
    "signs-nothing": UNFIT,
    "weak-key": UNFIT,
    tls_servers.NO_CERTIFICATE: FAILED,
    tls_servers.NO_COMMON_SUITE: FAILED,
    tls_servers.CLOSES: FAILED,
    tls_servers.PLAIN_HTTP: FAILED,
    tls_servers.PLAIN_MQTT: FAILED,
}


def shake(
    server: tls_servers.Server, folder: Path, host: str = tls_servers.HOST
) -> dict[str, Any]:
    """What the firmware says of the server."""
    script, ca = folder / "client.py", folder / "ca.der"
    script.write_text(CLIENT)
    ca.write_bytes(certificates.der(server.anchor))
    orders = {
        "firmware": str(paths.firmware_dir()), "ca": str(ca), "port": server.port, "host": host,
    }  # fmt: skip
    done = subprocess.run(  # noqa: S603 - the bench's own MicroPython
        runtime.find("i386").argv(str(script), heap="96k"),
        input=json.dumps(orders) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        ("good", tls_servers.HOST),
        ("good-rsa", tls_servers.HOST),
        ("good-wildcard", "eu-1.gw.local"),
    ],
)
def test_a_board_accepts_a_good_server(tmp_path: Path, kind: str, host: str) -> None:
    """EC, RSA, wildcard, with an intermediate that the server sends."""
    with tls_servers.serve(kind, tmp_path) as server:
        assert shake(server, tmp_path, host) == {"code": 0}


@pytest.mark.parametrize("kind", CODES)
def test_a_board_refuses_each_bad_server(tmp_path: Path, kind: str) -> None:
    """With the code of its own reason, as far as mbedTLS tells them apart, and words."""
    with tls_servers.serve(kind, tmp_path) as server:
        told = shake(server, tmp_path)
    assert told["code"] == CODES[kind], told
    assert told["kind"] == ("WeatherError" if CODES[kind] == FAILED else "ProtocolError")
    assert told["detail"].strip() == told["detail"] != ""


@pytest.mark.skipif(not importlib.util.find_spec("mbedtls"), reason="no such library here")
def test_a_board_refuses_a_stolen_certificate(tmp_path: Path) -> None:
    """The server does not hold the certificate's key."""
    with tls_servers.serve(tls_servers.STOLEN, tmp_path) as server:
        assert shake(server, tmp_path)["code"] == FAILED


def test_every_server_is_tried() -> None:
    """All that there are but the silent one, which net/stream.py's own deadline ends."""
    everything = {*tls_servers.CHAINS, *tls_servers.WITHOUT_TLS, tls_servers.NO_CERTIFICATE,
                  tls_servers.NO_COMMON_SUITE}  # fmt: skip
    good = {"good", "good-rsa", "good-wildcard"}
    assert everything - set(CODES) == good | {tls_servers.SILENT}
