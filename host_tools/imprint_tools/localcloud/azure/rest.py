"""What the REST services of the local Azure have in common: who may ask, how much, and errors."""

from __future__ import annotations

import base64
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imprint_tools.localcloud import jsonobject
from imprint_tools.localcloud.azure import names, sas
from imprint_tools.localcloud.azure.error import ServiceError, inferred
from imprint_tools.localcloud.azure.faults import Trouble
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

Handler = Callable[[Request], Awaitable[Response]]

_BODY_MAX = 1024 * 1024
_PAGE = 100


class Throttle:
    """So many in a span and no more. `take` says whether there was room."""

    def __init__(self, most: int | None, span_s: float) -> None:
        self._most = most
        self._span_s = span_s
        self._recent: deque[float] = deque()

    def take(self) -> bool:
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - self._span_s:
            self._recent.popleft()
        if self._most is not None and len(self._recent) >= self._most:
            return False
        self._recent.append(now)
        return True


class Guard:
    """Stands before every request to one service."""

    def __init__(
        self,
        host: str,
        policy: str,
        key: Secret,
        log: EventLog,
        *,
        throttle: Throttle,
        retry_after_s: int | None = None,
        troubles: deque[Trouble] | None = None,
    ) -> None:
        self._host = host
        self._policy = policy
        self._key = key
        self._log = log
        self._throttle = throttle
        self._retry_after_s = retry_after_s
        self._troubles = deque() if troubles is None else troubles

    def application(self, routes: Iterable[tuple[str, str, Handler]]) -> Starlette:
        """An application of (method, path, handler)."""
        found = Starlette(
            routes=[
                Route(path, self._guarded(handler), methods=[method])
                for method, path, handler in routes
            ],
            exception_handlers={HTTPException: _unknown},
        )
        found.router.redirect_slashes = False
        return found

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                self._check(request)
                response = await handler(request)
            except Refusal as refusal:
                response = failure(ServiceError(inferred(400), refusal.reason))
            except ServiceError as error:
                response = failure(error)
            self._log.add(
                "rest",
                host=self._host,
                method=request.method,
                path=request.url.path,
                status=response.status_code,
            )
            return response

        return guarded

    def _check(self, request: Request) -> None:
        """Raises ServiceError: 401, 400 and 429 in this order, and what was ordered."""
        try:
            token = sas.parse(request.headers.get("authorization", ""))
            if token.policy != self._policy:
                raise Refusal("sas-policy-wrong")
            sas.check(token, self._host, [self._key], time.time(), 0)
        except Refusal as refusal:
            self._log.add("rest-refused", host=self._host, reason=refusal.reason)
            raise ServiceError(401002, "Unauthorized") from None
        if not names.valid_api_version(request.query_params.get("api-version", "")):
            raise ServiceError(inferred(400), "api-version is missing")
        if self._troubles:
            trouble = self._troubles.popleft()
            raise ServiceError(
                trouble.code, "told to answer so", retry_after_s=trouble.retry_after_s
            )
        if not self._throttle.take():
            raise ServiceError(
                inferred(429), "too many requests", retry_after_s=self._retry_after_s
            )


async def body(request: Request) -> dict[str, Any]:
    """The request's JSON object. Raises ServiceError."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise ServiceError(inferred(415), "the body is application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > _BODY_MAX:
            raise ServiceError(inferred(413), "the body is too large")
    try:
        return jsonobject.load(data)
    except ValueError:
        raise ServiceError(inferred(400), "the body is no JSON object") from None


def failure(error: ServiceError) -> Response:
    headers = {"x-ms-error-code": str(error.code)}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


def page(request: Request, items: Sequence[dict[str, Any]], kind: str) -> Response:
    """As many as were asked for, and where to go on. Raises ServiceError."""
    try:
        most = int(request.headers.get("x-ms-max-item-count", _PAGE))
        token = request.headers.get("x-ms-continuation", "")
        begin = int(base64.b64decode(token, validate=True)) if token else 0
        if most < 1 or begin < 0:
            raise ValueError
    except ValueError:
        raise ServiceError(
            inferred(400), "x-ms-max-item-count or x-ms-continuation is wrong"
        ) from None
    headers = {"x-ms-item-type": kind}
    if begin + most < len(items):
        headers["x-ms-continuation"] = base64.b64encode(str(begin + most).encode()).decode()
    content = json.dumps(items[begin : begin + most]).encode()
    return Response(content, media_type="application/json", headers=headers)


def check_etag(request: Request, etag: str) -> None:
    """Raises ServiceError 412 for an If-Match that is neither that nor `*`."""
    wanted = request.headers.get("if-match")
    if wanted not in (None, "*", etag):
        raise ServiceError(inferred(412), "the etag is not the current one")


async def _unknown(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return failure(ServiceError(inferred(status), "there is no such thing"))
