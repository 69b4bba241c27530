"""MicroPython's .bin: from a file, or downloaded as a board's TOML names it.

The hash decides, so a file in the cache is as good as a new one, and one that does not match is
never kept. https only; plain http is for a server on this very machine (tests, a bench's mirror).
"""

from __future__ import annotations

import hashlib
import http.client
import io
import ipaddress
import os
import tempfile
import time
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from imprint_tools import image
from imprint_tools.boards import Board
from imprint_tools.errors import FetchError, FirmwareFileError
from imprint_tools.paths import cache_dir

BYTES_MAX = 16 << 20  # the largest flash that MicroPython's builds are for
_CHUNK = 64 << 10
_WAIT_S = 20  # for a connection, or for the next bytes of one


def micropython(board: Board, file: Path | None = None, *, virtual: bool = False) -> bytes:
    """MicroPython's merged .bin for `board`, unchecked: `file`, or what the board's TOML names.

    `virtual` makes the one that a virtual board wants to see. Raises FirmwareFileError when none
    is named, FetchError.
    """
    if virtual:
        return image.virtual_firmware(board)
    if file is None:
        if board.firmware is None:
            raise FirmwareFileError(
                f"the board {board.name} names no MicroPython to fetch",
                next_step="Download its .bin from micropython.org and give it with --firmware; "
                "for a virtual board: --virtual.",
            )
        file = fetch(board.firmware.url, board.firmware.sha256)
    try:
        with file.open("rb") as opened:
            data = opened.read(BYTES_MAX + 1)
    except OSError as error:
        raise FirmwareFileError(f"{file}: {error.strerror}") from None
    if len(data) > BYTES_MAX:
        raise FirmwareFileError(f"{file} is larger than {BYTES_MAX} bytes")
    return data


def fetch(
    url: str,
    sha256: str,
    *,
    cache: Path | None = None,
    bytes_max: int = BYTES_MAX,
    timeout_s: float = 300,
) -> Path:
    """The file at `url` with that SHA-256 (hex), from the cache or the network.

    Raises FetchError (unreachable, too large, too slow, not https) and FirmwareFileError (another
    hash than the named one; nothing is kept).
    """
    folder = cache or cache_dir() / "downloads"
    path = folder / sha256.lower()
    if path.is_file() and _hash(path) == sha256.lower():
        return path
    _require_safe(url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-", delete=False) as part:
            try:
                found = _download(url, part, bytes_max, time.monotonic() + timeout_s)
                part.flush()
                os.fsync(part.fileno())
                if found != sha256.lower():
                    raise FirmwareFileError(
                        f"{url} has SHA-256 {found}, and {sha256.lower()} was expected",
                        next_step="Do not use it. Compare the hash with the one its maker "
                        "publishes, or give the right file with --firmware.",
                    )
                Path(part.name).replace(path)
            finally:
                Path(part.name).unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise FetchError(
            f"{url}: {reason}", next_step="Check the network, or give the file with --firmware."
        ) from None
    return path


def get(url: str, *, bytes_max: int, timeout_s: float = 60) -> bytes:
    """What is at `url` now, for one who has a way of his own to judge it. Raises FetchError."""
    _require_safe(url)
    got = io.BytesIO()
    try:
        _download(url, got, bytes_max, time.monotonic() + timeout_s)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is also the answer, with a socket in it
        reason = getattr(error, "reason", None) or error
        raise FetchError(f"{url}: {reason}") from None
    return got.getvalue()


def _download(url: str, to: IO[bytes], bytes_max: int, deadline: float) -> str:
    digest, size = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "imprint"})  # noqa: S310 checked
    with _opener(url).open(request, timeout=_WAIT_S) as answer:
        while chunk := answer.read1(_CHUNK):
            size += len(chunk)
            if size > bytes_max:
                raise FetchError(f"{url} is larger than {bytes_max} bytes")
            if time.monotonic() > deadline:
                raise FetchError(f"{url} came too slowly: {size} bytes when the time was up")
            digest.update(chunk)
            to.write(chunk)
        if answer.length:  # http.client reports a connection cut short only to a plain read()
            raise FetchError(f"{url} broke off {answer.length} bytes before its end")
    return digest.hexdigest()


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is held to the same rule as the first address."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _require_safe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_SafeRedirects()]
    if _is_loopback(urlsplit(url).hostname):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _require_safe(url: str) -> None:
    try:
        parts = urlsplit(url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    except ValueError:
        safe = False
    if not safe:
        raise FetchError(
            f"{url}: only https is fetched (http from this machine alone)",
            next_step="Name an https address in the board's TOML.",
        )


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
