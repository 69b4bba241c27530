"""The wire to the silicon: a request and its answer over one inherited socket.

Everything that a chip does outside of MicroPython's heap is asked of the host, which answers at
once. `OP_...` stands for a number that the host puts in when it compiles this file.

An exchange is never torn: SIGINT (Ctrl-C), whose handler raises KeyboardInterrupt there and then,
waits until the answer is there. Nor does `call` allocate: what was written to a file that nobody
closed comes out of the garbage collector.
"""

import ffi
import sys
from array import array
from struct import pack_into

_request = bytearray(16)
_answer = array("i", [0])
_wire = open(int(sys.argv[1]), "r+b")
_mask = ffi.open(None).func("i", "sigprocmask", "iPP")
# sigset_t with bit 2 (SIGINT); as long as glibc's, which may copy all of it. Spelt out, it stays
# in the image.
_SIGNALS = (
    b"\x02\0"
    b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
)


def call(_op, _a=0, _b=0, _data=b""):
    """Send a request with two numbers and bytes; the answer is one number."""
    pack_into("<iiii", _request, 0, _op, _a, _b, len(_data))
    _mask(0, _SIGNALS, None)
    _wire.write(_request)
    _wire.write(_data)
    _wire.readinto(_answer)
    _mask(1, _SIGNALS, None)
    return _answer[0]


def fetch(_op, _a, _buf):
    """Send a request whose answer is exactly the bytes that fill `_buf`."""
    pack_into("<iiii", _request, 0, _op, _a, len(_buf), 0)
    _mask(0, _SIGNALS, None)
    _wire.write(_request)
    _wire.readinto(_buf)
    _mask(1, _SIGNALS, None)


def take(_length):
    """The bytes that the last `call` left behind, where it said that it did."""
    _buf = bytearray(_length)
    fetch(OP_TAKE, 0, _buf)
    return _buf


def text():
    """What the last `call` left behind, as str: the name or message of an error."""
    return str(take(call(OP_LEFT)), "utf8")
