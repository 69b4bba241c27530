"""A PostgreSQL of one's own on a socket in a folder, where the machine has its programs."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_USERS = ("postgres", "nobody")  # it refuses to run as root
_WAIT_S = 60.0


def programs() -> Path | None:
    """The folder of initdb and postgres; None if there is none."""
    found = shutil.which("initdb")
    known = [Path(found)] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return known[-1].resolve().parent if known else None


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of its server while the block lasts; a data base's name goes in for `%s`."""
    folder_of_programs = programs()
    assert folder_of_programs is not None
    account: dict[str, Any] = {}
    # Not below pytest's folder, which nobody else may enter.
    with tempfile.TemporaryDirectory(prefix="imprint-pg-") as folder:
        if os.getuid() == 0:
            names = {entry.pw_name: entry for entry in pwd.getpwall()}
            user = next(names[name] for name in _USERS if name in names)
            account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = f"{folder}/data"

        def run(program: str, *arguments: str) -> None:
            subprocess.run(  # noqa: S603  the machine's own program
                [folder_of_programs / program, "-D", data, *arguments], check=True, cwd=folder,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_WAIT_S, **account,
            )  # fmt: skip

        run("initdb", "-A", "trust", "-U", "imprint", "--no-sync", "-E", "UTF8", "--locale", "C")
        options = f"-k {folder} -c fsync=off -c listen_addresses="
        run("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", options)
        try:
            yield f"postgresql://imprint@/%s?host={folder}"
        finally:
            run("pg_ctl", "stop", "-w", "-m", "fast")
