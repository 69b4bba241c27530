"""Any bytes as a partition table: partitions, or BoardFileError; never anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imprint_tools import partitions
from imprint_tools.errors import BoardFileError
from imprint_tools.partitions import APP, DATA, SECTOR, Partition

FLASH = 16 << 20
labels = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=15)


@st.composite
def tables(draw):
    """Partitions one behind the other with gaps, all on the borders that they need."""
    found, end = [], 0x9000
    for label in draw(st.lists(labels, unique=True, max_size=12)):
        kind = draw(st.sampled_from([APP, DATA]))
        align = 0x10000 if kind == APP else SECTOR
        offset = -(-(end + draw(st.integers(0, 3)) * SECTOR) // align) * align
        size = draw(st.integers(1, 64)) * SECTOR
        found.append(Partition(label, kind, draw(st.integers(0, 0xFE)), offset, size))
        end = offset + size
    return found


@given(tables())
def test_a_possible_table_survives_the_round_trip(table):
    """It passes the check, and parses back to itself."""
    partitions.check(table, FLASH)
    assert partitions.parse(partitions.build(table)) == table


@given(tables(), st.data())
def test_a_changed_bit_is_noticed(table, data):
    """The MD5 entry covers all that is before it: a change is an error, not another table."""
    image = bytearray(partitions.build(table))
    at = data.draw(st.integers(0, 32 * len(table) + 31))
    image[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BoardFileError):
        partitions.parse(bytes(image))


@given(tables().filter(len), st.data())
def test_an_overlap_is_refused(table, data):
    """Any partition stretched over the next one, or over the end of the flash."""
    place = data.draw(st.integers(0, len(table) - 1))
    limit = table[place + 1].offset if place + 1 < len(table) else FLASH
    part = table[place]
    table[place] = Partition(
        part.label, part.kind, part.subtype, part.offset, limit - part.offset + SECTOR
    )
    with pytest.raises(BoardFileError, match=r"overlaps|beyond the flash"):
        partitions.check(table, FLASH)


entry = st.builds(
    lambda magic, rest: magic + rest,
    st.sampled_from([b"\xaa\x50", b"\xeb\xeb", b"\xff\xff"]),
    st.one_of(st.binary(min_size=30, max_size=30), st.just(b"\xff" * 30)),
)


@given(st.one_of(st.binary(max_size=300), st.lists(entry, max_size=5).map(b"".join)))
def test_any_bytes_parse_or_are_refused(data):
    """Garbage, also garbage that looks like entries."""
    try:
        found = partitions.parse(data)
    except BoardFileError:
        return
    assert len(found) <= len(data) // 32
    try:
        partitions.check(found, FLASH)
    except BoardFileError:
        pass
    partitions.vfs(found, FLASH)
