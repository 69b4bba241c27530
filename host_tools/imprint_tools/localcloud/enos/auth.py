"""How EnOS knows a device over CoAP and DTLS: the PSK identity, and the key to it. Pure.

    identity  {productKey},{deviceKey},{secureMode},{lifetime}
    key       bytes 9 to 24, counted from 1, of SHA-256(secret)
    secret    secureMode 2: the device's; 3: the product's. As UTF-8, which is inferred.

Source: the vendor's document "CoAP DTLS", editions 2.1 to 2.4.

Invariant: any text gives an identity or a Refusal; never another exception.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

STATIC, DYNAMIC = 2, 3
"""Secure modes: one device one secret; one product one secret."""

LIFETIME_S = (30, 86400)
_LIFETIME_DIGITS_MAX = 5
_NAME_MAX = 64
_NAME_EXCLUDED = frozenset(",/|&#+\\\"' ")


@dataclass(frozen=True)
class PskIdentity:
    product_key: str
    device_key: str
    secure_mode: int
    lifetime_s: int


def parse_identity(text: str) -> PskIdentity:
    """Read a PSK identity. Refuses "identity-malformed", "secure-mode-unknown",
    "lifetime-outside"."""
    parts = text.split(",")
    if len(parts) != 4 or not all(map(valid_name, parts[:2])):
        raise Refusal("identity-malformed")
    product_key, device_key, mode, lifetime = parts
    if mode not in ("2", "3"):
        raise Refusal("secure-mode-unknown")
    digits = lifetime.isascii() and lifetime.isdigit() and len(lifetime) <= _LIFETIME_DIGITS_MAX
    if not digits or not LIFETIME_S[0] <= int(lifetime) <= LIFETIME_S[1]:
        raise Refusal("lifetime-outside")
    return PskIdentity(product_key, device_key, int(mode), int(lifetime))


def psk(secret: Secret) -> Secret:
    """The key that a secret gives."""
    return Secret(hashlib.sha256(secret.reveal()).digest()[8:24])


def valid_name(name: str) -> bool:
    """May a product key or a device key be that? Visible ASCII that separates nothing in an
    identity or a path, 64 at most (the C SDK's buffer)."""
    return (
        1 <= len(name) <= _NAME_MAX
        and name.isascii()
        and name.isprintable()
        and not _NAME_EXCLUDED & set(name)
    )
