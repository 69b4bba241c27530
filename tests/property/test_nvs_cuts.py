"""NVS under power cuts: at every flash operation, whole and torn, the old value or the new one.

The region records each operation of one change; a cut is then the image before it, the first so
many operations, and a part of the next one. Every such image is mounted and read back, and the
repaired image is given to a judge that shares no code with the reader.
"""

from __future__ import annotations

from collections.abc import Iterator

import nvs_judge
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imprint_tools.nvs import BytesRegion, NvsFull, NvsNotFound, NvsPartition, NvsValueTooLong

SECTOR = 4096
Value = int | str | bytes | None
State = dict[tuple[str, str], Value]


class Recorder(BytesRegion):
    """NOR flash that keeps its operations, and refuses what a flash chip could not do."""

    def __init__(self, data: bytes | int) -> None:
        super().__init__(data)
        self.log: list[tuple[int, bytes | None]] = []

    def write(self, offset: int, data: bytes) -> None:
        assert len(data) in (4, 32) and offset % len(data) == 0, "not one slot or one word"
        old = self.read(offset, len(data))
        assert not any(new & ~was & 0xFF for new, was in zip(data, old, strict=True)), "sets a bit"
        self.log.append((offset, data))
        super().write(offset, data)

    def erase(self, offset: int, length: int) -> None:
        assert offset % SECTOR == 0 and length == SECTOR
        self.log.append((offset, None))
        super().erase(offset, length)


def torn(image: bytes, operation: tuple[int, bytes | None]) -> Iterator[bytes]:
    """The image with a part of an operation done: its first half, a byte, all but a byte, and
    for an erase its second half as well, since no sheet says where an erase begins."""
    offset, data = operation
    length = SECTOR if data is None else len(data)
    parts = {(0, length // 2), (0, 1), (0, length - 1)}
    if data is None:
        parts.add((length // 2, length))
    for begin, end in sorted(parts):
        region = BytesRegion(image)
        if data is None:
            region.erase(offset + begin, end - begin)
        else:
            region.write(offset + begin, data[begin:end])
        yield region.image()


def cuts(
    before: bytes, log: list[tuple[int, bytes | None]], wanted: int | None = None
) -> Iterator[bytes]:
    """The images that a cut in `log` can leave, at about `wanted` of its operations, spread."""
    region = BytesRegion(before)
    step = max(1, len(log) // wanted) if wanted else 1
    for number, (offset, data) in enumerate(log):
        # The phase differs from one log to the next, so that over many all places are met.
        if number % step == len(log) % step:
            yield region.image()
            yield from torn(region.image(), (offset, data))
        if data is None:
            region.erase(offset, SECTOR)
        else:
            region.write(offset, data)


def apply(nvs: NvsPartition, namespace: str, key: str, value: Value) -> bool:
    """Make one change (None erases). False if it was refused for want of room."""
    try:
        if value is None:
            nvs.erase_key(namespace, key)
        elif isinstance(value, int):
            nvs.set_i32(namespace, key, value)
        elif isinstance(value, str):
            nvs.set_str(namespace, key, value)
        else:
            nvs.set_blob(namespace, key, value)
    except NvsNotFound:
        assert value is None
    except (NvsFull, NvsValueTooLong):
        return False
    return True


def after(state: State, namespace: str, key: str, value: Value) -> State:
    rest = {name: old for name, old in state.items() if name != (namespace, key)}
    return rest if value is None else {**rest, (namespace, key): value}


def held(image: bytes) -> State:
    """What a mount finds, having checked that it left a sound partition, and one that works."""
    region = Recorder(image)
    nvs = NvsPartition(region)
    found: State = {(entry.namespace, entry.key): entry.value for entry in nvs.entries()}
    assert nvs_judge.read(region.image()) == found
    again = Recorder(region.image())
    NvsPartition(again)
    assert again.log == [], "a second mount found something to repair"
    return found


def check_cuts(before: bytes, change: tuple[str, str, Value], wanted: int | None) -> bytes:
    """Cut `change` at about `wanted` operations (None: at every one) and check what a mount
    finds. Returns the image with the change done."""
    old = held(before)
    region = Recorder(before)
    done = apply(NvsPartition(region), *change)
    new = after(old, *change) if done else old
    assert held(region.image()) == new
    assert done or not region.log, "a refused change wrote to flash"
    for number, cut in enumerate(cuts(before, region.log, wanted)):
        assert held(cut) in (old, new)
        if number % 5 == 0:
            # The power may fail again while the mount repairs.
            repair = Recorder(cut)
            NvsPartition(repair)
            for second in cuts(cut, repair.log, 2):
                assert held(second) in (old, new)
    return region.image()


def disguised() -> bytes:
    """A blob whose every slot reads as a sound item, as when an NVS image is stored in NVS."""
    region = BytesRegion(2 * SECTOR)
    nvs = NvsPartition(region)
    for number in range(12):
        nvs.set_i32("imprint", f"forged{number}", number)
    return region.read(64, 13 * 32) * 3


blobs = st.builds(
    lambda size, seed: bytes((seed + n * n) & 0xFF for n in range(size)),
    st.sampled_from([0, 1, 31, 32, 33, 64, 500, 1500, 3900, 4000, 4001, 5000]),
    st.integers(0, 255),
)
# Bytes that read as blank flash are the hard case for "was this slot begun?".
blank_looking = st.integers(1, 300).map(lambda size: b"\xff" * size)
values = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.text(max_size=40).filter(lambda text: "\0" not in text),
    blobs,
    blank_looking,
    st.just(disguised()),
    st.none(),
)
changes = st.tuples(st.sampled_from(["imprint", "b"]), st.sampled_from(["x", "y", "z"]), values)


@settings(max_examples=40)
@given(st.lists(changes, max_size=25), changes, st.sampled_from([2, 3, 4]))
def test_a_cut_leaves_the_old_value_or_the_new(history, change, pages):
    """After any history, a cut anywhere in the next change leaves a sound partition that holds
    the old value or the new one, and every other value untouched."""
    region = Recorder(pages * SECTOR)
    nvs, state = NvsPartition(region), {}
    for earlier in history:
        if apply(nvs, *earlier):
            state = after(state, *earlier)
    assert held(region.image()) == state
    check_cuts(region.image(), change, 10)


SWEEP: list[tuple[str, str, Value]] = [
    ("imprint", "root_ca", bytes(range(256)) * 4),
    ("imprint", "identity", b'{"journey":"aliyun"}' * 20),
    ("imprint", "cred_a", b"a" * 700),
    ("imprint", "cred_a", b"A" * 701),
    ("imprint", "n", 1),
    ("imprint", "cred_b", disguised()),
    ("imprint", "n", "now a string " * 20),
    ("imprint", "cred_b", b"\xff" * 900),
    ("imprint", "cred_a", b"b" * 2600),
    ("imprint", "cred_b", None),
    ("imprint", "identity", b"spans pages" * 300),
    ("imprint", "cred_a", b"collects garbage" * 70),
    ("imprint", "identity", b"and again" * 250),
    ("imprint", "n", None),
]


@pytest.mark.parametrize("wanted", [10, pytest.param(None, marks=pytest.mark.slow)])
def test_a_life_of_a_board_cut_everywhere(wanted):
    """Identity, certificates and credentials written and rewritten through garbage collection:
    a cut at every operation is survived."""
    image = b"\xff" * (3 * SECTOR)
    for change in SWEEP:
        image = check_cuts(image, change, wanted)


@settings(max_examples=60)
@given(st.lists(changes, min_size=1, max_size=60), st.sampled_from([2, 3, 6]))
def test_it_holds_what_a_dictionary_holds(history, pages):
    """Set and erase in any order: NVS and a dictionary agree, also after a new mount, except
    that a value may be refused, and then nothing changes."""
    region = Recorder(pages * SECTOR)
    nvs, state = NvsPartition(region), {}
    for change in history:
        size = len(region.log)
        if apply(nvs, *change):
            state = after(state, *change)
        else:
            assert len(region.log) == size
        assert {(e.namespace, e.key): e.value for e in nvs.entries()} == state
    assert held(region.image()) == state


@settings(max_examples=200)
@given(st.lists(changes, max_size=6), st.data())
def test_damaged_bits_are_never_a_crash(history, data):
    """Any bits lost at rest: the mount succeeds or names its reason, and a blob that is still
    given out is one that was once stored."""
    region = Recorder(2 * SECTOR)
    nvs = NvsPartition(region)
    stored = set()
    for change in history:
        if apply(nvs, *change):
            stored.add(change[2])
    image = bytearray(region.image())
    for _ in range(data.draw(st.integers(1, 8))):
        image[data.draw(st.integers(0, len(image) - 1))] &= data.draw(st.integers(0, 255))
    for entry in NvsPartition(BytesRegion(image)).entries():
        if isinstance(entry.value, bytes):
            assert entry.value in stored
