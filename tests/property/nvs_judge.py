"""A second reading of an NVS image, strict, sharing no code with the one that is tested.

It knows the format from ESP-IDF's "Non-Volatile Storage Library" alone and accepts only what a
partition looks like at rest: nothing half written, nothing twice, no chunk without its index.
"""

from __future__ import annotations

import binascii

PAGE = 4096
ACTIVE, FULL = 0xFFFFFFFE, 0xFFFFFFFC
INTEGERS = {
    0x01: (1, False), 0x02: (2, False), 0x04: (4, False), 0x08: (8, False),
    0x11: (1, True), 0x12: (2, True), 0x14: (4, True), 0x18: (8, True),
}  # fmt: skip


def crc(data: bytes) -> bytes:
    return binascii.crc32(data, 0xFFFFFFFF).to_bytes(4, "little")


def little(data: bytes, signed: bool = False) -> int:
    return int.from_bytes(data, "little", signed=signed)


def read(image: bytes) -> dict[tuple[str, str], int | str | bytes]:
    """Every value by (namespace, key). AssertionError where the image is not a sound one."""
    pages = [image[at : at + PAGE] for at in range(0, len(image), PAGE)]
    # A page whose header is not whole counts as free: it is erased before it is used.
    used = [p for p in pages if p[:4] != b"\xff" * 4 and p[28:32] == crc(p[4:28])]
    assert len(used) < len(pages), "no page is free"
    sequences = [little(page[4:8]) for page in used]
    assert len(set(sequences)) == len(used), "a sequence number stands twice"
    items: dict[tuple[int, str, int], tuple[int, bytes, bytes]] = {}
    for page in sorted(used, key=lambda p: little(p[4:8])):
        last = little(page[4:8]) == max(sequences)
        for namespace, kind, chunk, key, field, data in page_items(page, last):
            assert (namespace, key, chunk) not in items, f"{key} stands twice"
            items[namespace, key, chunk] = kind, field, data
    return values(items)


def page_items(page: bytes, last: bool) -> list[tuple[int, int, int, str, bytes, bytes]]:
    state = little(page[:4])
    assert state in ((ACTIVE, FULL) if last else (FULL,)), f"page state {state:#x}"
    assert page[8] == 0xFE and page[9:28] == b"\xff" * 19
    assert page[63] & 0xF0 == 0xF0, "bitmap bits beyond the last slot"
    states = [(page[32 + n // 4] >> (n % 4 * 2)) & 3 for n in range(126)]
    slots = [page[64 + 32 * n : 96 + 32 * n] for n in range(126)]
    assert set(states) <= {0b11, 0b10, 0b00}
    begun = max((n + 1 for n in range(126) if states[n] != 0b11), default=0)
    assert all(s != 0b11 for s in states[:begun]), "an empty slot before a used one"
    assert not b"".join(slots[begun:]).strip(b"\xff"), "an empty slot is not blank"
    found = []
    number = 0
    while number < 126:
        if states[number] != 0b10:
            number += 1
            continue
        slot = slots[number]
        namespace, kind, span, chunk = slot[:4]
        assert slot[4:8] == crc(slot[:4] + slot[8:]), f"CRC of slot {number}"
        assert states[number : number + span] == [0b10] * span, f"span of slot {number}"
        key, _, padding = slot[8:24].partition(b"\0")
        assert 1 <= len(key) <= 15 and not padding.strip(b"\0")
        field, data = slot[24:32], b""
        if kind in (0x21, 0x42):
            size = little(field[:2])
            whole = b"".join(slots[number + 1 : number + span])
            data = whole[:size]
            assert span == 1 + -(-size // 32) and not whole[size:].strip(b"\xff")
            assert field[2:4] == b"\xff\xff" and field[4:] == crc(data), f"data of {key!r}"
            assert (chunk == 0xFF) == (kind == 0x21)
        else:
            assert span == 1 and chunk == 0xFF
        found.append((namespace, kind, chunk, key.decode(), field, data))
        number += span
    return found


def values(
    items: dict[tuple[int, str, int], tuple[int, bytes, bytes]],
) -> dict[tuple[str, str], int | str | bytes]:
    names = {item[1][0]: key for (space, key, _), item in items.items() if space == 0}
    assert 0 not in names and 255 not in names
    found: dict[tuple[str, str], int | str | bytes] = {}
    chunks = {name for name in items if name[2] != 0xFF}
    for (space, key, chunk), (kind, field, data) in items.items():
        if space == 0 or chunk != 0xFF:
            continue
        if kind in INTEGERS:
            width, signed = INTEGERS[kind]
            assert not field[width:].strip(b"\xff")
            found[names[space], key] = little(field[:width], signed)
        elif kind == 0x21:
            assert data.endswith(b"\0")
            found[names[space], key] = data[:-1].decode()
        else:
            assert kind == 0x48 and field[5] in (0, 0x80) and field[6:] == b"\xff\xff"
            parts = [(space, key, field[5] + n) for n in range(field[4])]
            blob = b"".join(items[part][2] for part in parts)
            assert len(blob) == little(field[:4])
            chunks -= set(parts)
            found[names[space], key] = blob
    assert not chunks, f"chunks without an index: {sorted(chunks)}"
    return found
