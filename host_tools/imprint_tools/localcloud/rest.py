"""HTTPS on loopback for a local cloud: uvicorn and Starlette in the loop of all its other ports.

Everything runs in that loop, and a handler must not block. A bug in a handler is answered with
500 and raised by `close()`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from imprint_tools.errors import BenchStateError

_METHODS = ["DELETE", "GET", "PATCH", "POST", "PUT"]
_POLL_S = 0.01
_CLOSE_S = 2


@dataclass(frozen=True)
class HttpRequest:
    """One request, whole. `query` in the order in which it came; header names in lower case."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class HttpReply:
    """An answer; its `headers` may name the content's type."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Handle = Callable[[HttpRequest], HttpReply | None]
"""None: the request is never answered."""


class HttpsServer:
    """One HTTPS port, whose requests go to one function. `body_max` in bytes: more gets 413."""

    def __init__(self, handle: Handle, context: ssl.SSLContext, *, body_max: int) -> None:
        self._handle = handle
        self._body_max = body_max
        self._bugs: list[Exception] = []
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=_METHODS)])
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_CLOSE_S,
        )
        config.load()
        config.ssl = context
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    async def open(self, port: int = 0) -> int:
        """Listen on loopback; returns the port, for 0 a free one. Raises BenchStateError."""
        try:
            listener = socket.create_server(("127.0.0.1", port), backlog=128)
        except OSError as error:
            raise BenchStateError(
                f"TCP port {port} cannot be had: {error.strerror}",
                next_step="end what listens there, or let the cloud choose: port 0",
            ) from None
        bound = int(listener.getsockname()[1])
        self._task = asyncio.create_task(self._server.serve([listener]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(_POLL_S)
        if self._task.done():
            self._task.result()
        return bound

    async def close(self) -> None:
        """End every connection and the port. Raises the first bug that a handler had."""
        task, self._task = self._task, None
        if task is not None:
            self._server.should_exit = True
            await task
        if self._bugs:
            raise self._bugs.pop(0)

    async def _answer(self, request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._body_max:
                return Response(status_code=413, headers={"connection": "close"})
        asked = HttpRequest(
            request.method,
            request.url.path,
            tuple(request.query_params.multi_items()),
            dict(request.headers),
            bytes(body),
        )
        try:
            reply = self._handle(asked)
        except Exception as bug:
            self._bugs.append(bug)
            reply = HttpReply(500)
        if reply is None:
            await _gone(request)
            reply = HttpReply(503)
        return Response(reply.body, reply.status, dict(reply.headers))


async def _gone(request: Request) -> None:
    """Wait until the client has gone."""
    try:
        while (await request.receive())["type"] != "http.disconnect":
            pass
    except ClientDisconnect:
        pass
