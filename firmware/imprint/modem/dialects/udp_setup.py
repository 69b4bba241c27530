"""Modems without DTLS of their own, before a socket; sources and doubts in udp.py. Pure."""

from micropython import const

from imprint.modem.dialects import common_setup

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk


class Setup(common_setup.Setup):
    ICCID = b"AT+NCCID"

    def close_all(self) -> "Talk":
        for handle in range(7):
            yield from self.dialect.close(handle)
