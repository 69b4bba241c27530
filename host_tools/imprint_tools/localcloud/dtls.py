"""DTLS 1.2 with pre-shared keys, the server's side, for any number of peers at one UDP port.

Sans I/O: datagrams in, `next_event()` and `to_send()` out, time is an argument. The records and
the handshake are Mbed TLS's (python-mbedtls); here is what lies between it and the port:

* Peers are told apart by their address. There is no connection id (RFC 9146): python-mbedtls does
  not offer it. Nor does it offer resumption; every session has a handshake of its own.
* Nothing is kept of a peer that has not returned its cookie (RFC 6347, 4.2.1): until then one
  scratch buffer serves all, and only a bounded table of byte counts remembers.
* A peer that begins anew from the address of a live session (4.2.8) keeps that session until the
  new handshake is over; a late copy of the hello that made the session changes nothing.
* A record of nobody's (a rebound NAT, a forgotten session) is dropped without a word.

A session holds about 50 KiB, its buffers; `Limits.sessions` bounds them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.mbedtls import (
    DTLSConfiguration,
    DTLSVersion,
    HandshakeStep,
    HelloVerifyRequest,
    ServerContext,
    TLSError,
    TLSWrappedBuffer,
    WantReadError,
    WantWriteError,
)
from imprint_tools.secret import Secret

Address = tuple[str, int]
Lookup = Callable[[str], Secret]
"""Identity to key. Raises Refusal when there is none for it."""


@dataclass(frozen=True)
class Suite:
    """A cipher suite: its number at IANA, and Mbed TLS's name of it."""

    number: int
    name: str


PSK_CCM_8 = Suite(0xC0A8, "TLS-PSK-WITH-AES-128-CCM-8")
PSK_CBC_SHA256 = Suite(0x00AE, "TLS-PSK-WITH-AES-128-CBC-SHA256")
PSK_GCM_SHA384 = Suite(0x00A9, "TLS-PSK-WITH-AES-256-GCM-SHA384")
"""One that no EnOS device has: what the fault `no_suite` insists on."""

# RFC 5246: content types, a handshake type, alerts.
_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE, _APPLICATION_DATA = range(20, 24)
_CLIENT_HELLO = 1
_REASONS = {
    20: "wrong-key",  # bad_record_mac: what a Finished under another key looks like
    40: "no-common-suite",
    51: "wrong-key",
    70: "wrong-version",
    115: "unknown-identity",
}
_FAILURES = {0x6800: "timeout", 0x7780: "refused by the peer", 0x7880: "closed by the peer"}
"""Mbed TLS's error numbers, where no alert of ours says more."""
_RECORD_HEADER, _HANDSHAKE_HEADER = 13, 12
_RANDOM_AT = _RECORD_HEADER + _HANDSHAKE_HEADER + 2
_RANDOM_LENGTH = 32
_DTLS_MAJOR = 0xFE
_EPOCH_0 = b"\x00\x00"
_DATAGRAM_MAX = 2048
"""Bytes; more than any MTU on the way of a device brings here."""
_PLAINTEXT_MAX = 16384
_OVER = HandshakeStep["HANDSHAKE_OVER"]  # as a name its type is int, says the stub
_HELLO = HandshakeStep["CLIENT_HELLO"]
_REQUEST = HandshakeStep["HELLO_REQUEST"]


@dataclass(frozen=True)
class Limits:
    """What the server holds at most, and for how long.

    `handshake_s`: a handshake that takes longer is given up (an NB-IoT flight may need 10 s and be
    sent several times). `retransmit_s`: RFC 6347's timer, its start and its ceiling; it runs on
    the machine's clock, not on the `now` of the caller.
    """

    sessions: int = 4096
    handshakes: int = 512
    unproven: int = 1024
    handshake_s: float = 120.0
    retransmit_s: tuple[float, float] = (1.0, 60.0)


@dataclass
class Traffic:
    """Datagrams and bytes of UDP payload; up is towards the server."""

    up_datagrams: int = 0
    up_bytes: int = 0
    down_datagrams: int = 0
    down_bytes: int = 0

    def up(self, length: int) -> None:
        self.up_datagrams += 1
        self.up_bytes += length

    def down(self, length: int) -> None:
        self.down_datagrams += 1
        self.down_bytes += length


@dataclass(eq=False)
class Session:
    """A peer that has shown its cookie, and what was agreed with it."""

    number: int
    address: Address
    began: float
    handshake: Traffic
    """Its hellos before the cookie included; after the handshake its repeated flights."""
    application: Traffic = field(default_factory=Traffic)
    identity: str = ""
    suite: str = ""
    heard: float = 0.0
    """When the last message of its own came, on the caller's clock."""


@dataclass(frozen=True)
class Connected:
    """A handshake is over."""

    session: Session


@dataclass(frozen=True)
class Received:
    """A message came."""

    session: Session
    data: bytes


@dataclass(frozen=True)
class Ended:
    """A session is over, in whatever way: an alert, a new handshake, want of room, `close()`."""

    session: Session
    reason: str


@dataclass(frozen=True)
class Refused:
    """A handshake failed. `identity` is None where it did not get that far."""

    address: Address
    identity: str | None
    reason: str


Event = Connected | Received | Ended | Refused


class _Keys(Mapping[str, bytes]):
    """What Mbed TLS asks for a key. One handshake step runs at a time, so it notes whose."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self.asked: str | None = None
        self.refused: str | None = None

    def forget(self) -> None:
        self.asked = self.refused = None

    def __getitem__(self, identity: str) -> bytes:
        self.asked = identity
        try:
            return self._lookup(identity).reveal()
        except Refusal as refusal:
            self.refused = refusal.reason
            raise KeyError from None

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Peer:
    """A session with its Mbed TLS; `random` is the hello's that made it."""

    def __init__(self, session: Session, buffer: TLSWrappedBuffer, random: bytes) -> None:
        self.session = session
        self.buffer = buffer
        self.random = random


class DtlsServer:
    """All sessions of one port."""

    def __init__(
        self,
        lookup: Lookup,
        suites: tuple[Suite, ...] = (PSK_CCM_8, PSK_CBC_SHA256),
        limits: Limits | None = None,
    ) -> None:
        """`suites`: the server's order decides among those that a peer offers."""
        self._limits = limits or Limits()
        self._keys = _Keys(lookup)
        self._contexts: dict[tuple[Suite, ...], ServerContext] = {}
        self._scratch: dict[tuple[Suite, ...], TLSWrappedBuffer] = {}
        self.suites = suites
        """May be changed at any time; it counts for the hellos to come."""
        self._established: OrderedDict[Address, _Peer] = OrderedDict()
        self._pending: OrderedDict[Address, _Peer] = OrderedDict()
        self._unproven: OrderedDict[Address, Traffic] = OrderedDict()
        self._events: deque[Event] = deque()
        self._outgoing: deque[tuple[bytes, Address]] = deque()
        self._number = 0
        self.strays = 0
        """Datagrams that were no DTLS or of no session."""

    # -- in ------------------------------------------------------------------------------------

    def receive(self, datagram: bytes, address: Address, now: float) -> None:
        """Take what came from there. Never raises for what is in it."""
        kind = datagram[0] if len(datagram) > _RECORD_HEADER else 0
        if (
            not _CHANGE_CIPHER_SPEC <= kind <= _APPLICATION_DATA
            or datagram[1] != _DTLS_MAJOR
            or len(datagram) > _DATAGRAM_MAX
        ):
            self.strays += 1
            return
        pending, established = self._pending.get(address), self._established.get(address)
        if (
            kind == _HANDSHAKE
            and datagram[3:5] == _EPOCH_0
            and (datagram[_RECORD_HEADER] == _CLIENT_HELLO)
        ):
            self._receive_hello(datagram, address, now)
        elif pending is not None and kind != _APPLICATION_DATA:
            pending.session.handshake.up(len(datagram))
            pending.buffer.receive_from_network(datagram)
            self._shake(pending, now)
        elif established is not None:
            self._receive_record(established, kind, datagram, now)
        else:
            self.strays += 1

    def _receive_hello(self, datagram: bytes, address: Address, now: float) -> None:
        random = datagram[_RANDOM_AT : _RANDOM_AT + _RANDOM_LENGTH]
        pending, established = self._pending.get(address), self._established.get(address)
        if pending is not None and pending.random == random and _has_cookie(datagram):
            # The flight that answered it was lost: Mbed TLS sends that again.
            pending.session.handshake.up(len(datagram))
            pending.buffer.receive_from_network(datagram)
            self._shake(pending, now)
            return
        if established is not None and established.random == random:
            established.session.handshake.up(len(datagram))
            return
        traffic = self._unproven.setdefault(address, Traffic())
        self._unproven.move_to_end(address)
        if len(self._unproven) > self._limits.unproven:
            self._unproven.popitem(last=False)
        traffic.up(len(datagram))
        suites = self.suites
        buffer = self._scratch.pop(suites, None) or self._context(suites).wrap_buffers()
        buffer.setcookieparam(f"{address[0]} {address[1]}".encode())
        buffer.receive_from_network(datagram)
        self._keys.forget()
        try:
            while True:
                try:
                    buffer.do_handshake()
                except WantWriteError:
                    self._drain(buffer, address, traffic)
        except HelloVerifyRequest:
            self._drain(buffer, address, traffic)
            self._scratch[suites] = buffer
        except WantReadError:
            if buffer._handshake_state in (_REQUEST, _HELLO):
                return  # not a hello that it could read; nothing is owed to it
            self._drain(buffer, address, traffic)
            self._adopt(buffer, address, random, now)
        except TLSError as error:
            alert = self._drain(buffer, address, traffic)
            del self._unproven[address]
            self._events.append(Refused(address, None, _reason(alert, error)))

    def _adopt(
        self, buffer: TLSWrappedBuffer, address: Address, random: bytes, now: float
    ) -> None:
        """The cookie was right: from here on there is a state for that peer."""
        self._number += 1
        session = Session(self._number, address, now, self._unproven.pop(address), heard=now)
        self._pending.pop(address, None)
        self._pending[address] = _Peer(session, buffer, random)
        if len(self._pending) > self._limits.handshakes:
            self._give_up(next(iter(self._pending.values())), "too many handshakes")

    def _shake(self, peer: _Peer, now: float) -> None:
        """Go on with a handshake as far as what has come allows."""
        session, buffer = peer.session, peer.buffer
        self._keys.forget()
        try:
            while buffer._handshake_state is not _OVER:
                try:
                    buffer.do_handshake()
                except WantWriteError:
                    self._drain(buffer, session.address, session.handshake)
                except WantReadError:
                    # Flights that a timer, or the peer's, had sent again. Where it was ours, what
                    # has come is still to be read.
                    self._drain(buffer, session.address, session.handshake)
                    if not buffer._input_buffer:
                        return
        except TLSError as error:
            alert = self._drain(buffer, session.address, session.handshake)
            reason = self._keys.refused or _reason(alert, error)
            self._give_up(peer, reason)
        else:
            self._drain(buffer, session.address, session.handshake)
            self._complete(peer, now)
        finally:
            if self._keys.asked is not None:
                session.identity = self._keys.asked

    def _complete(self, peer: _Peer, now: float) -> None:
        session = peer.session
        del self._pending[session.address]
        before = self._established.pop(session.address, None)
        if before is not None:
            self._events.append(Ended(before.session, "new handshake"))
        session.suite, session.heard = str(peer.buffer.cipher()), now
        self._established[session.address] = peer
        self._events.append(Connected(session))
        if len(self._established) > self._limits.sessions:
            _, silent = self._established.popitem(last=False)
            self._events.append(Ended(silent.session, "too many sessions"))
        # Records of the application may have come in the very datagram of the Finished.
        self._read(peer, now)

    def _give_up(self, peer: _Peer, reason: str) -> None:
        del self._pending[peer.session.address]
        identity = self._keys.asked or peer.session.identity or None
        self._events.append(Refused(peer.session.address, identity, reason))

    def _receive_record(self, peer: _Peer, kind: int, datagram: bytes, now: float) -> None:
        session = peer.session
        repeated = kind in (_CHANGE_CIPHER_SPEC, _HANDSHAKE)
        (session.handshake if repeated else session.application).up(len(datagram))
        peer.buffer.receive_from_network(datagram)
        self._read(peer, now)

    def _read(self, peer: _Peer, now: float) -> None:
        session, buffer = peer.session, peer.buffer
        plain = bytearray(_PLAINTEXT_MAX)
        try:
            while (count := buffer.readinto(plain, len(plain))) > 0:  # type: ignore[arg-type]
                session.heard = now
                self._established.move_to_end(session.address)
                self._events.append(Received(session, bytes(plain[:count])))
        except WantReadError:
            # Its Finished came once more, so ours was lost and goes out again.
            self._drain(buffer, session.address, session.handshake)
        except TLSError:
            # close_notify or a fatal alert; a forged record is dropped before it gets here.
            self._drain(buffer, session.address, session.application)
            self._drop(session, "closed by the peer")

    # -- out -----------------------------------------------------------------------------------

    def send(self, session: Session, data: bytes) -> None:
        """Send a message, if that session is still there."""
        peer = self._peer(session)
        if peer is not None:
            peer.buffer.write(data)
            self._drain(peer.buffer, session.address, session.application)

    def close(self, session: Session, reason: str, *, tell: bool = True) -> None:
        """End a session: with a close_notify, or without a word."""
        peer = self._peer(session)
        if peer is not None:
            if tell:
                peer.buffer.shutdown()
                self._drain(peer.buffer, session.address, session.application)
            self._drop(session, reason)

    def sessions(self) -> list[Session]:
        """Those whose handshake is over, the one silent for longest first."""
        return [peer.session for peer in self._established.values()]

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def to_send(self) -> tuple[bytes, Address] | None:
        return self._outgoing.popleft() if self._outgoing else None

    # -- time ----------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """To be called a few times a second while `busy`: repeats flights, gives up handshakes."""
        for peer in list(self._pending.values()):
            if now - peer.session.began > self._limits.handshake_s:
                self._keys.forget()
                self._give_up(peer, "timeout")
            else:
                self._shake(peer, now)

    @property
    def busy(self) -> bool:
        """Is there a handshake that a timer may have to help?"""
        return bool(self._pending)

    # -- within --------------------------------------------------------------------------------

    def _peer(self, session: Session) -> _Peer | None:
        peer = self._established.get(session.address)
        return peer if peer is not None and peer.session is session else None

    def _drop(self, session: Session, reason: str) -> None:
        del self._established[session.address]
        self._events.append(Ended(session, reason))

    def _context(self, suites: tuple[Suite, ...]) -> ServerContext:
        context = self._contexts.get(suites)
        if context is None:
            start, ceiling = self._limits.retransmit_s
            configuration = DTLSConfiguration(
                validate_certificates=False,
                ciphers=tuple(suite.name for suite in suites),
                pre_shared_key_store=self._keys,
                lowest_supported_version=DTLSVersion.DTLSv1_2,
                handshake_timeout_min=start,
                handshake_timeout_max=ceiling,
            )
            context = self._contexts[suites] = ServerContext(configuration)
        return context

    def _drain(self, buffer: TLSWrappedBuffer, address: Address, traffic: Traffic) -> bytes:
        """Take what Mbed TLS wants sent: one datagram, as this is called after each step."""
        data = buffer.peek_outgoing(_DATAGRAM_MAX * 16)
        if data:
            buffer.consume_outgoing(len(data))
            traffic.down(len(data))
            self._outgoing.append((data, address))
        return data


def _has_cookie(hello: bytes) -> bool:
    """Does a ClientHello bring one? After the random come session id and cookie, length first."""
    at = _RANDOM_AT + _RANDOM_LENGTH
    at += 1 + (hello[at] if at < len(hello) else 0)
    return at < len(hello) and hello[at] > 0


def _reason(alert: bytes, error: TLSError) -> str:
    """Why a handshake failed, by the alert that we sent, which is in clear until it is over."""
    if len(alert) >= _RECORD_HEADER + 2 and alert[0] == _ALERT:
        code = alert[_RECORD_HEADER + 1]
        return _REASONS.get(code, f"alert {code}")
    number: int = getattr(error, "err", 0)  # the stub does not know it
    return _FAILURES.get(number, f"Mbed TLS 0x{number:04x}")
