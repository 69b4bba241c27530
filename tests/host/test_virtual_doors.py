"""The doors of a virtual board, its reset circuit, its power and its console.

The machine is a stand-in that greets with its reset cause and echoes; MicroPython has tests of
its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

import pytest
import serial
from imprint_tools import ports, unixsocket
from imprint_tools.errors import BenchStateError, PortError
from imprint_tools.partitions import APP, TABLE_OFFSET, Partition, build
from imprint_tools.virtual import control, slip
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.devkit import State
from imprint_tools.virtual.flash import Flash
from imprint_tools.virtual.reset import Edge, ResetCircuit
from imprint_tools.virtual.rom import SYNC_FRAME
from imprint_tools.virtual.silicon import ResetCause

SYNC_ANSWER = bytes.fromhex("c0 01 08 04 00 07 07 12 20 00 00 00 00 c0")


class EchoMachine:
    """Prints why it started and repeats what it hears; some words make it do things."""

    def __init__(
        self,
        *,
        flash: Flash,
        on_console: Callable[[bytes], None],
        on_reset: Callable[[ResetCause, float], None],
        **_: Any,
    ) -> None:
        self._flash = flash
        self._print = on_console
        self._reset = on_reset

    async def start(self, cause: ResetCause) -> None:
        self._print(b"started by %s\r\n" % cause.name.encode())

    def feed(self, data: bytes) -> None:
        self._print(data)
        if b"sleep" in data:
            self._reset(ResetCause.DEEPSLEEP, 0.01)
        if b"flood" in data:
            self._print(bytes(3 << 20))

    async def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def write_app(path: Path, size: int = 4 << 20) -> None:
    """The smallest bootloader, partition table and app that an ESP32 starts."""
    payload = bytes(16)
    image = bytes.fromhex("e9010220 00000840 ee000000 0000 00 0000 ffff 00000000 01")
    image += struct.pack("<II", 0x3F40_0020, len(payload)) + payload
    image = image.ljust(len(image) + 15 - len(image) % 16, b"\0")
    image += bytes((reduce(xor, payload, 0xEF),))
    image += hashlib.sha256(image).digest()
    with Flash(path, size) as flash:
        flash.write(0x1000, image)
        flash.write(TABLE_OFFSET, build([Partition("factory", APP, 0, 0x10000, 0x10000)]))
        flash.write(0x10000, image)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "bench"
    home.mkdir()
    write_app(home / "flash.bin")
    return home


@pytest.fixture
def board(folder: Path) -> Iterator[Board]:
    with Board(folder, machine=EchoMachine) as the_board:
        the_board.expect(b"started by PWRON")
        yield the_board


def opened(url: str, timeout_s: float = 5.0) -> serial.Serial:
    return ports.open_port(url, timeout_s=timeout_s)


# -- the reset circuit ------------------------------------------------------------------------


def edges(*steps: str) -> list[Edge]:
    """What a circuit does at each step; a step names the asserted lines."""
    circuit = ResetCircuit()
    return [circuit.set(dtr="D" in step, rts="R" in step) for step in steps]


def test_rts_alone_is_a_reset() -> None:
    """esptool's hard reset: RTS asserted and released while DTR is not."""
    assert edges("", "R", "") == [Edge.NONE, Edge.HOLD, Edge.RUN]


def test_the_tight_sequence_enters_download_mode() -> None:
    """esptool's UnixTightReset, which sets both lines at once."""
    expected = [Edge.NONE, Edge.NONE, Edge.HOLD, Edge.DOWNLOAD, Edge.NONE]
    assert edges("", "DR", "R", "D", "") == expected


def test_the_classic_sequence_enters_download_mode() -> None:
    """One line after the other: the capacitor at EN bridges the moment when both are set."""
    expected = [Edge.NONE, Edge.HOLD, Edge.CHARGE, Edge.DOWNLOAD, Edge.NONE]
    assert edges("DR", "R", "DR", "D", "") == expected


def test_both_lines_for_long_boot_from_flash() -> None:
    """When nothing pulls IO0 low until the capacitor is charged, the program runs."""
    circuit = ResetCircuit()
    circuit.set(dtr=False, rts=True)
    assert circuit.set(dtr=True, rts=True) is Edge.CHARGE
    assert circuit.charged() is Edge.RUN
    assert circuit.charged() is Edge.NONE


def test_opening_a_port_does_not_reset() -> None:
    """Both lines asserted and released, in either order, leave a running chip alone."""
    assert set(edges("DR", "D", "", "DR", "")) == {Edge.NONE}


# -- the pty ----------------------------------------------------------------------------------


def test_bytes_go_both_ways(board: Board) -> None:
    """What is written arrives, what the chip prints comes back."""
    with opened(board.port) as port:
        port.write(b"hello\x00\xff\x11\x13\x03")
        assert port.read(10) == b"hello\x00\xff\x11\x13\x03"


def test_clients_come_and_go(board: Board) -> None:
    """Each client finds the line as a fresh one, without the leavings of the one before."""
    for number in range(5):
        with opened(board.port) as port:
            port.write(b"client %d" % number)
            assert port.read(8) == b"client %d" % number
            port.write(b"unread")
            board.expect(b"unread")


def test_a_second_client_hears_that_the_port_is_busy(board: Board) -> None:
    """Both doors are for one at a time, and say so."""
    for url in (board.port, board.url):
        with opened(url), pytest.raises(PortError, match="busy"):
            opened(url)


def test_absent_ports_are_told_apart(tmp_path: Path) -> None:
    """No device, no board: the error names the port."""
    absent = (str(tmp_path / "nothing"), "virtual://no-such-board", "rfc2217://127.0.0.1:1")
    for url in absent:
        with pytest.raises(PortError, match="there is no port"):
            opened(url)


def test_a_sync_frame_pulls_into_download_mode(board: Board) -> None:
    """On a line without modem lines a SYNC, even in pieces, starts the loader; closing boots."""
    with opened(board.port) as port:
        port.write(SYNC_FRAME[:20])
        board.expect(SYNC_FRAME[:20])
        port.write(SYNC_FRAME[20:])
        assert port.read(20 + 8 * len(SYNC_ANSWER)).endswith(SYNC_ANSWER * 8)
        assert board.state is State.DOWNLOAD
    board.expect(b"started by HARD")


def test_a_client_that_dies_does_not_hurt(board: Board) -> None:
    """Half a frame and a close: the board boots, and the next SYNC is answered."""
    for url in (board.port, board.url):
        with opened(url) as port:
            port.write(SYNC_FRAME + b"\xc0\x00\x03\x10\x40")
            port.read_until(SYNC_ANSWER * 8)
        board.expect(b"started by HARD")


def test_bytes_written_before_a_close_count(board: Board) -> None:
    """A client that writes and closes at once is heard."""
    with opened(board.port) as port:
        port.write(b"last words")
    board.expect(b"last words")


def test_nobody_attached_nothing_blocks(board: Board) -> None:
    """Output without a reader goes to the bounded log, and the board lives on."""
    with opened(board.port) as port:
        port.write(b"flood")
    board.expect(b"\0" * 1000)
    with opened(board.port) as port:
        port.write(b"still there")
        board.expect(b"still there")
    assert (board.folder / "console.log").stat().st_size <= 1 << 20


def test_a_reader_that_stalls_does_not_block(board: Board) -> None:
    """Who does not read loses bytes, as on a UART; the board answers others at once."""
    with opened(board.port) as port:
        port.write(b"flood")
        board.expect(b"\0" * 1000)
        assert control.request(board.folder, "status")["state"] == "running"


# -- virtual:// -------------------------------------------------------------------------------


def test_virtual_has_modem_lines(board: Board) -> None:
    """The classic sequence enters download mode, the hard reset boots."""
    with opened(board.url) as port:
        port.dtr = False
        port.rts = True
        port.dtr = True
        port.rts = False
        port.dtr = False
        board.expect(b"waiting for download\r\n")
        port.reset_input_buffer()
        port.write(SYNC_FRAME)
        assert port.read(8 * len(SYNC_ANSWER)) == SYNC_ANSWER * 8
        port.rts = True
        port.rts = False
        board.expect(b"started by HARD")


def test_a_reset_by_the_lines_is_the_only_one(board: Board) -> None:
    """After a SYNC and a hard reset, closing the port does not reset the program again."""
    with opened(board.url) as port:
        port.write(SYNC_FRAME)
        port.read_until(SYNC_ANSWER * 8)
        port.dtr = False
        port.rts = True
        port.rts = False
        board.expect(b"started by HARD")
    with opened(board.url) as port:
        port.write(b"the same life")
        assert b"started" not in board.expect(b"the same life")


def test_virtual_behaves_as_a_port(board: Board) -> None:
    """Timeouts, waiting bytes and resets of the input are pyserial's."""
    with opened(board.url, timeout_s=0) as port:
        port.reset_input_buffer()
        assert port.read(1) == b""
        port.timeout = 0.05
        assert port.read(1) == b""
        port.write(b"12345")
        board.expect(b"12345")
        port.timeout = 5
        assert port.read(1) == b"1"
        assert port.in_waiting == 4
        port.inter_byte_timeout = 0.05
        assert port.read(10) == b"2345"
        port.write(b"x" * 40_000)
        port.inter_byte_timeout = None
        assert port.read(40_000) == b"x" * 40_000
        port.write(b"y")
        board.expect(b"y")
        port.reset_input_buffer()
        assert port.in_waiting == 0


def test_a_board_lives_in_a_deep_folder(tmp_path: Path) -> None:
    """A path longer than a unix socket's name may be does not matter."""
    with Board(tmp_path.joinpath(*["folder"] * 30, "deep")) as board, opened(board.url) as port:
        port.write(SYNC_FRAME)
        assert port.read_until(SYNC_ANSWER).endswith(SYNC_ANSWER)
        assert control.request(board.folder, "status")["state"] == "download mode"


def test_a_foreign_client_does_no_harm(board: Board) -> None:
    """Bytes that are not the door's protocol end that connection only."""
    with unixsocket.connect(board.folder / "line.sock", timeout_s=5) as stranger:
        assert stranger.recv(1) == b"+"
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n" * 4000)
        while stranger.recv(1000):
            pass
    with opened(board.url) as port:
        port.write(b"well")
        assert port.read(4) == b"well"


def test_a_board_that_goes_away_is_an_error(folder: Path) -> None:
    """Reading on a line whose board went down raises, it does not hang."""
    with Board(folder, machine=EchoMachine) as board:
        port = opened(board.url)
    with port, pytest.raises(serial.SerialException, match="went away"):
        port.read(1000)


# -- RFC 2217 ---------------------------------------------------------------------------------


def test_rfc2217_garbage_ends_one_connection(folder: Path) -> None:
    """A peer that breaks pyserial's telnet parser is dropped; the next one is served."""
    with Board(folder, machine=EchoMachine, doors=["rfc2217"]) as board:
        port = int(board.port.rsplit(":", 1)[1])
        for garbage in (b"\xff\xfa\x2c\x01\x00\xff\xf0", b"\xff\xfa" + b"x" * 10_000):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
                stranger.sendall(garbage)
                while stranger.recv(1000):
                    pass
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            plain.sendall(b"well\xff\xff")
            board.expect(b"well\xff")


# -- power, reset, console --------------------------------------------------------------------


def test_a_power_cut_while_flashing_leaves_the_board_off(board: Board) -> None:
    """The board is dead until somebody resets it, and starts as from power-on."""
    board.cut(1)
    with opened(board.port) as port:
        port.write(SYNC_FRAME)
        port.read(8 * len(SYNC_ANSWER))
        begin = struct.pack("<BBHI4I", 0, 2, 16, 0, 4096, 1, 4096, 0x20000)
        port.write(slip.encode(begin))
        board.wait_for(State.OFF)
    board.reset()
    board.expect(b"started by PWRON")


def test_the_plug(board: Board) -> None:
    """Without power the board is deaf; with it again it boots."""
    board.power_off()
    with opened(board.port) as port:
        port.write(SYNC_FRAME)
        port.timeout = 0.1
        assert port.read(1) == b""
    board.power_on()
    board.expect(b"started by PWRON")
    board.reset()
    board.expect(b"started by HARD")


def test_a_chip_that_sleeps_wakes_up(board: Board) -> None:
    """A reset that the machine announces with a delay comes with its own cause."""
    with opened(board.port) as port:
        port.write(b"sleep")
    board.expect(b"started by DEEPSLEEP")


def test_a_machine_that_cannot_start_says_so(folder: Path) -> None:
    """The reason is on the console, where people look first."""

    def refuse(**_: Any) -> EchoMachine:
        raise BenchStateError("no engine")

    with Board(folder, machine=refuse) as board:
        board.expect(b"bench-state: no engine")
        assert board.state is State.STUCK


def test_realtime_bytes_take_their_time(folder: Path) -> None:
    """At 115200 baud 576 bytes take 50 ms each way."""
    with Board(folder, machine=EchoMachine, realtime=True) as board, opened(board.url) as port:
        board.expect(b"started by PWRON\r\n")
        port.timeout = 0.2
        port.read(10_000)
        port.timeout = 5
        started = time.monotonic()
        port.write(bytes(576))
        assert port.read(576) == bytes(576)
        assert time.monotonic() - started >= 0.1


def test_the_line_counts_its_bytes(folder: Path) -> None:
    """What the client sent and what the board said, payload only, whatever the door adds."""
    with Board(folder, machine=EchoMachine) as board, opened(board.url) as port:
        board.expect(b"started by PWRON\r\n")
        before = board.wire_bytes
        port.write(bytes(1000))
        assert port.read(1000) == bytes(1000)
        assert board.wire_bytes - before == 2000


def test_one_folder_one_board(board: Board) -> None:
    """A second board in the same folder, or of another chip, is refused."""
    with pytest.raises(BenchStateError, match="up already"):
        Board(board.folder, machine=EchoMachine).start()
    with pytest.raises(BenchStateError, match="was made with chip esp32, not esp32c3"):
        Board(board.folder, chip="esp32c3", flash_size=4 << 20)


def test_what_is_flashed_stays(folder: Path) -> None:
    """A board that comes up again is the same board."""
    with Board(folder, machine=EchoMachine) as first:
        mac = first.mac
    with Board(folder, machine=EchoMachine) as second:
        second.expect(b"started by PWRON")
        assert second.mac == mac


# -- the command ------------------------------------------------------------------------------


def imprint(*arguments: str, status: int = 0) -> Any:
    program = "from imprint_tools.cli import main; main()"
    done = subprocess.run(  # noqa: S603  # this very program
        [sys.executable, "-c", program, "board", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def test_the_command_keeps_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up in the background, listed, told things, down; twice up or down is refused with 40."""
    monkeypatch.setenv("IMPRINT_STATE", str(tmp_path))
    up = imprint("up", "bench", "--chip", "esp32c3")
    try:
        assert up["chip"] == "esp32c3"
        assert imprint("up", "bench", status=40)["error"]["code"] == "bench-state"
        with opened("virtual://bench") as port:
            port.write(SYNC_FRAME)
            port.read_until(SYNC_ANSWER)
        imprint("wifi", "bench", "down")
        imprint("cut", "bench", "--after", "7", "--torn")
        assert imprint("reset", "bench")["state"] == "nothing to boot"
        assert [board["up"] for board in imprint("list")] == [True]
        imprint("down", "bench")
        assert imprint("down", "bench", status=40)["error"]["code"] == "bench-state"
        assert [board["up"] for board in imprint("list")] == [False]
    except BaseException:
        os.kill(up["pid"], signal.SIGTERM)
        raise
