"""`esp32.Partition`: part of the flash, and a block device."""

from _blocks import Blocks
from _chip import call, take, text
from struct import unpack_from


class Partition(Blocks):
    TYPE_APP = 0
    TYPE_DATA = 1

    def __init__(self, label):
        n = call(OP_PARTITION, -1, 0, label.encode())
        if n < 0:
            raise OSError(n, text())
        self._about(n)

    def _about(self, length):
        about = take(length)
        self._info = unpack_from("<iiii", about) + (str(about[16:], "utf8"), False)
        self._at = self._info[2]

    @classmethod
    def find(cls, type=TYPE_APP, subtype=0xFF, label=None, block_size=4096):
        found = []
        index = 0
        while (n := call(OP_PARTITION, index)) > 0:
            part = object.__new__(cls)
            part._about(n)
            info = part._info
            if info[0] == type and subtype in (0xFF, info[1]) and label in (None, info[4]):
                found.append(part)
            index += 1
        return found

    def info(self):
        return self._info
