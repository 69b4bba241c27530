"""HTTPS on loopback: whole requests to one function, its answers, an end in good order."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import pki
from imprint_tools.localcloud.loop import LoopThread
from imprint_tools.localcloud.rest import Handle, HttpReply, HttpRequest, RestServer

WAIT_S = 10.0
BODY_MAX = 1000


def echo(request: HttpRequest) -> HttpReply:
    said = f"{request.method} {request.path} {request.query} {request.headers['x-more']}|"
    return HttpReply(200, said.encode() + request.body, {"x-back": "yes"})


@contextmanager
def served(folder: Path, handle: Handle) -> Iterator[httpx.Client]:
    """A client of that function; its trust is the server's own authority."""
    files = pki.provide(folder, ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    runner = LoopThread("rest", pytest.fail)
    try:
        server = runner.call(lambda: RestServer(handle, context, body_max=BODY_MAX))
        port = runner.run(server.open())
        trust = ssl.create_default_context(cafile=str(files.root_ca))
        base = f"https://localhost:{port}"
        try:
            with httpx.Client(base_url=base, verify=trust, timeout=WAIT_S) as client:
                yield client
        finally:
            runner.run(server.close())
    finally:
        runner.stop()


def test_a_request_comes_whole_and_its_answer_goes_back(tmp_path: Path) -> None:
    """Query in its order, headers in lower case, the body as it was sent."""
    with served(tmp_path, echo) as client:
        answer = client.post("/a/b%20c?z=1&a=2&a=3", content=b"\x00\xff", headers={"X-More": "m"})
        assert answer.status_code == 200 and answer.headers["x-back"] == "yes"
        expected = b"POST /a/b c (('z', '1'), ('a', '2'), ('a', '3')) m|\x00\xff"
        assert answer.content == expected


def test_a_body_has_a_limit(tmp_path: Path) -> None:
    """At the limit it is taken; beyond it comes 413, and the server goes on."""
    with served(tmp_path, echo) as client:
        headers = {"x-more": ""}
        assert client.post("/", content=b"x" * BODY_MAX, headers=headers).status_code == 200
        assert client.post("/", content=b"x" * (BODY_MAX + 1), headers=headers).status_code == 413
        assert client.get("/", headers=headers).status_code == 200


def test_a_bug_is_answered_and_told_at_the_end(tmp_path: Path) -> None:
    """500, and close() raises what it was."""

    def buggy(_: HttpRequest) -> HttpReply:
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"), served(tmp_path, buggy) as client:
        assert client.get("/").status_code == 500


def test_a_request_may_never_be_answered(tmp_path: Path) -> None:
    """The client gives up; others are served meanwhile."""
    asked = threading.Event()

    def silent(request: HttpRequest) -> HttpReply | None:
        asked.set()
        return None if request.path == "/silent" else HttpReply(204)

    with served(tmp_path, silent) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get("/silent", timeout=0.2)
        assert asked.is_set()
        assert client.get("/").status_code == 204


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
        b"POST / HT",
        b"",
    ],
)
def test_a_client_may_leave_in_mid_request(tmp_path: Path, data: bytes) -> None:
    """In mid-body, in mid-line, in mid-handshake; others are served."""
    with served(tmp_path, echo) as client:
        address = ("localhost", client.base_url.port or 0)
        trust = ssl.create_default_context(cafile=str(tmp_path / "root_ca.pem"))
        with socket.create_connection(address, WAIT_S) as plain:
            if data:
                with trust.wrap_socket(plain, server_hostname="localhost") as secure:
                    secure.sendall(data)
            else:
                plain.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert client.get("/", headers={"x-more": ""}).status_code == 200


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    """Not a traceback."""
    with served(tmp_path, echo) as client:
        port = client.base_url.port
        files = pki.provide(tmp_path, ["localhost"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.chain, files.key)
        runner = LoopThread("second", pytest.fail)
        try:
            second = runner.call(lambda: RestServer(echo, context, body_max=1))
            with pytest.raises(BenchStateError, match=f"TCP port {port}"):
                runner.run(second.open(port or 0))
        finally:
            runner.stop()


def test_a_client_that_does_not_know_the_authority_refuses_it(tmp_path: Path) -> None:
    """The certificate is really looked at."""
    with served(tmp_path, echo) as client, pytest.raises(httpx.ConnectError):
        httpx.get(f"https://localhost:{client.base_url.port}/", timeout=WAIT_S)
