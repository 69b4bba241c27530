"""Unmodified esptool, as a process of its own, against a virtual board."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from esptool import cmds
from imprint_tools import boards, image, ports
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.chips import CHIPS
from imprint_tools.virtual.devkit import State

pytestmark = pytest.mark.interop

TITLES = {"esp32": "ESP32-D0WD-V3", "esp32s3": "ESP32-S3", "esp32c3": "ESP32-C3"}
_some = random.Random(1)  # noqa: S311  # test data
COMPRESSIBLE = b"".join(b"%d and " % _some.randrange(99) for _ in range(6000))
NOISE = _some.randbytes(20_000)


@pytest.fixture(scope="module", params=CHIPS)
def board(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Board]:
    folder = tmp_path_factory.mktemp("boards") / request.param
    with Board(folder, chip=request.param) as the_board:
        yield the_board


def esptool(board: Board, *arguments: str | Path, port: str = "") -> str:
    """Run it to success; the chip is told by esptool itself, never named here."""
    board.console.skip()
    done = subprocess.run(  # noqa: S603  # our own arguments
        [sys.executable, "-m", "esptool", "--port", port or board.port, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def written(folder: Path, content: bytes) -> Path:
    path = folder / "content.bin"
    path.write_bytes(content)
    return path


def booted(board: Board) -> None:
    """Since the last run of esptool the board has left download mode."""
    board.expect(b"SPI_FAST_FLASH_BOOT")


def test_identifies_the_chip(board: Board) -> None:
    """chip-id and flash-id: chip, crystal, MAC, and the size of the flash."""
    shown = esptool(board, "chip-id")
    assert TITLES[board.chip.name] in shown
    assert "Crystal frequency:  40MHz" in shown
    assert board.mac.hex(":") in shown
    assert f"Detected flash size: {board.flash_size >> 20}MB" in esptool(board, "flash-id")


def test_reads_the_mac_without_stub(board: Board) -> None:
    """read-mac asks the eFuses through the ROM alone."""
    assert board.mac.hex(":") in esptool(board, "--no-stub", "read-mac")


@pytest.mark.parametrize(
    ("options", "packing"),
    [
        (["--baud", "115200"], "--compress"),
        (["--baud", "921600"], "--no-compress"),
        (["--baud", "460800", "--no-stub"], "--compress"),
        (["--baud", "115200", "--no-stub"], "--no-compress"),
    ],
    ids=["stub", "stub-plain", "rom", "rom-plain"],
)
def test_writes_and_verifies(
    board: Board, tmp_path: Path, options: list[str], packing: str
) -> None:
    """write-flash over old content, to two places in one session; esptool compares the MD5s."""
    image, noise = written(tmp_path, COMPRESSIBLE), tmp_path / "noise.bin"
    noise.write_bytes(NOISE)
    reset = ["--before", "default-reset", "--after", "hard-reset"]
    shown = esptool(
        board, *options, *reset, "write-flash", packing, "0x10000", image, "0x30000", noise
    )
    assert shown.count("Hash of data verified") == 2
    booted(board)
    assert board.flash.read(0x10000, len(COMPRESSIBLE)) == COMPRESSIBLE
    assert board.flash.read(0x30000, len(NOISE)) == NOISE


@pytest.mark.parametrize("stub", [[], ["--no-stub"]], ids=["stub", "no-stub"])
def test_reads_back_and_erases(board: Board, tmp_path: Path, stub: list[str]) -> None:
    """verify-flash and read-flash see what is there; erase-region blanks its sectors alone."""
    image = written(tmp_path, COMPRESSIBLE[:8000])
    esptool(board, "write-flash", "0x20000", image)
    assert "Verification successful" in esptool(board, *stub, "verify-flash", "0x20000", image)
    copy = tmp_path / "copy.bin"
    esptool(board, *stub, "read-flash", "0x20000", "8000", copy)
    assert copy.read_bytes() == image.read_bytes()
    esptool(board, *stub, "erase-region", "0x20000", "0x1000")
    assert board.flash.read(0x20000, 0x1000) == b"\xff" * 0x1000
    assert board.flash.read(0x21000, 0xF40) == image.read_bytes()[0x1000:]


def test_reads_at_full_speed(board: Board, tmp_path: Path) -> None:
    """The stub's read-flash has many blocks under way; none is lost on the pty."""
    copy = tmp_path / "copy.bin"
    esptool(board, "--baud", "921600", "read-flash", "0", "0x60000", copy)
    assert copy.read_bytes() == board.flash.read(0, 0x60000)


def test_finds_a_difference(board: Board, tmp_path: Path) -> None:
    """verify-flash fails where one byte differs."""
    image = written(tmp_path, COMPRESSIBLE[:4000])
    esptool(board, "write-flash", "0x40000", image)
    image.write_bytes(COMPRESSIBLE[:3999] + b"!")
    with pytest.raises(AssertionError, match="Verification failed"):
        esptool(board, "verify-flash", "0x40000", image)


def test_erases_everything(board: Board) -> None:
    """erase-flash leaves a blank chip."""
    esptool(board, "erase-flash")
    assert board.flash.read(0, board.flash_size) == b"\xff" * board.flash_size


def test_the_other_ways_out(board: Board) -> None:
    """`run`, the watchdog reset and staying in the loader all leave a board that answers."""
    esptool(board, "--no-stub", "--after", "no-reset", "run")
    booted(board)
    esptool(board, "--after", "watchdog-reset", "read-mac")
    esptool(board, "--after", "no-reset", "read-mac")
    esptool(board, "--after", "no-reset-stub", "read-mac")
    assert "Stub flasher running" in esptool(board, "read-mac")


def test_as_a_library_over_virtual(board: Board) -> None:
    """In this process esptool takes `virtual://` for a port."""
    board.console.skip()
    with cmds.detect_chip(board.url) as esp:
        stub = cmds.run_stub(esp)
        cmds.attach_flash(stub)
        cmds.write_flash(stub, [(0x50000, NOISE)])
        cmds.reset_chip(stub, "hard-reset")
    booted(board)
    assert board.flash.read(0x50000, len(NOISE)) == NOISE


def test_what_was_flashed_runs(board: Board, tmp_path: Path) -> None:
    """A blank board, a firmware written by esptool: closing the port starts MicroPython."""
    esptool(board, "erase-flash")
    booted(board)
    profile = boards.load(f"{board.chip.name}-generic")
    firmware = written(tmp_path, image.virtual_firmware(profile))
    esptool(board, "write-flash", hex(profile.bootloader_offset), firmware)
    board.expect(b">>> ")
    with ports.open_port(board.port, timeout_s=10) as port:
        port.write(b"import machine; machine.reset_cause()\r")
        assert b"2\r\n>>> " in port.read_until(b"2\r\n>>> ")
        board.cut(1)
        port.write(b"open('lost', 'w').close()\r")
        board.wait_for(State.OFF)
    board.reset()
    board.expect(b">>> ")
    with ports.open_port(board.url, timeout_s=10) as port:
        port.write(b"import machine; machine.reset_cause()\r")
        assert b"1\r\n>>> " in port.read_until(b"1\r\n>>> ")
        port.write(b"machine.deepsleep(10)\r")
        board.expect(b"DEEPSLEEP_RESET")
        board.expect(b">>> ")


def test_a_power_cut_is_a_failed_write(tmp_path: Path) -> None:
    """esptool fails when the board dies under it; after a reset the same write succeeds."""
    image = written(tmp_path, NOISE)
    with Board(tmp_path / "cut") as board:
        board.cut(40, torn=True)
        with pytest.raises(AssertionError):
            esptool(board, "write-flash", "0x10000", image)
        assert board.state is State.OFF
        board.reset()
        assert "Hash of data verified" in esptool(board, "write-flash", "0x10000", image)


def test_the_reset_circuit_over_rfc2217(tmp_path: Path) -> None:
    """DTR and RTS arrive: the classic reset enters download mode, the hard reset boots.

    One run only: pyserial's client takes 50 to 150 ms for every change of a setting.
    """
    with Board(tmp_path / "far", doors=["rfc2217"]) as board:
        shown = esptool(board, "--no-stub", "read-mac")
        assert board.mac.hex(":") in shown
        board.expect(b"waiting for download")
        booted(board)
        assert board.state is State.STUCK
