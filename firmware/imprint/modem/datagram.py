"""A datagram socket whose DTLS the modem does: for our CoAP client, and for microCoAPy.

The contract of microCoAPy's custom socket, and what of `socket` both use:

    sendto(data, address) -> int    recvfrom(n) -> (data, address)
    setblocking(flag)    settimeout(seconds)    close()

`OSError(EAGAIN)` or, with a timeout, `OSError(ETIMEDOUT)`: nothing has come. `OSError(ENOTCONN)`:
the session is gone (closed, reset, the modem rebooted); make a new socket. A session can also die
without a word, when a NAT forgets it: that only the protocol above can notice.
Errors of the modem are `imprint.errors`, so is the loss of the data connection (233). A datagram
that was handed over is never repeated here.
"""

import errno

from micropython import const

from imprint import port
from imprint.errors import ImprintError, WeatherError
from imprint.modem import dialects

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.uart import ModemUart

_BLOCKING_MS = const(60000)  # no wait is without end, not even setblocking(True)
_POLL_MS = const(1000)

_DATA_LOST = const(233)  # errors.py


class DatagramSocket:
    """Connected to one peer. `tag` names the provisioned PSK; None is plain UDP, without DTLS."""

    def __init__(
        self,
        modem: "ModemUart",
        host: str,
        number: int,
        tag: "int | None",
        handle: "int | None" = None,
    ) -> None:
        """Dial, which with DTLS is the handshake: up to minutes on NB-IoT. Raises WeatherError:
        no session.

        With the `handle` of one that was open when the board, not the modem, began anew, that is
        taken up again and nothing is dialled.
        """
        dialect = modem.dialect
        if handle is None:
            dialer = dialects.dialer(dialect)
            if tag is None:
                handle = modem.run(dialer.open_udp(host, number))
            else:
                handle = modem.run(dialer.open_dtls(host, number, tag))
        self.handle: int = handle
        self.payload_max = dialect.PAYLOAD_MAX
        self._modem = modem
        self._address = (host, number)
        self._timeout_ms = _BLOCKING_MS
        self._alive = True  # the session is, for all that we know
        self._cut = False  # the data connection below it is gone
        self._held = True  # the modem has a socket for it, which close() frees
        self._waiting = True  # something may be there; else the modem tells when it is
        modem.attach(self.handle, self)

    def sendto(self, data: bytes, address: "tuple | None" = None) -> int:
        """Hand one datagram to the modem; its length. It goes to the peer: OSError(EINVAL) for
        another address or a datagram beyond `payload_max` bytes."""
        self._check()
        if len(data) > self.payload_max or (address and tuple(address) != self._address):
            raise OSError(errno.EINVAL, "EINVAL")
        data = data if isinstance(data, bytes) else bytes(data)  # microCoAPy's is a bytearray
        self._modem.run(self._modem.dialect.send(self.handle, data))
        return len(data)

    def send(self, data: bytes) -> int:
        return self.sendto(data)

    def recvfrom(self, limit: int) -> tuple:
        """(datagram, address of the peer); of a longer one the first `limit` bytes."""
        deadline = port.ticks_add(port.ticks_ms(), self._timeout_ms)
        self._modem.poll(0)
        while True:
            if self._waiting:
                # Cleared first: a notice that comes while we ask is of the next datagram.
                self._waiting = False
                data = self._modem.run(self._modem.dialect.receive(self.handle, limit))
                if data is not None:
                    self._waiting = True  # until the modem says that there is no more
                    return data, self._address
            self._check()
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                if self._timeout_ms:
                    raise OSError(errno.ETIMEDOUT, "ETIMEDOUT")
                raise OSError(errno.EAGAIN, "EAGAIN")
            self._modem.poll(min(left_ms, _POLL_MS))

    def recv(self, limit: int) -> bytes:
        return self.recvfrom(limit)[0]

    def setblocking(self, flag: bool) -> None:
        """True waits up to a minute; False not at all."""
        self._timeout_ms = _BLOCKING_MS if flag else 0

    def settimeout(self, seconds: "float | None") -> None:
        """For recvfrom. None as setblocking(True)."""
        self._timeout_ms = _BLOCKING_MS if seconds is None else int(seconds * 1000)

    def close(self) -> None:
        """Tell the peer and free the modem's socket; twice is no error."""
        self._modem.detach(self.handle)
        self._alive = False
        if self._held:
            self._held = False
            try:
                self._modem.run(self._modem.dialect.close(self.handle))
            except ImprintError:
                pass  # a modem that does not answer holds no session either

    def notify(self, event: tuple) -> None:
        """From the modem: what concerns this socket (ModemUart.attach)."""
        if event[0] == "data":
            self._waiting = True
        else:
            self._alive = False
            self._cut = event[0] == "pdp_lost"
            self._held = event[0] != "reboot"

    def _check(self) -> None:
        if self._cut:
            raise WeatherError(_DATA_LOST)
        if not self._alive:
            raise OSError(errno.ENOTCONN, "ENOTCONN")
