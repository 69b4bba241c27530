"""A board that has MicroPython, at `--port`: a real one, or a virtual one's pty.

Nothing of what the board holds is changed: its identity, its credential and its files stay.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.hardware

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def port(request: pytest.FixtureRequest) -> str:
    """What `make test-hardware PORT=` was given."""
    named = request.config.getoption("--port")
    assert isinstance(named, str), "name the board's port: --port /dev/ttyUSB0"
    return named


def run(*command: str | Path, timeout_s: float) -> str:
    """The output of a process that has to succeed."""
    done = subprocess.run(  # noqa: S603  our own tools on the port that we were given
        [sys.executable, *command], timeout=timeout_s, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_esptool_knows_the_chip(port: str) -> None:
    """esptool gets the chip into download mode and out again."""
    assert "Detecting chip type" in run("-m", "esptool", "--port", port, "chip-id", timeout_s=60)


def test_mpremote_sees_micropython(port: str) -> None:
    """MicroPython runs, is of the age that the firmware asks for, and is an ESP32's."""
    program = "import sys; print(sys.implementation[1][:2] >= (1, 24), sys.platform)"
    shown = run("-m", "mpremote", "connect", port, "exec", program, timeout_s=60)
    assert shown.split() == ["True", "esp32"]


def test_the_firmware_passes_its_tests(port: str) -> None:
    """The firmware's own tests pass in the board's MicroPython, on the board's heap."""
    shown = run(TESTS / "run_on_micropython.py", "--port", port, timeout_s=1800)
    assert shown.strip().endswith(", 0 failed")
