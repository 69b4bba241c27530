"""What of `machine` is seldom used; see there."""

import umachine as _host

from _chip import call, take
from struct import unpack_from
from time import sleep_ms

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5


def soft_reset():
    raise SystemExit


def deepsleep(time_ms=-1):
    call(OP_DEEPSLEEP, time_ms)


def lightsleep(time_ms=0):
    sleep_ms(time_ms)


def idle():
    sleep_ms(1)


def freq(hertz=None):
    return 160000000


class Clock:
    """The RTC's."""

    def datetime(self, fields=None):
        if fields is None:
            return unpack_from("<iiiiiiii", take(call(OP_CLOCK)))
        text = ",".join([str(n) for n in fields])
        if call(OP_CLOCK, 1, 0, text.encode()) < 0:
            raise ValueError("not a date and time")

    def init(self, fields):
        self.datetime(fields)


def __getattr__(name):
    return getattr(_host, name)
