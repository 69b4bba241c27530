"""The families by the names that people give them."""

from __future__ import annotations

from imprint_tools.virtual.modem.bg95 import Bg95
from imprint_tools.virtual.modem.core import Core
from imprint_tools.virtual.modem.nrf91 import SerialModem
from imprint_tools.virtual.modem.sara import SaraR5, SaraR410, SaraR422
from imprint_tools.virtual.modem.sequans import Gm02s
from imprint_tools.virtual.modem.slm import SerialLteModem
from imprint_tools.virtual.modem.udp import UdpOnly

FAMILIES: dict[str, type[Core]] = {
    family.FAMILY: family
    for family in (SerialModem, SerialLteModem, Bg95, Gm02s, SaraR5, SaraR422, SaraR410, UdpOnly)
}
