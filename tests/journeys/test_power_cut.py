"""Pull the plug at every flash operation of a first boot: the unit always comes online afterwards.

The promises of the vault and of the NVS, kept through all layers: real MicroPython, real LittleFS,
the NVS page format, and a flash that stops in the middle of an operation when it is told to. `make
test` tries a sample; `make test-all` every operation, whole and torn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from imprint_tools import inject
from imprint_tools.errors import DeviceError, PortError
from imprint_tools.identities import Identity
from imprint_tools.repl import Repl
from imprint_tools.virtual.devkit import State
from journey_bench import KIND, JourneyBench

_SEED = 20_260_504
_SAMPLE = 4
_INJECT_S = 20.0


class FirstBoot:
    """One unit that is made new again and again, and what an undisturbed first boot of it does."""

    def __init__(self, bench: JourneyBench) -> None:
        self.bench = bench
        self.registered = 0
        """Registrations of all boots so far."""
        self.places: list[int] = []
        """Where in the flash each operation of a first boot takes place."""
        self._count()

    def _count(self) -> None:
        flash = self.bench.board.flash
        operate = flash._operate

        def noted(offset: int, data: bytes, *, erase: bool) -> None:
            self.places.append(offset)
            operate(offset, data, erase=erase)

        flash._operate = noted  # type: ignore[method-assign]
        try:
            assert self._boot() == 1
        finally:
            flash._operate = operate  # type: ignore[method-assign]

    @property
    def operations(self) -> range:
        """The operations of a first boot, from 1."""
        return range(1, len(self.places) + 1)

    def is_in_nvs(self, number: int) -> bool:
        """Whether that operation is one of the credential store's."""
        return KIND.nvs.offset <= self.places[number - 1] < KIND.nvs.end

    def renew(self) -> None:
        """A unit that has just been flashed and burned, and a cloud that forgets its name."""
        self.bench.burn(self.bench.identity)
        for device in self.bench.cloud.devices():
            self.bench.cloud.delete_client_ids(device["product_key"], device["device_name"])
        self.registered = self.bench.registrations()

    def _boot(self) -> int:
        """A first boot to the first acknowledged report; how often the unit registered."""
        self.renew()
        self.bench.board.power_on()
        self.bench.online()
        return self.bench.registrations() - self.registered

    def cut_at(self, number: int, *, torn: bool) -> None:
        """Cut the power at that operation of a first boot, then require what was promised."""
        try:
            self._cut_at(number, torn=torn)
        except (AssertionError, TimeoutError) as error:
            error.add_note(f"power cut at operation {number} of {len(self.places)}, {torn=}")
            raise

    def _cut_at(self, number: int, *, torn: bool) -> None:
        bench = self.bench
        self.renew()
        burned = bench.entries()
        bench.cut_at(number, torn=torn)
        bench.board.power_on()
        bench.online()
        held = bench.entries()
        assert burned.items() <= held.items(), "identity and root CA are as they were burned"
        assert bench.registrations() - self.registered <= 2, "at most one more than without"
        assert {"cred_a", "cred_b"} & set(held), "the credential is kept"
        before = bench.registrations()
        bench.power_cycle()
        bench.wait("online")
        assert bench.registrations() == before, "and readable: the next start needs no other"


@pytest.fixture(scope="module")
def first_boot(tmp_path_factory: pytest.TempPathFactory, firmware: bytes) -> Iterator[FirstBoot]:
    """Shared: a boot takes a second, and nothing of one unit is left in the next."""
    with JourneyBench(tmp_path_factory.mktemp("cuts"), firmware) as bench:
        yield FirstBoot(bench)


def test_a_first_boot_writes_little(first_boot: FirstBoot) -> None:
    """What is never written cannot be torn: a first boot touches NVS and the outbox's folder."""
    assert any(first_boot.is_in_nvs(number) for number in first_boot.operations)
    assert len(first_boot.places) < 40


def test_every_operation_of_a_first_boot_may_be_the_last(first_boot: FirstBoot) -> None:
    """A cut at any operation, whole or torn in turns: online at the next power-on, all kept."""
    for number in first_boot.operations:
        first_boot.cut_at(number, torn=number % 2 == 1)


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True])
def test_every_operation_whole_and_torn(first_boot: FirstBoot, torn: bool) -> None:
    """The same at every operation, both whole and torn."""
    for number in first_boot.operations:
        first_boot.cut_at(number, torn=torn)


@pytest.mark.slow
def test_two_cuts_in_a_row(first_boot: FirstBoot) -> None:
    """The power fails again while the unit recovers: still no credential and no identity lost."""
    bench, chance = first_boot.bench, random.Random(_SEED)  # noqa: S311  which cuts to try
    for _ in range(_SAMPLE):
        first_boot.renew()
        # The recovery writes less than a first boot, but at least the outbox's folder: three.
        for number in (chance.choice(first_boot.operations[:-3]), chance.randint(1, 3)):
            bench.cut_at(number, torn=chance.random() < 0.5)
        bench.board.power_on()
        bench.online()
        assert bench.registrations() - first_boot.registered <= 3


# --- While the identity is written


class Injection:
    """An identity that replaces another in a running unit, again and again."""

    def __init__(self, bench: JourneyBench) -> None:
        self.bench = bench
        self.old = bench.identity
        self.new = bench.make_identity(interval_s=2)
        self.blobs = tuple(_blob(identity) for identity in (self.old, self.new))
        bench.board.power_on()
        self.operations = range(1, self._inject() + 1)

    def _inject(self, *, cut: int = 0, torn: bool = False) -> int:
        """Inject, with a power cut at an operation if one is named; how many there were."""
        board = self.bench.board
        with Repl(board.url) as repl:  # from here on nobody else writes
            before = board.flash.ops
            if cut:
                board.cut(cut, torn=torn)
            inject.inject(repl, self.new)
            return board.flash.ops - before

    def cut_at(self, number: int, *, torn: bool) -> None:
        """Cut the power at that operation; then it is the old unit or the new, and takes both."""
        bench = self.bench
        bench.burn(self.old)
        bench.board.power_on()
        with ThreadPoolExecutor(1) as pool:
            lost = pool.submit(self._inject, cut=number, torn=torn)
            bench.board.wait_for(State.OFF)
            # A bench waits for a silent board until its patience ends; unplugged, it knows.
            bench.board.stop()
            with pytest.raises((DeviceError, PortError)):
                lost.result(_INJECT_S)
        held = bench.entries()
        assert held["identity"] in self.blobs, f"garbage after {number=}, {torn=}"
        assert held["root_ca"] == self.old.blobs["root_ca"]
        bench.board.start()
        self._inject()
        assert bench.entries()["identity"] == self.blobs[1]


@pytest.fixture(scope="module")
def injection(tmp_path_factory: pytest.TempPathFactory, firmware: bytes) -> Iterator[Injection]:
    """A unit with an identity, at its REPL."""
    with JourneyBench(tmp_path_factory.mktemp("injections"), firmware) as bench:
        yield Injection(bench)


def test_a_cut_while_injecting_leaves_the_old_or_the_new(injection: Injection) -> None:
    """The identity is one blob: after a cut it is whole, whichever it is, and can be replaced."""
    chance = random.Random(_SEED)  # noqa: S311  which cuts to try
    for number in chance.sample(injection.operations, _SAMPLE):
        injection.cut_at(number, torn=True)


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True])
def test_every_operation_of_an_injection(injection: Injection, torn: bool) -> None:
    """The same at every operation of the injection."""
    for number in injection.operations:
        injection.cut_at(number, torn=torn)


def _blob(identity: Identity) -> bytes:
    blob = identity.entries()["identity"]
    return blob if isinstance(blob, bytes) else blob.reveal()
