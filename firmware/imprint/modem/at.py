"""Bytes from a modem in, lines, finals, prompts and counted runs out. Pure.

What V.250 and the vendors leave us to tell apart:

    LINE    a line of text, whatever it means (information, URC, echo): the engine knows
    OK      a final that says yes:  OK, SEND OK, CLOSE OK
    ERROR   a final that says no:   ERROR, +CME ERROR: n, +CMS ERROR: n, NO CARRIER, ...
    PROMPT  `>` or `@` where a line would begin, while one is expected; it has no line end
    RAW     a counted run of bytes, whatever they are; None if it was longer than the buffer, or
            was to be hexadecimal and is not

Rules. A line ends at CR or LF, empty lines are nothing, and so is what cannot begin a line
(control bytes, spaces, bytes beyond ASCII: a UART's noise at power-up). Verbose answers (ATV1)
are taken for granted. A line longer than the buffer is dropped whole and counted. Taking bytes
in allocates nothing; each event allocates once. Hexadecimal is decoded in place as it comes.
"""

import binascii

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_LINE = const(1)
_OK = const(2)
_ERROR = const(3)
_PROMPT = const(4)
_RAW = const(5)

_CR = const(13)
_LF = const(10)
_NONE = const(-1)

_YES = (b"OK", b"SEND OK", b"CLOSE OK")
_NO = (b"ERROR", b"SEND FAIL", b"NO CARRIER", b"BUSY", b"NO ANSWER", b"NO DIALTONE")


class AtParser:
    """`size` bytes hold the longest line and the longest counted run that are given out.

    Feed, then take events until None; then there is room again.
    """

    def __init__(self, size: int) -> None:
        self._buf = bytearray(size)
        self._start = 0  # of what was not given out yet; a line begins here unless _dropping
        self._end = 0  # of what was fed
        self._scan = 0  # no line ends before this
        self._after_cr = False  # an LF that comes next belongs to the line before
        self._dropping = False  # inside of a line that was too long
        self._raw = _NONE  # length of the counted run that comes next
        self._skip = 0  # bytes still to be dropped of a counted run that was too long
        self._digits = False  # the counted run is hexadecimal
        self._decoded = 0  # bytes of it that lie at _start
        self._prompt = _NONE  # the byte that is expected as a prompt
        self.overlong = 0  # lines and runs dropped because they did not fit

    def feed(self, data, start: int, end: int) -> int:
        """Take in data[start:end] as far as there is room; where it stopped. Allocates nothing.

        At least one byte is taken if next_event() said None before.
        """
        buf = self._buf
        if self._start:
            self._compact()
        at = self._end
        end = min(end, start + len(buf) - at)
        for index in range(start, end):
            buf[at] = data[index]
            at += 1
        self._end = at
        return end

    def expect_raw(self, length: int, hexadecimal: bool = False) -> None:
        """After the line just given out come `length` bytes that are no lines; given out, they are
        half as many where they are `hexadecimal`."""
        self._digits = hexadecimal
        self._decoded = 0
        self._raw = length // 2 if hexadecimal else length
        if self._raw + hexadecimal > len(self._buf):
            self._skip = length
            self.overlong += 1
            self._raw = 0

    def expect_prompt(self, char: "bytes | None") -> None:
        """Take `char` at the beginning of a line as a prompt; None: it is text again."""
        self._prompt = char[0] if char else _NONE

    def raw_pending(self) -> bool:
        """Whether a counted run was announced and is not here yet."""
        return self._raw != _NONE

    def abandon_raw(self) -> None:
        """The rest of the counted run will not come: read on in lines, what came of it too."""
        self._raw = _NONE
        self._skip = 0

    def next_event(self) -> "tuple | None":
        """(1 LINE, 2 OK, 3 ERROR, 4 PROMPT or 5 RAW; bytes), or None: more has to be fed."""
        if self._raw != _NONE:
            return self._take_raw()
        buf = self._buf
        while self._start < self._end:
            byte = buf[self._start]
            if self._dropping:
                if self._find_end() < 0:
                    self._start = self._end
                    break
                self._dropping = False
            elif byte == self._prompt:
                self._start += 1
                self._scan = self._start
                self._prompt = _NONE
                return _PROMPT, bytes((byte,))
            elif byte <= 0x20 or byte >= 0x7F:
                self._start += 1
                self._scan = self._start
            else:
                end = self._find_end()
                if end < 0:
                    break
                return self._take_line(end)
        if self._start == self._end:
            self._start = self._end = self._scan = 0
        elif self._end - self._start == len(buf):
            self._start = self._end = self._scan = 0
            self._dropping = True
            self.overlong += 1
        return None

    def _find_end(self) -> int:
        # Of the line that begins at _start; -1 if it is not here yet. Moves on when dropping.
        end = self._buf.find(b"\n", self._scan, self._end)
        cr = self._buf.find(b"\r", self._scan, self._end if end < 0 else end)
        if cr >= 0:
            end = cr
        if end < 0:
            self._scan = self._end
        elif self._dropping:
            self._start = self._scan = end
        return end

    def _take_line(self, end: int) -> tuple:
        line = bytes(memoryview(self._buf)[self._start : end]).rstrip()
        self._after_cr = self._buf[end] == _CR
        self._start = self._scan = end + 1
        if line in _YES:
            return _OK, line
        if line in _NO or line.startswith(b"+CME ERROR:") or line.startswith(b"+CMS ERROR:"):
            return _ERROR, line
        return _LINE, line

    def _take_raw(self) -> "tuple | None":
        if self._after_cr and self._start < self._end:
            self._after_cr = False
            if self._buf[self._start] == _LF:
                self._start += 1
        here = self._end - self._start
        if self._skip:
            if self._after_cr:
                return None
            here = min(here, self._skip)
            self._skip -= here
            self._start += here
            if self._skip:
                return None
            data = None
        elif self._after_cr:
            return None
        elif self._digits and not self._decode():
            return self._take_raw()
        elif (self._decoded if self._digits else here) < self._raw:
            return None
        else:
            data = bytes(memoryview(self._buf)[self._start : self._start + self._raw])
            self._start += self._raw
        self._raw = _NONE
        self._scan = self._start
        return _RAW, data

    def _decode(self) -> bool:
        # What has come of the digits; the rest moves up. False: they are none, drop the run.
        buf = self._buf
        at = self._start + self._decoded
        count = min((self._end - at) // 2, self._raw - self._decoded)
        end = at + 2 * count
        text: "Any" = memoryview(buf)  # a buffer is what both runtimes take
        try:
            data = binascii.unhexlify(text[at:end]) + text[end : self._end]
        except ValueError:
            self._start = at
            self._skip = 2 * (self._raw - self._decoded)
            return False
        self._decoded += count
        self._end = at + len(data)
        buf[at : self._end] = data
        return True

    def _compact(self) -> None:
        # By hand: slices of a bytearray allocate, and this runs for each chunk of bytes.
        buf = self._buf
        shift = self._start
        for index in range(shift, self._end):
            buf[index - shift] = buf[index]
        self._end -= shift
        self._scan = max(self._scan - shift, 0)
        self._start = 0
