"""Bytes and datagrams of the EnOS journey over a modem, beside the fewest that there could be."""

from __future__ import annotations

from collections.abc import Sequence

import dtls_minimum as minimum
from cell_lab import DEVICE, Trip, travel
from dtls_minimum import CBC_SHA256, CCM_8, Ways
from imprint_tools.localcloud import enos_messages as messages
from imprint_tools.localcloud.dtls import PSK_CBC_SHA256, PSK_CCM_8
from lab import Lab
from measure import Figure, Row, Section

_SUITES = {CCM_8: PSK_CCM_8, CBC_SHA256: PSK_CBC_SHA256}
_FAMILY = "nrf91"  # it offers both suites, and the server chooses
_LOSS = 0.2
_HELLOS = 2  # flights each way, before the keys: the modem's own matter, and the server's
_AIM = ">= 0.952"
_SECRET, _ASSET = 20, 8  # bytes of a deviceSecret and an assetId of the local EnOS
_REPORTS = 2

_COUNTED = (
    "UDP payload at the modem, counted when sent (lost or not) and when heard. Activation: "
    "power-on to the credential kept, one session with its goodbye. Report: all between two "
    "acknowledged ones. The minimum is computed from the formats (dtls_minimum.py) with the "
    "same identity and payloads, a cookie of 20 bytes, no session id, no extensions, no "
    "token. The first two flights each way are made by Mbed TLS here, in place of the modem and "
    "of EnOS (extensions, a session id, a cookie of 32 bytes); `after the hellos` leaves them out "
    "on both sides, which is what the firmware and the choice of suite decide. Ratio: minimum to "
    "imprint; 0.952 is 1.05 times the minimum."
)


def measure(lab: Lab) -> Section:
    """Both suites in good weather, then with a fifth of all datagrams lost each way."""
    folder = lab.folder / "air"
    runs = 1 if lab.quick else 4
    rows: list[Row] = []
    for suite, number in _SUITES.items():
        for loss in (0.0, _LOSS):
            trips = []
            for seed in range(runs if loss else 1):
                place = folder / f"{suite}-{loss}-{seed}"
                place.mkdir(parents=True)
                trips.append(
                    travel(lab, place, family=_FAMILY, suites=(number,), loss=loss, seed=seed,
                           reports=1 + _REPORTS)
                )  # fmt: skip
            rows += _rows(suite, loss, trips)
    return Section("The EnOS journey over the air, secure mode 3", _COUNTED, tuple(rows))


def _rows(suite: str, loss: float, trips: Sequence[Trip]) -> list[Row]:
    weather = f"{suite}, {loss:.0%} lost" if loss else suite
    aim = "" if loss else _AIM
    against = "minimum"
    cold = [trip.between(0.0, trip.when("registered")) for trip in trips]
    warm = [
        trip.between(trip.when("reported", n), trip.when("reported", n + 1))
        for trip in trips
        for n in range(_REPORTS)
    ]
    least_cold = _activation(suite, trips[0])
    least_warm = _report(suite, trips[0])

    def row(what: str, unit: str, mine: Sequence[float], least: float) -> Row:
        return Row(f"{weather}: {what}", unit, Figure.of(mine), Figure.of([least]), against, aim)

    rows: list[Row] = []
    for name, seen, least in (("activation", cold, least_cold), ("report", warm, least_warm)):
        for way, pick, floor in (("up", _up, least.up), ("down", _down, least.down)):
            sizes = [pick(one) for one in seen]
            rows.append(row(f"{name}, {way}", "B", [sum(s) for s in sizes], sum(floor)))
            if name == "activation" and not loss:
                after = [sum(s[_HELLOS:]) for s in sizes]
                rows.append(row(f"  after the hellos, {way}", "B", after, sum(floor[_HELLOS:])))
            rows.append(row(f"{name}, datagrams {way}", "", [len(s) for s in sizes], len(floor)))
    return rows


def _activation(suite: str, trip: Trip) -> Ways:
    path = ["topic", "ext", "session", trip.product_key, DEVICE, "thing", "activate", "info"]
    issued = {
        "assetId": "x" * _ASSET,
        "productKey": trip.product_key,
        "deviceKey": DEVICE,
        "deviceSecret": "x" * _SECRET,
    }
    answer = len(messages.request("1", "thing/activate/info", issued))
    session = minimum.handshake(suite, len(trip.identity[0]))
    return session + minimum.exchange(suite, path, 0, answer) + minimum.goodbye(suite)


def _report(suite: str, trip: Trip) -> Ways:
    path = ["topic", "sys", trip.product_key, DEVICE, "thing", "measurepoint", "post"]
    answer = len(messages.reply("1" * 8, messages.OK))
    return minimum.exchange(suite, path, trip.reports[-1], answer)


def _up(sizes: Sequence[int]) -> list[int]:
    return [size for size in sizes if size > 0]


def _down(sizes: Sequence[int]) -> list[int]:
    return [-size for size in sizes if size < 0]
