"""What an ESP32's MicroPython does once its file system is mounted, and how it runs a program.

boot.py, main.py, then the REPL. A soft reset asked for in the raw REPL skips main.py.
"""

import gc
import io
import sys
from __main__ import __dict__ as _globals
from _chip import call
from usys import stdout as _out

_begin = sys.argv[2]
model = sys.argv[3]


class _Trace(io.IOBase):
    """A traceback without its first entry, which is this file."""

    line = 0

    def write(self, data):
        if self.line != 1:
            _out.write(data)
        if data[-1] == 10:
            self.line += 1
        return len(data)


def run(code, arg=None, raw=False):
    """Run `code` as a program, print what it raises; False when it asks for a soft reset.

    `code` is a function, or execfile with a file's name, or a mode of compile() with source as
    bytes. `raw` marks the end of the output for the raw REPL. A Ctrl-C that arrives just as the
    program ends is the program's.
    """
    error = None
    try:
        try:
            call(OP_RUNNING, 1)
            if code is execfile:
                execfile(arg, _globals)
            elif arg is None:
                code()
            else:
                exec(compile(str(arg, "utf8"), "<stdin>", code), _globals)
        except BaseException as e:
            error = e
        call(OP_RUNNING, 0)
    except KeyboardInterrupt as e:
        error = error or e
        call(OP_RUNNING, 0)
    if raw:
        print("\x04", end="")
    if isinstance(error, SystemExit):
        return False
    if error:
        sys.print_exception(error, _Trace())
    return True


def _files():
    import os

    for name in ("boot.py", "main.py") if _begin == "MAIN" else ("boot.py",):
        try:
            os.stat(name)
        except OSError:
            continue
        if not run(execfile, name):
            return False
    return True


def start():
    """Run what is there to run, then talk, until a soft reset."""
    raw = _begin == "RAW_REPL"
    _globals.clear()
    _globals["__name__"] = "__main__"
    sys.argv.clear()
    for name in ("_setup", "flashbdev"):
        sys.modules.pop(name, None)
    gc.collect()
    if _files():
        import _repl

        raw = _repl.talk(raw)
    print("MPY: soft reboot")
    call(OP_SOFT_RESET, raw)
