"""The firmware's own DTLS socket (CPython, Mbed TLS) against a PSK server of DTLS."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from dtls_echo import BYE, DtlsEcho
from imprint.errors import WeatherError
from imprint.net import dtls
from imprint.net.coap_client import Client
from imprint.secret import Secret
from imprint.wire.coap.codes import GET
from imprint.wire.coap.params import Parameters

pytestmark = pytest.mark.interop

KEY = b"0123456789abcdef"


@pytest.fixture
def server() -> Iterator[DtlsEcho]:
    with DtlsEcho({"unit7": KEY}) as echo:
        yield echo


def opened(server: DtlsEcho, key: bytes = KEY) -> dtls.DatagramSocket:
    return dtls.DatagramSocket(*server.address, b"unit7", Secret(key))


def test_a_session(server: DtlsEcho) -> None:
    """A handshake, datagrams both ways with their borders kept, and one that came unasked."""
    assert dtls.offered()
    sock = opened(server)
    sock.settimeout(5)
    for data in (b"hello", b"x" * sock.payload_max):
        assert sock.sendto(data, server.address) == len(data)
        assert sock.recvfrom(2000) == (data[::-1], server.address)
    server.say(b"unasked")
    assert sock.recv(3) == b"una"
    sock.close()
    assert len(server.peers) == 1


def test_a_wrong_key(server: DtlsEcho) -> None:
    """Error 313, or 302 where the server says nothing; and no key in it."""
    sock = opened(server, b"not the same key")
    with pytest.raises(WeatherError) as caught:
        sock.sendto(b"hello")
    assert caught.value.code in (302, 313)
    assert "not the same" not in repr(caught.value) + str(caught.value.detail)
    sock.close()


def test_the_server_ends_it(server: DtlsEcho) -> None:
    """close_notify makes the socket useless, at once."""
    sock = opened(server)
    sock.settimeout(5)
    sock.sendto(BYE)
    with pytest.raises(OSError, match="ENOTCONN"):
        sock.recvfrom(100)
    sock.close()


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Error 301, and no socket is left open."""

    def nobody(*_arguments: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(WeatherError) as caught:
        dtls.DatagramSocket("coap.example.com", 5684, b"unit7", Secret(KEY))
    assert caught.value.code == 301


def test_coap_over_it(server: DtlsEcho) -> None:
    """Our CoAP client takes it as it takes the modem's; an echo is no answer to it."""
    client = Client(opened(server), None, Parameters(), os.urandom)
    with pytest.raises(WeatherError) as caught:
        client.request(GET, ["oven"], timeout_ms=300)
    assert caught.value.code == 330
    assert client.exchange.malformed >= 1
    client.close()
