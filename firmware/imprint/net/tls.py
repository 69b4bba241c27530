"""TLS as a client, and what its refusals mean.

A server is always verified: its chain against the burned root CA, its name against the one that
we dialled, its dates against our clock. There is no switch.
"""

import tls

from imprint.errors import (
    CertificateDateWrong,
    ConnectionLost,
    HandshakeFailed,
    IdentityDamaged,
    IssuerUntrusted,
    ServerNameWrong,
)

# What mbedtls_x509_crt_verify_info() says (mbedTLS 2.28 and 3.6, library/x509_crt.c).
_REASONS = (
    ("validity has expired", CertificateDateWrong),
    ("validity starts in the future", CertificateDateWrong),
    ("does not match with the expected CN", ServerNameWrong),
    ("not correctly signed by the trusted CA", IssuerUntrusted),
)


def client(sock, host: str, root_ca: bytes):
    """Wrap a connected non-blocking socket; the handshake is done by its first write.

    Raises IdentityDamaged when `root_ca` (DER) is no certificate.
    """
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    try:
        context.load_verify_locations(root_ca)
    except ValueError:
        raise IdentityDamaged("root_ca is no certificate")
    return context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)


def explain(error: Exception) -> Exception:
    """Our error for what a handshake raised: ValueError with mbedTLS's reasons, a line each, or
    OSError with its number."""
    reason = str(error.args[0]) if error.args else ""
    if isinstance(error, ValueError):
        for text, kind in _REASONS:
            if text in reason:
                return kind(reason.split("\n")[0])
        return HandshakeFailed(reason[:80])
    number = error.args[0] if error.args else 0
    if -256 < number < 256:  # a socket's errno, not mbedTLS's number
        return ConnectionLost("in the TLS handshake", number)
    return HandshakeFailed(str(error.args[-1]), number)
