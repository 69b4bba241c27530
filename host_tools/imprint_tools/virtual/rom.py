"""The serial loader in a chip's ROM, and the extras of esptool's stub, over a flash. Sans-I/O.

Bytes from the line go in by `feed`, what the chip does comes out as a list of actions. Source:
Espressif's "Serial Protocol" and "Stub Loader" pages of the esptool documentation. A request is
`00 op size:2 checksum:4 data`, an answer `01 op size:2 value:4 data status`, both in SLIP frames;
the ROM's status has four bytes, the stub's two.

No code runs here: whatever is uploaded to RAM and started is taken to be esptool's stub.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from imprint_tools.virtual import slip
from imprint_tools.virtual.chips import GIGADEVICE, XTAL_HZ, Chip, jedec_id
from imprint_tools.virtual.flash import SECTOR, Flash

ROM_BAUD = 115_200
SYNC_PAYLOAD = b"\x07\x07\x12\x20" + b"\x55" * 32
SYNC_FRAME = slip.encode(struct.pack("<BBHI", 0, 0x08, len(SYNC_PAYLOAD), 0) + SYNC_PAYLOAD)

_HEADER = struct.Struct("<BBHI")
_FRAME_LIMIT = 0x4000 + 64  # the stub's largest block, its parameters and the header
_READ_WINDOW = 256 * 1024  # bytes that READ_FLASH may have unacknowledged
_SYNC_ANSWERS = 8
_SYNC_VALUE = 0x2012_0707  # any value but 0, which would be the stub's
_SLOW_READ = 64
_WDT_BITES_AFTER_S = 0.1  # 2000 cycles of the slow clock are less; the host writes once more
_SPI_USER_COMMAND = 1 << 18
_SFDP = (
    b"SFDP\x06\x01\x01\xff"
    + bytes((0x00, 0x06, 0x01, 0x10, 0x30, 0x00, 0x00, 0xFF))
    + bytes((GIGADEVICE, 0x00, 0x01, 0x03, 0x60, 0x00, 0x00, 0xFF))
)


class Status(IntEnum):
    """Why a command is refused: the second status byte, in the ROM's numbers."""

    INVALID = 0x05
    FAILED = 0x06
    BAD_CHECKSUM = 0x07
    FLASH_WRITE = 0x08
    FLASH_READ = 0x09
    READ_LENGTH = 0x0A
    INFLATE = 0x0B


_STUB_STATUS = {
    Status.INVALID: 0xC3,
    Status.FAILED: 0xC6,
    Status.BAD_CHECKSUM: 0xC1,
    Status.FLASH_WRITE: 0xC4,
    Status.FLASH_READ: 0xC4,
    Status.READ_LENGTH: 0xC0,
    Status.INFLATE: 0xC7,
}


class Way(Enum):
    """How the chip leaves the loader."""

    RUN = "boot from flash"
    RELOAD = "start the ROM loader again"
    WATCHDOG = "boot from flash because the RTC watchdog bit"


@dataclass(frozen=True)
class SetBaud:
    """From here on the chip's UART runs at `baud`."""

    baud: int


@dataclass(frozen=True)
class Leave:
    """The loader is left, after `delay_s`."""

    way: Way
    delay_s: float = 0.0


Action = bytes | SetBaud | Leave
"""What the chip does: sends bytes, changes its baud rate, leaves the loader."""

_Answer = tuple[int, bytes]
_DONE: _Answer = (0, b"")


class _RefusedError(Exception):
    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass
class _Writing:
    """A FLASH_BEGIN or FLASH_DEFL_BEGIN under way. Addresses are bytes of flash."""

    at: int
    left: int
    erased_to: int
    inflate: Any  # zlib.decompressobj() has no public type
    next_block: int = 0


@dataclass
class _Reading:
    """A READ_FLASH under way: blocks go out until `window` bytes are unacknowledged."""

    start: int
    length: int
    block: int
    window: int
    sent: int = 0


class RomLoader:
    """One chip in download mode. `line_baud` tells the host's baud rate, which SYNC measures."""

    def __init__(
        self, chip: Chip, mac: bytes, flash: Flash, line_baud: Callable[[], int] | None = None
    ) -> None:
        self._chip = chip
        self._flash = flash
        self._line_baud = line_baud or (lambda: ROM_BAUD)
        self._registers = chip.registers(mac)
        self._rom_commands: dict[int, Callable[[bytes], _Answer]] = {
            0x02: self._flash_begin,
            0x03: self._flash_data,
            0x04: self._flash_end,
            0x05: self._mem_begin,
            0x06: self._mem_end,
            0x07: self._mem_data,
            0x08: self._sync,
            0x09: self._write_register,
            0x0A: self._read_register,
            0x0B: self._accept,  # SPI_SET_PARAMS: the flash knows its size
            0x0D: self._accept,  # SPI_ATTACH: it is wired
            0x0E: self._read_slow,
            0x0F: self._change_baud,
            0x10: self._deflate_begin,
            0x11: self._deflate_data,
            0x12: self._flash_end,
            0x13: self._md5,
        }
        if chip.security_info:
            self._rom_commands[0x14] = self._security_info
        self._stub_commands = {
            **self._rom_commands,
            0xD0: self._erase_flash,
            0xD1: self._erase_region,
            0xD2: self._read_flash,
            0xD3: self._run_user_code,
        }
        self.restart()

    def restart(self) -> None:
        """What a reset with IO0 low does: the ROM again, without the stub."""
        self.stub = False
        self._baud = ROM_BAUD
        self._slip = slip.Decoder(_FRAME_LIMIT)
        self._spi: dict[int, int] = {}
        self._checksum = 0
        self._writing: _Writing | None = None
        self._reading: _Reading | None = None
        self._after: list[Action] = []

    def feed(self, data: bytes) -> list[Action]:
        """Take bytes from the line, return what the chip does. Raises PowerCut as ordered."""
        actions: list[Action] = []
        for frame in self._slip.feed(data):
            actions += self._frame(frame)
            if actions and isinstance(actions[-1], Leave):
                break
        return actions

    def _frame(self, frame: bytes) -> list[Action]:
        if self._reading:
            if len(frame) == 4:
                return self._acknowledged(self._reading, int.from_bytes(frame, "little"))
            self._reading = None
        if len(frame) < _HEADER.size:
            return []
        direction, op, size, self._checksum = _HEADER.unpack_from(frame)
        payload = frame[_HEADER.size :]
        if direction != 0 or len(payload) != size:
            return []
        self._after = []
        answer = self._execute(op, payload)
        return [*answer, *self._after]

    def _execute(self, op: int, payload: bytes) -> list[bytes]:
        status = bytes(2 if self.stub else 4)
        command = (self._stub_commands if self.stub else self._rom_commands).get(op)
        try:
            if command is None:
                raise _RefusedError(Status.INVALID)
            value, data = command(payload)
        except _RefusedError as refused:
            code = _STUB_STATUS[refused.status] if self.stub else refused.status
            value, data, status = 0, b"", bytes((1, code)) + status[2:]
        body = data + status
        answer = slip.encode(_HEADER.pack(1, op, len(body), value) + body)
        return [answer] * (_SYNC_ANSWERS if op == 0x08 else 1)

    # -- the ROM's commands -------------------------------------------------------------------

    def _accept(self, _payload: bytes) -> _Answer:
        return _DONE

    def _sync(self, payload: bytes) -> _Answer:
        if payload != SYNC_PAYLOAD:
            raise _RefusedError(Status.INVALID)
        self._writing = None
        if self.stub:
            return _DONE
        if (baud := self._line_baud()) != self._baud:
            self._set_baud(baud)
        return _SYNC_VALUE, b""

    def _read_register(self, payload: bytes) -> _Answer:
        (address,) = _words(payload, 1)
        if address == self._chip.uart_clkdiv:
            return XTAL_HZ // self._baud, b""
        return self._spi.get(address, self._registers.get(address, 0)), b""

    def _write_register(self, payload: bytes) -> _Answer:
        for at in range(0, len(payload), 16):
            address, value, _mask, _delay_us = _words(payload[at:], 4)
            if address == self._chip.wdt_enable and value >> 31:
                self._after.append(Leave(Way.WATCHDOG, _WDT_BITES_AFTER_S))
            elif address == self._chip.spi.command:
                if value & _SPI_USER_COMMAND:
                    self._spi[self._chip.spi.data] = self._spi_transaction()
            elif address in _kept_registers(self._chip):
                self._spi[address] = value
        return _DONE

    def _spi_transaction(self) -> int:
        registers = self._chip.spi
        opcode = self._spi.get(registers.user2, 0) & 0xFF
        if opcode == 0x9F:  # RDID
            return int.from_bytes(jedec_id(self._flash.size), "little")
        if opcode == 0x5A:  # RDSFDP
            address = self._spi.get(registers.address, 0)
            at = address >> 8 if registers.address_in_high_bits else address
            return int.from_bytes(_SFDP[at : at + 4].ljust(4, b"\xff"), "little")
        return 0  # status registers: idle, nothing protected

    def _mem_begin(self, payload: bytes) -> _Answer:
        _words(payload, 4)
        return _DONE

    def _mem_data(self, payload: bytes) -> _Answer:
        self._block(payload)
        return _DONE

    def _mem_end(self, payload: bytes) -> _Answer:
        stay, _entry = _words(payload, 2)
        if not stay:
            self.stub = True
            self._after.append(slip.encode(b"OHAI"))
        return _DONE

    def _change_baud(self, payload: bytes) -> _Answer:
        baud, _old = _words(payload, 2)
        if not baud:
            raise _RefusedError(Status.INVALID)
        self._set_baud(baud)
        return _DONE

    def _security_info(self, _payload: bytes) -> _Answer:
        flags, crypt_count, key_purposes, api_version = 0, 0, bytes(7), 0
        return 0, struct.pack(
            "<IB7sII", flags, crypt_count, key_purposes, self._chip.app_id, api_version
        )

    def _flash_begin(self, payload: bytes) -> _Answer:
        return self._begin(payload, inflate=None)

    def _deflate_begin(self, payload: bytes) -> _Answer:
        return self._begin(payload, inflate=zlib.decompressobj())

    def _begin(self, payload: bytes, inflate: Any) -> _Answer:
        size, _blocks, _block_size, offset = _words(payload, 4)
        if offset + size > self._flash.size:
            raise _RefusedError(Status.FLASH_WRITE)
        self._writing = _Writing(offset, size, offset - offset % SECTOR, inflate)
        if not self.stub:  # the stub erases as it goes
            self._erase_to(self._writing, offset + size)
        return _DONE

    def _flash_data(self, payload: bytes) -> _Answer:
        writing, data = self._next_block(payload, deflated=False)
        if data:
            self._program(writing, data[: writing.left])
        return _DONE

    def _deflate_data(self, payload: bytes) -> _Answer:
        writing, data = self._next_block(payload, deflated=True)
        if data:
            try:
                plain = writing.inflate.decompress(data, writing.left + 1)
            except zlib.error:
                raise _RefusedError(Status.INFLATE) from None
            if len(plain) > writing.left:
                raise _RefusedError(Status.INFLATE)
            self._program(writing, plain)
        return _DONE

    def _next_block(self, payload: bytes, *, deflated: bool) -> tuple[_Writing, bytes]:
        """The block to be written; empty when it is one that was written before."""
        number, data = self._block(payload)
        writing = self._writing
        if writing is None or (writing.inflate is not None) != deflated:
            raise _RefusedError(Status.FAILED)
        if number == writing.next_block - 1:
            return writing, b""
        if number != writing.next_block:
            raise _RefusedError(Status.FAILED)
        return writing, data

    def _program(self, writing: _Writing, data: bytes) -> None:
        self._erase_to(writing, writing.at + len(data))
        self._flash.write(writing.at, data)
        writing.at += len(data)
        writing.left -= len(data)
        writing.next_block += 1

    def _erase_to(self, writing: _Writing, end: int) -> None:
        end += -end % SECTOR
        if end > writing.erased_to:
            self._flash.erase(writing.erased_to, end - writing.erased_to)
            writing.erased_to = end

    def _flash_end(self, payload: bytes) -> _Answer:
        (stay,) = _words(payload, 1)
        self._writing = None
        if not stay:  # a reset of the CPU alone: IO0 was latched low, so the loader comes again
            self._after.append(Leave(Way.RELOAD))
        elif not self.stub:
            self._after.append(Leave(Way.RUN))
        return _DONE

    def _md5(self, payload: bytes) -> _Answer:
        offset, size, _, _ = _words(payload, 4)
        digest = hashlib.md5(self._read(offset, size), usedforsecurity=False)
        return 0, digest.digest() if self.stub else digest.hexdigest().encode()

    def _read_slow(self, payload: bytes) -> _Answer:
        offset, length = _words(payload, 2)
        if length > _SLOW_READ:
            raise _RefusedError(Status.READ_LENGTH)
        return 0, self._read(offset, length).ljust(_SLOW_READ, b"\0")

    # -- the stub's extras --------------------------------------------------------------------

    def _erase_flash(self, _payload: bytes) -> _Answer:
        self._flash.erase(0, self._flash.size)
        return _DONE

    def _erase_region(self, payload: bytes) -> _Answer:
        offset, size = _words(payload, 2)
        try:
            self._flash.erase(offset, size)
        except ValueError:
            raise _RefusedError(Status.FLASH_WRITE) from None
        return _DONE

    def _run_user_code(self, _payload: bytes) -> _Answer:
        self._after.append(Leave(Way.RUN))
        return _DONE

    def _read_flash(self, payload: bytes) -> _Answer:
        offset, length, block, in_flight = _words(payload, 4)
        if offset + length > self._flash.size or not 0 < block <= _FRAME_LIMIT or not in_flight:
            raise _RefusedError(Status.READ_LENGTH)
        reading = _Reading(offset, length, block, min(block * in_flight, _READ_WINDOW))
        self._reading = reading
        self._after += self._acknowledged(reading, 0)
        return _DONE

    def _acknowledged(self, reading: _Reading, upto: int) -> list[Action]:
        actions: list[Action] = []
        while reading.sent < reading.length and reading.sent - upto < reading.window:
            size = min(reading.block, reading.length - reading.sent)
            data = self._flash.read(reading.start + reading.sent, size)
            actions.append(slip.encode(data))
            reading.sent += size
        if upto >= reading.length:
            data = self._flash.read(reading.start, reading.length)
            actions.append(slip.encode(hashlib.md5(data, usedforsecurity=False).digest()))
            self._reading = None
        return actions

    # -- shared -------------------------------------------------------------------------------

    def _block(self, payload: bytes) -> tuple[int, bytes]:
        """Number and data of a block. Refused when its length or checksum is wrong."""
        size, number, _, _ = _words(payload, 4)
        data = payload[16:]
        if size != len(data):
            raise _RefusedError(Status.INVALID)
        if xor(data, 0xEF) != self._checksum & 0xFF:
            raise _RefusedError(Status.BAD_CHECKSUM)
        return number, data

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._flash.size:
            raise _RefusedError(Status.FLASH_READ)
        return self._flash.read(offset, size)

    def _set_baud(self, baud: int) -> None:
        self._baud = baud
        self._after.append(SetBaud(baud))


def xor(data: bytes, start: int) -> int:
    """Espressif's checksum: all bytes and `start` exclusive-ored, folded as big integers."""
    while len(data) > 1:
        half = (len(data) + 1) // 2
        low = int.from_bytes(data[:half], "little")
        data = (low ^ int.from_bytes(data[half:], "little")).to_bytes(half, "little")
    return start ^ (data[0] if data else 0)


def _kept_registers(chip: Chip) -> tuple[int, ...]:
    return chip.spi.address, chip.spi.user, chip.spi.user2, chip.spi.data


def _words(payload: bytes, count: int) -> tuple[int, ...]:
    if len(payload) < 4 * count:
        raise _RefusedError(Status.INVALID)
    return struct.unpack_from(f"<{count}I", payload)
