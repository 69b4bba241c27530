"""A unit, its network and its local cloud, for tests of whole journeys.

The unit's flash is written directly (esptool's part is tested elsewhere, and once in a journey of
its own), then everything is as in the field: MicroPython boots from flash and is on its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imprint_tools import boards, identities, image, nvs
from imprint_tools.identities import Identity
from imprint_tools.localcloud.aliyun.cloud import AliyunCloud
from imprint_tools.localcloud.aliyun.config import AliyunConfig
from imprint_tools.localcloud.azure.cloud import AzureCloud
from imprint_tools.localcloud.enos.cloud import EnosCloud
from imprint_tools.monitor import Decoder, Event, Text
from imprint_tools.paths import firmware_dir
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.devkit import State
from imprint_tools.virtual.network import AccessPoint

KIND = boards.load("esp32-generic")
HEAP = "64k"
SSID, PASSWORD = "bench", "correct horse"
NAME = "unit-1"

_EVENT_S = 30.0
_SIDE_BY_SIDE = 6


def flash_content(extra: Mapping[str, bytes] | None = None) -> bytes:
    """A flash that holds MicroPython and the firmware, and no identity."""
    vfs = image.build_vfs(KIND, firmware_dir(), extra)
    segments = image.layout(KIND, firmware=image.virtual_firmware(KIND), vfs=vfs)
    return image.merge(segments).ljust(KIND.flash_size, b"\xff")


def side_by_side(work: Callable[..., None], cases: Iterable[tuple[Any, ...]]) -> None:
    """Do the work for each case, some at once in threads. Raises all their failures together."""
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        running = {case: pool.submit(work, *case) for case in cases}
    failures = []
    for case, future in running.items():
        if error := future.exception():
            error.add_note(f"{case=}")
            failures.append(error)
    if failures:
        raise BaseExceptionGroup("side by side", failures)


class UnitBench:
    """`with ...Bench(folder, content) as bench:` has a cloud, and a board without power.

    `content` is what its flash holds, `identity` what is burned.
    """

    cloud: AliyunCloud | EnosCloud | AzureCloud
    identity: Identity

    def __init__(self, content: bytes, board: Board) -> None:
        self.board = board
        self.items: list[Event | Text] = []
        """What the console has shown so far."""
        self._content = content
        self._decoder = Decoder()
        self._next = 0

    def __enter__(self) -> Self:
        self.board.start()
        self.burn(self.identity)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.board.stop()
        self.cloud.stop()

    # -- the unit -------------------------------------------------------------------------------

    def burn(self, identity: Identity | None) -> None:
        """Take the power away and write the whole flash anew, with that identity and no more."""
        self.write(self._content)
        if identity is not None:
            nvs_image = image.build_nvs(identity.entries(), KIND.nvs.size)
            self.write(nvs_image, KIND.nvs.offset)

    def write(self, data: bytes, offset: int = 0) -> None:
        """Take the power away and put bytes into the flash, as a programmer's clip would."""
        self.board.power_off()
        with self.board.flash.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def read(self) -> bytes:
        """The whole flash, as a programmer's clip would read it."""
        return self.board.flash.path.read_bytes()

    def entries(self) -> dict[str, bytes]:
        """What NVS holds, by key."""
        part = nvs.NvsPartition(nvs.BytesRegion(self.read()[KIND.nvs.offset : KIND.nvs.end]))
        return {e.key: e.value for e in part.entries() if isinstance(e.value, bytes)}

    def outbox(self) -> set[int]:
        """The ids of the reports that wait in flash (see `_keep` in firmware/imprint/app.py)."""
        files = image.unpack_vfs(self.read()[KIND.vfs.offset : KIND.vfs.end])
        kept = [data for path, data in files.items() if path.startswith("outbox/")]
        return {int(json.loads(data[data.index(b"{") :])["id"]) for data in kept if b"{" in data}

    def power_cycle(self) -> None:
        """Off, and on again."""
        self.board.power_off()
        self.board.power_on()

    def cut_at(self, operation: int, *, torn: bool, timeout_s: float = _EVENT_S) -> None:
        """Power it on, until the supply goes away at that flash operation; `torn` halves it."""
        self.board.cut(operation, torn=torn)
        self.board.power_on()
        self.board.wait_for(State.OFF, timeout_s)

    # -- what it says ---------------------------------------------------------------------------

    def wait(self, name: str, *, timeout_s: float = _EVENT_S, **fields: Any) -> Event:
        """The next event of that name and these fields; a unit that halts before is a failure."""
        halts = (name, fields.get("s")) == ("state", "HALT")
        deadline = time.monotonic() + timeout_s
        while True:
            for item in self._news(deadline):
                if not isinstance(item, Event):
                    continue
                if item.name == name and fields.items() <= item.data.items():
                    return item
                assert halts or item.data.get("s") != "HALT", f"halted\n{self.transcript()}"

    def wait_text(self, part: str, *, timeout_s: float = _EVENT_S) -> str:
        """The next line of the console that is no event and has `part` in it."""
        deadline = time.monotonic() + timeout_s
        while True:
            for item in self._news(deadline):
                if isinstance(item, Text) and part in item.line:
                    return item.line

    def _news(self, deadline: float) -> Sequence[Event | Text]:
        """One more item, so that the next wait goes on behind the one found."""
        while self._next >= len(self.items):
            try:
                line = self.board.expect(b"\n", max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise AssertionError(f"it did not come\n{self.transcript()}") from None
            self.items += self._decoder.feed(line)
        self._next += 1
        return self.items[self._next - 1 : self._next]

    def transcript(self) -> str:
        """The console's last items, for a failed test."""
        return "\n".join(str(item) for item in self.items[-40:])

    def online(self, *, timeout_s: float = _EVENT_S) -> None:
        """Wait until it is online and a report of this connection is acknowledged."""
        self.wait("online", timeout_s=timeout_s)
        self.reported(timeout_s=timeout_s)

    def reported(self, *, timeout_s: float = _EVENT_S) -> int:
        """Wait for an acknowledged report, which the cloud must have recorded; its id."""
        number = int(self.wait("reported", acked=True, timeout_s=timeout_s).data["id"])
        self.cloud.event_log.wait("report", id=str(number), code=200, timeout_s=timeout_s)
        return number

    def error(self, code: int, *, timeout_s: float = _EVENT_S) -> Event:
        """Wait for that error of the firmware."""
        return self.wait("error", code=code, timeout_s=timeout_s)

    def halted_with(self, code: int, *, timeout_s: float = _EVENT_S) -> Event:
        """Wait for that error, after which it must wait for a person."""
        error = self.error(code, timeout_s=timeout_s)
        self.wait("state", s="HALT", timeout_s=timeout_s)
        return error

    # -- what the cloud says --------------------------------------------------------------------

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The cloud's events of a kind, oldest first."""
        return [event for event in self.cloud.events if event["kind"] == kind]


class JourneyBench(UnitBench):
    """A unit, its access point and the local Aliyun.

    `burned` are fields of the identity that differ from a regnwl unit's; None leaves one out.
    They were checked `burned_on` that day, by default today.
    """

    cloud: AliyunCloud

    def __init__(
        self,
        folder: Path,
        content: bytes,
        *,
        config: AliyunConfig | None = None,
        ntp: bool = True,
        burned_on: datetime | None = None,
        doors: Sequence[str] = (),
        **burned: Any,
    ) -> None:
        self.cloud = AliyunCloud(folder / "cloud", config)
        self.cloud.start()
        self.product_key = self.cloud.create_product()
        self.air = AccessPoint(SSID, PASSWORD, self.cloud.endpoints, ntp=ntp)
        super().__init__(
            content, Board(folder / "unit", doors=doors, access_point=self.air, heap=HEAP)
        )
        self._burned_on = burned_on
        self.identity = self.make_identity(**burned)

    def make_identity(self, **burned: Any) -> Identity:
        """An identity for this cloud, valid by the firmware's own rules."""
        raw = {
            "journey": "aliyun",
            "product_key": self.product_key,
            "product_secret": self.cloud.product_secret(self.product_key).reveal().decode(),
            "registration": "regnwl",
            "device_name": NAME,
            "root_ca": str(self.cloud.ca_pem.resolve()),
            "wifi_ssid": SSID,
            "wifi_password": PASSWORD,
            "interval_s": 1,
        } | burned
        present = {name: value for name, value in raw.items() if value is not None}
        return identities.check(
            present, origin="the test", folder=self.cloud.folder, now=self._burned_on
        )

    def device(self, name: str = NAME) -> dict[str, Any]:
        """What the console of the cloud shows of the device."""
        return next(d for d in self.cloud.devices() if d["device_name"] == name)

    def registrations(self) -> int:
        """How often any device of this cloud has registered."""
        return sum(d["registrations"] for d in self.cloud.devices())
