"""`network` for running the firmware on CPython: the host's own network, always joined."""

STA_IF = 0
STAT_GOT_IP, STAT_WRONG_PASSWORD, STAT_NO_AP_FOUND = 1010, 202, 201


class WLAN:
    def __init__(self, interface: int) -> None:
        pass

    def active(self, up: bool | None = None) -> bool:
        return True

    def connect(self, ssid: str, password: str | None = None) -> None:
        pass

    def isconnected(self) -> bool:
        return True

    def status(self) -> int:
        return STAT_GOT_IP
