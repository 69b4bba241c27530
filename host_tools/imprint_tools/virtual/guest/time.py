"""`time` with the chip's epoch, 2000-01-01, and whole seconds."""

import utime as _host

_EPOCH = const(946684800)


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
