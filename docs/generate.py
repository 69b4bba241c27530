"""Write again what the documentation has from the code: docs/errors.md, and README's diagram.

`make docs` runs it; tests keep both current.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from imprint_tools import chain_check, device_errors
from imprint_tools.errors import ImprintError
from imprint_tools.paths import firmware_dir

ERRORS_PAGE = Path(__file__).with_name("errors.md")
README = Path(__file__).parent.with_name("README.md")

_DIAGRAM = re.compile(r"(?<=<!-- onboarding -->\n).*?(?=<!-- /onboarding -->)", re.DOTALL)

_HEAD = """\
# Errors

Written by `make docs` from `errors.py` of host tools and firmware, and from `chain_check.py`.

## On the host

A command that fails says what and why, then the next step, on stderr; under `--json` the same
is one object on stdout. Exit status 0 is success, 1 a bug (with its traceback), 2 wrong usage, 130
Ctrl-C.

| exit status | code | what happened |
|---|---|---|
"""
_GATEWAY_HEAD = """
## Of a gateway

`imprint gateway check` lists all causes that it finds; the exit status is that of the first.

| exit status | cause | what it is | next step |
|---|---|---|---|
"""
_DEVICE_HEAD = """
## On the board

The board reports a number; `imprint monitor` adds these words. Where *retries* says yes the board
tries again by itself, with growing pauses.

| code | name | retries | what happened | next step |
|---|---|---|---|---|
"""


def errors_page() -> str:
    """The whole page."""
    host = "".join(
        f"| {kind.exit_code} | `{kind.code}` | {_one_line(inspect.getdoc(kind) or '')} |\n"
        for kind in sorted(_descendants(ImprintError), key=lambda kind: kind.exit_code)
    )
    gateway = "".join(
        f"| {cause.exit_status} | `{name}` | {cause.what} | {cause.next_step} |\n"
        for name, cause in chain_check.CAUSES.items()
    )
    device = "".join(
        f"| {code} | {error.name} | {'yes' if error.retry else 'no'} | {_one_line(error.cause)} "
        f"| {_one_line(error.next_step)} |\n"
        for code, error in sorted(device_errors.table().items())
    )
    return _HEAD + host + _GATEWAY_HEAD + gateway + _DEVICE_HEAD + device


def readme() -> str:
    """README.md with today's diagram."""
    drawn = f"```mermaid\n{diagram()}\n```\n"
    return _DIAGRAM.sub(lambda _: drawn, README.read_text(encoding="utf-8"))


def diagram() -> str:
    """firmware/imprint/onboarding.py's table in Mermaid.

    One arrow for each pair of states, labelled with the events that take it.
    """
    names: dict[str, str] = {}
    arrows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in ast.parse((firmware_dir() / "imprint" / "onboarding.py").read_text()).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        if isinstance(node.value, ast.Constant):
            names[node.targets[0].id] = str(node.value.value)
        elif isinstance(node.value, ast.Dict):
            for key, after in zip(node.value.keys, node.value.values, strict=True):
                state, event = ast.unparse(key or after).strip("()").split(", ")
                arrows[names[state], names[ast.unparse(after)]].append(names[event].lower())
    lines = ["stateDiagram-v2", f"    [*] --> {names['IDENTITY']}"]
    lines += [
        f"    {before} --> {after}: {', '.join(events)}"
        for (before, after), events in arrows.items()
    ]
    return "\n".join(lines)


def _descendants(base: type[ImprintError]) -> Iterator[type[ImprintError]]:
    """The classes of errors.py below `base`; those that refine one elsewhere share its status."""
    for kind in base.__subclasses__():
        if kind.__module__ == base.__module__:
            yield kind
            yield from _descendants(kind)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    ERRORS_PAGE.write_text(errors_page(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
