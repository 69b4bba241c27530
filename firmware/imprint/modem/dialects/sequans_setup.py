"""Sequans Monarch 2 before a session; sources and doubts in sequans.py. Pure."""

import binascii

from micropython import const

from imprint.errors import SetupError, WeatherError
from imprint.modem.dialects import common_setup
from imprint.modem.dialects.common import fields, maybe, number
from imprint.modem.dialects.common_setup import fingerprint
from imprint.modem.engine import Command, Wait
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

_CONNECTIONS = const(6)
_RESET_MS = const(20000)

# errors.py
_PSK_NOT_STORED = const(228)


class Setup(common_setup.Setup):
    ICCID = b"AT+SQNCCID"
    EDRX = b"AT+SQNEDRX"
    TLS_VERSION = 2

    def close_all(self) -> "Talk":
        for handle in range(1, _CONNECTIONS + 1):
            yield from self.dialect.close(handle)

    def before_radio(self, apn: bytes) -> "Talk":
        mode = 1 if self.dialect.rat == "lte-m" else 2
        lines = yield from maybe(
            Command(b"AT+SQNMODEACTIVE?", prefix=b"+SQNMODEACTIVE:", least=0)
        )
        if lines and number(fields(lines[0]), 0) != mode:
            yield Command(b"AT+SQNMODEACTIVE=%d" % mode)
            try:
                yield Command(b"AT^RESET", resets=True)
            except WeatherError as error:
                if error.code not in (221, 227):  # the start came before the final
                    raise
            yield Wait(_RESET_MS, b"+SYSSTART")
            yield from self.power_up()
            yield Command(b"AT+CFUN=4", 60000)
        yield from super().before_radio(apn)

    def provision_psk(
        self, tag: int, identity: bytes, key: Secret, marker: "str | None" = None
    ) -> "Talk":
        """Into the security profile `tag`, 1 to 5. SetupError: it was not stored."""
        own = "%s:%x" % (fingerprint(identity, key), self.dialect.suite)
        if marker == own:
            return marker
        line = b'AT+SQNSPCFG=%d,%d,"0x%02X",,,,,"%s","%s"'
        text = binascii.hexlify(key.reveal())
        try:
            yield Command(Secret(line % (tag, self.TLS_VERSION, self.dialect.suite, text, identity)))
        except WeatherError as error:
            if error.code != 223:
                raise
            raise SetupError(_PSK_NOT_STORED, error.detail, error.number)
        return own
