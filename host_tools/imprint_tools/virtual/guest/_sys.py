"""`sys` as on the chip: print and sys.stdout send CR LF, sys.stdout.buffer sends bytes."""

import io
import sys as _host

from _chip import call

platform = "esp32"


class _Raw(io.IOBase):
    def write(self, data, length=None):
        data = memoryview(data)[:length]
        call(OP_STDOUT, 0, 0, data)
        return len(data)


class _Cooked(io.IOBase):
    buffer = _Raw()

    def write(self, data):
        return _host.stdout.write(data)


stdout = _Cooked()


def __getattr__(name):
    return getattr(_host, name)
