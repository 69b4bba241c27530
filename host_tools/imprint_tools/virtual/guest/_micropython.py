"""`micropython` with the board's own `kbd_intr`; all else is the interpreter's."""

import micropython as _host

from _chip import call


def kbd_intr(_char):
    """The character that interrupts a program, -1 for none."""
    call(OP_KBD_INTR, _char)


def __getattr__(name):
    return getattr(_host, name)
