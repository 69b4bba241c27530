"""The command `imprint`: parses, calls one library function, renders what it returns.

Nothing outside this package imports click or rich, and nothing here knows a protocol.
A subcommand lives in the module of its name and is imported only when it is called.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from imprint_tools.cli.output import note, report_error, report_usage
from imprint_tools.errors import ImprintError, RuntimeMissingError

_COMMANDS = (
    "board", "ca", "cloud", "demo", "factory", "flash", "gateway", "image", "inject", "modem",
    "monitor", "runtime", "verify",
)  # fmt: skip


_INTERRUPTED = 130  # 128 and SIGINT's number, as shells have it


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        try:
            module = importlib.import_module(f"imprint_tools.cli.{cmd_name}")
        except RuntimeMissingError as error:
            return _unavailable(cmd_name, error)
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if _wants_json():
                report_usage(error)
            raise
        except (KeyboardInterrupt, click.Abort) as stop:
            note("\nimprint: interrupted")
            if isinstance(stop.__context__, EOFError):  # click's Abort for a prompt
                note("  next: A prompt wants a terminal; without one give a file, or `env`.")
            ctx.exit(_INTERRUPTED)


def _unavailable(name: str, error: RuntimeMissingError) -> click.Command:
    """What stands for a command that lacks a library here: its help and its error say so."""

    def refuse(**_arguments: Any) -> None:
        raise error

    return click.Command(
        name,
        callback=refuse,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        help=f"Not available: {error}.",
    )


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="imprint", message="%(prog)s %(version)s")
def cli() -> None:
    """Give a board its identity at the bench, and take it to its cloud."""


def main() -> None:
    """Run the command; an expected failure is one message and its own exit status."""
    try:
        cli(prog_name="imprint")
    except ImprintError as error:
        report_error(error, as_json=_wants_json())
        sys.exit(error.exit_code)


def _wants_json() -> bool:
    # Asked of the command line, since an error may come before a command has parsed its own.
    return "--json" in sys.argv[1:]
