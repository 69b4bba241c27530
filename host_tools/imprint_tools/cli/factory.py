"""`imprint factory`: the factory server, its stations and accounts, and a station's side of it."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from imprint_tools.cli.output import emit, json_option, note
from imprint_tools.cli.types import PassphraseSource, passphrase_option
from imprint_tools.errors import IdentityError, LedgerError
from imprint_tools.factory import config as configuration
from imprint_tools.factory.config import FactoryConfig, Service
from imprint_tools.factory.people import People
from imprint_tools.ledger import checked_id, has_password, open_ledger
from imprint_tools.secret import Secret

_F = TypeVar("_F", bound=Callable[..., Any])

_existing = click.Path(exists=True, dir_okay=False, path_type=Path)
_folder_option = click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    envvar="IMPRINT_FACTORY",
    help="The factory's folder (factory.toml); where one stands by default.",
)


@click.group()
def factory() -> None:
    """The factory server: units get their identity, and are enrolled disabled in Azure's DPS.

    Its portal, on the same port, takes them into service.
    """


@factory.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--authority",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of the authority that issues (imprint ca intermediate).",
)
@click.option("--id-scope", required=True, help="Id scope of the DPS.")
@click.option("--root-ca", type=_existing, required=True, help="What the units trust (PEM).")
@click.option("--dps", type=_existing, required=True, help="File: DPS's connection string.")
@click.option("--hub", "hubs", type=_existing, multiple=True, help="The same of a hub. Repeat.")
@click.option("--service-ca", type=_existing, help="A local service's CA.")
@click.option("--service-address", metavar="HOST:PORT", help="Where a local service listens.")
@click.option("--listen", default="127.0.0.1:8443", show_default=True, metavar="HOST:PORT")
@click.option("--name", "names", multiple=True, help="A name of this server. Repeat for more.")
@click.option("--ledger", default="sqlite:///ledger.db", show_default=True, metavar="URL")
@json_option
def init(
    folder: Path,
    authority: Path,
    id_scope: str,
    root_ca: Path,
    dps: Path,
    hubs: tuple[Path, ...],
    service_ca: Path | None,
    service_address: str | None,
    listen: str,
    names: tuple[str, ...],
    ledger: str,
    as_json: bool,
) -> None:
    """Make a factory's FOLDER: factory.toml, and an empty ledger."""
    if (folder / configuration.FILE).exists():
        raise LedgerError(f"{folder} has a {configuration.FILE} already")
    try:
        bound = configuration.split(listen)
        address = configuration.split(service_address) if service_address else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if has_password(ledger):
        raise click.UsageError("leave the ledger's password to PGPASSFILE: others see this line")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def service(connection: Path) -> Service:
        return Service(connection.resolve(), service_ca and service_ca.resolve(), address)

    configuration.write(
        FactoryConfig(
            folder,
            bound,
            names or ("localhost",),
            authority.resolve(),
            id_scope,
            root_ca.resolve(),
            ledger,
            service(dps),
            tuple(service(hub) for hub in hubs),
        )
    )
    open_ledger(configuration.load(folder).ledger).close()
    emit(
        {"folder": str(folder)},
        f"{folder}/{configuration.FILE} written; next: imprint factory station add",
        as_json=as_json,
    )


@factory.command()
@_folder_option
@passphrase_option()
@json_option
def serve(folder: Path, passphrase: PassphraseSource, as_json: bool) -> None:
    """Serve stations and the portal, until Ctrl-C."""
    from imprint_tools.factory.server import Factory
    from imprint_tools.issuer import Authority

    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    config = configuration.load(folder)
    secret = passphrase.load("Passphrase of the authority")
    with Authority.open(config.authority, secret) as authority:
        with Factory(config, authority) as running:
            url = f"https://{config.names[0]}:{running.port}"
            ca = folder / configuration.SERVER_CA

            def ready() -> None:
                emit(
                    {"url": url, "ca": str(ca), "port": running.port},
                    f"stations and portal at {url}, verified against {ca}",
                    as_json=as_json,
                )
                sys.stdout.flush()
                note("Ctrl-C ends it")

            signal.signal(signal.SIGTERM, signal.default_int_handler)
            # Either way a person or a service manager ends it, in good order.
            with contextlib.suppress(KeyboardInterrupt):
                running.serve(ready)


@factory.command()
@click.option("--server", required=True, metavar="URL", help="The factory server's https address.")
@click.option("--ca", type=_existing, help="server_ca.pem out of the factory's folder.")
@click.option("--token", "token_file", type=_existing, required=True, help="FILE with the token.")
@click.option(
    "--fields",
    type=_existing,
    help="TOML file of further fields for the identity (wifi_ssid, wifi_password ...).",
)
@click.option("--id", "unit_id", default="", metavar="GUID", help="Of a label printed before.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@json_option
def enrol(
    server: str,
    ca: Path | None,
    token_file: Path,
    fields: Path | None,
    unit_id: str,
    folder: Path,
    as_json: bool,
) -> None:
    """Make one unit in FOLDER: key, certificate, label, identity for `imprint inject`.

    The key is made here and stays here. If it breaks off, run it again into the same folder.
    """
    from imprint_tools.factory.client import StationClient

    more = _fields(fields) if fields else {}
    with StationClient(server, ca, _token(token_file)) as station:
        made = station.enrol(folder, more, unit_id=unit_id)
    emit(
        {"id": made.id, "identity": str(made.identity), "serial": made.serial},
        f"{made.id}: enrolled, disabled\n  next: imprint inject --identity {made.identity}",
        as_json=as_json,
    )


@factory.command()
@_folder_option
@click.argument("organisation")
@click.argument("ids", nargs=-1, required=True, metavar="GUID...")
@json_option
def assign(folder: Path, organisation: str, ids: tuple[str, ...], as_json: bool) -> None:
    """Give units to another ORGANISATION, whose accounts then see them."""
    with _people(folder) as (_, ledger):
        number = ledger.organisation(organisation, create=True)
        for text in ids:
            try:
                unit = ledger.get(checked_id(text))
            except ValueError:
                raise click.UsageError(f"{text!r} is no GUID") from None
            ledger.assign(unit.id, number)
            ledger.note("factory", f"given to {organisation}", organisation_id=number,
                        unit_id=unit.id)  # fmt: skip
    emit({"organisation": organisation, "ids": list(ids)}, f"{len(ids)} given", as_json=as_json)


@factory.group()
def station() -> None:
    """The places at the line that may make units."""


@station.command("add")
@_folder_option
@click.option("--organisation", required=True, help="To whom the station's units belong.")
@click.argument("name")
@json_option
def add_station(folder: Path, organisation: str, name: str, as_json: bool) -> None:
    """Add a station; its token is printed, once."""
    with _people(folder) as (people, _):
        _show_token(people.add_station(name, organisation), as_json=as_json)


@station.command("revoke")
@_folder_option
@click.argument("name")
@json_option
def revoke_station(folder: Path, name: str, as_json: bool) -> None:
    """Refuse a station's token from now on."""
    with _people(folder) as (people, _):
        people.revoke_station(name)
    emit({"name": name, "revoked": True}, f"{name} is revoked", as_json=as_json)


@station.command("list")
@_folder_option
@json_option
def list_stations(folder: Path, as_json: bool) -> None:
    """List stations."""
    with _people(folder) as (people, _):
        found = people.stations()
    lines = [
        f"{one.name:<24} {one.organisation:<24} "
        + (f"revoked {_day(one.revoked)}" if one.revoked else f"since {_day(one.created)}")
        for one in found
    ]
    emit([asdict(one) for one in found], "\n".join(lines) or "no station", as_json=as_json)


@factory.group()
def account() -> None:
    """Who may log in to the portal, or use it by REST."""


@account.command("add")
@_folder_option
@click.option("--organisation", required=True, help="Whose units the account sees.")
@click.option("--password", "source", type=_existing, help="FILE that holds it; else a prompt.")
@click.argument("name")
@json_option
def add_account(
    folder: Path, organisation: str, source: Path | None, name: str, as_json: bool
) -> None:
    """Add an account."""
    with _people(folder) as (people, _):
        people.add_account(name, organisation, _password(source))
    emit({"name": name, "organisation": organisation}, f"{name} is added", as_json=as_json)


@account.command("password")
@_folder_option
@click.option("--password", "source", type=_existing, help="FILE that holds it; else a prompt.")
@click.argument("name")
@json_option
def set_password(folder: Path, source: Path | None, name: str, as_json: bool) -> None:
    """Set another password; the account's sessions end."""
    with _people(folder) as (people, _):
        people.set_password(name, _password(source))
    emit({"name": name}, f"the password of {name} is changed", as_json=as_json)


@account.command("token")
@_folder_option
@click.argument("name")
@json_option
def new_token(folder: Path, name: str, as_json: bool) -> None:
    """Make a token for the REST interface, in place of the last; it is printed, once."""
    with _people(folder) as (people, _):
        _show_token(people.new_token(name), as_json=as_json)


@account.command("close")
@_folder_option
@click.argument("name")
@json_option
def close_account(folder: Path, name: str, as_json: bool) -> None:
    """Close an account: no login, no token, no session."""
    with _people(folder) as (people, _):
        people.close_account(name)
    emit({"name": name, "closed": True}, f"{name} is closed", as_json=as_json)


@account.command("list")
@_folder_option
@json_option
def list_accounts(folder: Path, as_json: bool) -> None:
    """List accounts."""
    with _people(folder) as (people, _):
        found = people.accounts()
    lines = [
        f"{one.name:<24} {one.organisation:<24} "
        + (f"closed {_day(one.closed)}" if one.closed else f"since {_day(one.created)}")
        for one in found
    ]
    emit([asdict(one) for one in found], "\n".join(lines) or "no account", as_json=as_json)


@contextlib.contextmanager
def _people(folder: Path) -> Iterator[tuple[People, Any]]:
    """The ledger of a factory's folder; a server may run beside."""
    ledger = open_ledger(configuration.load(folder).ledger)
    try:
        yield People(ledger), ledger
    finally:
        ledger.close()


def _show_token(token: Secret, *, as_json: bool) -> None:
    """The one place where it is told."""
    text = token.reveal().decode()
    note("keep it in a file of your own (umask 077); it is not shown again")
    emit({"token": text}, text, as_json=as_json)


def _token(path: Path) -> Secret:
    try:
        return Secret(path.read_bytes().strip())
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None


def _password(source: Path | None) -> Secret:
    if source is not None:
        return Secret(source.read_bytes().rstrip(b"\r\n"))
    answer = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return Secret(str(answer))


def _fields(path: Path) -> dict[str, Any]:
    # The parser's exception may hold the whole document, secrets included.
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem = error.strerror or "unreadable"
    except ValueError:
        problem = "it is not TOML"
    raise IdentityError(f"{path}: {problem}")


def _day(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(milliseconds / 1000))
