"""What happens between a reset with IO0 high and the first line of the application.

The ROM wants a sound second-stage bootloader at the chip's offset. That reads the partition
table, chooses the app and checks its image: magic, chip, segments, checksum, appended SHA-256.
Neither runs here. Source: ESP-IDF's "Bootloader" and esptool's "Firmware Image Format" pages.
"""

from __future__ import annotations

import hashlib
import struct

from imprint_tools.errors import BoardFileError
from imprint_tools.partitions import APP, TABLE_OFFSET, TABLE_SIZE, Partition, parse
from imprint_tools.virtual.chips import Chip
from imprint_tools.virtual.flash import Flash
from imprint_tools.virtual.rom import xor

IMAGE_MAGIC = 0xE9
_HEADER = struct.Struct("<BBBBI4xHBHH4xB")
_SEGMENT = struct.Struct("<II")
_MOST_SEGMENTS = 16


class BootError(Exception):
    """Nothing in flash can be started. The text is what the chip prints."""


def load(flash: Flash, chip: Chip) -> list[Partition]:
    """Check what would be started and return the partitions. Raises BootError, PowerCut."""
    start = chip.bootloader_offset
    check_image(flash.read(start, TABLE_OFFSET - start), chip)
    try:
        partitions = parse(flash.read(TABLE_OFFSET, TABLE_SIZE))
    except BoardFileError as error:
        raise BootError(f"E (41) flash_parts: {error}") from None
    apps = sorted((p for p in partitions if p.kind == APP), key=lambda p: p.offset)
    if not apps:
        raise BootError("E (41) boot: No bootable app partitions in the partition table")
    if apps[0].end > flash.size:
        raise BootError(f"E (41) boot: Partition {apps[0].label} is outside the flash")
    check_image(flash.read(apps[0].offset, apps[0].size), chip)
    return partitions


def check_image(image: bytes, chip: Chip) -> None:
    """Check a bootloader or app, which may be followed by anything. Raises BootError."""
    if len(image) < _HEADER.size:
        raise BootError("E (41) esp_image: image is shorter than its header")
    magic, segments, _mode, _flash, _entry, app_id, _rev, _low, _high, hashed = (
        _HEADER.unpack_from(image)
    )
    if magic != IMAGE_MAGIC:
        raise BootError(f"invalid header: 0x{int.from_bytes(image[:4], 'little'):08x}")
    if app_id != chip.app_id:
        raise BootError(
            f"E (41) boot_comm: mismatch chip ID, expected {chip.app_id}, found {app_id}"
        )
    if not 0 < segments <= _MOST_SEGMENTS:
        raise BootError(f"E (41) esp_image: image has {segments} segments")
    checksum, at = 0xEF, _HEADER.size
    for _ in range(segments):
        if at + _SEGMENT.size > len(image):
            raise BootError("E (41) esp_image: image is longer than its place")
        _address, size = _SEGMENT.unpack_from(image, at)
        at += _SEGMENT.size
        checksum = xor(image[at : at + size], checksum)
        at += size
    end = at + 16 - at % 16  # the checksum is the last byte of a 16-byte line
    if end + (32 if hashed else 0) > len(image):
        raise BootError("E (41) esp_image: image is longer than its place")
    if checksum != image[end - 1]:
        raise BootError(
            f"E (41) esp_image: Checksum failed. Calculated 0x{checksum:x} "
            f"read 0x{image[end - 1]:x}"
        )
    if hashed and hashlib.sha256(image[:end]).digest() != image[end : end + 32]:
        raise BootError("E (41) esp_image: Image hash failed - image is corrupt")
