"""u-blox SARA-R5, SARA-R422 and SARA-R410M/R412M (LARA, LENA and LEXI speak it, too). Pure.

Sources: the vendor's ubxlib and pages of the SARA-R4/N4 manual. Not verified, and so configurable
or tried out here:

    suite          whether the firmware's table has PSK-AES128-CCM-8 (0xC0A8). SARA-R410M and
                   R412M know PSK-AES128-CBC-SHA256 (0x00AE) of ours only.
    MIN_VERSION    3, TLS 1.2; the vendor's tests use 0 (any), too.
    the PSK as hexadecimal: one manual has the flag, the vendor's library sets it for no module. It
                   is tried first, then text if the key is printable, else it is an error.
    the data connection's commands (UPSD, UPSDA): from general knowledge.

How the one suite is written depends on the module: by name from AT+CGMM. Nothing says that the
security profile outlives a power cycle, so provision_psk writes it each time (to RAM) and returns
no marker. In power saving the vendor says "all lost": open anew. Dials and sends are not repeated,
though the vendor advises it for the first: the caller does, with its pauses. `tag` is the
profile, 0 to 4.
"""

import binascii

from micropython import const

from imprint.errors import ProtocolError
from imprint.modem.dialects.common import Common, fields, hexadecimal, maybe, number
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.modem.engine import Talk

_CLOSE_MS = const(40000)
_READ_MAX = const(512)  # in hexadecimal mode

_PSK_AES128_CCM_8 = const(0xC0A8)

# errors.py
_MODEM_GARBAGE = const(222)


class Dialect(Common):
    NAME = "sara"
    BUFFER = 1100
    PAYLOAD_MAX = 512
    SEND_GAP_MS = 100  # SARA-R4; 20 would do for R5
    PROMPT_GAP_MS = 50
    URCS = Common.URCS + (
        b"+UUSORD:",
        b"+UUSORF:",
        b"+UUSOCL:",
        b"+UUPSDA:",
        b"+UUPSDD:",
        b"+UUDNSRN:",
    )

    def __init__(self, suite: int = _PSK_AES128_CCM_8) -> None:
        super().__init__(suite)
        self.model = b""  # Setup.identify() learns it

    def parse_urc(self, line: bytes, data: "bytes | None" = None) -> "tuple | None":
        words = fields(line)
        if line.startswith(b"+UUSOR"):
            handle = number(words, 0)
            return None if handle is None else ("data", handle, number(words, 1))
        if line.startswith(b"+UUSOCL:"):
            handle = number(words, 0)
            return None if handle is None else ("closed", handle)
        if line.startswith(b"+UUPSDD:"):
            return ("pdp_lost",)
        return super().parse_urc(line)

    def send(self, handle: int, data: bytes) -> "Talk":
        """One datagram. WeatherError, or ProtocolError (OK without its line): it was not sent,
        or nobody knows."""
        line = hexadecimal(b'AT+USOWR=%d,%d,"' % (handle, len(data)), data)
        yield Command(line, prefix=b"+USOWR:")

    def receive(self, handle: int, limit: int) -> "Talk":
        """The oldest datagram that waits in the modem, cut to `limit` bytes, or None."""
        line = b"AT+USORD=%d,%d" % (handle, _READ_MAX)
        lines = yield from maybe(Command(line, prefix=b"+USORD:", least=0))
        if not lines:
            return None
        start = lines[0].find(b'"') + 1
        try:
            # Without a copy: it is the longest line that there is.
            text: "Any" = memoryview(lines[0])[start:-1]
            data = binascii.unhexlify(text) if start else b""
        except ValueError:
            raise ProtocolError(_MODEM_GARBAGE, "AT+USORD")
        return data[:limit] or None

    def close(self, handle: int) -> "Talk":
        """Also of one that is closed."""
        yield from maybe(Command(b"AT+USOCL=%d" % handle, _CLOSE_MS))
