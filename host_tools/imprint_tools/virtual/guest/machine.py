"""`machine`: what a program asks of the chip. Pin and UART are loaded when they are used."""

import umachine as _host

from _chip import call, take
from struct import unpack_from
from time import sleep_ms

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5


def reset():
    call(OP_RESET)


def soft_reset():
    raise SystemExit


def reset_cause():
    return call(OP_RESET_CAUSE)


def deepsleep(time_ms=-1):
    call(OP_DEEPSLEEP, time_ms)


def lightsleep(time_ms=0):
    sleep_ms(time_ms)


def idle():
    sleep_ms(1)


def unique_id():
    return bytes(take(call(OP_UNIQUE_ID)))


def freq(hertz=None):
    return 160000000


class RTC:
    """The clock, in UTC, and a memory that only a power cut clears."""

    def datetime(self, fields=None):
        if fields is None:
            return unpack_from("<iiiiiiii", take(call(OP_CLOCK)))
        text = ",".join([str(n) for n in fields])
        if call(OP_CLOCK, 1, 0, text.encode()) < 0:
            raise ValueError("not a date and time")

    def init(self, fields):
        self.datetime(fields)

    def memory(self, data=None):
        if data is None:
            return bytes(take(call(OP_RTC_MEMORY)))
        if call(OP_RTC_MEMORY, 1, 0, data) < 0:
            raise ValueError("buffer too long")


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
        part = getattr(_host, name)
    return part
