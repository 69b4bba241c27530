"""What the firmware asks of MicroPython's module `micropython`, for CPython.

On the path only where the firmware runs on a host (tests), so that no firmware module needs a
`try` of its own (43 bytes of .mpy each). What cannot be had here does nothing, and says so.
"""


def const(value):
    """The value itself; MicroPython's compiler folds it in."""
    return value


def native(function):
    """No machine code here: the function itself."""
    return function


viper = native


def opt_level(level=None):
    """CPython fixes its optimisation at start: always 0."""
    return 0 if level is None else None


def heap_lock():
    """CPython has no heap lock; allocation under it is only proven on MicroPython."""


def heap_unlock():
    """See heap_lock. Returns the lock's depth, which is 0."""
    return 0


def mem_info(verbose=None):
    """Prints nothing: CPython's heap is not the board's."""


def kbd_intr(_character):
    """CPython's terminal decides what interrupts."""


def schedule(function, argument):
    """No interrupts here: call at once."""
    function(argument)
