"""What a board's error code means: cause and next step, read out of the firmware's own source.

The board prints a number and a class name, since words cost it flash. The words are the docstrings
of firmware/imprint/errors.py, which this module reads as text (`ast`, nothing is imported): the
docstring is the cause, the paragraph that starts with `Next:` the next step.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

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
    """Read the classes of an errors.py. A `code` or `retry` that is not given is the base's."""
    seen: dict[str, tuple[int, bool]] = {}
    found: dict[int, DeviceErrorInfo] = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        code, retry = next((seen[base] for base in bases if base in seen), (0, False))
        own = _constants(node)
        code, retry = own.get("code", code), bool(own.get("retry", retry))
        seen[node.name] = (code, retry)
        if "code" in own and code:
            cause, next_step = _words(ast.get_docstring(node) or "")
            found[code] = DeviceErrorInfo(code, node.name, retry, cause, next_step)
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


def _constants(node: ast.ClassDef) -> dict[str, int]:
    found = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for target in statement.targets:
                if isinstance(target, ast.Name) and isinstance(statement.value.value, int):
                    found[target.id] = statement.value.value
    return found


def _words(docstring: str) -> tuple[str, str]:
    cause, _, next_step = docstring.partition("Next:")
    return " ".join(cause.split()), " ".join(next_step.split())
