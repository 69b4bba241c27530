"""What it takes to bring sub-devices online behind an EnOS edge, and what goes through it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heap import smallest
from imprint_tools import identities, image
from imprint_tools.localcloud.enos.cloud import EnosCloud
from imprint_tools.localcloud.enos.records import GATEWAY
from imprint_tools.localcloud.enos.registry import ORGANISATION
from imprint_tools.monitor import Decoder, Event
from imprint_tools.paths import firmware_dir
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.network import AccessPoint
from lab import KIND, PASSWORD, SSID, Lab, NotOnlineError, flash_of, with_nvs
from measure import Figure, Row, Section

_KIB = 1024
_HEAP = "128k"
_PATIENCE_S = 240.0
_SECOND_BOOT_S = 20.0
_WATCHED_S = 15.0
_POINTS = "power:5000:400 energy:1000:10 temperature:40:8"

# What an edge without batches would do: the same requests, for one sub-device each.
_ONE_BY_ONE = b"""\
from imprint.net import enos_fleet
enos_fleet.Fleet.MOST = 1
def read():
    return {"up": 1}
"""


@dataclass(frozen=True)
class _Rise:
    """A first boot until all are online."""

    seconds: float
    messages: int
    content: bytes
    """The flash afterwards."""
    folder: Path


def measure(lab: Lab) -> Section:
    """200 and 20, in batches and one by one; a quick run has 20 alone."""
    most = 20 if lab.quick else 200
    batched = _first_boot(lab, "batched", most)
    single = _first_boot(lab, "single", most, {"application.py": _ONE_BY_ONE})
    few = batched if most == 20 else _first_boot(lab, "few", 20)
    rate, again = _second_boot(batched, most)
    rows = [
        Row(f"{most} sub-devices created, bound and online", "s", Figure.of([batched.seconds]),
            Figure.of([single.seconds]), "one by one"),
        Row("requests for that, REST and MQTT", "", Figure.of([batched.messages]),
            Figure.of([single.messages]), "one by one"),
        Row(f"{most} online after a power cycle", "s", Figure.of([again])),
        Row(f"points a second through the edge, of {3 * most + 2} due", "", Figure.of([rate])),
    ]  # fmt: skip
    for count, rise in {20: few, most: batched}.items():
        least = smallest(lambda kib, rise=rise, count=count: _rises(rise, count, kib))  # type: ignore[misc]
        rows.append(
            Row(f"smallest heap with {count} online and reported", "B",
                Figure.of([_KIB * least]), aim=f"<= {128 * _KIB:,}")
        )  # fmt: skip
    return Section(
        "EnOS edge and its sub-devices (32-bit MicroPython, -X heapsize=128k)",
        "Simulated sub-devices of three points each; times are from power-on to the last one "
        "online, by the board's clock; the first time most of it is writing what was issued to "
        "flash. One by one is the same firmware with requests for one sub-device each. The "
        "smallest heap is a second boot's, by bisection in steps of 1 KiB. Points are counted by "
        "the cloud; due each second are three of each sub-device and two of the edge itself.",
        tuple(rows),
    )


def _first_boot(lab: Lab, name: str, count: int, extra: dict[str, bytes] | None = None) -> _Rise:
    folder = lab.folder / f"gateway-{name}"
    firmware = flash_of(image.build_vfs(KIND, firmware_dir(), extra))
    with EnosCloud(folder / "cloud") as cloud:
        content = with_nvs(firmware, _identity(cloud, count))
        with _board(cloud, folder, content) as board:
            seconds = _online(board, count, _PATIENCE_S)
            requests = [e for e in cloud.events if e["kind"] in ("api", "publish")]
            board.power_off()
            done = board.flash.path.read_bytes()
    reports = [e for e in requests if "measurepoint" in e.get("topic", "")]
    return _Rise(seconds, len(requests) - len(reports), done, folder)


def _second_boot(rise: _Rise, count: int) -> tuple[float, float]:
    """(points a second, seconds until all are online)."""
    with EnosCloud(rise.folder / "cloud") as cloud:
        with _board(cloud, rise.folder, rise.content) as board:
            seconds = _online(board, count, _PATIENCE_S)
            began = time.time()
            end = time.monotonic() + _WATCHED_S
            while time.monotonic() < end:
                try:
                    board.expect(b"\n", 1.0)
                except TimeoutError:
                    pass
            reports = [e for e in cloud.events if "entries" in e and e["time"] >= began]
    points = sum(e["points"] for e in reports)
    return points / (reports[-1]["time"] - began), seconds


def _rises(rise: _Rise, count: int, kib: int) -> bool:
    try:
        with EnosCloud(rise.folder / "cloud") as cloud:
            with _board(cloud, rise.folder, rise.content, heap=f"{kib}k") as board:
                _online(board, count, _SECOND_BOOT_S)
                _reported(board, _SECOND_BOOT_S)
    except NotOnlineError:
        return False
    return True


def _identity(cloud: EnosCloud, count: int) -> identities.Identity:
    listed = {
        "tables": {"sim": {"driver": "simulated", "points": _POINTS.split()}},
        "subdevices": [
            {"device_key": f"inv-{at}", "table": "sim", "address": at}
            for at in range(1, count + 1)
        ],
    }
    (cloud.folder / "subdevices.json").write_text(json.dumps(listed))
    edges, inverters = cloud.create_product(kind=GATEWAY), cloud.create_product()
    access_key, access_secret = cloud.create_application("bench")
    raw: dict[str, Any] = {
        "journey": "enos-gateway",
        "product_key": edges,
        "device_key": "edge-1",
        "secure_mode": 2,
        "device_secret": cloud.create_device(edges, "edge-1").reveal().decode(),
        "host": cloud.config.mqtt_host,
        "api_host": cloud.config.api_host,
        "access_key": access_key,
        "access_secret": access_secret.reveal().decode(),
        "org_id": ORGANISATION,
        "subdevice_registration": "rest",
        "subdevice_product_key": inverters,
        "subdevices": "subdevices.json",
        "root_ca": str(cloud.ca_pem),
        "wifi_ssid": SSID,
        "wifi_password": PASSWORD,
        "interval_s": 1,
    }
    return identities.check(raw, origin="the bench", folder=cloud.folder)


@contextmanager
def _board(
    cloud: EnosCloud, folder: Path, content: bytes, *, heap: str = _HEAP
) -> Iterator[Board]:
    """A board with that flash; it boots when it is entered."""
    place = folder / "board"
    place.mkdir(exist_ok=True)
    (place / "flash.bin").write_bytes(content)
    air = AccessPoint(SSID, PASSWORD, cloud.endpoints)
    with Board(place, doors=(), access_point=air, heap=heap) as board:
        yield board


def _online(board: Board, count: int, patience_s: float) -> float:
    """Seconds on the board's clock from its boot until so many are online."""
    for event in _events(board, patience_s):
        if event.matches("subdevices") and event.data.get("online") == count:
            return event.t_ms / 1000
    raise NotOnlineError("it ended")


def _reported(board: Board, patience_s: float) -> None:
    left = 3
    for event in _events(board, patience_s):
        left -= event.matches("reported.acked")
        if not left:
            return


def _events(board: Board, patience_s: float) -> Iterator[Event]:
    deadline = time.monotonic() + patience_s
    decoder = Decoder()
    while True:
        try:
            line = board.expect(b"\n", max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise NotOnlineError(f"not within {patience_s:g} s") from None
        for item in decoder.feed(line):
            if isinstance(item, Event):
                yield item
            elif "MemoryError" in item.line:
                raise NotOnlineError(item.line)
