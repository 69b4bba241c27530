"""Bytes and datagrams of the EnOS journey over a modem, beside the fewest that there could be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import dtls_minimum as minimum
from cell_lab import DEVICE, Trip, travel
from dtls_minimum import CBC_SHA256, CCM_8, Hellos, Ways
from imprint_tools.localcloud.dtls import PSK_CBC_SHA256, PSK_CCM_8
from imprint_tools.localcloud.enos import messages
from lab import Lab
from measure import Figure, Row, Section

_SUITES = {CCM_8: PSK_CCM_8, CBC_SHA256: PSK_CBC_SHA256}
_FAMILY = "nrf91"  # it offers both suites, and the server chooses
_LOSS = 0.2
_AIM = ">= 0.952"
_SECRET, _ASSET = 20, 8  # bytes of a deviceSecret and an assetId of the local EnOS
_REPORTS = 4
_SIDE_BY_SIDE = 4

_COUNTED = (
    "UDP payload at the modem, counted when sent (lost or not) and when heard. Activation: "
    "power-on to the credential kept, one session with its goodbye. Report: the mean of those "
    "after the first. The minimum is computed from the formats (dtls_minimum.py), never measured, "
    "with the same identity and payloads and no token, for the hellos of the two ends here: Mbed "
    "TLS's, in place of the modem and of EnOS, with the five suites of an nRF91, its extensions, "
    "a session id and a cookie of 32 bytes. Hellos are the modem's and the server's own matter, "
    "so `without any extension` shows the same beside the least hellos that the formats allow, "
    "which was found of no modem. Ratio: minimum to imprint; 0.952 is 1.05 times the minimum. "
    "Under loss the minimum is the mean that is to be expected, and the figures are of few runs, "
    "which spread."
)


def measure(lab: Lab) -> Section:
    """Both suites in good weather, then with a fifth of all datagrams lost each way."""
    lossy = 2 if lab.quick else 12
    rows: list[Row] = []
    for suite in _SUITES:
        rows += _rows(suite, 0.0, _trips(lab, suite, 0.0, 1))
        rows += _rows(suite, _LOSS, _trips(lab, suite, _LOSS, lossy))
    return Section("The EnOS journey over the air, secure mode 3", _COUNTED, tuple(rows))


def _trips(lab: Lab, suite: str, loss: float, count: int) -> list[Trip]:
    """That many, some side by side: they wait most of their time."""
    folder = lab.folder / f"air-{suite}-{loss}"

    def one(seed: int) -> Trip:
        place = folder / str(seed)
        place.mkdir(parents=True)
        return travel(lab, place, family=_FAMILY, suites=(_SUITES[suite],), loss=loss, seed=seed,
                      reports=1 + _REPORTS)  # fmt: skip

    assert lab.firmware  # made once, before threads ask for it
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return list(pool.map(one, range(count)))


def _rows(suite: str, loss: float, trips: Sequence[Trip]) -> list[Row]:
    label = f"{suite}, {loss:.0%} lost" if loss else suite
    activations = [trip.between(0.0, trip.when("registered")) for trip in trips]
    # All reports after the first, as the mean of a trip
    reports = [
        trip.between(trip.when("reported"), trip.when("reported", _REPORTS)) for trip in trips
    ]
    # An exchange is repeated until both ways are taken: 1 / (1 - loss) ** 2 times on average
    # (geometric distribution). Of the answers just one is heard; a goodbye is said once.
    again = 1 / (1 - loss) ** 2
    farewell = sum(minimum.goodbye(suite).up)
    rows: list[Row] = []

    def row(what: str, unit: str, mine: Iterable[float], least: float, aim: str = _AIM) -> None:
        seen, floor = Figure.of(mine), Figure.of([least])
        against = "expected minimum" if loss else "minimum"
        rows.append(Row(f"{label}: {what}", unit, seen, floor, against, "" if loss else aim))

    floor = _activation(suite, trips[0], minimum.MBED_TLS)
    up, down = [_up(seen) for seen in activations], [_down(seen) for seen in activations]
    row("activation, up", "B", map(sum, up), sum(floor.up) * again + farewell)
    row("activation, down", "B", map(sum, down), sum(floor.down))
    if not loss:
        bare = _activation(suite, trips[0], minimum.BARE)
        row("  without any extension, up", "B", map(sum, up), sum(bare.up) + farewell, aim="")
        row("  without any extension, down", "B", map(sum, down), sum(bare.down), aim="")
    row("activation, datagrams up", "", map(len, up), len(floor.up) * again + 1)
    row("activation, datagrams down", "", map(len, down), len(floor.down))

    floor = _report(suite, trips[0])
    up, down = [_up(seen) for seen in reports], [_down(seen) for seen in reports]
    row("report, up", "B", (sum(s) / _REPORTS for s in up), sum(floor.up) * again)
    row("report, down", "B", (sum(s) / _REPORTS for s in down), sum(floor.down))
    row("report, datagrams up", "", (len(s) / _REPORTS for s in up), again)
    row("report, datagrams down", "", (len(s) / _REPORTS for s in down), 1)
    return rows


def _activation(suite: str, trip: Trip, hellos: Mapping[str, Hellos]) -> Ways:
    path = ["topic", "ext", "session", trip.product_key, DEVICE, "thing", "activate", "info"]
    issued = {
        "assetId": "x" * _ASSET,
        "productKey": trip.product_key,
        "deviceKey": DEVICE,
        "deviceSecret": "x" * _SECRET,
    }
    answer = len(messages.request("1", "thing/activate/info", issued))
    session = minimum.handshake(suite, len(trip.identity[0]), hellos[suite])
    return session + minimum.exchange(suite, path, 0, answer)


def _report(suite: str, trip: Trip) -> Ways:
    path = ["topic", "sys", trip.product_key, DEVICE, "thing", "measurepoint", "post"]
    number, size = trip.reports[-1]
    return minimum.exchange(suite, path, size, len(messages.reply(number, messages.OK)))


def _up(sizes: Sequence[int]) -> list[int]:
    return [size for size in sizes if size > 0]


def _down(sizes: Sequence[int]) -> list[int]:
    return [-size for size in sizes if size < 0]
