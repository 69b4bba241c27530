"""Python's own syntax, one thread at a time.

Two threads that build syntax trees at once get a SystemError, "AST constructor recursion depth
mismatch", from CPython before 3.11.8 and 3.12.2 (https://github.com/python/cpython/issues/106905);
a station flashes several boards at once. Can go when those are the oldest that we run on.
"""

from __future__ import annotations

import ast
from threading import Lock
from typing import Any

_lock = Lock()


def parse(source: str | bytes) -> ast.Module:
    """As `ast.parse`. Raises SyntaxError, ValueError."""
    with _lock:
        return ast.parse(source)


def literal(source: str) -> Any:
    """The value of a Python literal, as `ast.literal_eval`. Raises SyntaxError, ValueError."""
    with _lock:
        return ast.literal_eval(source)
