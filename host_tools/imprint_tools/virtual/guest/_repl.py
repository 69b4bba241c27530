"""UART0: the friendly REPL, and the raw REPL with raw paste, as ESP32 firmware speaks them.

Line ends are the host's work, which sends `\\n` as CR LF. Ctrl-C is too: while a program runs
it becomes SIGINT, else it arrives here as the byte 3.
"""

import gc
import sys

from _boot import model, run
from _chip import call
from usys import stdout as _out

_WINDOW = const(128)  # bytes that may be on their way in raw paste

_in = sys.stdin.buffer
_byte = bytearray(1)
_BLOCKS = (b"if", b"for", b"while", b"try", b"with", b"def", b"class", b"async", b"@")


def talk(raw):
    """Serve the console until a soft reset is asked for; whether in the raw REPL."""
    call(OP_RUNNING, 0)  # from here on a Ctrl-C is the REPL's
    while 1:
        gc.collect()
        if not (_raw_repl() if raw else _friendly_repl()):
            return raw
        raw = not raw


def _get():
    if not _in.readinto(_byte):
        raise SystemExit  # the host is gone
    return _byte[0]


def _raw_repl():
    print("raw REPL; CTRL-B to exit\n>", end="")
    line = bytearray()
    while 1:
        c = _get()
        if c == 1:
            if line == b"\x05A":
                if not _raw_paste():
                    return False
                print(">", end="")
            else:
                print("raw REPL; CTRL-B to exit\n>", end="")
        elif c == 2:
            print()
            return True
        elif c == 3:
            pass
        elif c == 4:
            print("OK", end="")
            if not line:
                print()
                return False
            ok = run("exec", line, True)
            print("\x04", end="")
            if not ok:
                return False
            print(">", end="")
        else:
            line.append(c)
            continue
        line = bytearray()
        gc.collect()


def _raw_paste():
    _out.write(b"R\x01\x80\x00\x01")
    line = bytearray()
    room = _WINDOW
    while 1:
        c = _get()
        if c == 3 or c == 4:
            break
        line.append(c)
        room -= 1
        if not room:
            print("\x01", end="")
            room = _WINDOW
    print("\x04", end="")
    ok = run("exec", b"raise KeyboardInterrupt" if c == 3 else line, True)
    print("\x04", end="")
    return ok


def _banner():
    print(sys.version.split("; ")[1] + "; virtual board with " + model)
    print('Type "help()" for more information.')


def _friendly_repl():
    _banner()
    code = bytearray()
    while 1:
        c, line = _line("... " if code else ">>> ")
        if c == 13:
            code += line
            code += b"\n"
            if _unfinished(code) or (line and code.startswith(_BLOCKS)):
                continue
            if not run("single", code):
                return False
        elif c == 1:
            return True
        elif c == 2:
            _banner()
        elif c == 4:
            return False
        elif c == 5 and not run("exec", _paste()):
            return False
        code = bytearray()


def _line(prompt):
    """One edited line and CR, or the control key that was pressed (all but Ctrl-C: on none)."""
    print(prompt, end="")
    line = bytearray()
    while 1:
        c = _get()
        if c in (13, 3) or (c <= 5 and not line):
            print()
            return c, line
        if c in (8, 127):
            if line:
                line = line[:-1]
                print("\b \b", end="")
        elif c >= 32 or c == 9:
            line.append(c)
            _out.write(_byte)


def _paste():
    print("paste mode; Ctrl-C to cancel, Ctrl-D to finish\n=== ", end="")
    text = bytearray()
    while 1:
        c = _get()
        if c == 3:
            print()
            return b"pass"
        if c == 4:
            print()
            return text
        c = 10 if c == 13 else c
        text.append(c)
        print("\n=== " if c == 10 else chr(c), end="")


def _unfinished(code):
    """Whether more lines must follow: an open bracket, a string of three quotes, a backslash."""
    code = bytes(code)
    depth = 0
    quote = None
    i = 0
    while i < len(code):
        c = code[i : i + 1]
        if quote:
            if c == b"\\":
                i += 1
            elif code[i : i + len(quote)] == quote:
                i += len(quote) - 1
                quote = None
            elif c == b"\n" and len(quote) == 1:
                quote = None
        elif c in (b"'", b'"'):
            quote = c * 3 if code[i : i + 3] == c * 3 else c
            i += len(quote) - 1
        elif c == b"#":
            while i < len(code) and code[i] != 10:
                i += 1
        elif c in (b"(", b"[", b"{"):
            depth += 1
        elif c in (b")", b"]", b"}"):
            depth -= 1
        i += 1
    return depth > 0 or quote is not None or code.endswith(b"\\\n")
