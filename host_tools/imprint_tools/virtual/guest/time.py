"""`time` with the chip's epoch, 2000-01-01, whole seconds, and ticks from its start."""

import utime as host

_EPOCH = const(946684800)
_PERIOD = const(0x3FFFFFFF)  # ticks count modulo 2 ** 30
_start_ms = host.ticks_ms()
start_us = host.ticks_us()


def ticks_ms():
    return host.ticks_ms() - _start_ms & _PERIOD


def time():
    return int(host.time()) - _EPOCH


def gmtime(seconds=None):
    return host.gmtime((time() if seconds is None else seconds) + _EPOCH)[:8]


localtime = gmtime


def __getattr__(name):
    if name in ("ticks_us", "time_ns", "mktime"):
        import _time as part  # seldom used
    else:
        part = host
    return getattr(part, name)
