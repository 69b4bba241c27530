"""What is behind an EnOS edge: polled, commanded and asked about itself, through drivers."""

import json

from micropython import const

from imprint import port
from imprint import subdevices as s
from imprint.errors import ImprintError, SetupError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SUBDEVICES_WRONG = const(106)  # errors.py


class Drivers:
    """One driver for each table of `table`, made when it is first wanted."""

    def __init__(self, table: "s.Subdevices", feed: "Callable[[], None]") -> None:
        self.made: dict = {}  # table's name -> driver
        self._table = table
        self._feed = feed

    def poll(self, at: int) -> "dict | None":
        """What one measures; None: it is silent, which is told once. Two silent rounds in a row
        make it LOST."""
        flags = self._table.flags
        try:
            driver, address = self._driver(at)
            values = driver.poll(address)
        except ImprintError as error:
            if flags[at] & s.SILENT:
                flags[at] |= s.LOST
                return None
            flags[at] |= s.SILENT
            error.detail = self._table.name(at)[1] + ": " + error.detail
            port.emit_error(error)
            return None
        if flags[at] & s.SILENT:
            flags[at] &= ~(s.SILENT | s.LOST)
            port.emit("subdevice", key=self._table.name(at)[1], to="answers")
        return values

    def command(self, at: int, verb: str, params: dict) -> dict:
        """Have one do something; its outputs. Raises as a driver's `command`."""
        driver, address = self._driver(at)
        if not hasattr(driver, "command"):
            raise KeyError(verb)
        return driver.command(address, verb, params)

    def speaker(self, at: int) -> "Callable[[str], Any]":
        """What one's driver says of it in one of its methods; None where it has no such method,
        or its device does not answer."""

        def say(what: str) -> "Any":
            try:
                driver, address = self._driver(at)
                method = getattr(driver, what, None)
                return method(address) if method else None
            except ImprintError:
                return None  # `poll` tells of its silence

        return say

    def _driver(self, at: int) -> tuple:
        table, address = self._table.place(at)
        if table not in self.made:
            words = self._table.table(table)
            try:
                module = __import__("imprint.drivers." + words[0], None, None, ("Driver",))
            except ImportError:
                raise SetupError(_SUBDEVICES_WRONG, "no driver " + words[0])
            try:
                bus = json.loads(self._table.bus) if self._table.bus else {}
            except ValueError:
                raise SetupError(_SUBDEVICES_WRONG, "the bus is no JSON")
            self.made[table] = module.Driver(words[1:], bus, self._feed)
        return self.made[table], address
