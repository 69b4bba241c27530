"""NVS images of many units: image.build_nvs against Espressif's esp-idf-nvs-partition-gen."""

from __future__ import annotations

import contextlib
import csv
import io
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

from esp_idf_nvs_partition_gen import nvs_partition_gen  # type: ignore[import-untyped]
from imprint_tools import image, inject, nvs
from imprint_tools.identities import Identity
from lab import KIND, Lab
from measure import Figure, Row, Section, alternate

_T = TypeVar("_T")

_UNITS = 100
_PROCESS_UNITS = 3
_PROCESS_S = 30.0
_GENERATOR = "esp-idf-nvs-partition-gen"


def measure(lab: Lab) -> Section:
    """The same identities' blobs by each; each result is read back and compared, off the clock."""
    folder = lab.folder / "nvs"
    folder.mkdir()
    units = [lab.identity() for _ in range(_UNITS)]
    tables = [_table(folder / f"{number}.csv", unit) for number, unit in enumerate(units)]
    image_file = folder / "image.bin"
    size = KIND.nvs.size

    def ours() -> float:
        return _a_unit(units, lambda unit: image.build_nvs(unit.entries(), size))

    def library() -> float:
        return _a_unit(tables, lambda table: _generate(table, image_file, size))

    def process() -> float:
        return _a_unit(tables[:_PROCESS_UNITS], lambda table: _run(table, image_file, size))

    _compare(units[0], image.build_nvs(units[0].entries(), size))
    for way in (_generate, _run):
        way(tables[0], image_file, size)
        _compare(units[0], image_file.read_bytes())

    rounds = 1 if lab.quick else 3
    one, as_library = alternate(rounds, ours, library)
    other, as_process = alternate(rounds, ours, process)
    imprint = Figure.of(one + other)
    return Section(
        "NVS images, for each unit",
        f"Identity and root CA as blobs into {size // 1024} KiB. imprint makes the image in "
        f"memory; the generator reads a CSV file and writes a file, {_UNITS} units one after "
        f"the other as a library, {_PROCESS_UNITS} as people run it, a process for each.",
        (
            Row("as a library", "ms", imprint, Figure.of(as_library), _GENERATOR),
            Row(
                "as people run it", "ms", imprint, Figure.of(as_process), f"{_GENERATOR} generate"
            ),
        ),
    )


def _a_unit(units: Sequence[_T], make: Callable[[_T], object]) -> float:
    """Milliseconds a unit."""
    began = time.perf_counter()
    for unit in units:
        make(unit)
    return (time.perf_counter() - began) * 1000 / len(units)


def _table(path: Path, unit: Identity) -> Path:
    """The generator's input for the same blobs."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("key", "type", "encoding", "value"))
        writer.writerow((image.NAMESPACE, "namespace", "", ""))
        for key, data in inject.blobs(unit).items():
            writer.writerow((key, "data", "hex2bin", data.hex()))
    return path


def _generate(table: Path, result: Path, size: int) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        nvs_partition_gen.generate(
            SimpleNamespace(
                input=[str(table)],
                output=result.name,
                outdir=str(result.parent),
                size=hex(size),
                version=2,
            )
        )


def _run(table: Path, result: Path, size: int) -> None:
    subprocess.run(  # noqa: S603 - the tool that is measured, no shell
        [sys.executable, "-m", "esp_idf_nvs_partition_gen", "generate",
         str(table), result.name, hex(size), "--outdir", str(result.parent)],
        check=True, capture_output=True, timeout=_PROCESS_S,
    )  # fmt: skip


def _compare(unit: Identity, made: bytes) -> None:
    """An image that does not hold the unit's blobs is no result."""
    entries = nvs.NvsPartition(nvs.BytesRegion(made)).entries()
    if {entry.key: entry.value for entry in entries} != inject.blobs(unit):
        raise RuntimeError("an image does not hold what it was made of")
