"""Boards: one TOML file each, checked against boards/schema.json and against its own layout.

The schema is the single list of keys and their rules: editors use it, and `load` walks it with the
few keywords of JSON Schema that it is written in. What a schema cannot say (overlaps, the end of
the flash, a table that MicroPython could not start from) is checked after it. An error names the
file, the key and the rule.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from imprint_tools import partitions, paths
from imprint_tools.errors import BoardFileError
from imprint_tools.partitions import APP, DATA, SECTOR, SUBTYPES, Partition

# Where the boot ROM looks for the second-stage bootloader (esptool: BOOTLOADER_FLASH_OFFSET).
_BOOTLOADER_OFFSETS = {"esp32": 0x1000, "esp32s3": 0x0, "esp32c3": 0x0}
_NVS_LEAST = 3 * SECTOR  # ESP-IDF's own least
_VFS_LEAST = 16 * SECTOR  # the firmware's files, twice, while they are replaced
_KINDS = {"app": APP, "data": DATA}
_TYPES: Mapping[str, tuple[type, str]] = {
    "object": (dict, "a table"),
    "string": (str, "a string"),
    "integer": (int, "a whole number"),
}


@dataclass(frozen=True)
class FirmwareSource:
    """MicroPython's merged .bin on the web, and the digest (hex) that makes it that file."""

    version: str
    url: str
    sha256: str


@dataclass(frozen=True)
class ModemPort:
    """The modem on the board: its AT dialect, and the UART that leads to it."""

    family: str
    uart: int
    baud: int


@dataclass(frozen=True)
class Board:
    """A kind of board. Offsets and sizes in bytes; `name` is the file's name without `.toml`."""

    name: str
    title: str
    chip: str
    flash_size: int
    flash_mode: str
    flash_frequency: str
    partitions: tuple[Partition, ...]
    console_baud: int = 115200
    flash_baud: int = 460800
    firmware: FirmwareSource | None = None
    modem: ModemPort | None = None
    pins: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def bootloader_offset(self) -> int:
        """Where the bootloader, and with it a merged .bin, begins."""
        return _BOOTLOADER_OFFSETS[self.chip]

    @property
    def app(self) -> Partition:
        """The partition that MicroPython itself is started from."""
        return _one(self.partitions, APP, "factory", "ota_0")

    @property
    def nvs(self) -> Partition:
        """The partition of identity and credentials."""
        return _one(self.partitions, DATA, "nvs")

    @property
    def vfs(self) -> Partition:
        """The file system's partition, named in the table or found as MicroPython finds it."""
        found = partitions.vfs(self.partitions, self.flash_size)
        if found is None:
            raise BoardFileError("no room is left for the file system")
        return found


def names() -> list[str]:
    """The boards that come with imprint."""
    return sorted(path.stem for path in paths.boards_dir().glob("*.toml"))


def load(name_or_path: str | Path) -> Board:
    """The board of that name, or of that TOML file. Raises BoardFileError."""
    path = Path(name_or_path)
    if path.suffix != ".toml" and path.name == str(name_or_path):
        path = paths.boards_dir() / f"{path.name}.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BoardFileError(
            f"no board {str(name_or_path)!r}",
            next_step=f"Name one of {', '.join(names())}, or the path of a board's TOML file.",
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BoardFileError(f"{path}: {error}") from None
    for where, rule in _violations(document, _schema(), ""):
        raise BoardFileError(
            f"{path}: {where}: {rule}" if where else f"{path}: {rule}",
            next_step="boards/schema.json lists the keys and what they may hold.",
        )
    board = _board_of(path, document)
    if board.modem and not {"modem_tx", "modem_rx"} <= board.pins.keys():
        raise BoardFileError(
            f"{path}: pins: modem_tx and modem_rx are missing",
            next_step="Name the GPIOs of the modem's UART, or leave out the table modem.",
        )
    return board


def _board_of(path: Path, document: Mapping[str, Any]) -> Board:
    try:
        board = _board(path.stem, document)
        _check_layout(board)
    except BoardFileError as error:
        raise BoardFileError(f"{path}: partitions: {error}", next_step=error.next_step) from None
    return board


def _board(name: str, document: Mapping[str, Any]) -> Board:
    flash, serial = document["flash"], document.get("serial", {})
    return Board(
        name=name,
        title=document["title"],
        chip=document["chip"],
        flash_size=int(flash["size"].removesuffix("MB")) << 20,
        flash_mode=flash["mode"],
        flash_frequency=flash["frequency"],
        partitions=tuple(_partition(*item) for item in document["partitions"].items()),
        firmware=FirmwareSource(**document["firmware"]) if "firmware" in document else None,
        modem=ModemPort(**document["modem"]) if "modem" in document else None,
        pins=MappingProxyType(document.get("pins", {})),
        **serial,
    )


def _partition(label: str, entry: Mapping[str, Any]) -> Partition:
    kind = _KINDS[entry["type"]]
    if entry["subtype"] not in SUBTYPES[kind]:
        raise BoardFileError(
            f"{label}: subtype {entry['subtype']!r} is not one of type {entry['type']!r}: "
            + ", ".join(SUBTYPES[kind])
        )
    return Partition(label, kind, SUBTYPES[kind][entry["subtype"]], entry["offset"], entry["size"])


def _check_layout(board: Board) -> None:
    partitions.check(board.partitions, board.flash_size)
    for part, least in ((board.app, SECTOR), (board.nvs, _NVS_LEAST), (board.vfs, _VFS_LEAST)):
        if part.size < least:
            raise BoardFileError(
                f"{part.label}: size {part.size:#x} is less than {least:#x}, the least that works"
            )


def _one(table: tuple[Partition, ...], kind: int, *subtypes: str) -> Partition:
    wanted = [SUBTYPES[kind][subtype] for subtype in subtypes]
    found = next((p for p in table if p.kind == kind and p.subtype in wanted), None)
    if found is None:
        raise BoardFileError(f"the table has no partition of subtype {' or '.join(subtypes)}")
    return found


# --- The schema --------------------------------------------------------------------------------


@cache
def _schema() -> Mapping[str, Any]:
    text = (paths.boards_dir() / "schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _violations(value: Any, rule: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Each key at which `value` breaks the schema, and the rule in words."""
    kind, kind_name = _TYPES[rule["type"]]
    if not isinstance(value, kind) or isinstance(value, bool):
        yield where, f"must be {kind_name}"
    elif isinstance(value, dict):
        yield from _table_violations(value, rule, where)
    elif "enum" in rule and value not in rule["enum"]:
        yield where, f"{value!r} must be one of {', '.join(map(str, rule['enum']))}"
    elif "pattern" in rule and not re.search(rule["pattern"], str(value)):
        yield where, f"{value!r} must match {rule['pattern']}"
    elif "minimum" in rule and not rule["minimum"] <= value <= rule["maximum"]:
        yield where, f"{value} must be {rule['minimum']} to {rule['maximum']}"


def _table_violations(
    table: Mapping[str, Any], rule: Mapping[str, Any], where: str
) -> Iterator[tuple[str, str]]:
    known = rule.get("properties", {})
    prefix = f"{where}." if where else ""
    for key, value in table.items():
        if inner := known.get(key) or rule["additionalProperties"]:
            yield from _violations(value, inner, prefix + key)
        else:
            near = difflib.get_close_matches(key, known, 1)
            yield prefix + key, "is not a known key" + (f"; {near[0]}?" if near else "")
    for key in rule.get("required", ()):
        if key not in table:
            yield prefix + key, "is missing"
