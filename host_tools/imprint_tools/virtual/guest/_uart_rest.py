"""What of `machine.UART` is seldom used; see there."""

import ffi
from struct import unpack_from

_ioctl = ffi.open(None).func("i", "ioctl", "iiP")
_FIONREAD = const(0x541B)


class Rest:
    def __init__(self, uart):
        self._uart = uart

    def init(self, baudrate=115200, bits=8, parity=None, stop=1, **settings):
        self._uart.set(settings)

    def deinit(self):
        pass

    def any(self):
        if self._uart.fd < 0:
            return 0
        n = bytearray(4)
        _ioctl(self._uart.fd, _FIONREAD, n)
        return unpack_from("<i", n)[0]

    def read(self, length=None):
        buf = bytearray(self.any() or 1 if length is None else length)
        n = self._uart.readinto(buf)
        return n and bytes(memoryview(buf)[:n])

    def readline(self):
        line = b""
        while not line.endswith(b"\n") and (c := self.read(1)):
            line += c
        return line or None

    def flush(self):
        pass

    def txdone(self):
        return True
