"""Shared access signatures of Azure IoT: the token that proves a symmetric key. Pure.

    SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]

What is signed is the percent-encoded resource, a newline, and the expiry in seconds since 1970.
A token is made for each connection, so this leaves the memory after it. Source: the vendor's
Python SDK 2.14.0, whose form of the encoding this is.
"""

import binascii

from micropython import const

from imprint import sign
from imprint.errors import SetupError
from imprint.secret import Secret
from imprint.wire.percent import quote

_KEY_LEAST = const(16)  # bytes, as the vendor's documents have it
_KEY_MOST = const(64)

_IDENTITY_ERROR = const(103)  # errors.py


def token(resource: str, key: Secret, expires_s: int, policy: str = "") -> Secret:
    """The token for `resource` under `key` (base64), good until `expires_s` (seconds since 1970).

    Raises SetupError: the key is not 16 to 64 bytes in base64.
    """
    scope = quote(resource)
    text = "%s\n%d" % (scope, expires_s)
    signature = binascii.b2a_base64(sign.hmac("hmacsha256", unpack(key), text.encode()))
    made = "SharedAccessSignature sr=%s&sig=%s&se=%d" % (
        scope,
        quote(signature.decode().strip()),
        expires_s,
    )
    return Secret(made + "&skn=" + policy if policy else made)


def unpack(key: Secret) -> bytes:
    """The key's own bytes. Raises SetupError: it is not 16 to 64 bytes in base64."""
    text = key.reveal()
    raw = b""
    try:
        raw = binascii.a2b_base64(text)
    except ValueError:
        pass
    # MicroPython and CPython forgive different things: what does not come back is not base64.
    whole = binascii.b2a_base64(raw).strip() == text
    if not whole or not _KEY_LEAST <= len(raw) <= _KEY_MOST:
        raise SetupError(_IDENTITY_ERROR, "the key is not 16 to 64 bytes in base64")
    return raw
