"""A local cloud's data base: one JSON file, in memory while the cloud is up.

It holds secrets in clear, as a data base must to check signatures, and is readable by its owner
alone. It is replaced whole.
"""

from __future__ import annotations

import json
import secrets
import string
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud.files import replace

_ALPHANUMERIC = string.ascii_letters + string.digits


class DataFile(ABC):
    """What a cloud knows. Not thread-safe: one loop owns it."""

    LOSS: ClassVar[str]
    """What its devices must do when the file is gone: "register again"."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False

    @abstractmethod
    def _read(self, document: dict[str, Any]) -> None:
        """Take what a file says; ValueError, KeyError, TypeError and AttributeError are its way
        of not doing so, and leave what was known."""

    @abstractmethod
    def _written(self) -> dict[str, Any]:
        """What `_read` takes."""

    def load(self) -> None:
        """Read the file, if there is one. Raises BenchStateError when it is damaged."""
        try:
            self._read(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BenchStateError(
                f"{self._path} is damaged",
                next_step=f"move it away; its devices must then {self.LOSS}",
            ) from None

    def changed(self) -> None:
        """Something is to be written down at the next `flush`: thousands of devices that log in
        together are written down together."""
        self._changed = True

    def flush(self) -> None:
        """Write down what was announced by `changed`."""
        if self._changed:
            self.save()

    def save(self) -> None:
        """Write everything down."""
        self._changed = False
        document = {"version": 1, **self._written()}
        replace(self._path, json.dumps(document).encode(), mode=0o600)


def random_text(length: int) -> str:
    """Letters and digits that nobody guesses."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))
