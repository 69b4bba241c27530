"""A board's TLS, the firmware's own on 32-bit MicroPython with mbedTLS, against bad servers."""

from __future__ import annotations

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


@pytest.mark.parametrize(("kind", "host"), tls_servers.GOOD.items())
def test_a_board_accepts_a_good_server(tmp_path: Path, kind: str, host: str) -> None:
    """EC, RSA, wildcard and address, with an intermediate that the server sends."""
    with tls_servers.serve(kind, tmp_path) as server:
        assert shake(server, tmp_path, host) == {"code": 0}


@pytest.mark.parametrize("kind", tls_servers.bad_servers())
def test_a_board_refuses_each_bad_server(tmp_path: Path, kind: str) -> None:
    """With the code of its own reason, as far as mbedTLS tells them apart, and words."""
    with tls_servers.serve(kind, tmp_path) as server:
        told = shake(server, tmp_path)
    code, _ = tls_servers.VERDICTS[kind]
    assert told["code"] == code, told
    assert told["kind"] == ("WeatherError" if code == tls_servers.FAILED else "ProtocolError")
    assert told["detail"].strip() == told["detail"] != ""
