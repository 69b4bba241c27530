"""Every modem's family in both secure modes: the unit comes online, whatever happens on its way.

At its first power-on; with a fifth of all datagrams lost; after a power cut at any flash operation
of that boot, whole or torn; with a modem that reboots at any AT command of it. `make test` tries
points of each family and mode by chance, always the same ones; `make test-all` every point. Units
wait most of their time, so several go side by side.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from enos_bench import DIALECTS, EnosBench
from journey_bench import side_by_side

CASES = [(family, mode) for family in DIALECTS for mode in (2, 3)]
LOSS = 0.2
IN_BAD_WEATHER = [("nrf91", 3), ("bg95", 2), ("gm02s", 3), ("sara-r5", 2)]
"""What is disturbed with loss, too: each dialect, both modes."""
WHOLE_IN_BAD_WEATHER = ("bg95", 3)
_SEED = 4
_LONG = ("AT+UPSDA=", "AT+USOCO=")
"""A SARA does not tell that it has started anew: where it does so in one of these, the unit waits
for the three to six minutes that the vendor gives them. Not in a sample."""
_PATIENCE_S = 600.0
"""For that; and a request may be given up after half a minute, and a pause follows."""


class FirstBoot:
    """A unit in that secure mode which is made new again and again, and its modem with it.

    What an undisturbed first boot takes is noted once, in good weather: the numbers of its flash
    `operations`, from 1, and its AT `commands`.
    """

    def __init__(self, bench: EnosBench, mode: int) -> None:
        self.bench, self.mode = bench, mode
        if mode == 2:
            bench.identity = bench.static()
        bench.new_unit()
        before = bench.board.flash.ops
        self.boot()
        self.operations = range(1, bench.board.flash.ops - before + 1)
        self.commands = bench.modem.commands[:-1]
        bench.board.power_off()  # those that are looked at need the processor

    def boot(self) -> None:
        """Power on, and wait for an acknowledged report."""
        self.bench.board.power_on()
        self.bench.online(timeout_s=_PATIENCE_S)

    def cut_at(self, number: int, torn: bool) -> None:
        """The power is cut at a flash operation. At the next power-on the unit comes online with
        all that was burned; nobody has to reset its activation, and once it is online it never
        needs another."""
        bench = self.bench
        bench.new_unit()
        burned, before = bench.entries(), self.activations
        bench.cut_at(number, torn=torn, timeout_s=_PATIENCE_S)
        self.boot()
        held, after = bench.entries(), self.activations
        assert burned.items() <= held.items(), "the identity is as it was burned"
        assert after - before <= (2 if self.mode == 3 else 0)
        if self.mode == 3:
            assert {"cred_a", "cred_b"} & set(held), "the secret is kept"
            bench.board.power_off()
            self.boot()
            assert self.activations == after, "and readable"

    def reboot_at(self, number: int, after: bool) -> None:
        """The modem starts anew at an AT command: before it is done, or `after`, unanswered."""
        bench = self.bench
        bench.new_unit()
        bench.modem.order_reboot(number, after=after)
        self.boot()
        if bench.modem.starts == 1:  # fewer commands than counted: it comes with a later report
            bench.online(timeout_s=_PATIENCE_S)
        assert bench.modem.starts >= 2

    @property
    def activations(self) -> int:
        """How often the cloud has handed out its secret, in all its lives."""
        return int(self.bench.device()["activations"])


FirstBoots = dict[tuple[str, int], FirstBoot]
Disturb = Callable[[FirstBoot, random.Random | None], None]


def cut_power(boot: FirstBoot, chance: random.Random | None) -> None:
    """At every flash operation, whole and torn; or at one by chance. A unit in mode 2 whose modem
    has no store of its own writes nothing: there is nothing to tear."""
    points = [(number, torn) for number in boot.operations for torn in (False, True)]
    assert len(points) < 80
    _each(boot, boot.cut_at, points, chance)


def reboot_modem(boot: FirstBoot, chance: random.Random | None) -> None:
    """At every AT command, before and after it is done; or at one by chance."""
    points = [
        (number, after)
        for number, line in enumerate(boot.commands, start=1)
        for after in (False, True)
        if not (chance and line.startswith(_LONG))
    ]
    _each(boot, boot.reboot_at, points, chance)


def _each(
    boot: FirstBoot,
    trouble: Callable[[int, bool], None],
    points: list[tuple[int, bool]],
    chance: random.Random | None,
) -> None:
    if chance:
        points = chance.sample(points, min(1, len(points)))
    for point in points:
        try:
            trouble(*point)
            boot.bench.board.power_off()
        except (AssertionError, TimeoutError) as error:
            error.add_note(f"{trouble.__name__}{point}")
            raise


@pytest.fixture(scope="module")
def first_boots(tmp_path_factory: pytest.TempPathFactory, firmware: bytes) -> Iterator[FirstBoots]:
    """A unit of each case, which has come online once."""
    folder, boots = tmp_path_factory.mktemp("families"), {}
    with ExitStack() as stack:

        def make(family: str, mode: int) -> None:
            place, seed = folder / f"{family}-{mode}", _SEED + CASES.index((family, mode))
            bench = EnosBench(place, firmware, family=family, modem={"seed": seed})
            boots[family, mode] = FirstBoot(stack.enter_context(bench), mode)

        side_by_side(make, CASES)
        yield boots


@pytest.fixture(params=[0.0, LOSS])
def loss(request: pytest.FixtureRequest, first_boots: FirstBoots) -> Iterator[float]:
    """Of datagrams, each way."""
    for boot in first_boots.values():
        boot.bench.modem.weather.loss = request.param
    yield request.param
    for boot in first_boots.values():
        boot.bench.modem.weather.loss = 0.0


def test_every_family_comes_online(first_boots: FirstBoots) -> None:
    """In mode 2 by one handshake; in mode 3 by two, with one activation between them."""
    for (family, mode), boot in first_boots.items():
        shown = boot.bench.device()
        assert shown["online"], (family, mode)
        assert set(shown["measurepoints"]) == {"heap_free", "uptime_s"}
        assert len(boot.bench.sessions()) == 1 + shown["activations"] == mode - 1, (family, mode)
        assert ("cred_a" in boot.bench.entries()) == (mode == 3)
        boot.bench.keeps_its_secrets()


def test_a_fifth_of_all_datagrams_may_be_lost(first_boots: FirstBoots) -> None:
    """Every family comes online, and its reports are acknowledged."""

    def lossy(family: str, mode: int) -> None:
        boot = first_boots[family, mode]
        boot.bench.modem.weather.loss = LOSS
        boot.bench.new_unit()
        boot.boot()
        boot.bench.reported(timeout_s=_PATIENCE_S)
        boot.bench.board.power_off()
        boot.bench.modem.weather.loss = 0.0
        assert boot.bench.modem.counts.lost

    side_by_side(lossy, CASES)


@pytest.mark.parametrize("disturb", [cut_power, reboot_modem])
def test_a_sample_of_points(first_boots: FirstBoots, disturb: Disturb, loss: float) -> None:
    """A point of each family and mode; in bad weather of each dialect."""

    def sample(family: str, mode: int) -> None:
        disturb(first_boots[family, mode], random.Random(f"{family} {mode} {loss}"))  # noqa: S311

    side_by_side(sample, IN_BAD_WEATHER if loss else CASES)


@pytest.mark.slow
@pytest.mark.parametrize("disturb", [cut_power, reboot_modem])
def test_every_point(first_boots: FirstBoots, disturb: Disturb, loss: float) -> None:
    """Every point of each family and mode; in bad weather of one."""

    def whole(family: str, mode: int) -> None:
        disturb(first_boots[family, mode], None)

    side_by_side(whole, [WHOLE_IN_BAD_WEATHER] if loss else CASES)
