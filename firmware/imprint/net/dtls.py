"""DTLS with a pre-shared key by the chip itself, over Wi-Fi: a datagram socket.

The same interface as modem.datagram.DatagramSocket, so that a CoAP client cannot tell them apart.
It takes a MicroPython whose `tls` has DTLS and PSK (1.29 on an ESP32): `offered` tries it out,
since a version does not say what a build was configured with.

Not run: no MicroPython with PSK was at hand. What was: this module against a scripted `tls` on all
runtimes; and on CPython the whole journey against the local EnOS, both by Mbed TLS, which is also
what MicroPython has, under `tls` as MicroPython's documentation and tests describe it.
MicroPython's own tests cover DTLS and PSK each, not the two together.
"""

import errno
import select
import socket

import tls
from micropython import const

from imprint import port
from imprint.errors import SetupError, WeatherError
from imprint.net.tls import explain

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from imprint.secret import Secret

_BLOCKING_MS = const(60000)  # no wait is without end, not even setblocking(True)
_HANDSHAKE_MS = const(60000)
_SLICE_MS = const(250)  # Mbed TLS repeats a lost flight only when it is called
_DATAGRAM_MAX = const(1500)

# errors.py
_MODEM_UNSUPPORTED = const(224)
_NAME_NOT_RESOLVED = const(301)
_CONNECT_TIMEOUT = const(302)


def offered() -> bool:
    """Whether this MicroPython has what DatagramSocket takes."""
    return _context(b"?", b"?") is not None


class DatagramSocket:
    """Connected to one peer, who is who he says because he has the key too."""

    payload_max = 1152  # bytes: RFC 7252's bound for a message whose path is not known

    def __init__(
        self,
        host: str,
        number: int,
        identity: bytes,
        key: "Secret",
        idle: "Callable[[], None] | None" = None,
    ) -> None:
        """Nothing is sent yet: the first `sendto` is the handshake as well. `idle()` is called at
        least once a second while that or a `recvfrom` waits.

        Raises SetupError: this MicroPython cannot. Raises WeatherError: no such name.
        """
        context = _context(identity, key.reveal())
        if context is None:
            raise SetupError(_MODEM_UNSUPPORTED, "no DTLS with PSK in this MicroPython")
        try:
            address = socket.getaddrinfo(host, number, 0, socket.SOCK_DGRAM)[0][-1]
        except OSError as error:
            raise WeatherError(_NAME_NOT_RESOLVED, host, error.args[0])
        self._address = (host, number)
        self._plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._plain.connect(address)
            self._plain.setblocking(False)
            self._sock = context.wrap_socket(self._plain, do_handshake_on_connect=False)
        except Exception:
            self._plain.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)
        self._idle = idle
        self._timeout_ms = _BLOCKING_MS
        self._established = False
        self._alive = True

    def sendto(self, data: bytes, address: "tuple | None" = None) -> int:
        """Send one datagram; its length. OSError(EINVAL): another address than the peer's, or
        more than `payload_max` bytes. The first one raises WeatherError: no session."""
        self._check()
        if len(data) > self.payload_max or (address and tuple(address) != self._address):
            raise OSError(errno.EINVAL, "EINVAL")
        deadline = port.ticks_add(port.ticks_ms(), _HANDSHAKE_MS)
        while True:
            try:
                sent = self._sock.send(data)
            except (OSError, ValueError) as error:
                if error.args[0] != errno.EAGAIN:
                    self._alive = False
                    if not self._established:
                        raise explain(error)
                    raise OSError(errno.ENOTCONN, "ENOTCONN")
                sent = None
            if sent:
                self._established = True
                return sent
            if self._established:
                raise OSError(errno.EAGAIN, "EAGAIN")  # no room now; CoAP sends again
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                self._alive = False
                raise WeatherError(_CONNECT_TIMEOUT, self._address[0])
            self._wait(left_ms)

    def send(self, data: bytes) -> int:
        return self.sendto(data)

    def recvfrom(self, limit: int) -> tuple:
        """(datagram, address of the peer); of a longer one the first `limit` bytes.

        OSError(EAGAIN), or with a timeout OSError(ETIMEDOUT): nothing has come.
        OSError(ENOTCONN): the session is gone; make a new socket.
        """
        deadline = port.ticks_add(port.ticks_ms(), self._timeout_ms)
        while True:
            self._check()
            data = self._take()
            if data:
                return data[:limit], self._address
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                if self._timeout_ms:
                    raise OSError(errno.ETIMEDOUT, "ETIMEDOUT")
                raise OSError(errno.EAGAIN, "EAGAIN")
            self._wait(left_ms)

    def recv(self, limit: int) -> bytes:
        return self.recvfrom(limit)[0]

    def setblocking(self, flag: bool) -> None:
        """True waits up to a minute; False not at all."""
        self._timeout_ms = _BLOCKING_MS if flag else 0

    def settimeout(self, seconds: "float | None") -> None:
        """For recvfrom. None as setblocking(True)."""
        self._timeout_ms = _BLOCKING_MS if seconds is None else int(seconds * 1000)

    def close(self) -> None:
        """Tell the peer; twice is no error."""
        self._alive = False
        for sock in (self._sock, self._plain):
            try:
                sock.close()
            except OSError:
                pass  # gone already, which is what was wanted

    def _take(self) -> "bytes | None":
        if not self._established:
            return None  # reading would begin the handshake, and nobody asked for it
        try:
            # A whole record: what is not taken of one would pass for the next datagram.
            data = self._sock.recv(_DATAGRAM_MAX)
        except (OSError, ValueError) as error:
            if error.args[0] == errno.EAGAIN:
                return None
            data = b""
        if data == b"":
            self._alive = False
            self._check()
        return data

    def _wait(self, ms: int) -> None:
        if self._idle:
            self._idle()
        self._poll.poll(min(ms, _SLICE_MS))

    def _check(self) -> None:
        if not self._alive:
            raise OSError(errno.ENOTCONN, "ENOTCONN")


def _context(identity: bytes, key: bytes) -> "Any":
    # None: it cannot be. With a key set, MicroPython offers suites with a pre-shared key only, so
    # there is no certificate, and nothing to verify one against.
    try:
        context: "Any" = tls.SSLContext(tls.PROTOCOL_DTLS_CLIENT)
        context.psk_identity = identity
        context.psk_key = key
    except AttributeError:
        return None
    return context
