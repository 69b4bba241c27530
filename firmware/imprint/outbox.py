"""Messages that wait for the link: store and forward, bounded, in order. Pure over a store.

One small file a message, named by its number (8 hex digits), so that a power cut can tear at
most the message that was being written, and order needs no index that could be torn. When the
box is full the oldest goes, and is counted.

    file = CRC-32 of the message:u32 big-endian  message

The store: names() -> list, read(name) -> bytes or None, write(name, bytes), remove(name);
OSError when it cannot. A name that is not ours is left alone. The promise is "at least once": a
file that cannot be removed comes again after a restart.
"""

import binascii
import struct

from micropython import const

from imprint.errors import SetupError

_NAME = "%08x"
_CRC = const(4)  # bytes

_OUTBOX_FULL = const(120)  # errors.py


class Outbox:
    """At most `limit` messages in `store`; those beyond it are dropped at once."""

    def __init__(self, store, limit: int) -> None:
        self.dropped = 0  # messages lost since this start: pushed out, or found damaged
        self._store = store
        self._limit = limit
        self._numbers = []  # of the messages held, the oldest first
        for name in store.names():
            number = _number(name)
            if number is not None:
                self._numbers.append(number)
        self._numbers.sort()
        self._next = self._numbers[-1] + 1 if self._numbers else 1
        # A cut between writing the new one and dropping the oldest leaves one too many.
        self._trim()

    def __len__(self) -> int:
        return len(self._numbers)

    def put(self, message: bytes) -> None:
        """Keep `message`; SetupError when the store takes it not even in place of all others."""
        content = struct.pack(">I", binascii.crc32(message)) + message
        while True:
            try:
                self._store.write(_NAME % self._next, content)
                break
            except OSError as error:
                if not self._numbers:
                    raise SetupError(_OUTBOX_FULL, number=error.errno)
                self._drop()
        self._numbers.append(self._next)
        self._next += 1
        self._trim()

    def peek(self) -> tuple | None:
        """(number, message) of the oldest whole message, None when there is none.

        Damaged ones before it are removed and counted as dropped.
        """
        while self._numbers:
            content = self._store.read(_NAME % self._numbers[0])
            if content and len(content) >= _CRC:
                message = content[_CRC:]
                if struct.unpack(">I", content[:_CRC])[0] == binascii.crc32(message):
                    return self._numbers[0], message
            self._drop()
        return None

    def done(self, number: int) -> None:
        """The message of that number has arrived. One that is not held any more is no error."""
        if number in self._numbers:
            self._remove(number)

    def _trim(self) -> None:
        while len(self._numbers) > self._limit:
            self._drop()

    def _drop(self) -> None:
        self._remove(self._numbers[0])
        self.dropped += 1

    def _remove(self, number: int) -> None:
        self._numbers.remove(number)
        try:
            self._store.remove(_NAME % number)
        except OSError:
            pass  # see the promise above


def _number(name: str) -> int | None:
    # What int() takes beyond our own names (signs, spaces, other lengths) does not come back.
    try:
        number = int(name, 16)
    except ValueError:
        return None
    return number if number > 0 and _NAME % number == name else None
