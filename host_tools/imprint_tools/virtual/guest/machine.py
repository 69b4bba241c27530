"""`machine`: what a program asks of the chip; what is asked seldom is loaded when it is.

All of it is C on a chip, and here takes heap that the program is to have.
"""

from _chip import call, take


def reset():
    call(OP_RESET)


def reset_cause():
    return call(OP_RESET_CAUSE)


def unique_id():
    return bytes(take(call(OP_UNIQUE_ID)))


class RTC:
    """The clock, in UTC, and a memory that only a power cut clears."""

    def memory(self, data=None):
        if data is None:
            return bytes(take(call(OP_RTC_MEMORY)))
        if call(OP_RTC_MEMORY, 1, 0, data) < 0:
            raise ValueError("buffer too long")

    def __getattr__(self, name):
        from _machine import Clock

        return getattr(Clock(), name)


class WDT:
    """Resets the chip unless fed within `timeout` ms. Cannot be stopped."""

    def __init__(self, id=0, timeout=5000):
        if id or timeout < 1:
            raise ValueError("WDT(0, timeout=1 or more)")
        call(OP_WDT, timeout)

    def feed(self):
        call(OP_WDT)


def __getattr__(name):
    if name == "Pin":
        from _pin import Pin as part
    elif name == "UART":
        from _uart import UART as part
    elif name == "mem32":
        from _mem import mem32 as part
    else:
        import _machine

        part = getattr(_machine, name)
    return part
