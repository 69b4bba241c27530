"""Syntax trees, built by several threads at once."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from imprint_tools import syntax

TEXT = "[" + "{'a': (1, (2, 3))}, " * 300 + "]"


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns in the middle of a tree, at each collection of garbage."""

    def switch(_phase: str, _info: dict[str, int]) -> None:
        time.sleep(0)

    gc.callbacks.append(switch)
    yield
    gc.callbacks.remove(switch)


@pytest.mark.parametrize("read", [syntax.parse, syntax.literal], ids=["parse", "literal"])
def test_threads_may_parse_at_once(switching: None, read: Callable[[str], object]) -> None:
    """Each gets its tree or value; CPython 3.11.7 alone would raise SystemError."""
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(read, [TEXT] * 20))
    assert len(results) == 20 and all(results)
