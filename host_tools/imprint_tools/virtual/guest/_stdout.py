"""`sys.stdout`; see _sys."""

import io
from _chip import call
from usys import stdout as _host


class _Raw(io.IOBase):
    def write(self, data, length=None):
        data = memoryview(data)[:length]
        call(OP_STDOUT, 0, 0, data)
        return len(data)


class _Cooked(io.IOBase):
    buffer = _Raw()

    def write(self, data):
        return _host.write(data)


stdout = _Cooked()
