"""Pull the plug at flash operations of a first boot by way of DPS: the unit always comes online.

The same promises as in test_power_cut.py, for a record that may be fetched again at no cost. `make
test` tries a sample; `make test-all` every operation, whole and torn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from azure_bench import UNIT, AzureBench

_SEED = 20_261_121
_SAMPLE = 4


@pytest.fixture(scope="module")
def first_boot(
    tmp_path_factory: pytest.TempPathFactory, firmware: bytes
) -> Iterator[tuple[AzureBench, int]]:
    """A unit that is made new again and again, and how many operations a first boot takes."""
    with AzureBench(tmp_path_factory.mktemp("cuts"), firmware) as bench:
        bench.board.power_on()
        bench.online()
        yield bench, bench.board.flash.ops


def cut_at(bench: AzureBench, number: int, *, torn: bool) -> None:
    """Cut the power at that operation of a first boot, then require what was promised."""
    bench.burn(bench.identity)
    burned = bench.entries()
    before = bench.registrations()
    bench.cut_at(number, torn=torn)
    bench.board.power_on()
    bench.online()
    held = bench.entries()
    assert burned.items() <= held.items(), f"{number=}: the identity is as it was burned"
    assert {"cred_a", "cred_b"} & set(held), f"{number=}: the record is kept"
    assert bench.registrations() - before <= 2, f"{number=}"
    before = bench.registrations()
    bench.power_cycle()
    bench.wait("online")
    assert bench.registrations() == before, f"{number=}: the next start needs no other"
    assert bench.device(UNIT)["enabled"]


def test_a_sample_of_operations(first_boot: tuple[AzureBench, int]) -> None:
    """Online at the next power-on, with everything that was burned."""
    bench, operations = first_boot
    chance = random.Random(_SEED)  # noqa: S311  which cuts to try
    for number in chance.sample(range(1, operations + 1), _SAMPLE):
        cut_at(bench, number, torn=number % 2 == 1)


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True])
def test_every_operation(first_boot: tuple[AzureBench, int], *, torn: bool) -> None:
    """The same at every operation."""
    bench, operations = first_boot
    for number in range(1, operations + 1):
        cut_at(bench, number, torn=torn)
