"""Modbus RTU: the master on a serial line, RS-485 as a rule. Codec pure, the wire handed in.

Sources: MODBUS application protocol V1.1b3 and MODBUS over serial line V1.02. A point is

    name:kind:register:type:scale     e.g. power:h:30775:s32:0.1

    kind   h holding register, i input register, c coil, d discrete input
    type   u16 s16 u32 s32 f32, the high word first; with an `r` behind it the low word first;
           bit for coils and inputs
    scale  what a raw value is multiplied with; absent: 1, and whole numbers stay whole

Registers are counted from 0, as on the wire. Neighbours are read with one request. A slave may be
silent, slow, exceptional or noisy: each request has one deadline, is tried twice, and what arrives
late is thrown away before the next one.
"""

import struct

from micropython import const

from imprint import port
from imprint.errors import ImprintError, ProtocolError, SetupError, WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ANSWER_MS = const(500)  # for a slave's answer to begin and end
_TRIES = const(2)
_SPAN_MAX = const(60)  # registers a request; 125 is the protocol's, many meters take less
_GAP_MAX = const(8)  # registers that nobody asked for, between two that somebody did
_FRAME_MAX = const(256)  # bytes
_ADDRESS_MAX = const(247)  # 0 is all slaves at once, which nobody answers
_STALE_MAX = const(16)  # frames of noise that are thrown away; who babbles on is garbage then

_READ = {"c": 1, "d": 2, "h": 3, "i": 4}
_TYPES = {
    "u16": (">H", 1), "s16": (">h", 1), "u32": (">I", 2), "s32": (">i", 2), "f32": (">f", 2),
    "bit": ("", 1),
}  # fmt: skip

# errors.py
_SUBDEVICES_WRONG = const(106)
_SLAVE_SILENT = const(250)
_SLAVE_GARBAGE = const(251)
_SLAVE_REFUSED = const(252)
_SLAVE_BUSY = const(253)

_BUSY = (5, 6)  # exception codes: acknowledge, server device busy


# --- The codec


def crc(data: bytes) -> int:
    """CRC-16 of the serial line, as a number; on the wire its low byte comes first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value


def frame(address: int, pdu: bytes) -> bytes:
    """A request, whole."""
    body = bytes([address]) + pdu
    return body + struct.pack("<H", crc(body))


def length(head: "bytes | bytearray") -> int:
    """How long the answer is that begins with these bytes; 0: too few of them to know."""
    if len(head) < 3:
        return 0
    if head[1] & 0x80:
        return 5
    return 5 + head[2] if head[1] in (1, 2, 3, 4) else 8


def answer(address: int, pdu: bytes, data: bytes) -> bytes:
    """What the slave says to the request `pdu`, without address, function and CRC.

    Raises ProtocolError (not an answer to that), SetupError, WeatherError (an exception).
    """
    if len(data) < 5 or crc(data[:-2]) != data[-2] | data[-1] << 8:
        raise ProtocolError(_SLAVE_GARBAGE, "slave %d: CRC" % address)
    if data[0] != address or data[1] & 0x7F != pdu[0]:
        raise ProtocolError(_SLAVE_GARBAGE, "slave %d: answer of another" % address)
    if data[1] & 0x80:
        if data[2] in _BUSY:
            raise WeatherError(_SLAVE_BUSY, "slave %d" % address, data[2])
        raise SetupError(_SLAVE_REFUSED, "slave %d" % address, data[2])
    if pdu[0] > 4:
        if data[2:6] != pdu[1:5]:
            raise ProtocolError(_SLAVE_GARBAGE, "slave %d: echo" % address)
        return b""
    count = pdu[3] << 8 | pdu[4]
    size = (count + 7) // 8 if pdu[0] < 3 else count * 2
    if data[2] != size or len(data) != size + 5:
        raise ProtocolError(_SLAVE_GARBAGE, "slave %d: size" % address)
    return data[3:-2]


class Point:
    """One measurepoint in a slave's registers."""

    def __init__(self, text: str) -> None:
        """Raises ValueError."""
        words = text.split(":")
        if len(words) == 4:
            words.append("1")
        self.name, self.kind, register, kind, scale = words
        self.register = int(register)
        self.swapped = kind.endswith("r")
        if self.swapped:
            kind = kind[:-1]
        if self.kind not in _READ or kind not in _TYPES or not 0 <= self.register <= 0xFFFF:
            raise ValueError(text)
        if (kind == "bit") != (self.kind in "cd"):
            raise ValueError(text)
        self.form, self.size = _TYPES[kind]
        self.scale = float(scale) if "." in scale or "e" in scale else int(scale)
        if not self.scale:
            raise ValueError(text)

    def decode(self, data: bytes, first: int) -> "Any":
        """Its value in what was read from register `first` on; None: a float that is none."""
        at = self.register - first
        if not self.form:
            return data[at // 8] >> at % 8 & 1
        raw = data[at * 2 : (at + self.size) * 2]
        if self.swapped:
            raw = raw[2:] + raw[:2]
        value = struct.unpack(self.form, raw)[0]
        if self.scale != 1:
            value = round(value * self.scale, 6)
        # NaN, infinity (a board's float has 32 bits): JSON has no form for them.
        return value if value - value == 0 else None

    def encode(self, value: "Any") -> bytes:
        """The request that sets it. Raises ValueError, TypeError: it cannot be set to that."""
        if self.kind == "c":
            if value not in (0, 1):
                raise ValueError(self.name)
            return struct.pack(">BHH", 5, self.register, 0xFF00 if value else 0)
        if self.kind != "h":
            raise ValueError(self.name)
        try:
            raw = value / self.scale
            if self.form != ">f":
                raw = int(round(raw))
                bits, signed = self.size * 16, self.form in (">h", ">i")
                least, most = (-1 << bits - 1, 1 << bits - 1) if signed else (0, 1 << bits)
                if not least <= raw < most:
                    raise ValueError(self.name)
            data = struct.pack(self.form, raw)
        except OverflowError:  # 1e999, or a whole number that no float can hold
            raise ValueError(self.name)
        if self.form == ">f" and data[0] & 0x7F == 0x7F and data[1] & 0x80:
            raise ValueError(self.name)  # MicroPython makes an infinity of what does not fit
        if self.swapped:
            data = data[2:] + data[:2]
        if self.size == 1:
            return struct.pack(">BH", 6, self.register) + data
        return struct.pack(">BHHB", 16, self.register, 2, 4) + data


def spans(points: "list[Point]") -> "list[tuple]":
    """The requests that read all of them: (kind, first register, how many), few and short."""
    found: "list[tuple]" = []
    for kind, register, size in sorted([(p.kind, p.register, p.size) for p in points]):
        if found:
            last, first, count = found[-1]
            end = register + size - first
            if last == kind and register - first - count <= _GAP_MAX and end <= _SPAN_MAX:
                found[-1] = (kind, first, max(count, end))
                continue
        found.append((kind, register, size))
    return found


# --- The wire


class Driver:
    """See the package. `bus`: keywords of machine.UART, or the stream that it would make."""

    def __init__(self, points: "list[str]", bus: "Any", feed: "Callable[[], None]") -> None:
        try:
            self._points = [Point(text) for text in points]
        except ValueError:
            raise SetupError(_SUBDEVICES_WRONG, "a point of Modbus")
        self._spans = spans(self._points)
        self._feed = feed
        self._stream = bus if hasattr(bus, "readinto") else _uart(bus)
        self._buf = bytearray(_FRAME_MAX)

    def poll(self, address: int) -> dict:
        values = {}
        for kind, first, count in self._spans:
            data = self._ask(address, struct.pack(">BHH", _READ[kind], first, count))
            for point in self._points:
                if point.kind == kind and first <= point.register < first + count:
                    value = point.decode(data, first)
                    if value is not None:
                        values[point.name] = value
        return values

    def command(self, address: int, name: str, params: dict) -> dict:
        if name != "set":
            raise KeyError(name)
        known = {point.name: point for point in self._points}
        requests = []
        for wanted in sorted(params):
            if wanted not in known:
                raise ValueError(wanted)
            requests.append(known[wanted].encode(params[wanted]))
        for request in requests:  # all of them are sound: nothing is set by halves for a typo
            self._ask(address, request)
        return {}

    def _ask(self, address: int, pdu: bytes) -> bytes:
        if not 1 <= address <= _ADDRESS_MAX:
            raise SetupError(_SUBDEVICES_WRONG, "address %d" % address)
        for attempt in range(_TRIES):
            self._feed()
            try:
                return answer(address, pdu, self._exchange(address, pdu))
            except ImprintError as error:
                # An exception was said by the slave, and would be said again.
                if error.code in (_SLAVE_REFUSED, _SLAVE_BUSY) or attempt == _TRIES - 1:
                    raise
        raise WeatherError(_SLAVE_SILENT, "slave %d" % address)

    def _exchange(self, address: int, pdu: bytes) -> bytes:
        # Send, and take in one frame, by its own length. What is late or noise goes first.
        stream, buf = self._stream, self._buf
        for _ in range(_STALE_MAX):
            if not stream.readinto(buf):
                break
        stream.write(frame(address, pdu))
        deadline = port.ticks_add(port.ticks_ms(), _ANSWER_MS)
        view, got, wanted = memoryview(buf), 0, 0
        while port.ticks_diff(deadline, port.ticks_ms()) > 0:
            count = stream.readinto(view[got:])
            if not count:
                port.sleep_ms(2)
                continue
            got += count
            wanted = wanted or length(buf[:got])
            if wanted and got >= wanted:
                return bytes(view[:wanted])
        if got:
            raise ProtocolError(_SLAVE_GARBAGE, "slave %d: %d bytes" % (address, got))
        raise WeatherError(_SLAVE_SILENT, "slave %d" % address)


_SHARED: list = []  # the one UART, of however many tables


def _uart(bus: dict) -> "Any":
    if not _SHARED:
        import machine

        settings = {"id": 1, "baudrate": 9600, "rxbuf": 512}
        settings.update(bus)
        number = settings.pop("id")
        settings["timeout"] = 0
        try:
            _SHARED.append(machine.UART(number, **settings))
        except (TypeError, ValueError, OSError) as error:
            raise SetupError(_SUBDEVICES_WRONG, "the bus: %s" % error)
    return _SHARED[0]
