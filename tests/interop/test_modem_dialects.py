"""The firmware's dialects and the virtual modem's, with a real handshake between them.

They were written from the same sheet by two people, neither of whom looked at the other's.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dtls_echo import BYE, CBC_SHA256, CCM_8, DtlsEcho
from imprint import port
from imprint.errors import ImprintError
from imprint.modem import dialects
from imprint.modem.datagram import DatagramSocket
from imprint.modem.dialects import status
from imprint.modem.engine import Engine
from imprint.modem.uart import ModemUart
from imprint.secret import Secret
from imprint_tools.endpoints import Endpoint
from imprint_tools.virtual.modem.air import Weather
from imprint_tools.virtual.modem.bench import Modem
from imprint_tools.virtual.modem.cellular import Cell, Coverage, Sim
from imprint_tools.virtual.modem.quirks import Quirks
from modem_terminal import HOST, IDENTITY, KEY, PORT, modem

pytestmark = pytest.mark.interop

SUITES = {CCM_8: 0xC0A8, CBC_SHA256: 0x00AE}
FAMILIES = {
    "nrf91": "nrf91",
    "nrf91-slm": "nrf91",
    "bg95": "bg95",
    "gm02s": "sequans",
    "sara-r5": "sara",
    "sara-r422": "sara",
    "sara-r410": "sara",
}
ONE_EACH = ["nrf91", "nrf91-slm", "bg95", "gm02s", "sara-r5"]
BOTH = [
    (family, suite)
    for family in FAMILIES
    for suite in SUITES
    if suite == CBC_SHA256 or family not in ("gm02s", "sara-r410")
]
TAG = 1
DATAGRAM = bytes(range(256)) + b"\r\nOK\r\n> +QSSLURC: "


class Line:
    """The board's UART, as ModemUart wants it."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream

    def readinto(self, buffer: bytearray) -> int | None:
        try:
            return self._stream.recv_into(buffer)
        except BlockingIOError:
            return None

    def write(self, data: bytes) -> int:
        return self._stream.send(data)


def setup(uart: ModemUart) -> Any:
    return dialects.setup(uart.dialect)


def dialer(uart: ModemUart) -> Any:
    return dialects.dialer(uart.dialect)


@contextmanager
def unit(virtual: Modem, dialect: str, suite: int = 0xC0A8) -> Iterator[ModemUart]:
    """A board whose UART leads to that modem, which has just booted."""
    virtual.nvm |= {"+URAT": "8", "mode": 2}  # NB-IoT already: to change it takes a start
    with virtual:
        spoken = dialects.load(dialect)
        spoken.suite = suite
        spoken.SEND_GAP_MS = 10  # of the bench's modems none needs u-blox's 100
        if virtual.family.FAMILY == "nrf91-slm":
            spoken.cid = 0  # the echo server has no connection ids, and this modem insists
        yield ModemUart(Line(virtual.stream), Engine(spoken), spoken, lambda: None)


def hasten(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the board's time pass faster: it waits for what the modem tells at once, or never."""
    monkeypatch.setattr(port, "ticks_ms", lambda: time.monotonic_ns() * times // 1_000_000)


def online(uart: ModemUart, marker: str | None = None) -> str | None:
    """Power up, attach, provision, attach: what a journey begins with. The marker of the key.

    A first attach may reset a modem, and with it a key that is kept in RAM (SARA); to write a key
    takes the network from another (nRF91). So attach comes before it and after it.
    """
    uart.run(setup(uart).power_up())
    uart.run(setup(uart).attach("iot"))
    marker = uart.run(dialer(uart).provision_psk(TAG, IDENTITY.encode(), Secret(KEY), marker))
    assert uart.run(setup(uart).attach("iot")) in (1, 5)
    return marker


def answer(sock: DatagramSocket, data: bytes, within_s: float = 5.0) -> bytes:
    sock.sendto(data, (HOST, PORT))
    sock.settimeout(within_s)
    return bytes(sock.recvfrom(1500)[0])


@pytest.fixture
def echo() -> Iterator[DtlsEcho]:
    with DtlsEcho({IDENTITY: KEY}) as server:
        yield server


@pytest.mark.parametrize(("family", "suite"), BOTH)
def test_a_session(family: str, suite: str) -> None:
    """Power up, provision, attach, dial, send, receive, close: with each family and suite that
    it has, and a datagram that holds every byte and what looks like AT."""
    with (
        DtlsEcho({IDENTITY: KEY}, [suite]) as echo,
        unit(modem(family, echo.address), FAMILIES[family], SUITES[suite]) as uart,
    ):
        online(uart)
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        data = DATAGRAM if family != "nrf91-slm" else DATAGRAM.replace(b"+", b"-")
        for size in (1, 2, len(data)):
            assert answer(sock, data[:size]) == data[:size][::-1]
        sock.close()
        assert echo.received == [data[:1], data[:2], data]
        assert uart.engine.lost == uart.engine.strays == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_facts(family: str) -> None:
    """IMEI, ICCID and signal are the virtual modem's."""
    virtual = modem(family)
    with unit(virtual, FAMILIES[family]) as uart:
        uart.run(setup(uart).power_up())
        uart.run(setup(uart).attach("iot"))
        assert uart.run(setup(uart).imei()) == virtual.imei
        assert uart.run(status.iccid(setup(uart))) == virtual.sim.iccid
        assert uart.run(status.signal()) == (-96, -10)


@pytest.mark.parametrize("family", ONE_EACH)
def test_power_saving_is_granted(family: str) -> None:
    """What the network grants is read back, not what was asked for."""
    cell = Cell(attach_s=0.0, active_time="00000101", periodic_tau="00100001")
    with unit(modem(family, cell=cell), FAMILIES[family]) as uart:
        uart.run(setup(uart).power_up())
        uart.run(setup(uart).attach("iot"))
        assert uart.run(status.psm(setup(uart), 7200, 20)) == (3600, 10)
        assert uart.run(status.edrx(setup(uart), b"0101")) == b"0101"


@pytest.mark.parametrize("family", ONE_EACH)
@pytest.mark.parametrize(
    ("sim", "coverage", "code"),
    [
        (Sim(present=False), Coverage.HOME, 225),
        (Sim(pin="1234"), Coverage.HOME, 226),
        (Sim(), Coverage.DENIED, 231),
        (Sim(), Coverage.BARRED, 231),
        (Sim(), Coverage.NONE, 230),
        (Sim(), Coverage.SEARCHING, 230),
    ],
    ids=["no SIM", "PIN", "denied", "barred", "no network", "searching"],
)
def test_no_attach(
    family: str, sim: Sim, coverage: Coverage, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reason why there is no network has its error, in bounded time."""
    hasten(monkeypatch, 20)
    virtual = modem(family, sim=sim, cell=Cell(coverage=coverage, attach_s=0.0))
    with unit(virtual, FAMILIES[family]) as uart:
        uart.run(setup(uart).power_up())
        with pytest.raises(ImprintError) as raised:
            uart.run(setup(uart).attach("iot", None, 20_000))
        assert raised.value.code == code


@pytest.mark.parametrize("family", ONE_EACH)
def test_a_pin(family: str) -> None:
    """The right PIN opens the way."""
    virtual = modem(family)
    with unit(virtual, FAMILIES[family]) as uart:
        uart.run(setup(uart).power_up())
        uart.run(setup(uart).attach("iot"))  # some reset themselves, and would ask again
        virtual.sim.pin = "1234"
        virtual.reboot()
        uart.poll(300)  # take note of the start
        uart.run(setup(uart).power_up())
        assert uart.run(setup(uart).attach("iot", Secret(b"1234"))) == 1
        assert not any("1234" in line for line in virtual.commands if "CPIN" not in line)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_band(family: str) -> None:
    """Held to the band, the modem finds the cell that is there, over a start that it may need and
    with its PIN; it is not told again. With another band there is no network."""
    virtual = modem(family, sim=Sim(pin="1234"), cell=Cell(band=8, attach_s=0.0))
    with unit(virtual, FAMILIES[family]) as uart:
        uart.run(setup(uart).power_up())
        for band in (8, 20, 8):
            uart.dialect.band = band
            talk = setup(uart).attach("iot", Secret(b"1234"), 0 if band == 20 else 20_000)
            if band == 20:
                with pytest.raises(ImprintError) as raised:
                    uart.run(talk)
                assert raised.value.code == 230
                continue
            assert uart.run(talk) == 1
            said = len(virtual.commands)
            assert uart.run(setup(uart).attach("iot")) == 1
            assert not [line for line in virtual.commands[said:] if "CFUN" in line]


@pytest.mark.parametrize("family", ONE_EACH)
def test_a_wrong_key(family: str, echo: DtlsEcho) -> None:
    """The server refuses it: one error, and the modem can be used on."""
    with unit(modem(family, echo.address), FAMILIES[family], SUITES[CBC_SHA256]) as uart:
        online(uart)
        uart.run(setup(uart).attach("iot"))
        uart.run(dialer(uart).provision_psk(TAG, IDENTITY.encode(), Secret(b"another one"), None))
        uart.run(setup(uart).attach("iot"))
        with pytest.raises(ImprintError) as raised:
            DatagramSocket(uart, HOST, PORT, TAG)
        assert raised.value.code == 229
        online(uart)
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        assert answer(sock, b"abc") == b"cba"
        sock.close()


@pytest.mark.parametrize("family", ONE_EACH)
def test_the_server_says_goodbye(family: str, echo: DtlsEcho) -> None:
    """Its alert ends in ENOTCONN at the next use, and a new socket works."""
    with unit(modem(family, echo.address), FAMILIES[family], SUITES[CBC_SHA256]) as uart:
        online(uart)
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        sock.settimeout(0.3)
        sock.send(BYE)
        with pytest.raises((OSError, ImprintError)):  # by a URC, or by the next send
            sock.recvfrom(100)
            sock.send(b"x")
        sock.close()
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        assert answer(sock, b"abc") == b"cba"
        sock.close()


@pytest.mark.parametrize("family", ONE_EACH)
def test_nat_rebinding_is_silent(family: str, echo: DtlsEcho) -> None:
    """No URC, no error, no answer: only a timeout; a new socket works."""
    virtual = modem(family, echo.address)
    with unit(virtual, FAMILIES[family], SUITES[CBC_SHA256]) as uart:
        online(uart)
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        assert answer(sock, b"abc") == b"cba"
        virtual.rebind()
        with pytest.raises(OSError) as raised:
            answer(sock, b"abc", 0.3)
        assert raised.value.errno == errno.ETIMEDOUT
        sock.close()
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        assert answer(sock, b"abc") == b"cba"
        sock.close()


@pytest.mark.parametrize("family", ONE_EACH)
def test_a_bad_line(family: str, echo: DtlsEcho) -> None:
    """Writes in pieces, prompts after a new line, URCs inside of responses: nothing is lost."""
    quirks = Quirks(split_writes=True, newline_before_prompt=True, urc_inside_response=True)
    virtual = modem(family, echo.address, quirks=quirks)
    with unit(virtual, FAMILIES[family], SUITES[CBC_SHA256]) as uart:
        online(uart)
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        for turn in range(5):
            data = bytes((turn,)) * (turn + 1) + b"\r\nOK\r\n"
            assert answer(sock, data) == data[::-1]
        sock.close()


@pytest.mark.parametrize(
    ("family", "quirk"),
    [
        *((family, {"echo_lost": True}) for family in ONE_EACH),
        ("nrf91", {"ca_demanded": True}),
        ("nrf91-slm", {"prints_data_mode_ok": False}),
        ("nrf91-slm", {"prints_data_mode_end": False}),
        ("bg95", {"urc_inside_response": True, "urc_fragment": True}),
        ("bg95", {"slow": {"+QSSLSEND": 0.3, "+QSSLRECV": 0.3}}),
        ("sara-r5", {"wrong_prefix": True}),
        ("sara-r5", {"dns_fails_first": True}),
        ("sara-r5", {"unconnected_urc": True}),
        ("sara-r410", {"gap_s": 0.1}),
    ],
    ids=str,
)
def test_a_misbehaviour(family: str, quirk: dict[str, Any], echo: DtlsEcho) -> None:
    """What a vendor's modem was seen to do wrong, each by itself: there is a session all the
    same, and each datagram is answered."""
    virtual = modem(family, echo.address, quirks=Quirks(**quirk))
    with unit(virtual, FAMILIES[family], SUITES[CBC_SHA256]) as uart:
        uart.dialect.SEND_GAP_MS = 130 if "gap_s" in quirk else 10
        online(uart)
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        for data in (b"one", b"two\r\nOK\r\n", b"three"):
            assert answer(sock, data) == data[::-1]
        sock.close()


@pytest.mark.parametrize(
    ("family", "quirk", "code"),
    [
        ("nrf91", "zero_sent", 223),
        ("bg95", "ccm_8", 223),
        ("gm02s", "late_no_carrier", 229),
        ("sara-r5", "connect_fails_first", 229),
        ("sara-r5", "bare_ok", 222),
        ("sara-r5", "hex_psk_refused", 228),
        ("sara-r5", "ccm_8", 228),
    ],
)
def test_a_misbehaviour_that_is_an_error(
    family: str, quirk: str, code: int, echo: DtlsEcho
) -> None:
    """Those that leave no session say so by an error; once they are gone, the next try works."""
    virtual = modem(family, echo.address)
    setattr(virtual.quirks, quirk, quirk != "ccm_8")
    with unit(
        virtual, FAMILIES[family], SUITES[CCM_8 if quirk == "ccm_8" else CBC_SHA256]
    ) as uart:
        if quirk == "late_no_carrier":
            virtual.routes[:] = []  # nobody there: the dial fails, and says so twice
        with pytest.raises(ImprintError) as raised:
            online(uart)
            sock = DatagramSocket(uart, HOST, PORT, TAG)
            if quirk == "zero_sent":
                virtual.lose_network()
            sock.send(b"x")
        assert raised.value.code == code
        virtual.routes[:] = [Endpoint("coap-*", PORT, echo.address, "udp")]
        setattr(virtual.quirks, quirk, None if quirk == "ccm_8" else False)
        online(uart)
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        assert answer(sock, b"abc") == b"cba"
        sock.close()


@pytest.mark.parametrize(
    "family",
    [*ONE_EACH[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in ONE_EACH[1:])],
)
def test_a_fifth_of_the_datagrams_is_lost(family: str, echo: DtlsEcho) -> None:
    """The handshake repeats itself; what is sent afterwards is the caller's to repeat."""
    weather = Weather(loss=0.2, duplicate=0.1, reorder=0.1)
    virtual = modem(family, echo.address, weather=weather, seed=7)
    with unit(virtual, FAMILIES[family], SUITES[CBC_SHA256]) as uart:
        online(uart)
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        sock.settimeout(0.2)
        for turn in range(20):
            data = b"turn %d" % turn
            sock.send(data)
            try:
                while sock.recv(100) != data[::-1]:
                    pass  # the answer to an earlier one, overtaken
            except OSError:
                continue
            break
        else:
            pytest.fail("nothing came back")
        sock.close()


@pytest.mark.parametrize("family", ONE_EACH[:4])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_a_reboot_at_each_command(family: str, after: bool, step: int, echo: DtlsEcho) -> None:
    """A modem that boots in mid-command, at any command of a session, ends in an error at once
    or in success, and the next try comes online. The key it keeps is not written again."""
    virtual = modem(family, echo.address)
    with unit(virtual, FAMILIES[family], SUITES[CBC_SHA256]) as uart:
        marker = session(uart, None)
        count = len(virtual.commands)
        for number in range(1, count + 1, step):
            virtual.order_reboot(number, after=after)
            for _ in range(3):
                try:
                    marker = session(uart, marker)
                except (ImprintError, OSError):
                    continue
                break
            else:
                pytest.fail(f"not online after a reboot at command {number}")
        writes = [line for line in virtual.commands if line.startswith("AT%CMNG=0")]
        assert family != "nrf91" or len(writes) <= 6


def session(uart: ModemUart, marker: str | None) -> str | None:
    marker = online(uart, marker)
    sock = DatagramSocket(uart, HOST, PORT, TAG)
    try:
        assert answer(sock, b"abc", 1.0) == b"cba"
    finally:
        sock.close()
    return marker


def test_udp_only() -> None:
    """A modem without DTLS carries plain datagrams, and says that it has no more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        route = Endpoint("192.0.2.7", 5683, server.getsockname(), "udp")
        with unit(Modem("udp", routes=[route], boot_s=0, cell=Cell(attach_s=0)), "udp") as uart:
            uart.run(setup(uart).power_up())
            uart.run(setup(uart).attach("iot"))
            sock = DatagramSocket(uart, "192.0.2.7", 5683, None)
            sock.send(DATAGRAM)
            data, peer = server.recvfrom(1500)
            assert data == DATAGRAM
            server.sendto(DATAGRAM[::-1], peer)
            sock.settimeout(5)
            assert sock.recv(1500) == DATAGRAM[::-1]
            sock.close()
            with pytest.raises(ImprintError):
                DatagramSocket(uart, "192.0.2.7", 5683, TAG)


@pytest.mark.parametrize("family", ["nrf91", "bg95", "gm02s", "sara-r5"])
def test_plain_udp(family: str) -> None:
    """The families with DTLS do without it, too."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        with unit(modem(family, server.getsockname()), FAMILIES[family]) as uart:
            uart.run(setup(uart).power_up())
            uart.run(setup(uart).attach("iot"))
            sock = DatagramSocket(uart, HOST, PORT, None)
            sock.send(DATAGRAM)
            data, peer = server.recvfrom(1500)
            assert data == DATAGRAM
            server.sendto(data[::-1], peer)
            sock.settimeout(5)
            assert sock.recv(1500) == DATAGRAM[::-1]
            sock.close()


def test_a_session_stays_over_power_saving(echo: DtlsEcho) -> None:
    """An nRF91 sleeps and goes on in the same session."""
    cell = Cell(attach_s=0.0, idle_after_s=0.05, active_time="00000000")
    virtual = modem("nrf91", echo.address, cell=cell)
    with unit(virtual, "nrf91") as uart:
        online(uart)
        uart.run(status.psm(setup(uart), 3600, 2))
        sock = DatagramSocket(uart, HOST, PORT, TAG)
        assert answer(sock, b"abc") == b"cba"
        deadline = time.monotonic() + 5
        while not virtual.facts()["asleep"] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert virtual.facts()["asleep"]
        assert answer(sock, b"abc") == b"cba"
        assert len(echo.peers) == 1
        sock.close()
