"""What the demo does not know of a journey: its cloud, its network, and their words."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from imprint_tools.endpoints import Endpoint
from imprint_tools.identities import Identity
from imprint_tools.journey import Party
from imprint_tools.recorder import Recorder
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.network import AccessPoint

INTERVAL_S = 1
"""Between two reports."""

_NTP_PORT = 123


@dataclass(frozen=True)
class Tally:
    """What cloud and network have counted. `datagrams_*` are None where the way is a stream."""

    registrations: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    datagrams_up: int | None = None
    datagrams_down: int | None = None


class MakeBoard(Protocol):
    """A board without power, all but whose network is settled."""

    def __call__(self, *, access_point: AccessPoint | None = None) -> Board: ...


class Cloud(Protocol):
    """What any local cloud has."""

    @property
    def endpoints(self) -> list[Endpoint]: ...

    @property
    def events(self) -> Sequence[Mapping[str, Any]]: ...


class World(ABC):
    """All around the board on one journey. The methods are called in this order."""

    JOURNEY: ClassVar[str]
    NETWORK: ClassVar[Party]
    HEAP: ClassVar[str]
    """MicroPython's, in which the journey has room."""
    OPTIONS: ClassVar[tuple[str, ...]]
    """Of a plan, what the world's own __init__ takes as keywords."""

    kit: str
    """The board, in boards/."""
    modules: tuple[str, ...]
    """Patterns of the firmware's modules that a board of this journey imports by names which it
    makes up while it runs."""

    def __init__(self, recorder: Recorder, **options: Any) -> None:
        self.recorder = recorder

    def files(self) -> Mapping[str, bytes]:
        """What is to lie in the board's file system beside the firmware."""
        return {}

    @abstractmethod
    def start_cloud(self, stack: ExitStack, folder: Path) -> None:
        """A local cloud, until the stack unwinds."""

    @abstractmethod
    def start_board(self, stack: ExitStack, make: MakeBoard) -> Board:
        """A board that reaches the cloud, until the stack unwinds."""

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """Name and value of what a reader wants to know about cloud and network."""

    @abstractmethod
    def identity(self, mac: str) -> Identity:
        """What the unit is told: a product made for this journey, and no more than it needs."""

    @abstractmethod
    def look_back(self) -> None:
        """Note what cloud and network know by now."""

    @abstractmethod
    def tally(self) -> Tally:
        """The counts as of the last look back."""


class WifiWorld(World):
    """A cloud behind a virtual access point."""

    NETWORK = Party.ACCESS_POINT
    SSID = "imprint-bench"

    cloud: Cloud
    """There from `start_cloud` on."""

    def __init__(self, recorder: Recorder, *, chip: str) -> None:
        super().__init__(recorder)
        self.kit = f"{chip}-generic"
        self._password = secrets.token_hex(8)
        self._tally = Tally()

    def start_board(self, stack: ExitStack, make: MakeBoard) -> Board:
        self._air = AccessPoint(
            self.SSID,
            self._password,
            self.cloud.endpoints,
            on_event=partial(_tell_air, self.recorder),
        )
        board = make(access_point=self._air)
        self.wire(stack, board)
        return stack.enter_context(board)

    def wire(self, stack: ExitStack, board: Board) -> None:
        """Connect to the board, which has no power yet, what is to be at its pins."""

    def facts(self) -> dict[str, str]:
        return {"Wi-Fi": f"{self.SSID} (virtual access point)"}

    def wifi(self) -> dict[str, str]:
        """What every unit's identity says of it."""
        return {"wifi_ssid": self.SSID, "wifi_password": self._password}

    def look_back(self) -> None:
        self.recorder.take_log(self.cloud.events, self.tell_cloud)
        up, down = self._air.bytes_up, self._air.bytes_down
        self.recorder.sample_traffic(up, down)
        self._tally = Tally(self.registrations(), up, down)

    def tally(self) -> Tally:
        return self._tally

    @abstractmethod
    def registrations(self) -> int:
        """How many the cloud has counted so far."""

    @abstractmethod
    def tell_cloud(self, event: Mapping[str, Any], at_s: float) -> None:
        """Say an event of the cloud's log in the demo's words."""


def _tell_air(recorder: Recorder, event: Mapping[str, Any]) -> None:
    board, air = Party.BOARD, Party.ACCESS_POINT
    say, at_s = recorder.say, event["t"] - recorder.began
    match event["event"]:
        case "join":
            say(board, air, f"joins {event['ssid']}", at_s=at_s)
        case "leave":
            say(board, air, f"leaves {event['ssid']}", at_s=at_s)
        case "lookup" if not event["found"]:
            say(air, board, f"no such name: {event['host']}", ok=False, at_s=at_s)
        case "open" if event["port"] == _NTP_PORT:
            say(board, air, "asks for the time, SNTP", at_s=at_s)
        case "open":
            say(board, Party.CLOUD, f"TCP to {event['host']}:{event['port']}", at_s=at_s)
