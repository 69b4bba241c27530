"""What every request goes through: bounds, sessions, forms that carry their token, headers.

A view is a plain function of a Call; it runs in a thread, since ledger and cloud block. What a
view raises is answered as what it is: an ImprintError is the asker's to read, a bug is a 500 that
says nothing.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imprint_tools.errors import ImprintError, ServiceUnavailableError
from imprint_tools.factory.people import Account, People, Session
from imprint_tools.secret import Secret

SESSION_COOKIE, LOGIN_COOKIE = "__Host-session", "__Host-login"
FORM_BYTES_MAX = 256 << 10
PICTURE_BYTES_MAX = 12 << 20
_FIELDS_MAX = 200
_WRONG_TOKENS, _WRONG_SPAN_S = 20, 60  # by one address
_SPAN_MOST_S = 300  # of whatever is counted
_CALLS, _CALLS_SPAN_S = 1000, 10  # by one token: no station and no script needs as many

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = logging.getLogger("imprint.factory")


@dataclass
class Call:
    """One request as a view sees it."""

    request: Request
    session: Session | None = None
    form: FormData = field(default_factory=FormData)
    json: Any = None
    picture: bytes = b""

    @property
    def account(self) -> Account:
        """Who is logged in; a view is only called when somebody is."""
        if self.session is None:
            raise HTTPException(401)
        return self.session.account

    @property
    def address(self) -> str:
        """Where the request came from."""
        return self.request.client.host if self.request.client else ""

    def text(self, name: str) -> str:
        """A field of the form; empty if it is not there, or a file."""
        value = self.form.get(name, "")
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """All the fields of that name."""
        return [value for value in self.form.getlist(name) if isinstance(value, str)]


View = Callable[[Call], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


class Pages:
    """Templates, and the views behind a login."""

    def __init__(self, people: People, folder: Path) -> None:
        self._people = people
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["when"] = _when
        self.limits = Limits()

    def render(self, call: Call, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page."""
        page = self._templates.get_template(template)
        return HTMLResponse(
            page.render(session=call.session, path=call.request.url.path, **values), status
        )

    def problem(self, request: Request, words: str, status: int) -> HTMLResponse:
        """A page that says what went wrong."""
        return self.render(Call(request), "error.html", status, error=words)

    def open_to_all(self, view: View) -> Endpoint:
        """An endpoint that needs no login (and so has no session)."""

        async def endpoint(request: Request) -> Response:
            form, _ = await _form(request)
            return await self._run(view, Call(request, None, form))

        return endpoint

    def behind_login(self, view: View) -> Endpoint:
        """An endpoint for whoever is logged in; what changes something shows its form's token."""

        async def endpoint(request: Request) -> Response:
            cookie = request.cookies.get(SESSION_COOKIE, "")
            session = await run_in_threadpool(self._people.session, cookie)
            if session is None:  # of whom nothing is read
                return RedirectResponse("/login", 303)
            call = Call(request, session)
            call.form, call.picture = await _form(request)

            def run(call: Call) -> Response:
                if request.method != "GET":
                    self._check_origin(call, session.csrf)
                return view(call)

            return await self._run(run, call)

        return endpoint

    def check_login_token(self, call: Call) -> None:
        """The login's own token: a cookie that its form repeats."""
        self._check_origin(call, call.request.cookies.get(LOGIN_COOKIE, ""))

    def _check_origin(self, call: Call, token: str) -> None:
        origin = call.request.headers.get("origin")
        host = call.request.headers.get("host", "")
        if origin is not None and origin.lower() != f"https://{host}".lower():
            raise HTTPException(403, "This form was sent by another site.")
        if not token or not hmac.compare_digest(call.text("csrf").encode(), token.encode()):
            raise HTTPException(403, "This form is too old. Go back, load the page again.")

    async def _run(self, view: View, call: Call) -> Response:
        try:
            return await run_in_threadpool(view, call)
        except ImprintError as error:
            return self.render(call, "error.html", status_of(error), error=error)


def json_endpoint(
    authenticate: Callable[[str], Any], view: Callable[..., Any], limits: Limits
) -> Endpoint:
    """An endpoint of the REST interface: a bearer token in, JSON in and out.

    `authenticate` gives the token's owner or None. The view gets (owner, call) and returns what
    is answered, or (status, what).
    """

    async def endpoint(request: Request) -> Response:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        token = token if kind.lower() == "bearer" else ""
        call = Call(request)

        def run() -> Response:
            owner = authenticate(token)
            if owner is None:
                limits.count("token", network_of(call.address), _WRONG_TOKENS, _WRONG_SPAN_S)
                raise HTTPException(401, "the token is wrong or has been revoked")
            limits.count("api", f"{type(owner).__name__} {owner.id}", _CALLS, _CALLS_SPAN_S)
            found = view(owner, call)
            status, body = found if isinstance(found, tuple) else (200, found)
            return JSONResponse(body, status)

        try:
            if request.method != "GET":
                call.json = await _json(request)
            return await run_in_threadpool(run)
        except ImprintError as error:
            body = {"code": error.code, "message": str(error), "next_step": error.next_step}
            return JSONResponse({"error": body}, status_of(error))
        except HTTPException as error:
            body = {"code": f"http-{error.status_code}", "message": error.detail, "next_step": ""}
            return JSONResponse({"error": body}, error.status_code, error.headers)

    return endpoint


class Limits:
    """How often something may be tried: `most` times in `span_s` by the same key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tries: dict[tuple[str, str], list[float]] = {}

    def count(self, what: str, key: str, most: int, span_s: float) -> None:
        """Count one try. Raises HTTPException 429."""
        now = self._clock()
        with self._lock:
            if len(self._tries) > 10_000:
                self._tries = {k: t for k, t in self._tries.items() if t[-1] > now - _SPAN_MOST_S}
            tries = [t for t in self._tries.get((what, key), []) if t > now - span_s]
            if len(tries) >= most:
                wait_s = int(tries[0] + span_s - now) + 1
                raise HTTPException(
                    429, f"Too many tries. Wait {wait_s} s.", {"Retry-After": str(wait_s)}
                )
            self._tries[what, key] = [*tries, now]

    def take_back(self, what: str, key: str) -> None:
        """It went well: the last try does not count."""
        with self._lock:
            tries = self._tries.get((what, key), [])
            self._tries[what, key] = tries[:-1] or [float("-inf")]


class Guard:
    """ASGI: bounds the body, adds the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = PICTURE_BYTES_MAX if scope["path"] == "/scan" else FORM_BYTES_MAX
        got = 0

        async def bounded() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                raise HTTPException(413, f"more than {most} bytes")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message, cacheable=scope["path"].startswith("/static/"))
            await send(message)

        await self._app(scope, bounded, with_headers)


def login_cookie(response: Response, token: str) -> None:
    """Give a visitor the token of the login form."""
    _set_cookie(response, LOGIN_COOKIE, token, 3600)


def session_cookie(response: Response, token: Secret, life_s: int) -> None:
    """Give an account its session."""
    _set_cookie(response, SESSION_COOKIE, token.reveal().decode(), life_s)
    response.delete_cookie(LOGIN_COOKIE, secure=True)


def drop_session_cookie(response: Response) -> None:
    """Take it away."""
    response.delete_cookie(SESSION_COOKIE, secure=True, httponly=True, samesite="lax")


def status_of(error: ImprintError) -> int:
    """The HTTP status that tells whose fault it is."""
    known: Mapping[str, int] = {
        "ledger-refused": 409, "twin-invalid": 422, "certificate-refused": 422,
        "service-refused": 502, "image-invalid": 422,
    }  # fmt: skip
    return 503 if isinstance(error, ServiceUnavailableError) else known.get(error.code, 500)


def network_of(address: str) -> str:
    """What tries are counted by: an IPv4 address, or an IPv6 network of one customer."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ip.version == 6 else address


def _set_cookie(response: Response, name: str, value: str, life_s: int) -> None:
    response.set_cookie(name, value, max_age=life_s, secure=True, httponly=True, samesite="lax")


def _add_headers(message: MutableMapping[str, Any], *, cacheable: bool) -> None:
    more = {**HEADERS, "Cache-Control": "max-age=3600" if cacheable else "no-store"}
    message["headers"] = [
        *message["headers"],
        *((name.lower().encode(), value.encode()) for name, value in more.items()),
    ]


async def _form(request: Request) -> tuple[FormData, bytes]:
    """A form's fields, and its file `picture`."""
    if request.method == "GET":
        return FormData(), b""
    bounds = {"max_fields": _FIELDS_MAX, "max_files": 1, "max_part_size": FORM_BYTES_MAX}
    async with request.form(**bounds) as form:
        if not all(_is_text(value) for _, value in form.multi_items()):
            raise HTTPException(400, "The form is not text.")
        picture = form.get("picture")
        return form, await picture.read() if isinstance(picture, UploadFile) else b""


def _is_text(value: str | UploadFile) -> bool:
    """Whether UTF-8 can hold it: a form may say by which codec it is to be read."""
    return isinstance(value, UploadFile) or value.encode(errors="ignore").decode() == value


async def _json(request: Request) -> Any:
    body = await request.body()
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None


def _when(milliseconds: int) -> str:
    """A time as a person reads it, in UTC."""
    if not milliseconds:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))
