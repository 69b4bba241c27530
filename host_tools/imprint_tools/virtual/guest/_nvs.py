"""The numbers in a namespace of `esp32.NVS`, which are seldom used; see there."""

from _chip import call, take, text
from struct import unpack_from


class Numbers:
    def __init__(self, space):
        self._space = space

    def set_i32(self, key, value):
        self._ask(OP_NVS_SET_I32, value, key)

    def get_i32(self, key):
        self._ask(OP_NVS_GET_I32, 0, key)
        return unpack_from("<i", take(4))[0]

    def _ask(self, op, value, key):
        n = call(op, self._space, value, key.encode())
        if n < 0:
            raise OSError(n, text())
