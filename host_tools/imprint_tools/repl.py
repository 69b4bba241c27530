"""MicroPython's raw REPL, through mpremote's transport as a library.

Code and data go to the board inside the raw REPL and nowhere else: not in a process's arguments,
not in a file. mpremote's exceptions quote what the board sent back, and a board that is not in
the raw REPL echoes what it gets; so none of them leaves this module, and our own errors are
raised outside of `except` blocks, unchained.
"""

from __future__ import annotations

import binascii
import builtins
from types import TracebackType
from typing import Any, Self

import serial  # type: ignore[import-untyped]
from mpremote import transport_serial  # type: ignore[import-untyped]
from mpremote.transport import (  # type: ignore[import-untyped]
    TransportError,
    TransportExecError,
)

from imprint_tools import syntax
from imprint_tools.errors import DeviceError, PortError
from imprint_tools.ports import open_port

# A board that boots, or waits in C for a peer, does not hear the first Ctrl-C; so ask again. An
# attempt spans a soft reset, which mounts the file system and runs boot.py; on a blank board the
# first boot makes that file system.
_ENTER_TIMEOUTS_S = (1, 2, 5, 10)
_SILENCE_S = 10
_BYTE_TIMEOUT_S = 10
_RESTART = "import machine, time\nmachine.RTC().memory(b'')\ntime.sleep_ms(50)\nmachine.reset()"
_CHUNK = 384  # bytes of data a statement: small enough for a parser on a 64 kB heap


def _say_nothing(*_args: object) -> None:
    """mpremote prints what the board said when it cannot enter the raw REPL. stdout is ours."""


transport_serial.print = _say_nothing


class _Transport(transport_serial.SerialTransport):  # type: ignore[misc]  # untyped base
    """mpremote's transport over a port that is open already.

    Its own constructor opens the port and hides why that failed.
    """

    def __init__(self, port: serial.SerialBase) -> None:
        self.serial = port
        self.device_name = port.name
        self.in_raw_repl = False
        self.use_raw_paste = True
        self.mounted = False
        # True would make it read with the port's timeout, whatever its own deadline says.
        self.is_pty = False


class Repl:
    """A board at its raw REPL, freshly soft-reset: boot.py has run and main.py has not.

        with Repl("/dev/ttyUSB0") as repl:
            repl.call("print(repr(1 + 1))")

    Leaving the block leaves the raw REPL; `restart()` resets the chip instead. A board that says
    nothing for `silence_s` while it runs something counts as gone.
    """

    def __init__(self, url: str, *, silence_s: float = _SILENCE_S) -> None:
        self.url = url
        self._silence_s = silence_s
        self._port = open_port(url, timeout_s=_BYTE_TIMEOUT_S)
        self._port.write_timeout = _BYTE_TIMEOUT_S
        self._transport = _Transport(self._port)

    def __enter__(self) -> Self:
        try:
            self._guarded("enter its raw REPL", self._enter)
        except BaseException:
            self._port.close()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        try:
            if self._transport.in_raw_repl:
                self._transport.exit_raw_repl()
        except OSError:
            pass  # the board is gone; what happened before is what matters
        finally:
            self._port.close()

    def run(self, what: str, code: str | bytes) -> bytes:
        """Run `code` and return what it printed. `what` names it in an error.

        Raises DeviceError with the exception's type and numbers when it raised.
        """
        output: bytes = self._guarded(what, lambda: self._exec(code))
        return output

    def call(self, what: str, code: str | bytes) -> Any:
        """Run `code`, which prints one Python literal, and return the literal."""
        output = self.run(what, code)
        try:
            return syntax.literal(output.decode().strip())
        except (ValueError, SyntaxError):
            pass
        raise DeviceError(f"the board at {self.url} gave no sense when asked to {what}")

    def send(self, name: str, data: bytes) -> None:
        """Put `data` into the board's global `name` (a bytearray), in small pieces."""
        self.run("take data", f"import binascii\n{name} = bytearray()")
        for at in range(0, len(data), _CHUNK):
            piece = binascii.b2a_base64(data[at : at + _CHUNK], newline=False).decode()
            self.run("take data", f"{name} += binascii.a2b_base64({piece!r})")

    def restart(self) -> None:
        """Reset the chip; the raw REPL is gone with it.

        It starts at once, however often it has failed to: see firmware/main.py for its count.
        """
        self._guarded("restart", lambda: self._transport.exec_raw_no_follow(_RESTART))
        self._transport.in_raw_repl = False

    def _enter(self) -> None:
        for timeout_s in _ENTER_TIMEOUTS_S:
            try:
                self._transport.enter_raw_repl(soft_reset=True, timeout_overall=timeout_s)
                return
            except TransportError:
                continue
        raise TransportError("no raw REPL")

    def _exec(self, code: str | bytes) -> bytes:
        output, errors = self._transport.exec_raw(code, timeout=self._silence_s)
        if errors:
            raise TransportExecError(output, errors.decode("utf-8", "replace"))
        return bytes(output)

    def _guarded(self, what: str, action: Any) -> Any:
        try:
            return action()
        except TransportExecError as error:
            problem: DeviceError | PortError = DeviceError(
                f"the board at {self.url} could not {what}: {_kind(error.error_output)}",
                next_step="Check that MicroPython on it is the one imprint flashed.",
            )
        except (TransportError, UnicodeError):
            problem = DeviceError(
                f"the board at {self.url} did not {what}",
                next_step="Is MicroPython on it, and does it run? Reset it and try again, "
                "or flash it: imprint flash.",
            )
        except (OSError, TypeError):  # pyserial's own close() race ends in a TypeError
            problem = PortError(
                f"{self.url}: the port went away while asking the board to {what}",
                next_step="Check the cable and try again.",
            )
        raise problem


def _kind(traceback: str) -> str:
    """The exception's type, if Python knows it: anything else may quote data."""
    last = traceback.strip().splitlines()[-1:] or [""]
    kind = getattr(builtins, last[0].partition(":")[0].strip(), None)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return kind.__name__
    return "an exception"
