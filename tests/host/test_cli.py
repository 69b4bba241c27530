"""The commands that touch a board: one session of a bench, in words and in JSON, and refusals."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from imprint_tools.errors import ImprintError
from imprint_tools.virtual.board import Board
from test_flash import merged
from test_identities import CANARY, GOOD, certificate

IMPRINT = [sys.executable, "-c", "from imprint_tools.cli import main; main()"]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A virtual board, blank at the first test of this module that flashes it."""
    with Board(tmp_path_factory.mktemp("boards") / "bench", chip="esp32") as virtual:
        yield virtual


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """An identity file with a root CA that is valid today."""
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    (tmp_path / "ca.pem").write_bytes(certificate(until=until).public_bytes(Encoding.PEM))
    path = tmp_path / "unit.json"
    path.write_text(json.dumps({**GOOD, "device_name": "unit-1"}))
    return path


def imprint(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own; a secret is in none of its output."""
    done = subprocess.run(  # noqa: S603
        [*IMPRINT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    assert CANARY not in done.stdout + done.stderr
    return done


def test_a_session_of_a_bench(board: Board, unit: Path) -> None:
    """Flash, verify, inject, monitor: each a command, each with JSON alone on stdout."""
    common = ["--port", board.url, "--json"]
    kind = ["--board", "esp32-generic"]
    first = imprint("flash", *common, *kind)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["mac"] == board.mac.hex()
    assert json.loads(imprint("flash", *common, *kind).stdout)["segments"][0]["written"] == 0

    injected = imprint("inject", *common, "--identity", unit)
    assert injected.returncode == 0, injected.stderr
    assert json.loads(injected.stdout)["written"] is True
    verified = imprint("verify", *common, *kind, "--identity", unit)
    assert verified.returncode == 0, verified.stderr
    shown = json.loads(verified.stdout)
    assert shown["identity"]["product_secret"].startswith("sha256:")
    assert "/main.py" in {check["name"] for check in shown["checks"]}

    followed = imprint("monitor", *common, "--until", "boot", "--timeout", "0.2")
    assert followed.returncode in (0, 23)
    for line in followed.stdout.splitlines():
        if line.startswith('{"kind'):
            json.loads(line)


def test_a_person_reads_words(board: Board, unit: Path) -> None:
    """Without --json there are words, and the identity goes in with the flash."""
    done = imprint("flash", "--port", board.url, "--board", "esp32-generic", "--identity", unit)
    assert done.returncode == 0, done.stderr
    assert "bytes of flash written and verified" in done.stdout


def test_a_foreign_unit_is_told_apart(board: Board, unit: Path) -> None:
    """Exit status 24, every mismatch listed."""
    imprint("flash", "--port", board.url, "--board", "esp32-generic")
    unit.write_text(json.dumps({**GOOD, "device_name": "unit-9"}))
    done = imprint(
        "verify", "--port", board.url, "--board", "esp32-generic", "--identity", unit, "--json"
    )
    assert done.returncode == 24
    assert "identity" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["inject", "--identity", "none.toml"], 2, "neither a file nor"),
        (["inject", "--identity", "env"], 10, "no environment variable"),
        (["flash", "--board", "no-such-board"], 11, "no board"),
        (["flash", "--board", "esp32-generic", "--firmware", "foreign.bin"], 12, "too short"),
        (
            ["flash", "--board", "esp32-generic", "--firmware", "foreign.bin", "--virtual"],
            2,
            "exclude each other",
        ),
        (["flash", "--board", "esp32s3-generic"], 21, "the chip is an ESP32"),
        (["monitor", "--port", "/dev/nothing"], 20, "/dev/nothing"),
        (["monitor", "--until", "online", "--timeout", "0.1"], 23, "no event online"),
    ],
)
def test_a_refusal_has_a_status_and_a_next_step(
    board: Board, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    """Bad input: the documented exit status, the reason on stderr, and nothing written."""
    (tmp_path / "foreign.bin").write_bytes(b"PK")
    before = board.flash.ops
    port = [] if "--port" in arguments else ["--port", board.url]
    done = imprint(*arguments, *port, cwd=tmp_path)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert done.stdout == "" or arguments[0] == "monitor"
    assert "Traceback" not in done.stderr
    if arguments[0] == "flash":
        assert board.flash.ops == before


def test_a_truncated_firmware_is_refused(board: Board, tmp_path: Path) -> None:
    """A download that broke off is found before the port is opened."""
    path = tmp_path / "cut.bin"
    path.write_bytes(merged()[:-5000])
    done = imprint(
        "flash", "--port", "/dev/nothing", "--board", "esp32-generic", "--firmware", path,
        "--json",
    )  # fmt: skip
    assert done.returncode == 12
    assert json.loads(done.stdout)["error"]["code"] == "firmware-file-invalid"


def test_no_port_is_an_error_with_a_way_out(unit: Path) -> None:
    """Where no ESP board is plugged in, the message says how to name a port."""
    done = imprint("inject", "--identity", unit, env={"PATH": "/nowhere"})
    assert (done.returncode, "--port" in done.stderr) == (20, True)


@pytest.mark.parametrize("arguments", [["flash"], ["no-such-command"], ["image", "show", "none"]])
def test_wrong_usage_is_json_too(arguments: list[str]) -> None:
    """A script that asked for JSON gets it whatever went wrong, with click's own status."""
    done = imprint(*arguments, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"
    assert done.stderr


def test_each_line_of_a_monitor_is_json(board: Board) -> None:
    """The error at its end is one line like all before it."""
    done = imprint("monitor", "--port", board.url, "--json", "--until", "x", "--timeout", "0.1")
    assert done.returncode == 23
    assert "error" in [json.loads(line) for line in done.stdout.splitlines()][-1]


def test_ctrl_c_has_a_status_of_its_own(unit: Path) -> None:
    """130, as shells have it, and not the status of a bug; a prompt that ends counts as one."""
    done = imprint(
        "image", "build", "--board", "esp32-generic", "--identity", "prompt", "-o", unit,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (130, False)
    assert "A prompt wants a terminal" in done.stderr


def test_an_output_that_cannot_be_made_is_named(unit: Path) -> None:
    """Where a file stands there is no folder to be made."""
    done = imprint("image", "build", "--board", "esp32-generic", "-o", unit)
    assert (done.returncode, str(unit) in done.stderr) == (13, True)


def _classes(base: type[ImprintError]) -> list[type[ImprintError]]:
    return [found for kind in base.__subclasses__() for found in (kind, *_classes(kind))]


def test_every_error_has_a_next_step() -> None:
    """Where a raise names none, its class does."""
    assert [kind.__name__ for kind in _classes(ImprintError) if not kind("").next_step] == []


def test_a_unit_that_was_looked_at_often_starts_at_once(board: Board, unit: Path) -> None:
    """Restarts that a tool makes are not counted as starts that failed, which wait longer."""
    common = ["--port", board.url]
    imprint("flash", *common, "--board", "esp32-generic")
    for _ in range(4):
        imprint("verify", *common, "--board", "esp32-generic")
    board.console.skip()
    imprint("inject", *common, "--identity", unit)
    board.expect(b'"boot"', 5)


def test_a_boards_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """Its flash holds an identity; and a state folder that cannot be made is named."""
    with Board(tmp_path / "boards" / "private", chip="esp32") as private:
        assert private.folder.stat().st_mode & 0o777 == 0o700
    nowhere = imprint("board", "up", "x", env={"IMPRINT_STATE": "/dev/null"})
    assert (nowhere.returncode, "IMPRINT_STATE" in nowhere.stderr) == (40, True)
