"""The modem's part in the dialects' tests. Runs on CPython and on MicroPython, as they do."""

import gc

from imprint.modem.dialects import common
from imprint.modem.engine import Engine
from imprint.secret import Secret

OK = b"\r\nOK\r\n"
ERROR = b"\r\nERROR\r\n"

# A key that is not printable, so that it can only go as hexadecimal, and EnOS's form of identity.
KEY = Secret(bytes(range(0xF0, 0x100)))
KEY_HEX = b"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
IDENTITY = b"PK,DK,2,3600"


def info(text):
    """An information line, then OK."""
    return b"\r\n" + text + b"\r\n" + OK


def play(talk, script, dialect=None):
    """What the dialogue returns or raises, if the host says just what the script has.

    A script's item is (line or payload, answer), or (ms, bytes): that much time passes, then the
    modem speaks by itself.
    """
    gc.collect()
    engine = Engine(dialect or common.Common())
    engine._trusted = True  # getting in step is the engine's own business, and tested there
    now = 0
    engine.start(talk, now)
    for expected, answer in script:
        if isinstance(expected, int):
            end = now + expected
            while now < end:
                now = min(end, now + max(1, engine.next_timeout(now) or 1))
                engine.handle_timer(now)
        else:
            said = None
            while said is None and not engine.done():
                now += engine.next_timeout(now)
                engine.handle_timer(now)
                said = engine.to_send()
                if said is None and now > 600000:
                    raise AssertionError("said nothing more")
            piece = engine.to_send()
            while piece:  # of a long line
                said += piece
                piece = engine.to_send()
            if said not in (expected, expected + b"\r", expected + b"\r\n"):
                raise AssertionError("%r, not %r" % (said, expected))
        engine.feed(answer, 0, len(answer), now)
    while not engine.done():
        now += engine.next_timeout(now)
        engine.handle_timer(now)
        extra = engine.to_send()
        if extra is not None:
            raise AssertionError("%r, too" % extra)
    return engine.result()
