"""`machine.Pin`: levels that the bench can see and set. Interrupts are not delivered."""

from _chip import call


class Pin:
    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2
    IRQ_RISING = 1
    IRQ_FALLING = 2

    def __init__(self, id, mode=-1, pull=None, *, value=None):
        self._id = id
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=None, *, value=None):
        if call(OP_PIN, self._id, 2 if pull == 2 and mode == 1 else -1) < 0:
            raise ValueError("invalid pin")
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is None:
            return call(OP_PIN, self._id, -1)
        call(OP_PIN, self._id, bool(level))

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def irq(self, handler=None, trigger=3):
        """Only `irq(None)` is served: a virtual pin does not interrupt, poll `value()`."""
        if handler:
            raise OSError(95)  # EOPNOTSUPP
