"""HMAC and the text that is signed. Pure.

HMAC is RFC 2104 over hashlib: MicroPython has no `hmac`. The canonical text is the vendor's:
names in order, each followed by its value, nothing between them.
"""

import binascii
import hashlib

from micropython import const

_BLOCK = const(64)  # bytes; RFC 2104's B, the same for MD5, SHA-1 and SHA-256

# The vendors' names of the methods -> hashlib's.
HASHES = {"hmacmd5": "md5", "hmacsha1": "sha1", "hmacsha256": "sha256"}


def hmac(method: str, key: bytes, message: bytes) -> bytes:
    """The digest of `message` under `key`; `method` is one of HASHES."""
    new = getattr(hashlib, HASHES[method])
    if len(key) > _BLOCK:
        key = new(key).digest()
    # Once padded with zeros, the key is XORed with the two constants of RFC 2104.
    padded = bytearray(_BLOCK)
    padded[: len(key)] = key
    for i in range(_BLOCK):
        padded[i] ^= 0x36
    inner = new(padded)
    inner.update(message)
    for i in range(_BLOCK):
        padded[i] ^= 0x36 ^ 0x5C
    outer = new(padded)
    outer.update(inner.digest())
    return outer.digest()


def canonical(params: dict) -> bytes:
    """`params` (str -> str) as the text to sign."""
    return "".join([name + params[name] for name in sorted(params)]).encode()


def hex_hmac(method: str, key: bytes, params: dict) -> bytes:
    """The signature of `params` as lower-case hex, ready for the wire."""
    return binascii.hexlify(hmac(method, key, canonical(params)))
