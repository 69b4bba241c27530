"""Azure's shared access signatures and the keys behind them. Pure; the time is an argument."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

_PREFIX = "SharedAccessSignature "
_FIELDS = {"sr", "sig", "se", "skn"}
_KEY_BYTES = (16, 64)
_EXPIRY_DIGITS_MAX = 12


@dataclass(frozen=True)
class Token:
    """A token as it came. `resource` is decoded; `signed` is what its signature is over: the
    resource exactly as the token spells it, and the expiry."""

    resource: str
    expiry: int
    policy: str | None
    signed: bytes
    signature: bytes


def parse(text: str) -> Token:
    """Read a token, its fields in any order. Refuses "sas-malformed"."""
    if not text.startswith(_PREFIX):
        raise Refusal("sas-malformed")
    fields: dict[str, str] = {}
    for pair in text.removeprefix(_PREFIX).split("&"):
        name, equals, value = pair.partition("=")
        if not equals or name not in _FIELDS or name in fields:
            raise Refusal("sas-malformed")
        fields[name] = value
    expiry = fields.get("se", "")
    if not {"sr", "sig"} <= fields.keys() or not _is_number(expiry):
        raise Refusal("sas-malformed")
    try:
        resource = unquote(fields["sr"], errors="strict")
        signature = base64.b64decode(unquote(fields["sig"], errors="strict"), validate=True)
        signed = f"{fields['sr']}\n{expiry}".encode()
    except ValueError:
        raise Refusal("sas-malformed") from None
    return Token(resource, int(expiry), fields.get("skn"), signed, signature)


def check(token: Token, resource: str, keys: Iterable[Secret], now: float, grace_s: float) -> None:
    """Refuses "sas-resource-wrong", "sas-signature-wrong" and "sas-expired", in this order.

    Names are compared without regard to case, as the vendor's gateway does. Any of the keys will
    do; a token for a resource holds for what lies below it.
    """
    asked, given = resource.casefold(), token.resource.casefold().rstrip("/")
    if asked != given and not asked.startswith(given + "/"):
        raise Refusal("sas-resource-wrong")
    expected = [_digest(key, token.signed) for key in keys]
    if not any([hmac.compare_digest(digest, token.signature) for digest in expected]):
        raise Refusal("sas-signature-wrong")
    if now >= token.expiry + grace_s:
        raise Refusal("sas-expired")


def make(resource: str, key: Secret, expiry: int, policy: str | None = None) -> Secret:
    """A token, spelt as the vendor's Python SDK does."""
    escaped = quote(resource, safe="")
    digest = _digest(key, f"{escaped}\n{expiry}".encode())
    signature = quote(base64.b64encode(digest).decode(), safe="")
    name = "" if policy is None else f"&skn={policy}"
    return Secret(f"{_PREFIX}sr={escaped}&sig={signature}&se={expiry}{name}")


def derive(group_key: Secret, registration_id: str) -> Secret:
    """The key of one member of a group. Another case of the id gives another key."""
    return Secret(base64.b64encode(_digest(group_key, registration_id.encode())))


def valid_key(text: object) -> bool:
    """Base64 of 16 to 64 bytes."""
    if not isinstance(text, str):
        return False
    try:
        length = len(base64.b64decode(text, validate=True))
    except ValueError:
        return False
    return _KEY_BYTES[0] <= length <= _KEY_BYTES[1]


def _digest(key: Secret, message: bytes) -> bytes:
    try:
        raw = base64.b64decode(key.reveal(), validate=True)
    except binascii.Error:
        raise Refusal("key-malformed") from None
    return hmac.digest(raw, message, "sha256")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _EXPIRY_DIGITS_MAX
