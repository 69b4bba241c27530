"""One connection to a local cloud's MQTT endpoint, and the session that may outlive it.

Runs in the endpoint's loop, like all of `broker`; nothing here may be called from outside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography import x509
from OpenSSL import SSL

from imprint_tools.localcloud import packets
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.tls import TlsServer

Tls = ssl.SSLContext | SSL.Context
"""How a listener does TLS; the second kind asks for a client certificate (`tls`)."""


@dataclass(frozen=True)
class Limits:
    """Ceilings of one connection. Times in seconds, sizes in bytes."""

    packet_max: int = 257 * 1024
    connect_s: float = 10.0
    keepalive_factor: float = 1.5
    keepalive_max_s: float = 1800.0
    unsent_max: int = 1024 * 1024
    inflight_max: int = 100
    queued_max: int = 100


@dataclass
class Session:
    """What outlives a connection where the client asked for it (clean session 0).

    `filters`: what it subscribed to, with the QoS granted. `told`: whom to tell that a message in
    flight was acknowledged.
    """

    name: str | None
    auto: tuple[str, ...] = ()
    filters: dict[str, int] = field(default_factory=dict)
    inflight: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    told: dict[int, Callable[[], None]] = field(default_factory=dict)
    queued: deque[tuple[str, bytes]] = field(default_factory=deque)
    _last_id: int = 0

    def wants(self, topic: str) -> bool:
        return any(packets.matches(f, topic) for f in (*self.auto, *self.filters))

    def granted(self, topic: str) -> int | None:
        """The highest QoS granted to a filter that the topic matches; None where none does."""
        found = (qos for f, qos in self.filters.items() if packets.matches(f, topic))
        return max(found, default=None)

    def keep(self, topic: str, payload: bytes, most: int) -> None:
        """Queue a message for later; beyond `most` the oldest go."""
        self.queued.append((topic, payload))
        while len(self.queued) > most:
            self.queued.popleft()

    def next_id(self) -> int:
        """A packet identifier that is not in flight. At most `Limits.inflight_max` ever are."""
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            if self._last_id not in self.inflight:
                return self._last_id


class Link:
    """One connection. `secure`, `server_name` and `chain` (the certificates that the client
    showed, its own first) say how it came in."""

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        events: EventLog,
        limits: Limits,
        server_names: Mapping[object, str],
    ) -> None:
        self.number = number
        self.secure = False
        self.server_name: str | None = None
        self.chain: tuple[x509.Certificate, ...] = ()
        self.session = Session(None)
        self.bytes_up = 0
        self.bytes_down = 0
        self.closing: str | None = None
        """Why the connection ends, once that is known."""
        self._events = events
        self._limits = limits
        self._server_names = server_names
        self._sock = sock
        self._held: bytes | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def event(self, kind: str, **details: object) -> None:
        self._events.add(kind, self.number, **details)

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        on_acknowledged: Callable[[], None] | None = None,
    ) -> None:
        """Send a message to this client whether or not it subscribed.

        QoS 1 is kept until the client acknowledges it, and sent again, marked as a duplicate,
        when the client comes back to the same session.
        """
        if qos and len(self.session.inflight) >= self._limits.inflight_max:
            self.session.keep(topic, payload, self._limits.queued_max)
            return
        packet_id = None
        if qos:
            packet_id = self.session.next_id()
            self.session.inflight[packet_id] = (topic, payload)
            if on_acknowledged is not None:
                self.session.told[packet_id] = on_acknowledged
        self.send(packets.publish(topic, payload, qos=qos, packet_id=packet_id))
        self.event("down", topic=topic, bytes=len(payload), qos=qos)

    def acknowledged(self, packet_id: int) -> None:
        """The client has a message of QoS 1."""
        self.session.inflight.pop(packet_id, None)
        if (tell := self.session.told.pop(packet_id, None)) is not None:
            tell()

    def close(self, reason: str) -> None:
        """End the connection after what was written; harmless when it has ended."""
        self.release()
        if self.closing is None:
            self.closing = reason
        if self._writer is not None:
            self._writer.close()

    def abort(self, reason: str) -> None:
        """End the connection at once, as a network does that goes away."""
        self._held = None
        if self.closing is None:
            self.closing = reason
        if self._writer is not None:
            self._drop(self._writer)

    def soon(self, what: Callable[[], None]) -> None:
        """Do that as soon as what is being handled has been answered."""
        asyncio.get_running_loop().call_soon(what)

    def close_after(self, seconds: float, reason: str) -> None:
        """End the connection then, unless it has ended before."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, self.close, reason)

    def hold(self) -> None:
        """Write nothing before `release`."""
        self._held = b""

    def release(self, first: bytes = b"") -> None:
        """Write what was held back, behind `first`; nothing where the connection has ended."""
        held, self._held = self._held, None
        if held is not None and first + held:
            self.send(first + held)

    def send(self, data: bytes) -> None:
        """Write bytes as they are. A client that does not read them is dropped in the end."""
        if self._held is not None:
            self._held += data
            return
        if self._writer is None or self.closing is not None or self._writer.is_closing():
            return
        self._writer.write(data)
        self.bytes_down += len(data)
        if self._writer.transport.get_write_buffer_size() > self._limits.unsent_max:
            self.abort("client does not read")

    async def open(self, context: Tls | None) -> asyncio.StreamReader:
        """Wrap the socket in streams, with the TLS handshake where there is a context."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        self.secure = context is not None
        if isinstance(context, SSL.Context):
            server = TlsServer(context, protocol)
            await loop.connect_accepted_socket(lambda: server, self._sock)
            self._writer = asyncio.StreamWriter(server.transport, protocol, reader, loop)
            await server.handshake(self._limits.connect_s)
            self.server_name, self.chain = server.server_name, server.chain
            return reader
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            self._sock,
            ssl=context,
            ssl_handshake_timeout=self._limits.connect_s if context else None,
            ssl_shutdown_timeout=1.0 if context else None,
        )
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        if self.secure:
            ssl_object = self._writer.get_extra_info("ssl_object")
            self.server_name = self._server_names.get(ssl_object)
        return reader

    async def finish(self) -> None:
        """Release the socket and the timer; bounded, and quiet about how the peer left."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._writer is None:
            self._sock.close()
            return
        self._writer.close()
        try:
            async with asyncio.timeout(2.0):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._drop(self._writer)

    @staticmethod
    def _drop(writer: asyncio.StreamWriter) -> None:
        # Debian 12's CPython (3.11.2) trips over a TLS transport that is lost already; where it is
        # no longer supported, transport.abort() alone will do.
        with contextlib.suppress(AttributeError):
            writer.transport.abort()
