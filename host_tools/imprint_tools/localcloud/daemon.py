"""A local cloud as a process of its own: started, made ready, asked, stopped.

folder/
  cloud.json     where it listens, while it is up (imprint_tools.endpoints)
  identity.toml  an identity for `imprint inject`, readable by its owner alone; more beside it
  root_ca.pem    what that identity trusts, where it trusts a certificate
  devices.json   products, devices and what was issued to them
  events.jsonl   what happened
  cloud.log      what the process itself had to say
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from select import select
from typing import Any, NoReturn

from imprint_tools import endpoints, paths
from imprint_tools.endpoints import CloudState
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import control
from imprint_tools.localcloud.service import Served, Service

NAMES = ("aliyun", "enos", "azure")

_START_S = 30.0
_STOP_S = 15.0
_ENTRY = "import sys; from imprint_tools.localcloud import daemon; daemon.child(sys.argv[1:])"


def folder(name: str) -> Path:
    """Where that cloud keeps everything."""
    return paths.state_dir() / "clouds" / name


def service(name: str) -> Service:
    """What runs that cloud. Raises RuntimeMissingError where it lacks a library."""
    run: Service = importlib.import_module(f"imprint_tools.localcloud.{name}.service").run
    return run


def up(name: str, products: tuple[str, ...] = (), config: Path | None = None) -> CloudState:
    """Start that cloud in the background and wait until it listens.

    Raises BenchStateError when it is up already or does not come up, RuntimeMissingError.
    """
    service(name)
    place = folder(name)
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BenchStateError(f"{place} cannot be made: {error.strerror}") from None
    ready, ready_in_child = os.pipe()
    arguments = [name, str(ready_in_child), str(config.resolve()) if config else "", *products]
    with (place / "cloud.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            [sys.executable, "-c", _ENTRY, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[ready_in_child],
            start_new_session=True,
        )
    os.close(ready_in_child)
    try:
        report = _await_report(ready)
    finally:
        os.close(ready)
    if report == {"up": True}:
        # It outlives this process; without a return code the interpreter would complain of that.
        process.returncode = 0
        return endpoints.load(place)
    process.kill()
    process.wait()
    raise BenchStateError(
        report.get("error", f"the local cloud {name} did not come up"),
        next_step=report.get("next_step") or f"read {place / 'cloud.log'}",
    )


def down(name: str) -> None:
    """Stop that cloud and wait until it has ended. Raises BenchStateError when it is not up."""
    place = folder(name)
    state = endpoints.load(place)
    try:
        process = os.pidfd_open(state.pid)
        try:
            control.ask(place, "stop")
            if not select([process], [], [], _STOP_S)[0]:
                raise BenchStateError(
                    f"the local cloud {name} does not stop",
                    next_step=f"end its process, {state.pid}",
                )
        finally:
            os.close(process)
    except (ProcessLookupError, control.NotUpError):
        # It was killed: what it left behind would lead boards astray.
        (place / "cloud.json").unlink(missing_ok=True)
        raise BenchStateError(
            f"the local cloud {name} had ended without a word",
            next_step=f"read {place / 'cloud.log'}, or start it: imprint cloud up {name}",
        ) from None


def serve(
    name: str,
    products: tuple[str, ...],
    config: Path | None,
    on_ready: Callable[[Served], None],
) -> None:
    """Run that cloud in this process until it is told to stop, SIGTERM or Ctrl-C included."""
    signal.signal(signal.SIGTERM, _interrupt)
    place = folder(name)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with service(name)(place, products, config) as served, control.listen(place) as listener:
            on_ready(served)
            control.serve(listener, served.operations)
    except KeyboardInterrupt:
        pass  # the way a person ends it, and it has ended in good order


def child(arguments: list[str]) -> None:
    """The background process: [name, file descriptor for the report, config file, product...]."""
    name, descriptor, config, *products = arguments
    with os.fdopen(int(descriptor), "w") as report:

        def ready(_: Served) -> None:
            report.write(json.dumps({"up": True}) + "\n")
            report.close()

        try:
            serve(name, tuple(products), Path(config) if config else None, ready)
        except BenchStateError as error:
            json.dump({"error": str(error), "next_step": error.next_step}, report)


def _await_report(descriptor: int) -> dict[str, Any]:
    """The child's one line; empty when it ended or fell silent without a word."""
    if not select([descriptor], [], [], _START_S)[0]:
        return {}
    with os.fdopen(os.dup(descriptor)) as report:
        line = report.readline()
    return json.loads(line) if line else {}


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
