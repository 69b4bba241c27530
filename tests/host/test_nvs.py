"""NVS against Espressif's own generator, and its interface."""

from __future__ import annotations

import io

import pytest
from esp_idf_nvs_partition_gen import nvs_partition_gen as espressif
from imprint_tools import nvs
from imprint_tools.nvs import BytesRegion, NvsPartition

SIZE = 0x6000
VALUES = {
    "u8": 200, "i8": -5, "u16": 65000, "i16": -300, "u32": 4_000_000_000, "i32": -70_000,
    "u64": 2**63, "i64": -(2**40),
}  # fmt: skip


def generated(
    entries: list[tuple[str, str, str]], size: int = SIZE, version: int = espressif.Page.VERSION2
) -> bytes:
    """The image that esp-idf-nvs-partition-gen makes of (key, encoding, value) rows."""
    out = io.BytesIO()
    # The generator adds its spare page itself, as its command line allows for.
    with espressif.nvs_open(out, size - 4096, version) as image:
        espressif.write_entry(image, "imprint", "namespace", "", "")
        for key, encoding, value in entries:
            image.write_entry(key, value, encoding)
    return out.getvalue()


def mounted(image: bytes | int = SIZE) -> NvsPartition:
    return NvsPartition(BytesRegion(image))


@pytest.mark.interop
def test_what_espressif_generates_is_read():
    """Every type, a string, a short blob and one that spans pages come out as they went in."""
    blob = bytes(n * 7 & 0xFF for n in range(9001))
    rows = [(kind, kind, str(value)) for kind, value in VALUES.items()]
    rows += [("text", "string", "häuser"), ("blob", "hex2bin", blob.hex())]
    partition = mounted(generated(rows))
    found = {entry.key: (entry.kind, entry.value) for entry in partition.entries()}
    expected: dict[str, tuple[str, object]] = {k: (k, v) for k, v in VALUES.items()}
    expected |= {"text": ("string", "häuser"), "blob": ("blob", blob)}
    assert found == expected
    assert partition.get_blob("imprint", "blob") == blob
    assert partition.get_str("imprint", "text") == "häuser"
    assert partition.get_i32("imprint", "i32") == -70_000


@pytest.mark.interop
@pytest.mark.parametrize("size", [1, 31, 32, 700, 3900, 9001])
def test_what_is_written_is_what_espressif_generates(size):
    """The same values written one after the other give Espressif's image, byte for byte."""
    blob = bytes(n * 5 & 0xFF for n in range(size))
    rows = [(kind, kind, str(value)) for kind, value in VALUES.items()]
    rows += [("text", "string", "a text"), ("blob", "hex2bin", blob.hex())]
    region = BytesRegion(SIZE)
    partition = NvsPartition(region)
    for kind, value in VALUES.items():
        partition.set_int("imprint", kind, kind, value)
    partition.set_str("imprint", "text", "a text")
    partition.set_blob("imprint", "blob", blob)
    assert region.image() == generated(rows)


@pytest.mark.interop
def test_a_blob_of_the_format_before_is_read_and_replaced():
    """A version-1 blob (no index) is read, and writing it anew leaves one value."""
    image = generated([("blob", "hex2bin", b"old".hex())], version=espressif.Page.VERSION1)
    partition = mounted(image)
    assert partition.get_blob("imprint", "blob") == b"old"
    partition.set_blob("imprint", "blob", b"new")
    assert [entry.value for entry in partition.entries()] == [b"new"]


def test_the_first_bytes_are_as_the_documentation_draws_them():
    """A number on a blank partition: page header, bitmap, namespace entry, value entry."""
    region = BytesRegion(0x3000)
    NvsPartition(region).set_i32("ns", "key", -2)
    image = region.image()
    assert image[:12] == bytes.fromhex("feffffff 00000000 feffffff")
    assert image[32:36] == bytes.fromhex("faffffff")
    assert image[64:68] == bytes.fromhex("000101ff")
    assert image[72:96] == b"ns".ljust(16, b"\0") + b"\x01" + b"\xff" * 7
    assert image[96:100] == bytes.fromhex("011401ff")
    assert image[104:128] == b"key".ljust(16, b"\0") + b"\xfe\xff\xff\xff" + b"\xff" * 4
    assert image[128:] == b"\xff" * (0x3000 - 128)


def test_mounting_a_sound_partition_writes_nothing():
    """Neither blank flash nor a partition in use is changed by a mount."""
    for image in (b"\xff" * SIZE, generated([("blob", "hex2bin", "00" * 5000)])):
        region = BytesRegion(image)
        NvsPartition(region)
        assert region.image() == image


def test_an_equal_value_is_not_written_again():
    """Setting what is already there costs no flash."""
    region = BytesRegion(SIZE)
    partition = NvsPartition(region)
    partition.set_blob("imprint", "cred_a", b"x" * 500)
    partition.set_i32("imprint", "n", 7)
    before = region.image()
    partition.set_blob("imprint", "cred_a", b"x" * 500)
    partition.set_i32("imprint", "n", 7)
    assert region.image() == before


def test_a_key_holds_one_value_whatever_its_type():
    """Writing another type replaces the value."""
    partition = mounted()
    partition.set_blob("imprint", "k", b"blob")
    partition.set_i32("imprint", "k", 5)
    assert [(e.kind, e.value) for e in partition.entries()] == [("i32", 5)]
    with pytest.raises(nvs.NvsNotFound):
        partition.get_blob("imprint", "k")


@pytest.mark.parametrize(
    ("namespace", "key"), [("imprint", "absent"), ("absent", "k"), ("imprint", "n")]
)
def test_an_absent_blob_is_not_found(namespace, key):
    """No namespace, no key, or a value of another type: ESP_ERR_NVS_NOT_FOUND."""
    partition = mounted()
    partition.set_i32("imprint", "n", 1)
    with pytest.raises(nvs.NvsNotFound) as caught:
        partition.get_blob(namespace, key)
    assert caught.value.esp_err == 0x1102


def test_erasing_frees_the_key():
    """An erased key is gone, and erasing it again says so."""
    partition = mounted()
    partition.set_blob("imprint", "k", b"v" * 6000)
    partition.erase_key("imprint", "k")
    assert partition.entries() == []
    with pytest.raises(nvs.NvsNotFound):
        partition.erase_key("imprint", "k")


def test_a_value_that_does_not_fit_changes_nothing():
    """NvsFull (ESP_ERR_NVS_NOT_ENOUGH_SPACE) leaves the flash as it was."""
    region = BytesRegion(0x3000)
    partition = NvsPartition(region)
    partition.set_blob("imprint", "a", b"a" * 5000)
    before = region.image()
    with pytest.raises(nvs.NvsFull) as caught:
        partition.set_blob("imprint", "b", b"b" * 5000)
    assert caught.value.esp_err == 0x1105
    assert region.image() == before
    assert partition.get_blob("imprint", "a") == b"a" * 5000


def test_longer_than_the_partition_is_value_too_long():
    """A blob beyond all pages, a string beyond one page: ESP_ERR_NVS_VALUE_TOO_LONG."""
    partition = mounted(0x3000)
    with pytest.raises(nvs.NvsValueTooLong) as caught:
        partition.set_blob("imprint", "b", b"b" * 8001)
    assert caught.value.esp_err == 0x110E
    with pytest.raises(nvs.NvsValueTooLong):
        partition.set_str("imprint", "s", "s" * 4000)


@pytest.mark.parametrize("key", ["", "sixteen-letters-", "nul\0"])
def test_a_bad_name_is_refused(key):
    """A key has 1 to 15 bytes and no NUL."""
    partition = mounted()
    with pytest.raises(nvs.NvsBadName):
        partition.set_i32("imprint", key, 1)
    with pytest.raises(nvs.NvsBadName):
        partition.set_i32(key, "k", 1)
    assert partition.entries() == []


def test_a_namespace_can_exist_without_values():
    """Opening a namespace for writing creates it, once."""
    region = BytesRegion(SIZE)
    NvsPartition(region).create_namespace("imprint")
    before = region.image()
    NvsPartition(region).create_namespace("imprint")
    assert region.image() == before != b"\xff" * SIZE


def test_numbers_out_of_range_are_refused():
    """A value that its type cannot hold is the caller's mistake."""
    with pytest.raises(ValueError, match="does not fit i32"):
        mounted().set_i32("imprint", "n", 2**31)


def test_a_partition_without_a_free_page_is_reported():
    """All pages in use: ESP_ERR_NVS_NO_FREE_PAGES, upon which a board erases and starts afresh."""
    region = BytesRegion(0x2000)
    NvsPartition(region).set_blob("imprint", "b", b"b" * 3000)
    first = region.image()[:0x1000]
    full = BytesRegion(first + first)
    with pytest.raises(nvs.NvsNoFreePages) as caught:
        NvsPartition(full)
    assert caught.value.esp_err == 0x110D
    nvs.format(full)
    assert NvsPartition(full).entries() == []


def test_a_later_format_is_reported():
    """A page of a version that this format does not know: ESP_ERR_NVS_NEW_VERSION_FOUND."""
    region = BytesRegion(0x2000)
    NvsPartition(region).set_i32("imprint", "n", 1)
    image = bytearray(region.image())
    image[8] = 0xFD
    image[28:32] = espressif.zlib.crc32(image[4:28], 0xFFFFFFFF).to_bytes(4, "little")
    with pytest.raises(nvs.NvsNewVersion) as caught:
        mounted(bytes(image))
    assert caught.value.esp_err == 0x1110


def test_a_value_does_not_show_in_an_entry():
    """An entry's repr names the key and the type, never the value."""
    partition = mounted()
    partition.set_blob("imprint", "identity", b"device-secret")
    assert "device-secret" not in repr(partition.entries())
