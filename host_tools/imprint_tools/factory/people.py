"""Who may do what: stations, accounts of organisations, and their sessions.

A token is `imp_<number>_<secret>`: the number finds the row, the secret (32 bytes of chance) is
kept only as a salted SHA-256 and compared in constant time. A password is kept as scrypt makes it
(parameters beside it, so that they may grow). A wrong name costs as much time as a wrong password.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, select
from sqlalchemy.exc import IntegrityError

from imprint_tools.errors import LedgerError
from imprint_tools.ledger import Ledger
from imprint_tools.ledger_schema import accounts, organisations, sessions, stations
from imprint_tools.secret import Secret

PASSWORD_MIN = 12  # characters
SESSION_IDLE_S = 3600
SESSION_LIFE_S = 12 * 3600
_SEEN_EVERY_S = 60  # a session's last use is written no more often

_SCRYPT = (1 << 15, 8, 1)  # n, r, p: 32 MB and some 80 ms
_SCRYPT_MEMORY = 64 << 20
_PASSWORD_MAX = 1024


@dataclass(frozen=True)
class Station:
    """A place at the line. `revoked` is when its token ceased to count, 0 if it counts."""

    id: int
    name: str
    organisation_id: int
    organisation: str
    created: int
    revoked: int


@dataclass(frozen=True)
class Account:
    """A person, or a program, of an organisation. `closed`: 0 if it is open."""

    id: int
    name: str
    organisation_id: int
    organisation: str
    created: int
    closed: int


@dataclass(frozen=True)
class Session:
    """A login: the account, and the token that its forms carry."""

    account: Account
    csrf: str


class People:
    """Stations, accounts and sessions in a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # --- Stations --------------------------------------------------------------------------------

    def add_station(self, name: str, organisation: str) -> Secret:
        """A new station, whose units belong to `organisation`; its token is told only here."""
        number = self._ledger.organisation(organisation, create=True)
        return self._add(stations, name, number)

    def revoke_station(self, name: str) -> None:
        """From now on the station's token is refused. Raises LedgerError: no such station."""
        self._set(stations, name, revoked=_now())

    def stations(self) -> list[Station]:
        """All of them, by name."""
        return [Station(*row) for row in self._rows(stations)]

    def station(self, token: str) -> Station | None:
        """Whose token that is; None for one that is wrong or revoked."""
        found = self._owner(stations, token)
        return Station(*found) if found else None

    # --- Accounts --------------------------------------------------------------------------------

    def add_account(self, name: str, organisation: str, password: Secret) -> None:
        """A new account. Raises LedgerError: the name is taken, the password is too short."""
        hashed = hash_password(password)
        values = {
            "name": checked_name(name), "password_hash": hashed, "created": _now(),
            "organisation_id": self._ledger.organisation(organisation, create=True),
        }  # fmt: skip
        try:
            with self._ledger.writing() as connection:
                connection.execute(accounts.insert().values(**values))
        except IntegrityError:
            raise LedgerError(f"there is an account {name!r} already") from None

    def set_password(self, name: str, password: Secret) -> None:
        """Another password; whoever is logged in with the old one is so no more."""
        self._set(accounts, name, password_hash=hash_password(password))
        self._end_sessions(name)

    def close_account(self, name: str) -> None:
        """Neither password nor token counts from now on."""
        self._set(accounts, name, closed=_now())
        self._end_sessions(name)

    def new_token(self, name: str) -> Secret:
        """A token for the REST interface, in place of the account's last one."""
        salt, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
        self._set(accounts, name, salt=salt, token_hash=_token_hash(salt, secret))
        (number,) = (account.id for account in self.accounts() if account.name == name)
        return Secret(f"imp_{number}_{secret}")

    def accounts(self) -> list[Account]:
        """All of them, by name."""
        return [Account(*row) for row in self._rows(accounts)]

    def account(self, token: str) -> Account | None:
        """Whose REST token that is; None for a wrong one or a closed account."""
        found = self._owner(accounts, token)
        return Account(*found) if found else None

    def login(self, name: str, password: Secret) -> Account | None:
        """The account, if name and password are right and it is open."""
        with self._ledger.reading() as connection:
            hashed = connection.scalar(
                select(accounts.c.password_hash).where(accounts.c.name == name)
            )
        right = password_matches(hashed or _nobodys_hash(), password) and hashed is not None
        found = next((a for a in self.accounts() if a.name == name), None)
        return found if right and found and not found.closed else None

    # --- Sessions --------------------------------------------------------------------------------

    def open_session(self, account: Account) -> tuple[Secret, Session]:
        """A session, and the token that its cookie holds."""
        token, csrf, now = secrets.token_urlsafe(32), secrets.token_urlsafe(32), _now()
        values = {
            "token_hash": _session_hash(token), "account_id": account.id, "csrf": csrf,
            "created": now, "seen": now,
        }  # fmt: skip
        with self._ledger.writing() as connection:
            connection.execute(
                delete(sessions).where(
                    (sessions.c.seen < now - SESSION_IDLE_S * 1000)
                    | (sessions.c.created < now - SESSION_LIFE_S * 1000)
                )
            )
            connection.execute(sessions.insert().values(**values))
        return Secret(token), Session(account, csrf)

    def session(self, token: str) -> Session | None:
        """The session of a cookie; None when it is over."""
        key, now = _session_hash(token), _now()
        query = (
            select(sessions.c.csrf, sessions.c.created, sessions.c.seen, *_columns(accounts))
            .join(accounts, accounts.c.id == sessions.c.account_id)
            .join(organisations, organisations.c.id == accounts.c.organisation_id)
            .where(sessions.c.token_hash == key)
        )
        with self._ledger.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        csrf, created, seen, *rest = row
        account = Account(*rest)
        over = created < now - SESSION_LIFE_S * 1000 or seen < now - SESSION_IDLE_S * 1000
        if over or account.closed:
            return None
        if seen < now - _SEEN_EVERY_S * 1000:
            with self._ledger.writing() as connection:
                connection.execute(
                    sessions.update().where(sessions.c.token_hash == key).values(seen=now)
                )
        return Session(account, csrf)

    def close_session(self, token: str) -> None:
        """Log out."""
        with self._ledger.writing() as connection:
            connection.execute(
                delete(sessions).where(sessions.c.token_hash == _session_hash(token))
            )

    # --- What they share -------------------------------------------------------------------------

    def _add(self, table: Table, name: str, organisation_id: int) -> Secret:
        salt, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
        values = {
            "name": checked_name(name), "organisation_id": organisation_id, "salt": salt,
            "token_hash": _token_hash(salt, secret), "created": _now(),
        }  # fmt: skip
        try:
            with self._ledger.writing() as connection:
                connection.execute(table.insert().values(**values))
                number = connection.scalar(select(table.c.id).where(table.c.name == name))
        except IntegrityError:
            raise LedgerError(f"there is a station {name!r} already") from None
        return Secret(f"imp_{number}_{secret}")

    def _set(self, table: Table, name: str, **values: object) -> None:
        with self._ledger.writing() as connection:
            done = connection.execute(table.update().where(table.c.name == name).values(**values))
        if done.rowcount != 1:
            raise LedgerError(f"there is no {table.name[:-1]} {name!r}")

    def _end_sessions(self, name: str) -> None:
        owner = select(accounts.c.id).where(accounts.c.name == name).scalar_subquery()
        with self._ledger.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.account_id == owner))

    def _rows(self, table: Table) -> list[tuple[Any, ...]]:
        query = (
            select(*_columns(table))
            .join(organisations, organisations.c.id == table.c.organisation_id)
            .order_by(table.c.name)
        )
        with self._ledger.reading() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def _owner(self, table: Table, token: str) -> tuple[Any, ...] | None:
        number, secret = _parts(token)
        query = (
            select(table.c.salt, table.c.token_hash, *_columns(table))
            .join(organisations, organisations.c.id == table.c.organisation_id)
            .where(table.c.id == number)
        )
        with self._ledger.reading() as connection:
            row = connection.execute(query).first()
        salt, expected = (row[0], row[1]) if row and row[1] else ("", "0" * 64)
        right = hmac.compare_digest(_token_hash(salt, secret), expected)
        return tuple(row[2:]) if right and row and not row[-1] else None


def hash_password(password: Secret) -> str:
    """`scrypt$n$r$p$salt$hash`. Raises LedgerError for a password that is too short or long."""
    characters = len(password.reveal().decode(errors="replace"))
    if not PASSWORD_MIN <= characters <= _PASSWORD_MAX:
        raise LedgerError(
            f"a password has {PASSWORD_MIN} to {_PASSWORD_MAX} characters",
            next_step="Take a longer one; a few words do well.",
        )
    salt = secrets.token_bytes(16)
    n, r, p = _SCRYPT
    return f"scrypt${n}${r}${p}${salt.hex()}${_scrypt(password, salt, n, r, p).hex()}"


def password_matches(hashed: str, password: Secret) -> bool:
    """Compare in constant time."""
    _, n, r, p, salt, expected = hashed.split("$")
    if len(password.reveal()) > 4 * _PASSWORD_MAX:
        return False
    found = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, bytes.fromhex(expected))


def checked_name(name: str) -> str:
    """A name that fits in a line. Raises LedgerError."""
    if not 1 <= len(name) <= 64 or not name.isprintable() or name != name.strip():
        raise LedgerError("a name has 1 to 64 printable characters, and no blanks around it")
    return name


def _scrypt(password: Secret, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.reveal(), salt=salt, n=n, r=r, p=p, maxmem=_SCRYPT_MEMORY, dklen=32
    )


def _nobodys_hash() -> str:
    """What the password of a name that does not exist is compared with, to take as long."""
    n, r, p = _SCRYPT
    return f"scrypt${n}${r}${p}${'00' * 16}${'00' * 32}"


def _columns(table: Table) -> list[ColumnElement[Any]]:
    over = table.c.revoked if table is stations else table.c.closed
    return [
        table.c.id, table.c.name, table.c.organisation_id, organisations.c.name.label("of"),
        table.c.created, over,
    ]  # fmt: skip


def _parts(token: str) -> tuple[int, str]:
    """The number and the secret of a token; of one that is none, what matches nobody."""
    kind, _, rest = token.partition("_")
    number, _, secret = rest.partition("_")
    if kind != "imp" or not number.isdecimal() or len(number) > 15 or len(token) > 200:
        return 0, ""
    return int(number), secret


def _token_hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode()).hexdigest()


def _session_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _now() -> int:
    return int(time.time() * 1000)
