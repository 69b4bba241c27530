"""The families by the names that people give them."""

from __future__ import annotations

from imprint_tools.virtual.modem.core import Core
from imprint_tools.virtual.modem.nrf91 import SerialModem

FAMILIES: dict[str, type[Core]] = {family.FAMILY: family for family in (SerialModem,)}
