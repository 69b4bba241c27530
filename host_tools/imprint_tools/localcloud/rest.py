"""A local cloud's REST API without I/O: whole requests to one function, its answers back.

The function runs in the cloud's loop and must not block. A bug in it is answered with 500 and
raised by `close()`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from imprint_tools.localcloud.web import WebServer

_METHODS = ["DELETE", "GET", "PATCH", "POST", "PUT"]


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


class RestServer:
    """One HTTPS port, whose requests go to one function. `body_max` in bytes: more gets 413."""

    def __init__(self, handle: Handle, context: ssl.SSLContext, *, body_max: int) -> None:
        self._handle = handle
        self._body_max = body_max
        self._bugs: list[Exception] = []
        routes = [Route("/{path:path}", self._answer, methods=_METHODS)]
        self._server = WebServer(Starlette(routes=routes), context)

    async def open(self, port: int = 0) -> int:
        """Listen on loopback; returns the port, for 0 a free one. Raises BenchStateError."""
        return await self._server.open(port)

    async def close(self) -> None:
        """End every connection. Raises the first bug that the function had."""
        await self._server.close()
        if self._bugs:
            raise self._bugs.pop(0)

    async def _answer(self, request: Request) -> Response:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._body_max:
                    return Response(status_code=413, headers={"connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)  # there is nobody to read it
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
