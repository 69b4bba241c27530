"""Our CoAP client against aiocoap's server on loopback, and both codecs on the same bytes."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiocoap
import aiocoap.message
import aiocoap.resource
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imprint import errors
from imprint.net.coap_client import Client
from imprint.wire.coap.block import pack
from imprint.wire.coap.codes import BLOCK2, GET, NON, POST, PUT, URI_PATH
from imprint.wire.coap.message import Message, decode
from imprint.wire.coap.params import Parameters
from imprint_tools import runtime

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
LONG = bytes(range(256)) * 7  # 1792 bytes: more than a message, less than our limit


class Fixed(aiocoap.resource.Resource):
    """GET gives a body, at once or late enough that aiocoap acknowledges the request before."""

    def __init__(self, body: bytes, delay_s: float = 0.0) -> None:
        super().__init__()
        self._body = body
        self._delay_s = delay_s
        self.heard = 0

    async def render_get(self, request: Any) -> Any:
        self.heard += 1
        await asyncio.sleep(self._delay_s)
        return aiocoap.Message(code=aiocoap.CONTENT, payload=self._body)


class Echo(aiocoap.resource.Resource):
    """PUT and POST give back what they were given, turned round."""

    async def render_post(self, request: Any) -> Any:
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload[::-1])

    render_put = render_post


class Command(aiocoap.resource.Resource):
    """A response with EnOS's two elective options."""

    async def render_get(self, request: Any) -> Any:
        response = aiocoap.Message(code=aiocoap.CHANGED)
        for number, value in ((2100, b"/topic/sys/pk/dk/thing/service/x"), (2102, b"{}")):
            option = aiocoap.numbers.optionnumbers.OptionNumber(number)
            response.opt.add_option(option.create_option(decode=value))
        return response


class Peer:
    """An aiocoap server in a thread of its own; `port` is where it listens."""

    def __init__(self) -> None:
        self.port = _free_port()
        self.late = Fixed(b"late", delay_s=0.4)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main)
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def __enter__(self) -> Peer:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        site = aiocoap.resource.Site()
        site.add_resource(["small"], Fixed(b"22.3 C"))
        site.add_resource(["long"], Fixed(LONG))
        site.add_resource(["late"], self.late)
        site.add_resource(["late", "long"], Fixed(LONG, delay_s=0.3))
        site.add_resource(["a", "b", "echo"], Echo())
        site.add_resource(["command"], Command())
        context = await aiocoap.Context.create_server_context(
            site, bind=("127.0.0.1", self.port), transports=["simplesocketserver"]
        )
        self._ready.set()
        await self._stop.wait()
        await context.shutdown()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


class Lossy:
    """A UDP socket that loses the datagrams of which the number is in `lost`, up or down."""

    def __init__(self, up: tuple[int, ...] = (), down: tuple[int, ...] = ()) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._lost_up, self._lost_down = up, down
        self.sent = self.received = 0
        self.settimeout = self._sock.settimeout
        self.close = self._sock.close

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        self.sent += 1
        if self.sent in self._lost_up:
            return len(data)
        return self._sock.sendto(data, address)

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        data, source = self._sock.recvfrom(size)
        self.received += 1
        if self.received in self._lost_down:
            raise TimeoutError("timed out")
        return data, source


@pytest.fixture
def client(peer: Peer) -> Iterator[Client]:
    client = Client(Lossy(), ("127.0.0.1", peer.port), Parameters(), os.urandom)
    yield client
    client.close()


def lossy(peer: Peer, **lost: tuple[int, ...]) -> tuple[Client, Lossy]:
    sock = Lossy(**lost)
    return Client(sock, ("127.0.0.1", peer.port), Parameters(300), os.urandom), sock


def test_piggybacked(client: Client) -> None:
    """A request and its response in the ACK."""
    response = client.request(GET, ["small"])
    assert (response.code, response.payload) == (0x45, b"22.3 C")


def test_non(client: Client) -> None:
    """The same without confirmation."""
    assert client.request(GET, ["small"], kind=NON).payload == b"22.3 C"


def test_separate(peer: Peer, client: Client) -> None:
    """aiocoap acknowledges first and answers later; it takes our acknowledgement for one."""
    before = peer.late.heard
    assert client.request(GET, ["late"]).payload == b"late"
    client.poll(50)
    assert peer.late.heard == before + 1
    assert client.exchange.duplicates == client.exchange.unexpected == 0


def test_long_response(client: Client) -> None:
    """Block2, in blocks of aiocoap's choice, and in blocks of ours."""
    assert client.request(GET, ["long"]).payload == LONG
    assert client.request(GET, ["long"], options=[(BLOCK2, pack(0, False, 2))]).payload == LONG
    assert client.request(GET, ["late", "long"]).payload == LONG


@pytest.mark.parametrize("code", [POST, PUT])
def test_long_request(peer: Peer, code: int) -> None:
    """Block1 up and Block2 down, with a small and with the largest block size."""
    for whole_max, exponent in ((64, 2), (1024, 6)):
        client = Client(
            Lossy(),
            ("127.0.0.1", peer.port),
            Parameters(),
            os.urandom,
            whole_max=whole_max,
            exponent=exponent,
        )
        assert client.request(code, ["a", "b", "echo"], LONG).payload == LONG[::-1]
        client.close()


def test_errors(client: Client) -> None:
    """Codes arrive as what they are."""
    assert client.request(GET, ["nobody"]).code == 0x84
    assert client.request(GET, ["a", "b", "echo"]).code == 0x85


def test_elective_options(client: Client) -> None:
    """EnOS's options 2100 and 2102 arrive in order."""
    response = client.request(GET, ["command"])
    assert response.get(2100) == b"/topic/sys/pk/dk/thing/service/x"
    assert response.get(2102) == b"{}"


def test_request_lost(peer: Peer) -> None:
    """The first transmission is lost: the second one is answered."""
    client, sock = lossy(peer, up=(1,))
    assert client.request(GET, ["small"]).payload == b"22.3 C"
    assert sock.sent == 2
    client.close()


def test_response_lost(peer: Peer) -> None:
    """The response is lost: aiocoap knows the retransmission and gives the same again."""
    before = peer.late.heard
    client, _ = lossy(peer, down=(1,))
    assert client.request(GET, ["late"]).payload == b"late"
    assert peer.late.heard == before + 1
    client.close()


def test_acknowledgement_lost(peer: Peer) -> None:
    """Our ACK of a separate response is lost: aiocoap repeats it, and gets the ACK again."""
    client, sock = lossy(peer, up=(2,))
    assert client.request(GET, ["late"]).payload == b"late"
    client.poll(3500)
    assert client.exchange.duplicates == 1 and sock.sent == 3
    client.close()


def test_nobody(peer: Peer) -> None:
    """A port at which nobody listens: an error within the time of the parameters."""
    client = Client(
        Lossy(), ("127.0.0.1", _free_port()), Parameters(50, MAX_RETRANSMIT=1), os.urandom
    )
    with pytest.raises(errors.WeatherError) as caught:
        client.request(GET, ["small"])
    assert caught.value.code == 330
    client.close()


BOARD = """
import os, socket, sys
sys.path[:0] = {path!r}
from imprint.net.coap_client import Client
from imprint.wire.coap.codes import GET, POST
from imprint.wire.coap.params import Parameters
address = socket.getaddrinfo("127.0.0.1", {port})[0][-1]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client = Client(sock, address, Parameters(), os.urandom)
print(client.request(GET, ["late"], timeout_ms=5000).payload)
body = bytes(range(256)) * 5
print(client.request(POST, ["a", "b", "echo"], body).payload == bytes(reversed(body)))
client.poll(50)
print(client.foreign, client.exchange.malformed, client.exchange.unexpected)
"""


def test_on_micropython(peer: Peer, tmp_path: Path) -> None:
    """The same client on 32-bit MicroPython, over its own sockets: separate, and in blocks."""
    shims = ROOT / "host_tools/imprint_tools/shims/cpython"
    for name in ("esp32.py", "machine.py"):
        shutil.copy(shims / name, tmp_path / name)
    path = [str(ROOT / "firmware"), str(tmp_path)]
    done = subprocess.run(  # noqa: S603 - the bench's own MicroPython
        runtime.find("i386").argv("-c", BOARD.format(path=path, port=peer.port), heap="96k"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["b'late'", "True", "0 0 0"], done.stdout + done.stderr


options = st.lists(
    st.tuples(st.sampled_from([11, 15, 4, 258, 2100, 2102, 65000]), st.binary(max_size=300)),
    max_size=3,
)


@given(st.binary(max_size=8), st.integers(0, 65535), options, st.binary(max_size=50))
def test_codecs_agree(
    token: bytes, message_id: int, given_options: list[tuple[int, bytes]], payload: bytes
) -> None:
    """What we write aiocoap reads as the same message, and writes back as bytes that we read."""
    ours = Message(POST, payload)
    ours.token, ours.message_id = token, message_id
    for number, value in given_options:
        if number in (URI_PATH, 15):
            value = value.hex().encode()
        elif number == 258:  # a number, which aiocoap writes in its shortest form
            value = value.lstrip(b"\0")
        ours.add(number, value)
    theirs = aiocoap.Message.decode(ours.encode())
    assert (theirs.mid, theirs.token, theirs.payload) == (message_id, token, payload)
    assert [(int(o.number), o.encode()) for o in theirs.opt.option_list()] == ours.options
    theirs.direction = aiocoap.message.Direction.OUTGOING
    assert vars(decode(theirs.encode())) == vars(ours)


@given(st.binary(max_size=40).map(lambda tail: b"\x40\x45\x00\x01" + tail))
def test_codecs_read_alike(wire: bytes) -> None:
    """Whatever the bytes are, what we read as a message aiocoap reads as the same one."""
    try:
        ours = decode(wire)
    except ValueError:
        return
    try:
        theirs = aiocoap.Message.decode(wire)
    except UnicodeDecodeError:
        return  # text options that are not UTF-8: who uses them looks at that
    assert theirs.payload == ours.payload
    assert [(int(o.number), o.encode()) for o in theirs.opt.option_list()] == ours.options
