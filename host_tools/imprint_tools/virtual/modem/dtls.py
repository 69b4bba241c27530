"""A DTLS 1.2 client with a pre-shared key, sans I/O, by Mbed TLS; retransmission is its own."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from imprint_tools.mbedtls import (
    ClientContext,
    DTLSConfiguration,
    DTLSVersion,
    HandshakeStep,
    TLSError,
    WantReadError,
    WantWriteError,
)
from imprint_tools.secret import Secret

PSK_CCM_8, PSK_CBC_SHA256 = 0xC0A8, 0x00AE
SUITES = {
    PSK_CCM_8: "TLS-PSK-WITH-AES-128-CCM-8",
    PSK_CBC_SHA256: "TLS-PSK-WITH-AES-128-CBC-SHA256",
    0x00AF: "TLS-PSK-WITH-AES-256-CBC-SHA384",
    0x008C: "TLS-PSK-WITH-AES-128-CBC-SHA",
    0x008D: "TLS-PSK-WITH-AES-256-CBC-SHA",
    0x00A8: "TLS-PSK-WITH-AES-128-GCM-SHA256",
    0x00A9: "TLS-PSK-WITH-AES-256-GCM-SHA384",
}
"""Those that the modems name, by their numbers at IANA."""
AEAD = frozenset({PSK_CCM_8, 0x00A8, 0x00A9})

_OVER = HandshakeStep["HANDSHAKE_OVER"]  # as a name its type is int, says the stub
_NUMBERS = {name: number for number, name in SUITES.items()}
_CHUNK = 65536


class State(Enum):
    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"
    """By an alert of the server's, or ours."""


class Dtls:
    """One session. What is to be sent is what each method returns: datagrams, often none."""

    def __init__(
        self,
        identity: str,
        key: Secret,
        suites: Sequence[int],
        *,
        retransmit_s: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        """`retransmit_s`: RFC 6347's timer, its start and its ceiling.

        Raises ValueError: Mbed TLS does not take the key, which must have 1 to 32 bytes.
        """
        configuration = DTLSConfiguration(
            validate_certificates=False,
            ciphers=tuple(SUITES[suite] for suite in suites if suite in SUITES),
            pre_shared_key=(identity, key.reveal()),
            lowest_supported_version=DTLSVersion.DTLSv1_2,
            handshake_timeout_min=retransmit_s[0],
            handshake_timeout_max=retransmit_s[1],
        )
        try:
            self._tls = ClientContext(configuration).wrap_buffers(None)
        except TLSError:
            raise ValueError("not a key for Mbed TLS") from None
        self.state = State.HANDSHAKE
        self.received: list[bytes] = []
        """Payloads that came; the owner takes them away."""

    @property
    def suite(self) -> int:
        """What the server chose; 0 before it did."""
        return _NUMBERS.get(str(self._tls.cipher() or ""), 0)

    def step(self) -> list[bytes]:
        """Go on with the handshake, or retransmit: to be called at times until it is over."""
        sent: list[bytes] = []
        while self.state is State.HANDSHAKE:
            try:
                self._tls.do_handshake()
            except WantReadError:
                sent += self._outgoing()
                break
            except WantWriteError:
                sent += self._outgoing()
            except TLSError:
                sent += self._outgoing()
                self.state = State.CLOSED
            else:
                sent += self._outgoing()
            if self._tls._handshake_state is _OVER:
                self.state = State.OPEN
        return sent

    def receive(self, datagram: bytes) -> list[bytes]:
        """A datagram came. Junk and replays are dropped, as the RFC wants it."""
        if self.state is State.CLOSED:
            return []
        self._tls.receive_from_network(datagram)
        sent = self.step() if self.state is State.HANDSHAKE else []
        while self.state is State.OPEN:
            try:
                data = self._tls.read(_CHUNK)
            except (WantReadError, WantWriteError):
                break
            except TLSError:
                self.state = State.CLOSED
                break
            if not data:
                break
            self.received.append(data)
        return sent + self._outgoing()

    def write(self, data: bytes) -> list[bytes]:
        """Seal a payload; the session must be open."""
        self._tls.write(data)
        return self._outgoing()

    def close(self) -> list[bytes]:
        """close_notify, where there is somebody to notify."""
        before, self.state = self.state, State.CLOSED
        if before is not State.OPEN:
            return []
        self._tls.shutdown()
        return self._outgoing()

    def _outgoing(self) -> list[bytes]:
        data = self._tls.peek_outgoing(_CHUNK)
        self._tls.consume_outgoing(len(data))
        return [data] if data else []
