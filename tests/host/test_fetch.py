"""Downloads by hash: from a server on loopback, whole or not at all."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from imprint_tools import boards
from imprint_tools.boards import FirmwareSource
from imprint_tools.errors import FetchError, FirmwareFileError
from imprint_tools.fetch import fetch, micropython

BODY = b"MicroPython" * 30_000
HASH = hashlib.sha256(BODY).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://example.org/file")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.send_response(200)
            length = len(BODY) + (9 if self.path == "/cut" else 0)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(BODY)
            self.close_connection = self.path == "/cut"

    def log_message(self, *_args: object) -> None:
        """The test says what matters."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server's address and the paths that were asked of it."""
    handler = type("Handler", (_Handler,), {"requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", handler.requests
        httpd.shutdown()
        thread.join()


def test_a_file_is_fetched_once(server: tuple[str, list[str]], tmp_path: Path) -> None:
    """The second time it comes from the cache, even under another address."""
    url, requests = server
    path = fetch(url + "/file", HASH.upper(), cache=tmp_path)
    assert path.read_bytes() == BODY
    assert fetch(url + "/other", HASH, cache=tmp_path) == path
    assert requests == ["/file"]


def test_a_damaged_cache_is_fetched_anew(server: tuple[str, list[str]], tmp_path: Path) -> None:
    """The hash decides, not the name."""
    (tmp_path / HASH).write_bytes(b"rot")
    assert fetch(server[0] + "/file", HASH, cache=tmp_path).read_bytes() == BODY


def test_another_hash_is_refused(server: tuple[str, list[str]], tmp_path: Path) -> None:
    """A file that is not the named one is not kept, and the message shows both hashes."""
    with pytest.raises(FirmwareFileError, match=f"{HASH}.*{'0' * 64}"):
        fetch(server[0] + "/file", "0" * 64, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/missing", "Not Found"),
        ("/cut", "broke off"),
        ("/away", "only https"),
    ],
)
def test_a_download_that_fails(
    server: tuple[str, list[str]], tmp_path: Path, path: str, words: str
) -> None:
    """The network's failure is a FetchError and leaves nothing behind."""
    with pytest.raises(FetchError, match=words):
        fetch(server[0] + path, HASH, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bounds(server: tuple[str, list[str]], tmp_path: Path) -> None:
    """A file is neither larger nor slower than allowed."""
    with pytest.raises(FetchError, match="larger than 1000 bytes"):
        fetch(server[0] + "/file", HASH, cache=tmp_path, bytes_max=1000)
    with pytest.raises(FetchError, match="too slowly"):
        fetch(server[0] + "/file", HASH, cache=tmp_path, timeout_s=-1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://[x", "x"]
)
def test_only_https_or_this_machine(url: str, tmp_path: Path) -> None:
    """Nothing is asked of an address that could be changed on the way."""
    with pytest.raises(FetchError, match="only https"):
        fetch(url, HASH, cache=tmp_path)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """Nobody listens: an error with the reason and the way round."""
    with socket.socket() as bound:  # and never listening
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(FetchError, match="refused") as caught:
            fetch(f"http://127.0.0.1:{bound.getsockname()[1]}/x", HASH, cache=tmp_path)
    assert "--firmware" in caught.value.next_step


def test_the_binary_that_a_board_names(
    server: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By URL and hash from the board's TOML; a file that is given goes before it."""
    monkeypatch.setenv("IMPRINT_CACHE", str(tmp_path / "cache"))
    plain = boards.load("esp32-generic")
    named = replace(plain, firmware=FirmwareSource("1.25.0", server[0] + "/file", HASH))
    assert micropython(named) == BODY
    given = tmp_path / "given.bin"
    given.write_bytes(b"given")
    assert micropython(named, given) == b"given"
    wrong = replace(plain, firmware=FirmwareSource("1.25.0", server[0] + "/file", "0" * 64))
    with pytest.raises(FirmwareFileError, match="was expected"):
        micropython(wrong)
    with pytest.raises(FirmwareFileError, match="names no MicroPython") as caught:
        micropython(replace(plain, firmware=None))
    assert "--firmware" in caught.value.next_step
    with pytest.raises(FirmwareFileError, match="No such file"):
        micropython(plain, tmp_path / "absent.bin")
