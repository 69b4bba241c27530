"""The modem's end of the UART: echo, command lines, counted payloads, and URCs in their place.

It knows no command. Bytes in by `feed`; lines out by `next_line`, payloads by `payload`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from imprint_tools.virtual.modem.clock import Clock
from imprint_tools.virtual.modem.quirks import Quirks

LINE_LIMIT = 4096
"""Longer command lines are cut (nRF91's default AT buffer; others' are no longer)."""
_BUFFER_LIMIT = 16 * 1024
_URC_LIMIT = 4096
_HALF_LINE_S = 1.0
"""For so long URCs wait for the rest of a command line (nRF91)."""


class Terminal:
    """One UART. `echo` is the modem's to set; `holds_urcs`: none while a command is at work."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        clock: Clock,
        quirks: Quirks,
        *,
        holds_urcs: bool,
        line_end: bytes,
    ) -> None:
        self.echo = False
        self.early = 0
        """Command bytes that came before the final of the command before."""
        self.urcs_lost = 0
        self._write_out = write
        self._clock = clock
        self._quirks = quirks
        self._holds_urcs = holds_urcs
        self._line_end = line_end
        self._rng = random.Random(1)  # noqa: S311  where to split is no secret
        self._buffer = bytearray()
        self._line = bytearray()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._payload: asyncio.Future[bytes] | None = None
        self._wanted: int | bytes = 0
        self._busy = False
        self._urcs: deque[bytes] = deque()
        self._deaf_until = 0.0

    def reset(self) -> None:
        """As after power-up: nothing is half done."""
        self._buffer.clear()
        self._line.clear()
        self._urcs.clear()
        self._lines = asyncio.Queue()
        self._payload = None
        self._busy = False

    # -- in -------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes from the host."""
        if not self._busy and self._clock.now() < self._deaf_until:
            return
        if self._busy and self._payload is None and data.strip():
            self.early += len(data)
        self._buffer += data[: _BUFFER_LIMIT - len(self._buffer)]
        self._digest()

    async def next_line(self) -> bytes:
        """The next command line, from `AT` on; the terminal is busy until `done`."""
        return await self._lines.get()

    def done(self) -> None:
        """The command is over: what waited goes on."""
        self._busy = False
        self._deaf_until = self._clock.now() + self._quirks.gap_s
        self._release()
        self._digest()

    async def payload(self, wanted: int | bytes) -> bytes:
        """Take that many raw bytes, or all up to that mark."""
        self._wanted = wanted
        self._payload = asyncio.get_running_loop().create_future()
        self._digest()
        try:
            return await self._payload
        finally:
            self._payload = None

    def _digest(self) -> None:
        while self._buffer:
            if self._payload is not None:
                if self._payload.done() or not self._take_payload(self._payload):
                    return
            elif self._busy:
                return
            else:
                self._take(self._buffer.pop(0))

    def _take_payload(self, payload: asyncio.Future[bytes]) -> bool:
        if isinstance(self._wanted, int):
            size = end = self._wanted
            if len(self._buffer) < size:
                return False
        else:
            size = self._buffer.find(self._wanted)
            if size < 0:
                return False
            end = size + len(self._wanted)
        payload.set_result(bytes(self._buffer[:size]))
        del self._buffer[:end]
        return True

    def _take(self, byte: int) -> None:
        if self.echo:
            self._write(bytes((byte,)))
        if len(self._line) < LINE_LIMIT or byte in self._line_end:
            self._line.append(byte)
        if self._line.endswith(self._line_end):
            # Junk before the A and T is what a UART hears while the host's pins float
            start = self._line.upper().find(b"AT")
            line = bytes(self._line[start:]).strip() if start >= 0 else b""
            self._line.clear()
            if line:
                self._busy = True
                self._lines.put_nowait(line)
            else:
                self._release()
        elif not self._line.strip():
            self._line.clear()  # the LF that some send after CR

    # -- out ------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """A response line or a final."""
        self._write(b"\r\n" + text.encode("latin-1") + b"\r\n")
        if self._quirks.urc_inside_response and self._urcs:
            urc = self._urcs.popleft()
            self._write(urc[len(urc) // 2 :] if self._quirks.urc_fragment else urc)

    def final(self, text: str) -> None:
        """The line that ends a command."""
        self._write(b"\r\n" + text.encode("latin-1") + b"\r\n")

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self._write(data)

    def prompt(self, text: bytes) -> None:
        """A prompt has no line end."""
        self._write((b"\r\n" if self._quirks.newline_before_prompt else b"") + text)

    def urc(self, text: str, data: bytes = b"") -> None:
        """An unsolicited line, and what follows it; now, or when the command at work is over."""
        whole = b"\r\n" + text.encode("latin-1") + b"\r\n" + data
        held = self._holds_urcs or self._quirks.urc_inside_response or self._payload is not None
        if not (held and (self._busy or self._line)):
            self._write(whole)
            return
        self._urcs.append(whole)
        if sum(map(len, self._urcs)) > _URC_LIMIT:  # as nRF91 does: all that waited is lost
            self.urcs_lost += len(self._urcs)
            self._urcs.clear()
        if not self._busy:
            self._clock.call_later(_HALF_LINE_S, self._release)

    def _release(self) -> None:
        while self._urcs and not self._busy:
            self._write(self._urcs.popleft())

    def _write(self, data: bytes) -> None:
        if not self._quirks.split_writes:
            self._write_out(data)
            return
        while data:
            size = self._rng.randint(1, 7)
            self._write_out(data[:size])
            data = data[size:]
