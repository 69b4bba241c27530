"""`tls` for running the firmware on CPython: `ssl` under MicroPython's names and manners.

Non-blocking: what cannot be done now returns None. A certificate that is refused raises
ValueError with mbedTLS's words, as the board does.
"""

import socket
import ssl

PROTOCOL_TLS_CLIENT = 0
CERT_REQUIRED = 2

# OpenSSL's X509_V_ERR_* -> what mbedtls_x509_crt_verify_info() says.
_WORDS = {
    9: "The certificate validity starts in the future",
    10: "The certificate validity has expired",
    62: "The certificate Common Name (CN) does not match with the expected CN",
    64: "The certificate Common Name (CN) does not match with the expected CN",
}
_UNTRUSTED = "The certificate is not correctly signed by the trusted CA"


class SSLContext:
    def __init__(self, protocol: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.verify_mode = CERT_REQUIRED

    def load_verify_locations(self, cadata: bytes) -> None:
        try:
            self._context.load_verify_locations(cadata=cadata)
        except ssl.SSLError:
            raise ValueError("invalid cert") from None

    def wrap_socket(
        self, sock: socket.socket, server_hostname: str, do_handshake_on_connect: bool
    ) -> "SSLSocket":
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
