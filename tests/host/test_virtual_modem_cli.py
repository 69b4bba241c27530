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
from imprint_tools.virtual.modem.quirks import from_words

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


def test_a_modem_without_a_name_misbehaves_as_told() -> None:
    """Name and family have defaults; a quirk is switched on in the process that stays."""
    done = imprint("up", "--quirk", "refused=+CFUN:3", "--json")
    assert done.returncode == 0, done.stderr
    state = json.loads(done.stdout)
    assert (state["name"], state["family"]) == ("one", "nrf91")
    try:
        with serial.Serial(state["port"], timeout=5) as port:
            until(port, b"AT+CMEE=1", b"OK")
            until(port, b"AT+CFUN=4", b"+CME ERROR: 3")
            until(port, b"AT+CFUN=4", b"OK")
    finally:
        assert imprint("down").returncode == 0


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["bare_ok"], "bare_ok", True),
        (["prints_data_mode_ok=off"], "prints_data_mode_ok", False),
        (["ccm_8=on"], "ccm_8", True),
        (["lost_wake_bytes=8"], "lost_wake_bytes", 8),
        (["gap_s=0.1"], "gap_s", 0.1),
        (["slow=+CFUN:2.5", "slow=I:1"], "slow", {"+CFUN": 2.5, "I": 1.0}),
        (["refused=+CFUN:3"], "refused", {"+CFUN": 3}),
    ],
)
def test_quirks_have_words(words: list[str], name: str, value: object) -> None:
    """Of a command line, each is what the field takes."""
    assert getattr(from_words(words), name) == value


@pytest.mark.parametrize(
    "word", ["", "echo", "bare_ok=1", "gap_s", "gap_s=-1", "gap_s=nan", "slow=1", "refused=I:x"]
)
def test_what_is_no_quirk(word: str) -> None:
    """A name or a value that is none."""
    with pytest.raises(ValueError, match="no quirk"):
        from_words([word])


@pytest.mark.parametrize(
    "arguments",
    [
        ("a/b", "--family", "udp"),
        ("x", "--family", "none"),
        ("x", "--family", "udp", "--route", "a"),
        ("x", "--quirk", "echo"),
        ("x", "--loss", "101"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """What is no name, family, route, quirk or chance: status 2, nothing made."""
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
