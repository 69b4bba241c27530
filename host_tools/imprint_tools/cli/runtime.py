"""`imprint runtime`: the MicroPython that runs on the host."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import click

from imprint_tools import runtime as library
from imprint_tools import umqtt
from imprint_tools.cli.output import emit, json_option, note
from imprint_tools.errors import RuntimeMissingError

_NONE = "-"
_arch_option = click.option(
    "--arch",
    type=click.Choice([*library.ARCHES, "path"]),
    default="i386",
    show_default=True,
    help="32 bit as on an ESP32, 64 bit, or the micropython on PATH.",
)


@click.group()
def runtime() -> None:
    """The MicroPython that runs on this machine: Debian's, in the cache folder."""


@runtime.command()
@json_option
def install(as_json: bool) -> None:
    """Install what is missing: MicroPython for i386 and amd64, and umqtt.simple."""
    found = library.install(note=note)
    emit([_facts(each) for each in found], "\n".join(map(_line, found)), as_json=as_json)


@runtime.command()
@_arch_option
@json_option
def path(arch: str, as_json: bool) -> None:
    """Print the folder of the unpacked runtime (for path: the program)."""
    found = library.find(arch, install=False)
    emit(_facts(found), str(found.root), as_json=as_json)


@runtime.command(context_settings={"ignore_unknown_options": True})
@_arch_option
@click.option("--heap", metavar="SIZE", help="Size of MicroPython's heap, for example 96k.")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(arch: str, heap: str | None, args: tuple[str, ...]) -> None:
    """Become MicroPython with ARGS, after `--`: a file, -c COMMAND, or none for its REPL."""
    command = library.find(arch).argv(*args, heap=heap)
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


@runtime.command()
@json_option
def show(as_json: bool) -> None:
    """Show the installed versions beside those that the tests last passed with."""
    tested = library.tested()
    found = _installed()
    packages = [each.packages() for each in found]
    mqtt = _installed_umqtt()
    rows = [("", "tested", *(each.arch for each in found))]
    rows.append(("micropython", tested["micropython"], *(each.version for each in found)))
    rows.append(("umqtt.simple", tested["umqtt.simple"], *[mqtt or _NONE] * len(found)))
    for name, version in sorted(tested["packages"].items()):
        rows.append((f"deb {name}", version, *(each.get(name, _NONE) for each in packages)))
    emit(
        {"tested": tested, "installed": [_facts(each) for each in found], "umqtt.simple": mqtt},
        _table(rows),
        as_json=as_json,
    )


def _installed() -> list[library.Runtime]:
    found: dict[library.Runtime, None] = {}
    for arch in (*library.ARCHES, "path"):
        with suppress(RuntimeMissingError):
            found[library.find(arch, install=False)] = None
    return list(found)


def _installed_umqtt() -> str | None:
    with suppress(RuntimeMissingError):
        library.umqtt_dir(install=False)
        return umqtt.VERSION
    return None


def _facts(found: library.Runtime) -> dict[str, Any]:
    return {
        "arch": found.arch,
        "version": found.version,
        "root": str(found.root),
        "packages": found.packages(),
    }


def _line(found: library.Runtime) -> str:
    return f"{found.arch}: MicroPython {found.version} in {found.root}"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
