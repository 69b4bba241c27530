"""`machine.UART`: a stream to whatever the bench has plugged into UART 1 or 2.

Where nothing is plugged in, nothing arrives and what is written is lost, as with open pins.
"""

import ffi
import io
from _chip import call
from select import POLLIN, poll
from struct import unpack_from

_libc = ffi.open(None)
_recv = _libc.func("i", "recv", "iPii")
_ioctl = _libc.func("i", "ioctl", "iiP")
_DONTWAIT = const(0x40)
_FIONREAD = const(0x541B)


class UART(io.IOBase):
    """`timeout` is the wait in ms for the first byte, `timeout_char` for each that follows."""

    def __init__(self, id, baudrate=115200, **settings):
        self._fd = call(OP_UART, id)
        if self._fd < -1:
            raise ValueError("UART(%d) does not exist" % id)
        self._wire = open(self._fd, "r+b") if self._fd >= 0 else None
        self._poll = poll()
        if self._wire:
            self._poll.register(self._wire, POLLIN)
        self.init(baudrate, **settings)

    def init(self, baudrate=115200, bits=8, parity=None, stop=1, **settings):
        self._first = settings.get("timeout", 0)
        self._next = settings.get("timeout_char", 0)

    def deinit(self):
        pass

    def any(self):
        if not self._wire:
            return 0
        n = bytearray(4)
        _ioctl(self._fd, _FIONREAD, n)
        return unpack_from("<i", n)[0]

    def readinto(self, buf, length=None):
        view = memoryview(buf)[:length]
        got = 0
        while got < len(view) and self._poll.poll(self._next if got else self._first):
            n = _recv(self._fd, view[got:], len(view) - got, _DONTWAIT)
            if n <= 0:
                break
            got += n
        return got or None

    def read(self, length=None):
        buf = bytearray(self.any() or 1 if length is None else length)
        n = self.readinto(buf)
        return n and bytes(memoryview(buf)[:n])

    def readline(self):
        line = b""
        while not line.endswith(b"\n") and (c := self.read(1)):
            line += c
        return line or None

    def write(self, data):
        return self._wire.write(data) if self._wire else len(data)

    def flush(self):
        pass

    def txdone(self):
        return True

    def ioctl(self, request, arg):
        if request == 10:  # MP_STREAM_GET_FILENO: poll() watches the wire itself
            return self._fd
        if request == 3:  # MP_STREAM_POLL, where nothing is plugged in
            return arg & 4
        return -1
