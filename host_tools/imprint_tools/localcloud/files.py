"""A cloud's files: replaced whole, so that a reader never sees half of one, and under a lock."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from imprint_tools.errors import BenchStateError


def replace(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` in place of the file; it never exists with wider rights than `mode`."""
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    staged.replace(path)


def lock(folder: Path) -> TextIO:
    """A cloud's lock on its folder, which the kernel gives back when its holder ends somehow.

    Raises BenchStateError when the folder's cloud is up already.
    """
    held = (folder / "lock").open("a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise BenchStateError(
            f"the local cloud in {folder} is up already",
            next_step=f"stop it: imprint cloud down {folder.name}",
        ) from None
    return held
