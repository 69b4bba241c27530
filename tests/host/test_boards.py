"""Board files: those that come with imprint, and what a wrong one is told."""

from __future__ import annotations

import json

import pytest
from esptool.targets import CHIP_DEFS
from imprint.modem.dialects import NAMES as MODEMS
from imprint_tools import boards, partitions, paths
from imprint_tools.errors import BoardFileError
from imprint_tools.partitions import DATA, SUBTYPES, Partition

GOOD = """
title = "A board"
chip = "esp32"
[flash]
size = "4MB"
mode = "dio"
frequency = "40m"
[partitions]
nvs = { type = "data", subtype = "nvs", offset = 0x9000, size = 0x6000 }
factory = { type = "app", subtype = "factory", offset = 0x10000, size = 0x1F0000 }
"""


@pytest.fixture
def write(tmp_path):
    """A function that writes a board file and returns its path."""

    def board(text, name="my-board.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return board


@pytest.mark.parametrize("name", boards.names())
def test_every_board_that_comes_along_is_sound(name):
    """Each loads, and agrees with esptool on the chip and with MicroPython on the layout."""
    board = boards.load(name)
    chip = CHIP_DEFS[board.chip]
    assert board.name == name and board.chip in name.split("-")
    assert board.bootloader_offset == chip.BOOTLOADER_FLASH_OFFSET
    assert f"{board.flash_size >> 20}MB" in chip.FLASH_SIZES
    assert board.flash_frequency in chip.FLASH_FREQUENCY
    assert (board.nvs.offset, board.nvs.size) == (0x9000, 0x6000)
    assert (board.app.offset, board.app.size) == (0x10000, 0x1F0000)
    assert (board.vfs.offset, board.vfs.end) == (0x200000, board.flash_size)
    assert board.console_baud == 115200


def test_the_three_chips_are_there():
    """There is a generic board of every chip that the virtual board can be."""
    generic = [name for name in boards.names() if name.endswith("-generic")]
    assert generic == ["esp32-generic", "esp32c3-generic", "esp32s3-generic"]


def test_every_family_of_modems_has_a_kit():
    """A kit for each modem that does DTLS, with the pins of its UART, each used once."""
    kits = [board for name in boards.names() if (board := boards.load(name)).modem]
    families = {name for name in MODEMS if name != "udp"}  # without DTLS there is no journey
    assert {board.modem.family for board in kits} == families
    for board in kits:
        wired = [pin for name, pin in board.pins.items() if name.startswith("modem_")]
        assert len(wired) == len(set(wired)) >= 4


def test_a_modem_without_pins_is_refused(write):
    """The UART alone is no wiring."""
    modem = '[modem]\nfamily = "bg95"\nuart = 1\nbaud = 115200\n'
    with pytest.raises(BoardFileError, match="modem_tx and modem_rx are missing"):
        boards.load(write(GOOD + modem))
    board = boards.load(write(GOOD + modem + "[pins]\nmodem_tx = 4\nmodem_rx = 5\n"))
    assert board.modem == boards.ModemPort("bg95", 1, 115200)


def test_a_board_is_loaded_by_path(write):
    """A file of one's own; what it leaves out has its default."""
    board = boards.load(write(GOOD))
    assert (board.name, board.title, board.flash_baud) == ("my-board", "A board", 460800)
    assert board.firmware is None and dict(board.pins) == {}


def test_firmware_and_pins_are_taken_over(write):
    """The optional tables arrive as they stand."""
    text = f"""{GOOD}
[firmware]
version = "1.26.1"
url = "http://127.0.0.1:8000/micropython.bin"
sha256 = "{"0a" * 32}"
[pins]
led = 2
[serial]
flash_baud = 921600
"""
    board = boards.load(write(text))
    assert board.firmware == boards.FirmwareSource(
        "1.26.1", "http://127.0.0.1:8000/micropython.bin", "0a" * 32
    )
    assert (dict(board.pins), board.flash_baud) == ({"led": 2}, 921600)


def test_a_named_file_system_is_where_the_table_says(write):
    """Older tables name `vfs` themselves."""
    entry = 'vfs = { type = "data", subtype = "fat", offset = 0x200000, size = 0x100000 }\n'
    board = boards.load(write(GOOD + entry))
    assert board.vfs == Partition("vfs", DATA, SUBTYPES[DATA]["fat"], 0x200000, 0x100000)


@pytest.mark.parametrize(
    ("old", "new", "key", "rule"),
    [
        ('title = "A board"', "", "title", "is missing"),
        ('title = "A board"', 'titel = "A board"', "titel", "not a known key; title?"),
        ('title = "A board"', "title = 3", "title", "must be a string"),
        ('title = "A board"', 'title = ""', "title", "must match"),
        ('"esp32"', '"esp8266"', "chip", "must be one of esp32, esp32s3, esp32c3"),
        ('size = "4MB"', 'size = "3MB"', "flash.size", "must be one of 2MB, 4MB"),
        ('mode = "dio"', "", "flash.mode", "is missing"),
        ("offset = 0x9000", 'offset = "0x9000"', "partitions.nvs.offset", "a whole number"),
        ("offset = 0x9000", "offset = true", "partitions.nvs.offset", "a whole number"),
        ("offset = 0x9000", "offset = -1", "partitions.nvs.offset", "must be 0 to"),
        ("offset = 0x9000", "offset = 0x9000, at = 1", "partitions.nvs.at", "not a known key"),
        ("offset = 0x9000", "offset = 0xF000", "partitions", "factory at 0x10000 overlaps nvs"),
        ("offset = 0x9000", "offset = 0x8000", "partitions", "overlaps the partition table"),
        ("offset = 0x9000", "offset = 0x9001", "partitions", "must be a multiple of 0x1000"),
        ("size = 0x6000", "size = 0x2000", "partitions", "is less than 0x3000"),
        ("0x1F0000", "0x3FF000", "partitions", "beyond the flash (0x400000)"),
        ("0x1F0000", "0x3F0000", "partitions", "no room is left for the file system"),
        ("nvs = {", "this_is_a_long_label = {", "partitions", "not 1 to 15 ASCII characters"),
        ('subtype = "nvs"', 'subtype = "factory"', "partitions", "is not one of type 'data'"),
        ('subtype = "nvs"', 'subtype = "phy"', "partitions", "no partition of subtype nvs"),
        ("[partitions]", "[partitions", "", "line 8"),
    ],
)
def test_a_mistake_is_named_by_file_key_and_rule(write, old, new, key, rule):
    """One wrong thing in a good file: the error says where it is and what the rule is."""
    assert old in GOOD
    with pytest.raises(BoardFileError) as caught:
        boards.load(write(GOOD.replace(old, new, 1)))
    message = str(caught.value)
    assert "my-board.toml: " + key in message
    assert rule in message


@pytest.mark.parametrize(
    ("key", "value"),
    [("url", "ftp://x/y.bin"), ("sha256", "AB" * 32), ("sha256", "ab" * 31), ("version", "")],
)
def test_a_firmware_table_is_complete_or_refused(write, key, value):
    """A download without a proper address or digest is no download."""
    table = {"version": "1.26.1", "url": "https://h/f.bin", "sha256": "ab" * 32} | {key: value}
    lines = "\n".join(f"{name} = {json.dumps(text)}" for name, text in table.items())
    with pytest.raises(BoardFileError, match=rf"firmware\.{key}: .* must match"):
        boards.load(write(f"{GOOD}\n[firmware]\n{lines}\n"))


def test_an_unknown_name_lists_the_known_ones():
    """A board that is not there: the next step names those that are."""
    with pytest.raises(BoardFileError, match="no board 'esp33'") as caught:
        boards.load("esp33")
    assert "esp32-generic, " in caught.value.next_step


def test_the_schema_says_what_the_code_knows():
    """Chips, subtypes and keywords of schema.json are those that boards.py works with."""
    schema = json.loads((paths.boards_dir() / "schema.json").read_text())
    entry = schema["properties"]["partitions"]["additionalProperties"]["properties"]
    known = {name for kind in SUBTYPES.values() for name in kind}
    assert set(entry["subtype"]["enum"]) == known
    assert set(entry["type"]["enum"]) == {"app", "data"}
    families = schema["properties"]["modem"]["properties"]["family"]["enum"]
    assert tuple(families) == MODEMS
    board = boards.load("esp32-generic")
    for chip in schema["properties"]["chip"]["enum"]:
        assert boards.load(f"{chip}-generic").chip == chip
    assert {p.label for p in board.partitions} == {"nvs", "phy_init", "factory"}
    understood = {
        "$schema", "title", "description", "type", "required", "additionalProperties",
        "properties", "enum", "pattern", "minimum", "maximum",
    }  # fmt: skip

    def keywords(rule):
        yield from rule
        for inner in rule.get("properties", {}).values():
            yield from keywords(inner)
        if isinstance(extra := rule.get("additionalProperties"), dict):
            yield from keywords(extra)
        if rule["type"] == "object":
            assert "additionalProperties" in rule, "unknown keys must be refused or ruled"
        if "pattern" in rule:
            assert rule["pattern"].startswith("^") and rule["pattern"].endswith("$")

    assert set(keywords(schema)) <= understood


def test_a_table_of_a_board_is_one_that_the_bootloader_reads():
    """What is built from a board's partitions parses back to them."""
    board = boards.load("esp32s3-generic")
    assert partitions.parse(partitions.build(board.partitions)) == list(board.partitions)
