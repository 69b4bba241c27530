"""`time` with the chip's epoch, 2000-01-01, whole seconds, and ticks from its start."""

import utime as _host

_EPOCH = const(946684800)
_PERIOD = const(0x3FFFFFFF)  # ticks count modulo 2 ** 30
_start_ms = _host.ticks_ms()
_start_us = _host.ticks_us()


def ticks_ms():
    return _host.ticks_ms() - _start_ms & _PERIOD


def ticks_us():
    return _host.ticks_us() - _start_us & _PERIOD


def time():
    return int(_host.time()) - _EPOCH


def time_ns():
    return _host.time_ns() - _EPOCH * 1000000000


def gmtime(seconds=None):
    return _host.gmtime((time() if seconds is None else seconds) + _EPOCH)[:8]


localtime = gmtime


def mktime(fields):
    return int(_host.mktime(fields)) - _EPOCH


def __getattr__(name):
    return getattr(_host, name)
