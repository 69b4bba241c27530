"""`machine` for running the firmware on CPython: one chip, without its peripherals."""

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5


def unique_id() -> bytes:
    """A locally administered MAC."""
    return b"\x02imprt"


def reset_cause() -> int:
    return PWRON_RESET


def reset() -> None:
    raise SystemExit


class RTC:
    _memory = b""

    def memory(self, data: bytes | None = None) -> bytes | None:
        if data is None:
            return RTC._memory
        RTC._memory = bytes(data)
        return None


class WDT:
    """Never bites: a debugger's breakpoint is longer than any patience."""

    def __init__(self, id: int = 0, timeout: int = 5000) -> None:
        pass

    def feed(self) -> None:
        pass
