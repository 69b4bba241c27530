"""Modbus RTU slaves on a serial line, with the faults that slaves and lines have.

    with ModbusBus(board.uarts.far_end(1), {1: {30775: 5000}}) as bus: ...

Functions 1 to 6 and 16 of the MODBUS application protocol V1.1b3, on one bank of registers a slave
(holding and input registers alike) and one of coils. A frame ends with its own length: the line
here has no bit times, so there is no silence to wait for.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_LOOK_S = 0.05
_FRAME_MAX = 256
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _ILLEGAL_VALUE = 1, 2, 3
_READ_BITS, _READ_WORDS = (1, 2), (3, 4)


@dataclass
class Slave:
    """One slave. The faults last until they are taken away: `silent` says nothing, `late_s`
    answers after that time, `bad_crc` with a wrong checksum, `exception` with that code, `noise`
    puts bytes in front."""

    registers: dict[int, int] = field(default_factory=dict)
    coils: dict[int, bool] = field(default_factory=dict)
    silent: bool = False
    late_s: float = 0.0
    bad_crc: bool = False
    exception: int = 0
    noise: bytes = b""

    def put(self, register: int, value: int | float, kind: str = "u16") -> None:
        """Set what a master reads: u16, s16, u32, s32 or f32, the high word first."""
        code = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "f32": ">f"}[kind]
        data = struct.pack(code, value)
        for at in range(0, len(data), 2):
            self.registers[register + at // 2] = int.from_bytes(data[at : at + 2], "big")


class ModbusBus:
    """Answers on a stream for all slaves, by address, until it is closed."""

    def __init__(self, stream: socket.socket, slaves: Mapping[int, Slave]) -> None:
        self.slaves = dict(slaves)
        self.requests = 0
        """Of any of its slaves."""
        self._stream = stream
        self._held = b""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modbus", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                if not select.select([self._stream], [], [], _LOOK_S)[0]:
                    self._held = b""  # half a frame and then silence: noise
                    continue
                data = self._stream.recv(_FRAME_MAX)
            except (OSError, ValueError):
                return  # the board was taken apart
            if not data:
                return
            self._held += data
            while (size := _length(self._held)) and len(self._held) >= size:
                frame, self._held = self._held[:size], self._held[size:]
                self._answer(frame)

    def _answer(self, frame: bytes) -> None:
        slave = self.slaves.get(frame[0])
        if crc(frame[:-2]) != frame[-2:] or slave is None:
            return
        self.requests += 1
        if slave.silent:
            return
        pdu = frame[1:-2]
        said = _exception(pdu, slave.exception) if slave.exception else respond(slave, pdu)
        body = frame[:1] + said
        check = crc(body)
        if slave.bad_crc:
            check = bytes([check[0] ^ 0xFF, check[1]])
        said = slave.noise + body + check
        if slave.late_s:  # meanwhile the others answer
            later = threading.Timer(slave.late_s, self._send, [said])
            later.daemon = True
            later.start()
        else:
            self._send(said)

    def _send(self, data: bytes) -> None:
        if not self._over.is_set():
            try:
                self._stream.sendall(data)
            except OSError:
                self._over.set()


def respond(slave: Slave, pdu: bytes) -> bytes:
    """What a slave says to a request; both without address and checksum."""
    function, first, value = struct.unpack(">BHH", pdu[:5])
    if function in (*_READ_BITS, *_READ_WORDS):
        bits = function in _READ_BITS
        if not 1 <= value <= (2000 if bits else 125):
            return _exception(pdu, _ILLEGAL_VALUE)
        held: Mapping[int, int] = slave.coils if bits else slave.registers
        found = [held.get(at) for at in range(first, first + value)]
        if all(word is None for word in found):
            return _exception(pdu, _ILLEGAL_ADDRESS)
        if bits:
            packed = sum(bool(bit) << at for at, bit in enumerate(found))
            data = packed.to_bytes((value + 7) // 8, "little")
        else:
            data = b"".join((word or 0).to_bytes(2, "big") for word in found)
        return bytes([function, len(data)]) + data
    if function == 5 and value in (0, 0xFF00):
        slave.coils[first] = value == 0xFF00
    elif function == 6:
        slave.registers[first] = value
    elif function == 16 and len(pdu) == 6 + 2 * value:
        for at in range(value):
            slave.registers[first + at] = int.from_bytes(pdu[6 + 2 * at : 8 + 2 * at], "big")
    else:
        return _exception(pdu, _ILLEGAL_VALUE if function in (5, 16) else _ILLEGAL_FUNCTION)
    return pdu[:5]


def crc(data: bytes) -> bytes:
    """The checksum as it is on the wire: its low byte first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value, odd = value >> 1, value & 1
            if odd:
                value ^= 0xA001
    return value.to_bytes(2, "little")


def _exception(pdu: bytes, code: int) -> bytes:
    return bytes([pdu[0] | 0x80, code])


def _length(data: bytes) -> int:
    """How long the request is that begins so; 0: too little of it has come."""
    if len(data) < 7:
        return 0
    return 9 + data[6] if data[1] == 16 else 8
