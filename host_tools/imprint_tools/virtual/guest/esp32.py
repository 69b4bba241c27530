"""`esp32`: NVS in ESP-IDF's format, and partitions of the flash."""

from _chip import call, fetch, text


class NVS:
    """One namespace. Errors are OSError(-esp_err, name), as ESP-IDF's are on the chip."""

    def __init__(self, namespace):
        self._space = _ask(OP_NVS_OPEN, 0, 0, namespace.encode())

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

    def __getattr__(self, name):
        from _nvs import Numbers

        return getattr(Numbers(self._space), name)


def _ask(*request):
    n = call(*request)
    if n < 0:
        raise OSError(n, text())
    return n


def __getattr__(name):
    if name == "Partition":
        from _partition import Partition as part

        return part
    raise AttributeError(name)
