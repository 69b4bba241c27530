"""mpremote, unmodified and as a process of its own, on a virtual chip's console."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from virtual_chip import VirtualChip

pytestmark = pytest.mark.interop

MAIN = "import time\nprint('main runs')\nwhile True:\n    time.sleep(0.01)\n"

Mpremote = Callable[..., str]


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[VirtualChip]:
    files = {"boot.py": "print('boot runs')\n", "main.py": MAIN}
    with VirtualChip(tmp_path, files) as chip:
        yield chip


@pytest.fixture
def mpremote(chip: VirtualChip, tmp_path: Path) -> Mpremote:
    port = chip.pty()
    chip.start()
    chip.expect(b"main runs")

    def run(*args: str, stdin: bytes = b"") -> str:
        done = subprocess.run(  # noqa: S603  mpremote itself, no shell
            [sys.executable, "-m", "mpremote", "connect", port, *args],
            input=stdin, capture_output=True, timeout=30, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode().replace("\r\n", "\n")

    return run


def test_exec_interrupts_the_running_program(chip: VirtualChip, mpremote: Mpremote) -> None:
    """exec stops main.py, soft-resets (boot.py runs, main.py does not) and runs the code."""
    assert mpremote("exec", "print('hello', 6 * 7)") == "hello 42\n"
    log = chip.expect(b"hello 42")
    assert b"KeyboardInterrupt" in log
    assert log.count(b"boot runs") == 1
    assert b"main runs" not in log


def test_eval_and_run(mpremote: Mpremote, tmp_path: Path) -> None:
    """eval prints a value, run sends a script from the host; both by raw paste."""
    assert mpremote("eval", "2 ** 70") == "1180591620717411303424\n"
    script = tmp_path / "script.py"
    script.write_text("# " + "long " * 1000 + "\nfor i in range(3):\n    print(i)\n")
    assert mpremote("run", str(script)) == "0\n1\n2\n"


def test_files(mpremote: Mpremote, tmp_path: Path) -> None:
    """cp both ways, ls, cat, sha256sum, mkdir, tree, rm, and df on LittleFS."""
    content = bytes(range(256)) * 12
    (tmp_path / "a.bin").write_bytes(content)
    mpremote("fs", "mkdir", ":lib", "+", "fs", "cp", "a.bin", ":lib/a.bin")
    assert hashlib.sha256(content).hexdigest() in mpremote("fs", "sha256sum", ":lib/a.bin")
    assert "3072 a.bin" in mpremote("fs", "ls", ":lib")
    assert "a.bin" in mpremote("fs", "tree", ":/lib")
    mpremote("fs", "cp", ":lib/a.bin", "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == content
    assert mpremote("fs", "cat", ":boot.py") == "print('boot runs')\n"
    assert "524288" in mpremote("df")
    mpremote("fs", "rm", ":lib/a.bin")
    assert "a.bin" not in mpremote("fs", "ls", ":lib")


def test_a_missing_file_is_named(chip: VirtualChip, mpremote: Mpremote) -> None:
    """An error on the chip comes back as one that mpremote knows."""
    with pytest.raises(AssertionError, match="No such file"):
        mpremote("fs", "cat", ":nothing.txt")


def test_mount_imports_from_the_host(mpremote: Mpremote, tmp_path: Path) -> None:
    """A folder of the host is imported from and written to, with every byte value in it."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "greeting.py").write_text("TEXT = 'from the host'\n")
    (tmp_path / "shared" / "bytes.bin").write_bytes(bytes(range(256)))
    code = (
        "import greeting; print(greeting.TEXT)\n"
        "data = open('bytes.bin', 'rb').read()\n"
        "open('copy.bin', 'wb').write(data)\n"
    )
    assert "from the host" in mpremote("mount", "shared", "exec", code)
    assert (tmp_path / "shared" / "copy.bin").read_bytes() == bytes(range(256))


def test_reset_and_soft_reset(chip: VirtualChip, mpremote: Mpremote) -> None:
    """reset starts the chip anew, with main.py; soft-reset stays in the raw REPL."""
    mpremote("reset")
    chip.expect(b"main runs")
    mpremote("soft-reset")
    assert mpremote("resume", "exec", "import machine; print(machine.reset_cause())") == "5\n"


def test_a_set_clock_is_read_back(mpremote: Mpremote) -> None:
    """`rtc --set` sets the chip's clock, which a soft reset does not clear."""
    mpremote("rtc", "--set")
    assert int(mpremote("exec", "import time; print(time.gmtime()[0])")) >= 2024
