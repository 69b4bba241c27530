"""`machine.UART`: a stream to whatever the bench has plugged into UART 1 or 2.

Where nothing is plugged in, nothing arrives and what is written is lost, as with open pins.
"""

import ffi
import io
from _chip import call

_recv = ffi.open(None).func("i", "recv", "iPii")
_DONTWAIT = const(0x40)


class UART(io.IOBase):
    """`timeout` is the wait in ms for the first byte, `timeout_char` for each that follows."""

    def __init__(self, id, baudrate=115200, **settings):
        self.fd = call(OP_UART, id)
        if self.fd < -1:
            raise ValueError("UART(%d) does not exist" % id)
        self._wire = open(self.fd, "r+b") if self.fd >= 0 else None
        self.set(settings)

    def set(self, settings):
        self._first = settings.get("timeout", 0)
        self._next = settings.get("timeout_char", 0)
        self._poll = None
        if self._first or self._next:
            from select import POLLIN, poll

            self._poll = poll()
            if self._wire:
                self._poll.register(self._wire, POLLIN)

    def readinto(self, buf, length=None):
        view = memoryview(buf)[:length]
        got = 0
        while got < len(view):
            if self._poll and not self._poll.poll(self._next if got else self._first):
                break
            if not self._wire:
                break
            n = _recv(self.fd, view[got:], len(view) - got, _DONTWAIT)
            if n <= 0:
                break
            got += n
        return got or None

    def write(self, data):
        return self._wire.write(data) if self._wire else len(data)

    def ioctl(self, request, arg):
        if request == 10:  # MP_STREAM_GET_FILENO: poll() watches the wire itself
            return self.fd
        if request == 3:  # MP_STREAM_POLL, where nothing is plugged in
            return arg & 4
        return -1

    def __getattr__(self, name):
        from _uart_rest import Rest

        return getattr(Rest(self), name)
