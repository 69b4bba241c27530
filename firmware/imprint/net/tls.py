"""TLS as a client, and what its refusals mean.

A server is always verified: its chain against the burned root CA, its name against the one that
we dialled, its dates against our clock, its use against what we want of it. There is no switch.
"""

import tls
from micropython import const

from imprint.errors import ImprintError, ProtocolError, SetupError, WeatherError

# errors.py
_IDENTITY_DAMAGED = const(102)
_CONNECTION_LOST = const(304)
_CERTIFICATE_DATE_WRONG = const(310)
_SERVER_NAME_WRONG = const(311)
_ISSUER_UNTRUSTED = const(312)
_HANDSHAKE_FAILED = const(313)
_CERTIFICATE_UNFIT = const(314)

# What mbedtls_x509_crt_verify_info() says (mbedTLS 2.28 and 3.6, library/x509_crt.c).
_REASONS = (
    ("validity has expired", _CERTIFICATE_DATE_WRONG),
    ("validity starts in the future", _CERTIFICATE_DATE_WRONG),
    ("does not match with the expected CN", _SERVER_NAME_WRONG),
    ("not correctly signed by the trusted CA", _ISSUER_UNTRUSTED),
    ("unacceptable", _CERTIFICATE_UNFIT),  # key or hash
    ("Usage does not match", _CERTIFICATE_UNFIT),
)
# A certificate of the wrong usage, where mbedTLS 3.6 does not put it into words.
_BAD_CERTIFICATE = const(-0x7A00)
_SAN_OID = b"\x06\x03\x55\x1d\x11"  # id-ce-subjectAltName in DER, RFC 5280 4.2.1.6


def context(
    root_ca: bytes, certificate: "bytes | None" = None, key: "bytes | None" = None
) -> "tls.SSLContext":
    """What all connections to servers below `root_ca` share; with `certificate` and its `key` we
    can prove who we are. All in DER; a certificate with its issuers, to be sent with it, in PEM:
    of several in DER mbedTLS takes the first.

    It takes 2 kB in one piece, so make it once, and early. Raises SetupError when one of them is
    not what it should be.
    """
    made = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    made.verify_mode = tls.CERT_REQUIRED  # type: ignore[attr-defined]  # the stubs lack it
    made.verify_callback = _refuse_unnamed  # type: ignore[attr-defined]  # likewise
    try:
        made.load_verify_locations(root_ca)
    except ValueError:
        raise SetupError(_IDENTITY_DAMAGED, "root_ca is no certificate")
    if certificate:
        try:
            made.load_cert_chain(certificate, key)
        except ValueError:
            raise SetupError(_IDENTITY_DAMAGED, "client_cert or client_key cannot be used")
    return made


def explain(error: Exception) -> ImprintError:
    """Our error for what a handshake raised: ValueError with mbedTLS's reasons, a line each, or
    OSError with its number."""
    if isinstance(error, ValueError):
        reason = str(error.args[0]).strip() if error.args else ""
        for text, code in _REASONS:
            if text in reason:
                return ProtocolError(code, reason.split("\n")[0])
        return WeatherError(_HANDSHAKE_FAILED, reason[:80])
    number = error.args[0] if error.args else 0
    if -256 < number < 256:  # a socket's errno, not mbedTLS's number
        return WeatherError(_CONNECTION_LOST, "in the TLS handshake", number)
    if number == -_SERVER_NAME_WRONG:
        return ProtocolError(_SERVER_NAME_WRONG, "no subjectAltName")
    if number == _BAD_CERTIFICATE:
        return ProtocolError(_CERTIFICATE_UNFIT, "key usage")
    return WeatherError(_HANDSHAKE_FAILED, str(error.args[-1]), number)


def _refuse_unnamed(certificate, depth: int) -> int:
    """What mbedTLS asks of us at each certificate of a chain; anything but 0 ends the handshake.

    Where there is no subjectAltName mbedTLS compares the common name instead, which RFC 9525 2
    forbids. Byte by byte, since a copy of the certificate would cost 1 kB just when heap is short.
    """
    if depth:
        return 0
    for at in range(len(certificate) - len(_SAN_OID)):
        if certificate[at] == 6 and bytes(certificate[at : at + len(_SAN_OID)]) == _SAN_OID:
            return 0
    return -_SERVER_NAME_WRONG
