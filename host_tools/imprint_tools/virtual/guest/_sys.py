"""`sys` as on the chip: print and sys.stdout send CR LF, sys.stdout.buffer sends bytes."""

import sys as _host

platform = "esp32"


def __getattr__(name):
    if name == "stdout":
        from _stdout import stdout as part

        return part
    return getattr(_host, name)
