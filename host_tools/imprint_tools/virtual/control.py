"""A running board or modem and other processes: its lock; a JSON line each way on a socket."""

from __future__ import annotations

import asyncio
import fcntl
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

from imprint_tools import unixsocket
from imprint_tools.errors import BenchStateError

SOCKET_NAME = "control.sock"
_ANSWER_S = 30.0
_LINE_LIMIT = 64 * 1024
_LOOK_AGAIN_S = 0.02

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


async def serve(folder: Path, handler: Handler) -> asyncio.Server:
    """Answer requests with what `handler` returns; an expected failure becomes its text."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await asyncio.wait_for(reader.readline(), _ANSWER_S))
            answer = await handler(request)
        except (BenchStateError, ValueError, KeyError, TypeError) as error:
            answer = {"error": f"{error}"}
        except (OSError, TimeoutError):
            answer = {}
        line = json.dumps(answer).encode() + b"\n"
        try:
            writer.write(line)
            await writer.drain()
        except OSError:
            pass  # the client did not wait
        finally:
            writer.close()

    return await asyncio.start_server(
        client, sock=unixsocket.listen(folder / SOCKET_NAME), limit=_LINE_LIMIT
    )


def request(folder: Path, do: str, *, kind: str = "board", **arguments: Any) -> dict[str, Any]:
    """Ask what is in `folder`. Raises BenchStateError when it is not up or refuses."""
    try:
        with unixsocket.connect(folder / SOCKET_NAME, _ANSWER_S) as line:
            line.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            with line.makefile("rb") as answers:
                text = answers.readline(_LINE_LIMIT)
    except TimeoutError:
        raise BenchStateError(f"the {kind} {folder.name} does not answer") from None
    except OSError:
        text = b""
    if not text:
        raise BenchStateError(
            f"the {kind} {folder.name} is not up",
            next_step=f"start it: imprint {kind} up {folder.name}"
            + (" --family FAMILY" if kind == "modem" else ""),
        )
    answer: dict[str, Any] = json.loads(text)
    if "error" in answer:
        raise BenchStateError(f"the {kind} {folder.name} refused: {answer['error']}")
    return answer


def lock(folder: Path, *, kind: str = "board", wait_s: float = 0.0) -> IO[bytes]:
    """Hold what is in `folder` until the result is closed. Raises BenchStateError: it is up."""
    deadline = time.monotonic() + wait_s
    held = (folder / "lock").open("ab")
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
        except BlockingIOError:
            if time.monotonic() >= deadline:
                held.close()
                raise BenchStateError(
                    f"the {kind} {folder.name} is up already",
                    next_step=f"use it, or stop it: imprint {kind} down {folder.name}",
                ) from None
        time.sleep(_LOOK_AGAIN_S)
