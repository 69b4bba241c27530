"""What every local cloud is to the process that runs it, and what their files have in common."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from imprint_tools.endpoints import CloudState
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.control import Operation
from imprint_tools.localcloud.files import replace

_T = TypeVar("_T")

WIFI_SSID = "imprint"
"""What an identity made here joins: the open network that `imprint board up` has by default."""


@dataclass(frozen=True)
class Served:
    """A cloud that is up: where it listens, and what its console can ask of it."""

    state: CloudState
    operations: Mapping[str, Operation]


class Service(Protocol):
    """Runs a cloud in a folder while its context lasts: with the products named, or with what a
    TOML file says. It has written an identity for `imprint inject` when the context begins."""

    def __call__(
        self, place: Path, products: tuple[str, ...], config: Path | None
    ) -> AbstractContextManager[Served]: ...


def read_config(path: Path, read: Callable[[dict[str, Any]], _T], next_step: str) -> _T:
    """Read a TOML file, whose document `read` understands; ValueError, KeyError, TypeError and
    AttributeError are its way of not doing so.

    Raises BenchStateError, which never quotes the file: it may hold secrets.
    """
    try:
        return read(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        problem = error.strerror or "unreadable"
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = "it is not TOML, or a key in it is unknown or of a wrong type"
    raise BenchStateError(f"{path} cannot be used: {problem}", next_step=next_step)


def write_identity(path: Path, fields: Mapping[str, str | int]) -> None:
    """Write an identity file, for its owner alone."""
    # A JSON string is a TOML basic string.
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in fields.items()]
    replace(path, "".join(lines).encode(), mode=0o600)


def check_settings(document: Mapping[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    """The document, if it has no other keys and types than these. Raises KeyError, TypeError."""
    for name, value in document.items():
        if type(value) is not kinds[name]:
            raise TypeError
    return dict(document)


def check_words(*words: object) -> None:
    """Raises TypeError unless all are strings with something in them."""
    if not all(isinstance(word, str) and word for word in words):
        raise TypeError
