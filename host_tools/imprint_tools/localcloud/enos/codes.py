"""EnOS's numbers: what its hub answers a gateway, writes into the device log, and puts into a
CONNACK. Pure.

Documented: 705 to 791 (device log and sub-device login), 1200 and 1220 (envelope). That the
CONNACK says which of the five it is, and what else stands in the second part, is not; a device
must not build on it, and `EnosConfig` can change any of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imprint_tools.localcloud.broker import (
    BAD_USERNAME_OR_PASSWORD,
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
)

OK = 200


@dataclass(frozen=True)
class Meaning:
    """`connack`: what a CONNECT gets for it, where it can."""

    code: int
    text: str
    connack: int = NOT_AUTHORIZED


MEANINGS: Mapping[str, Meaning] = {
    "product-unknown": Meaning(705, "device does not exist", BAD_USERNAME_OR_PASSWORD),
    "device-unknown": Meaning(705, "device does not exist", BAD_USERNAME_OR_PASSWORD),
    "device-mirror": Meaning(719, "device is a mirror"),
    "device-disabled": Meaning(723, "device is disabled"),
    "not-a-subdevice": Meaning(740, "not a sub-device of this gateway"),
    "subdevice-direct": Meaning(741, "a sub-device cannot log in directly"),
    "signature-wrong": Meaning(742, "signature check failed", BAD_USERNAME_OR_PASSWORD),
    "certificate-invalid": Meaning(745, "device certificate is invalid"),
    "certificate-missing": Meaning(746, "login must be over TLS with a certificate"),
    "activation-off": Meaning(770, "product does not allow dynamic activation"),
    "already-activated": Meaning(771, "device cannot be activated again"),
    "gateway-as-subdevice": Meaning(791, "a gateway cannot log in as a sub-device"),
    "payload-unreadable": Meaning(1200, "payload cannot be parsed"),
    "not-a-gateway": Meaning(1200, "device is not a gateway"),
    "format": Meaning(1220, "payload format error"),
    # Not documented from here on: numbers of the vendor's own for what is nearest.
    "subdevice-offline": Meaning(401, "sub-device is not logged in"),
    "other-gateway": Meaning(740, "device is in the topology of another gateway"),
    "other-organisation": Meaning(705, "product is not one of this organisation"),
    "device-exists": Meaning(11702, "deviceKey exists"),
    "too-many-subdevices": Meaning(11739, "too many sub-devices"),
    "too-many-devices": Meaning(11739, "too many devices of the product"),
    "sign-method-unknown": Meaning(742, "signature check failed", IDENTIFIER_REJECTED),
    "timestamp-outside": Meaning(742, "timestamp is not now", BAD_USERNAME_OR_PASSWORD),
    "client-id-malformed": Meaning(460, "clientId cannot be read", IDENTIFIER_REJECTED),
    "username-malformed": Meaning(460, "username cannot be read", BAD_USERNAME_OR_PASSWORD),
    "secure-mode-unknown": Meaning(460, "secure mode is not offered", IDENTIFIER_REJECTED),
    "keepalive-outside": Meaning(460, "keepalive is out of range", IDENTIFIER_REJECTED),
    "too-frequent": Meaning(429, "connects too often", SERVER_UNAVAILABLE),
}
"""By reason, as a Refusal has it."""
