"""One process of MicroPython: its console input and output, its wire, and its end.

The process dies with this one (it asks the kernel for that), reads `Pipe` as UART0 and asks for
services over a socket pair.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from imprint_tools.runtime import Runtime
from imprint_tools.virtual import guest_image
from imprint_tools.virtual.silicon import Op

_REQUEST = struct.Struct("<4i")
_CHUNK = 65536
_REAP_TIMEOUT_S = 10.0
_BACKLOG_MAX = 1 << 20


class Pipe:
    """Bytes on their way to UART0. It outlives a soft reset, so none is lost in one."""

    def __init__(self) -> None:
        self.far_end, self._near_end = os.pipe()
        os.set_blocking(self._near_end, False)
        self._backlog = bytearray()

    def write(self, data: bytes) -> None:
        """Queue bytes. Those beyond a megabyte that the guest does not read are lost."""
        self._backlog += data[: _BACKLOG_MAX - len(self._backlog)]
        self.flush()

    def flush(self) -> None:
        """Pass on what the guest has room for; to be called again when it has read."""
        try:
            while self._backlog:
                del self._backlog[: os.write(self._near_end, self._backlog)]
        except BlockingIOError:
            pass

    @property
    def full(self) -> bool:
        return bool(self._backlog)

    def fileno(self) -> int:
        """For the event loop: the end that becomes writable."""
        return self._near_end

    def close(self) -> None:
        os.close(self._near_end)
        os.close(self.far_end)


class Begin(Enum):
    """What runs after boot.py."""

    MAIN = "main.py, then the REPL"
    RAW_REPL = "the raw REPL, as after its Ctrl-D"
    REPL = "the REPL"


@dataclass(frozen=True)
class Launch:
    """What stays the same from one start of MicroPython to the next."""

    runtime: Runtime
    preload: Path
    """libfaketime, which reads `clock`."""
    image: Path
    clock: Path
    heap: str
    model: str
    """The chip's name in the REPL's banner."""


class GuestProcess:
    """A running MicroPython. `talked` becomes true with its first program."""

    def __init__(self, launch: Launch, stdin: Pipe, uart_fds: Iterable[int], begin: Begin) -> None:
        self.stdin = stdin
        self.talked = False
        self._requests = bytearray()
        self.wire, wire = socket.socketpair()
        self.stdout, stdout = os.pipe()
        image = os.open(launch.image, os.O_RDONLY)
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own runtime, no shell
                launch.runtime.argv(
                    "-c",
                    guest_image.loader(image, os.fstat(image).st_size),
                    str(wire.fileno()),
                    begin.name,
                    launch.model,
                    heap=launch.heap,
                    preload=[launch.preload],
                ),
                stdin=stdin.far_end,
                stdout=stdout,
                stderr=stdout,
                pass_fds=(wire.fileno(), image, *uart_fds),
                env={
                    "TZ": "UTC",
                    "FAKETIME_TIMESTAMP_FILE": str(launch.clock),
                    "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                },
                start_new_session=True,
            )
        except BaseException:
            self.close()
            raise
        finally:
            os.close(image)
            os.close(stdout)
            wire.close()
        self.wire.setblocking(False)
        os.set_blocking(self.stdout, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> int:
        """End it now; its exit status as subprocess counts (a signal is negative)."""
        self._process.kill()
        return self._process.wait(_REAP_TIMEOUT_S)

    def close(self) -> None:
        """Close this side's ends, all but `stdin`, which a successor may read on."""
        self.wire.close()
        os.close(self.stdout)

    def printed(self) -> bytes:
        """What it has written to the console since the last call."""
        chunks = []
        try:
            while chunk := os.read(self.stdout, _CHUNK):
                chunks.append(chunk)
        except BlockingIOError:
            pass
        return b"".join(chunks)

    def receive(self) -> bool:
        """Read the wire; false when the guest has closed it, which it does by ending."""
        try:
            data = self.wire.recv(_CHUNK)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self._requests += data
        return bool(data)

    def next_request(self) -> tuple[Op, int, int, bytes] | None:
        """A whole request (operation, a, b, data), or None until more has come."""
        if len(self._requests) < _REQUEST.size:
            return None
        number, a, b, length = _REQUEST.unpack_from(self._requests)
        end = _REQUEST.size + length
        if len(self._requests) < end:
            return None
        data = bytes(self._requests[_REQUEST.size : end])
        del self._requests[:end]
        return Op(number), a, b, data

    def reply(self, answer: int | bytes) -> None:
        """The guest waits for it and for nothing else, so the socket has room."""
        data = struct.pack("<i", answer) if isinstance(answer, int) else answer
        try:
            self.wire.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended; the next receive() says so
