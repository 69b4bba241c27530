"""The datagram's way: names, addresses, the weather, the carrier's NAT, and what was counted."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from imprint_tools.endpoints import Endpoint
from imprint_tools.virtual.modem.clock import Clock

_CHUNK = 65536
_NAMES = "100.64.0."  # RFC 6598: what carriers use, and nobody routes


@dataclass
class Weather:
    """What happens to datagrams, each way. Chances from 0 to 1; may be changed at any time."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    """At most this much is added, evenly spread."""
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Chance that a datagram is overtaken by those sent within `reorder_s` after it."""
    reorder_s: float = 0.05


@dataclass
class Counts:
    """What crossed the air, UDP payload only; the lost ones of the uplink were sent, too."""

    datagrams_up: int = 0
    bytes_up: int = 0
    datagrams_down: int = 0
    bytes_down: int = 0
    lost: int = 0
    sizes: list[int] = field(default_factory=list)
    """In order, uplink positive, downlink negative; the last thousand."""

    def up(self, size: int) -> None:
        self.datagrams_up += 1
        self.bytes_up += size
        self._note(size)

    def down(self, size: int) -> None:
        self.datagrams_down += 1
        self.bytes_down += size
        self._note(-size)

    def _note(self, size: int) -> None:
        self.sizes.append(size)
        del self.sizes[:-1000]


class Air:
    """Between the modem and the routes. `seed` makes the weather the same each time."""

    def __init__(
        self, routes: list[Endpoint], weather: Weather, clock: Clock, *, seed: int = 0
    ) -> None:
        self.routes = routes
        self.weather = weather
        self.counts = Counts()
        self.up = True
        """False: what is sent vanishes, both ways."""
        self.reachable = True
        """False: the downlink is lost, because the modem sleeps."""
        self.on_traffic: Callable[[], None] = lambda: None
        self._clock = clock
        self._rng = random.Random(seed)  # noqa: S311  weather is no secret
        self._paths: set[Path] = set()
        self._hosts: dict[str, str] = {}

    def resolve(self, host: str) -> str | None:
        """The address of a name (an address is its own); None when no route has it."""
        if is_address(host):
            return host
        if not any(fnmatchcase(host, route.host) for route in self.routes):
            return None
        for address, known in self._hosts.items():
            if known == host:
                return address
        address = _NAMES + str(len(self._hosts) + 1)
        self._hosts[address] = host
        return address

    def path(self, host: str, port: int, on_datagram: Callable[[bytes], None]) -> Path:
        """A way from a new source port to `host`, a name or an address, by the routes of now."""
        host = self._hosts.get(host, host)
        path = Path(self, self._target(host, port), on_datagram)
        self._paths.add(path)
        return path

    def rebind(self) -> None:
        """The NAT forgets: all go on from new source ports, and the old ones lead nowhere."""
        for path in self._paths:
            path.rebind()

    def close(self) -> None:
        for path in list(self._paths):
            path.close()

    def _target(self, host: str, port: int) -> tuple[str, int] | None:
        for route in self.routes:
            if route.proto == "udp" and route.port == port and fnmatchcase(host, route.host):
                return route.target
        return None

    # -- for paths ------------------------------------------------------------------------------

    def forget(self, path: Path) -> None:
        self._paths.discard(path)

    def carry_up(self, size: int, deliver: Callable[[], None]) -> None:
        self.counts.up(size)
        self.on_traffic()
        if self.up:
            self._weather(deliver)
        else:
            self.counts.lost += 1

    def carry_down(self, deliver: Callable[[], None]) -> None:
        self._weather(deliver)

    def arrive(self, size: int) -> bool:
        """A datagram has come down to the cell; whether the modem hears it."""
        if not (self.up and self.reachable):
            self.counts.lost += 1
            return False
        self.counts.down(size)
        self.on_traffic()
        return True

    def _weather(self, deliver: Callable[[], None]) -> None:
        weather = self.weather
        if self._rng.random() < weather.loss:
            self.counts.lost += 1
            return
        for _ in range(2 if self._rng.random() < weather.duplicate else 1):
            delay_s = weather.latency_s + self._rng.random() * weather.jitter_s
            if self._rng.random() < weather.reorder:
                delay_s += weather.reorder_s
            if delay_s:
                self._clock.call_later(delay_s, deliver)
            else:
                deliver()


class Path:
    """One source port of the modem's, as the server sees it."""

    def __init__(
        self, air: Air, target: tuple[str, int] | None, on_datagram: Callable[[bytes], None]
    ) -> None:
        self._air = air
        self._target = target
        self._on_datagram = on_datagram
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        if target:
            self._open(target)

    def send(self, data: bytes) -> None:
        sock = self._socket  # of now: a rebinding while it is on its way does not touch it
        self._air.carry_up(len(data), lambda: _send(sock, data))

    def rebind(self) -> None:
        if self._target:
            self._shut()
            self._open(self._target)

    def close(self) -> None:
        self._shut()
        self._target = None
        self._air.forget(self)

    def _open(self, target: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        sock = self._socket = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(target)
        self._loop.add_reader(sock, self._receive, sock)

    def _shut(self) -> None:
        if self._socket:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _receive(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(_CHUNK)
        except OSError:
            return  # nobody listens there: on the air that is silence
        self._air.carry_down(lambda: self._deliver(sock, data))

    def _deliver(self, sock: socket.socket, data: bytes) -> None:
        if sock is self._socket and self._air.arrive(len(data)):
            self._on_datagram(data)


def _send(sock: socket.socket | None, data: bytes) -> None:
    if sock is not None and sock.fileno() >= 0:
        try:
            sock.send(data)
        except OSError:
            return  # refused by the host: on the air that is silence


def is_address(host: str) -> bool:
    """Whether it is an IP address in digits."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
