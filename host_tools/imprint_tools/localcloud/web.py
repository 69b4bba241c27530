"""An HTTPS server of a local cloud: an ASGI application on loopback, in the cloud's own loop.

The application's handlers are coroutines and run where the cloud's rules live, so they may touch
its data base.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import uvicorn
from starlette.types import ASGIApp

from imprint_tools.errors import BenchStateError

_POLL_S = 0.005
_GRACE_S = 1


class WebServer:
    """Serves one application until `close()`."""

    def __init__(self, application: ASGIApp, context: ssl.SSLContext) -> None:
        config = uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
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
        bound: int = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(_POLL_S)
        return bound

    async def close(self) -> None:
        """End every connection. Raises what ended the server before, if anything did."""
        self._server.should_exit = True
        if self._task is None:
            return
        if not self._server.server_state.connections:
            # It looks ten times a second whether it shall end, and then waits for nobody.
            for listening in self._server.servers:
                listening.close()
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
