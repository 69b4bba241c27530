"""The air around a virtual board: an access point that relays to the bench, and the station.

A guest never meets the host's network: its name lookups are answered here with a loopback relay
of the route that matches, and where none does, the name does not exist. So the board keeps the
vendor's true host names, and TLS checks them, while the bytes go where the bench says.

All of it runs in the board's event loop; `AccessPoint.set_up` and `cut` may be called from any
thread. One access point serves one board.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from imprint_tools.endpoints import Endpoint

NOT_FOUND = -2  # EAI_NONAME, what getaddrinfo gives the guest
NTP_PORT = 123
_NTP_EPOCH = 2_208_988_800  # seconds from 1900-01-01 to 1970-01-01
_LOOPBACK = "127.0.0.1"
_CHUNK = 65536
_CALL_TIMEOUT_S = 5.0
_PORT_TRIES = 20

# MicroPython's network.STAT_*; below 1000 they are ESP-IDF's disconnect reasons
IDLE, CONNECTING, GOT_IP = 1000, 1001, 1010
BEACON_TIMEOUT, NO_AP_FOUND, WRONG_PASSWORD = 200, 201, 202


@dataclass(frozen=True)
class Route(Endpoint):
    """An Endpoint with the weather on its way.

    Each chunk is delayed by `latency_ms`; the connection is reset once `drop_after_bytes` have
    passed, both directions counted.
    """

    latency_ms: float = 0
    drop_after_bytes: int | None = None


@dataclass
class Connection:
    """One relayed connection (UDP: one source port of the guest). Times as time.time()."""

    host: str
    port: int
    proto: str
    opened_at: float
    closed_at: float | None = None
    up: int = 0
    """Bytes from the board."""
    down: int = 0


class AccessPoint:
    """`ssid` and `password` (empty: open), and where host names lead: to `routes`, or to what
    `look_up` says at each new connection, since a cloud that comes back does so at other ports.

    `bytes_up` and `bytes_down` count payload from and to the board, time service included;
    `connections` lists what was opened. `on_event` is called in the loop with a dict for each
    `join`, `leave`, `lookup`, `open` and `close`.
    """

    def __init__(
        self,
        ssid: str,
        password: str,
        routes: list[Endpoint] | list[Route],
        *,
        up: bool = True,
        ntp: bool = True,
        look_up: Callable[[], Iterable[Endpoint]] = tuple,
        on_event: Callable[[dict[str, Any]], None] = lambda _event: None,
    ) -> None:
        self.ssid = ssid
        self.routes: list[Endpoint] = list(routes)
        self.ntp = ntp
        self.ahead_s = 0.0
        """How wrong the time is that its time server tells."""
        self.up = up
        self.joined = False
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections: list[Connection] = []
        self.on_event = on_event
        self.on_change: Callable[[], None] = lambda: None
        """The station's ear: called in the loop after the access point went up or down."""
        self._password = password
        self._look_up = look_up
        self._relays: dict[tuple[str, int], _Relay] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Serve in the running loop."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Cut everything and let go of all sockets."""
        self._cut()
        for relay in self._relays.values():
            relay.close()
        self._relays.clear()
        self._loop = None
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set_up(self, up: bool) -> None:
        """Switch the access point on, or off with all that goes through it."""
        self._call(lambda: self._set_up(up))

    def cut(self) -> None:
        """Reset every connection; new ones can be made at once."""
        self._call(self._cut)

    def accepts(self, password: str) -> bool:
        return password == self._password

    def join(self, joined: bool) -> None:
        """The station came or went."""
        if joined != self.joined:
            self.joined = joined
            self.event("join" if joined else "leave", ssid=self.ssid)
            if not joined:
                self._cut()

    def resolve(self, host: str, port: int) -> int:
        """The loopback port at which `host`:`port` is served, or NOT_FOUND."""
        found = NOT_FOUND
        if self.joined and self.up and self._loop is not None:
            key = (host, port)
            if key not in self._relays and (targets := self.targets(host, port)):
                self._relays[key] = _Relay(self, self._loop, host, port, targets)
            if key in self._relays:
                found = self._relays[key].port
        self.event("lookup", host=host, port=port, found=found != NOT_FOUND)
        return found

    def event(self, name: str, **details: Any) -> None:
        self.on_event({"event": name, "t": time.time(), **details})

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a relay's coroutine; `cut` cancels it, perhaps before its first step."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def opened(self, host: str, port: int, proto: str) -> Connection:
        record = Connection(host, port, proto, time.time())
        self.connections.append(record)
        self.event("open", host=host, port=port, proto=proto)
        return record

    def closed(self, record: Connection) -> None:
        if record.closed_at is None:
            record.closed_at = time.time()
            self.event("close", host=record.host, port=record.port, up=record.up, down=record.down)

    def count_up(self, record: Connection, size: int) -> None:
        record.up += size
        self.bytes_up += size

    def count_down(self, record: Connection, size: int) -> None:
        record.down += size
        self.bytes_down += size

    def targets(self, host: str, port: int) -> dict[str, Endpoint | None]:
        """The route of each protocol; None is the time service."""
        targets: dict[str, Endpoint | None] = {}
        for route in (*self.routes, *self._look_up()):
            if route.port == port and fnmatchcase(host, route.host):
                targets.setdefault(route.proto, route)
        if port == NTP_PORT and self.ntp:
            targets.setdefault("udp", None)
        return targets

    def _set_up(self, up: bool) -> None:
        if up != self.up:
            self.up = up
            if not up:
                self._cut()
            self.on_change()

    def _cut(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for relay in self._relays.values():
            relay.cut()

    def _call(self, action: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None:
            action()
            return
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            action()
            return
        done = threading.Event()
        loop.call_soon_threadsafe(action)
        loop.call_soon_threadsafe(done.set)
        if not done.wait(_CALL_TIMEOUT_S):
            raise TimeoutError("the board's event loop does not answer")


class _Relay:
    """One loopback port that stands for one host and port, in each protocol that has a route."""

    def __init__(
        self,
        access_point: AccessPoint,
        loop: asyncio.AbstractEventLoop,
        host: str,
        port: int,
        targets: dict[str, Endpoint | None],
    ) -> None:
        self._ap = access_point
        self._loop = loop
        self._host = host
        self._port = port
        self._sockets = _bound(targets)
        self.port: int = next(iter(self._sockets.values())).getsockname()[1]
        self._udp: _Datagrams | None = None
        if listener := self._sockets.get("tcp"):
            loop.add_reader(listener, self._accept, listener)
        if datagrams := self._sockets.get("udp"):
            self._udp = _Datagrams(access_point, loop, datagrams, host, port, targets["udp"])

    def cut(self) -> None:
        if self._udp:
            self._udp.cut()

    def close(self) -> None:
        self.cut()
        for sock in self._sockets.values():
            self._loop.remove_reader(sock)
            sock.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            guest, _ = listener.accept()
        except BlockingIOError:
            return
        # Asked anew each time: see AccessPoint.
        route = self._ap.targets(self._host, self._port).get("tcp")
        if route and self._ap.joined and self._ap.up:
            serving = self._ap.spawn(self._serve(guest, route))
            serving.add_done_callback(lambda done: _reset(guest) if done.cancelled() else None)
        else:
            _reset(guest)

    async def _serve(self, guest: socket.socket, route: Endpoint) -> None:
        record = self._ap.opened(self._host, self._port, "tcp")
        writers: list[asyncio.StreamWriter] = []
        clean = False
        try:
            from_guest, to_guest = await asyncio.open_connection(sock=guest)
            writers.append(to_guest)
            from_cloud, to_cloud = await asyncio.open_connection(*route.target)
            writers.append(to_cloud)
            weather = _Weather(route, record)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(from_guest, to_cloud, weather, record, self._ap.count_up))
                both.create_task(_pump(from_cloud, to_guest, weather, record, self._ap.count_down))
            clean = True
        except* (OSError, _Dropped):
            pass  # the guest sees the reset below
        finally:
            if not writers:
                guest.close()
            for writer in writers:
                if clean:
                    writer.close()
                else:
                    _linger_none(writer.get_extra_info("socket"))
                    writer.transport.abort()
            self._ap.closed(record)
            for writer in writers:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()


class _Dropped(Exception):
    """`drop_after_bytes` was reached."""


@dataclass
class _Weather:
    """What a route does to the bytes on one connection."""

    route: Endpoint
    record: Connection
    latency_s: float = field(init=False)
    limit: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.latency_s = getattr(self.route, "latency_ms", 0) / 1000
        self.limit = getattr(self.route, "drop_after_bytes", None)

    async def pass_through(self) -> None:
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if self.limit is not None and self.record.up + self.record.down > self.limit:
            raise _Dropped


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    weather: _Weather,
    record: Connection,
    count: Callable[[Connection, int], None],
) -> None:
    while data := await reader.read(_CHUNK):
        count(record, len(data))
        await weather.pass_through()
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class _Datagrams:
    """The UDP side of a relay: a socket towards the target for each source port of the guest."""

    def __init__(
        self,
        access_point: AccessPoint,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        host: str,
        port: int,
        route: Endpoint | None,
    ) -> None:
        self._ap = access_point
        self._loop = loop
        self._sock = sock
        self._host = host
        self._port = port
        self._route = route
        self._guests: dict[tuple[str, int], tuple[socket.socket | None, Connection]] = {}
        loop.add_reader(sock, self._from_guest)

    def cut(self) -> None:
        for upstream, record in self._guests.values():
            if upstream:
                self._loop.remove_reader(upstream)
                upstream.close()
            self._ap.closed(record)
        self._guests.clear()

    def _from_guest(self) -> None:
        data, guest = self._sock.recvfrom(_CHUNK)
        if not (self._ap.joined and self._ap.up):
            return
        if guest not in self._guests:
            self._guests[guest] = (
                self._upstream(guest) if self._route else None,
                self._ap.opened(self._host, self._port, "udp"),
            )
        upstream, record = self._guests[guest]
        self._ap.count_up(record, len(data))
        if self._route is None:
            self._to_guest(guest, record, sntp_answer(data, time.time() + self._ap.ahead_s))
        elif self._allowed(record):
            self._later(lambda: _try_send(upstream, data))

    def _upstream(self, guest: tuple[str, int]) -> socket.socket:
        assert self._route is not None  # noqa: S101  the caller has looked
        upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        upstream.setblocking(False)
        upstream.connect(self._route.target)
        self._loop.add_reader(upstream, self._from_target, upstream, guest)
        return upstream

    def _from_target(self, upstream: socket.socket, guest: tuple[str, int]) -> None:
        try:
            data = upstream.recv(_CHUNK)
        except OSError:
            return  # nobody listens there: to the guest the datagram is lost
        _, record = self._guests[guest]
        self._ap.count_down(record, len(data))
        if self._allowed(record):
            self._later(lambda: self._sock.sendto(data, guest))

    def _to_guest(self, guest: tuple[str, int], record: Connection, data: bytes) -> None:
        if data:
            self._ap.count_down(record, len(data))
            self._sock.sendto(data, guest)

    def _allowed(self, record: Connection) -> bool:
        limit = getattr(self._route, "drop_after_bytes", None)
        return limit is None or record.up + record.down <= limit

    def _later(self, action: Callable[[], object]) -> None:
        latency_ms = getattr(self._route, "latency_ms", 0)
        if latency_ms:
            self._loop.call_later(latency_ms / 1000, action)
        else:
            action()


def sntp_answer(request: bytes, now: float) -> bytes:
    """A stratum 1 server's answer at `now` (seconds since 1970) by RFC 4330; empty if not asked.

    `request` must be a client's packet of at least 48 bytes.
    """
    if len(request) < 48 or request[0] & 7 != 3:
        return b""
    stamp = struct.pack("!II", int(now) + _NTP_EPOCH & 0xFFFFFFFF, int(now % 1 * (1 << 32)))
    head = bytes((request[0] & 0x38 | 4, 1, request[2], 0xEC)) + bytes(8) + b"LOCL"
    return head + stamp + request[40:48] + stamp + stamp


class WifiError(Exception):
    """What the driver refuses; the text is MicroPython's message."""


class Station:
    """The chip's radio as MicroPython's `network.WLAN` shows it.

    It keeps trying after a failure, as the ESP32 port does, `reconnects` times (0: for ever,
    -1: never). While an attempt runs, `connect` with new credentials is refused.
    """

    ATTEMPT_S = 0.05
    RETRY_S = 0.25

    def __init__(self, access_point: AccessPoint) -> None:
        self._ap = access_point
        self._active = False
        self._status = IDLE
        self._trying: asyncio.TimerHandle | None = None
        self._attempting = False
        self._failures = 0
        self._ssid: str | None = None
        self._password = ""
        self.settings = {
            "reconnects": "0",
            "hostname": "mpy-esp32",
            "country": "XX",
            "pm": "1",
            "txpower": "20",
            "channel": "6",
            "ssid": "",
        }
        access_point.on_change = self._air_changed

    @property
    def status(self) -> int:
        """One of MicroPython's STAT_ numbers."""
        return self._status

    def active(self, on: bool | None = None) -> bool:
        """Switch the radio; whether it is on."""
        if on is not None and on != self._active:
            self._active = on
            self._leave(IDLE)
        return self._active

    def connect(self, ssid: str | None, password: str) -> None:
        """Begin to join; `ssid` None joins the last one again. Raises WifiError."""
        if not self._active:
            raise WifiError("Wifi Not Started")
        if self._attempting and ssid is not None:
            raise WifiError("Wifi Internal State Error")
        if ssid is not None:
            self._leave(IDLE)
            self._ssid, self._password = ssid, password
            self.settings["ssid"] = ssid
        if self._status != GOT_IP:
            self._status = CONNECTING
            self._failures = 0
            self._try(self.ATTEMPT_S)

    def disconnect(self) -> None:
        """Leave, and stop trying. Raises WifiError."""
        if not self._active:
            raise WifiError("Wifi Not Started")
        self._leave(IDLE)

    def scan(self) -> str | None:
        """The network that can be heard. Raises WifiError."""
        if not self._active:
            raise WifiError("Wifi Not Started")
        return self._ap.ssid if self._ap.up else None

    def power_off(self) -> None:
        """A reset of the chip."""
        self._active = False
        self._leave(IDLE)

    def _try(self, attempt_s: float) -> None:
        self._stop_trying()
        self._attempting = True
        self._trying = asyncio.get_running_loop().call_later(attempt_s, self._attempt)

    def _stop_trying(self) -> None:
        self._attempting = False
        if self._trying:
            self._trying.cancel()
            self._trying = None

    def _attempt(self) -> None:
        self._stop_trying()
        if not self._ap.up or self._ssid != self._ap.ssid:
            self._fail(NO_AP_FOUND)
        elif not self._ap.accepts(self._password):
            self._fail(WRONG_PASSWORD)
        else:
            self._status = GOT_IP
            self._failures = 0
            self._ap.join(True)

    def _fail(self, reason: int) -> None:
        self._status = reason
        self._ap.join(False)
        self._failures += 1
        allowed = int(self.settings["reconnects"])
        if allowed == 0 or self._failures <= allowed:
            self._trying = asyncio.get_running_loop().call_later(
                self.RETRY_S, self._try, self.ATTEMPT_S
            )

    def _leave(self, status: int) -> None:
        self._stop_trying()
        self._status = status
        self._ap.join(False)

    def _air_changed(self) -> None:
        if not self._ap.up and self._status == GOT_IP:
            self._fail(BEACON_TIMEOUT)


def _bound(protos: dict[str, Endpoint | None]) -> dict[str, socket.socket]:
    """A loopback socket a protocol, all at the same free port."""
    kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
    for _ in range(_PORT_TRIES):
        sockets: dict[str, socket.socket] = {}
        port = 0
        try:
            for proto in protos:
                sock = sockets[proto] = socket.socket(socket.AF_INET, kinds[proto])
                sock.setblocking(False)
                sock.bind((_LOOPBACK, port))
                port = sock.getsockname()[1]
                if proto == "tcp":
                    sock.listen(16)
        except OSError:
            for sock in sockets.values():
                sock.close()
        else:
            return sockets
    raise OSError("no loopback port is free for both TCP and UDP")


def _try_send(sock: socket.socket | None, data: bytes) -> None:
    if sock is not None and sock.fileno() >= 0:
        with contextlib.suppress(OSError):  # a datagram may be lost
            sock.send(data)


def _linger_none(sock: Any) -> None:
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _reset(sock: socket.socket) -> None:
    """Close so that the peer sees a reset."""
    _linger_none(sock)
    sock.close()
