"""Speaking to a local cloud that runs in another process: one JSON line each way.

The socket lies in the cloud's folder, which only its owner may enter; that is all the access
control there is, and all that a bench needs.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imprint_tools import unixsocket
from imprint_tools.errors import BenchStateError

Operation = Callable[..., Any]

_NAME = "control.sock"
_ANSWER_S = 15.0
_LINE_MAX = 16 * 1024 * 1024


class NotUpError(BenchStateError):
    """Nobody listens in that folder."""


class Stop(Exception):
    """Raised by an operation to end `serve`, after its client was told that all is well."""


def listen(folder: Path) -> socket.socket:
    """A listening socket in that folder, in place of one that a dead process left."""
    return unixsocket.listen(folder / _NAME)


def serve(listener: socket.socket, operations: Mapping[str, Operation]) -> None:
    """Answer one request after the other until an operation raises Stop."""
    while True:
        client, _ = listener.accept()
        with client:
            client.settimeout(_ANSWER_S)
            try:
                request = _read_line(client)
            except (OSError, ValueError):
                continue
            stop = False
            try:
                answer = {"result": operations[request["do"]](**request["with"])}
            except Stop:
                answer, stop = {"result": None}, True
            except BenchStateError as error:
                answer = {"error": str(error), "next_step": error.next_step}
            except (KeyError, TypeError) as error:
                answer = {"error": f"no such request ({error})", "next_step": ""}
            try:
                client.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                pass  # the client did not wait; what it asked for is done
        if stop:
            return


def ask(folder: Path, operation: str, **arguments: Any) -> Any:
    """Have the cloud in that folder do something; returns its result.

    Raises BenchStateError when it is not up, does not answer in time or says no.
    """
    try:
        with unixsocket.connect(folder / _NAME, _ANSWER_S) as client:
            client.sendall(json.dumps({"do": operation, "with": arguments}).encode() + b"\n")
            answer = _read_line(client)
    except TimeoutError:
        raise BenchStateError(
            f"the local cloud {folder.name} does not answer",
            next_step=f"read {folder / 'cloud.log'}, then end that process",
        ) from None
    except (OSError, ValueError):
        raise NotUpError(
            f"the local cloud {folder.name} is not up",
            next_step=f"start it: imprint cloud up {folder.name}",
        ) from None
    if "error" in answer:
        raise BenchStateError(answer["error"], next_step=answer["next_step"])
    return answer["result"]


def _read_line(sock: socket.socket) -> dict[str, Any]:
    with sock.makefile("rb") as stream:
        document = json.loads(stream.readline(_LINE_MAX))
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document
