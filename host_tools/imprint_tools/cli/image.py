"""`imprint image`: makes what a board's flash is to hold, and shows what such a file holds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from imprint_tools import image as library
from imprint_tools import paths
from imprint_tools.boards import Board
from imprint_tools.cli.output import emit, json_option
from imprint_tools.cli.types import (
    IdentitySource,
    board_option,
    identity_options,
    load_packages,
    package_options,
)
from imprint_tools.errors import ImageError
from imprint_tools.fetch import fetch
from imprint_tools.flash import Segment
from imprint_tools.inject import blobs
from imprint_tools.secret import Secret


@click.group()
def image() -> None:
    """Make and look at images of a board's flash."""


@image.command()
@board_option
@identity_options(required=False)
@click.option(
    "--firmware",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="MicroPython's merged .bin; without it, the one that the board's TOML names.",
)
@click.option("--virtual", is_flag=True, help="MicroPython's stand-in for the virtual board.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder, for one file an image; or NAME.bin, for one file to be flashed at 0x0.",
)
@package_options
@json_option
def build(
    board: Board,
    identity: IdentitySource | None,
    row: int | None,
    firmware: Path | None,
    virtual: bool,
    output: Path,
    packages: tuple[str, ...],
    package_index: str | None,
    as_json: bool,
) -> None:
    """Build the file system's image, with --identity NVS, with firmware the whole layout.

    The same input gives the same bytes. A file that holds an identity is readable by its owner
    only.
    """
    micropython = _micropython(board, firmware, virtual)
    one_file = output.suffix == ".bin"
    if one_file and micropython is None:
        raise ImageError(
            "a file to be flashed at 0x0 needs MicroPython as well",
            next_step="Give --firmware FILE (or --virtual), or a folder as output.",
        )
    nvs = None
    if identity is not None:
        nvs = library.build_nvs(blobs(identity.load(row)), board.nvs.size)
    extra = load_packages(packages, package_index)
    vfs = library.build_vfs(board, paths.firmware_dir(), extra)
    segments = library.layout(board, firmware=micropython, vfs=vfs, identity=nvs)
    if one_file:
        _write(output, library.merge(segments), private=nvs is not None)
    else:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"{output} cannot be made: {error.strerror}") from None
        for segment in segments:
            _write(output / f"{segment.label}.bin", segment.data, private=segment.data is nvs)
    records = [_record(segment, secret=segment.data is nvs) for segment in segments]
    emit(
        {"board": board.name, "output": str(output), "segments": records},
        "\n".join([*map(_line, records), f"written to {output}"]),
        as_json=as_json,
    )


@image.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def show(file: Path, as_json: bool) -> None:
    """Say what FILE is and holds: a file system, an NVS partition or a flash image.

    Secrets are shown by their fingerprints.
    """
    found = library.describe(file.read_bytes())
    emit(found, "\n".join(_lines(found)), as_json=as_json)


def _micropython(board: Board, file: Path | None, virtual: bool) -> bytes | None:
    if virtual and file:
        raise click.UsageError("--firmware and --virtual exclude each other")
    if virtual:
        return library.virtual_firmware(board)
    if file is None and board.firmware is not None:
        file = fetch(board.firmware.url, board.firmware.sha256)
    return None if file is None else file.read_bytes()


def _write(path: Path, data: bytes, *, private: bool) -> None:
    try:
        # A new file, so that its mode is ours from its first byte on.
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}") from None


def _record(segment: Segment, *, secret: bool) -> dict[str, Any]:
    record = {"name": segment.label, "offset": segment.offset, "size": len(segment.data)}
    if secret:
        return {**record, "fingerprint": Secret(segment.data).fingerprint}
    return {**record, "sha256": hashlib.sha256(segment.data).hexdigest()}


def _line(record: dict[str, Any]) -> str:
    proof = record.get("fingerprint") or f"sha256:{record['sha256']}"
    return f"{record['offset']:#9x}  {record['size']:>8}  {record['name']:<16}  {proof}"


def _lines(found: dict[str, Any], indent: str = "") -> Iterable[str]:
    yield f"{indent}{found['kind']}, {found['size']} bytes"
    indent += "  "
    for file in found.get("files", ()):
        yield f"{indent}{file['size']:>8}  {file['path']}"
    for entry in found.get("entries", ()):
        about = f"{entry['name']} ({entry['kind']}) {entry['fingerprint']}"
        yield f"{indent}{entry['size']:>8}  {about}"
    for part in found.get("partitions", ()):
        about = part.get("app", "")
        yield f"{indent}{part['offset']:#9x}  {part['size']:>8}  {part['label']:<16}  {about}"
        if "holds" in part:
            yield from _lines(part["holds"], indent + "  ")
