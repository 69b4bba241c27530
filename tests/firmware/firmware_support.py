"""What the firmware's tests share. Runs on CPython and on MicroPython, as they do."""

import gc
import json

from imprint.errors import ImprintError

_HERE = __file__.replace("\\", "/").rsplit("/", 1)[0] if "/" in __file__ else "."


def vectors(name):
    """The parsed tests/vectors/<name>.json."""
    with open(_HERE + "/../vectors/" + name + ".json", encoding="utf-8") as file:
        # At once: json.load() asks byte by byte, which over mpremote's mount is a round trip each.
        gc.collect()
        return json.loads(file.read())


class PowerCut(BaseException):
    """The power fails here. Not an Exception: no handler of errors may survive it."""


class Power:
    """Fails at the n-th write. `torn`: half of what that write does is done; else all of it."""

    def __init__(self, writes_left=None, torn=False):
        self.writes = 0
        self._left = writes_left
        self._torn = torn

    def spend(self):
        """Count a write. Returns how much of it is done before the lights go out: None is all of
        it and life goes on, else "half" or "all", and then `cut()` is due."""
        self.writes += 1
        if self._left is None:
            return None
        self._left -= 1
        if self._left:
            return None
        return "half" if self._torn else "all"


class MemoryBlobs:
    """The vault's store in memory: what an NVS namespace does, torn writes included."""

    def __init__(self, content=None, power=None):
        self.content = {} if content is None else content
        self.power = power or Power()
        self.full = False

    def get(self, key):
        return self.content.get(key)

    def set(self, key, value):
        if self.full:
            raise OSError(28, "ENOSPC")
        done = self.power.spend()
        self.content[key] = value[: len(value) // 2] if done == "half" else value
        if done:
            raise PowerCut

    def erase(self, key):
        done = self.power.spend()
        if done != "half":
            self.content.pop(key, None)
        if done:
            raise PowerCut

    def commit(self):
        if self.power.spend():
            raise PowerCut


class MemoryFolder:
    """The outbox's store in memory: small files, written in two steps that can each be torn."""

    def __init__(self, content=None, power=None):
        self.content = {} if content is None else content
        self.power = power or Power()
        self.room = None  # files that fit, None for any number
        self.read_only = False

    def names(self):
        return list(self.content)

    def read(self, name):
        return self.content.get(name)

    def write(self, name, data):
        if self.room is not None and len(self.content) >= self.room:
            raise OSError(28, "ENOSPC")
        done = self.power.spend()
        self.content[name] = data[: len(data) // 2] if done == "half" else data
        if done:
            raise PowerCut

    def remove(self, name):
        if self.read_only:
            raise OSError(30, "EROFS")
        done = self.power.spend()
        if done != "half":
            self.content.pop(name, None)
        if done:
            raise PowerCut


class raises:  # noqa: N801 - reads as the statement that it is
    """`with raises(SetupError, 102) as caught:` an error of exactly that kind and code."""

    def __init__(self, kind, code):
        self.exception = None
        self._expected = (kind, code)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            raise AssertionError("nothing was raised")
        if not issubclass(kind, ImprintError):
            return False
        self.exception = error
        actual = (kind, error.code)
        if actual != self._expected:
            raise AssertionError("%r, not %r" % (actual, self._expected))
        return True
