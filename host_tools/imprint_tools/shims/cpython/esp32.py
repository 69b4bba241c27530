"""`esp32` for running the firmware on CPython: NVS that lasts as long as the process."""

_NOT_FOUND = -0x1102
_INVALID_LENGTH = -0x110C

_PARTITION: dict[tuple[str, str], bytes] = {}


class NVS:
    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def get_blob(self, key: str, buffer: bytearray) -> int:
        value = self._find(key)
        if len(value) > len(buffer):
            raise OSError(_INVALID_LENGTH, "ESP_ERR_NVS_INVALID_LENGTH")
        buffer[: len(value)] = value
        return len(value)

    def set_blob(self, key: str, value: bytes) -> None:
        _PARTITION[self._namespace, key] = bytes(value)

    def erase_key(self, key: str) -> None:
        self._find(key)
        del _PARTITION[self._namespace, key]

    def commit(self) -> None:
        pass

    def _find(self, key: str) -> bytes:
        try:
            return _PARTITION[self._namespace, key]
        except KeyError:
            raise OSError(_NOT_FOUND, "ESP_ERR_NVS_NOT_FOUND") from None
