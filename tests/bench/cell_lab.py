"""A unit with a virtual modem before the local EnOS, and its way to acknowledged reports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imprint_tools import identities, image
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig
from imprint_tools.monitor import Decoder, Event
from imprint_tools.paths import firmware_dir
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.modem.air import Weather
from imprint_tools.virtual.modem.bench import Modem
from imprint_tools.virtual.modem.cellular import Cell
from lab import KIND, Lab, NotOnlineError, flash_of, with_nvs

DEVICE = "15bBZlRknc"
DIALECTS = {"nrf91": "nrf91", "bg95": "bg95", "gm02s": "sequans", "sara-r5": "sara"}
"""Virtual families, and what an identity calls them."""

_RETRANSMIT_S = (0.2, 2.0)
UART = 1
"""At which the firmware has its modem."""


@dataclass
class Trip:
    """What crossed the air, and the console's moments."""

    identity: tuple[str, ...]
    """The PSK identities: of the activation's session, and of the one after it."""
    product_key: str
    datagrams: list[tuple[float, int]] = field(default_factory=list)
    """When, and how many bytes: uplink positive, downlink negative."""
    moments: list[tuple[float, str]] = field(default_factory=list)
    """When, and which event."""
    reports: list[tuple[str, int]] = field(default_factory=list)
    """Ids of the reports, and bytes of their payloads."""

    def when(self, event: str, number: int = 0) -> float:
        return [at_s for at_s, name in self.moments if name == event][number]

    def between(self, start_s: float, end_s: float) -> Sequence[int]:
        return [size for at_s, size in self.datagrams if start_s < at_s <= end_s]


def travel(
    lab: Lab,
    folder: Path,
    *,
    family: str = "nrf91",
    suites: tuple[int, ...] | None = None,
    loss: float = 0.0,
    seed: int = 0,
    heap: str = "96k",
    reports: int = 1,
    timeout_s: float = 60.0,
    secure_mode: int = 3,
) -> Trip:
    """A first boot, until so many reports were acknowledged.

    Raises NotOnlineError where that does not come, and at once when memory runs out.
    """
    config = EnosConfig() if suites is None else EnosConfig(suites=suites)
    with EnosCloud(folder / "cloud", config) as cloud:
        product_key = cloud.create_product()
        secret, secret_of = cloud.create_device(product_key, DEVICE), "device"
        if secure_mode == 3:
            secret, secret_of = cloud.product_secret(product_key), "product"
        fields = {
            "journey": "enos-coap",
            "product_key": product_key,
            f"{secret_of}_secret": secret.reveal().decode(),
            "secure_mode": secure_mode,
            "device_key_source": "burned",
            "device_key": DEVICE,
            "host": cloud.config.host,
            "modem": DIALECTS[family],
            "interval_s": 1,
            "ack_timeout_s": 1,
        }
        identity = identities.check(fields, origin="the bench", folder=folder)
        home = folder / f"unit-{family}-{seed}"
        home.mkdir(exist_ok=True)
        (home / "flash.bin").write_bytes(with_nvs(lab.firmware, identity))
        names = tuple(f"{product_key},{DEVICE},{mode},3600" for mode in (3, 2))
        trip = Trip(names, product_key)
        board = Board(home, doors=(), heap=heap)

        def note(up: bool, data: bytes) -> None:
            trip.datagrams.append((time.monotonic(), len(data) if up else -len(data)))

        modem = Modem(
            family,
            routes=cloud.endpoints,
            stream=board.uarts.far_end(UART),
            weather=Weather(loss=loss),
            cell=Cell(attach_s=0.05),
            seed=seed,
            boot_s=0.05,
            retransmit_s=_RETRANSMIT_S,
            on_datagram=note,
        )
        with modem, board:
            _follow(board, trip, reports, timeout_s)
        trip.reports = [(str(e["id"]), e["bytes"]) for e in cloud.events if e["kind"] == "report"]
    return trip


def _follow(board: Board, trip: Trip, reports: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    decoder = Decoder()
    while sum(name == "reported" for _, name in trip.moments) < reports:
        try:
            line = board.expect(b"\n", max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise NotOnlineError(f"not {reports} reports within {timeout_s:g} s") from None
        at_s = time.monotonic()
        for item in decoder.feed(line):
            if isinstance(item, Event):
                if item.halted:
                    raise NotOnlineError(str(item))
                trip.moments.append((at_s, item.name))
            elif "MemoryError" in item.line:
                raise NotOnlineError(item.line)


def flash_with(main: bytes) -> bytes:
    """The firmware with another main.py, and no identity."""
    files = {"boot.py": b"", "main.py": main} | image.mpy_files(firmware_dir())
    return flash_of(image.pack_vfs(files, KIND.vfs.size))
