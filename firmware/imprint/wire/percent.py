"""Percent-encoding (RFC 3986, 2.1), in one pass. Pure."""

_UNRESERVED = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"


def quote(text: str) -> str:
    """Percent-encode all but what RFC 3986 leaves unreserved."""
    return "".join([
        chr(byte) if chr(byte) in _UNRESERVED else "%%%02X" % byte for byte in text.encode()
    ])  # fmt: skip


def unquote(data: bytes) -> str:
    """The text that was percent-encoded. ValueError: what comes out is not UTF-8."""
    head, *parts = data.split(b"%")
    found = bytearray(head)
    for part in parts:
        found.append(int(part[:2], 16))
        found += part[2:]
    return str(found, "utf-8")
