"""`imprint modem`: a port that stays when the command has ended."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import serial

IMPRINT = [sys.executable, "-c", "from imprint_tools.cli import main; main()", "modem"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPRINT_STATE", str(tmp_path))


def imprint(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [*IMPRINT, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_up_use_and_down() -> None:
    """Up in the background, used by a program, rebooted, listed, and down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        route = f"192.0.2.7:5683=127.0.0.1:{server.getsockname()[1]}"
        done = imprint("up", "one", "--family", "udp", "--route", route, "--json")
        assert done.returncode == 0, done.stderr
        state = json.loads(done.stdout)
        assert (state["family"], state["up"]) == ("udp", True)
        try:
            with serial.Serial(state["port"], timeout=5) as port:
                until(port, b"AT+CEREG?", b"+CEREG: 0,1")
                until(port, b'AT+NSOCR="DGRAM",17,0,1', b"OK")
                until(port, b"AT+NSOST=0,192.0.2.7,5683,3,616263", b"OK")
            assert server.recv(100) == b"abc"
            again = imprint("up", "one", "--family", "udp")
            assert again.returncode == 40 and "up already" in again.stderr
            assert imprint("rebind", "one").returncode == 0
            told = json.loads(imprint("reboot", "one", "--json").stdout)
            assert told["bytes_up"] == 3
            [listed] = json.loads(imprint("list", "--json").stdout)
            assert listed["name"] == "one" and listed["up"]
            assert "udp" in imprint("list").stdout
        finally:
            assert imprint("down", "one").returncode == 0
    assert json.loads(imprint("list", "--json").stdout)[0]["up"] is False
    refused = imprint("down", "one")
    assert refused.returncode == 40 and "imprint modem up one" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("a/b", "--family", "udp"),
        ("x", "--family", "none"),
        ("x", "--family", "udp", "--route", "a"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """A name with a slash, an unknown family, a route that is none: status 2, nothing made."""
    assert imprint("up", *arguments).returncode == 2
    assert json.loads(imprint("list", "--json").stdout) == []


def until(port: serial.Serial, line: bytes, wanted: bytes) -> None:
    """Repeat a command line until its answer has `wanted`: a modem that boots hears nothing."""
    port.timeout = 0.1
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        port.write(line + b"\r")
        if wanted in port.read_until(b"OK\r\n"):
            return
    raise AssertionError(f"no {wanted!r}")
