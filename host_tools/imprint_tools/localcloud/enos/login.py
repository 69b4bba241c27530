"""How EnOS knows a device over MQTT: the grammar of a login, and the signatures. Pure.

    clientId  {CID}|securemode={2|3},signmethod={method},timestamp={T}|
    username  {deviceKey}&{productKey}
    sign      hex(HASH(names and values in the order of the names, then the secret))

A plain digest, although the names of half of the methods begin with "hmac". The names signed are
clientId, deviceKey, productKey and timestamp, here and for the sub-devices of a gateway. The
vendor's SDKs send both cases of digits, so both are taken.

Sources: the vendor's document on logging in without an SDK, and its SDKs for Java, Python, C.

Invariant: any text gives a result or a Refusal; never another exception.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

STATIC, DYNAMIC = "2", "3"
"""Secure modes: one device one secret; one product one secret."""

_METHODS: Mapping[str, Callable[[bytes], Any]] = {
    name: digest
    for digest, names in (
        (hashlib.sha256, ("sha256", "hmacsha256")),
        (hashlib.sha1, ("sha1", "hmacsha1")),
        (hashlib.md5, ("md5", "hmacmd5")),
    )
    for name in names
}
CLIENT_ID_MAX = 64
"""Characters; what the Java SDK appends in braces does not count, which is inferred."""
_SIGNED = ("clientId", "deviceKey", "productKey", "timestamp")


@dataclass(frozen=True)
class Login:
    """What a CONNECT says of itself."""

    product_key: str
    device_key: str
    client_id: str
    secure_mode: str
    method: str
    timestamp: str

    def signed_by(self, secret: Secret, password: Secret) -> bool:
        """Refuses "sign-method-unknown"."""
        values = (self.client_id, self.device_key, self.product_key, self.timestamp)
        return signed_by(self.method, dict(zip(_SIGNED, values, strict=True)), secret, password)


def parse(client_id: str, username: str) -> Login:
    """Read a login. Refuses "client-id-malformed", "username-malformed", "secure-mode-unknown"."""
    parts = client_id.split("|")
    if len(parts) != 3 or parts[2]:
        raise Refusal("client-id-malformed")
    own = parts[0]
    if not 1 <= len(own.partition("{")[0]) <= CLIENT_ID_MAX:
        raise Refusal("client-id-malformed")
    pairs: dict[str, str] = {}
    for pair in parts[1].split(","):
        name, equals, value = pair.partition("=")
        if not equals or not value or name in pairs:
            raise Refusal("client-id-malformed")
        pairs[name] = value
    if not {"securemode", "signmethod", "timestamp"} <= pairs.keys():
        raise Refusal("client-id-malformed")
    device_key, separator, product_key = username.partition("&")
    if not device_key or not separator or not product_key or "&" in product_key:
        raise Refusal("username-malformed")
    if pairs["securemode"] not in (STATIC, DYNAMIC):
        raise Refusal("secure-mode-unknown")
    return Login(
        product_key, device_key, own, pairs["securemode"], pairs["signmethod"], pairs["timestamp"]
    )


def signature(method: str, fields: Mapping[str, str], secret: Secret) -> str:
    """Upper-case hex. Refuses "sign-method-unknown"; its case does not matter, for the documents
    write hmacSha1 as well."""
    try:
        digest = _METHODS[method.lower()]
    except KeyError:
        raise Refusal("sign-method-unknown") from None
    content = "".join(name + fields[name] for name in sorted(fields))
    # A lone surrogate cannot come over MQTT, but this function takes any text.
    message = content.encode("utf-8", "surrogatepass") + secret.reveal()
    return str(digest(message).hexdigest()).upper()


def signed_by(method: str, fields: Mapping[str, str], secret: Secret, sign: Secret) -> bool:
    """Is `sign` that signature, in either case?"""
    expected = signature(method, fields, secret).encode()
    return hmac.compare_digest(expected, sign.reveal().upper())


def subdevice_signed_by(
    shared: Mapping[str, str], product_key: str, device_key: str, secret: Secret, sign: str
) -> bool:
    """The same for a sub-device; `shared` has clientId, timestamp and signMethod."""
    fields = {
        "clientId": shared["clientId"],
        "timestamp": shared["timestamp"],
        "productKey": product_key,
        "deviceKey": device_key,
    }
    given = Secret(sign.encode("utf-8", "surrogatepass"))
    return signed_by(shared["signMethod"], fields, secret, given)
