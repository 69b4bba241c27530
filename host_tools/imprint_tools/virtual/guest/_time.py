"""What of `time` is seldom used; see there."""

import time as _own

_EPOCH = const(946684800)
_PERIOD = const(0x3FFFFFFF)


def ticks_us():
    return _own.host.ticks_us() - _own.start_us & _PERIOD


def time_ns():
    return _own.host.time_ns() - _EPOCH * 1000000000


def mktime(fields):
    return int(_own.host.mktime(fields)) - _EPOCH
