"""Where a local cloud listens: the one thing that virtual boards and local clouds share.

A cloud writes `cloud.json` into its folder; a virtual access point reads it and routes the
vendor's true host names to loopback, so that names on the device stay those of the real cloud.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imprint_tools.errors import BenchStateError


@dataclass(frozen=True)
class Endpoint:
    """Connections to any name matching `host` (fnmatch pattern) at `port` go to `target`."""

    host: str
    port: int
    target: tuple[str, int]
    proto: str = "tcp"


@dataclass(frozen=True)
class CloudState:
    """What a running local cloud tells the rest of the bench. `ca`: None where no certificate is
    shown, but a key shared."""

    pid: int
    ca: Path | None
    endpoints: tuple[Endpoint, ...]


def save(folder: Path, pid: int, ca: Path | None, endpoints: Iterable[Endpoint]) -> None:
    """Write `cloud.json` (replaced whole)."""
    document = {
        "pid": pid,
        "ca": None if ca is None else str(ca),
        "endpoints": [
            {"host": e.host, "port": e.port, "target": list(e.target), "proto": e.proto}
            for e in endpoints
        ],
    }
    staged = folder / "cloud.json.new"
    staged.write_text(json.dumps(document, indent=2, sort_keys=True))
    staged.replace(folder / "cloud.json")


def load(folder: Path) -> CloudState:
    """Read `cloud.json`. Raises BenchStateError when no cloud of that name is up."""
    try:
        document = json.loads((folder / "cloud.json").read_text())
        endpoints = tuple(
            Endpoint(e["host"], e["port"], (e["target"][0], e["target"][1]), e["proto"])
            for e in document["endpoints"]
        )
        ca = document["ca"]
        return CloudState(document["pid"], None if ca is None else Path(ca), endpoints)
    except FileNotFoundError:
        raise BenchStateError(
            f"the local cloud {folder.name} is not up",
            next_step=f"start it: imprint cloud up {folder.name}",
        ) from None
