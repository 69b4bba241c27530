"""`tls` for running the firmware on CPython: `ssl` under MicroPython's names and manners.

Non-blocking: what cannot be done now returns None. A certificate that is refused raises
ValueError with mbedTLS's words, as the board does. DTLS is with a pre-shared key only and Mbed
TLS's, as python-mbedtls brings it.
"""

import errno
import socket
import ssl
from typing import Any

PROTOCOL_TLS_CLIENT = 0
PROTOCOL_DTLS_CLIENT = 2
CERT_REQUIRED = 2

# OpenSSL's X509_V_ERR_* -> what mbedtls_x509_crt_verify_info() says.
_WORDS = {
    9: "The certificate validity starts in the future",
    10: "The certificate validity has expired",
    26: "Usage does not match the extendedKeyUsage extension",
    62: "The certificate Common Name (CN) does not match with the expected CN",
    64: "The certificate Common Name (CN) does not match with the expected CN",
    66: "The certificate is signed with an unacceptable key (eg bad curve, RSA too short).",
}
_UNTRUSTED = "The certificate is not correctly signed by the trusted CA"


class SSLContext:
    psk_identity: bytes
    psk_key: bytes

    def __init__(self, protocol: int) -> None:
        self._dtls = protocol == PROTOCOL_DTLS_CLIENT
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The board's own verify_callback does what this does.
        self._context.hostname_checks_common_name = False
        self.verify_mode = CERT_REQUIRED

    def load_verify_locations(self, cadata: bytes) -> None:
        try:
            self._context.load_verify_locations(cadata=cadata)
        except ssl.SSLError:
            raise ValueError("invalid cert") from None

    def wrap_socket(
        self,
        sock: socket.socket,
        server_hostname: str | None = None,
        do_handshake_on_connect: bool = True,
    ) -> Any:
        if self._dtls:
            return DTLSSocket(sock, self.psk_identity, self.psk_key)
        wrapped = self._context.wrap_socket(
            sock, server_hostname=server_hostname, do_handshake_on_connect=do_handshake_on_connect
        )
        return SSLSocket(wrapped)


class SSLSocket:
    """Methods of MicroPython's; `fileno` so that `select.poll` takes it."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._shaken = False
        self.fileno = sock.fileno
        self.close = sock.close

    def write(self, data: memoryview) -> int | None:
        try:
            if not self._shaken:
                self._sock.do_handshake()
                self._shaken = True
            return self._sock.send(data)
        except ssl.SSLCertVerificationError as error:
            raise ValueError(_WORDS.get(error.verify_code, _UNTRUSTED)) from None
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def readinto(self, buffer: memoryview) -> int | None:
        try:
            return self._sock.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None


class DTLSSocket:
    """A DTLS client over a connected UDP socket that does not block."""

    def __init__(self, sock: socket.socket, identity: bytes, key: bytes) -> None:
        from imprint_tools.secret import Secret
        from imprint_tools.virtual.modem import dtls

        self._state = dtls.State
        suites = (dtls.PSK_CCM_8, dtls.PSK_CBC_SHA256)
        self._session = dtls.Dtls(identity.decode(), Secret(key), suites)
        self._sock = sock
        self.fileno = sock.fileno

    def send(self, data: bytes) -> int | None:
        self._take_in()
        if self._session.state is self._state.HANDSHAKE:
            self._put_out(self._session.step())
            return None
        if self._session.state is self._state.CLOSED:
            raise OSError(-0x7780, "MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE")
        self._put_out(self._session.write(bytes(data)))
        return len(data)

    def recv(self, _limit: int) -> bytes | None:
        self._take_in()
        if self._session.received:
            return self._session.received.pop(0)
        return b"" if self._session.state is self._state.CLOSED else None

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._put_out(self._session.close())
            self._sock.close()

    def _take_in(self) -> None:
        while True:
            try:
                datagram = self._sock.recv(65536)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue  # nobody listens there yet; the handshake's own timer goes on
            self._put_out(self._session.receive(datagram))

    def _put_out(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            try:
                self._sock.send(datagram)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ECONNREFUSED):
                    raise
