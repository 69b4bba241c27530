"""Flashes a board in one esptool session: MicroPython, the file system, and NVS on request.

What is written, and what is not:

* Only sectors that differ. Before anything is written the chip hashes what it holds (MD5), from
  whole segments down to sectors, and only what differs is sent, compressed. A second flash of the
  same images writes nothing.
* Every write is read back by the chip and its MD5 compared; each changed segment once more whole.
* The nvs partition is left alone, although MicroPython's merged .bin covers it with blanks: the
  .bin is cut along its own partition table. NVS holds the credential that the cloud issued.
* With an identity, NVS is read first and changed entry by entry. A unit that stays the same device
  keeps its credential; one that holds a credential and would become another device is refused,
  unless `replace` is given.

Nothing is written before the chip, its flash and every image have been checked.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from esp_pylib.logger import EspLog, EspLogBase
from esptool import cmds  # type: ignore[import-untyped]
from esptool.bin_image import LoadFirmwareImage  # type: ignore[import-untyped]
from esptool.reset import ResetStrategy  # type: ignore[import-untyped]
from esptool.targets import CHIP_DEFS  # type: ignore[import-untyped]
from esptool.util import (  # type: ignore[import-untyped]
    FatalError,
    PrintOnce,
    flash_size_bytes,
)

from imprint_tools import nvs, partitions
from imprint_tools.errors import (
    BoardFileError,
    ChipMismatchError,
    FirmwareFileError,
    FlashError,
    PortError,
)
from imprint_tools.identities import Identity, tables
from imprint_tools.inject import CREDENTIALS, NAMESPACE, Held, blobs, keeps_credential
from imprint_tools.partitions import SECTOR, TABLE_OFFSET, TABLE_SIZE, Partition
from imprint_tools.ports import open_port, port_error
from imprint_tools.secret import Secret
from imprint_tools.serialport import count_bytes

BAUD = 460800
_ROM_BAUD = 115200
_BLOCK = 16 * SECTOR
_FANOUT = 16

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Segment:
    """Bytes that belong at `offset` of the flash, which is a sector's start."""

    label: str
    offset: int
    data: bytes

    def padded(self) -> bytes:
        """The data filled up to whole sectors, as erased flash is filled."""
        return self.data + b"\xff" * (-len(self.data) % SECTOR)


@dataclass(frozen=True)
class SegmentResult:
    """A segment of `size` bytes, and how many bytes of flash were written for it."""

    label: str
    offset: int
    size: int
    written: int

    @property
    def skipped(self) -> bool:
        return self.written == 0


@dataclass(frozen=True)
class FlashResult:
    """One session: the chip, its MAC, its segments, bytes over the wire (both ways), seconds."""

    chip: str
    mac: str
    segments: tuple[SegmentResult, ...]
    wire_bytes: int
    seconds: float

    @property
    def written(self) -> int:
        """Bytes of flash that were written."""
        return sum(segment.written for segment in self.segments)


def flash(
    url: str,
    chip: str,
    segments: Sequence[Segment],
    *,
    flash_size: int,
    nvs_partition: Partition | None = None,
    identity: Identity | None = None,
    replace: bool = False,
    baud: int = BAUD,
    progress: Progress | None = None,
) -> FlashResult:
    """Write `segments` (and `identity` into `nvs_partition`) to the board at `url`.

    Raises PortError, ChipMismatchError, FlashError, and CredentialHeldError before any write.
    """
    began = time.monotonic()
    with Session(url, chip, baud=baud, progress=progress) as session:
        session.require_flash(flash_size)
        wanted = list(segments)
        if identity is not None:
            if nvs_partition is None:
                raise BoardFileError("the partition table names no nvs partition")
            held = session.read_written(nvs_partition.offset, nvs_partition.size)
            data = with_identity(held, identity, replace=replace)
            wanted.append(Segment(nvs_partition.label, nvs_partition.offset, data))
        results = session.write(wanted)
        return FlashResult(
            session.chip, session.mac, results, session.wire_bytes, time.monotonic() - began
        )


# --- The session -------------------------------------------------------------------------------


class Session:
    """A connected chip in download mode, its flash attached; reset when the block ends.

    Raises PortError when nothing answers, ChipMismatchError when another chip does.
    """

    def __init__(
        self, url: str, chip: str, *, baud: int = BAUD, progress: Progress | None = None
    ) -> None:
        self.url = url
        self._baud = baud
        self._expected = chip
        self._progress = progress
        self._port = open_port(url, _ROM_BAUD)
        self._counter = count_bytes(self._port)
        self._esp: Any = None

    def __enter__(self) -> Self:
        _Log.install()
        _Log.progress_to(self._progress)
        try:
            self._connect()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._close()

    @property
    def chip(self) -> str:
        """The chip's name as board files spell it (`esp32s3`)."""
        return str(self._esp.CHIP_NAME).lower().replace("-", "")

    @property
    def mac(self) -> str:
        """The base MAC, as 12 hex digits: what the firmware names the unit by default."""
        return bytes(self._esp.read_mac("BASE_MAC")).hex()

    @property
    def wire_bytes(self) -> int:
        return self._counter.total

    def require_flash(self, size: int) -> None:
        """Raise FlashError when the chip's flash is smaller than `size` bytes."""
        found = self._guarded(lambda: cmds.detect_flash_size(self._esp))
        if found is None:
            raise FlashError(
                f"{self.url}: the flash chip's size is unknown",
                next_step="Check that the module's flash is connected (strapping pins).",
            )
        if flash_size_bytes(found) < size:
            raise FlashError(
                f"{self.url}: the flash holds {found}, and the board's layout needs "
                f"{size >> 20}MB",
                next_step="Name the board that this is with --board.",
            )

    def md5(self, offset: int, size: int) -> str:
        """The MD5 (hex) of what the flash holds."""
        digest: str = self._guarded(lambda: self._esp.flash_md5sum(offset, size))
        return digest

    def read(self, offset: int, size: int) -> bytes:
        """What the flash holds."""
        data: bytes = self._guarded(lambda: self._esp.read_flash(offset, size))
        return data

    def read_written(self, offset: int, size: int) -> bytes:
        """The same for whole sectors; those that are blank are told by their hash alone."""
        if self.md5(offset, size) == _md5(b"\xff" * size):
            return b"\xff" * size
        blank = b"\xff" * SECTOR
        return b"".join(
            blank if self.md5(at, SECTOR) == _md5(blank) else self.read(at, SECTOR)
            for at in range(offset, offset + size, SECTOR)
        )

    def write(self, segments: Sequence[Segment]) -> tuple[SegmentResult, ...]:
        """Write what differs, verify it, and say what was written."""
        plan = [(segment, changes(segment, self.md5)) for segment in segments]
        regions = [region for _segment, found in plan for region in found]
        if regions:
            self._guarded(lambda: cmds.write_flash(self._esp, regions))
        for segment, found in plan:
            data = segment.padded()
            if found and self.md5(segment.offset, len(data)) != _md5(data):
                raise FlashError(
                    f"{self.url}: {segment.label} read back from the flash is not what was "
                    "written",
                    next_step="Flash again with a lower --baud; if it repeats, the flash is worn.",
                )
        return tuple(
            SegmentResult(
                segment.label,
                segment.offset,
                len(segment.data),
                sum(len(data) for _offset, data in found),
            )
            for segment, found in plan
        )

    def _connect(self) -> None:
        try:
            esp = cmds.detect_chip(self._port, _ROM_BAUD)
        except FatalError as error:
            if self._port.is_open and "autodetect" in str(error):
                raise ChipMismatchError(f"{self.url}: {_first_line(error)}") from None
            raise PortError(
                f"{self.url}: no ESP chip answers",
                next_step="Check cable and power; hold BOOT while pressing RESET, then try again.",
            ) from None
        except OSError as error:
            raise port_error(self.url, error) from None
        self._esp = esp
        if self.chip != self._expected:
            raise ChipMismatchError(
                f"{self.url}: the chip is an {esp.CHIP_NAME}, and the board has an "
                f"{CHIP_DEFS[self._expected].CHIP_NAME}; nothing was written",
                next_step="Name the board that this is with --board.",
            )
        self._guarded(self._attach)

    def _attach(self) -> None:
        self._esp = cmds.run_stub(self._esp)
        if self._baud != _ROM_BAUD:
            self._esp.change_baud(self._baud)
        cmds.attach_flash(self._esp)

    def _close(self) -> None:
        """Whatever happened, the chip shall leave download mode and the port be free."""
        try:
            if self._esp is not None and self._port.is_open:
                cmds.reset_chip(self._esp, "hard-reset")
        except (OSError, FatalError):
            pass  # what went wrong before is the news
        finally:
            self._port.close()
            _Log.progress_to(None)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except FatalError as error:
            raise FlashError(
                f"{self.url}: {_first_line(error)}",
                next_step="Flash again, with a lower --baud if it repeats.",
            ) from None
        except OSError as error:
            raise port_error(self.url, error) from None


class _Log(EspLogBase):
    """esptool's logger, for whose words stdout is not the place.

    Progress goes to the session of its thread; the rest is said by results and errors.
    """

    _session = threading.local()

    @classmethod
    def install(cls) -> None:
        logger = cls()
        EspLog.set_logger(logger)
        # This one was bound to the logger of the time when esptool was imported.
        ResetStrategy.print_once = PrintOnce(logger.warn)

    @classmethod
    def progress_to(cls, progress: Progress | None) -> None:
        cls._session.progress = progress

    def progress_bar(
        self,
        cur_iter: int,
        total_iters: int,
        prefix: str = "",
        suffix: str = "",
        bar_length: int = 30,
    ) -> None:
        progress: Progress | None = getattr(self._session, "progress", None)
        if progress is not None:
            progress(prefix.strip(), cur_iter, total_iters)

    def _silent(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    print = err = warn = note = hint = debug = set_verbosity = _silent
    # esptool's older names for the same, which its proxy looks up too.
    error = warning = _silent


# --- What differs ------------------------------------------------------------------------------


def changes(segment: Segment, md5: Callable[[int, int], str]) -> list[tuple[int, bytes]]:
    """The (offset, data) of the segment's sectors that the flash does not hold, joined.

    `md5(offset, size)` hashes the flash. A blank flash costs one hash for each 64 KiB of data and
    one for each long blank run, an unchanged segment one in all.
    """
    data = segment.padded()
    if not data or md5(segment.offset, len(data)) == _md5(data):
        return []
    found: list[tuple[int, bytes]] = []
    for start, end in _differing(data, segment.offset, md5):
        if found and found[-1][0] + len(found[-1][1]) == segment.offset + start:
            offset, before = found.pop()
            found.append((offset, before + data[start:end]))
        else:
            found.append((segment.offset + start, data[start:end]))
    return found


def segment_md5(segment: Segment) -> str:
    """The MD5 (hex) that the flash must have over the segment's whole sectors."""
    return _md5(segment.padded())


def _differing(
    data: bytes, base: int, md5: Callable[[int, int], str]
) -> Iterator[tuple[int, int]]:
    todo = list(_pieces(data))[::-1]
    while todo:
        start, end = todo.pop()
        size = end - start
        held, wanted = md5(base + start, size), data[start:end]
        if held == _md5(wanted):
            continue
        if size == SECTOR:
            yield start, end
        elif held == _md5(b"\xff" * size):  # erased: only what is not blank need be written
            for at in range(start, end, SECTOR):
                if not _blank(data[at : at + SECTOR]):
                    yield at, at + SECTOR
        else:
            step = SECTOR * max(1, size // SECTOR // _FANOUT)
            cuts = [(at, min(at + step, end)) for at in range(start, end, step)]
            todo += reversed(cuts)


def _pieces(data: bytes) -> Iterator[tuple[int, int]]:
    """Cut at 64 KiB, but leave a longer blank run whole: one hash tells whether it is blank."""
    start = 0
    while start < len(data):
        end = min(start + _BLOCK, len(data))
        if _blank(data[start:end]):
            while end < len(data) and _blank(data[end : end + SECTOR]):
                end += SECTOR
        yield start, end
        start = end


def _blank(data: bytes) -> bool:
    return data.count(0xFF) == len(data)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


# --- MicroPython's .bin ------------------------------------------------------------------------


@dataclass(frozen=True)
class Firmware:
    """A merged .bin, checked and cut: segments without nvs, and the table that it brings."""

    segments: tuple[Segment, ...]
    partitions: tuple[Partition, ...]

    @property
    def nvs(self) -> Partition | None:
        return next((p for p in self.partitions if _is_nvs(p)), None)


def read_firmware(image: bytes, chip: str, flash_size: int) -> Firmware:
    """Check MicroPython's .bin for `chip` and cut it along its own partition table.

    Raises FirmwareFileError for a file that is foreign, truncated, damaged or for another chip.
    """
    base: int = CHIP_DEFS[chip].BOOTLOADER_FLASH_OFFSET
    table_at = TABLE_OFFSET - base
    if len(image) < table_at + TABLE_SIZE:
        raise FirmwareFileError(
            f"the firmware is {len(image)} bytes long, too short to hold a partition table",
            next_step="Take MicroPython's .bin for this chip, not an .app-bin; download it again.",
        )
    _check_app(image[:table_at], chip, "bootloader")
    try:
        table = partitions.parse(image[table_at : table_at + TABLE_SIZE])
        partitions.check(table, flash_size)
    except BoardFileError as error:
        raise FirmwareFileError(f"the firmware's partition table: {error}") from None
    segments = [
        Segment("bootloader", base, image[:table_at].rstrip(b"\xff")),
        Segment("partition-table", TABLE_OFFSET, image[table_at : table_at + TABLE_SIZE]),
    ]
    apps = 0
    for part in sorted(table, key=lambda p: p.offset):
        data = image[part.offset - base : part.end - base]
        if not data or _is_nvs(part):
            continue
        if part.kind == partitions.APP and not _blank(data):
            _check_app(data, chip, part.label)
            apps += 1
        segments.append(Segment(part.label, part.offset, data))
    if not apps:
        raise FirmwareFileError(
            "the firmware holds no application",
            next_step="Download MicroPython's .bin again.",
        )
    return Firmware(tuple(segments), tuple(table))


def _is_nvs(part: Partition) -> bool:
    return part.kind == partitions.DATA and part.subtype == partitions.SUBTYPES[part.kind]["nvs"]


def _check_app(data: bytes, chip: str, label: str) -> None:
    name = CHIP_DEFS[chip].CHIP_NAME
    try:
        image = LoadFirmwareImage(chip, data)
        whole = image.checksum == image.calculate_checksum() and (
            not image.append_digest or image.stored_digest == image.calc_digest
        )
    except Exception as error:  # esptool's parser raises what its slices and structs do
        raise FirmwareFileError(
            f"the firmware's {label} is not an {name} image, or is cut short: "
            f"{_first_line(error)}",
            next_step=f"Take MicroPython's .bin for the {name}; download it again.",
        ) from None
    if image.chip_id != CHIP_DEFS[chip].IMAGE_CHIP_ID:
        raise FirmwareFileError(
            f"the firmware's {label} is for another chip than the {name}",
            next_step=f"Take MicroPython's .bin for the {name}.",
        )
    if not whole:
        raise FirmwareFileError(
            f"the firmware's {label} is damaged: its checksum does not match",
            next_step="Download MicroPython's .bin again.",
        )


# --- NVS ---------------------------------------------------------------------------------------


def with_identity(held: bytes, identity: Identity, *, replace: bool = False) -> bytes:
    """The nvs partition `held`, with the identity in it and every other entry kept.

    The credential goes only when the unit becomes another device. Raises CredentialHeldError when
    that is not allowed, FlashError when the partition is full or of a format unknown here.
    """
    region = nvs.BytesRegion(held)
    try:
        part = nvs.NvsPartition(region)
        found = describe(part.entries())
        if found.is_of(identity):
            return held
        keep = keeps_credential(found, identity, replace=replace)
        for key, data in blobs(identity).items():
            part.set_blob(NAMESPACE, key, data)
        for key in () if keep else found.credentials:
            part.erase_key(NAMESPACE, key)
        for key in set(found.attachments) - set(identity.blobs):
            part.erase_key(NAMESPACE, key)
    except nvs.NvsError as error:
        if replace:
            fresh = nvs.BytesRegion(len(held))
            return with_identity(fresh.image(), identity)
        raise FlashError(
            f"the nvs partition takes no identity ({type(error).__name__}, "
            f"{error.esp_err:#06x}); nothing was written",
            next_step="Write it anew, and lose what it holds: --replace-identity.",
        ) from None
    return region.image()


def describe(entries: Iterable[nvs.Entry]) -> Held:
    """What the entries of an nvs partition say of a unit: fields, hashes, credentials."""
    held = {
        entry.key: entry.value
        for entry in entries
        if entry.namespace == NAMESPACE and isinstance(entry.value, bytes)
    }
    raw = held.get("identity")
    known = tables()
    try:
        fields = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        fields = None
    shown = None
    if isinstance(fields, dict):
        shown = {
            name: Secret(str(value)).fingerprint if name in known.secrets else value
            for name, value in fields.items()
        }
    return Held(
        shown,
        hashlib.sha256(raw).hexdigest() if raw else None,
        {key: hashlib.sha256(held[key]).hexdigest() for key in known.attachments if key in held},
        tuple(key for key in CREDENTIALS if key in held),
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
