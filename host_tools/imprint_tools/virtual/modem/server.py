"""A modem that other processes use: a pseudo-terminal and a control socket in a folder.

The folder holds tty (the port), modem.json (family, IMEI, and while it is up its port and
process) and the control socket. What the modem keeps in NVM lasts as long as the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from imprint_tools.errors import BenchStateError
from imprint_tools.virtual import control
from imprint_tools.virtual.modem.bench import Modem, imei_of

KIND = "modem"
_ANSWER_S = 10.0


class ServedModem:
    """`Modem(family, **options)` in `folder`, down until `with`. KeyError: no such family."""

    def __init__(self, folder: Path, family: str, **options: Any) -> None:
        self.folder = folder
        self.went_down = threading.Event()
        self.modem = Modem(family, pty=folder / "tty", imei=imei_of(folder.name), **options)
        self._family = family

    def __enter__(self) -> ServedModem:
        """Raises BenchStateError: it is up already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = control.lock(self.folder, kind=KIND)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="modem control", daemon=True
        )
        self._thread.start()
        self.modem.start()
        self._control = asyncio.run_coroutine_threadsafe(
            control.serve(self.folder, self._answer), self._loop
        ).result(_ANSWER_S)
        self._write_state(up=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_ANSWER_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_S)
        self._loop.close()
        self.modem.close()
        (self.folder / control.SOCKET_NAME).unlink(missing_ok=True)
        self._write_state(up=False)
        self._lock.close()

    async def _stop(self) -> None:
        self._control.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        what = request["do"]
        if what == "down":
            self.went_down.set()
        elif what == "reboot":
            self.modem.reboot()
        elif what == "rebind":
            self.modem.rebind()
        elif what == "wake":
            self.modem.wake()
        elif what != "status":
            raise ValueError(f"no such request: {what}")
        return self.modem.facts()

    def _write_state(self, *, up: bool) -> None:
        state: dict[str, Any] = {
            "family": self._family,
            "imei": self.modem.imei,
            "name": self.folder.name,
        }
        if up:
            state |= {"pid": os.getpid(), "port": str(self.folder / "tty")}
        staged = self.folder / "modem.json.new"
        staged.write_text(json.dumps(state, indent=2, sort_keys=True))
        staged.replace(self.folder / "modem.json")


def read_state(folder: Path) -> dict[str, Any]:
    """modem.json. Raises BenchStateError when there is none, or it is damaged."""
    try:
        state: dict[str, Any] = json.loads((folder / "modem.json").read_text())
    except (FileNotFoundError, ValueError):
        raise BenchStateError(
            f"there is no modem in {folder}", next_step=f"delete {folder}, if it exists"
        ) from None
    return state
