"""What the journeys share: one image of the firmware, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import edge_bench
import pytest
from azure_bench import AzureBench, EdgeBench
from enos_bench import EnosBench
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


@pytest.fixture
def make_enos_bench(tmp_path: Path, firmware: bytes) -> Iterator[Callable[..., EnosBench]]:
    """The same with a modem and the local EnOS. Keywords as of EnosBench."""
    with ExitStack() as stack:

        def make(content: bytes = firmware, **options: object) -> EnosBench:
            return stack.enter_context(EnosBench(tmp_path, content, **options))

        yield make


@pytest.fixture
def make_azure_bench(tmp_path: Path, firmware: bytes) -> Iterator[Callable[..., AzureBench]]:
    """The same with the local Azure. Keywords as of AzureBench."""
    with ExitStack() as stack:

        def make(content: bytes = firmware, **options: object) -> AzureBench:
            return stack.enter_context(AzureBench(tmp_path, content, **options))

        yield make


@pytest.fixture
def make_edge_bench(tmp_path: Path, firmware: bytes) -> Iterator[Callable[..., EdgeBench]]:
    """The same behind a gateway. Keywords as of AzureBench."""
    with ExitStack() as stack:

        def make(content: bytes = firmware, **options: object) -> EdgeBench:
            return stack.enter_context(EdgeBench(tmp_path, content, **options))

        yield make


@pytest.fixture
def make_edge(tmp_path: Path, firmware: bytes) -> Iterator[Callable[..., edge_bench.EdgeBench]]:
    """Makes edges of EnOS. Keywords as of edge_bench's EdgeBench."""
    with ExitStack() as stack:

        def make(content: bytes = firmware, **options: object) -> edge_bench.EdgeBench:
            return stack.enter_context(edge_bench.EdgeBench(tmp_path, content, **options))

        yield make
