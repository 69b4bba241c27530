"""A board's TLS, the firmware's own on 32-bit MicroPython with mbedTLS, against bad servers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tls_servers
from cryptography.hazmat.primitives.serialization import Encoding
from imprint_tools import certificates, issuer_output, paths, runtime
from imprint_tools.issuer import Authority
from imprint_tools.secret import Secret

pytestmark = pytest.mark.interop

# The unit's net/tls.py, and the handshake that net/stream.py makes with it at the first write.
CLIENT = """
import json, socket, sys
orders = json.loads(sys.stdin.readline())
sys.path.insert(0, orders["firmware"])
from imprint.errors import ImprintError
from imprint.net import tls
def read(name):
    if name in orders:
        with open(orders[name], "rb") as file:
            return file.read()
context = tls.context(read("ca"), read("certificate"), read("key"))
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", orders["port"])[0][-1])
try:
    wrapped = context.wrap_socket(
        sock, server_hostname=orders["host"], do_handshake_on_connect=False
    )
    wrapped.write(b"CONNECT")
    print(json.dumps({"code": 0, "answer": wrapped.read(2).decode()}))
except (OSError, ValueError) as error:
    told = tls.explain(error)
    print(json.dumps({"code": told.code, "detail": told.detail, "kind": type(told).__name__}))
"""


def shake(
    server: tls_servers.Server, folder: Path, host: str = tls_servers.HOST, **own: str
) -> dict[str, Any]:
    """What the firmware says of the server; `own` are files of its certificate and key."""
    script, ca = folder / "client.py", folder / "ca.der"
    script.write_text(CLIENT)
    ca.write_bytes(certificates.der(server.anchor))
    orders = {
        "firmware": str(paths.firmware_dir()), "ca": str(ca), "port": server.port, "host": host,
        **own,
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
    with tls_servers.serve(kind, tmp_path, answer=b"ok") as server:
        assert shake(server, tmp_path, host) == {"code": 0, "answer": "ok"}


@pytest.mark.parametrize("key_type", ["ec", "rsa"])
def test_a_board_shows_the_certificate_that_it_was_issued(tmp_path: Path, key_type: str) -> None:
    """`imprint ca leaf --format der`: the server verifies it, and the board's hold of its key."""
    with Authority.create_root(tmp_path / "root", "Root", Secret("a long passphrase")) as root:
        unit = issuer_output.leaf(
            root, "unit-1", tmp_path, key_type=key_type, encoding=Encoding.DER
        )
        own = {"certificate": str(unit.certificate), "key": str(unit.key)}
        trusted = root.certificate
    kind = tls_servers.WANTS_CLIENT
    with tls_servers.serve(kind, tmp_path, answer=b"ok", clients=trusted) as server:
        assert shake(server, tmp_path, **own) == {"code": 0, "answer": "ok"}
    with tls_servers.serve(kind, tmp_path, answer=b"ok") as server:
        assert shake(server, tmp_path, **own)["code"] != 0


@pytest.mark.parametrize("kind", tls_servers.bad_servers())
def test_a_board_refuses_each_bad_server(tmp_path: Path, kind: str) -> None:
    """With the code of its own reason, as far as mbedTLS tells them apart, and words."""
    with tls_servers.serve(kind, tmp_path) as server:
        told = shake(server, tmp_path)
    code, _ = tls_servers.VERDICTS[kind]
    assert told["code"] == code, told
    assert told["kind"] == ("WeatherError" if code == tls_servers.FAILED else "ProtocolError")
    assert told["detail"].strip() == told["detail"] != ""
