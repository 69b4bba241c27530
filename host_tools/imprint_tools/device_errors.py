"""What a board's error code means: cause and next step, read out of the firmware's own source.

The board prints a number, since words cost it memory. The words are in firmware/imprint/errors.py,
which this module reads as text (`ast`, nothing is imported): under each `_NAME = const(number)` a
text that begins with the kind of error, then the cause, then the paragraph `Next:`, the next step.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from imprint_tools import syntax
from imprint_tools.paths import firmware_dir


@dataclass(frozen=True)
class DeviceErrorInfo:
    """One error of the board. `retry`: the board tries again by itself, and that can help."""

    code: int
    name: str
    retry: bool
    cause: str
    next_step: str


@cache
def table() -> Mapping[int, DeviceErrorInfo]:
    """All the errors that have a code, by code."""
    source = (firmware_dir() / "imprint" / "errors.py").read_text(encoding="utf-8")
    return parse(source)


def parse(source: str) -> dict[int, DeviceErrorInfo]:
    """Read the codes of an errors.py. `retry` is that of the class which the text names."""
    body = syntax.parse(source).body
    retries = {node.name: _retry(node) for node in body if isinstance(node, ast.ClassDef)}
    found: dict[int, DeviceErrorInfo] = {}
    for statement, following in pairwise(body):
        match statement, following:
            case (
                ast.Assign(
                    targets=[ast.Name(id=name)],
                    value=ast.Call(
                        func=ast.Name(id="const"), args=[ast.Constant(value=int(code))]
                    ),
                ),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                kind, _, words = text.partition(":")
                cause, _, next_step = words.partition("Next:")
                found[code] = DeviceErrorInfo(
                    code, _shown(name), retries[kind], _one_line(cause), _one_line(next_step)
                )
    return found


def explain(code: int) -> DeviceErrorInfo:
    """What `code` means; a code that this firmware does not know says so."""
    known = table().get(code)
    if known is not None:
        return known
    return DeviceErrorInfo(
        code,
        "unknown",
        False,
        f"The board's firmware has an error {code} that this version of imprint does not know.",
        "Use the imprint of the version that flashed the board.",
    )


def _retry(node: ast.ClassDef) -> bool:
    return any(ast.unparse(statement) == "retry = True" for statement in node.body)


def _shown(name: str) -> str:
    """`_LINK_LOST` as people read it: LinkLost."""
    return "".join(word.capitalize() for word in name.split("_"))


def _one_line(text: str) -> str:
    return " ".join(text.split())
