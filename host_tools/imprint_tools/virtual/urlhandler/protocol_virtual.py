"""`virtual://NAME` for pyserial: a virtual board's serial line with its modem lines, and fast.

NAME is a board in the state folder; `virtual:///FOLDER` is one in a folder of its own.
`serial_for_url` finds this module once `imprint_tools.ports` has been imported.
"""

from __future__ import annotations

import array
import errno
import fcntl
import select
import socket
import struct
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from serial import serialutil  # type: ignore[import-untyped]

from imprint_tools import paths, unixsocket
from imprint_tools.virtual.doors import SocketDoor

SOCKET_NAME = "line.sock"
_GREETING_S = 5.0
_GOODBYE_S = 1.0
_LARGEST_FRAME = 0x4000


def folder_of(url: str) -> Path:
    """The folder of the board that `url` names. Raises ValueError for another kind of URL."""
    parts = urlsplit(url)
    if parts.scheme != "virtual" or bool(parts.netloc) == bool(parts.path.strip("/")):
        raise ValueError(f"{url} is not virtual://NAME or virtual:///FOLDER")
    if parts.path.strip("/"):
        return Path(unquote(parts.path))
    return paths.state_dir() / "boards" / unquote(parts.netloc)


class Serial(serialutil.SerialBase):  # type: ignore[misc]  # pyserial has no types
    """pyserial's port over the board's unix socket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._socket: socket.socket | None = None
        self.is_open = False
        super().__init__(*args, **kwargs)

    def open(self) -> None:
        """Raises SerialException: no such board (ENOENT), or another client has it (EBUSY)."""
        if self._port is None:
            raise serialutil.SerialException("a port must be set before it can be opened")
        if self.is_open:
            raise serialutil.SerialException("the port is open already")
        self._socket = _greeted(self._port)
        self.is_open = True
        self._reconfigure_port()
        self._send_lines()

    def close(self) -> None:
        """The board sees its line go; once it has, the next client finds the line free."""
        line, self._socket = self._socket, None
        self.is_open = False
        if line is not None:
            with line, suppress(OSError):
                line.settimeout(_GOODBYE_S)
                line.shutdown(socket.SHUT_WR)
                while line.recv(65536):
                    pass

    @property
    def in_waiting(self) -> int:
        """How many bytes `read` would give at once. Raises SerialException: the board is gone."""
        waiting = array.array("i", [0])
        readable = select.select([self._line()], [], [], 0)[0]
        fcntl.ioctl(self.fileno(), termios.FIONREAD, waiting)
        if readable and not waiting[0]:  # the end of the stream
            raise serialutil.SerialException(errno.EIO, "the virtual board went away")
        return waiting[0]

    def read(self, size: int = 1) -> bytes:
        """Up to `size` bytes: fewer when `timeout` or `inter_byte_timeout` passes."""
        line = self._line()
        deadline = serialutil.Timeout(self._timeout)
        data = bytearray()
        while len(data) < size:
            limits = (deadline.time_left(), self._inter_byte_timeout if data else None)
            wait = min((limit for limit in limits if limit is not None), default=None)
            if not select.select([line], [], [], wait)[0]:
                break
            got = line.recv(size - len(data))
            if not got:
                raise serialutil.SerialException(errno.EIO, "the virtual board went away")
            data += got
        return bytes(data)

    def write(self, data: Any) -> int:
        """Send all of `data`. Raises SerialTimeoutException after `write_timeout`."""
        payload = serialutil.to_bytes(data)
        for at in range(0, len(payload), _LARGEST_FRAME):
            self._send(SocketDoor.DATA, payload[at : at + _LARGEST_FRAME])
        return len(payload)

    def flush(self) -> None:
        """Nothing is kept here: what was written is with the board."""
        self._line()

    def reset_input_buffer(self) -> None:
        """Throw away what came and was not read."""
        line = self._line()
        while select.select([line], [], [], 0)[0] and line.recv(65536):
            pass

    def reset_output_buffer(self) -> None:
        """Nothing is kept here."""
        self._line()

    def fileno(self) -> int:
        """For select(): readable when `read` has bytes."""
        return self._line().fileno()

    @property
    def fd(self) -> int | None:
        """The name under which mpremote's console looks for the file number."""
        return self._socket.fileno() if self._socket else None

    @property
    def cts(self) -> bool:
        return self._present()

    @property
    def dsr(self) -> bool:
        return self._present()

    @property
    def cd(self) -> bool:
        return self._present()

    @property
    def ri(self) -> bool:
        return not self._present()

    def _present(self) -> bool:
        self._line()
        return True

    def _reconfigure_port(self) -> None:
        if self.is_open:
            self._send(SocketDoor.BAUD, struct.pack(">I", self._baudrate))

    def _update_dtr_state(self) -> None:
        self._send_lines()

    def _update_rts_state(self) -> None:
        self._send_lines()

    def _update_break_state(self) -> None:
        """The chip does not look at breaks."""

    def _send_lines(self) -> None:
        dtr = SocketDoor.DTR if self._dtr_state else 0
        rts = SocketDoor.RTS if self._rts_state else 0
        self._send(SocketDoor.LINES, bytes((dtr | rts,)))

    def _send(self, kind: bytes, payload: bytes) -> None:
        line = self._line()
        try:
            line.settimeout(self._write_timeout)
            line.sendall(SocketDoor.HEAD.pack(kind, len(payload)) + payload)
        except TimeoutError:
            raise serialutil.SerialTimeoutException("the virtual board takes no bytes") from None
        except OSError as error:
            raise serialutil.SerialException(error.errno, "the virtual board went away") from error

    def _line(self) -> socket.socket:
        if self._socket is None:
            raise serialutil.PortNotOpenError()
        return self._socket


def _greeted(url: str) -> socket.socket:
    folder = folder_of(url)
    try:
        line = unixsocket.connect(folder / SOCKET_NAME, _GREETING_S)
    except OSError as error:
        raise serialutil.SerialException(
            errno.ENOENT, f"no virtual board is up at {folder} ({error.strerror})"
        ) from None
    try:
        greeting = line.recv(1)
    except OSError:
        greeting = b""
    if greeting == SocketDoor.HELLO:
        return line
    line.close()
    if greeting == SocketDoor.BUSY:
        raise serialutil.SerialException(errno.EBUSY, f"another program has {url} open")
    raise serialutil.SerialException(errno.EIO, f"the virtual board at {folder} does not answer")
