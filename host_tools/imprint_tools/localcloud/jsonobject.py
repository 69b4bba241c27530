"""JSON objects as clouds read and write them: strictly, and compact. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def load(payload: bytes) -> dict[str, Any]:
    """The JSON object in a payload. Raises ValueError for anything else.

    NaN and Infinity, which Python takes and JSON does not have, are refused, and so are numbers
    beyond a double and nesting deeper than Python can follow.
    """
    try:
        document = json.loads(payload.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number beyond a double")
    return value
