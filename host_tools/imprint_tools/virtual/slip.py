"""SLIP (RFC 1055) as Espressif's loaders use it: 0xC0 opens and closes a frame.

Any bytes may come: a frame that is too long or badly escaped is dropped, never an exception, and
never more than one frame's bytes are kept.
"""

from __future__ import annotations

END = b"\xc0"
_ESC = b"\xdb"
_ESC_END = b"\xdb\xdc"
_ESC_ESC = b"\xdb\xdd"


def encode(frame: bytes) -> bytes:
    """The bytes on the line that carry `frame`."""
    return END + frame.replace(_ESC, _ESC_ESC).replace(END, _ESC_END) + END


class Decoder:
    """Cuts a stream of bytes into frames of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = 2 * limit  # every byte may have come escaped
        self._partial = bytearray()
        self._overrun = False

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes; empty ones (END END) are not reported."""
        *ends, rest = data.split(END)
        frames = []
        for piece in ends:
            self._keep(piece)
            frame = self._take()
            if frame:
                frames.append(frame)
        self._keep(rest)
        return frames

    def _keep(self, piece: bytes) -> None:
        if self._overrun or len(self._partial) + len(piece) > self._limit:
            self._overrun = True
            self._partial.clear()
        else:
            self._partial += piece

    def _take(self) -> bytes:
        raw, overrun = bytes(self._partial), self._overrun
        self._partial.clear()
        self._overrun = False
        well_formed = raw.count(_ESC) == raw.count(_ESC_END) + raw.count(_ESC_ESC)
        if overrun or not well_formed:
            return b""
        return raw.replace(_ESC_END, END).replace(_ESC_ESC, _ESC)
