"""Mbed TLS's DTLS for the host, by python-mbedtls; the names that imprint uses of it.

It has wheels for CPython up to 3.12 (as of 2.10). Elsewhere all that needs no DTLS works, and what
does says so, by RuntimeMissingError at this module's import.
"""

from __future__ import annotations

from imprint_tools.errors import RuntimeMissingError

try:
    from mbedtls.exceptions import TLSError
    from mbedtls.tls import (
        ClientContext,
        DTLSConfiguration,
        DTLSVersion,
        HandshakeStep,
        HelloVerifyRequest,
        ServerContext,
        TLSWrappedBuffer,
        WantReadError,
        WantWriteError,
    )
except ImportError:
    raise RuntimeMissingError(
        "DTLS on the host needs the package python-mbedtls, which is not installed",
        next_step="It has builds for CPython 3.11 and 3.12: make setup PYTHON=python3.12",
    ) from None

__all__ = [
    "ClientContext",
    "DTLSConfiguration",
    "DTLSVersion",
    "HandshakeStep",
    "HelloVerifyRequest",
    "ServerContext",
    "TLSError",
    "TLSWrappedBuffer",
    "WantReadError",
    "WantWriteError",
]
