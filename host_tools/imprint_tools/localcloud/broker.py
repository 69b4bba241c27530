"""A small MQTT 3.1.1 endpoint on loopback that a local cloud puts its rules behind.

Not a broker between devices: clouds do not route from one device to another. It keeps the
connections, the protocol's own rules (one session a client, keepalive, QoS 0 and 1 both ways,
downlinks kept for a session that is not clean) and the byte counts; who may come in, publish and
subscribe is asked of a `Cloud`. It knows no vendor.

Rules:
* Everything runs in one event loop, and nothing here may be called from outside it.
* A peer can close its own connection by what it sends, and never anything else: malformed,
  oversized, late and half packets end there.
* A bug in a `Cloud`'s hook closes the connection that met it and is raised by `Broker.close()`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from imprint_tools.localcloud import packets
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.faults import Faults
from imprint_tools.localcloud.link import Limits, Link, Session, Tls

ACCEPTED = 0
UNACCEPTABLE_PROTOCOL = 1
IDENTIFIER_REJECTED = 2
SERVER_UNAVAILABLE = 3
BAD_USERNAME_OR_PASSWORD = 4
NOT_AUTHORIZED = 5

_TLS_HANDSHAKE = 0x16
_GARBAGE = b"HTTP/1.1 400 Bad Request\r\n\r\n"
_SHORT_CONNACK = b"\x20\x01\x00"


class Security(Enum):
    """What a listener speaks. EITHER looks at a connection's first byte, as port 1883 of some
    clouds does."""

    TLS = "tls"
    PLAIN = "plain"
    EITHER = "either"


@dataclass(frozen=True)
class Verdict:
    """The answer to a CONNECT: a CONNACK `code`, and for 0 the `session` that the client takes.

    A client that takes a session's name takes it from whoever has it; None is a connection of its
    own that ends without a trace. `auto` are topic filters that it need not subscribe to.
    """

    code: int
    session: str | None = None
    auto: tuple[str, ...] = ()


class Cloud(Protocol):
    """The rules behind an endpoint. Every method runs in its loop and must not block."""

    def authenticate(self, link: Link, connect: packets.Connect) -> Verdict: ...
    def on_connected(self, link: Link) -> None: ...
    def on_publish(self, link: Link, message: packets.Publish) -> None: ...
    def on_subscribe(self, link: Link, topic_filter: str, qos: int) -> int:
        """The QoS granted, or SUBSCRIPTION_REFUSED."""
        ...

    def on_closed(self, link: Link) -> None: ...


class Broker:
    """The listeners, the connections and the sessions of one local cloud."""

    def __init__(
        self, cloud: Cloud, events: EventLog, faults: Faults, limits: Limits | None = None
    ) -> None:
        self.events = events
        self.limits = limits or Limits()
        # asyncio hands out the SSL object only after the handshake, SNI is told during it.
        self._server_names: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()
        self._cloud = cloud
        self._faults = faults
        self._numbers = 0
        self._links: dict[str, Link] = {}
        self._sessions: dict[str, Session] = {}
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._bugs: list[BaseException] = []

    def listen(self, security: Security, context: Tls | None = None, *, port: int = 0) -> int:
        """Start to accept connections on loopback; returns the port, for 0 a free one."""
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        listener.setblocking(False)
        self._listeners.append(listener)
        if isinstance(context, ssl.SSLContext):
            context.sni_callback = self._note_server_name
        self._spawn(self._accept(listener, security, context))
        bound: int = listener.getsockname()[1]
        return bound

    async def close(self) -> None:
        """End every connection and listener; sessions stay, for whoever listens again.

        Raises the first bug that a hook had.
        """
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._bugs:
            raise self._bugs[0]

    def link(self, session: str) -> Link | None:
        """The connection that has that session now."""
        return self._links.get(session)

    def deliver(self, session: str, topic: str, payload: bytes, qos: int = 0) -> str:
        """Send a message to a session: "sent", "queued" (offline, kept) or "dropped".

        It goes out with the publisher's QoS; a subscription's own is not looked at.
        """
        link = self._links.get(session)
        if link is not None:
            if not link.session.wants(topic):
                return "dropped"
            link.publish(topic, payload, qos)
            return "sent"
        asleep = self._sessions.get(session)
        if asleep is None or not qos or not asleep.wants(topic):
            return "dropped"
        asleep.keep(topic, payload, self.limits.queued_max)
        return "queued"

    def forget(self, session: str) -> None:
        """Drop what is kept for a session that is offline."""
        self._sessions.pop(session, None)

    # -- connections ---------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bugs.append(bug)
            self.events.add("internal-error", error=f"{type(bug).__name__}: {bug}")

    def _note_server_name(
        self, ssl_object: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
    ) -> None:
        if name is not None:
            self._server_names[ssl_object] = name

    async def _accept(
        self, listener: socket.socket, security: Security, context: Tls | None
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._numbers += 1
            link = Link(self._numbers, sock, self.events, self.limits, self._server_names)
            self._spawn(self._serve(link, sock, security, context))

    async def _serve(
        self,
        link: Link,
        sock: socket.socket,
        security: Security,
        context: Tls | None,
    ) -> None:
        link.event("accept")
        try:
            async with asyncio.timeout(self.limits.connect_s):
                if security is Security.EITHER and not await _starts_with_tls(sock):
                    context = None
                reader = await link.open(context if security is not Security.PLAIN else None)
            link.event("open", tls=link.secure, server_name=link.server_name)
            await self._converse(link, reader)
        except packets.MalformedPacketError as error:
            link.event("malformed", detail=str(error))
            link.close("malformed packet")
        except asyncio.IncompleteReadError as error:
            link.closing = link.closing or ("closed in mid-packet" if error.partial else "closed")
        except TimeoutError:
            link.closing = link.closing or "timeout"
        except ssl.SSLError as error:
            link.event("tls-failed", detail=error.reason or str(error))
            link.closing = link.closing or "TLS failed"
        except OSError as error:
            link.closing = link.closing or f"lost ({type(error).__name__})"
        except asyncio.CancelledError:
            link.closing = link.closing or "the cloud stops"
            raise
        finally:
            name = link.session.name
            if name is not None and self._links.get(name) is link:
                del self._links[name]
            self._cloud.on_closed(link)
            await link.finish()
            link.event(
                "close",
                reason=link.closing or "closed",
                bytes_up=link.bytes_up,
                bytes_down=link.bytes_down,
            )

    async def _converse(self, link: Link, reader: asyncio.StreamReader) -> None:
        async with asyncio.timeout(self.limits.connect_s):
            frame = await packets.read_frame(reader, self.limits.packet_max, kind=packets.CONNECT)
        link.bytes_up += frame.size
        try:
            connect = packets.decode(frame)
        except packets.ProtocolLevelError as error:
            link.event("refused", code=UNACCEPTABLE_PROTOCOL, reason=str(error))
            link.send(packets.connack(UNACCEPTABLE_PROTOCOL))
            link.close("refused")
            return
        if not isinstance(connect, packets.Connect):
            raise packets.MalformedPacketError("the first packet is not a CONNECT")
        if not await self._answer(link, connect, reader):
            return
        longest_s = self.limits.keepalive_max_s
        silence_s = min(connect.keepalive_s * self.limits.keepalive_factor or longest_s, longest_s)
        while link.closing is None:
            try:
                async with asyncio.timeout(silence_s):
                    frame = await packets.read_frame(reader, self.limits.packet_max)
            except TimeoutError:
                link.event("silent", seconds=silence_s)
                link.close("keepalive")
                return
            link.bytes_up += frame.size
            if link.closing is None:
                self._handle(link, packets.decode(frame))

    async def _answer(
        self, link: Link, connect: packets.Connect, reader: asyncio.StreamReader
    ) -> bool:
        """Answer a CONNECT; True when the client is in."""
        faults = self._faults
        if faults.delay_s:
            await asyncio.sleep(faults.delay_s)
        if faults.take("no_answer"):
            link.event("fault", name="no_answer")
            async with asyncio.timeout(self.limits.keepalive_max_s):
                await reader.read()
            return False
        if self._spoil_connack(link):
            return False
        if faults.take("unavailable"):
            link.event("refused", code=SERVER_UNAVAILABLE, reason="unavailable", fault=True)
            link.send(packets.connack(SERVER_UNAVAILABLE))
            link.close("refused")
            return False
        verdict = self._cloud.authenticate(link, connect)
        if verdict.code != ACCEPTED:
            link.send(packets.connack(verdict.code))
            link.close("refused")
            return False
        present = self._take_session(link, verdict, clean=connect.clean_session)
        link.send(packets.connack(ACCEPTED, session_present=present))
        self._resend(link)
        self._cloud.on_connected(link)
        return True

    def _spoil_connack(self, link: Link) -> bool:
        """Answer with what is no CONNACK, when told to."""
        for name, data in (
            ("garbage_connack", _GARBAGE),
            ("short_connack", _SHORT_CONNACK),
            ("cut_connack", packets.connack(ACCEPTED)[:3]),
        ):
            if self._faults.take(name):
                link.event("fault", name=name)
                link.send(data)
                link.close(f"fault {name}")
                return True
        return False

    def _take_session(self, link: Link, verdict: Verdict, *, clean: bool) -> bool:
        """Give the link its session; True when it continues an earlier one."""
        name = verdict.session
        if name is None:
            return False
        if (older := self._links.get(name)) is not None:
            older.event("kicked", by=link.number)
            older.close("another connection took the session")
        kept = self._sessions.pop(name, None)
        present = kept is not None and not clean
        link.session = kept if kept is not None and present else Session(name)
        link.session.auto = verdict.auto
        if not clean:
            self._sessions[name] = link.session
        self._links[name] = link
        return present

    def _resend(self, link: Link) -> None:
        session = link.session
        for packet_id, (topic, payload) in session.inflight.items():
            link.send(packets.publish(topic, payload, qos=1, packet_id=packet_id, dup=True))
            link.event("down", topic=topic, bytes=len(payload), qos=1, again=True)
        self._send_queued(link)

    def _send_queued(self, link: Link) -> None:
        session = link.session
        while session.queued and len(session.inflight) < self.limits.inflight_max:
            link.publish(*session.queued.popleft(), qos=1)

    def _handle(self, link: Link, packet: packets.Packet) -> None:
        match packet:
            case packets.Publish():
                self._take_publish(link, packet)
            case packets.Puback():
                link.acknowledged(packet.packet_id)
                self._send_queued(link)
            case packets.Subscribe():
                codes = [self._subscribe(link, topic, qos) for topic, qos in packet.topics]
                link.send(packets.suback(packet.packet_id, codes))
            case packets.Unsubscribe():
                for topic in packet.topics:
                    link.session.filters.pop(topic, None)
                link.send(packets.unsuback(packet.packet_id))
            case packets.Pingreq():
                link.send(packets.pingresp())
            case packets.Disconnect():
                link.close("DISCONNECT")
            case packets.Connect():
                raise packets.MalformedPacketError("a second CONNECT")

    def _take_publish(self, link: Link, message: packets.Publish) -> None:
        if message.qos == 2:
            raise packets.MalformedPacketError("QoS 2 is not offered")
        if self._faults.take("drop_on_publish"):
            link.event("fault", name="drop_on_publish")
            link.abort("fault drop_on_publish")
            return
        acknowledgement = b""
        if message.packet_id is not None:
            if self._faults.take("no_puback"):
                link.event("fault", name="no_puback")
            else:
                acknowledgement = packets.puback(message.packet_id)
        # Acknowledged when it was taken, and before the answers to it.
        link.hold()
        self._cloud.on_publish(link, message)
        link.release(acknowledgement)

    def _subscribe(self, link: Link, topic_filter: str, qos: int) -> int:
        granted = packets.SUBSCRIPTION_REFUSED
        if packets.valid_filter(topic_filter):
            granted = self._cloud.on_subscribe(link, topic_filter, qos)
        if granted != packets.SUBSCRIPTION_REFUSED:
            link.session.filters[topic_filter] = granted
        link.event("subscribe", filter=topic_filter, granted=granted)
        return granted


async def _starts_with_tls(sock: socket.socket) -> bool:
    """Look at the first byte without taking it. The caller bounds the wait."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _wake, readable)
    try:
        await readable
    finally:
        loop.remove_reader(sock)
    return sock.recv(1, socket.MSG_PEEK) == bytes([_TLS_HANDSHAKE])


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
