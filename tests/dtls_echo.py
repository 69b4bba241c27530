"""A DTLS server with pre-shared keys that sends back, reversed, whatever it gets. For tests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType

from mbedtls.exceptions import TLSError
from mbedtls.tls import (
    DTLSConfiguration,
    DTLSVersion,
    HandshakeStep,
    HelloVerifyRequest,
    ServerContext,
    TLSWrappedBuffer,
    WantReadError,
    WantWriteError,
)

CCM_8 = "TLS-PSK-WITH-AES-128-CCM-8"
CBC_SHA256 = "TLS-PSK-WITH-AES-128-CBC-SHA256"
BYE = b"bye"
"""What makes the server end the session with an alert."""


class DtlsEcho:
    """One UDP port for any number of peers. `peers` are the addresses that got through."""

    def __init__(
        self, keys: Mapping[str, bytes], suites: Sequence[str] = (CCM_8, CBC_SHA256)
    ) -> None:
        self.peers: list[tuple[str, int]] = []
        self.received: list[bytes] = []
        self._context = ServerContext(
            DTLSConfiguration(
                validate_certificates=False,
                ciphers=tuple(suites),
                pre_shared_key_store=dict(keys),
                lowest_supported_version=DTLSVersion.DTLSv1_2,
                handshake_timeout_min=0.1,
                handshake_timeout_max=1.0,
            )
        )
        self._sessions: dict[tuple[str, int], TLSWrappedBuffer] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.address: tuple[str, int] = self._socket.getsockname()
        self._over = threading.Event()
        self._joined = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> DtlsEcho:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def say(self, data: bytes) -> None:
        """Send to the peer that came last, unasked: its own end may be done a moment earlier."""
        with self._joined:
            if not self._joined.wait_for(lambda: self.peers, 10.0):
                raise TimeoutError("no peer got through")
        peer = self.peers[-1]
        self._sessions[peer].write(data)
        self._flush(peer, self._sessions[peer])

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                data, peer = self._socket.recvfrom(65536)
            except TimeoutError:
                for peer, session in list(self._sessions.items()):
                    self._go_on(peer, session)
                continue
            except OSError:
                continue  # an ICMP error of a peer that is gone
            known = self._sessions.get(peer)
            if known is None or (known in self._over_sessions() and _client_hello(data)):
                known = self._fresh(peer)
            known.receive_from_network(data)
            self._go_on(peer, known)

    def _over_sessions(self) -> list[TLSWrappedBuffer]:
        return [
            session
            for session in self._sessions.values()
            if session._handshake_state is HandshakeStep.HANDSHAKE_OVER
        ]

    def _fresh(self, peer: tuple[str, int]) -> TLSWrappedBuffer:
        session = self._sessions[peer] = self._context.wrap_buffers()
        session.setcookieparam(f"{peer[0]}:{peer[1]}".encode())
        return session

    def _go_on(self, peer: tuple[str, int], session: TLSWrappedBuffer) -> None:
        while session._handshake_state is not HandshakeStep.HANDSHAKE_OVER:
            try:
                session.do_handshake()
            except WantReadError:
                self._flush(peer, session)
                return
            except WantWriteError:
                pass
            except HelloVerifyRequest:
                self._flush(peer, session)
                self._fresh(peer)
                return
            except TLSError:
                self._flush(peer, session)
                self._sessions.pop(peer, None)
                return
            self._flush(peer, session)
            if session._handshake_state is HandshakeStep.HANDSHAKE_OVER:
                with self._joined:
                    self.peers.append(peer)
                    self._joined.notify_all()
        self._answer(peer, session)

    def _answer(self, peer: tuple[str, int], session: TLSWrappedBuffer) -> None:
        with suppress(WantReadError, WantWriteError):
            try:
                while data := session.read(65536):
                    self.received.append(data)
                    if data == BYE:
                        session.shutdown()
                        self._flush(peer, session)
                        del self._sessions[peer]
                        return
                    session.write(data[::-1])
                    self._flush(peer, session)
            except (WantReadError, WantWriteError):
                raise
            except TLSError:
                self._sessions.pop(peer, None)
        self._flush(peer, session)

    def _flush(self, peer: tuple[str, int], session: TLSWrappedBuffer) -> None:
        data = session.peek_outgoing(65536)
        session.consume_outgoing(len(data))
        if data:
            self._socket.sendto(data, peer)


def _client_hello(data: bytes) -> bool:
    """A handshake record of epoch 0: the peer begins anew from the same port."""
    return len(data) > 13 and data[0] == 22 and data[3:5] == b"\0\0" and data[13] == 1
