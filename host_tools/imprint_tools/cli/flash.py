"""`imprint flash`: MicroPython, the firmware and an identity onto a board, in one session."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from imprint_tools import fetch, image, paths
from imprint_tools import flash as library
from imprint_tools.boards import Board
from imprint_tools.cli.output import emit, json_option
from imprint_tools.cli.types import (
    IdentitySource,
    board_option,
    firmware_options,
    identity_options,
    load_packages,
    package_options,
    port_option,
    replace_option,
    resolve_port,
    wants_virtual,
)


@click.command()
@port_option
@board_option
@firmware_options
@identity_options(required=False)
@replace_option
@click.option("--baud", type=click.IntRange(min=9600), help="Baud rate; the board's by default.")
@package_options
@json_option
def flash(
    port: str | None,
    board: Board,
    firmware: Path | None,
    virtual: bool,
    identity: IdentitySource | None,
    row: int | None,
    replace: bool,
    baud: int | None,
    packages: tuple[str, ...],
    package_index: str | None,
    as_json: bool,
) -> None:
    """Write MicroPython, the firmware and, if given, an identity; verify all of it.

    Only what differs is written, and the chip must be the board's. Without --identity the nvs
    partition is not touched: a reflash keeps the unit's identity and its issued credential. The
    file system is written anew, with whatever the application kept there.
    """
    url = resolve_port(port)
    binary = fetch.micropython(board, firmware, virtual=wants_virtual(url, firmware, virtual))
    extra = load_packages(packages, package_index)
    vfs = image.build_vfs(board, paths.firmware_dir(), extra)
    segments = image.layout(board, firmware=binary, vfs=vfs)
    unit = identity.load(row) if identity is not None else None
    with _progress(shown=not as_json and sys.stderr.isatty()) as progress:
        result = library.flash(
            url,
            board.chip,
            segments,
            flash_size=board.flash_size,
            nvs_partition=board.nvs,
            identity=unit,
            replace=replace,
            baud=baud or board.flash_baud,
            progress=progress,
        )
    shown = unit.shown() if unit is not None else None
    emit(
        {
            "chip": result.chip,
            "mac": result.mac,
            "segments": [
                {
                    "label": segment.label,
                    "offset": segment.offset,
                    "size": segment.size,
                    "written": segment.written,
                }
                for segment in result.segments
            ],
            "written": result.written,
            "wire_bytes": result.wire_bytes,
            "seconds": round(result.seconds, 3),
            "identity": shown,
        },
        "\n".join(_lines(result)),
        as_json=as_json,
    )


def _lines(result: library.FlashResult) -> Iterator[str]:
    yield f"{result.chip}, MAC {result.mac}"
    for segment in result.segments:
        what = "already there" if segment.skipped else f"{segment.written:>8} bytes written"
        yield f"  {segment.label:<16} {segment.offset:#09x}  {what}"
    yield (
        f"{result.written} bytes of flash written and verified in {result.seconds:.1f} s "
        f"({result.wire_bytes} over the wire)"
    )


@contextmanager
def _progress(*, shown: bool) -> Iterator[library.Progress | None]:
    if not shown:
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("flashing", total=None)

        def update(description: str, done: int, total: int) -> None:
            bar.update(task, description=description, completed=done, total=total)

        yield update
