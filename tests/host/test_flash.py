"""Flashing: what is sent, what is checked before, and what a reflash never touches."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from esptool.targets import CHIP_DEFS
from hypothesis import given, settings
from hypothesis import strategies as st
from imprint_tools import flash, nvs, partitions
from imprint_tools.errors import (
    ChipMismatchError,
    FirmwareFileError,
    FlashError,
    PortError,
)
from imprint_tools.flash import Segment
from imprint_tools.identities import Identity
from imprint_tools.inject import CredentialHeldError
from imprint_tools.partitions import APP, DATA, Partition
from imprint_tools.secret import Secret
from imprint_tools.virtual.board import Board

MIB = 1 << 20
NVS = Partition("nvs", DATA, 0x02, 0x9000, 0x6000)
TABLE = [
    NVS,
    Partition("phy_init", DATA, 0x01, 0xF000, 0x1000),
    Partition("factory", APP, 0x00, 0x10000, 0x1F0000),
]
CANARY = "CANARYsecret0123456789"


def app_image(chip: str, size: int = 40_000, seed: int = 1) -> bytes:
    """An ESP image with one segment, a right checksum and a right digest."""
    body = random.Random(seed).randbytes(size // 2).ljust(size & ~3, b"\x5a")  # noqa: S311
    head = struct.pack("<BBBBI", 0xE9, 1, 2, 0x20, 0x40080000)
    head += struct.pack("<B3xHBHH4xB", 0xEE, CHIP_DEFS[chip].IMAGE_CHIP_ID, 0, 0, 0xFFFF, 1)
    image = head + struct.pack("<II", 0x3F400020, len(body)) + body
    checksum = 0xEF
    for byte in body:
        checksum ^= byte
    image += bytes(15 - len(image) % 16) + bytes([checksum])
    return image + hashlib.sha256(image).digest()


def merged(chip: str = "esp32", app: bytes | None = None) -> bytes:
    """A .bin as MicroPython publishes it: bootloader, table and app, blanks between."""
    base = CHIP_DEFS[chip].BOOTLOADER_FLASH_OFFSET
    image = app_image(chip, 20_000).ljust(0x8000 - base, b"\xff") + partitions.build(TABLE)
    return image.ljust(0x10000 - base, b"\xff") + (app or app_image(chip))


def identity(device: str = "unit-1", secret: str = CANARY, ca: bytes = b"ca") -> Identity:
    fields = {
        "journey": "aliyun",
        "product_key": "a1B2c3D4e5F",
        "device_name": device,
        "product_secret": Secret(secret),
        "root_ca_sha256": hashlib.sha256(ca).hexdigest(),
    }
    return Identity(fields, {"root_ca": ca})


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A virtual ESP32 with blank flash, its own pty beside `virtual://`."""
    with Board(tmp_path / "board", chip="esp32") as virtual:
        yield virtual


# --- What differs ------------------------------------------------------------------------------


class _Chip:
    """Flash that hashes itself, and counts how often it was asked."""

    def __init__(self, held: bytes) -> None:
        self.held = bytearray(held)
        self.asked = 0

    def md5(self, offset: int, size: int) -> str:
        self.asked += 1
        return hashlib.md5(self.held[offset : offset + size]).hexdigest()  # noqa: S324

    def apply(self, regions: list[tuple[int, bytes]]) -> None:
        for offset, data in regions:
            assert offset % 4096 == len(data) % 4096 == 0
            self.held[offset : offset + len(data)] = data


@settings(max_examples=60)
@given(
    held=st.lists(st.sampled_from([0, 1, 0xFF]), min_size=40, max_size=40),
    wanted=st.lists(st.sampled_from([0, 1, 0xFF]), min_size=1, max_size=38),
    tail=st.integers(0, 4095),
)
def test_what_is_written_makes_the_flash_the_segment(
    held: list[int], wanted: list[int], tail: int
) -> None:
    """Any flash, any segment: afterwards it is there, and no sector was sent in vain."""
    chip = _Chip(b"".join(bytes([byte]) * 4096 for byte in held))
    before = bytes(chip.held)
    data = b"".join(bytes([byte]) * 4096 for byte in wanted)
    segment = Segment("x", 4096, data[: len(data) - tail])
    regions = flash.changes(segment, chip.md5)
    chip.apply(regions)
    end = 4096 + len(segment.padded())
    assert chip.held[4096:end] == segment.padded()
    assert (chip.held[:4096], chip.held[end:]) == (before[:4096], before[end:])
    for offset, data in regions:
        for at in range(0, len(data), 4096):
            assert data[at : at + 4096] != before[offset + at : offset + at + 4096]


def test_hashes_are_few() -> None:
    """Unchanged: one hash. Onto blank flash: one for each 64 KiB, one for a long blank run."""
    data = os.urandom(128 << 10) + b"\xff" * MIB
    chip = _Chip(b"\xff" * 2 * MIB)
    chip.apply(flash.changes(Segment("x", 0, data), chip.md5))
    assert chip.asked == 4
    chip.asked = 0
    assert flash.changes(Segment("x", 0, data), chip.md5) == []
    assert chip.asked == 1


# --- MicroPython's .bin ------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["esp32", "esp32s3", "esp32c3"])
def test_a_merged_bin_is_cut_around_nvs(chip: str) -> None:
    """Everything that the .bin brings is a segment, but for the blanks over nvs."""
    firmware = flash.read_firmware(merged(chip), chip, 4 * MIB)
    assert [(s.label, s.offset) for s in firmware.segments] == [
        ("bootloader", CHIP_DEFS[chip].BOOTLOADER_FLASH_OFFSET),
        ("partition-table", 0x8000),
        ("phy_init", 0xF000),
        ("factory", 0x10000),
    ]
    assert firmware.nvs == NVS
    ends = [s.offset + len(s.padded()) for s in firmware.segments]
    assert all(end <= s.offset for end, s in zip(ends, firmware.segments[1:], strict=False))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "too short"),
        (b"PK" * 40_000, "bootloader is not an ESP32 image"),
        (merged("esp32s3"), "bootloader is not an ESP32 image|another chip"),
        (merged()[:-5_000], "factory is not .* cut short"),
        (merged()[:-100] + bytes(100), "factory is damaged|factory is not"),
        (merged()[:0x10000], "factory is not|holds no application"),
        (merged()[:0xF000], "holds no application"),
        (merged()[:0x7000] + bytes(0x1000) + merged()[0x8000:], "partition table"),
        (merged(app=app_image("esp32c3")), "factory is for another chip"),
    ],
)
def test_a_bin_that_is_not_right(image: bytes, words: str) -> None:
    """Foreign, truncated, damaged, for another chip: refused, with what to do instead."""
    with pytest.raises(FirmwareFileError, match=words) as caught:
        flash.read_firmware(image, "esp32", 4 * MIB)
    assert caught.value.next_step or "partition table" in str(caught.value)


@settings(max_examples=60)
@given(cut=st.integers(0, 90_000), noise=st.binary(max_size=64))
def test_any_bytes_are_firmware_or_a_firmware_error(cut: int, noise: bytes) -> None:
    """Whatever the file holds: cut segments or FirmwareFileError."""
    image = merged()
    try:
        flash.read_firmware(image[:cut] + noise + image[cut + len(noise) :], "esp32", 4 * MIB)
    except FirmwareFileError:
        pass


# --- NVS ---------------------------------------------------------------------------------------


def _held(**blobs: bytes) -> bytes:
    region = nvs.BytesRegion(NVS.size)
    part = nvs.NvsPartition(region)
    part.set_blob("phy", "cal_data", b"calibration")
    for key, value in blobs.items():
        part.set_blob("imprint", key, value)
    return region.image()


def _blobs(image: bytes) -> dict[str, bytes]:
    entries = nvs.NvsPartition(nvs.BytesRegion(image)).entries()
    return {e.key: e.value for e in entries if isinstance(e.value, bytes)}


def _canonical(unit: Identity) -> bytes:
    blob = unit.entries()["identity"]
    assert isinstance(blob, Secret)
    return blob.reveal()


def test_an_identity_on_blank_nvs() -> None:
    """Blank flash becomes a partition with the two entries."""
    found = _blobs(flash.with_identity(b"\xff" * NVS.size, identity()))
    assert found == {"identity": _canonical(identity()), "root_ca": b"ca"}


def test_the_same_device_keeps_its_credential() -> None:
    """A changed root or password is no reason to register again; other namespaces stay."""
    held = _held(identity=_canonical(identity()), root_ca=b"ca", cred_a=b"issued")
    changed = identity(ca=b"another root")
    assert _blobs(flash.with_identity(held, changed)) == {
        "identity": _canonical(changed),
        "root_ca": b"another root",
        "cred_a": b"issued",
        "cal_data": b"calibration",
    }


def test_the_same_identity_changes_no_byte() -> None:
    """So that a second flash writes nothing."""
    held = flash.with_identity(_held(cred_b=b"issued"), identity(), replace=True)
    assert flash.with_identity(held, identity()) == held


def test_a_journey_without_a_root() -> None:
    """A DTLS journey has none; one that an earlier identity left behind goes, and only once."""
    unit = replace(identity(), blobs={})
    held = flash.with_identity(_held(identity=_canonical(identity()), root_ca=b"ca"), unit)
    assert _blobs(held) == {"identity": _canonical(unit), "cal_data": b"calibration"}
    assert flash.with_identity(held, unit) == held


def test_another_device_is_refused_while_a_credential_is_held() -> None:
    """The issued secret is not lost by accident; without one the unit may be renamed."""
    held = _held(identity=_canonical(identity()), root_ca=b"ca", cred_a=b"issued")
    with pytest.raises(CredentialHeldError) as caught:
        flash.with_identity(held, identity("unit-2"))
    assert "--replace-identity" in caught.value.next_step
    assert CANARY not in str(caught.value)
    assert "cred_a" not in _blobs(flash.with_identity(held, identity("unit-2"), replace=True))
    plain = _held(identity=_canonical(identity()), root_ca=b"ca")
    assert _blobs(flash.with_identity(plain, identity("unit-2")))["identity"] == _canonical(
        identity("unit-2")
    )


def test_a_full_nvs_is_refused_or_made_anew() -> None:
    """No room: the error says how to make some, and --replace-identity makes it."""
    region = nvs.BytesRegion(NVS.size)
    part = nvs.NvsPartition(region)
    with pytest.raises(nvs.NvsFull):
        for number in range(99):
            part.set_blob("other", f"key{number}", bytes(1500))
    big = identity(ca=bytes(3000))
    with pytest.raises(FlashError, match="NvsFull") as caught:
        flash.with_identity(region.image(), big)
    assert "--replace-identity" in caught.value.next_step
    made = flash.with_identity(region.image(), big, replace=True)
    assert _blobs(made) == {"identity": _canonical(big), "root_ca": bytes(3000)}


def test_a_foreign_identity_blob_is_no_identity() -> None:
    """What is not JSON is nobody's identity, and its secrets are not shown either."""
    held = flash.describe(
        [
            nvs.Entry("imprint", "identity", "blob", b"\xff\xfe"),
            nvs.Entry("imprint", "cred_a", "blob", b"x"),
        ]
    )
    assert held.fields is None
    assert held.credentials == ("cred_a",)


# --- The session -------------------------------------------------------------------------------


def test_a_blank_board_is_flashed_and_reflashed(
    board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    """First everything is written, then nothing, then the sectors that changed; silently."""
    segments = list(flash.read_firmware(merged(), "esp32", 4 * MIB).segments)
    vfs = Segment("vfs", 0x200000, os.urandom(20_000).ljust(MIB, b"\xff"))

    def run(*more: Segment, unit: Identity | None = None) -> flash.FlashResult:
        return flash.flash(
            board.url, "esp32", [*segments, *more],
            flash_size=4 * MIB, nvs_partition=NVS, identity=unit,
        )  # fmt: skip

    first = run(vfs, unit=identity())
    assert first.mac == board.mac.hex()
    assert {s.label: s.written > 0 for s in first.segments} == {
        "bootloader": True, "partition-table": True, "phy_init": False, "factory": True,
        "vfs": True, "nvs": True,
    }  # fmt: skip
    image = (board.folder / "flash.bin").read_bytes()
    for segment in [*segments, vfs]:
        assert image[segment.offset : segment.offset + len(segment.data)] == segment.data
    assert _blobs(image[NVS.offset : NVS.end])["identity"] == _canonical(identity())

    assert run(vfs, unit=identity()).written == 0
    changed = Segment("vfs", vfs.offset, b"changed" + vfs.data[7:])
    result = run(changed)
    assert {s.label: s.written for s in result.segments if s.written} == {"vfs": 4096}
    assert result.wire_bytes < first.wire_bytes
    image = (board.folder / "flash.bin").read_bytes()
    assert _blobs(image[NVS.offset : NVS.end])["identity"] == _canonical(identity())
    printed = capsys.readouterr()
    assert printed.out == ""
    assert CANARY not in printed.err


def test_flashing_over_a_pseudo_terminal(board: Board) -> None:
    """A door without modem lines serves as well."""
    data = os.urandom(9000)
    result = flash.flash(board.port, "esp32", [Segment("x", 0x10000, data)], flash_size=4 * MIB)
    assert result.written == 12288


def test_progress_is_told(board: Board) -> None:
    """Whoever asks for progress gets it; the numbers end at the whole."""
    told: list[tuple[str, int, int]] = []
    flash.flash(
        board.url, "esp32", [Segment("x", 0x10000, os.urandom(50_000))],
        flash_size=4 * MIB, progress=lambda *step: told.append(step),
    )  # fmt: skip
    assert told[-1][1] == told[-1][2] > 0


def test_another_chip_is_refused_before_a_byte_is_written(board: Board) -> None:
    """The board's TOML and the silicon must agree."""
    with pytest.raises(ChipMismatchError, match="is an ESP32, and the board has an ESP32-S3"):
        flash.flash(board.url, "esp32s3", [Segment("x", 0, b"x")], flash_size=4 * MIB)
    assert set((board.folder / "flash.bin").read_bytes()) <= {0xFF}


def test_a_flash_too_small_is_refused(board: Board) -> None:
    """A layout of 16 MiB does not go on 4."""
    with pytest.raises(FlashError, match="holds 4MB, and the board's layout needs 16MB"):
        flash.flash(board.url, "esp32", [Segment("x", 0, b"x")], flash_size=16 * MIB)


def test_an_absent_port() -> None:
    """There is no such port: said before esptool is asked."""
    with pytest.raises(PortError):
        flash.flash("/dev/nothing", "esp32", [], flash_size=4 * MIB)


def test_a_busy_port(board: Board) -> None:
    """Another program has the board."""
    with flash.Session(board.url, "esp32"), pytest.raises(PortError, match="busy"):
        flash.flash(board.url, "esp32", [], flash_size=4 * MIB)


def test_a_refusal_leaves_the_board_out_of_download_mode(board: Board) -> None:
    """A refused identity writes nothing, and the chip runs again."""
    held = _held(identity=_canonical(identity()), root_ca=b"ca", cred_a=b"issued")
    flash.flash(board.url, "esp32", [Segment("nvs", NVS.offset, held)], flash_size=4 * MIB)
    with pytest.raises(CredentialHeldError):
        flash.flash(
            board.url, "esp32", [Segment("x", 0x10000, b"x")],
            flash_size=4 * MIB, nvs_partition=NVS, identity=identity("unit-2"),
        )  # fmt: skip
    image = (board.folder / "flash.bin").read_bytes()
    assert image[NVS.offset : NVS.end] == held
    assert image[0x10000] == 0xFF
