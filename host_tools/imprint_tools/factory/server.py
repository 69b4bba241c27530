"""The server: stations and the portal behind one HTTPS port, and the worker beside them.

    with Factory(config, authority) as factory:
        factory.serve()               # until SIGINT or SIGTERM

Its certificate comes from the authority whose certificates it hands out, and is made anew in time;
a browser and a station trust `server_ca.pem` in the factory's folder.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from imprint_tools import certificates
from imprint_tools.errors import LedgerError
from imprint_tools.factory import config as configuration
from imprint_tools.factory.activation import Activation
from imprint_tools.factory.api import Api
from imprint_tools.factory.config import FactoryConfig
from imprint_tools.factory.enroller import Enroller
from imprint_tools.factory.people import People
from imprint_tools.factory.portal import Portal
from imprint_tools.factory.stations import StationDesk
from imprint_tools.factory.web import Guard, Pages, json_endpoint
from imprint_tools.issuer import Authority
from imprint_tools.ledger import open_ledger

_HERE = Path(__file__).parent
_RENEWAL = datetime.timedelta(days=30)
_PORTAL_PATIENCE_S = 8.0  # a person waits; what is not done by then is done by the worker
_BACKLOG = 128
_CONNECTIONS_MAX = 500  # more are answered 503

log = logging.getLogger("imprint.factory")


class Factory:
    """Everything that a running server is made of; `port` is where it listens."""

    def __init__(self, config: FactoryConfig, authority: Authority) -> None:
        self.config = config
        self._held = contextlib.ExitStack()
        try:
            self._held.enter_context(_lock(config.folder))
            self.ledger = open_ledger(config.ledger)
            self._held.callback(self.ledger.close)
            self.people = People(self.ledger)
            self._build(authority)
            ensure_certificate(config, authority)
            self._socket = _listen(config.listen)
            self._held.callback(self._socket.close)
        except BaseException:
            self._held.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Factory:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Listen until told to stop; `ready` is called when connections are accepted, and a signal
        ends it in good order."""
        self.enroller.start()
        self._held.callback(self.enroller.stop)
        self.web.on_started = ready
        self.web.run([self._socket])

    def stop(self) -> None:
        """Tell `serve` to return; from another thread."""
        self.web.should_exit = True

    def _build(self, authority: Authority) -> None:
        config = self.config
        stopped = threading.Event()
        dps = config.dps.dps(wait=stopped.wait)
        quick = config.dps.dps(patience_s=_PORTAL_PATIENCE_S)
        found = [service.hub(patience_s=_PORTAL_PATIENCE_S) for service in config.hub_services]
        for close in (dps.close, quick.close, *(hub.close for hub in found)):
            self._held.callback(close)
        hubs = {hub.host: hub for hub in found}
        self.activation = Activation(self.ledger, quick, hubs, authority, config.hubs)
        self.enroller = Enroller(self.ledger, dps, self.activation, stopped)
        try:
            root_ca = config.root_ca.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            raise LedgerError(f"{config.root_ca} cannot be read as PEM") from None
        desk = StationDesk(self.ledger, authority, self.enroller, config.id_scope, root_ca)
        app = build_app(self, desk)
        settings = uvicorn.Config(
            Guard(app), lifespan="off", log_config=None, access_log=False, ws="none",
            server_header=False, proxy_headers=False, backlog=_BACKLOG,
            limit_concurrency=_CONNECTIONS_MAX,
            timeout_graceful_shutdown=5,
            ssl_certfile=config.folder / configuration.SERVER_CERTIFICATE,
            ssl_keyfile=config.folder / configuration.SERVER_KEY,
        )  # fmt: skip
        self.web = _Web(settings)


class _Web(uvicorn.Server):
    """Tells when it has begun: a signal before that would end it in the middle of its start."""

    on_started: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()


def build_app(factory: Factory, desk: StationDesk) -> Starlette:
    """All the routes."""
    pages = Pages(factory.people, _HERE / "templates")
    portal = Portal(factory.ledger, factory.people, factory.activation, factory.enroller, pages)
    api = Api(factory.ledger, factory.activation)
    open_, login = pages.open_to_all, pages.behind_login

    def station(view: Callable[..., Any]) -> Any:
        return json_endpoint(factory.people.station, view, pages.limits)

    def program(view: Callable[..., Any]) -> Any:
        return json_endpoint(factory.people.account, view, pages.limits)

    async def error(request: Request, raised: Exception) -> Response:
        status, words = 500, "Something went wrong here. It has been logged."
        if isinstance(raised, HTTPException):
            status, words = raised.status_code, str(raised.detail)
        else:
            log.exception("a request failed", exc_info=raised)
        if request.url.path.startswith("/api/"):
            body = {"code": f"http-{status}", "message": words, "next_step": ""}
            return JSONResponse({"error": body}, status)
        return pages.problem(request, words, status)

    routes = [
        Route("/healthz", _health(factory.enroller)),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
        Route("/login", open_(portal.login_form), methods=["GET"]),
        Route("/login", open_(portal.login), methods=["POST"]),
        Route("/logout", login(portal.logout), methods=["POST"]),
        Route("/", login(portal.units), methods=["GET"]),
        Route("/scan", login(portal.scan_form), methods=["GET"]),
        Route("/scan", login(portal.scan), methods=["POST"]),
        Route("/trail", login(portal.trail), methods=["GET"]),
        Route("/units/{unit_id}", login(portal.unit), methods=["GET"]),
        Route("/units/{unit_id}/label.{kind:str}", login(portal.label), methods=["GET"]),
        Route("/units/{unit_id}/activate", login(portal.activate_form), methods=["GET"]),
        Route("/units/{unit_id}/activate", login(portal.activate), methods=["POST"]),
        Route("/units/{unit_id}/decommission", login(portal.decommission_form), methods=["GET"]),
        *(
            Route(f"/units/{{unit_id}}/{action}", login(portal.changing(action)), methods=["POST"])
            for action in ("enable", "disable", "decommission")
        ),
        Route("/api/v1/station/units", station(desk.reserve), methods=["POST"]),
        Route("/api/v1/station/units/{unit_id}", station(desk.look), methods=["GET"]),
        Route(
            "/api/v1/station/units/{unit_id}/certificate", station(desk.certify), methods=["PUT"]
        ),
        Route("/api/v1/units", program(api.units), methods=["GET"]),
        Route("/api/v1/units/{unit_id}", program(api.unit), methods=["GET"]),
        Route("/api/v1/units/{unit_id}/{action}", program(api.change), methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: error, Exception: error})


def _health(enroller: Enroller) -> Callable[[Request], Any]:
    async def health(_request: Request) -> Response:
        """Up; and whether DPS takes enrolments."""
        return JSONResponse({"up": True, "enrolling": not enroller.trouble})

    return health


def ensure_certificate(config: FactoryConfig, authority: Authority) -> None:
    """Make the server's certificate, unless there is one for these names that lasts."""
    path = config.folder / configuration.SERVER_CERTIFICATE
    _write(config.folder / configuration.SERVER_CA, certificates.pem(authority.root), 0o644)
    with contextlib.suppress(OSError, ValueError, x509.ExtensionNotFound):
        found = x509.load_pem_x509_certificate(path.read_bytes())
        lasts = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > _RENEWAL
        ours = found.issuer == authority.certificate.subject
        key = load_pem_private_key(
            (config.folder / configuration.SERVER_KEY).read_bytes(), password=None
        )
        fits = key.public_key() == found.public_key()  # a kill came between the two files
        if lasts and ours and fits and _names(found) == set(config.names):
            return
    issued = authority.issue_server(names=config.names, renew=True)
    _write(path, issued.chain_pem, 0o644)
    _write(config.folder / configuration.SERVER_KEY, issued.key_pem.reveal(), 0o600)


def _names(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName)} | {
        str(address) for address in names.get_values_for_type(x509.IPAddress)
    }


def _write(path: Path, data: bytes, mode: int) -> None:
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    # The protocol is named, for asyncio turns Nagle's algorithm off only where it is: with it on,
    # each answer in two pieces costs 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise LedgerError(
            f"cannot listen on {configuration.join(address)}: {error.strerror}",
            next_step="Change `listen` in factory.toml.",
        ) from None
    return listening


def _lock(folder: Path) -> TextIO:
    """Held while the server lives; the kernel gives it back however it ends."""
    held = (folder / ".lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise LedgerError(
            f"a factory server runs in {folder} already", next_step="End it first."
        ) from None
    return held
