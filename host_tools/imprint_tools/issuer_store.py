"""An authority's folder: its key, its certificate, and the record of all that it issued.

    ca.pem            the authority's certificate
    issuers.pem       those above it, nearest first; absent for a root
    ca.key            PKCS#8, encrypted
    issued.sqlite3    every certificate issued, what was revoked, the number of the last CRL

The folder is its owner's alone (0700), and so are key and record (0600). The folder is made under
another name and renamed when it is whole; what changes later is in the database, whose every
transaction is on disk before a certificate leaves the process. So a kill, or a power cut, at any
moment leaves an authority that knows every certificate that anybody holds.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from imprint_tools import certificates
from imprint_tools.errors import AuthorityError, ImprintError, IssueError

_CERTIFICATE, _ISSUERS, _KEY, _RECORD = "ca.pem", "issuers.pem", "ca.key", "issued.sqlite3"
_FORMAT = 1
_BUSY_S = 30.0  # how long a process waits for another one's transaction

# The name of a unit is compared without case, as DPS compares registration ids.
_SCHEMA = """
CREATE TABLE issued (
    serial TEXT PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE,
    kind TEXT NOT NULL,
    key_id BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    certificate BLOB NOT NULL,
    revoked_at INTEGER,
    reason TEXT
) STRICT;
CREATE INDEX issued_by_name ON issued (name);
CREATE INDEX issued_by_key ON issued (key_id);
CREATE TABLE crl (number INTEGER NOT NULL) STRICT;
INSERT INTO crl VALUES (0);
"""

_SELECT = "SELECT name, kind, certificate, revoked_at, reason FROM issued"


@dataclass(frozen=True)
class Entry:
    """One certificate of the record. `kind` is device, server, authority or verification."""

    name: str
    kind: str
    certificate: x509.Certificate
    revoked_at: datetime.datetime | None = None
    reason: str = ""

    @property
    def serial(self) -> str:
        """The serial number as people compare it: hexadecimal, lower case."""
        return serial_text(self.certificate)

    def live(self, now: datetime.datetime) -> bool:
        """Neither ended nor revoked."""
        return self.revoked_at is None and self.certificate.not_valid_after_utc > now


@dataclass(frozen=True)
class Folder:
    """What an authority's folder holds, but for the record."""

    path: Path
    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...]
    encrypted_key: bytes


def serial_text(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:040x}"


def create(
    path: Path,
    certificate: x509.Certificate,
    issuers: tuple[x509.Certificate, ...],
    encrypted_key: bytes,
) -> None:
    """Make the folder, whole or not at all. Raises AuthorityError when there is something."""
    refuse_existing(path)
    staged = path.with_name(f".{path.name}.new")
    try:
        shutil.rmtree(staged, ignore_errors=True)  # left by a process that was killed here
        staged.mkdir(mode=0o700, parents=True)
        write(staged / _KEY, encrypted_key, private=True)
        write(staged / _CERTIFICATE, certificates.pem(certificate))
        if issuers:
            write(staged / _ISSUERS, certificates.pem(*issuers))
        write(staged / _RECORD, b"", private=True)
        with contextlib.closing(sqlite3.connect(staged / _RECORD)) as database:
            database.executescript(_SCHEMA + f"PRAGMA user_version = {_FORMAT};")
        staged.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise AuthorityError(f"{path} cannot be made: {error.strerror}") from None


def refuse_existing(path: Path) -> None:
    """Raises AuthorityError when `path` is not free for a new authority."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise AuthorityError(
            f"{path} holds something already",
            next_step="Name a new folder; an authority is never written over another.",
        )


def load(path: Path) -> Folder:
    """What `create` wrote. Raises AuthorityError."""
    try:
        own = certificates.load((path / _CERTIFICATE).read_bytes())
        issuers_file = path / _ISSUERS
        issuers = certificates.load(issuers_file.read_bytes()) if issuers_file.exists() else []
        key = (path / _KEY).read_bytes()
    except FileNotFoundError as error:
        raise AuthorityError(f"there is no authority in {path}: no {error.filename}") from None
    except OSError as error:
        raise AuthorityError(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError:
        raise AuthorityError(f"a certificate in {path} is damaged") from None
    return Folder(path, own[0], tuple(issuers), key)


def replace_key(path: Path, encrypted_key: bytes) -> None:
    """Put the key, encrypted otherwise, in place of the old file. Raises AuthorityError."""
    try:
        write(path / _KEY, encrypted_key, private=True)
    except OSError as error:
        raise AuthorityError(f"{error.filename} cannot be written: {error.strerror}") from None


def write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write `data` in place of the file, on disk, whole or not at all; 0600 or 0644."""
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    mode = 0o600 if private else 0o644
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
    _sync_folder(path.parent)


class Record:
    """All that an authority issued. Threads may share it, and processes the file."""

    def __init__(self, folder: Path) -> None:
        """Raises AuthorityError when the folder has no record that can be read."""
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        path = folder / _RECORD
        try:
            # mode=rw: a record that is gone is a loss to report, not one to begin anew.
            self._database = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S,
                isolation_level=None, check_same_thread=False,
            )  # fmt: skip
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            found = self._database.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise AuthorityError(f"{path} cannot be read: {error}") from None
        if found != _FORMAT:
            raise AuthorityError(f"{path} has format {found}, this program knows {_FORMAT}")

    def close(self) -> None:
        self._database.close()

    def add(self, entry: Entry, now: datetime.datetime, *, renew: bool) -> None:
        """Enter a certificate; on disk when this returns.

        Raises IssueError when another name holds the key, or, without `renew`, when the name has
        a live certificate for another key.
        """
        key = certificates.key_id(certificates.public_key(entry.certificate))
        job = _Job(entry, key, int(now.timestamp()), renew)
        self._waiting.append(job)
        with self._lock:
            # While one thread waits for the disk others queue; the next writes for all of them.
            if not job.done:
                self._write([self._waiting.popleft() for _ in range(len(self._waiting))])
        if job.error is not None:
            raise job.error

    def _write(self, jobs: list[_Job]) -> None:
        """Enter all in one transaction; what is wrong with one does not touch the others."""
        try:
            with self._transaction() as database:
                for job in jobs:
                    job.error = _refusal(database, job)
                    if job.error is None:
                        _insert(database, job)
        except BaseException as error:
            for job in jobs:
                job.error = AuthorityError(f"the record was not written: {error}")
            raise
        finally:
            for job in jobs:
                job.done = True

    def entries(self, name: str | None = None) -> list[Entry]:
        """All, or those of a name; oldest first."""
        if name is None:
            return self._read("ORDER BY rowid")
        return self._read("WHERE name = ? ORDER BY rowid", name)

    def find(self, serial: str) -> Entry | None:
        """The certificate of that serial number (hexadecimal), if it was issued here."""
        found = self._read("WHERE serial = ?", serial.lower().replace(":", "").zfill(40))
        return found[0] if found else None

    def _read(self, which: str, *values: str) -> list[Entry]:
        with self._lock:
            try:
                rows = self._database.execute(f"{_SELECT} {which}", values).fetchall()
            except sqlite3.Error as error:
                raise AuthorityError(f"the record cannot be read: {error}") from None
        return [_entry(*row) for row in rows]

    def revoke(self, serial: str, reason: str, now: datetime.datetime) -> None:
        """Revoke an entry; again, with another reason, changes the reason and not the date."""
        with self._lock, self._transaction() as database:
            database.execute(
                "UPDATE issued SET revoked_at = coalesce(revoked_at, ?), reason = ?"
                " WHERE serial = ?",
                (int(now.timestamp()), reason, serial),
            )

    def begin_crl(self) -> tuple[int, list[Entry]]:
        """The next CRL's number, never given twice, and what has to stand in it."""
        with self._lock, self._transaction() as database:
            database.execute("UPDATE crl SET number = number + 1")
            number = database.execute("SELECT number FROM crl").fetchone()[0]
            rows = database.execute(
                f"{_SELECT} WHERE revoked_at IS NOT NULL ORDER BY revoked_at, serial"
            ).fetchall()
        return number, [_entry(*row) for row in rows]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; the caller holds the lock."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise AuthorityError(f"the record cannot be written: {error}") from None


@dataclass
class _Job:
    """An entry on its way into the record."""

    entry: Entry
    key: bytes
    now: int
    renew: bool
    error: ImprintError | None = None
    done: bool = False


def _refusal(database: sqlite3.Connection, job: _Job) -> IssueError | None:
    """Why the entry may not stand beside those that are there, if so."""
    name = job.entry.name
    other = database.execute(
        "SELECT name FROM issued WHERE key_id = ? AND name <> ?", (job.key, name)
    ).fetchone()
    if other:
        return IssueError(
            f"the key of {name} is that of {other[0]}",
            next_step="Make a key for each unit; a copied one gives both away.",
        )
    if job.renew:
        return None
    live = database.execute(
        "SELECT serial FROM issued WHERE name = ? AND kind = ? AND key_id <> ?"
        " AND not_after > ? AND revoked_at IS NULL",
        (name, job.entry.kind, job.key, job.now),
    ).fetchone()
    if not live:
        return None
    return IssueError(
        f"{name} has a certificate for another key already, serial {live[0]}",
        next_step="Renew it, or revoke it if its key is lost.",
    )


def _insert(database: sqlite3.Connection, job: _Job) -> None:
    entry = job.entry
    database.execute(
        "INSERT INTO issued VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
        (
            entry.serial,
            entry.name,
            entry.kind,
            job.key,
            int(entry.certificate.not_valid_after_utc.timestamp()),
            certificates.der(entry.certificate),
        ),
    )


def _entry(name: str, kind: str, der: bytes, revoked_at: int | None, reason: str | None) -> Entry:
    revoked = None
    if revoked_at is not None:
        revoked = datetime.datetime.fromtimestamp(revoked_at, datetime.UTC)
    return Entry(name, kind, x509.load_der_x509_certificate(der), revoked, reason or "")


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
