"""The virtual flash chip: NOR rules, counted operations, power cuts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imprint_tools.virtual.flash import SECTOR, Flash, PowerCut

SIZE = 4 * SECTOR


@pytest.fixture
def flash(tmp_path: Path) -> Iterator[Flash]:
    with Flash(tmp_path / "flash.bin", SIZE) as chip:
        yield chip


def test_a_new_chip_is_blank(flash: Flash) -> None:
    """Every byte of a new chip is 0xFF."""
    assert flash.read(0, SIZE) == b"\xff" * SIZE


def test_content_outlives_the_process(tmp_path: Path) -> None:
    """What was written is there when the file is opened again, and counting starts anew."""
    with Flash(tmp_path / "f", SIZE) as first:
        first.write(10, b"kept")
    with Flash(tmp_path / "f", SIZE) as second:
        assert (second.read(10, 4), second.ops) == (b"kept", 0)


def test_a_file_of_a_bigger_chip_is_refused(tmp_path: Path) -> None:
    """A chip is never cut down to a smaller one."""
    (tmp_path / "f").write_bytes(bytes(SIZE + 1))
    with pytest.raises(ValueError, match="more than a flash"):
        Flash(tmp_path / "f", SIZE)


def test_a_write_only_clears_bits(flash: Flash) -> None:
    """Programming a cell twice leaves the AND of both."""
    flash.write(0, b"\xf0\x0f\xff")
    flash.write(0, b"\x3c\x3c\x3c")
    assert flash.read(0, 3) == b"\x30\x0c\x3c"


def test_an_erase_blanks_whole_sectors_only(flash: Flash) -> None:
    """An erased sector is 0xFF, its neighbours stay, and half a sector is refused."""
    flash.write(0, bytes(SIZE))
    flash.erase(SECTOR, SECTOR)
    assert flash.read(0, SIZE) == bytes(SECTOR) + b"\xff" * SECTOR + bytes(2 * SECTOR)
    with pytest.raises(ValueError, match="whole sectors"):
        flash.erase(100, SECTOR)


def test_pages_and_sectors_are_counted(flash: Flash) -> None:
    """A write counts each 256-byte page it touches, an erase each sector."""
    flash.write(250, bytes(10))
    assert flash.ops == 2
    flash.erase(0, 3 * SECTOR)
    assert flash.ops == 5


@pytest.mark.parametrize(
    ("torn", "second_page"), [(False, bytes(256)), (True, bytes(128) + b"\xff" * 128)]
)
def test_a_power_cut_ends_at_the_ordered_operation(
    flash: Flash, torn: bool, second_page: bytes
) -> None:
    """The n-th operation is the last: whole, or half done when torn."""
    flash.order_power_cut(2, torn)
    with pytest.raises(PowerCut):
        flash.write(0, bytes(1024))
    with pytest.raises(PowerCut):
        flash.read(0, 1)
    flash.power_on()
    assert flash.read(0, 1024) == bytes(256) + second_page + b"\xff" * 512


def test_a_torn_erase_blanks_half_the_sector(flash: Flash) -> None:
    """A cut in the middle of an erase leaves the second half as it was."""
    flash.write(0, bytes(SECTOR))
    flash.order_power_cut(1, torn=True)
    with pytest.raises(PowerCut):
        flash.erase(0, SECTOR)
    flash.power_on()
    assert flash.read(0, SECTOR) == b"\xff" * (SECTOR // 2) + bytes(SECTOR // 2)


def test_power_comes_back_once(flash: Flash) -> None:
    """After a cut and a new power-on, the chip works until the next order."""
    flash.order_power_cut(1)
    with pytest.raises(PowerCut):
        flash.write(0, b"\0")
    flash.power_on()
    flash.write(1, b"\0")
    assert flash.read(0, 3) == b"\0\0\xff"


def test_a_region_is_a_window(flash: Flash) -> None:
    """A region counts from 0, shares cells with the chip, and ends at its size."""
    region = flash.region(SECTOR, SECTOR)
    region.write(1, b"abc")
    assert flash.read(SECTOR + 1, 3) == region.read(1, 3) == b"abc"
    region.erase(0, SECTOR)
    assert flash.read(SECTOR + 1, 3) == b"\xff\xff\xff"
    with pytest.raises(ValueError, match="outside the region"):
        region.read(SECTOR - 1, 2)


@settings(max_examples=50)
@given(
    writes=st.lists(st.tuples(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=700))),
    cut=st.integers(1, 20),
    torn=st.booleans(),
)
def test_a_cut_changes_nothing_but_the_end(
    tmp_path_factory: pytest.TempPathFactory,
    writes: list[tuple[int, bytes]],
    cut: int,
    torn: bool,
) -> None:
    """Whatever is written, a cell is old AND some of the new, and never more than the model."""
    whole = bytearray(b"\xff" * SIZE)
    folder = tmp_path_factory.mktemp("cut")
    with Flash(folder / "f", SIZE) as flash:
        flash.order_power_cut(cut, torn)
        try:
            for offset, data in writes:
                clipped = data[: SIZE - offset]
                for at, byte in enumerate(clipped, offset):
                    whole[at] &= byte
                flash.write(offset, clipped)
        except PowerCut:
            assert flash.ops == cut
        flash.power_on()
        have = flash.read(0, SIZE)
        assert all(cell & model == model for cell, model in zip(have, whole, strict=True))
        if flash.ops < cut:
            assert have == whole
