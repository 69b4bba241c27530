"""The factory's ledger: what a unit may become, and what outlives whatever happens."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import postgresql
import psycopg
import pytest
from imprint_tools import ledger_schema
from imprint_tools.errors import LedgerError
from imprint_tools.factory.people import People
from imprint_tools.ledger import (
    ACTIVE,
    DECOMMISSIONED,
    DISABLED,
    ENROLLED,
    ISSUED,
    PAGE,
    RESERVED,
    Issued,
    Ledger,
    Unit,
    checked_id,
    new_id,
    open_ledger,
)
from imprint_tools.secret import Secret
from sqlalchemy import inspect

CERTIFICATE = Issued("PEM", "01", "AB")


DATABASES = ["sqlite", "postgresql"] if postgresql.programs() else ["sqlite"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL's URL."""
    with postgresql.running() as url:
        yield url


@pytest.fixture(params=DATABASES)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty one, in each kind of data base that this machine has."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgresql":
        url = make_database(request.getfixturevalue("server"))
    opened = open_ledger(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield opened
    opened.close()


def make_database(server: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server % "postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server % name


@pytest.fixture
def station(ledger: Ledger) -> tuple[int, int]:
    """A station and its organisation, by number."""
    people = People(ledger)
    people.add_station("line-1", "acme")
    (found,) = people.stations()
    return found.id, found.organisation_id


def reserve(ledger: Ledger, station: tuple[int, int], key: str, unit_id: str = "") -> Unit:
    return ledger.reserve(*station, key, unit_id)


def enrolled(ledger: Ledger, station: tuple[int, int], key: str) -> Unit:
    unit = reserve(ledger, station, key)
    ledger.issue(unit.id, CERTIFICATE)
    ledger.enrolled([unit.id])
    return ledger.get(unit.id)


def test_the_tables_are_what_the_steps_leave(ledger: Ledger) -> None:
    """Each table has the columns that the code knows, and no other."""
    found = inspect(ledger.engine)
    for table in ledger_schema.metadata.sorted_tables:
        there = {(column["name"], column["nullable"]) for column in found.get_columns(table.name)}
        assert {name for name, _ in there} == set(table.c.keys()), table.name
    assert set(found.get_table_names()) - {"sqlite_sequence"} == set(ledger_schema.metadata.tables)


def test_steps_run_once_and_whole(ledger: Ledger) -> None:
    """A step that fails leaves nothing behind, and runs when it is mended; the others stay."""
    opened = ledger
    broken = (*ledger_schema.STEPS, "CREATE TABLE extra (a TEXT); CREATE TABLE extra (a TEXT)")
    with pytest.raises(Exception, match="already exists"):
        ledger_schema.migrate(opened.engine, broken)
    assert not inspect(opened.engine).has_table("extra")
    mended = (*ledger_schema.STEPS, "CREATE TABLE extra (a TEXT)")
    ledger_schema.migrate(opened.engine, mended)
    ledger_schema.migrate(opened.engine, mended)
    assert inspect(opened.engine).has_table("extra")
    with pytest.raises(LedgerError, match="step 2"):
        ledger_schema.migrate(opened.engine)


def test_a_ledger_is_durable(sqlite: Ledger) -> None:
    """A write-ahead log that is on the disk before a commit counts."""
    with sqlite.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_a_ledger_is_its_owners_alone(tmp_path: Path) -> None:
    """It holds the hashes of passwords and tokens; what SQLite lays beside it is kept so, too."""
    place = tmp_path / "ledger.db"
    ledger = open_ledger(f"sqlite:///{place}")
    People(ledger).add_station("line-1", "acme")
    modes = {one.name: one.stat().st_mode & 0o077 for one in tmp_path.glob("ledger.db*")}
    ledger.close()
    assert len(modes) > 1 and set(modes.values()) == {0}


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite:////no/such/folder/x.db", "oracle://x/y"])
def test_a_ledger_that_cannot_be_opened(url: str) -> None:
    """An expected failure, which does not repeat the URL: it may hold a password."""
    with pytest.raises(LedgerError) as caught:
        open_ledger(url)
    assert not url or url not in str(caught.value)


def test_the_same_request_gets_the_same_unit(ledger: Ledger, station: tuple[int, int]) -> None:
    """However often it is repeated; another request gets another."""
    first = reserve(ledger, station, "key-1")
    assert first.state == RESERVED and first.id == checked_id(first.id)
    assert reserve(ledger, station, "key-1") == first
    assert reserve(ledger, station, "key-2").id != first.id


def test_an_id_is_used_once(ledger: Ledger, station: tuple[int, int]) -> None:
    """A label's id is taken by the first who names it, for ever, and a request keeps its id."""
    wanted = new_id()
    assert reserve(ledger, station, "key-1", wanted).id == wanted
    with pytest.raises(LedgerError, match="has been used"):
        reserve(ledger, station, "key-2", wanted)
    with pytest.raises(LedgerError, match="before"):
        reserve(ledger, station, "key-1", new_id())
    People(ledger).add_station("line-2", "acme")
    other = People(ledger).stations()[1]
    with pytest.raises(LedgerError, match="has been used"):
        ledger.reserve(other.id, other.organisation_id, "key-1", wanted)


@pytest.mark.parametrize(
    "text",
    ["", "x", "{fdeebec7-e899-4c32-ae10-ab614ed4db0b}", "fdeebec7e8994c32ae10ab614ed4db0b",
     "urn:uuid:fdeebec7-e899-4c32-ae10-ab614ed4db0b", "fdeebec7-e899-4c32-ae10-ab614ed4db0b'"],
)  # fmt: skip
def test_what_is_no_guid(text: str) -> None:
    """Only one spelling counts; capitals are made small."""
    with pytest.raises(ValueError):
        checked_id(text)
    upper = "FDEEBEC7-E899-4C32-AE10-AB614ED4DB0B"
    assert checked_id(upper) == upper.lower()


def test_a_unit_gets_one_certificate(ledger: Ledger, station: tuple[int, int]) -> None:
    """The first that is kept stays, whoever comes later."""
    unit = reserve(ledger, station, "key-1")
    assert ledger.issue(unit.id, CERTIFICATE).state == ISSUED
    assert ledger.issue(unit.id, Issued("OTHER", "02", "CD")).certificate == "PEM"


def test_the_way_of_a_unit(ledger: Ledger, station: tuple[int, int]) -> None:
    """Wanted is written before, reached after; what is no way is refused."""
    unit = enrolled(ledger, station, "key-1")
    assert unit.state == ENROLLED and unit.enrolled
    for wanted in (DISABLED, RESERVED):
        with pytest.raises(LedgerError, match="cannot become"):
            ledger.want(unit, wanted)
    on_its_way = ledger.want(unit, ACTIVE, {"tags": {"site": "north"}})
    assert (on_its_way.state, on_its_way.wanted) == (ENROLLED, ACTIVE)
    assert ledger.under_way() == [on_its_way]
    active = ledger.reached(on_its_way)
    assert (active.state, active.wanted, active.settings) == (
        ACTIVE, "", {"tags": {"site": "north"}},
    )  # fmt: skip
    assert active.activated and not ledger.under_way()
    gone = ledger.reached(ledger.want(active, DECOMMISSIONED))
    with pytest.raises(LedgerError, match="cannot become"):
        ledger.want(gone, ACTIVE)


def test_a_stale_wish_is_refused(ledger: Ledger, station: tuple[int, int]) -> None:
    """Who looked at the unit before somebody else changed it has to look again."""
    unit = enrolled(ledger, station, "key-1")
    ledger.reached(ledger.want(unit, DECOMMISSIONED))
    with pytest.raises(LedgerError, match="meanwhile"):
        ledger.want(unit, ACTIVE)


def test_a_failure_keeps_or_drops_the_wish(ledger: Ledger, station: tuple[int, int]) -> None:
    """Weather: it is tried again; a refusal: it is not."""
    unit = ledger.want(enrolled(ledger, station, "key-1"), ACTIVE)
    ledger.failed(unit.id, "away", give_up=False)
    assert (ledger.get(unit.id).wanted, ledger.get(unit.id).problem) == (ACTIVE, "away")
    ledger.failed(unit.id, "refused", give_up=True)
    assert (ledger.get(unit.id).wanted, ledger.get(unit.id).state) == ("", ENROLLED)


def test_pages_show_each_unit_once(ledger: Ledger, station: tuple[int, int]) -> None:
    """Newest first, by state, by how the id begins, and never those of others."""
    made = [reserve(ledger, station, f"key-{n}").id for n in range(PAGE * 2 + 3)]
    People(ledger).add_station("line-2", "other")
    other = next(s for s in People(ledger).stations() if s.organisation == "other")
    ledger.reserve(other.id, other.organisation_id, "key", "")
    seen: list[str] = []
    before = None
    while True:
        page = ledger.page(station[1], before=before)
        seen += [unit.id for unit in page[:PAGE]]
        if len(page) <= PAGE:
            break
        before = page[PAGE - 1].created, page[PAGE - 1].id
    assert sorted(seen) == sorted(made) and len(seen) == len(made)
    assert [u.id for u in ledger.page(station[1], prefix=made[7][:20])] == [made[7]]
    assert ledger.page(station[1], state=ACTIVE) == []
    assert ledger.counts(station[1]) == {RESERVED: len(made)}


def test_many_at_once(ledger: Ledger, station: tuple[int, int]) -> None:
    """Threads that ask with the same keys share units; no one meets a locked data base."""
    found: list[tuple[str, str]] = []

    def work() -> None:
        found.extend((f"key-{n}", reserve(ledger, station, f"key-{n}").id) for n in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 160 and len(set(found)) == 20


def test_no_token_and_no_password_is_kept(sqlite: Ledger, tmp_path: Path) -> None:
    """Neither is in the file; both are known again."""
    people = People(sqlite)
    token = people.add_station("line-9", "acme")
    people.add_account("ann", "acme", Secret("correct horse battery"))
    account_token = people.new_token("ann")
    with sqlite3.connect(tmp_path / "ledger.db") as raw:
        dump = "\n".join(raw.iterdump())
    raw.close()
    for secret in (token, account_token, Secret("correct horse battery")):
        assert secret.reveal().decode() not in dump
    assert token.reveal().decode().rpartition("_")[2] not in dump
    station = people.station(token.reveal().decode())
    assert station is not None and station.name == "line-9"
    assert people.account(account_token.reveal().decode()) is not None


def test_wrong_tokens(ledger: Ledger) -> None:
    """One that is mistyped, another's, an account's at a station's desk, or revoked."""
    people = People(ledger)
    token = people.add_station("line-1", "acme").reveal().decode()
    people.add_account("ann", "acme", Secret("correct horse battery"))
    other = people.new_token("ann").reveal().decode()
    wrong = ["", "imp_1_", "imp_1", token[:-1], token + "x", token.replace("_1_", "_2_"), other,
             "imp_9999999999999999999_x", "imp_-1_x", "imp_1_" + "x" * 999, "imp_²_x"]  # fmt: skip
    assert [people.station(text) for text in wrong] == [None] * len(wrong)
    people.revoke_station("line-1")
    assert people.station(token) is None
    with pytest.raises(LedgerError):
        people.revoke_station("line-7")


def test_logins(ledger: Ledger) -> None:
    """The right password of an open account; a changed one ends what was begun with the old."""
    people = People(ledger)
    with pytest.raises(LedgerError, match="12"):
        people.add_account("ann", "acme", Secret("short"))
    people.add_account("ann", "acme", Secret("correct horse battery"))
    assert people.login("ann", Secret("correct horse batterx")) is None
    assert people.login("bob", Secret("correct horse battery")) is None
    account = people.login("ann", Secret("correct horse battery"))
    assert account is not None
    token, session = people.open_session(account)
    assert people.session(token.reveal().decode()) == session
    assert people.session("x") is None
    people.set_password("ann", Secret("another horse battery"))
    assert people.session(token.reveal().decode()) is None
    assert people.login("ann", Secret("correct horse battery")) is None
    people.close_account("ann")
    assert people.login("ann", Secret("another horse battery")) is None
