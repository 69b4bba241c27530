"""The serial loader of a virtual chip, frame by frame, and what it lets boot."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import pairwise
from operator import xor as exclusive_or
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imprint_tools.partitions import APP, TABLE_OFFSET, Partition, build
from imprint_tools.virtual import boot, slip
from imprint_tools.virtual.chips import CHIPS, jedec_id
from imprint_tools.virtual.flash import SECTOR, Flash, PowerCut
from imprint_tools.virtual.rom import Action, Leave, RomLoader, SetBaud, Way, xor

SIZE = 64 * SECTOR
MAC = bytes.fromhex("240ac4010203")
SYNC = bytes.fromhex("c0 00 08 24 00 00 00 00 00 07 07 12 20" + "55" * 32 + "c0")


@pytest.fixture
def flash(tmp_path: Path) -> Iterator[Flash]:
    with Flash(tmp_path / "flash.bin", SIZE) as chip:
        yield chip


def loader(flash: Flash, chip: str = "esp32", *, stub: bool = False) -> RomLoader:
    rom = RomLoader(CHIPS[chip], MAC, flash)
    if stub:
        started = rom.feed(request(0x06, struct.pack("<II", 0, 0x4009_0000)))
        assert started[-1] == b"\xc0OHAI\xc0"
    return rom


def request(op: int, payload: bytes = b"", checksum: int = 0) -> bytes:
    return slip.encode(struct.pack("<BBHI", 0, op, len(payload), checksum) + payload)


def block(op: int, data: bytes, number: int) -> bytes:
    payload = struct.pack("<IIII", len(data), number, 0, 0) + data
    return request(op, payload, reduce(exclusive_or, data, 0xEF))


def answer(actions: list[Action]) -> tuple[int, bytes]:
    """Value and data of the one answer; its frame, direction and length are checked."""
    assert isinstance(actions[0], bytes)
    (frame,) = slip.Decoder(1 << 20).feed(actions[0])
    direction, _op, size, value = struct.unpack_from("<BBHI", frame)
    assert (direction, size) == (1, len(frame) - 8)
    return value, frame[8:]


OK_ROM, OK_STUB = bytes(4), bytes(2)


def test_sync_is_answered_eight_times(flash: Flash) -> None:
    """The frame of Espressif's document gets eight answers whose value is not the stub's 0."""
    expected = bytes.fromhex("c0 01 08 04 00 07 07 12 20 00 00 00 00 c0")
    assert loader(flash).feed(SYNC) == [expected] * 8


def test_the_stub_answers_sync_with_zero(flash: Flash) -> None:
    """esptool tells the stub from the ROM by the value 0 and the two status bytes."""
    expected = bytes.fromhex("c0 01 08 02 00 00 00 00 00 00 00 c0")
    assert loader(flash, stub=True).feed(SYNC) == [expected] * 8


def test_sync_measures_the_line(flash: Flash) -> None:
    """The ROM finds the host's baud rate, and its UART divider follows (40 MHz / baud)."""
    rom = RomLoader(CHIPS["esp32"], MAC, flash, lambda: 57_600)
    assert SetBaud(57_600) in rom.feed(SYNC)
    value, _ = answer(rom.feed(request(0x0A, struct.pack("<I", 0x3FF4_0014))))
    assert value == 40_000_000 // 57_600


@pytest.mark.parametrize("chip", CHIPS)
def test_the_mac_address_is_in_the_efuses(flash: Flash, chip: str) -> None:
    """The six bytes lie in two words, most significant first."""
    rom, silicon = loader(flash, chip), CHIPS[chip]
    low, _ = answer(rom.feed(request(0x0A, struct.pack("<I", silicon.mac_low))))
    high, _ = answer(rom.feed(request(0x0A, struct.pack("<I", silicon.mac_high))))
    assert high.to_bytes(2, "big") + low.to_bytes(4, "big") == MAC


def test_the_first_esp32_knows_no_security_info(flash: Flash) -> None:
    """GET_SECURITY_INFO is refused by the ESP32's ROM and tells the chip id elsewhere."""
    assert answer(loader(flash).feed(request(0x14))) == (0, b"\x01\x05\0\0")
    _, data = answer(loader(flash, "esp32s3").feed(request(0x14)))
    assert struct.unpack("<IB7sII", data[:20])[3] == 9


def test_the_flash_chip_tells_its_size(flash: Flash) -> None:
    """RDID through the SPI registers: maker, type, capacity as a power of two."""
    rom, spi = loader(flash), CHIPS["esp32"].spi
    for register, value in ((spi.user2, 7 << 28 | 0x9F), (spi.command, 1 << 18)):
        rom.feed(request(0x09, struct.pack("<IIII", register, value, 0xFFFF_FFFF, 0)))
    value, _ = answer(rom.feed(request(0x0A, struct.pack("<I", spi.data))))
    assert value.to_bytes(4, "little")[:3] == jedec_id(SIZE) == bytes((0xC8, 0x40, 18))


@pytest.mark.parametrize("stub", [False, True])
def test_blocks_are_written_after_an_erase(flash: Flash, stub: bool) -> None:
    """FLASH_BEGIN and FLASH_DATA replace what was there; padding past the size is dropped."""
    flash.write(0, bytes(2 * SECTOR))
    rom, ok = loader(flash, stub=stub), OK_STUB if stub else OK_ROM
    rom.feed(request(0x02, struct.pack("<IIII", 1500, 2, 1024, SECTOR)))
    assert answer(rom.feed(block(0x03, b"a" * 1024, 0))) == (0, ok)
    assert answer(rom.feed(block(0x03, b"b" * 1024, 1))) == (0, ok)
    written = flash.read(SECTOR, SECTOR)
    assert written == b"a" * 1024 + b"b" * 476 + b"\xff" * (SECTOR - 1500)
    assert flash.read(0, SECTOR) == bytes(SECTOR)


def test_the_stub_erases_as_it_goes(flash: Flash) -> None:
    """The ROM erases at the begin, the stub just before it writes."""
    flash.write(SECTOR, b"\0")
    begin = request(0x02, struct.pack("<IIII", SECTOR, 4, 1024, SECTOR))
    loader(flash, stub=True).feed(begin)
    assert flash.read(SECTOR, 1) == b"\0"
    loader(flash).feed(begin)
    assert flash.read(SECTOR, 1) == b"\xff"


def test_a_repeated_block_is_written_once(flash: Flash) -> None:
    """esptool repeats a block whose answer it missed; the inflater must not see it twice."""
    plain = bytes(range(256)) * 8
    packed = zlib.compress(plain)
    half = len(packed) // 2
    rom = loader(flash, stub=True)
    rom.feed(request(0x10, struct.pack("<IIII", len(plain), 2, 0x4000, 0)))
    for number, part in ((0, packed[:half]), (0, packed[:half]), (1, packed[half:])):
        assert answer(rom.feed(block(0x11, part, number))) == (0, OK_STUB)
    assert flash.read(0, len(plain)) == plain


def test_a_block_out_of_turn_is_refused(flash: Flash) -> None:
    """A missing block is an error at once, not a hole in the flash."""
    rom = loader(flash)
    rom.feed(request(0x02, struct.pack("<IIII", 2048, 2, 1024, 0)))
    assert answer(rom.feed(block(0x03, bytes(1024), 1))) == (0, b"\x01\x06\0\0")


def test_a_damaged_block_is_refused(flash: Flash) -> None:
    """The checksum is an exclusive-or from 0xEF; the ROM says 07, the stub C1."""
    for rom, status in ((loader(flash), b"\x01\x07\0\0"), (loader(flash, stub=True), b"\x01\xc1")):
        rom.feed(request(0x02, struct.pack("<IIII", 1024, 1, 1024, 0)))
        damaged = request(0x03, struct.pack("<IIII", 4, 0, 0, 0) + b"abcd", checksum=0)
        assert answer(rom.feed(damaged)) == (0, status)
    assert flash.read(0, 1024) == b"\xff" * 1024


def test_data_that_inflates_to_too_much_is_refused(flash: Flash) -> None:
    """A small block that would grow to a megabyte ends at what was announced."""
    rom = loader(flash, stub=True)
    rom.feed(request(0x10, struct.pack("<IIII", 4096, 1, 0x4000, 0)))
    assert answer(rom.feed(block(0x11, zlib.compress(bytes(1 << 20)), 0))) == (0, b"\x01\xc7")


def test_md5_is_text_from_the_rom_and_binary_from_the_stub(flash: Flash) -> None:
    """SPI_FLASH_MD5 covers exactly the region."""
    flash.write(100, b"firmware")
    ask = request(0x13, struct.pack("<IIII", 100, 8, 0, 0))
    digest = hashlib.md5(b"firmware", usedforsecurity=False).digest()
    assert answer(loader(flash).feed(ask)) == (0, digest.hex().encode() + OK_ROM)
    assert answer(loader(flash, stub=True).feed(ask)) == (0, digest + OK_STUB)


def test_read_flash_waits_for_acknowledgements(flash: Flash) -> None:
    """No more blocks are under way than asked for; the digest comes when all are acknowledged."""
    content = bytes(range(250)) * 40
    flash.write(0, content)
    rom = loader(flash, stub=True)
    actions = rom.feed(request(0xD2, struct.pack("<IIII", 0, len(content), 4096, 2)))
    assert actions[1:] == [slip.encode(content[:4096]), slip.encode(content[4096:8192])]
    assert rom.feed(slip.encode(struct.pack("<I", 4096))) == [slip.encode(content[8192:])]
    assert rom.feed(slip.encode(struct.pack("<I", 8192))) == []
    digest = slip.encode(hashlib.md5(content, usedforsecurity=False).digest())
    assert rom.feed(slip.encode(struct.pack("<I", len(content)))) == [digest]


def test_an_abandoned_read_does_not_deafen(flash: Flash) -> None:
    """A host that went away in the middle of READ_FLASH can sync again."""
    rom = loader(flash, stub=True)
    rom.feed(request(0xD2, struct.pack("<IIII", 0, SIZE, 4096, 1)))
    assert len(rom.feed(SYNC)) == 8


def test_leaving_the_loader(flash: Flash) -> None:
    """The ROM runs the program on FLASH_END 1; a reboot comes back to the loader (IO0 latched)."""
    end = 0x04
    assert loader(flash).feed(request(end, struct.pack("<I", 1)))[-1] == Leave(Way.RUN)
    assert loader(flash).feed(request(end, struct.pack("<I", 0)))[-1] == Leave(Way.RELOAD)
    staying = loader(flash, stub=True).feed(request(end, struct.pack("<I", 1)))
    assert [type(action) for action in staying] == [bytes]


def test_the_watchdog_is_a_way_out(flash: Flash) -> None:
    """esptool's watchdog reset writes bit 31 of a register; the chip answers and then leaves."""
    register = CHIPS["esp32c3"].wdt_enable
    actions = loader(flash, "esp32c3").feed(
        request(0x09, struct.pack("<IIII", register, 1 << 31, 0xFFFF_FFFF, 0))
    )
    assert answer(actions) == (0, OK_ROM)
    leave = actions[-1]
    assert isinstance(leave, Leave)
    assert leave.way is Way.WATCHDOG
    assert leave.delay_s > 0


def test_addresses_outside_the_flash_are_refused(flash: Flash) -> None:
    """Writing, reading, hashing and erasing past the end are errors, not exceptions."""
    beyond = struct.pack("<IIII", SIZE, 16, SIZE, SECTOR)
    for op in (0x02, 0x0E, 0x10, 0x13, 0xD1, 0xD2):
        _, status = answer(loader(flash, stub=True).feed(request(op, beyond)))
        assert status[0] == 1


def test_a_power_cut_goes_through(flash: Flash) -> None:
    """The loader does not swallow the end of its supply."""
    flash.order_power_cut(1)
    with pytest.raises(PowerCut):
        loader(flash).feed(request(0x02, struct.pack("<IIII", SECTOR, 4, 1024, 0)))


@settings(max_examples=200)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_frames_do_not_depend_on_how_they_arrive(data: bytes, cuts: list[int]) -> None:
    """What was encoded comes out once, however the bytes are cut."""
    stream = b"noise" + slip.encode(data) + slip.encode(b"\xc0\xdb\xdb\xdc\xdd")
    decoder, frames = slip.Decoder(1000), []
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in pairwise(bounds):
        frames += decoder.feed(stream[start:end])
    expected = [b"noise", data, b"\xc0\xdb\xdb\xdc\xdd"]
    assert frames == [frame for frame in expected if frame]


def test_a_frame_without_end_is_not_kept() -> None:
    """A megabyte without END costs no memory, and the next frame is whole."""
    decoder = slip.Decoder(100)
    for _ in range(1000):
        assert decoder.feed(b"x" * 1000) == []
        assert len(decoder._partial) <= 200
    assert decoder.feed(b"\xc0" + slip.encode(b"next")) == [b"next"]


_SOME_FRAME = st.builds(
    lambda op, payload, checksum: request(op, payload, checksum),
    st.sampled_from([*range(0x02, 0x15), *range(0xD0, 0xD5)]),
    st.binary(max_size=64) | st.builds(struct.Struct("<IIII").pack, *[st.integers(0, 70_000)] * 4),
    st.integers(0, 255),
)


@pytest.fixture(scope="module")
def shared_flash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flash]:
    with Flash(tmp_path_factory.mktemp("rom") / "flash.bin", SIZE) as chip:
        yield chip


@settings(max_examples=300)
@given(
    chip=st.sampled_from(sorted(CHIPS)),
    stub=st.booleans(),
    pieces=st.lists(st.binary(max_size=60) | _SOME_FRAME, max_size=12),
)
def test_any_bytes_are_survived(
    shared_flash: Flash, chip: str, stub: bool, pieces: list[bytes]
) -> None:
    """Any bytes: actions or silence; never an exception, never more kept than a frame."""
    rom = loader(shared_flash, chip, stub=stub)
    for piece in pieces:
        sent = rom.feed(piece)
        assert sum(len(action) for action in sent if isinstance(action, bytes)) < 4 * SIZE
        assert len(rom._spi) <= 4
    rom.restart()
    assert len(rom.feed(SYNC)) == 8


@given(data=st.binary(max_size=70), start=st.integers(0, 255))
def test_the_checksum_is_the_plain_one(data: bytes, start: int) -> None:
    """Folding big integers gives what going byte by byte gives."""
    assert xor(data, start) == reduce(exclusive_or, data, start)


# -- booting --------------------------------------------------------------------------------


def app_image(chip_id: int = 0, payload: bytes = b"\x13" * 100) -> bytes:
    """A one-segment ESP app image, written out from Espressif's format page."""
    header = struct.pack("<BBBBI", 0xE9, 1, 2, 0x20, 0x4008_0000)
    header += bytes((0xEE, 0, 0, 0)) + struct.pack("<HBHH4xB", chip_id, 0, 0, 0xFFFF, 1)
    body = header + struct.pack("<II", 0x3F40_0020, len(payload)) + payload
    body = body.ljust(len(body) + 15 - len(body) % 16, b"\0")
    body += bytes((reduce(exclusive_or, payload, 0xEF),))
    return body + hashlib.sha256(body).digest()


APP_AT = 0x10000


def flashed(flash: Flash, image: bytes) -> Flash:
    flash.write(CHIPS["esp32"].bootloader_offset, app_image())
    flash.write(TABLE_OFFSET, build([Partition("factory", APP, 0, APP_AT, 0x10000)]))
    flash.write(APP_AT, image)
    return flash


def test_a_sound_image_boots(flash: Flash) -> None:
    """The table is read and the app's magic, chip, checksum and hash are right."""
    partitions = boot.load(flashed(flash, app_image()), CHIPS["esp32"])
    assert [part.label for part in partitions] == ["factory"]


def test_a_blank_chip_says_what_the_rom_says(flash: Flash) -> None:
    """Nothing was flashed: invalid header, all ones."""
    with pytest.raises(boot.BootError, match=r"^invalid header: 0xffffffff$"):
        boot.load(flash, CHIPS["esp32"])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda image: b"\0" + image[1:], "invalid header: 0x20020100"),
        (lambda image: app_image(chip_id=9), "mismatch chip ID, expected 0, found 9"),
        (lambda image: image[:40] + b"\0" + image[41:], "Checksum failed"),
        (lambda image: image[:8] + b"\0" + image[9:], "Image hash failed"),
        (lambda image: image[:1] + b"\x20" + image[2:], "has 32 segments"),
        (lambda image: image[:28] + b"\xff\xff\xff\x7f" + image[32:], "longer than its place"),
    ],
    ids=["magic", "chip", "payload", "header", "segments", "length"],
)
def test_a_damaged_image_does_not_boot(
    flash: Flash, damage: Callable[[bytes], bytes], complaint: str
) -> None:
    """Each check of the bootloader has its words."""
    with pytest.raises(boot.BootError, match=complaint):
        boot.load(flashed(flash, damage(app_image())), CHIPS["esp32"])


def test_a_bootloader_at_the_wrong_offset_does_not_boot(flash: Flash) -> None:
    """An ESP32's ROM looks at 0x1000, not at 0 as its successors do."""
    with pytest.raises(boot.BootError, match="invalid header: 0xffffffff"):
        flash.write(0, app_image())
        boot.load(flash, CHIPS["esp32"])


def test_a_damaged_table_does_not_boot(flash: Flash) -> None:
    """The bootloader says that the table is none."""
    flash.write(CHIPS["esp32"].bootloader_offset, app_image())
    with pytest.raises(boot.BootError, match="flash_parts: "):
        flash.write(TABLE_OFFSET, b"no partition table, but text")
        boot.load(flash, CHIPS["esp32"])


def test_a_table_without_an_app_does_not_boot(flash: Flash) -> None:
    """There must be something to start."""
    flash.write(CHIPS["esp32"].bootloader_offset, app_image())
    flash.write(TABLE_OFFSET, build([Partition("nvs", 1, 2, 0x9000, 0x6000)]))
    with pytest.raises(boot.BootError, match="No bootable app"):
        boot.load(flash, CHIPS["esp32"])


@given(image=st.binary(max_size=200))
def test_any_bytes_boot_or_are_refused(image: bytes) -> None:
    """An image is parsed without any other exception."""
    for data in (image, b"\xe9\x01" + image, app_image()[:30] + image):
        try:
            boot.check_image(data, CHIPS["esp32"])
        except boot.BootError:
            continue
