"""How a command speaks: results on stdout, everything else on stderr, `--json` JSON only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from imprint_tools.errors import ImprintError

_F = TypeVar("_F", bound=Callable[..., Any])


def json_option(function: _F) -> _F:
    """Add `--json` (parameter `as_json`): one JSON document on stdout, nothing else there."""
    return click.option(
        "--json", "as_json", is_flag=True, help="JSON on stdout, and nothing else there."
    )(function)


def emit(result: Mapping[str, Any] | list[Any], text: str, *, as_json: bool) -> None:
    """Print a command's result: `text` for a person, `result` as JSON for a script."""
    click.echo(json.dumps(result, indent=2, sort_keys=True) if as_json else text)


def note(message: str) -> None:
    """Tell a person what is going on, on stderr."""
    click.echo(message, err=True)


def report_error(error: ImprintError, *, as_json: bool) -> None:
    """Show an expected failure: what and why, then the next step."""
    note(f"imprint: {error.code}: {error}")
    if error.next_step:
        note(f"  next: {error.next_step}")
    if as_json:
        _echo_error(error.code, error.exit_code, str(error), error.next_step)


def report_usage(error: click.UsageError) -> None:
    """The JSON of a wrong use, which click itself explains on stderr."""
    _echo_error("usage", error.exit_code, error.format_message(), "See --help.")


def _echo_error(code: str, exit_status: int, message: str, next_step: str) -> None:
    # On one line, since `monitor` promises that each line is one object.
    error = {"code": code, "exit_status": exit_status, "message": message, "next_step": next_step}
    click.echo(json.dumps({"error": error}, sort_keys=True))
