"""Modems without DTLS of their own, before a socket; sources and doubts in udp.py. Pure."""

from micropython import const

from imprint.errors import SetupError
from imprint.modem.dialects import common_setup

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk
    from imprint.secret import Secret

_MODEM_UNSUPPORTED = const(224)  # errors.py


class Setup(common_setup.Setup):
    ICCID = b"AT+NCCID"

    def close_all(self) -> "Talk":
        for handle in range(7):
            yield from self.dialect.close(handle)

    def provision_psk(
        self, tag: int, identity: bytes, key: "Secret", marker: "str | None" = None
    ) -> "Talk":
        """Raises SetupError: there is nothing to put it into."""
        raise SetupError(_MODEM_UNSUPPORTED, "no DTLS")
        yield  # a generator, as the other families' is
