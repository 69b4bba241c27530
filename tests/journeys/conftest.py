"""What the journeys share: one image of the firmware, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from journey_bench import JourneyBench, flash_content


@pytest.fixture(scope="session")
def firmware() -> bytes:
    """A flash with MicroPython and the firmware, and no identity."""
    return flash_content()


@pytest.fixture
def make_bench(tmp_path: Path, firmware: bytes) -> Iterator[Callable[..., JourneyBench]]:
    """Makes benches, which are taken down after the test. Keywords as of JourneyBench."""
    with ExitStack() as stack:

        def make(content: bytes = firmware, **options: object) -> JourneyBench:
            return stack.enter_context(JourneyBench(tmp_path, content, **options))

        yield make


@pytest.fixture
def bench(make_bench: Callable[..., JourneyBench]) -> JourneyBench:
    """A regnwl unit, flashed and burned, without power."""
    return make_bench()
