"""Processes that a command leaves behind: virtual boards and modems."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from imprint_tools.errors import BenchStateError
from imprint_tools.virtual import control

_READY_S = 600.0  # a board's first boot may fetch the runtime


def start(kind: str, folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Run `imprint <kind> up` in a process of its own; return what it says once it is there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # a board's flash holds secrets
    except OSError as error:
        raise BenchStateError(
            f"{folder} cannot be made: {error.strerror}",
            next_step="Name a folder that is yours in IMPRINT_STATE.",
        ) from None
    with control.lock(folder, kind=kind):
        pass  # refuses here, with the right words, when it is up
    reading, writing = os.pipe()
    log = folder / f"{kind}.log"
    program = "from imprint_tools.cli import main; main()"
    command = [sys.executable, "-c", program, kind, "up"]
    with log.open("wb") as errors, os.fdopen(reading) as ready:
        child = subprocess.Popen(  # noqa: S603  # this very program
            [*command, "--foreground", "--ready-fd", str(writing), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=[writing],
            start_new_session=True,
        )
        os.close(writing)
        in_time = select.select([ready], [], [], _READY_S)[0]
        text = ready.read() if in_time else ""  # empty: the process ended without being ready
    if text:
        state: dict[str, Any] = json.loads(text)
        child.returncode = 0  # it lives on without us: no warning that nobody waits for it
        return state
    child.kill()
    child.wait()
    raise BenchStateError(
        f"the {kind} {folder.name} did not come up: {log.read_text().strip()[-500:]}"
    )
