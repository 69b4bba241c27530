"""A unit's files and identity onto a board: `imprint flash` against `mpremote cp` and `exec`.

Both are processes, unmodified, at the same serial line of a virtual board whose bytes take their
time. Both start from a board on which MicroPython has booted once, and end with a board that has
all files and its identity, which is checked in its flash, and starts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from imprint_tools import flash, image, inject, nvs, runtime
from imprint_tools.paths import firmware_dir
from imprint_tools.virtual.board import Board
from lab import KIND, Lab, first_report, flash_of, images, sources
from measure import Figure, Row, Section, alternate

_BOOT_S = 20.0
_PROCESS_S = 120.0
_HEAP = "128k"  # what is copied as source is compiled on the board, which takes more than 64k

_APP_BYTES = 1_600_000  # assumed for MicroPython; its partition holds 2,031,616

_COUNTED = (
    "Whole processes, from their start to their end, at one serial line whose bytes take 10 bits "
    "each: Python's start, connecting, and for imprint also compiling the modules, building the "
    "images and verifying what was written. mpremote does cp, exec (the identity into NVS) and "
    "reset in one process, and its .mpy files were compiled before. It opens the port at 115200 "
    "and cannot do else, so a REPL at another rate is a favour to it. Bytes are counted at the "
    "board, both ways. Not in the times: erasing and programming of real flash (operations are "
    "256-byte pages and 4 KiB sectors), and the pause of a USB bridge at each round trip. In the "
    "last row x86 machine code of an assumed 1.6 MB stands in for MicroPython's."
)

_WRITE_IDENTITY = """\
import esp32
nvs = esp32.NVS("imprint")
{calls}
nvs.commit()
"""


@dataclass(frozen=True)
class Job:
    """What one way took."""

    seconds: float
    wire_bytes: int
    flash_operations: int


@dataclass(frozen=True)
class Line:
    """Baud rates: of MicroPython's REPL, and the one to which esptool switches."""

    repl: int
    esptool: int

    def __str__(self) -> str:
        if self.repl == self.esptool:
            return f"both at {self.repl}"
        return f"REPL at {self.repl}, esptool at {self.esptool}"


_LINE = Line(460_800, 460_800)


class Payload:
    """Files as a person has them: in a folder, with the paths that they get on the board."""

    def __init__(self, what: str, folder: Path, files: Mapping[str, bytes]) -> None:
        self.what = what
        self.folder = folder
        self.files = files
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


class Rig:
    """A board at such a line, and both ways to fill it. Without a line bytes take no time."""

    def __init__(self, lab: Lab, line: Line | None = None) -> None:
        self._lab = lab
        self._baud = line.esptool if line else KIND.flash_baud
        fields = lab.fields(lab.new_name())
        self._identity_file = lab.folder / "unit.json"
        self._identity_file.write_text(json.dumps(fields))
        self.identity = lab.checked(fields)
        folder = lab.folder / (f"board-{line.repl}" if line else "board")
        folder.mkdir()
        (folder / "flash.bin").write_bytes(flash_of())
        self._board = Board(
            folder,
            realtime=line is not None,
            baud=line.repl if line else KIND.console_baud,
            access_point=lab.air(),
            heap=_HEAP,
        )
        self._images = images()

    def __enter__(self) -> Self:
        self._board.start()
        try:
            self._board.expect(b">>> ", _BOOT_S)
            self._board.power_off()
            self._booted_once = self._board.flash.path.read_bytes()
        except BaseException:
            self._board.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._board.stop()

    def by_imprint(self) -> Job:
        """`imprint flash` onto a board that has MicroPython."""
        self._restore(self._booted_once)
        self._board.expect(b">>> ", _BOOT_S)
        return self._imprint("--virtual")

    def by_mpremote(self, payload: Payload) -> Job:
        """`mpremote cp`, `exec` and `reset` onto such a board."""
        self._restore(self._booted_once)
        self._board.expect(b">>> ", _BOOT_S)
        return self._mpremote(payload)

    def again_by_imprint(self) -> Job:
        """The same to a unit that is online: there is nothing to write."""
        self._start_online()
        return self._imprint("--virtual")

    def again_by_mpremote(self, payload: Payload) -> Job:
        """The same; mpremote, too, compares before it copies."""
        self._start_online()
        return self._mpremote(payload)

    def blank_by_imprint(self, firmware: Path) -> Job:
        """`imprint flash` onto a blank board, MicroPython and all."""
        self._restore(b"\xff" * KIND.flash_size)
        return self._imprint("--firmware", firmware)

    def segments(self, firmware: bytes | None = None) -> list[flash.Segment]:
        """What is to be on the board."""
        return image.layout(
            KIND,
            firmware=firmware,
            vfs=image.build_vfs(KIND, firmware_dir()),
            identity=image.build_nvs(self.identity.entries(), KIND.nvs.size),
        )

    def _imprint(self, *options: str | Path) -> Job:
        command = Path(sys.executable).with_name("imprint")
        return self._timed(
            [command, "flash", "--port", self._board.port, "--board", KIND.name,
             "--identity", self._identity_file, "--baud", str(self._baud), *options],
            self._images,
        )  # fmt: skip

    def _mpremote(self, payload: Payload) -> Job:
        # The secret stands in the arguments, as it does where this is done. It is a local cloud's.
        blobs = inject.blobs(self.identity)
        calls = "\n".join(f"nvs.set_blob({key!r}, {data!r})" for key, data in blobs.items())
        return self._timed(
            [sys.executable, "-m", "mpremote", "connect", self._board.port,
             "cp", "-r", *sorted(payload.folder.iterdir()), ":",
             "+", "exec", _WRITE_IDENTITY.format(calls=calls), "+", "reset"],
            payload.files,
        )  # fmt: skip

    def _timed(self, command: Sequence[str | Path], files: Mapping[str, bytes]) -> Job:
        board = self._board
        bytes_before, operations_before = board.wire_bytes, board.flash.ops
        began = time.perf_counter()
        done = subprocess.run(  # noqa: S603 - the tools that are measured, no shell
            command, capture_output=True, text=True, timeout=_PROCESS_S, check=False
        )
        seconds = time.perf_counter() - began
        job = Job(seconds, board.wire_bytes - bytes_before, board.flash.ops - operations_before)
        board.power_off()
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name} failed: {done.stdout}{done.stderr}")
        self._check(files)
        return job

    def _check(self, files: Mapping[str, bytes]) -> None:
        """Both ways end with the same unit, whatever they say themselves."""
        content = self._board.flash.path.read_bytes()
        held = image.unpack_vfs(content[KIND.vfs.offset : KIND.vfs.end])
        if other := [name for name, data in files.items() if held.get(name) != data]:
            raise RuntimeError(f"on the board are not what they are here: {', '.join(other)}")
        part = nvs.NvsPartition(nvs.BytesRegion(content[KIND.nvs.offset : KIND.nvs.end]))
        entries = {entry.key: entry.value for entry in part.entries()}
        if not inject.blobs(self.identity).items() <= entries.items():
            raise RuntimeError("the identity in NVS is not what was written")

    def _restore(self, content: bytes) -> None:
        self._board.power_off()
        with self._board.flash.path.open("r+b") as file:
            file.write(content)
        self._board.console.skip()
        self._board.power_on()

    def _start_online(self) -> None:
        self._board.console.skip()
        self._board.power_on()
        first_report(self._board, _BOOT_S)


def measure(lab: Lab) -> Section:
    """First what takes time, line by line, then what does not depend on the line."""
    source = Payload("source", lab.folder / "py", sources())
    compiled = Payload(".mpy", lab.folder / "mpy", images())
    with Rig(lab, _LINE) as rig:
        compressed = _compressed(rig.segments())
        if lab.quick:
            times, amounts = _against(rig, compiled, 1)
        else:
            times, amounts = _against(rig, source, 2, aim=">= 5")
            again = rig.again_by_mpremote(source)  # which is what it holds now
            more_times, more_amounts = _against(rig, compiled, 2)
            rig.by_imprint()
            times += more_times
            times.append(_times("nothing has changed", [rig.again_by_imprint()], [again], source))
            amounts += more_amounts
    per_byte = Figure.of([amounts[0].imprint.median / compressed])
    amounts.append(Row("wire bytes to each of the compressed images", "", per_byte))
    if not lab.quick:
        times.append(_other_line(lab, Line(115_200, 460_800), source))
        times.append(_other_line(lab, Line(921_600, 921_600), compiled))
        amounts.append(_with_micropython(lab))
    files = (
        f"{len(source.files)} files, {_total(source):,} bytes as source and {_total(compiled):,} "
        "as .mpy (boot.py and main.py are source in both). imprint flash always writes .mpy. "
    )
    return Section("Files and identity onto a board", files + _COUNTED, (*times, *amounts))


def _against(
    rig: Rig, payload: Payload, rounds: int, aim: str = ""
) -> tuple[list[Row], list[Row]]:
    """The row of times, and those of amounts; the board holds mpremote's work afterwards."""
    ours, theirs = alternate(rounds, rig.by_imprint, partial(rig.by_mpremote, payload))
    return [_times(str(_LINE), ours, theirs, payload, aim)], _amounts(ours, theirs, payload)


def _other_line(lab: Lab, line: Line, payload: Payload) -> Row:
    with Rig(lab, line) as rig:
        ours, theirs = alternate(1, rig.by_imprint, partial(rig.by_mpremote, payload))
    return _times(str(line), ours, theirs, payload)


def _with_micropython(lab: Lab) -> Row:
    """Onto a blank board, with machine code of about MicroPython's weight in its place."""
    found = runtime.find("i386").root
    files = [found] if found.is_file() else [p for p in found.rglob("*") if p.is_file()]
    files.sort(key=lambda path: path.stat().st_size, reverse=True)  # machine code, not tables
    ballast = b"".join(path.read_bytes() for path in files[:4])[:_APP_BYTES]
    firmware = image.virtual_firmware(KIND, ballast=ballast)
    file = lab.folder / "firmware.bin"
    file.write_bytes(firmware)
    with Rig(lab) as rig:
        job = rig.blank_by_imprint(file)
        compressed = _compressed(rig.segments(firmware))
    return Row(
        "the same onto a blank board, with MicroPython",
        "",
        Figure.of([job.wire_bytes / compressed]),
        aim="<= 1.05",
    )


def _times(
    what: str, ours: Sequence[Job], theirs: Sequence[Job], payload: Payload, aim: str = ""
) -> Row:
    return Row(
        what,
        "s",
        Figure.of(job.seconds for job in ours),
        Figure.of(job.seconds for job in theirs),
        against=f"mpremote, {payload.what}",
        aim=aim,
    )


def _amounts(ours: Sequence[Job], theirs: Sequence[Job], payload: Payload) -> list[Row]:
    against = f"mpremote, {payload.what}"
    return [
        Row(
            "bytes on the wire",
            "B",
            Figure.of(job.wire_bytes for job in ours),
            Figure.of(job.wire_bytes for job in theirs),
            against,
        ),
        Row(
            "flash operations",
            "",
            Figure.of(job.flash_operations for job in ours),
            Figure.of(job.flash_operations for job in theirs),
            against,
        ),
    ]


def _compressed(segments: Sequence[flash.Segment]) -> int:
    """The segments as small as esptool's compression makes them, each whole."""
    return sum(len(zlib.compress(segment.data, 9)) for segment in segments)


def _total(payload: Payload) -> int:
    return sum(map(len, payload.files.values()))
