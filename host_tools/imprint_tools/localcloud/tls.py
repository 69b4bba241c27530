"""TLS for a server that asks for a client certificate and judges it only later.

Clouds take any certificate in the handshake, where its key is proven, and compare it with what
they have enrolled when they know who it is that speaks. The standard library knows trust anchors
alone, so these connections are pyOpenSSL's, dressed as an asyncio transport.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from OpenSSL import SSL

_CHUNK = 64 * 1024

# No RSA-PSS: an mbedTLS 3.6 with TLS 1.3 offers it and cannot check it in 1.2.
_SIGNATURES = b"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512"


def asking_context(chain: Path, key: Path) -> SSL.Context:
    """A server's context, TLS 1.2 alone, that asks for a certificate and takes any or none."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_chain_file(str(chain))
    context.use_privatekey_file(str(key))
    # pyOpenSSL has no method for it, though it has the function.
    SSL._lib.SSL_CTX_set1_sigalgs_list(context._context, _SIGNATURES)  # type: ignore[attr-defined]
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    # A resumed session would bring no certificate.
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


class TlsServer(asyncio.Protocol):
    """One connection: TLS below, an application's protocol above.

    Await `handshake()` once the connection is made; then `server_name` and `chain` (the client's
    certificates, its own first) are known and `transport` is what the application writes to.
    """

    transport: TlsTransport

    def __init__(self, context: SSL.Context, application: asyncio.Protocol) -> None:
        self._connection = SSL.Connection(context, None)
        self._connection.set_accept_state()
        self._application = application
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = False
        self._raw: asyncio.Transport | None = None

    async def handshake(self, timeout_s: float) -> None:
        """Wait for the handshake's end. Raises ssl.SSLError, OSError, TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self._ready

    @property
    def server_name(self) -> str | None:
        name = self._connection.get_servername()
        return None if name is None else name.decode("ascii", "replace")

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Raises ssl.SSLError for what OpenSSL takes for a certificate and nobody else."""
        try:
            own = self._connection.get_peer_certificate(as_cryptography=True)
            # To a server OpenSSL tells only what came beside the client's own.
            above = self._connection.get_peer_cert_chain(as_cryptography=True) or []
            chain = () if own is None else (own, *(one for one in above if one != own))
            for certificate in chain:
                check_readable(certificate)
        except (ValueError, x509.InvalidVersion):
            raise _error("certificate unreadable") from None
        return chain

    # -- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        self.transport = TlsTransport(self, self._raw)
        self._application.connection_made(self.transport)

    def data_received(self, data: bytes) -> None:
        self._connection.bio_write(data)
        try:
            if not self._ready.done():
                self._connection.do_handshake()
                self._ready.set_result(None)
            while not self._ended:
                self._application.data_received(self._connection.recv(_CHUNK))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._end()
        except SSL.Error as error:
            self._fail(_failure(error))
        finally:
            self.flush()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("closed in the handshake"))
        self._application.connection_lost(exc)

    def pause_writing(self) -> None:
        self._application.pause_writing()

    def resume_writing(self) -> None:
        self._application.resume_writing()

    # -- the way down --------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except SSL.Error as error:
            self._fail(_failure(error))
        else:
            self.flush()

    def say_goodbye(self) -> None:
        """Send close_notify, where there is anybody to tell."""
        if self._ready.done() and not self._ready.cancelled() and not self._ready.exception():
            try:
                self._connection.shutdown()
            except SSL.Error:
                pass  # the peer was faster, or broken
            self.flush()

    def flush(self) -> None:
        while self._raw is not None and not self._raw.is_closing():
            try:
                self._raw.write(self._connection.bio_read(_CHUNK))
            except SSL.WantReadError:
                return

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._application.eof_received()

    def _fail(self, error: Exception) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # whoever waited may be gone
        self._ended = True
        if self._raw is not None:
            self.flush()
            self._raw.close()


class TlsTransport(asyncio.Transport):
    """What an application writes to in place of a socket's transport."""

    def __init__(self, server: TlsServer, raw: asyncio.Transport) -> None:
        super().__init__()
        self._server = server
        self._raw = raw

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._server.write(bytes(data))

    def close(self) -> None:
        if not self._raw.is_closing():
            self._server.say_goodbye()
            self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()


def check_readable(certificate: x509.Certificate) -> None:
    """Read what is otherwise read when it is first asked for. Raises ValueError."""
    try:
        _ = certificate.subject, certificate.issuer, certificate.extensions
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from None


def _failure(error: SSL.Error) -> ssl.SSLError:
    reasons = error.args[0] if error.args else None
    return _error(str(reasons[0][-1]) if reasons else "closed without a word")


def _error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "TLS failed")
    error.reason = reason
    return error
