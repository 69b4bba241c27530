"""What the sections share: a local cloud with one product, identities for it, flash contents.

All of it is made for one run in a temporary folder, on loopback, and is worthless afterwards.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imprint_tools import boards, identities, image
from imprint_tools.identities import Identity
from imprint_tools.localcloud.aliyun.cloud import AliyunCloud
from imprint_tools.monitor import Decoder, Event
from imprint_tools.paths import firmware_dir
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.network import AccessPoint

KIND = boards.load("esp32-generic")
SSID, PASSWORD = "bench", "correct horse"

_BLANK = b"\xff"


class NotOnlineError(Exception):
    """A board did not get to an acknowledged report."""


@dataclass(frozen=True)
class Moment:
    """When the console showed something: on this machine's clock, and on the board's."""

    at_s: float
    board_ms: int


class Lab:
    """`with Lab(quick=False) as lab:` has a cloud. `quick` asks for fewer runs."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self._stack = ExitStack()
        self._named = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = tempfile.TemporaryDirectory(prefix="imprint-bench-")
            self.folder = Path(stack.enter_context(temporary))
            self.cloud = stack.enter_context(AliyunCloud(self.folder / "cloud"))
            self.product_key = self.cloud.create_product()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def new_name(self) -> str:
        """A device name that the cloud has not seen."""
        self._named += 1
        return f"bench-{self._named}"

    def fields(self, device_name: str) -> dict[str, Any]:
        """The fields of the identity file of a unit that registers itself."""
        return {
            "journey": "aliyun",
            "product_key": self.product_key,
            "product_secret": self.cloud.product_secret(self.product_key).reveal().decode(),
            "registration": "regnwl",
            "device_name": device_name,
            "root_ca": str(self.cloud.ca_pem.resolve()),
            "wifi_ssid": SSID,
            "wifi_password": PASSWORD,
            "interval_s": 1,
        }

    def identity(self) -> Identity:
        """The identity of a unit that was never there before."""
        return self.checked(self.fields(self.new_name()))

    def checked(self, fields: dict[str, Any]) -> Identity:
        """The identity with these fields."""
        return identities.check(fields, origin="the bench", folder=self.cloud.folder)

    def air(self) -> AccessPoint:
        """An access point from which the cloud is reached."""
        return AccessPoint(SSID, PASSWORD, self.cloud.endpoints)

    @cached_property
    def firmware(self) -> bytes:
        """A whole flash: MicroPython, imprint's firmware, blank NVS."""
        return flash_of(image.build_vfs(KIND, firmware_dir()))

    @cached_property
    def firmware_source(self) -> bytes:
        """The same with its modules as source."""
        return flash_of(image.pack_vfs(sources(), KIND.vfs.size))

    def unit(self, firmware: bytes | None = None) -> bytes:
        """The firmware with the identity of a unit that was never there before."""
        return with_nvs(firmware or self.firmware, self.identity())


def flash_of(vfs: bytes | None = None) -> bytes:
    """A whole flash that holds MicroPython and that file system, or none."""
    held = _BLANK * KIND.vfs.size if vfs is None else vfs
    segments = image.layout(KIND, firmware=image.virtual_firmware(KIND), vfs=held)
    base = min(segment.offset for segment in segments)
    content = _BLANK * base + image.merge(segments, base)
    return content.ljust(KIND.flash_size, _BLANK)


def with_nvs(content: bytes, identity: Identity) -> bytes:
    """That flash with that identity in its NVS, and nothing else there."""
    part = KIND.nvs
    nvs = image.build_nvs(identity.entries(), part.size)
    return content[: part.offset] + nvs + content[part.end :]


def images() -> dict[str, bytes]:
    """The files of the firmware by their path on the board, its modules compiled."""
    return _boot_files() | image.mpy_files(firmware_dir())


def sources() -> dict[str, bytes]:
    """The same as people copy them."""
    root = firmware_dir()
    found = (root / "imprint").rglob("*.py")
    return _boot_files() | {p.relative_to(root).as_posix(): p.read_bytes() for p in found}


def _boot_files() -> dict[str, bytes]:
    return {name: (firmware_dir() / name).read_bytes() for name in image.SOURCES}


def first_report(board: Board, timeout_s: float) -> dict[str, Moment]:
    """Follow the console from power-on to the first acknowledged report.

    The first moment of each event by its name, of a state as `state CONNECT`. Raises
    NotOnlineError as soon as the board fails.
    """
    deadline = time.monotonic() + timeout_s
    decoder = Decoder()
    moments: dict[str, Moment] = {}
    while True:
        try:
            line = board.expect(b"\n", max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise NotOnlineError(f"no acknowledged report within {timeout_s:g} s") from None
        at_s = time.perf_counter()
        for item in decoder.feed(line):
            if not isinstance(item, Event):
                if "MemoryError" in item.line or "Guru Meditation" in item.line:
                    raise NotOnlineError(item.line)
                continue
            if item.name == "error" or item.halted or (item.name == "boot" and "boot" in moments):
                raise NotOnlineError(str(item))
            name = f"state {item.data['s']}" if item.name == "state" else item.name
            moments.setdefault(name, Moment(at_s, item.t_ms))
            if item.matches("reported.acked"):
                return moments
