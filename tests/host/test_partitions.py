"""Partition tables: as the bootloader reads them, and what makes one impossible."""

from __future__ import annotations

import hashlib

import pytest
from imprint_tools import partitions
from imprint_tools.errors import BoardFileError
from imprint_tools.partitions import APP, DATA, Partition

MIB = 1 << 20
NVS = Partition("nvs", DATA, 0x02, 0x9000, 0x6000)
PHY = Partition("phy_init", DATA, 0x01, 0xF000, 0x1000)
FACTORY = Partition("factory", APP, 0x00, 0x10000, 0x1F0000)
VFS = Partition("vfs", DATA, 0x81, 0x200000, 0x200000)
FFAT = Partition("ffat", DATA, 0x81, 0x200000, 0x100000)
TABLE = [NVS, PHY, FACTORY]


def test_a_table_has_the_bytes_of_the_documentation():
    """Magic, type, subtype, offset, size, label, flags; then the MD5 entry; then blank."""
    table = partitions.build([NVS, FACTORY])
    nvs = bytes.fromhex("aa50 01 02 00900000 00600000") + b"nvs".ljust(16, b"\0") + bytes(4)
    app = bytes.fromhex("aa50 00 00 00000100 00001f00") + b"factory".ljust(16, b"\0") + bytes(4)
    digest = hashlib.md5(nvs + app).digest()  # noqa: S324  the format's own
    body = nvs + app + bytes.fromhex("ebeb") + b"\xff" * 14 + digest
    assert table == body.ljust(0x1000, b"\xff")


def test_a_table_reads_back():
    """What was built is parsed, also in a larger buffer and without the MD5 entry."""
    table = partitions.build(TABLE)
    assert partitions.parse(table + b"\0" * 4096) == TABLE
    without = table[: 32 * len(TABLE)].ljust(0x1000, b"\xff")
    assert partitions.parse(without) == TABLE


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"", "has no end"),
        (partitions.build(TABLE)[:96], "has no end"),
        (b"\0" * 4096, "no partition table entry at byte 0"),
        (partitions.build(TABLE).replace(b"nvs", b"nvx"), "MD5 does not match"),
        (partitions.build(TABLE)[:32] + b"garbage".ljust(4064), "entry at byte 32"),
    ],
)
def test_what_is_no_table_is_refused(table, reason):
    """Truncated, foreign or changed: BoardFileError says how."""
    with pytest.raises(BoardFileError, match=reason):
        partitions.parse(table)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ([NVS, Partition("b", DATA, 2, 0xE000, 0x1000)], "b at 0xe000 overlaps nvs, .* 0xf000"),
        ([Partition("a", DATA, 2, 0x8000, 0x1000)], "overlaps the partition table"),
        ([Partition("a", DATA, 2, 0x9001, 0x1000)], "must be a multiple of 0x1000"),
        ([Partition("a", APP, 0, 0x11000, 0x1000)], "must be a multiple of 0x10000"),
        ([Partition("a", DATA, 2, 0x9000, 0)], "a positive multiple"),
        ([Partition("a", DATA, 2, 0x9000, 0x800)], "a positive multiple"),
        ([Partition("a", DATA, 2, 0x3FF000, 0x2000)], "ends at 0x401000, beyond the flash"),
        ([Partition("", DATA, 2, 0x9000, 0x1000)], "not 1 to 15 ASCII"),
        ([Partition("x" * 16, DATA, 2, 0x9000, 0x1000)], "not 1 to 15 ASCII"),
        ([Partition("é", DATA, 2, 0x9000, 0x1000)], "not 1 to 15 ASCII"),
        ([NVS, Partition("nvs", DATA, 2, 0xF000, 0x1000)], "two partitions have the label 'nvs'"),
        (
            [Partition(f"p{n}", DATA, 2, 0x9000 + n * 0x1000, 0x1000) for n in range(96)],
            "96 partitions; a table holds 95",
        ),
    ],
)
def test_an_impossible_table_is_refused(table, reason):
    """Overlap, alignment, size, label, number: each has its sentence."""
    with pytest.raises(BoardFileError, match=reason):
        partitions.check(table, 4 * MIB)


def test_the_official_layout_is_possible():
    """In any order, and with a file system that ends where the flash ends."""
    partitions.check([VFS, FACTORY, NVS, PHY], 4 * MIB)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (TABLE, VFS),
        ([*TABLE, Partition("vfs", DATA, 0x82, 0x300000, 0x1000)], (0x300000, 0x1000)),
        ([*TABLE, FFAT], FFAT),
        ([*TABLE, FFAT, Partition("vfs", DATA, 0x81, 0x300000, 0x1000)], (0x300000, 0x1000)),
        ([*TABLE, Partition("other", DATA, 0x81, 0x200000, 0x1000)], (0x201000, 0x1FF000)),
        ([Partition("factory", APP, 0, 0x10000, 0x3F0000)], None),
        ([], None),
    ],
)
def test_the_file_system_is_where_micropython_finds_it(table, expected):
    """`vfs`, else `ffat`, else all that lies behind the last partition, if anything does."""
    found = partitions.vfs(table, 4 * MIB)
    if isinstance(expected, tuple):
        assert found is not None and (found.offset, found.size) == expected
    else:
        assert found == expected


def test_find_is_by_label():
    """The partition of that label, or None."""
    assert partitions.find(TABLE, "nvs") == NVS
    assert partitions.find(TABLE, "vfs") is None
