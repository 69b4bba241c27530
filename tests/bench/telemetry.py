"""From power-on to the first acknowledged report: a unit, and a device of the vendor's SDK.

Both register (regnwl), log in with what they were issued, post, and get the platform's reply:
from the same local cloud, over verified TLS, through the same kind of relay, which counts.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from imprint_tools.virtual.board import Board
from imprint_tools.virtual.network import AccessPoint
from lab import Lab, first_report
from measure import Figure, Row, Section, alternate

_DEVICE = Path(__file__).with_name("sdk_device.py")
_HEAP = "64k"
_PATIENCE_S = 30.0
_CALL_S = 5.0

_COUNTED = (
    "From power-on (the process's start) to the platform's reply to the first report, both seen "
    "on this machine's clock. The unit's way has the start of 32-bit MicroPython, joining the "
    "access point and setting the clock in it, the SDK's has the start of CPython. `Without the "
    "start` is from the firmware's first event, and from the SDK's imports being done; `cloud "
    "alone` leaves out joining and the clock, too, which the SDK finds done. Bytes are TCP "
    "payload, TLS and all, and the unit's time query."
)


@dataclass(frozen=True)
class Way:
    """One device's way to its first acknowledged report."""

    seconds: float
    without_start_s: float
    cloud_s: float
    up: int
    down: int


class Relay:
    """An access point without a board: a loopback port for a host of the cloud, and counts."""

    def __init__(self, air: AccessPoint) -> None:
        self.air = air
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.air.close(), self._loop).result(_CALL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    def port(self, host: str, port: int) -> int:
        """The loopback port at which that host and port is reached."""

        async def resolve() -> int:
            self.air.open()
            self.air.join(True)
            return self.air.resolve(host, port)

        return asyncio.run_coroutine_threadsafe(resolve(), self._loop).result(_CALL_S)


def measure(lab: Lab) -> Section:
    """Five runs of each, in turn."""
    folder = lab.folder / "telemetry"
    folder.mkdir()
    rounds = 3 if lab.quick else 5
    with Relay(lab.air()) as relay:
        ours, theirs = alternate(rounds, lambda: _unit(lab, folder), lambda: _sdk(lab, relay))
    against = "aliyun-iot-linkkit"

    def row(what: str, unit: str, field: str) -> Row:
        return Row(
            what,
            unit,
            Figure.of(getattr(way, field) for way in ours),
            Figure.of(getattr(way, field) for way in theirs),
            against,
        )

    return Section(
        "Power-on to the first acknowledged report, with registration",
        _COUNTED,
        (
            row("from power-on", "s", "seconds"),
            row("without the start", "s", "without_start_s"),
            row("cloud alone: register, log in, report", "s", "cloud_s"),
            row("bytes to the cloud", "B", "up"),
            row("bytes from the cloud", "B", "down"),
        ),
    )


def _unit(lab: Lab, folder: Path) -> Way:
    flash = folder / "flash.bin"
    flash.unlink(missing_ok=True)
    air = lab.air()
    with Board(folder, doors=(), access_point=air, heap=_HEAP) as board:  # blank: nothing boots
        board.power_off()
        with flash.open("r+b") as file:
            file.write(lab.unit())
        began = time.perf_counter()
        board.power_on()
        moments = first_report(board, _PATIENCE_S)
        reported = moments["reported"]
        return Way(
            reported.at_s - began,
            (reported.board_ms - moments["boot"].board_ms) / 1000,
            (reported.board_ms - moments["state REGISTER"].board_ms) / 1000,
            air.bytes_up,
            air.bytes_down,
        )


def _sdk(lab: Lab, relay: Relay) -> Way:
    region = lab.cloud.config.region
    host = f"{lab.product_key}.iot-as-mqtt.{region}.aliyuncs.com"
    orders = {
        "product_key": lab.product_key,
        "device_name": lab.new_name(),
        "product_secret": lab.cloud.product_secret(lab.product_key).reveal().decode(),
        "region": region,
        "port": relay.port(host, 8883),
        "ca": lab.cloud.ca_pem.read_text(),
    }
    up, down = relay.air.bytes_up, relay.air.bytes_down
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - this interpreter, the file beside
        [sys.executable, str(_DEVICE)],
        input=json.dumps(orders) + "\n",
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the vendor's SDK failed: {done.stderr}")
    moments: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    without_start_s = moments["reported"] - moments["imported"]
    return Way(
        moments["reported"] - began,
        without_start_s,
        without_start_s,
        relay.air.bytes_up - up,
        relay.air.bytes_down - down,
    )
