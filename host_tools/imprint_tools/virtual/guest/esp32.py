"""`esp32`: NVS in ESP-IDF's format, and partitions of the flash."""

from _chip import call, fetch, take, text
from struct import unpack_from


def _ask(op, a=0, b=0, data=b""):
    n = call(op, a, b, data)
    if n < 0:
        raise OSError(n, text())
    return n


class NVS:
    """One namespace. Errors are OSError(-esp_err, name), as ESP-IDF's are on the chip."""

    def __init__(self, namespace):
        self._space = _ask(OP_NVS_OPEN, 0, 0, namespace.encode())

    def set_i32(self, key, value):
        _ask(OP_NVS_SET_I32, self._space, value, key.encode())

    def get_i32(self, key):
        _ask(OP_NVS_GET_I32, self._space, 0, key.encode())
        return unpack_from("<i", take(4))[0]

    def set_blob(self, key, value):
        key = key.encode()
        _ask(OP_NVS_SET_BLOB, self._space, len(key), key + bytes(value))

    def get_blob(self, key, buf):
        n = _ask(OP_NVS_GET_BLOB, self._space, len(buf), key.encode())
        if n:
            fetch(OP_TAKE, 0, memoryview(buf)[:n])
        return n

    def erase_key(self, key):
        _ask(OP_NVS_ERASE_KEY, self._space, 0, key.encode())

    def commit(self):
        pass  # ESP-IDF has written already


class Partition:
    """Part of the flash, and a block device."""

    TYPE_APP = 0
    TYPE_DATA = 1

    def __init__(self, label):
        self._about(_ask(OP_PARTITION, -1, 0, label.encode()))

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

    def readblocks(self, block, buf, offset=0):
        fetch(OP_FLASH_READ, self._at + block * 4096 + offset, buf)

    def writeblocks(self, block, buf, offset=-1):
        call(OP_FLASH_WRITE, self._at + block * 4096, offset, buf)

    def ioctl(self, op, arg):
        return call(OP_FLASH_IOCTL, op, self._at + arg * 4096)
