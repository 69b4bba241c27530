"""The factory server: its portal with a full ledger, and enrolments at the pace of its DPS."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from imprint_tools.factory import config as configuration
from imprint_tools.factory.client import StationClient
from imprint_tools.factory.config import FactoryConfig, Service
from imprint_tools.factory.people import People
from imprint_tools.issuer import Authority
from imprint_tools.ledger import ENROLLED, Ledger, new_id, open_ledger
from imprint_tools.ledger_schema import units
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig
from imprint_tools.secret import Secret
from lab import Lab
from measure import Figure, Row, Section

_UNITS = 100_000
_ROUNDS = 200
_STATIONS = 4
_STATIONS_S = 20.0
_DPS_PER_MIN = 1000
_BULK = 10
_MINUTE_S = 60.0
_PATIENCE_S = 60.0
_PASSPHRASE = Secret("a passphrase for a bench")
_PASSWORD = Secret("correct horse battery")


@dataclass(frozen=True)
class _World:
    """A cloud, and a factory's folder with an authority and an empty ledger."""

    cloud: AzureCloud
    config: FactoryConfig
    ledger: Ledger
    passphrase: Path


def measure(lab: Lab) -> Section:
    """Pages, units through the server, and a backlog against the throttle."""
    folder = lab.folder / "factory"
    rows = []
    with _world(folder / "pages") as world:
        rows += _pages(world, 50 if lab.quick else _ROUNDS)
    with _world(folder / "line", operations_per_min=None) as world:
        rows.append(_stations(world, folder, 8.0 if lab.quick else _STATIONS_S))
    with _world(folder / "backlog", operations_per_min=_DPS_PER_MIN) as world:
        rows += _backlog(world)
    return Section(
        "The factory server",
        f"Pages: 95th percentile of the time from request to answer over TLS, {_UNITS:,} units in "
        "SQLite, server in a process of its own. Units: from a station's request to the enrolment "
        f"in DPS, {_STATIONS} stations at once. Backlog: units that are issued already, against a "
        f"DPS that takes {_DPS_PER_MIN:,} requests a minute and answers 429 to the rest; a bulk "
        f"request of {_BULK} counts as one there, which is not documented of the real one. DPS is "
        "the local one, on this machine, and shares its processors.",
        tuple(rows),
    )


def _pages(world: _World, rounds: int) -> list[Row]:
    people = People(world.ledger)
    people.add_station("line-1", "acme")
    people.add_account("ann", "acme", _PASSWORD)
    ids = _fill(world.ledger, _UNITS, ENROLLED)
    chance = random.Random(1)  # noqa: S311  no secret
    with _serving(world) as (url, ca), _client(url, ca) as client:
        page = client.get("/login").text
        found = re.search('name="csrf" value="([^"]+)"', page)
        if found is None:
            raise RuntimeError("the login has no form")
        form = {"name": "ann", "password": _PASSWORD.reveal().decode(), "csrf": found[1]}
        if client.post("/login", data=form).status_code != 303:
            raise RuntimeError("the login failed")
        pages: dict[str, Callable[[], str]] = {
            "list of units": lambda: "/",
            "list, by state": lambda: "/?state=enrolled",
            "list, deep inside": lambda: f"/?before={1_000_000 + chance.randrange(_UNITS)}.z",
            "search by the first characters": lambda: f"/?find={chance.choice(ids)[:6]}",
            "a unit": lambda: f"/units/{chance.choice(ids)}",
        }
        return [
            Row(f"portal, {what}: p95", "ms", Figure.of([_p95(client, path, rounds)]), aim="< 50")
            for what, path in pages.items()
        ]


def _p95(client: httpx.Client, path: Callable[[], str], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        wanted = path()
        began = time.perf_counter()
        answer = client.get(wanted)
        taken.append((time.perf_counter() - began) * 1000)
        if answer.status_code != 200:
            raise RuntimeError(f"{wanted}: {answer.status_code}")
    return statistics.quantiles(taken, n=20)[-1]


def _stations(world: _World, folder: Path, span_s: float) -> Row:
    """Units a second, from nothing to enrolled."""
    token = People(world.ledger).add_station("line-1", "acme")
    with _serving(world) as (url, ca):
        end = time.monotonic() + span_s

        def work(number: int) -> None:
            with StationClient(url, ca, token) as station:
                for made in range(1_000_000):
                    if time.monotonic() > end:
                        return
                    place = folder / f"station-{number}" / str(made)
                    station.enrol(place, {"wifi_ssid": "bench"})

        threads = [threading.Thread(target=work, args=(n,)) for n in range(_STATIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(span_s + _PATIENCE_S)
    done = world.ledger.counts()
    if done.keys() != {ENROLLED}:
        raise RuntimeError(f"not every unit was enrolled: {done}")
    pace = Figure.of([done[ENROLLED] / span_s])
    return Row("units made and enrolled", "1/s", pace, aim=f">= {_DPS_PER_MIN / 60:.1f}")


def _backlog(world: _World) -> list[Row]:
    """What a minute of a throttling DPS takes, of what it would take."""
    People(world.ledger).add_station("line-1", "acme")
    with Authority.open(world.config.authority, _PASSPHRASE) as authority:
        pem = authority.issue_leaf(registration_id="sample").pem.decode()
    _fill(world.ledger, (_DPS_PER_MIN + 20) * _BULK, "issued", certificate=pem)
    with _serving(world):
        time.sleep(_MINUTE_S)
    asked = [event for event in world.cloud.events if event["kind"] == "rest"]
    asked = [event for event in asked if event["time"] < asked[0]["time"] + _MINUTE_S]
    statuses = [event["status"] for event in asked]
    counts = {status: statuses.count(status) for status in set(statuses)}
    if counts.keys() - {200, 429} or world.ledger.counts().get("refused"):
        raise RuntimeError(f"DPS answered {counts}")
    taken = counts[200] * _BULK
    allowed = _DPS_PER_MIN * _BULK
    return [
        Row("backlog: enrolments in a minute", "", Figure.of([taken]), Figure.of([allowed]),
            "what DPS allows", "100 %"),
        Row("backlog: requests that were throttled", "", Figure.of([counts.get(429, 0)])),
    ]  # fmt: skip


def _fill(ledger: Ledger, count: int, state: str, *, certificate: str = "") -> list[str]:
    """Units out of nothing, at one stroke."""
    ids = [new_id() for _ in range(count)]
    with ledger.writing() as connection:
        connection.execute(
            units.insert(),
            [
                {
                    "id": unit_id, "station_id": 1, "request_key": f"key-{number}",
                    "organisation_id": 1, "state": state, "certificate": certificate,
                    "problem": "", "serial": f"{number:040x}", "thumbprint": f"{number:064X}",
                    "settings": "{}", "hub": "", "created": 1_000_000 + number, "issued": 1,
                    "changed": 1,
                }
                for number, unit_id in enumerate(ids)
            ],
        )  # fmt: skip
    return ids


@contextlib.contextmanager
def _world(folder: Path, **azure: int | None) -> Iterator[_World]:
    folder.mkdir(parents=True)
    with AzureCloud(folder / "azure", replace(AzureConfig(), **azure)) as cloud:
        with Authority.create_root(folder / "ca", "Bench root", _PASSPHRASE):
            pass
        connection = folder / "dps.connection"
        connection.touch(mode=0o600)
        connection.write_text(
            f"HostName={cloud.config.dps_host};SharedAccessKeyName=provisioningserviceowner;"
            f"SharedAccessKey={cloud.service_key.reveal().decode()}"
        )
        target = next(e.target for e in cloud.endpoints if e.port == 443)
        ledger_url = f"sqlite:///{folder / 'ledger.db'}"
        config = FactoryConfig(
            folder, ("127.0.0.1", 0), ("localhost",), folder / "ca", cloud.config.id_scope,
            cloud.ca_pem, ledger_url, Service(connection, cloud.ca_pem, target),
        )  # fmt: skip
        configuration.write(config)
        passphrase = folder / "passphrase"
        passphrase.write_bytes(_PASSPHRASE.reveal())
        ledger = open_ledger(ledger_url)
        try:
            yield _World(cloud, config, ledger, passphrase)
        finally:
            ledger.close()


@contextlib.contextmanager
def _serving(world: _World) -> Iterator[tuple[str, Path]]:
    """`imprint factory serve` while the block lasts: its URL, its CA."""
    command = [Path(sys.executable).with_name("imprint"), "factory", "serve", "--json",
               "--folder", world.config.folder, "--passphrase", world.passphrase]  # fmt: skip
    with subprocess.Popen(  # noqa: S603  our own command
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as server:
        try:
            if server.stdout is None or server.stderr is None:
                raise RuntimeError("no pipes")
            said = b""
            while not said.endswith(b"}\n"):
                line = server.stdout.readline()
                if not line:
                    raise RuntimeError(server.stderr.read().decode())
                said += line
            document = json.loads(said)
            yield document["url"], Path(document["ca"])
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(_PATIENCE_S)


def _client(url: str, ca: Path) -> httpx.Client:
    context = ssl.create_default_context(cafile=ca)
    return httpx.Client(base_url=url, verify=context, timeout=_PATIENCE_S, trust_env=False)
