"""The wire to the silicon: a request and its answer over one inherited socket.

Everything that a chip does outside of MicroPython's heap is asked of the host, which answers at
once. `OP_...` stands for a number that the host puts in when it compiles this file.

An exchange is never torn: SIGINT (Ctrl-C), whose handler raises KeyboardInterrupt there and then,
waits until the answer is there.
"""

import ffi
import sys
from struct import pack_into, unpack_from

_request = bytearray(16)
_answer = bytearray(4)
_wire = open(int(sys.argv[1]), "r+b")
_mask = ffi.open(None).func("i", "sigprocmask", "iPP")
# sigset_t with bit 2 (SIGINT); as long as glibc's, which may copy all of it
_SIGNALS = b"\x02" + bytes(127)


def call(op, a=0, b=0, data=b""):
    """Send a request with two numbers and bytes; the answer is one number."""
    pack_into("<iiii", _request, 0, op, a, b, len(data))
    _mask(0, _SIGNALS, None)
    _wire.write(_request)
    _wire.write(data)
    _wire.readinto(_answer)
    _mask(1, _SIGNALS, None)
    return unpack_from("<i", _answer)[0]


def fetch(op, a, buf):
    """Send a request whose answer is exactly the bytes that fill `buf`."""
    pack_into("<iiii", _request, 0, op, a, len(buf), 0)
    _mask(0, _SIGNALS, None)
    _wire.write(_request)
    _wire.readinto(buf)
    _mask(1, _SIGNALS, None)


def take(length):
    """The bytes that the last `call` left behind, where it said that it did."""
    buf = bytearray(length)
    fetch(OP_TAKE, 0, buf)
    return buf


def text():
    """What the last `call` left behind, as str: the name or message of an error."""
    return str(take(call(OP_LEFT)), "utf8")
