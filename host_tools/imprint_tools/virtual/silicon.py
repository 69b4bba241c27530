"""The chip around MicroPython: what the guest asks for over its wire, answered at once.

A request is four little-endian int32 (operation, a, b, length) and that many bytes. The answer is
one int32, or for FLASH_READ and TAKE the bytes asked for. An answer that is bytes besides a number
is left behind for TAKE; LEFT tells its length.
"""

from __future__ import annotations

import errno
import math
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum, auto
from pathlib import Path

from imprint_tools import partitions as tables
from imprint_tools.nvs import NvsError, NvsNewVersion, NvsNoFreePages, NvsPartition
from imprint_tools.nvs import format as erase_nvs
from imprint_tools.partitions import SECTOR, Partition
from imprint_tools.virtual.flash import Flash
from imprint_tools.virtual.network import AccessPoint, Station, WifiError
from imprint_tools.virtual.uarts import NUMBERS as UARTS

POWER_ON_DATE = datetime(2000, 1, 1, tzinfo=UTC)
RTC_MEMORY_SIZE = 2048  # MicroPython's MICROPY_HW_RTC_USER_MEM_MAX on ESP32
PINS = 49


class Op(IntEnum):
    """The operations; the guest's `OP_<NAME>`."""

    TAKE = auto()
    LEFT = auto()
    RUNNING = auto()
    KBD_INTR = auto()
    STDOUT = auto()
    SOFT_RESET = auto()
    RESET = auto()
    RESET_CAUSE = auto()
    DEEPSLEEP = auto()
    UNIQUE_ID = auto()
    WDT = auto()
    CLOCK = auto()
    RTC_MEMORY = auto()
    PIN = auto()
    UART = auto()
    FLASH_READ = auto()
    FLASH_WRITE = auto()
    FLASH_IOCTL = auto()
    PARTITION = auto()
    NVS_OPEN = auto()
    NVS_SET_I32 = auto()
    NVS_GET_I32 = auto()
    NVS_SET_BLOB = auto()
    NVS_GET_BLOB = auto()
    NVS_ERASE_KEY = auto()
    WLAN_ACTIVE = auto()
    WLAN_CONNECT = auto()
    WLAN_DISCONNECT = auto()
    WLAN_STATUS = auto()
    WLAN_SCAN = auto()
    WLAN_GET = auto()
    WLAN_SET = auto()
    RESOLVE = auto()


class ResetCause(IntEnum):
    """MicroPython's numbers on the ESP32."""

    PWRON = 1
    HARD = 2
    WDT = 3
    DEEPSLEEP = 4
    SOFT = 5


class ChipReset(Exception):
    """The program resets the chip, which starts again after `delay_s` (infinite: never)."""

    def __init__(self, cause: ResetCause, delay_s: float = 0.0) -> None:
        super().__init__(cause.name)
        self.cause = cause
        self.delay_s = delay_s


class SoftReset(Exception):
    """MicroPython starts afresh in the same chip; `raw` when the raw REPL talks on."""

    def __init__(self, raw: bool) -> None:
        super().__init__()
        self.raw = raw


class Rtc:
    """The clock and the memory that survive every reset but power-on.

    `file` is libfaketime's: the offset in seconds from the host's clock.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.memory = b""
        self._offset_s = 0.0
        self.power_on()

    def power_on(self) -> None:
        """The battery-less clock starts at 2000-01-01, the memory is empty."""
        self.memory = b""
        self.set(POWER_ON_DATE)

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._offset_s, UTC)

    def set(self, when: datetime) -> None:
        self._offset_s = when.timestamp() - time.time()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        staged = self.file.with_suffix(".new")
        staged.write_text(f"{self._offset_s:+.6f}\n")
        staged.replace(self.file)


class Silicon:
    """The services of one chip. `answer` is called for each request of the guest."""

    def __init__(
        self,
        *,
        mac: bytes,
        flash: Flash,
        partitions: Sequence[Partition],
        rtc: Rtc,
        access_point: AccessPoint,
        set_watchdog: Callable[[float | None], None],
        uart_fds: Mapping[int, int],
    ) -> None:
        """`set_watchdog` arms it with a time in seconds, or feeds it (None)."""
        self.cause = ResetCause.PWRON
        self.pins: dict[int, int] = {}
        self.station = Station(access_point)
        self._mac = mac
        self._flash = flash
        self._rtc = rtc
        self._ap = access_point
        self._set_watchdog = set_watchdog
        self._uart_fds = uart_fds
        self._leavings = b""
        self._spaces: list[str] = []
        self._partitions = list(partitions)
        vfs = tables.vfs(self._partitions, flash.size)
        if vfs is not None and vfs not in self._partitions:
            self._partitions.append(vfs)
        self._nvs: NvsPartition | None = None
        self._handlers: dict[Op, Callable[[int, int, bytes], int | bytes]] = {
            op: getattr(self, f"_{op.name.lower()}")
            for op in Op
            if hasattr(self, f"_{op.name.lower()}")
        }

    def reset(self, cause: ResetCause) -> None:
        """All that a reset of the chip clears; flash and RTC stay."""
        self.cause = cause
        self.pins.clear()
        self._nvs = None
        self._spaces.clear()
        self.station.power_off()

    def soft_reset(self) -> None:
        """What MicroPython's soft reset clears; the radio stays joined."""
        self.cause = ResetCause.SOFT
        self._spaces.clear()

    def answer(self, op: Op, a: int, b: int, data: bytes) -> int | bytes:
        """Serve one request. Raises ChipReset, SoftReset, PowerCut."""
        try:
            return self._handlers[op](a, b, data)
        except NvsError as error:
            return self._fail(-error.esp_err, _esp_name(error))
        except ValueError:  # outside the flash
            return bytes(b) if op is Op.FLASH_READ else self._fail(-errno.EINVAL, "EINVAL")
        except WifiError as error:
            return self._fail(-1, str(error))

    def _leave(self, data: bytes) -> int:
        self._leavings = data
        return len(data)

    def _fail(self, number: int, text: str) -> int:
        self._leave(text.encode())
        return number

    def _take(self, _a: int, length: int, _data: bytes) -> bytes:
        return self._leavings[:length].ljust(length, b"\0")

    def _left(self, _a: int, _b: int, _data: bytes) -> int:
        return len(self._leavings)

    # The chip itself

    def _soft_reset(self, raw: int, _b: int, _data: bytes) -> int:
        raise SoftReset(bool(raw))

    def _reset(self, _a: int, _b: int, _data: bytes) -> int:
        raise ChipReset(ResetCause.HARD)

    def _deepsleep(self, ms: int, _b: int, _data: bytes) -> int:
        raise ChipReset(ResetCause.DEEPSLEEP, math.inf if ms < 0 else ms / 1000)

    def _reset_cause(self, _a: int, _b: int, _data: bytes) -> int:
        return self.cause

    def _unique_id(self, _a: int, _b: int, _data: bytes) -> int:
        return self._leave(self._mac)

    def _wdt(self, ms: int, _b: int, _data: bytes) -> int:
        self._set_watchdog(ms / 1000 if ms else None)
        return 0

    def _clock(self, write: int, _b: int, data: bytes) -> int:
        if not write:
            now = self._rtc.now()
            return self._leave(
                struct.pack(
                    "<8i", now.year, now.month, now.day, now.weekday(),
                    now.hour, now.minute, now.second, now.microsecond,
                )
            )  # fmt: skip
        try:
            year, month, day, _weekday, hour, minute, second, micro = map(int, data.split(b","))
            start = datetime(year, month, day, tzinfo=UTC)
            time_of_day = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micro)
            self._rtc.set(start + time_of_day)
        except (ValueError, OverflowError):
            return -1
        return 0

    def _rtc_memory(self, write: int, _b: int, data: bytes) -> int:
        if not write:
            return self._leave(self._rtc.memory)
        if len(data) > RTC_MEMORY_SIZE:
            return -1
        self._rtc.memory = data
        return 0

    def _pin(self, number: int, level: int, _data: bytes) -> int:
        if not 0 <= number < PINS:
            return -1
        if level == 2:  # a pull-up, where the bench has not set a level
            self.pins.setdefault(number, 1)
        elif level >= 0:
            self.pins[number] = level
        return self.pins.get(number, 0)

    def _uart(self, number: int, _b: int, _data: bytes) -> int:
        """The guest's file descriptor; -1 with nothing plugged in, -2 where there is no UART."""
        return self._uart_fds.get(number, -1) if number in UARTS else -2

    # Flash

    def _flash_read(self, at: int, length: int, _data: bytes) -> bytes:
        return self._flash.read(at, length)

    def _flash_write(self, at: int, offset: int, data: bytes) -> int:
        """`offset` -1 is the simple block protocol: the blocks are erased first."""
        if offset < 0:
            self._flash.erase(at, len(data))
            offset = 0
        self._flash.write(at + offset, data)
        return 0

    def _flash_ioctl(self, request: int, at: int, _data: bytes) -> int:
        """MicroPython's block device ioctl: 4 counts blocks, 5 is their size, 6 erases one."""
        if request == 4:
            return next(p for p in self._partitions if p.offset <= at < p.end).size // SECTOR
        if request == 5:
            return SECTOR
        if request == 6:
            self._flash.erase(at, SECTOR)
        return 0

    def _partition(self, index: int, _b: int, label: bytes) -> int:
        """The `index`-th one, or the one labelled so (-1): type, subtype, offset, size, label."""
        if index < 0:
            part = tables.find(self._partitions, label.decode(errors="replace"))
        else:
            part = self._partitions[index] if index < len(self._partitions) else None
        if part is None:
            return self._fail(-errno.ENOENT, "ENOENT")
        fields = struct.pack("<4i", part.kind, part.subtype, part.offset, part.size)
        return self._leave(fields + part.label.encode())

    # NVS

    def _store(self) -> NvsPartition:
        """The mounted partition; erased first where MicroPython's app_main does that."""
        if self._nvs is None:
            part = tables.find(self._partitions, "nvs")
            if part is None:
                raise NvsPartMissing
            region = self._flash.region(part.offset, part.size)
            try:
                self._nvs = NvsPartition(region)
            except (NvsNoFreePages, NvsNewVersion):
                erase_nvs(region)
                self._nvs = NvsPartition(region)
        return self._nvs

    def _nvs_open(self, _a: int, _b: int, name: bytes) -> int:
        """A handle. As ESP-IDF does for writing, this makes the namespace where it is new."""
        self._store().create_namespace(name.decode())
        self._spaces.append(name.decode())
        return len(self._spaces) - 1

    def _nvs_set_i32(self, space: int, value: int, key: bytes) -> int:
        self._store().set_i32(self._spaces[space], key.decode(), value)
        return 0

    def _nvs_get_i32(self, space: int, _b: int, key: bytes) -> int:
        return self._leave(
            struct.pack("<i", self._store().get_i32(self._spaces[space], key.decode()))
        )

    def _nvs_set_blob(self, space: int, key_length: int, data: bytes) -> int:
        key, value = data[:key_length].decode(), data[key_length:]
        self._store().set_blob(self._spaces[space], key, value)
        return 0

    def _nvs_get_blob(self, space: int, room: int, key: bytes) -> int:
        value = self._store().get_blob(self._spaces[space], key.decode())
        if len(value) > room:
            return self._fail(-_INVALID_LENGTH, "ESP_ERR_NVS_INVALID_LENGTH")
        return self._leave(value)

    def _nvs_erase_key(self, space: int, _b: int, key: bytes) -> int:
        self._store().erase_key(self._spaces[space], key.decode())
        return 0

    # Wi-Fi

    def _wlan_active(self, on: int, _b: int, _data: bytes) -> int:
        return self.station.active(None if on < 0 else bool(on))

    def _wlan_connect(self, named: int, name_length: int, data: bytes) -> int:
        name, password = data[:name_length].decode(), data[name_length:].decode()
        self.station.connect(name if named else None, password)
        return 0

    def _wlan_disconnect(self, _a: int, _b: int, _data: bytes) -> int:
        self.station.disconnect()
        return 0

    def _wlan_status(self, _a: int, _b: int, _data: bytes) -> int:
        return self.station.status

    def _wlan_scan(self, _a: int, _b: int, _data: bytes) -> int:
        return self._leave((self.station.scan() or "").encode())

    def _wlan_get(self, _a: int, _b: int, name: bytes) -> int:
        value = self.station.settings.get(name.decode(errors="replace"))
        return -1 if value is None else self._leave(value.encode())

    def _wlan_set(self, _a: int, _b: int, setting: bytes) -> int:
        name, _, value = setting.decode(errors="replace").partition("=")
        self.station.settings[name] = value
        return 0

    def _resolve(self, port: int, _b: int, host: bytes) -> int:
        return self._ap.resolve(host.decode(errors="replace"), port)


class NvsPartMissing(NvsError):
    """The partition table has no `nvs`."""

    esp_err = 0x1117


_INVALID_LENGTH = 0x110C
_ESP_NAMES = {
    0x1102: "NOT_FOUND",
    0x1105: "NOT_ENOUGH_SPACE",
    0x1109: "INVALID_NAME",
    0x110D: "NO_FREE_PAGES",
    0x110E: "VALUE_TOO_LONG",
    0x1110: "NEW_VERSION_FOUND",
    0x1117: "PART_NOT_FOUND",
}


def _esp_name(error: NvsError) -> str:
    return "ESP_ERR_NVS_" + _ESP_NAMES.get(error.esp_err, "BASE")
