"""What a twin may hold: tags and desired properties, checked before a hub sees them.

The sizes are those of the hub (8 KB of tags, 32 KB of desired properties); a document that breaks
a rule is refused with the path of what breaks it, as `desired.pump.rate`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from imprint_tools.errors import ImprintError

TAGS_MAX, DESIRED_MAX = 8 << 10, 32 << 10  # bytes of compact JSON
DEPTH_MAX = 10
KEY_MAX, STRING_MAX = 1 << 10, 4 << 10  # bytes of UTF-8
INTEGER_MIN, INTEGER_MAX = -(1 << 52), (1 << 52) - 1
TEXT_MAX = 64 << 10
"""Characters of a JSON text that is looked at, at all."""


class TwinError(ImprintError):
    """Tags or desired properties that a twin cannot hold."""

    code = "twin-invalid"
    exit_code = 50
    next_step = "Correct it; nothing was sent."


def parse(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tags and desired properties out of `{"tags": {...}, "properties": {"desired": {...}}}`."""
    if len(text) > TEXT_MAX:
        raise TwinError(f"the JSON is longer than {TEXT_MAX} characters")
    try:
        found = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError:
        raise TwinError(f"the JSON is nested more than {DEPTH_MAX} deep") from None
    except ValueError as error:
        raise TwinError(f"this is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise TwinError("this is not a JSON object")
    _only(found, ("tags", "properties"), "")
    properties = found.get("properties", {})
    if not isinstance(properties, dict):
        raise TwinError("properties is not an object")
    _only(properties, ("desired",), "properties.")
    return check(found.get("tags", {}), properties.get("desired", {}))


def check(tags: Any, desired: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two, if a twin may hold them. Raises TwinError."""
    for name, document, most in (("tags", tags, TAGS_MAX), ("desired", desired, DESIRED_MAX)):
        if not isinstance(document, dict):
            raise TwinError(f"{name} is not an object")
        _check(document, name, 1)
        size = len(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())
        if size > most:
            raise TwinError(f"{name} takes {size} bytes, more than the {most} of a twin")
    return tags, desired


def document(tags: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """The two as DPS and people write them."""
    return {"tags": dict(tags), "properties": {"desired": dict(desired)}}


def named(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """All the names in what `named` gave before and in a document, as a tree of names."""
    inner = {name: value if isinstance(value, dict) else {} for name, value in after.items()}
    return {n: named(before.get(n, {}), inner.get(n, {})) for n in before.keys() | inner.keys()}


def change(names: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What to merge into a twin that has some of these `named`, so that it has `after`."""
    merged = {name: None for name in names if name not in after} | dict(after)
    for name, value in after.items():
        if isinstance(value, dict):
            merged[name] = change(names.get(name, {}), value)
    return merged


def _check(value: Any, path: str, depth: int) -> None:
    if isinstance(value, dict | list) and depth > DEPTH_MAX:
        raise TwinError(f"{_short(path)} is nested more than {DEPTH_MAX} deep")
    match value:
        case dict():
            for key, inner in value.items():
                _check_key(key, path)
                _check(inner, f"{path}.{key}", depth + 1)
        case list():
            for number, inner in enumerate(value):
                _check(inner, f"{path}[{number}]", depth + 1)
        case str():
            if len(_utf8(value, path)) > STRING_MAX:
                raise TwinError(f"{_short(path)} is longer than {STRING_MAX} bytes")
        case float() if not math.isfinite(value):  # which 1e999 is read as, too
            raise TwinError(f"{_short(path)} is no number that JSON has")
        case bool() | float() | None:
            pass
        case int():
            if not INTEGER_MIN <= value <= INTEGER_MAX:
                raise TwinError(
                    f"{_short(path)} is outside of {INTEGER_MIN} to {INTEGER_MAX}",
                    next_step="Write it as text.",
                )
        case _:
            raise TwinError(f"{_short(path)} is of a type that JSON has not")


def _check_key(key: Any, path: str) -> None:
    where = _short(path)
    if not isinstance(key, str) or not key:
        raise TwinError(f"{where} has a key that is empty")
    if len(_utf8(key, path)) > KEY_MAX:
        raise TwinError(f"{where} has a key of more than {KEY_MAX} bytes")
    if any(char in ".$ " or ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in key):
        raise TwinError(
            f"{where} has the key {key[:40]!r}: a key has no dot, no $, no blank and no control "
            "character in it"
        )


def _utf8(text: str, path: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise TwinError(f"{_short(path)} has half a character in it") from None


def _only(found: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in found:
        if name not in known:
            raise TwinError(f"{where}{name[:40]!r} has no place here: {' and '.join(known)} have")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TwinError("an object has the same key twice")
    return found


def _no_constant(name: str) -> Any:
    raise TwinError(f"{name} is no JSON")


def _short(path: str) -> str:
    return path if len(path) <= 80 else path[:77] + "..."
