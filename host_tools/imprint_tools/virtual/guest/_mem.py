"""`machine.mem32` over this process's own memory, for mpremote's mounted files."""

from struct import pack_into, unpack_from
from uctypes import bytearray_at


class _Mem32:
    def __getitem__(self, at):
        return unpack_from("<I", bytearray_at(at, 4))[0]

    def __setitem__(self, at, value):
        pack_into("<I", bytearray_at(at, 4), 0, value & 0xFFFFFFFF)


mem32 = _Mem32()
