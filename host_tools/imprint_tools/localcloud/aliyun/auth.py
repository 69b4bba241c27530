"""How Alibaba Cloud's IoT Platform checks who connects: the grammar and the signatures. Pure.

    clientId  = {cid} "|" k=v {"," k=v} "|"
    username  = {deviceName} "&" {productKey}
    password  = hex(HMAC(secret, names and values in the alphabetical order of the names))

Sources: the platform's documents "MQTT-based dynamic registration" (132111) and "Establish MQTT
connections over TCP" (73742), and the C, Python and Node SDKs where those are silent.

Invariant: any text gives a result or a Refusal; never another exception. A refusal's reason is a
key of `aliyun_config.REFUSALS`, which gives the CONNACK.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

METHODS = {"hmacmd5": hashlib.md5, "hmacsha1": hashlib.sha1, "hmacsha256": hashlib.sha256}

REGNWL, REGISTER, CONNWL, SIGNED = "regnwl", "register", "connwl", "signed"
REGISTRATIONS = (REGNWL, REGISTER)

_CID_MAX = 64
_NAME_MIN, _NAME_MAX = 4, 32
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_@.:")


@dataclass(frozen=True)
class ClientId:
    """A parsed clientId: the part before the first pipe, and the extension pairs."""

    cid: str
    pairs: Mapping[str, str]

    @property
    def auth(self) -> str:
        """regnwl, register, connwl, or signed where no authType is named."""
        return self.pairs.get("authType", SIGNED)


def parse_client_id(text: str) -> ClientId:
    """Read a clientId. Refuses "client-id-malformed"."""
    parts = text.split("|")
    if len(parts) != 3 or parts[2] or not 1 <= len(parts[0]) <= _CID_MAX:
        raise Refusal("client-id-malformed")
    pairs: dict[str, str] = {}
    for pair in parts[1].split(","):
        name, equals, value = pair.partition("=")
        if not name or not equals or name in pairs:
            raise Refusal("client-id-malformed")
        pairs[name] = value
    if pairs.get("authType", REGNWL) not in (*REGISTRATIONS, CONNWL):
        raise Refusal("auth-type-unknown")
    return ClientId(parts[0], pairs)


def parse_username(text: str) -> tuple[str, str]:
    """Read a username: (deviceName, productKey). Refuses "username-malformed"."""
    device_name, separator, product_key = text.partition("&")
    if not device_name or not separator or not product_key or "&" in product_key:
        raise Refusal("username-malformed")
    return device_name, product_key


def valid_device_name(name: str) -> bool:
    """4 to 32 letters, digits and `-_@.:` (RegisterDevice)."""
    return _NAME_MIN <= len(name) <= _NAME_MAX and set(name) <= _NAME_CHARACTERS


def registration_content(device_name: str, product_key: str, random: str) -> str:
    """What a registration signs with the productSecret."""
    return f"deviceName{device_name}productKey{product_key}random{random}"


def login_content(cid: str, device_name: str, product_key: str, timestamp: str | None) -> str:
    """What a login signs with the deviceSecret; a timestamp only where the clientId has one."""
    content = f"clientId{cid}deviceName{device_name}productKey{product_key}"
    return content if timestamp is None else f"{content}timestamp{timestamp}"


def signature(method: str, key: Secret, content: str) -> str:
    """Lower-case hex. Refuses "sign-method-unknown"."""
    if method not in METHODS:
        raise Refusal("sign-method-unknown")
    # A lone surrogate cannot come over MQTT, but this function takes any text.
    message = content.encode("utf-8", "surrogatepass")
    return hmac.new(key.reveal(), message, METHODS[method]).hexdigest()


def signed_by(method: str, key: Secret, content: str, password: Secret) -> bool:
    """Is the password that signature? The case of its digits does not matter (73742)."""
    expected = signature(method, key, content).encode()
    return hmac.compare_digest(expected, password.reveal().lower())


def check_registration(
    client: ClientId, device_name: str, product_key: str, key: Secret, password: Secret
) -> None:
    """Refuses a registration that is not signed with the productSecret.

    `securemode`, `random` and `signmethod` must be there; both 2 and -2 are taken, since the
    vendor's documents and SDKs use both.
    """
    pairs = client.pairs
    if pairs.get("securemode") not in ("2", "-2"):
        raise Refusal("secure-mode-wrong")
    if not pairs.get("random") or not pairs.get("signmethod"):
        raise Refusal("parameter-missing")
    content = registration_content(device_name, product_key, pairs["random"])
    if not signed_by(pairs["signmethod"], key, content, password):
        raise Refusal("signature-wrong")


def check_login(
    client: ClientId, device_name: str, product_key: str, key: Secret, password: Secret
) -> None:
    """Refuses a login that is not signed with the deviceSecret.

    `signmethod` absent means hmacmd5, the documented default. No window is checked for the
    timestamp: the vendor's C SDK always sends the year 2050.
    """
    pairs = client.pairs
    content = login_content(client.cid, device_name, product_key, pairs.get("timestamp"))
    if not signed_by(pairs.get("signmethod", "hmacmd5"), key, content, password):
        raise Refusal("signature-wrong")
