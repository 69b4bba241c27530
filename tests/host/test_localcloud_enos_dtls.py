"""The DTLS server by itself: two ends joined in memory, with a clock that is turned by hand."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from enosdevice import CBC_SHA256, CCM_8
from hypothesis import given
from hypothesis import strategies as st
from imprint_tools.localcloud import dtls
from imprint_tools.localcloud.dtls import Connected, DtlsServer, Ended, Limits, Received, Refused
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret
from mbedtls.exceptions import TLSError
from mbedtls.tls import (
    ClientContext,
    DTLSConfiguration,
    DTLSVersion,
    HandshakeStep,
    TLSWrappedBuffer,
    WantReadError,
    WantWriteError,
)

KEY = Secret(bytes(range(16)))
IDENTITY = "MuGsF6W4,15bBZlRknc,2,3600"
ADDRESS = ("127.0.0.1", 40001)
OVER = HandshakeStep["HANDSHAKE_OVER"]
WAIT_S = 10.0


def lookup(identity: str) -> Secret:
    if not identity.startswith("MuGsF6W4,"):
        raise Refusal("product-unknown")
    return KEY


class Peer:
    """A client at an address; what it sends it keeps until `flight()` is asked for it."""

    def __init__(
        self,
        server: DtlsServer,
        address: dtls.Address = ADDRESS,
        *,
        key: Secret = KEY,
        identity: str = IDENTITY,
        suites: tuple[str, ...] = (CCM_8, CBC_SHA256),
        retransmit_s: float = 30.0,
    ) -> None:
        """`retransmit_s` runs by the real clock: where nothing is lost, a busy machine must not
        make the peer repeat itself."""
        self.server = server
        self.address = address
        self.failed = False
        configuration = DTLSConfiguration(
            validate_certificates=False,
            ciphers=suites,
            pre_shared_key=(identity, key.reveal()),
            lowest_supported_version=DTLSVersion.DTLSv1_2,
            handshake_timeout_min=retransmit_s,
            handshake_timeout_max=60.0,
        )
        self.tls: TLSWrappedBuffer = ClientContext(configuration).wrap_buffers(None)

    def flight(self, came: bytes = b"") -> bytes:
        """Go on with the handshake; returns what it sends, all in one datagram."""
        if came:
            self.tls.receive_from_network(came)
        try:
            while not self.failed and not self.connected:
                try:
                    self.tls.do_handshake()
                except WantWriteError:
                    pass
        except WantReadError:
            pass
        except TLSError:
            self.failed = True
        return self.outgoing()

    def outgoing(self) -> bytes:
        data = self.tls.peek_outgoing(65536)
        self.tls.consume_outgoing(len(data))
        return data

    @property
    def connected(self) -> bool:
        return self.tls._handshake_state is OVER

    def connect(self, now: float = 0.0) -> Peer:
        """The whole handshake, nothing lost."""
        came = b""
        for _ in range(4):
            sent = self.flight(came)
            came = deliver(self.server, sent, self.address, now) if sent else b""
        self.flight(came)
        return self

    def message(self, data: bytes) -> bytes:
        """A record with that in it."""
        self.tls.write(data)
        return self.outgoing()


def deliver(
    server: DtlsServer, datagram: bytes, address: dtls.Address = ADDRESS, now: float = 0.0
) -> bytes:
    """Hand a datagram over; returns the answer, of which there is at most one datagram."""
    server.receive(datagram, address, now)
    return answer(server)


def answer(server: DtlsServer) -> bytes:
    outgoing = server.to_send()
    assert server.to_send() is None, "a second datagram"
    return outgoing[0] if outgoing else b""


def events(server: DtlsServer) -> list[dtls.Event]:
    found = []
    while (event := server.next_event()) is not None:
        found.append(event)
    return found


def connected(server: DtlsServer) -> dtls.Session:
    """The one session that a handshake made."""
    (event,) = events(server)
    assert isinstance(event, Connected)
    return event.session


@pytest.mark.parametrize("suite", [CCM_8, CBC_SHA256])
def test_a_peer_connects_and_both_sides_speak(suite: str) -> None:
    """With either suite; identity, suite and every byte are known afterwards."""
    server = DtlsServer(lookup)
    peer = Peer(server, suites=(suite,)).connect()
    assert peer.connected
    session = connected(server)
    assert (session.identity, session.suite, session.address) == (IDENTITY, suite, ADDRESS)
    server.receive(peer.message(b"up"), ADDRESS, 5.0)
    assert events(server) == [Received(session, b"up")]
    assert session.heard == 5.0
    server.send(session, b"down")
    peer.tls.receive_from_network(answer(server))
    assert peer.tls.read(16) == b"down"


@pytest.mark.parametrize(
    ("suite", "finished", "record"), [(CCM_8, 53, 29), (CBC_SHA256, 93, 13 + 16 + 16 * 7 - 64)]
)
def test_what_goes_over_the_air_is_counted(suite: str, finished: int, record: int) -> None:
    """By the formulas of RFC 6347, 6655 and 5487; the handshake apart from what follows."""
    server = DtlsServer(lookup)
    peer = Peer(server, suites=(suite,))
    hello = peer.flight()
    verify = deliver(server, hello)
    hello_again = peer.flight(verify)
    server_hello = deliver(server, hello_again)
    last = peer.flight(server_hello)
    end = deliver(server, last)
    peer.flight(end)
    session = connected(server)
    cookie = len(hello_again) - len(hello)
    assert len(verify) == 28 + cookie
    assert len(last) == 27 + len(IDENTITY) + 14 + finished
    assert len(end) == 14 + finished
    assert session.handshake == dtls.Traffic(
        3, len(hello + hello_again + last), 3, len(verify + server_hello + end)
    )
    assert session.application == dtls.Traffic()
    deliver(server, peer.message(bytes(64)))
    assert session.application == dtls.Traffic(1, 64 + record, 0, 0)


def test_the_server_prefers_its_first_suite() -> None:
    """Whatever a peer puts first."""
    server = DtlsServer(lookup, (dtls.PSK_CBC_SHA256, dtls.PSK_CCM_8))
    Peer(server, suites=(CCM_8, CBC_SHA256)).connect()
    assert connected(server).suite == CBC_SHA256


def test_nothing_is_kept_of_a_peer_without_its_cookie() -> None:
    """Ten thousand hellos of as many addresses leave a bounded table of counts."""
    limits = Limits(unproven=16)
    server = DtlsServer(lookup, limits=limits)
    hello = Peer(server).flight()
    for port in range(2000):
        verify = deliver(server, hello, ("127.0.0.1", port))
        assert verify[13] == 3, "a HelloVerifyRequest"
    assert not server.busy and not server.sessions() and not events(server)
    assert len(server._unproven) == limits.unproven


def test_a_cookie_is_good_for_one_address() -> None:
    """Another address that shows it gets a cookie of its own."""
    server = DtlsServer(lookup)
    peer = Peer(server)
    hello = peer.flight(deliver(server, peer.flight()))
    assert deliver(server, hello, ("127.0.0.2", 40001))[13] == 3
    assert not server.busy
    assert deliver(server, hello)[13] == 2, "a ServerHello"


def test_half_open_handshakes_expire() -> None:
    """After `handshake_s`, on the caller's clock."""
    server = DtlsServer(lookup, limits=Limits(handshake_s=60))
    peer = Peer(server)
    deliver(server, peer.flight(deliver(server, peer.flight())))
    server.handle_timer(59.0)
    assert server.busy
    server.handle_timer(61.0)
    assert not server.busy
    assert events(server) == [Refused(ADDRESS, None, "timeout")]


def test_half_open_handshakes_are_bounded() -> None:
    """The oldest is given up for a new one."""
    server = DtlsServer(lookup, limits=Limits(handshakes=2))
    for port in range(3):
        peer = Peer(server, ("127.0.0.1", port))
        verify = deliver(server, peer.flight(), peer.address)
        deliver(server, peer.flight(verify), peer.address)
    assert events(server) == [Refused(("127.0.0.1", 0), None, "too many handshakes")]


def test_sessions_are_bounded() -> None:
    """The one that was silent for longest makes room."""
    server = DtlsServer(lookup, limits=Limits(sessions=2))
    peers = [Peer(server, ("127.0.0.1", port)).connect() for port in range(2)]
    first, second = (event.session for event in events(server))
    deliver(server, peers[0].message(b"x"), peers[0].address)
    events(server)
    Peer(server, ("127.0.0.1", 2)).connect()
    assert Ended(second, "too many sessions") in events(server)
    assert first in server.sessions()


@pytest.mark.parametrize(
    ("options", "identity", "reason"),
    [
        ({"key": Secret(bytes(16))}, IDENTITY, "wrong-key"),
        ({"key": Secret(bytes(16)), "suites": (CBC_SHA256,)}, IDENTITY, "wrong-key"),
        ({"identity": "other,15bBZlRknc,2,3600"}, "other,15bBZlRknc,2,3600", "product-unknown"),
        ({"suites": ("TLS-PSK-WITH-AES-256-CCM",)}, None, "no-common-suite"),
    ],
)
def test_a_failed_handshake_says_why(
    options: dict[str, object], identity: str | None, reason: str
) -> None:
    """To the peer by a fatal alert, to us by a reason."""
    server = DtlsServer(lookup)
    peer = Peer(server, **options)  # type: ignore[arg-type]  # a table of options
    peer.connect()
    assert not peer.connected and not server.busy and not server.sessions()
    assert events(server) == [Refused(ADDRESS, identity, reason)]


@pytest.mark.parametrize("lost", range(6))
def test_a_lost_flight_is_sent_again(lost: int) -> None:
    """Whichever of the six: Mbed TLS's timers bring the handshake to its end."""
    limits = Limits(retransmit_s=(0.01, 1.0))
    server = DtlsServer(lookup, limits=limits)
    peer = Peer(server, retransmit_s=0.01)
    count = iter(range(1000))

    def through(datagram: bytes) -> bytes:
        return b"" if datagram and next(count) == lost else datagram

    until = time.monotonic() + WAIT_S
    while not peer.connected and time.monotonic() < until:
        sent = through(peer.flight())
        if sent:
            server.receive(sent, ADDRESS, 0.0)
        server.handle_timer(0.0)
        while (outgoing := server.to_send()) is not None:
            came = through(outgoing[0])
            if came:
                peer.tls.receive_from_network(came)
    assert peer.connected
    server.receive(peer.message(b"x"), ADDRESS, 0.0)
    assert [type(event) for event in events(server)] == [Connected, Received]


def test_our_finished_goes_out_again_when_the_peer_repeats_its_own() -> None:
    """The last flight has no answer that would confirm it."""
    server = DtlsServer(lookup)
    peer = Peer(server)
    finished = peer.flight(deliver(server, peer.flight(deliver(server, peer.flight()))))
    deliver(server, finished)
    before = connected(server).handshake.down_bytes
    while not (again := peer.flight()):
        pass
    end = deliver(server, again)
    peer.flight(end)
    assert peer.connected
    assert server.sessions()[0].handshake.down_bytes == before + len(end)


def test_a_new_handshake_from_the_same_address_takes_over() -> None:
    """Only when it is over: until then, and if it fails, the old session goes on."""
    server = DtlsServer(lookup)
    old = Peer(server).connect()
    first = connected(server)
    Peer(server, key=Secret(bytes(16))).connect()
    assert [type(event) for event in events(server)] == [Refused]
    server.receive(old.message(b"still here"), ADDRESS, 0.0)
    assert events(server) == [Received(first, b"still here")]
    Peer(server).connect()
    ended, new = events(server)
    assert ended == Ended(first, "new handshake") and isinstance(new, Connected)


def test_a_late_copy_of_a_hello_changes_nothing() -> None:
    """A network may duplicate: no answer, and the session goes on."""
    server = DtlsServer(lookup)
    peer = Peer(server)
    first = peer.flight()
    second = peer.flight(deliver(server, first))
    peer.flight(deliver(server, peer.flight(deliver(server, second))))
    session = connected(server)
    assert deliver(server, first) == deliver(server, second) == b""
    server.receive(peer.message(b"x"), ADDRESS, 0.0)
    assert events(server) == [Received(session, b"x")]


def test_a_record_is_taken_once() -> None:
    """A duplicated or replayed one is dropped (RFC 6347, 4.1.2.6)."""
    server = DtlsServer(lookup)
    record = Peer(server).connect().message(b"x")
    events(server)
    deliver(server, record)
    deliver(server, record)
    assert len(events(server)) == 1


def test_a_session_whose_address_changed_is_not_found() -> None:
    """A rebound NAT: silence, which the peer has to notice by itself."""
    server = DtlsServer(lookup)
    record = Peer(server).connect().message(b"x")
    connected(server)
    assert deliver(server, record, ("127.0.0.1", 40002)) == b""
    assert not events(server) and server.strays == 1


def test_a_peer_that_says_goodbye_is_gone() -> None:
    """close_notify."""
    server = DtlsServer(lookup)
    peer = Peer(server).connect()
    session = connected(server)
    peer.tls.shutdown()
    deliver(server, peer.outgoing())
    assert events(server) == [Ended(session, "closed by the peer")]
    assert not server.sessions()


def test_a_session_can_be_ended_with_and_without_a_word() -> None:
    """And what is sent to one that has ended goes nowhere."""
    server = DtlsServer(lookup)
    Peer(server).connect()
    session = connected(server)
    server.close(session, "enough")
    assert answer(server)[0] == 21, "an alert"
    assert events(server) == [Ended(session, "enough")]
    Peer(server).connect()
    other = connected(server)
    server.close(other, "enough", tell=False)
    server.send(other, b"x")
    server.close(other, "twice")
    assert answer(server) == b""
    assert events(server) == [Ended(other, "enough")]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def _flip(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def _double(data: bytes, chance: random.Random) -> bytes:
    return data + data


@given(st.integers(0, 2**32), st.sampled_from([_cut, _flip, _double]))
def test_damage_is_survived(seed: int, damage: Callable[[bytes, random.Random], bytes]) -> None:
    """Any datagram: an answer or none, never an exception; a sound peer then connects."""
    chance = random.Random(seed)  # noqa: S311 - to choose what to damage
    server = DtlsServer(lookup)
    peer = Peer(server)
    came = b""
    for _ in range(5):
        sent = peer.flight(came)
        if sent:
            deliver(server, damage(sent, chance), ADDRESS, 0.0)
            while server.to_send() is not None:
                pass
            server.receive(sent, ADDRESS, 0.0)
        outgoing = server.to_send()
        came = outgoing[0] if outgoing else b""
        while server.to_send() is not None:
            pass
    fresh = Peer(server, ("127.0.0.1", 9)).connect()
    assert fresh.connected


@given(st.binary(max_size=200))
def test_garbage_is_dropped(data: bytes) -> None:
    """Whatever comes to the port."""
    server = DtlsServer(lookup)
    for datagram in (data, b"\x16\xfe\xfd" + data, b"\x16\xfe\xfd" + bytes(10) + b"\x01" + data):
        server.receive(datagram, ADDRESS, 0.0)
    assert not server.sessions() and not server.busy
