"""`imprint inject`: an identity into a board that runs."""

from __future__ import annotations

import click

from imprint_tools import inject as library
from imprint_tools.cli.output import emit, json_option
from imprint_tools.cli.types import (
    IdentitySource,
    identity_options,
    port_option,
    replace_option,
    resolve_port,
)
from imprint_tools.repl import Repl


@click.command()
@port_option
@identity_options(required=True)
@replace_option
@json_option
def inject(
    port: str | None,
    identity: IdentitySource,
    row: int | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Put an identity into the NVS of a running board, read it back, restart the board.

    What the unit holds stays whole if this fails. A credential that its cloud issued is kept
    while the unit stays the same device.
    """
    unit = identity.load(row)
    with Repl(resolve_port(port)) as repl:
        result = library.inject(repl, unit, replace=replace)
        repl.restart()
    shown = unit.shown()
    lines = [f"  {name:<16} {value}" for name, value in shown.items()]
    head = "identity written and read back" if result.written else "identity already there"
    kept = "; the issued credential is kept" if result.credential_kept else ""
    emit(
        {
            "written": result.written,
            "credential_kept": result.credential_kept,
            "identity": shown,
        },
        "\n".join([head + kept, *lines]),
        as_json=as_json,
    )
