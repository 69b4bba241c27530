"""The list of a gateway's sub-devices: TOML or JSON at the bench, one line each on the board.

    [bus]                          # keywords of machine.UART; absent: UART 1, 9600 baud
    id = 1
    baudrate = 9600

    [tables.inverter]
    driver = "modbus"              # or "simulated"; one of your own also has `own = true`
    points = ["power:i:30775:s32:0.1", "energy:i:30529:u32"]

    [[subdevices]]
    device_key = "inverter-1"
    table = "inverter"
    address = 1
    device_secret = "..."          # absent: the edge gets one, or uses the product's
    product_key = "..."            # absent: the identity's subdevice_product_key

What a point is made of, its driver says (firmware/imprint/drivers). What passes here is what the
board's own imprint.subdevices takes: a test holds the two against each other.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imprint_tools.errors import IdentityError
from imprint_tools.secret import Secret

ONLINE_MAX = 200
"""What one gateway can have online, by the vendor's limits page."""

_LINE_MAX = 512
_ADDRESSES = {"modbus": (1, 247)}
"""By driver; others take any that the board's list can hold. Modbus has 0 for all slaves at once,
which nobody answers, and none above 247."""
_ADDRESS_MAX = 65_535
_REGISTER_MAX = 65_535
_TABLE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_PRODUCT_KEY = re.compile(r"[A-Za-z0-9]{1,32}")
_DEVICE_KEY = re.compile(r"[-.0-9:@A-Z_a-z]{1,64}")
_SECRET = re.compile(r"[A-Za-z0-9]{1,64}")
_UART = {"id", "baudrate", "bits", "parity", "stop", "tx", "rx", "rts", "cts", "flow", "invert"}

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_-]{0,127}"
_MODULE = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_OWN_POINT = re.compile(r"[!-~]+")
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?"
_POINTS: Mapping[str, re.Pattern[str]] = {
    "modbus": re.compile(
        rf"{_IDENTIFIER}:(?:[cd]:[0-9]{{1,5}}:bit|[hi]:[0-9]{{1,5}}:(?:[us]16|[us]32r?|f32r?))"
        rf"(?::{_NUMBER})?"
    ),
    "simulated": re.compile(rf"{_IDENTIFIER}:{_NUMBER}:{_NUMBER}"),
}
"""By driver."""


def compile_list(data: bytes, path: Path) -> Secret:
    """The board's text of a list. It may hold secrets, so it is one. Raises IdentityError, which
    never shows one."""
    document = _parse(data, path)
    unknown = set(document) - {"bus", "tables", "subdevices"}
    if unknown:
        raise IdentityError(f"{path}: unknown {sorted(unknown)[0]!r}")
    lines = []
    if bus := document.get("bus"):
        lines.append("=" + _bus(bus, path))
    tables = document.get("tables", {})
    if not isinstance(tables, dict):
        raise IdentityError(f"{path}: tables is not a table")
    lines += [_table_line(name, table, path) for name, table in tables.items()]
    entries = document.get("subdevices")
    if not isinstance(entries, list) or not 1 <= len(entries) <= ONLINE_MAX:
        raise IdentityError(f"{path}: subdevices is not a list of 1 to {ONLINE_MAX}")
    names: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        line = _line(entry, tables, f"{path}: sub-device {number}")
        name = line.split(" ", 1)[0]
        if name in names:
            raise IdentityError(f"{path}: sub-device {number}: {name} stands there already")
        names.add(name)
        lines.append(line)
    for line in lines:
        if len(line) >= _LINE_MAX:
            raise IdentityError(
                f"{path}: a table has more points than the {_LINE_MAX} bytes of a line take",
                next_step="Split it into two tables.",
            )
    return Secret("".join(line + "\n" for line in lines))


def agree(parts: Iterable[bytes | Secret], product_key: object, origin: str) -> None:
    """Hold a compiled list against its identity: `product_key` is that of the lines that name
    none. Raises IdentityError."""
    names: set[str] = set()
    text = b"".join(part.reveal() for part in parts if isinstance(part, Secret))
    for line in text.decode().splitlines():
        if line.startswith(("=", "!")):
            continue
        name = line.split(" ", 1)[0]
        if "/" not in name:
            if product_key is None:
                raise IdentityError(
                    f"{origin}: sub-device {name} has no product",
                    next_step="Add subdevice_product_key to the identity, or product_key to the "
                    "list's sub-devices.",
                )
            name = f"{product_key}/{name}"
        if name in names:
            raise IdentityError(f"{origin}: sub-device {name} stands twice in the list")
        names.add(name)


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    problem = ""
    try:
        text = data.decode()
        loads = json.loads if path.suffix.lower() == ".json" else tomllib.loads
        document = loads(text)
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except RecursionError:
        problem = "is nested too deep"
    except ValueError as error:
        # A parser's exception may hold the document: its place is all that is said.
        place = re.search(r"line \d+", str(error))
        problem = "cannot be read" + (f", {place[0]}" if place else "")
    if problem:
        raise IdentityError(f"{path}: {problem}", next_step="Write it as TOML, or as .json.")
    if not isinstance(document, dict):
        raise IdentityError(f"{path}: is not a table")
    return document


def _bus(bus: Any, path: Path) -> str:
    if not isinstance(bus, dict) or not all(type(v) is int or v is None for v in bus.values()):
        raise IdentityError(f"{path}: bus has a value that is not a whole number")
    if unknown := set(bus) - _UART:
        raise IdentityError(f"{path}: bus has no {sorted(unknown)[0]!r}")
    return json.dumps(bus, sort_keys=True, separators=(",", ":"))


def _table_line(name: str, table: Any, path: Path) -> str:
    driver = table.get("driver") if isinstance(table, dict) else None
    points = table.get("points") if isinstance(table, dict) else None
    if not _TABLE.fullmatch(name) or not isinstance(driver, str):
        raise IdentityError(f"{path}: table {name!r} has no driver")
    form = _POINTS.get(driver)
    if form is None and table.get("own") is True and _MODULE.fullmatch(driver):
        form = _OWN_POINT
    if form is None:
        raise IdentityError(
            f"{path}: table {name!r} has no driver of {', '.join(_POINTS)}",
            next_step="Name your own one, a module of imprint.drivers, with own = true.",
        )
    if not isinstance(points, list) or not points:
        raise IdentityError(f"{path}: table {name!r} has no points")
    for point in points:
        sound = isinstance(point, str) and form.fullmatch(point)
        if not sound or (driver == "modbus" and not _in_range(point)):
            raise IdentityError(f"{path}: {point!r} is no point of the driver {driver}")
    return " ".join([f"!{name}", driver, *points])


def _in_range(point: str) -> bool:
    """Whether a point of Modbus, of the right form, has numbers that a register can be."""
    _name, _kind, register, size, *scale = point.split(":")
    last = int(register) + ("32" in size)
    return last <= _REGISTER_MAX and all(1e-9 <= abs(float(word)) <= 1e9 for word in scale)


def _line(entry: Any, tables: Mapping[str, Any], where: str) -> str:
    if not isinstance(entry, dict):
        raise IdentityError(f"{where}: is not a table")
    known = {"device_key", "product_key", "table", "address", "device_secret"}
    if unknown := set(entry) - known:
        raise IdentityError(f"{where}: unknown field {sorted(unknown)[0]!r}")
    key, product = entry.get("device_key"), entry.get("product_key")
    if not isinstance(key, str) or not _DEVICE_KEY.fullmatch(key):
        raise IdentityError(f"{where}: device_key is not 1 to 64 letters, digits or -.:@_")
    if product is not None:
        if not isinstance(product, str) or not _PRODUCT_KEY.fullmatch(product):
            raise IdentityError(f"{where}: product_key is not 1 to 32 letters or digits")
        key = f"{product}/{key}"
    table = entry.get("table")
    if not isinstance(table, str) or table not in tables:
        raise IdentityError(f"{where}: table names none of the list's tables")
    address = entry.get("address", 0)
    least, most = _ADDRESSES.get(tables[table]["driver"], (0, _ADDRESS_MAX))
    if type(address) is not int or not least <= address <= most:
        raise IdentityError(f"{where}: address is not a number from {least} to {most}")
    words = [key, table, str(address)]
    secret = entry.get("device_secret")
    if secret is not None:
        if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
            raise IdentityError(f"{where}: device_secret is not 1 to 64 letters or digits")
        words.append(secret)
    return " ".join(words)
