"""The virtual access point: joining, names, relays, time, and what goes wrong with each."""

from __future__ import annotations

import datetime
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from imprint_tools.virtual.network import AccessPoint, Route, sntp_answer
from virtual_chip import PASSWORD, SSID, Raised, VirtualChip

CLOUD = "device.cloud.example"
JOIN = f"""
import network, time
w = network.WLAN(network.STA_IF)
def wait(done, status=None):
    end = time.ticks_add(time.ticks_ms(), 5000)
    while not done():
        assert time.ticks_diff(end, time.ticks_ms()) > 0, w.status()
        time.sleep_ms(10)
def join(ssid={SSID!r}, key={PASSWORD!r}):
    w.active(True)
    w.connect(ssid, key)
    wait(lambda: w.status() != network.STAT_CONNECTING)
    print(w.status(), w.isconnected())
"""
CONNECT = f"""
import socket
def connect(port=1000):
    s = socket.socket()
    s.settimeout(5)
    s.connect(socket.getaddrinfo({CLOUD!r}, port)[0][-1])
    return s
"""


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(4096):
                self.request.sendall(data)
        except ConnectionResetError:
            pass  # what a cut looks like from the cloud


class EchoDatagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data[::-1], self.client_address)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[tuple[str, int]]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address  # type: ignore[misc]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class ThreadingEcho(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = True


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    with serving(ThreadingEcho(("127.0.0.1", 0), Echo)) as address:
        yield address


@pytest.fixture
def events() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def access_point(echo: tuple[str, int], events: list[dict[str, Any]]) -> AccessPoint:
    return AccessPoint(
        SSID, PASSWORD, [Route("*.cloud.example", 1000, echo)], on_event=events.append
    )


@pytest.fixture
def chip(tmp_path: Path, access_point: AccessPoint) -> Iterator[VirtualChip]:
    with VirtualChip(tmp_path, {}, access_point=access_point) as chip:
        chip.start()
        chip.execute(JOIN + CONNECT)
        yield chip


# Joining


def test_join_and_leave(chip: VirtualChip) -> None:
    """The right password gets an address; disconnect gives it back."""
    assert chip.execute("print(w.active(), w.status(), w.ifconfig()[0])") == "False 1000 0.0.0.0"
    assert chip.execute("join()\nprint(w.ifconfig())\nprint(w.ipconfig('addr4'))") == (
        "1010 True\n"
        "('192.168.4.2', '255.255.255.0', '192.168.4.1', '192.168.4.1')\n"
        "('192.168.4.2', '255.255.255.0')"
    )
    assert chip.execute("print(w.config('ssid'), w.config('reconnects'), w.scan()[0][0])") == (
        f"{SSID} 0 b'{SSID}'"
    )
    assert chip.execute("w.disconnect()\nprint(w.status(), w.isconnected())") == "1000 False"


def test_wrong_password_and_unknown_network(chip: VirtualChip) -> None:
    """Each has its own status, and never the address."""
    assert chip.execute("join(key='wrong')") == "202 False"
    assert chip.execute("w.disconnect()\njoin('elsewhere')") == "201 False"
    assert chip.execute("w.disconnect()\njoin()") == "1010 True"


def test_misuse_is_refused_as_by_the_driver(chip: VirtualChip) -> None:
    """connect needs an active radio, and not one that is just connecting."""
    with pytest.raises(Raised, match="OSError: Wifi Not Started"):
        chip.execute(f"w.connect({SSID!r}, 'x')")
    with pytest.raises(Raised, match="OSError: Wifi Internal State Error"):
        chip.execute("w.active(True)\nw.connect('a', 'b')\nw.connect('a', 'b')")
    with pytest.raises(Raised, match="ValueError"):
        chip.execute("w.config('nonsense')")


def test_loss_and_return_of_the_link(chip: VirtualChip, access_point: AccessPoint) -> None:
    """When the access point goes the station says so, and joins again by itself."""
    chip.execute("join()")
    access_point.set_up(False)
    assert chip.execute("print(w.status() in (200, 201), w.isconnected())") == "True False"
    with pytest.raises(Raised, match="OSError: -2"):
        chip.execute("connect()")
    access_point.set_up(True)
    assert chip.execute("wait(w.isconnected)\nconnect().close()\nprint('back')") == "back"


def test_a_soft_reset_keeps_the_link_and_a_reset_does_not(chip: VirtualChip) -> None:
    """As on the chip, whose radio only a real reset switches off."""
    chip.execute("join()")
    chip.feed(b"\x02\x04")
    chip.expect(b"soft reboot")
    assert chip.execute(JOIN + "print(w.isconnected())") == "True"
    chip.feed(b"\x02import machine; machine.reset()\r")
    chip.expect(b">>> ")
    chip.expect(b"MicroPython")
    assert chip.execute(JOIN + "print(w.active(), w.isconnected())") == "False False"


# Names and relays


def test_names_lead_only_where_routes_say(chip: VirtualChip) -> None:
    """No route, another port, or no link: the name does not exist; nor does any of the host's."""
    for lookup in (f"({CLOUD!r}, 1000)", "('localhost', 1000)"):
        with pytest.raises(Raised, match="OSError: -2"):
            chip.execute(f"socket.getaddrinfo{lookup}")
        chip.execute("w.isconnected() or join()")
        if "localhost" not in lookup:
            chip.execute(f"socket.getaddrinfo{lookup}")
    for lookup in (f"({CLOUD!r}, 1001)", "('localhost', 22)", "('127.0.0.1', 22)"):
        with pytest.raises(Raised, match="OSError: -2"):
            chip.execute(f"import usocket; usocket.getaddrinfo{lookup}")


def test_bytes_are_relayed_and_counted(
    chip: VirtualChip, access_point: AccessPoint, events: list[dict[str, Any]]
) -> None:
    """A connection is recorded with its name, its bytes each way, and its events."""
    chip.execute("join()\ns = connect()")
    echoed = chip.execute("s.write(b'x' * 5000)\nprint(s.read(5000) == b'x' * 5000)\ns.close()")
    assert echoed == "True"
    chip.execute("connect().close()")  # once more, so that the first one is over
    first = access_point.connections[0]
    assert (first.host, first.port, first.up, first.down) == (CLOUD, 1000, 5000, 5000)
    assert (access_point.bytes_up, access_point.bytes_down) == (5000, 5000)
    names = [event["event"] for event in events]
    assert names[:3] == ["join", "lookup", "open"]
    assert {"event", "t", "host", "port", "proto"} == set(events[2])


def test_cut_resets_connections(chip: VirtualChip, access_point: AccessPoint) -> None:
    """A cut is an error for the program that reads; a new connection works."""
    chip.execute("join()\ns = connect()\ns.write(b'x')\ns.read(1)")
    access_point.cut()
    with pytest.raises(Raised, match="ECONNRESET"):
        chip.execute("s.read(1)")
    assert chip.execute("s = connect()\ns.write(b'y')\nprint(s.read(1))") == "b'y'"


def test_a_cloud_may_come_back_elsewhere(tmp_path: Path, echo: tuple[str, int]) -> None:
    """Where a name leads is looked up at each connection, not at the first."""
    routes = [Route(CLOUD, 1000, ("127.0.0.1", _closed_port()))]
    access_point = AccessPoint(SSID, PASSWORD, [], look_up=lambda: routes)
    with VirtualChip(tmp_path, {}, access_point=access_point) as chip:
        chip.start()
        chip.execute(JOIN + CONNECT + "join()")
        with pytest.raises(Raised, match="ECONNRESET"):
            chip.execute("connect().read(1)")
        routes[:] = [Route(CLOUD, 1000, echo)]
        assert chip.execute("s = connect()\ns.write(b'y')\nprint(s.read(1))") == "b'y'"


def test_a_route_can_be_slow_and_can_break(tmp_path: Path, echo: tuple[str, int]) -> None:
    """latency_ms delays each way; drop_after_bytes resets the connection."""
    routes = [
        Route(CLOUD, 1000, echo, latency_ms=60),
        Route(CLOUD, 1001, echo, drop_after_bytes=100),
        Route(CLOUD, 1002, ("127.0.0.1", _closed_port())),
    ]
    with VirtualChip(tmp_path, {}, access_point=AccessPoint(SSID, PASSWORD, routes)) as chip:
        chip.start()
        chip.execute(JOIN + CONNECT + "join()")
        assert (
            chip.execute(
                "s = connect()\nt = time.ticks_ms()\ns.write(b'x')\ns.read(1)\n"
                "print(time.ticks_diff(time.ticks_ms(), t) >= 110)"
            )
            == "True"
        )
        with pytest.raises(Raised, match="ECONNRESET"):
            chip.execute("s = connect(1001)\ns.write(b'x' * 200)\ns.read(200)")
        with pytest.raises(Raised, match="ECONNRESET"):
            chip.execute("connect(1002).read(1)")


def test_datagrams_are_relayed(tmp_path: Path) -> None:
    """UDP goes to its route and the answer comes back to the same socket."""
    with serving(socketserver.UDPServer(("127.0.0.1", 0), EchoDatagram)) as address:
        access_point = AccessPoint(
            SSID, PASSWORD, [Route(CLOUD, 5683, address, "udp"), Route(CLOUD, 5683, address)]
        )
        with VirtualChip(tmp_path, {}, access_point=access_point) as chip:
            chip.start()
            assert (
                chip.execute(
                    JOIN + "import socket\njoin()\n"
                    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(5)\n"
                    f"s.connect(socket.getaddrinfo({CLOUD!r}, 5683)[0][-1])\n"
                    "s.write(b'abc')\nprint(s.recv(9))"
                )
                == "1010 True\nb'cba'"
            )
        record = access_point.connections[0]
        assert (record.proto, record.up, record.down) == ("udp", 3, 3)


def _closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# Time


def test_ntptime_sets_the_clock(chip: VirtualChip) -> None:
    """SNTP through the access point gives the host's time, from whatever host is named."""
    year = datetime.datetime.now(datetime.UTC).year
    assert (
        chip.execute(
            "import ntptime\njoin()\nprint(time.gmtime()[0])\n"
            "ntptime.host = 'ntp.example'\nntptime.settime()\nprint(time.gmtime()[0])"
        )
        == f"1010 True\n2000\n{year}"
    )


def test_a_bench_without_time(tmp_path: Path) -> None:
    """With ntp off there is no time server to be found."""
    with VirtualChip(
        tmp_path, {}, access_point=AccessPoint(SSID, PASSWORD, [], ntp=False)
    ) as chip:
        chip.start()
        with pytest.raises(Raised, match="OSError: -2"):
            chip.execute(JOIN + "import ntptime\njoin()\nntptime.settime()")


def test_sntp_on_the_wire() -> None:
    """RFC 4330: server mode, the client's time echoed, the time as 32.32 since 1900."""
    request = bytes([0x1B]) + bytes(39) + b"original"
    answer = sntp_answer(request, 0.5)
    assert answer[0] == 0x1C
    assert answer[24:32] == b"original"
    assert struct.unpack("!II", answer[40:]) == (2208988800, 1 << 31)
    assert sntp_answer(request[:47], 0.5) == b""
    assert sntp_answer(b"\x1c" + request[1:], 0.5) == b""


def test_certificate_dates_follow_the_chips_clock(tmp_path: Path) -> None:
    """TLS with CERT_REQUIRED fails at 2000-01-01 and passes once the clock is set."""
    ca, context = _tls_server(tmp_path)
    with serving(_TlsEcho(context)) as address:
        access_point = AccessPoint(SSID, PASSWORD, [Route(CLOUD, 8883, address)])
        with VirtualChip(tmp_path, {}, access_point=access_point) as chip:
            chip.start()
            chip.execute(
                JOIN + CONNECT + "import tls, ssl, ntptime\njoin()\n"
                "c = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)\n"
                "c.verify_mode = ssl.CERT_REQUIRED\n"
                f"c.load_verify_locations(bytes.fromhex({ca.hex()!r}))\n"
                "def secure(name):\n"
                "    s = c.wrap_socket(connect(8883), server_hostname=name)\n"
                "    s.write(b'ping')\n"
                "    return s.read(4)\n"
            )
            with pytest.raises(Raised, match=r"(?i)validity starts in the future"):
                chip.execute(f"secure({CLOUD!r})")
            assert chip.execute(f"ntptime.settime()\nprint(secure({CLOUD!r}))") == "b'ping'"
            with pytest.raises(Raised, match=r"(?i)common name"):
                chip.execute("secure('other.example')")


def test_umqtt_is_there_as_if_frozen(chip: VirtualChip) -> None:
    """umqtt.simple connects through the access point, by its own old module names."""
    with pytest.raises(Raised, match="OSError: -2"):
        chip.execute(
            "from umqtt.simple import MQTTClient\nMQTTClient('id', 'no.example').connect()"
        )


class _TlsEcho(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self._context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except (ssl.SSLError, ConnectionError):
            pass  # the chip has refused the certificate


def _tls_server(folder: Path) -> tuple[bytes, ssl.SSLContext]:
    """A CA (DER) and a server's context for CLOUD, valid from yesterday on."""
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
    key = ec.generate_private_key(ec.SECP256R1())
    ca = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CLOUD)]))
        .issuer_name(name)
        .public_key(server_key.public_key())
        .serial_number(2)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(CLOUD)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    chain = folder / "server.pem"
    chain.write_bytes(
        server.public_bytes(pem)
        + server_key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return ca.public_bytes(serialization.Encoding.DER), context
