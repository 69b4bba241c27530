"""`imprint verify`: proof of what is on a board."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from imprint_tools import fetch, image, paths
from imprint_tools import verify as library
from imprint_tools.boards import Board
from imprint_tools.cli.output import emit, json_option
from imprint_tools.cli.types import (
    IdentitySource,
    board_option,
    firmware_options,
    identity_options,
    port_option,
    resolve_port,
    wants_virtual,
)
from imprint_tools.repl import Repl


@click.command()
@port_option
@board_option
@click.option(
    "--flash", "whole_flash", is_flag=True,
    help="Compare the flash itself (MicroPython too), as it leaves the line.",
)  # fmt: skip
@firmware_options
@identity_options(required=False)
@json_option
def verify(
    port: str | None,
    board: Board,
    whole_flash: bool,
    firmware: Path | None,
    virtual: bool,
    identity: IdentitySource | None,
    row: int | None,
    as_json: bool,
) -> None:
    """Compare a board with this imprint's firmware and, if given, an identity.

    Files by SHA-256 over the REPL of a running board, which is restarted after; with --flash the
    flash by MD5, over esptool. Secrets are compared on the board and shown by fingerprint.
    Exit status 24 when anything differs.
    """
    url = resolve_port(port)
    unit = identity.load(row) if identity is not None else None
    vfs = image.build_vfs(board, paths.firmware_dir())
    if whole_flash:
        binary = fetch.micropython(board, firmware, virtual=wants_virtual(url, firmware, virtual))
        found = library.flashed(
            url,
            board.chip,
            image.layout(board, firmware=binary, vfs=vfs),
            nvs_partition=board.nvs,
            identity=unit,
        )
    else:
        files = {
            f"/{name}": hashlib.sha256(data).hexdigest()
            for name, data in image.unpack_vfs(vfs).items()
        }
        with Repl(url) as repl:
            found = library.running(repl, files, unit)
            repl.restart()
    found.require()
    lines = [f"  {name:<16} {value}" for name, value in sorted((found.identity or {}).items())]
    held = "holds a credential" if found.credential else "holds no credential yet"
    emit(
        {
            "checks": [
                {"name": check.name, "expected": check.expected, "found": check.found}
                for check in found.checks
            ],
            "identity": found.identity,
            "credential": found.credential,
        },
        "\n".join([f"{len(found.checks)} of {len(found.checks)} match; {held}", *lines]),
        as_json=as_json,
    )
