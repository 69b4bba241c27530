"""What an identity for Azure asks for beyond its fields' alphabets: keys and connection strings.

The rules are the firmware's (clouds/azure_sas.py, clouds/azure_edge.py), held at the bench so that
a unit does not find them in the field. An error never shows a value.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any

from imprint_tools.errors import IdentityError
from imprint_tools.secret import Secret

GROUP_KEY = "group_key"
"""In a source, in place of `symmetric_key`: an enrolment group's key, which stays at the bench."""

_KEYS = (
    "HostName",
    "DeviceId",
    "ModuleId",
    "SharedAccessKey",
    "SharedAccessKeyName",
    "SharedAccessSignature",
    "GatewayHostName",
    "x509",
)
_NOT_A_DEVICES = ("SharedAccessKeyName", "SharedAccessSignature")
_KEY_LEAST, _KEY_MOST = 16, 64  # bytes


def derive(group_key: Secret, registration_id: str) -> Secret:
    """The key of one unit out of its enrolment group's; the id's case counts.

    Raises IdentityError: the group's key is none.
    """
    raw = _unpack(group_key, "the enrolment group's key")
    return Secret(base64.b64encode(hmac.digest(raw, registration_id.encode(), "sha256")))


def derived(raw: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The fields with a unit's own key in place of its group's. Raises IdentityError."""
    fields = dict(raw)
    key = fields.pop(GROUP_KEY, None)
    if key is None:
        return fields
    name = fields.get("registration_id")
    if not isinstance(key, str) or not isinstance(name, str) or "symmetric_key" in fields:
        raise IdentityError(
            f"{origin}: {GROUP_KEY} stands in place of symmetric_key, beside registration_id",
            next_step="Give either the group's key, or the unit's own.",
        )
    try:
        made = derive(Secret(key), name)
    except IdentityError as error:
        raise IdentityError(f"{origin}: {error}", next_step=error.next_step) from None
    fields["symmetric_key"] = made.reveal().decode()
    return fields


def check(fields: Mapping[str, Any], origin: str) -> None:
    """Hold keys and connection string against the firmware's rules. Raises IdentityError."""
    if isinstance(key := fields.get("symmetric_key"), str):
        _unpack(Secret(key), f"{origin}: symmetric_key")
    if isinstance(text := fields.get("connection_string"), str):
        what = f"{origin}: connection_string"
        pairs = _parse(text, what)
        if "SharedAccessKey" in pairs:
            _unpack(Secret(pairs["SharedAccessKey"]), f"{what}: SharedAccessKey")
        elif not {"client_cert_sha256", "client_key_sha256"} <= fields.keys():
            raise _wrong(what, "says x509, and client_cert or client_key is missing")


def _parse(text: str, what: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in text.split(";"):
        name, mark, value = part.partition("=")
        if not mark:
            raise _wrong(what, "has a part that is not key=value")
        if name not in _KEYS:
            raise _wrong(what, "has a key that is not known")
        if name in pairs:
            raise _wrong(what, f"has {name} twice")
        if not value:
            raise _wrong(what, f"has {name} without a value")
        pairs[name] = value
    for name in ("HostName", "DeviceId"):
        if name not in pairs:
            raise _wrong(what, f"has no {name}")
    for name in ("HostName", "GatewayHostName", "DeviceId", "ModuleId"):
        if name in pairs and not _fits(pairs[name], 253 if name.endswith("Name") else 128):
            raise _wrong(what, f"has a {name} that cannot be")
    for name in _NOT_A_DEVICES:
        if name in pairs:
            raise _wrong(what, f"has {name}, not a device's")
    if ("SharedAccessKey" in pairs) == ("x509" in pairs):
        raise _wrong(what, "has not one of SharedAccessKey and x509")
    if pairs.get("x509", "true") != "true":
        raise _wrong(what, "has x509 other than true")
    if "ModuleId" in pairs and "x509" in pairs:
        raise _wrong(what, "is a module's, which takes no x509")
    return pairs


def _fits(name: str, most: int) -> bool:
    return len(name) <= most and all(" " < char < "\x7f" and char not in "/+#" for char in name)


def _unpack(key: Secret, what: str) -> bytes:
    try:
        raw = base64.b64decode(key.reveal(), validate=True)
    except binascii.Error:
        raw = b""
    if base64.b64encode(raw) != key.reveal() or not _KEY_LEAST <= len(raw) <= _KEY_MOST:
        raise IdentityError(
            f"{what} is not {_KEY_LEAST} to {_KEY_MOST} bytes in base64",
            next_step="Copy the key anew; it ends as it begins, with nothing around it.",
        )
    return raw


def _wrong(what: str, why: str) -> IdentityError:
    return IdentityError(
        f"{what} {why}",
        next_step="Take it as the portal gives it: HostName=...;DeviceId=...;SharedAccessKey=..., "
        "and for a gateway ;GatewayHostName=...",
    )
