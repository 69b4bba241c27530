"""Three ways to the board's one serial line.

A door moves bytes between its clients and the board and tells of modem lines where it has them.
It knows nothing of chips or protocols. Everything here runs in the board's event loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
import termios
import tty
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import serial  # type: ignore[import-untyped]
from serial.rfc2217 import PortManager  # type: ignore[import-untyped]

from imprint_tools import unixsocket

_CHUNK = 4096
_UNSENT_LIMIT = 1024 * 1024  # a UART does not wait for a slow reader: beyond this, bytes are lost
_DEFAULT_BAUD = 115_200


class Line(Protocol):
    """The board, as a door sees it."""

    def attached(self, door: Door) -> None:
        """A client opened the port that nobody had open."""

    def detached(self, door: Door) -> None:
        """The last client is gone."""

    def lines(self, *, dtr: bool, rts: bool) -> None:
        """The client's modem lines are now so (True = asserted)."""

    async def receive(self, door: Door, data: bytes) -> None:
        """Bytes from the client; returns when the board can take more."""


class Door(ABC):
    """One way in. `url` is what a client opens, known once `open` has returned."""

    url: str = ""
    enters_on_sync = False
    """No modem lines that hosts can use: a SYNC frame stands for them."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @abstractmethod
    async def open(self) -> None:
        """Be there for clients. Raises OSError."""

    @abstractmethod
    async def close(self) -> None:
        """Let clients go and leave nothing behind."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Give `data` to the client; nobody attached, nobody hears."""

    @abstractmethod
    def baud(self) -> int:
        """The rate at which the client talks."""


class PtyDoor(Door):
    """A pseudo-terminal behind a symbolic link. It has no modem lines.

    The board keeps its own handle on the client's side, so that the terminal's settings outlive
    a client; opens and closes are told apart by inotify, in their order.
    """

    enters_on_sync = True

    def __init__(self, line: Line, link: Path) -> None:
        super().__init__(line)
        self._link = link
        self._clients = 0
        self._unsent = bytearray()
        self._pump_task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        device = os.ttyname(self._slave)
        self._watch = _watch_opens(device)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(device)
        self.url = str(self._link)
        self._pump_task = asyncio.create_task(self._pump())

    async def close(self) -> None:
        if self._pump_task is None:
            return
        await _cancelled(self._pump_task)
        self._pump_task = None
        self._stop_writing()
        self._link.unlink(missing_ok=True)
        for fd in (self._watch, self._master, self._slave):
            os.close(fd)

    def send(self, data: bytes) -> None:
        if self._clients and len(self._unsent) + len(data) <= _UNSENT_LIMIT:
            self._unsent += data
            self._write()

    def baud(self) -> int:
        return _BAUD_BY_CONSTANT.get(termios.tcgetattr(self._slave)[5], _DEFAULT_BAUD)

    async def _pump(self) -> None:
        while True:
            await _readable(self._watch, self._master)
            events = _opens_and_closes(self._watch)
            while events:
                if events.pop(0):
                    self._opened()
                else:
                    await self._closed(reopened=bool(events))
            if data := self._read():
                await self._line.receive(self, data)

    def _opened(self) -> None:
        self._clients += 1
        if self._clients == 1:
            self._line.attached(self)

    async def _closed(self, *, reopened: bool) -> None:
        self._clients -= 1
        if self._clients:
            return
        # What the client wrote before it closed still counts, unless a next one may have written
        while not reopened and (data := self._read()):
            await self._line.receive(self, data)
        self._stop_writing()
        termios.tcflush(self._slave, termios.TCIFLUSH)
        fcntl.ioctl(self._slave, termios.TIOCNXCL)
        self._line.detached(self)

    def _read(self) -> bytes:
        try:
            return os.read(self._master, _CHUNK)
        except BlockingIOError:
            return b""

    def _write(self) -> None:
        with suppress(BlockingIOError):
            while self._unsent:
                del self._unsent[: os.write(self._master, self._unsent[:_CHUNK])]
        loop = asyncio.get_running_loop()
        if self._unsent:
            loop.add_writer(self._master, self._write)
        else:
            loop.remove_writer(self._master)

    def _stop_writing(self) -> None:
        self._unsent.clear()
        asyncio.get_running_loop().remove_writer(self._master)


class _StreamDoor(Door):
    """A door whose client is a socket: one at a time."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._baud = _DEFAULT_BAUD

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        if self._writer:
            self._writer.close()
        self._server = None

    def send(self, data: bytes) -> None:
        if self._writer and self._writer.transport.get_write_buffer_size() <= _UNSENT_LIMIT:
            self._writer.write(self._encode(data))

    def baud(self) -> int:
        return self._baud

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer:
            self._turn_away(writer)
            writer.close()
            return
        self._writer, self._baud = writer, _DEFAULT_BAUD
        self._line.attached(self)
        try:
            await self._talk(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client went away, in whatever manner, or the board stops
        finally:
            self._writer = None
            writer.close()
            self._line.lines(dtr=False, rts=False)
            self._line.detached(self)

    def _turn_away(self, writer: asyncio.StreamWriter) -> None:
        """Tell one client too many, where the protocol has words for it."""

    def _encode(self, data: bytes) -> bytes:
        return data

    @abstractmethod
    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the client until it is gone. OSError and EOFError end it, too."""


class Rfc2217Door(_StreamDoor):
    """RFC 2217 on loopback, with pyserial's server side. DTR and RTS work the reset circuit."""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"rfc2217://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _encode(self, data: bytes) -> bytes:
        return data.replace(b"\xff", b"\xff\xff")  # telnet's IAC

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if sock := writer.get_extra_info("socket"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = _Rfc2217Port(self._line)
        manager = PortManager(port, writer)
        while data := await reader.read(_CHUNK):
            try:
                plain = b"".join(manager.filter(data))
            except (struct.error, KeyError, TypeError, ValueError):
                return  # pyserial's parser trusts its peer: such a peer is not served further
            if manager.suboption is not None and len(manager.suboption) > _CHUNK:
                return
            self._baud = port.baudrate
            if plain:
                await self._line.receive(self, plain)


class _Rfc2217Port:
    """The serial port that pyserial's server side drives: only the modem lines mean something."""

    bytesize, parity, stopbits = serial.EIGHTBITS, serial.PARITY_NONE, serial.STOPBITS_ONE
    xonxoff = rtscts = break_condition = False
    cts = dsr = cd = True
    ri = False

    def __init__(self, line: Line) -> None:
        self._line = line
        self._dtr = self._rts = False
        self.baudrate = _DEFAULT_BAUD

    @property
    def dtr(self) -> bool:
        return self._dtr

    @dtr.setter
    def dtr(self, asserted: bool) -> None:
        self._dtr = asserted
        self._line.lines(dtr=self._dtr, rts=self._rts)

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, asserted: bool) -> None:
        self._rts = asserted
        self._line.lines(dtr=self._dtr, rts=self._rts)

    def reset_input_buffer(self) -> None:
        """Nothing is buffered on the way in."""

    def reset_output_buffer(self) -> None:
        """Nothing is buffered on the way out."""


class SocketDoor(_StreamDoor):
    """A unix socket, the board's end of `virtual://`.

    The board greets with HELLO or BUSY and then sends bytes as they are. The client sends
    frames: a kind, the length of the payload (2 bytes, big-endian), the payload.
    """

    HELLO, BUSY = b"+", b"!"
    DATA, LINES, BAUD = b"D", b"L", b"B"
    HEAD = struct.Struct(">cH")
    DTR, RTS = 1, 2

    # esptool sets both lines by an ioctl that only a tty has; what imprint does uses the lines
    enters_on_sync = True

    def __init__(self, line: Line, path: Path, url: str) -> None:
        super().__init__(line)
        self._path = path
        self._future_url = url

    async def open(self) -> None:
        listener = unixsocket.listen(self._path)
        self._server = await asyncio.start_server(self._serve, sock=listener)
        self.url = self._future_url

    async def close(self) -> None:
        await super().close()
        self._path.unlink(missing_ok=True)

    def _turn_away(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self.BUSY)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.HELLO)
        while True:
            kind, length = self.HEAD.unpack(await reader.readexactly(self.HEAD.size))
            payload = await reader.readexactly(length)
            if kind == self.DATA:
                await self._line.receive(self, payload)
            elif kind == self.LINES and length == 1:
                bits = payload[0]
                self._line.lines(dtr=bool(bits & self.DTR), rts=bool(bits & self.RTS))
            elif kind == self.BAUD and length == 4:
                self._baud = int.from_bytes(payload, "big") or _DEFAULT_BAUD
            else:
                return  # not our client


_BAUD_BY_CONSTANT = {
    getattr(termios, name): int(name[1:])
    for name in dir(termios)
    if name.startswith("B") and name[1:].isdigit() and name != "B0"
}

_IN_OPEN, _IN_CLOSE = 0x20, 0x08 | 0x10
_INOTIFY_EVENT = struct.Struct("iIII")


def _watch_opens(path: str) -> int:
    """A non-blocking inotify handle that tells of opens and closes of `path`. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(path), _IN_OPEN | _IN_CLOSE) < 0:
        raise OSError(ctypes.get_errno(), f"cannot watch {path}")
    return fd


def _opens_and_closes(watch: int) -> list[bool]:
    """What happened since the last call, in order: True is an open, False a close."""
    try:
        data = os.read(watch, 16 * _CHUNK)
    except BlockingIOError:
        return []
    return [bool(mask & _IN_OPEN) for mask in _masks(data) if mask & (_IN_OPEN | _IN_CLOSE)]


def _masks(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        _watch, mask, _cookie, name_length = _INOTIFY_EVENT.unpack_from(data, at)
        yield mask
        at += _INOTIFY_EVENT.size + name_length


async def _readable(*fds: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    for fd in fds:
        loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        for fd in fds:
            loop.remove_reader(fd)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
