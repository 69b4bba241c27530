"""What all local clouds are: a folder, a loop in a thread, a log, and a console onto both.

A cloud of its own says what it opens (`_open`) and what it is set up with (`_prepare`); when it is
up, its rules live in one event loop, and every method of its console runs there.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar

from imprint_tools import endpoints
from imprint_tools.endpoints import CloudState, Endpoint
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import pki
from imprint_tools.localcloud.datafile import DataFile
from imprint_tools.localcloud.events import Event, EventLog
from imprint_tools.localcloud.files import lock
from imprint_tools.localcloud.loop import WAIT_S, LoopThread
from imprint_tools.localcloud.refusal import Refusal

_T = TypeVar("_T")
P = TypeVar("P")
"""What the rules of a cloud are, seen from its console: its platform."""


@dataclass(frozen=True)
class _Up(Generic[P]):
    """What there is only while the cloud runs."""

    platform: P
    runner: LoopThread
    undo: contextlib.ExitStack


class Cloud(ABC, Generic[P]):
    """A cloud. `start()` and `stop()`, or a `with` block; every method is thread-safe."""

    NAME: ClassVar[str]
    """As `imprint cloud up` has it."""
    DEVICES: ClassVar[str]
    """The command that lists what it knows."""

    def __init__(self, folder: Path, data: DataFile) -> None:
        self.folder = folder
        self.endpoints: list[Endpoint] = []
        self.ca_pem: Path | None = None
        """What its devices trust, where it shows a certificate."""
        self.ca_der = b""
        self._data = data
        self._log = EventLog(folder / "events.jsonl")
        self._up: _Up[P] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on loopback and write `cloud.json`: on free ports, later ones on the same.

        Raises BenchStateError when the folder's cloud is up already, its data base is damaged or
        a port is taken.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            undo.enter_context(lock(self.folder))
            self._data.load()
            self._prepare()
            self._log.open()
            undo.callback(self._log.close)
            runner = LoopThread(self.NAME, self._on_loop_error)
            undo.callback(runner.stop)
            undo.callback(self._closed)
            platform = self._open(runner, undo)
            endpoints.save(self.folder, os.getpid(), self.ca_pem, self.endpoints)
            undo.callback((self.folder / "cloud.json").unlink, missing_ok=True)
            ports = sorted({endpoint.target[1] for endpoint in self.endpoints})
            self._log.add("cloud-up", ports=ports)
            self._up = _Up(platform, runner, undo.pop_all())

    def stop(self) -> None:
        """End every connection and write down what is known. Raises a bug that a rule had."""
        up, self._up = self._up, None
        if up is not None:
            up.undo.close()

    # -- what a cloud of its own says ----------------------------------------------------------

    @abstractmethod
    def _prepare(self) -> None:
        """Add to the data base what the configuration names."""

    @abstractmethod
    def _open(self, runner: LoopThread, undo: contextlib.ExitStack) -> P:
        """Listen, fill `endpoints`, and leave on `undo` what ends it all."""

    def _on_loop_error(self, text: str) -> None:
        """What asyncio would have logged."""
        self._log.add("loop", detail=text)

    def _closed(self) -> None:
        """All connections have ended."""
        self._data.save()
        self._log.add("cloud-down")

    def _server_files(
        self, names: Sequence[str], *, variant: str = pki.GOOD, key_type: str = "ec"
    ) -> pki.ServerFiles:
        """A server's chain and key for these host names, by the folder's authority."""
        files = pki.provide(self.folder, names, variant=variant, key_type=key_type)
        self.ca_pem, self.ca_der = files.root_ca, files.root_ca_der
        return files

    def _tls_context(
        self, names: Sequence[str], *, variant: str = pki.GOOD, key_type: str = "ec"
    ) -> ssl.SSLContext:
        """A server's context for these host names, TLS 1.2 alone, by the folder's authority."""
        files = self._server_files(names, variant=variant, key_type=key_type)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(files.chain, files.key)
        return context

    # -- what is to be seen --------------------------------------------------------------------

    @property
    def state(self) -> CloudState:
        """What `cloud.json` says."""
        return CloudState(os.getpid(), self.ca_pem, tuple(self.endpoints))

    @property
    def events(self) -> list[Event]:
        """What happened since this object was made, oldest first (the newest 20,000)."""
        return self._log.all()

    @property
    def event_log(self) -> EventLog:
        """The log itself: `event_log.wait("report", timeout_s=5)`."""
        return self._log

    def _look(self, function: Callable[[], _T]) -> _T:
        """Read the data base, where it lives while the cloud is up."""
        return function() if self._up is None else self._up.runner.call(function)

    def _console(self, function: Callable[[P], _T]) -> _T:
        """Run where the data base and the connections live. Raises BenchStateError for a no."""
        up = self._running()
        with self._refusals():
            return up.runner.call(lambda: function(up.platform))

    def _await(self, function: Callable[[P], Awaitable[_T]], wait_s: float = WAIT_S) -> _T:
        """The same for what takes its time."""
        up = self._running()

        async def run() -> _T:
            return await function(up.platform)

        with self._refusals():
            return up.runner.run(run(), wait_s)

    def _running(self) -> _Up[P]:
        if self._up is None:
            raise BenchStateError(
                "the local cloud is not up", next_step=f"start it: imprint cloud up {self.NAME}"
            )
        return self._up

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """A no is BenchStateError to whoever stands at the console."""
        try:
            yield
        except Refusal as refusal:
            raise BenchStateError(
                f"the local cloud says {refusal.reason}",
                next_step=f"list what it knows: {self.DEVICES}",
            ) from None
