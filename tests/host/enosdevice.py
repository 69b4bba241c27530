"""A device for tests of the local EnOS: DTLS by Mbed TLS, CoAP's bytes by the codec.

Not the firmware's client: it sends what it is told to, once, and shows what comes.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from imprint_tools.localcloud.coap_codec import Kind, Message, dump, parse
from imprint_tools.localcloud.enos.auth import psk
from imprint_tools.localcloud.enos.cloud import EnosCloud
from imprint_tools.secret import Secret
from mbedtls.exceptions import TLSError
from mbedtls.tls import (
    ClientContext,
    DTLSConfiguration,
    DTLSVersion,
    HandshakeStep,
    WantReadError,
    WantWriteError,
)

GET, POST, PUT = 1, 2, 3
CCM_8, CBC_SHA256 = "TLS-PSK-WITH-AES-128-CCM-8", "TLS-PSK-WITH-AES-128-CBC-SHA256"
URI_PATH = 11
WAIT_S = 10.0
_RETRANSMIT_S = 0.1
_OVER = HandshakeStep["HANDSHAKE_OVER"]


class RefusedError(Exception):
    """The handshake failed."""


class EnosDevice:
    """One socket, one session."""

    def __init__(
        self,
        port: int,
        identity: str,
        secret: Secret,
        *,
        suites: tuple[str, ...] = (CCM_8, CBC_SHA256),
        sock: socket.socket | None = None,
    ) -> None:
        self.sock = sock or socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(("127.0.0.1", port))
        configuration = DTLSConfiguration(
            validate_certificates=False,
            ciphers=suites,
            pre_shared_key=(identity, psk(secret).reveal()),
            lowest_supported_version=DTLSVersion.DTLSv1_2,
            handshake_timeout_min=_RETRANSMIT_S,
        )
        self.tls = ClientContext(configuration).wrap_buffers(None)
        self.message_id = 100
        self.sent: list[int] = []
        self.received: list[int] = []
        """Bytes of each datagram."""

    def __enter__(self) -> EnosDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @property
    def address(self) -> list[Any]:
        return list(self.sock.getsockname())

    def handshake(self, within_s: float = WAIT_S) -> EnosDevice:
        """Raises RefusedError, or TimeoutError when no answer comes; the socket is closed then."""
        until = time.monotonic() + within_s
        self.sock.settimeout(_RETRANSMIT_S)
        try:
            while self.tls._handshake_state is not _OVER:
                self._step(until)
        except TLSError as error:
            self.sock.close()
            raise RefusedError(str(error)) from None
        except TimeoutError:
            self.sock.close()
            raise
        self.sock.settimeout(WAIT_S)
        self.flush()
        return self

    def _step(self, until: float) -> None:
        try:
            self.tls.do_handshake()
        except WantWriteError:
            self.flush()
        except WantReadError:
            self.flush()
            try:
                self.tls.receive_from_network(self.datagram())
            except TimeoutError:
                if time.monotonic() > until:
                    raise

    def flush(self) -> None:
        data = self.tls.peek_outgoing(65536)
        if data:
            self.tls.consume_outgoing(len(data))
            self.sent.append(len(data))
            self.sock.send(data)

    def datagram(self) -> bytes:
        data = self.sock.recv(4096)
        self.received.append(len(data))
        return data

    def send(self, payload: bytes) -> None:
        """Any bytes, as one record."""
        self.tls.write(payload)
        self.flush()

    def receive(self) -> bytes:
        """The next record's bytes."""
        plain = bytearray(16384)
        while True:
            self.tls.receive_from_network(self.datagram())
            try:
                return bytes(plain[: self.tls.readinto(plain, len(plain))])  # type: ignore[arg-type]
            except WantReadError:
                continue

    def nothing_comes(self, within_s: float = 0.3) -> bool:
        """Whether the server stays silent for that long."""
        self.sock.settimeout(within_s)
        try:
            self.sock.recv(4096)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(WAIT_S)
        return False

    def request(
        self,
        method: int,
        path: str,
        payload: bytes = b"",
        *,
        options: tuple[tuple[int, bytes], ...] = (),
        token: bytes = b"\x01\x02",
        kind: Kind = Kind.CON,
    ) -> Message:
        """Send a request and wait for what comes."""
        self.message_id += 1
        segments = tuple((URI_PATH, part.encode()) for part in path.strip("/").split("/"))
        ordered = tuple(sorted((*segments, *options), key=lambda option: option[0]))
        self.send(dump(Message(kind, method, self.message_id, token, ordered, payload)))
        return parse(self.receive())


def device(
    cloud: EnosCloud, pk: str, dk: str, *, mode: int = 2, lifetime: int = 3600, **options: Any
) -> EnosDevice:
    """A device with the right key, not yet connected."""
    secret = cloud.device_secret(pk, dk) if mode == 2 else cloud.product_secret(pk)
    return EnosDevice(cloud.port, f"{pk},{dk},{mode},{lifetime}", secret, **options)


def envelope(params: Any, message_id: str = "1") -> bytes:
    """A request's payload."""
    return json.dumps(
        {"id": message_id, "version": "1.0", "method": "m", "params": params}
    ).encode()
