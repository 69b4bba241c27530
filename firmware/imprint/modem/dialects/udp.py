"""Modems without DTLS of their own: plain UDP by Quectel's BC95, BC68 and BC66 commands. Pure.

From general knowledge of these modules (NSOCR, NSOST, NSONMI, NSORF, NSOCL); not verified. They
have no DTLS on sockets of ours: open_dtls says so, and a journey that needs it takes a modem that
can. NSOST wants an address in digits, so `host` has to be one.
"""

import binascii

from micropython import const

from imprint.errors import ProtocolError
from imprint.modem.dialects.common import Common, fields, maybe, number
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk


# errors.py
_MODEM_GARBAGE = const(222)


class Dialect(Common):
    NAME = "udp"
    BUFFER = 1200
    PAYLOAD_MAX = 512
    URCS = Common.URCS + (b"+NSONMI:", b"+NSOCLI:", b"REBOOT", b"Neul")
    BOOT = (b"Neul",)

    def __init__(self, suite: int = 0) -> None:
        super().__init__(suite)
        self.peers: dict = {}  # (host, port) by handle

    def parse_urc(self, line: bytes, data: "bytes | None" = None) -> "tuple | None":
        if line.startswith(b"+NSONMI:") or line.startswith(b"+NSOCLI:"):
            words = fields(line)
            handle = number(words, 0)
            if handle is None:
                return None
            if line.startswith(b"+NSOCLI:"):
                return ("closed", handle)
            return ("data", handle, number(words, 1))
        return super().parse_urc(line)

    def send(self, handle: int, data: bytes) -> "Talk":
        """One datagram. WeatherError: it was not sent, or nobody knows."""
        host, port = self.peers[handle]
        text = binascii.hexlify(data)
        yield Command(b"AT+NSOST=%d,%s,%d,%d,%s" % (handle, host, port, len(data), text))

    def receive(self, handle: int, limit: int) -> "Talk":
        """The oldest datagram that waits in the modem, cut to `limit` bytes, or None."""
        lines = yield Command(b"AT+NSORF=%d,%d" % (handle, self.PAYLOAD_MAX))
        for line in lines:
            words = fields(b":" + line)
            if len(words) == 6 and number(words, 0) == handle:
                try:
                    return binascii.unhexlify(words[4])[:limit]
                except ValueError:
                    raise ProtocolError(_MODEM_GARBAGE, "AT+NSORF")
        return None

    def close(self, handle: int) -> "Talk":
        """Also of one that is closed."""
        self.peers.pop(handle, None)
        yield from maybe(Command(b"AT+NSOCL=%d" % handle))
