"""The sub-devices of a gateway: who they are, and what their cloud has issued. Pure over a store.

Who they are is a text that the host makes, one line each, in the order in which they are polled:

    ={"baudrate":9600,"id":1}         the bus: keywords of machine.UART; one line, or none
    !NAME DRIVER POINT POINT ...      a table: a driver, and what it reads, in the driver's words
    KEY TABLE ADDRESS [SECRET]        a sub-device; KEY: device key, or product key/device key

It lies in the NVS, a long one in parts of whole lines.

What is issued is one small file each, written whole and read back: a power cut can tear the one
that was being written and no other, and then that sub-device gets its secret anew.

    name = 12 hex digits of SHA-256(product key "/" device key)
    file = CRC-32(name, all after this) u32   flags u8   CRC-32 of the text u32   secret

Once all that have a secret are in the gateway's topology, a file `bound` says so with the CRC-32
of the text: while it is missing, or another list's, each is put there (again) before it logs in.

For two hundred there is a byte of flags and two of offset each in memory; the rest is read when
it is wanted. The store is outbox.py's.
"""

import binascii
import hashlib
import struct
from array import array

from micropython import const

from imprint.errors import SetupError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

MOST = const(200)  # online through one gateway, by the vendor's limits page
_TEXT_MAX = const(65_535)  # bytes: what an offset can hold
_LINE_MAX = const(512)  # bytes

# Flags. The first two are kept on flash.
ISSUED = const(1)  # the record has a secret
DELETED = const(2)  # by the cloud: it is not made anew, until the text is another one
BOUND = const(4)  # in this gateway's topology, as far as is known
RETRIED = const(8)  # once more after a refusal that may have been a misunderstanding
ONLINE = const(16)
REFUSED = const(32)  # by the cloud, for good as far as this connection is concerned
DISABLED = const(64)  # by the cloud
SILENT = const(128)  # its driver got no answer when it was last polled
_KEPT = const(3)
_BOUND_FILE = "bound"
_PARTS = ("subdevices", "subdevices2", "subdevices3", "subdevices4")

# errors.py
_SUBDEVICES_WRONG = const(106)
_SUBDEVICE_NOT_STORED = const(112)


class Text:
    """The parts of a list as one file of lines; one of them is in memory.

    `store` is the NVS; `identity` names the parts, for what it does not name is an older list's.
    """

    def __init__(self, store: "Any", identity: "Any") -> None:
        self._store = store
        self._starts: "list[int]" = []
        self.size = 0
        self._at = 0
        self._part = b""
        for key in _PARTS:
            if getattr(identity, key + "_sha256"):
                self._starts.append(self.size)
                self._part = store.get(key) or b""
                self.size += len(self._part)
        self._number = len(self._starts) - 1

    def seek(self, offset: int) -> None:
        self._at = offset

    def readline(self) -> bytes:
        if self._at >= self.size:
            return b""
        number = len(self._starts) - 1
        while self._starts[number] > self._at:
            number -= 1
        if number != self._number:
            self._part = b""  # its room is wanted
            self._part = self._store.get(_PARTS[number]) or b""
            self._number = number
        first = self._at - self._starts[number]
        last = self._part.find(b"\n", first) + 1 or len(self._part)
        self._at += last - first
        return self._part[first:last]


class Subdevices:
    """`text` is a file, to be read at places; `store` keeps the records.

    `product_key` is that of the lines that name none. Raises SetupError: the text breaks a rule.
    """

    def __init__(self, text: "Any", store: "Any", product_key: str) -> None:
        self.bus = ""  # JSON
        self.damaged = 0  # records that were there and are not whole
        self._text = text
        self._store = store
        self._product_key = product_key
        self._offsets = array("H")
        self._tables: "list[int]" = []  # offsets
        self._mark = 0
        self._index()
        self.flags = bytearray(len(self._offsets))
        bound = BOUND if self._offsets and store.read(_BOUND_FILE) == self._bound() else 0
        self._settled = bool(bound)
        for at in range(len(self._offsets)):
            record = self._record(at)
            if record:
                self.flags[at] = record[0]
            if self.has_secret(at):
                self.flags[at] |= bound

    def __len__(self) -> int:
        return len(self._offsets)

    def name(self, at: int) -> tuple:
        """(product key, device key)."""
        return self._name(self._words(self._offsets[at])[0])

    def place(self, at: int) -> tuple:
        """(table's name, address): where its driver finds it."""
        words = self._words(self._offsets[at])
        return words[1], int(words[2])

    def find(self, product_key: "str | None", device_key: "str | None") -> int:
        """Which one that is; -1: none of ours."""
        for at in range(len(self._offsets)):
            if self.name(at) == (product_key, device_key):
                return at
        return -1

    def secret(self, at: int) -> bytes:
        """What was burned, else what was issued, else nothing."""
        words = self._words(self._offsets[at])
        if len(words) > 3:
            return words[3].encode()
        record = self._record(at)
        return record[1] if record else b""

    def has_secret(self, at: int) -> bool:
        """Whether `secret` would find one."""
        return bool(self.flags[at] & ISSUED) or len(self._words(self._offsets[at])) > 3

    def keep(self, at: int, secret: bytes | None = None, flags: int = 0) -> None:
        """Store what was issued, and flags to set. Nothing is written where all of it is there.

        SetupError: the store refused it or gave back other bytes; that sub-device stays as it was.
        """
        held = self._record(at) or (0, b"")
        if secret is None:
            secret = held[1]
        kept = (held[0] | flags | (ISSUED if secret else 0)) & _KEPT
        if (kept, secret) != held:
            name = self._file(at)
            body = struct.pack(">BI", kept, self._mark) + secret
            body = struct.pack(">I", _crc(name, body)) + body
            try:
                self._store.write(name, body)
            except OSError as error:
                raise SetupError(_SUBDEVICE_NOT_STORED, self.name(at)[1], error.errno)
            if self._store.read(name) != body:
                raise SetupError(_SUBDEVICE_NOT_STORED, self.name(at)[1])
        self.flags[at] = self.flags[at] & ~_KEPT | kept

    def forget(self, at: int) -> None:
        """What was issued is of no use any more."""
        if self._record(at):
            try:
                self._store.remove(self._file(at))
            except OSError as error:
                raise SetupError(_SUBDEVICE_NOT_STORED, self.name(at)[1], error.errno)
        self.flags[at] &= ~(_KEPT | BOUND)

    def settle(self) -> None:
        """All that can be are in the topology: at the next start nobody is put there again."""
        if self._offsets and not self._settled:
            try:
                self._store.write(_BOUND_FILE, self._bound())
            except OSError:
                return  # it costs the next start a few requests, and that is all
            self._settled = True

    def table(self, name: str) -> "list[str]":
        """The words of that table's line behind its name: driver and points."""
        for offset in self._tables:
            words = self._words(offset)
            if words[0] == "!" + name:
                return words[1:]
        raise SetupError(_SUBDEVICES_WRONG, "no table " + name)

    def count(self, mask: int) -> int:
        """How many have all flags of `mask`."""
        return sum([1 for flags in self.flags if flags & mask == mask])

    def _index(self) -> None:
        names, number, offset = [], 0, 0
        self._text.seek(0)
        while True:
            line = self._text.readline()
            if not line:
                break
            number += 1
            self._mark = binascii.crc32(line, self._mark)
            words = _split(line, number)
            if offset > _TEXT_MAX or len(line) > _LINE_MAX:
                raise _wrong(number, "too long")
            if line[:1] == b"=":
                self.bus = str(line[1:], "utf-8").strip()
            elif line[:1] == b"!":
                if len(words) < 2:
                    raise _wrong(number, "no driver")
                self._tables.append(offset)
                names.append(words[0][1:])
            elif words:
                if len(words) not in (3, 4) or words[1] not in names:
                    raise _wrong(number, "no such table, or too few words")
                if words[2].strip("0123456789") or len(words[2]) > 5:
                    raise _wrong(number, "address")
                self._offsets.append(offset)
            offset += len(line)
        if len(self._offsets) > MOST:
            raise _wrong(number, "more than %d sub-devices" % MOST)

    def _words(self, offset: int) -> "list[str]":
        self._text.seek(offset)
        return str(self._text.readline(), "utf-8").split()

    def _name(self, key: str) -> tuple:
        product_key, slash, device_key = key.partition("/")
        return (product_key, device_key) if slash else (self._product_key, key)

    def _bound(self) -> bytes:
        return struct.pack(">I", self._mark)

    def _file(self, at: int) -> str:
        digest = hashlib.sha256("/".join(self.name(at)).encode()).digest()
        return binascii.hexlify(digest[:6]).decode()

    def _record(self, at: int) -> tuple | None:
        # (flags, secret) of a whole record.
        name = self._file(at)
        content = self._store.read(name)
        if content is None:
            return None
        if len(content) < 9 or struct.unpack(">I", content[:4])[0] != _crc(name, content[4:]):
            self.damaged += 1
            return None
        flags, mark = struct.unpack(">BI", content[4:9])
        if mark != self._mark:
            flags &= ~DELETED
        return flags & _KEPT, content[9:]


def _crc(name: str, body: bytes) -> int:
    return binascii.crc32(body, binascii.crc32(name.encode()))


def _split(line: bytes, number: int) -> "list[str]":
    try:
        return str(line, "utf-8").split()
    except UnicodeError:
        raise _wrong(number, "not UTF-8")


def _wrong(number: int, fault: str) -> SetupError:
    return SetupError(_SUBDEVICES_WRONG, "line %d: %s" % (number, fault))
