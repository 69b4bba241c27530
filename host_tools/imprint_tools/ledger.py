"""The factory's ledger: every unit that was made, and how far it has come.

A unit's way: reserved -> issued -> enrolled -> active <-> disabled -> decommissioned. `reserved`
takes its id and the station's request key, before there is a key to sign; `issued` has its
certificate; `enrolled` has a disabled enrolment in DPS. `refused` ends a unit whose id DPS has
already. Each step is one transaction that names the state it starts from, so what is repeated
after a kill changes nothing twice.

`wanted` is where an account has asked a unit to go; it is written before the cloud is told and
taken away when the cloud has done it, so that a kill in between is made good at the next start.

SQLite by default (WAL, each commit on the disk before it counts; a file of its owner's alone),
PostgreSQL by URL.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from imprint_tools.errors import LedgerError
from imprint_tools.ledger_schema import audit, migrate, organisations, units

RESERVED, ISSUED, ENROLLED = "reserved", "issued", "enrolled"
ACTIVE, DISABLED, DECOMMISSIONED, REFUSED = "active", "disabled", "decommissioned", "refused"
STATES = (RESERVED, ISSUED, ENROLLED, ACTIVE, DISABLED, DECOMMISSIONED, REFUSED)

TRANSITIONS = {
    RESERVED: (ISSUED,),
    ISSUED: (ENROLLED, REFUSED),
    ENROLLED: (ACTIVE, DECOMMISSIONED),
    ACTIVE: (ACTIVE, DISABLED, DECOMMISSIONED),
    DISABLED: (ACTIVE, DECOMMISSIONED),
    DECOMMISSIONED: (),
    REFUSED: (),
}

_BUSY_MS = 10_000
PAGE = 25
"""Units on one page of a list."""


def new_id() -> str:
    """A GUID of chance."""
    return str(uuid.uuid4())


def checked_id(text: str) -> str:
    """The GUID in its one canonical spelling. Raises ValueError."""
    found = str(uuid.UUID(text.strip()))
    if len(text.strip()) != len(found):  # uuid takes braces, "urn:uuid:" and no dashes, too
        raise ValueError("not a GUID of the form 8-4-4-4-12")
    return found


@dataclass(frozen=True)
class Unit:
    """One row. Times are milliseconds since 1970, 0 before they come."""

    id: str
    station_id: int
    request_key: str
    organisation_id: int
    state: str
    wanted: str
    problem: str
    certificate: str
    serial: str
    thumbprint: str
    settings: Mapping[str, Any]
    hub: str
    created: int
    issued: int
    enrolled: int
    activated: int
    first_seen: int
    changed: int


@dataclass(frozen=True)
class Issued:
    """A certificate as the ledger keeps it: PEM of the leaf, serial and SHA-256 in hex."""

    certificate: str
    serial: str
    thumbprint: str


@dataclass(frozen=True)
class Event:
    """One line of the audit trail."""

    at: int
    actor: str
    address: str
    action: str
    unit_id: str
    detail: str


class Ledger:
    """Open it with `open_ledger`; safe to use from several threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writer = engine.execution_options(write=True)

    def close(self) -> None:
        """Drop the connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: whole, or not at all. With SQLite one at a time."""
        with self._writer.begin() as connection:
            yield connection

    # --- The way of a unit -----------------------------------------------------------------------

    def reserve(self, station_id: int, organisation_id: int, key: str, unit_id: str = "") -> Unit:
        """Take an id (a new one by default) for the request `key` of a station; the same request
        gets the same unit again.

        Raises LedgerError when the id has been used, or the key for another id.
        """
        now = _now()
        row = {
            "id": unit_id or new_id(), "station_id": station_id, "request_key": key,
            "organisation_id": organisation_id, "state": RESERVED, "created": now, "changed": now,
        }  # fmt: skip
        try:
            with self.writing() as connection:
                connection.execute(units.insert().values(**row))
        except IntegrityError:
            pass  # the id or the key is taken: by whom, the rows say
        mine = (units.c.station_id == station_id) & (units.c.request_key == key)
        with self.reading() as connection:
            found = connection.execute(select(units).where(mine)).first()
        if found is None:
            raise LedgerError(f"the id {row['id']} has been used", next_step="Take another id.")
        if unit_id not in ("", found.id):
            raise LedgerError(
                f"this request has taken the id {found.id} before",
                next_step="Take a new request key for a new unit.",
            )
        return _unit(found)

    def issue(self, unit_id: str, issued: Issued) -> Unit:
        """Keep the certificate of a reserved unit; if it has one already, that one stays."""
        with self.writing() as connection:
            connection.execute(
                units.update()
                .where(units.c.id == unit_id, units.c.state == RESERVED)
                .values(state=ISSUED, issued=_now(), changed=_now(), **vars(issued))
            )
        return self.get(unit_id)

    def enrolled(self, unit_ids: Iterable[str]) -> None:
        """Note that DPS has the enrolments of these issued units."""
        with self.writing() as connection:
            connection.execute(
                units.update()
                .where(units.c.id.in_(list(unit_ids)), units.c.state == ISSUED)
                .values(state=ENROLLED, problem="", enrolled=_now(), changed=_now())
            )

    def refuse(self, unit_id: str, problem: str) -> None:
        """End an issued unit that DPS will not have."""
        with self.writing() as connection:
            connection.execute(
                units.update()
                .where(units.c.id == unit_id, units.c.state == ISSUED)
                .values(state=REFUSED, problem=problem, changed=_now())
            )

    def want(self, unit: Unit, wanted: str, settings: Mapping[str, Any] | None = None) -> Unit:
        """Write down where the unit shall go, before the cloud is told.

        Raises LedgerError when that is no way from where it is.
        """
        if wanted not in TRANSITIONS[unit.state]:
            raise LedgerError(
                f"a unit that is {unit.state} cannot become {wanted}",
                next_step="Look at the unit again: somebody else may have changed it.",
            )
        values: dict[str, Any] = {"wanted": wanted, "problem": "", "changed": _now()}
        if settings is not None:
            values["settings"] = json.dumps(settings, allow_nan=False)
        with self.writing() as connection:
            done = connection.execute(
                units.update()
                .where(units.c.id == unit.id, units.c.state == unit.state)
                .values(**values)
            )
        if done.rowcount != 1:
            raise LedgerError("the unit has changed meanwhile", next_step="Look at it again.")
        return self.get(unit.id)

    def reached(self, unit: Unit) -> Unit:
        """The cloud has done what was wanted."""
        values: dict[str, Any] = {"state": unit.wanted, "problem": "", "changed": _now()}
        if unit.wanted == ACTIVE:
            values["activated"] = _now()
        with self.writing() as connection:
            connection.execute(
                units.update()
                .where(units.c.id == unit.id, units.c.wanted == unit.wanted)
                .values(wanted=None, **values)
            )
        return self.get(unit.id)

    def failed(self, unit_id: str, problem: str, *, give_up: bool) -> None:
        """The cloud has not done what was wanted; `give_up` takes the wish back."""
        with self.writing() as connection:
            values: dict[str, Any] = {"problem": problem[:300], "changed": _now()}
            if give_up:
                values["wanted"] = None
            connection.execute(units.update().where(units.c.id == unit_id).values(**values))

    def seen(self, unit_id: str, hub: str, first_seen: int) -> None:
        """Note which hub a unit was assigned, and when it was first active there (0: not yet)."""
        with self.writing() as connection:
            connection.execute(
                units.update()
                .where(units.c.id == unit_id)
                .values(hub=hub, first_seen=first_seen or None)
            )

    # --- Finding units ---------------------------------------------------------------------------

    def find(self, unit_id: str, organisation_id: int | None = None) -> Unit | None:
        """The unit of that id; with an organisation, only if it is theirs."""
        query = select(units).where(units.c.id == unit_id)
        if organisation_id is not None:
            query = query.where(units.c.organisation_id == organisation_id)
        with self.reading() as connection:
            row = connection.execute(query).first()
        return _unit(row) if row else None

    def get(self, unit_id: str) -> Unit:
        """The unit of that id, which is there."""
        unit = self.find(unit_id)
        if unit is None:
            raise LedgerError(f"there is no unit {unit_id}")
        return unit

    def in_state(self, state: str, limit: int) -> list[Unit]:
        """The oldest units of a state."""
        query = select(units).where(units.c.state == state).order_by(units.c.created).limit(limit)
        with self.reading() as connection:
            return [_unit(row) for row in connection.execute(query)]

    def under_way(self) -> list[Unit]:
        """Units that shall go somewhere and have not been told to have arrived."""
        query = select(units).where(units.c.wanted.is_not(None)).order_by(units.c.changed)
        with self.reading() as connection:
            return [_unit(row) for row in connection.execute(query)]

    def page(
        self,
        organisation_id: int,
        *,
        prefix: str = "",
        state: str = "",
        before: tuple[int, str] | None = None,
    ) -> list[Unit]:
        """The newest PAGE + 1 units of an organisation, from the one after `before` (created, id)
        on: the last one says that there are more. `prefix` is how the id begins."""
        query = select(units)
        created: ColumnElement[int] = units.c.created
        owner: ColumnElement[int] = units.c.organisation_id
        if prefix:
            # A range, since LIKE uses an index only in some data bases' settings; and by the
            # primary key, since few begin so: "+ 0" keeps the others' indices out of it.
            query = query.where(units.c.id >= prefix, units.c.id < prefix + "g")
            created, owner = created + 0, owner + 0
        query = query.where(owner == organisation_id)
        if state:
            query = query.where(units.c.state == state)
        if before:
            at, last = before
            earlier = (created < at) | ((created == at) & (units.c.id < last))
            query = query.where(created <= at, earlier)
        query = query.order_by(created.desc(), units.c.id.desc()).limit(PAGE + 1)
        with self.reading() as connection:
            return [_unit(row) for row in connection.execute(query)]

    def counts(self, organisation_id: int | None = None) -> dict[str, int]:
        """How many units are in each state."""
        query = select(units.c.state, func.count()).group_by(units.c.state)
        if organisation_id is not None:
            query = query.where(units.c.organisation_id == organisation_id)
        with self.reading() as connection:
            return {state: count for state, count in connection.execute(query)}

    def assign(self, unit_id: str, organisation_id: int) -> None:
        """Give a unit to another organisation."""
        with self.writing() as connection:
            connection.execute(
                units.update()
                .where(units.c.id == unit_id)
                .values(organisation_id=organisation_id, changed=_now())
            )

    # --- Organisations and the trail -------------------------------------------------------------

    def organisation(self, name: str, *, create: bool = False) -> int:
        """The number of an organisation. Raises LedgerError when there is none of that name."""
        query = select(organisations.c.id).where(organisations.c.name == name)
        with self.writing() as connection:
            found = connection.scalar(query)
            if found is None and create:
                connection.execute(organisations.insert().values(name=name, created=_now()))
                found = connection.scalar(query)
        if found is None:
            raise LedgerError(f"there is no organisation {name!r}")
        return int(found)

    def note(
        self,
        actor: str,
        action: str,
        *,
        organisation_id: int | None = None,
        unit_id: str | None = None,
        address: str = "",
        detail: str = "",
    ) -> None:
        """Add a line to the audit trail."""
        values = {
            "at": _now(), "organisation_id": organisation_id, "actor": actor, "address": address,
            "action": action, "unit_id": unit_id, "detail": detail[:1000],
        }  # fmt: skip
        with self.writing() as connection:
            connection.execute(audit.insert().values(**values))

    def trail(
        self, organisation_id: int, *, unit_id: str | None = None, limit: int = 100
    ) -> list[Event]:
        """What happened in an organisation, or to one of its units; newest first."""
        query = select(audit).where(audit.c.organisation_id == organisation_id)
        if unit_id is not None:
            query = query.where(audit.c.unit_id == unit_id)
        with self.reading() as connection:
            return [
                Event(row.at, row.actor, row.address, row.action, row.unit_id or "", row.detail)
                for row in connection.execute(query.order_by(audit.c.id.desc()).limit(limit))
            ]


def has_password(url: str) -> bool:
    """Whether there is one in an SQLAlchemy URL. Raises LedgerError: it is none."""
    try:
        return make_url(url).password is not None
    except ArgumentError:
        raise LedgerError("the ledger's URL is none", next_step="sqlite:///FILE") from None


def open_ledger(url: str) -> Ledger:
    """Open the ledger at an SQLAlchemy URL; bring its tables up to date. Raises LedgerError."""
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
        if engine.dialect.name == "sqlite":
            if parsed.database:  # before SQLite does, which lets others read it
                os.close(os.open(parsed.database, os.O_RDWR | os.O_CREAT, 0o600))
            event.listen(engine, "connect", _on_sqlite_connect)
            event.listen(engine, "begin", _on_sqlite_begin)
        migrate(engine)
    except (ArgumentError, ImportError, OSError, SQLAlchemyError) as error:
        # The URL may hold a password: it is not shown.
        raise LedgerError(
            f"the ledger cannot be opened ({type(error).__name__})",
            next_step="Check its URL: sqlite:///FILE, or postgresql://USER@HOST/NAME "
            "(needs the package psycopg).",
        ) from None
    return Ledger(engine)


def _on_sqlite_connect(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says so
    for pragma in (
        f"busy_timeout = {_BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # a certificate that was handed out outlives a power cut
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _on_sqlite_begin(connection: Connection) -> None:
    # A transaction that first reads and then writes could not wait for another one's end.
    write = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _unit(row: Row[Any]) -> Unit:
    found = dict(row._mapping)
    found["settings"] = json.loads(found["settings"])
    for name in ("issued", "enrolled", "activated", "first_seen"):
        found[name] = found[name] or 0
    return Unit(**{**found, "wanted": found["wanted"] or ""})


def _now() -> int:
    return int(time.time() * 1000)
