"""JSON, one way to write it and one way to read it. Pure.

Written: names sorted (a MicroPython dict keeps no order), no spaces, and a float always with a
decimal point, as the thing models ask. Read: one object, or value, of bounded length, and
ValueError is the only way that reading fails, whatever the bytes are and whichever runtime reads
them.
"""

import json


def dumps(value) -> bytes:
    """`value` as JSON. ValueError: NaN, infinity. TypeError: a type that JSON has no form for."""
    return _text(value).encode()


def loads(data: bytes, most: int) -> dict:
    """The object in `data`, which is at most `most` bytes long. ValueError otherwise."""
    found = value(data, most)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def value(data: bytes, most: int):
    """Whatever JSON is in `data`, under the same conditions."""
    if len(data) > most:
        raise ValueError("longer than %d bytes" % most)
    # MicroPython's parser forgives brackets that are missing at the end: a torn text would pass
    # for whole. In a list with something after it, it would swallow that something.
    try:
        values = json.loads("[" + str(data, "utf-8") + ",0]")
    except RuntimeError:  # CPython's parser recurses as deep as the text is nested
        raise ValueError("nested too deep")
    if len(values) != 2:
        raise ValueError("not one value")
    return values[0]


def _text(value) -> str:
    if isinstance(value, dict):
        pairs = [json.dumps(name) + ":" + _text(value[name]) for name in sorted(value)]
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([_text(item) for item in value]) + "]"
    if isinstance(value, float):
        return _decimal(repr(value))
    if value is None or isinstance(value, (str, int, bool)):
        return json.dumps(value)
    # MicroPython's json would write the repr of anything and call it JSON.
    raise TypeError("no JSON for this type")


def _decimal(text: str) -> str:
    if text[-1] in "fn":  # inf, nan
        raise ValueError("not a finite number")
    if "." in text:
        return text
    mantissa, mark, exponent = text.partition("e")
    return mantissa + ".0" + mark + exponent
