"""An enrolment, of one device or of a group: read from a request, checked, shown.

The body is the vendor's (api-version 2021-10-01). Keys are apart from it, as secrets.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from imprint_tools.localcloud.azure import certificates, names, sas
from imprint_tools.localcloud.azure import twin as azure_twin
from imprint_tools.localcloud.azure.config import POLICIES
from imprint_tools.localcloud.azure.error import ServiceError, inferred, utc_text
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

X509, SYMMETRIC = "x509", "symmetricKey"
BOTH = ("primary", "secondary")

_KEY_BYTES = 64
_READ_ONLY = {"registrationState", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "etag"}
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "provisioningStatus": str,
    "deviceId": str,
    "initialTwin": (dict, type(None)),
    "iotHubHostName": (str, type(None)),
    "allocationPolicy": (str, type(None)),
    "iotHubs": (list, type(None)),
    "customAllocationDefinition": (dict, type(None)),
    "reprovisionPolicy": (dict, type(None)),
    "capabilities": (dict, type(None)),
    "optionalDeviceInformation": (dict, type(None)),
}


@dataclass
class Enrolment:
    """`kind` is X509 or SYMMETRIC; a group's certificates are those of CAs, and `ca_names` the
    names of uploaded ones in their place."""

    name: str
    group: bool
    kind: str
    body: dict[str, Any]
    keys: tuple[Secret, ...] = ()
    certificates: dict[str, str] = field(default_factory=dict)
    ca_names: dict[str, str] = field(default_factory=dict)
    created: str = field(default_factory=utc_text)
    updated: str = field(default_factory=utc_text)
    etag: str = field(default_factory=lambda: new_etag())

    @property
    def enabled(self) -> bool:
        return bool(self.body.get("provisioningStatus", "enabled") == "enabled")

    def loaded(self) -> list[x509.Certificate]:
        return [certificates.load(text) for text in self.certificates.values()]

    def shown(self, *, with_certificate: bool) -> dict[str, Any]:
        """What GET returns: no key in it."""
        found = {
            place: {"info": certificates.info(certificates.load(text))}
            | ({"certificate": text} if with_certificate else {})
            for place, text in self.certificates.items()
        }
        if self.kind == SYMMETRIC:
            attestation: dict[str, Any] = {"type": SYMMETRIC}
        elif self.ca_names:
            attestation = {"type": X509, X509: {"caReferences": dict(self.ca_names)}}
        else:
            attestation = {"type": X509, X509: {self.certificates_field: found}}
        return {
            self.name_field: self.name,
            **self.body,
            "attestation": attestation,
            "createdDateTimeUtc": self.created,
            "lastUpdatedDateTimeUtc": self.updated,
            "etag": self.etag,
        }

    @property
    def name_field(self) -> str:
        return "enrollmentGroupId" if self.group else "registrationId"

    @property
    def certificates_field(self) -> str:
        return "signingCertificates" if self.group else "clientCertificates"

    def stored(self) -> dict[str, Any]:
        return vars(self) | {"keys": [key.reveal().decode() for key in self.keys]}

    @classmethod
    def restored(cls, entry: dict[str, Any]) -> Enrolment:
        return cls(**(entry | {"keys": tuple(Secret(key) for key in entry["keys"])}))


def new_etag() -> str:
    """With its quotes, as If-Match wants it back."""
    return f'"{secrets.token_hex(8)}"'


def new_key() -> Secret:
    return Secret(base64.b64encode(secrets.token_bytes(_KEY_BYTES)))


def read(
    document: Mapping[str, Any],
    name: str,
    known: Enrolment | None,
    *,
    group: bool = False,
    info_suffices: bool = True,
) -> Enrolment:
    """An enrolment out of a request's body; `known` is what it replaces. Raises ServiceError.

    What a service would not keep is left out in silence, as the real one does with a misspelt
    name; what it would misunderstand is refused.
    """
    enrolment = Enrolment(name, group, "", {})
    if str(document.get(enrolment.name_field, name)).casefold() != name.casefold():
        raise bad("the id in the body is not the one in the path")
    if not names.valid_registration_id(name):
        raise bad("the id has a wrong character or length")
    for key, kind in _FIELDS.items():
        if key in document:
            if not isinstance(document[key], kind):
                raise bad(f"{key} has a wrong type")
            if document[key] is not None:
                enrolment.body[key] = document[key]
    enrolment.body.setdefault("provisioningStatus", "enabled")
    _check_body(enrolment.body)
    if known is not None:
        enrolment.created = known.created
    attestation = document.get("attestation")
    if not isinstance(attestation, dict):
        raise bad("attestation is missing")
    enrolment.kind = str(attestation.get("type"))
    details = attestation.get(enrolment.kind)
    if enrolment.kind == SYMMETRIC:
        enrolment.keys = _keys(details, known)
    elif enrolment.kind == X509 and isinstance(details, dict):
        _read_certificates(enrolment, details, known if info_suffices else None)
    else:
        raise bad("attestation.type is none that is offered: x509 or symmetricKey")
    return enrolment


def bad(message: str) -> ServiceError:
    return ServiceError(inferred(400), message)


def _check_body(body: dict[str, Any]) -> None:
    if body["provisioningStatus"] not in ("enabled", "disabled"):
        raise bad("provisioningStatus is enabled or disabled")
    if "deviceId" in body and not names.valid_device_id(body["deviceId"]):
        raise bad("deviceId has a wrong character or length")
    if body.get("allocationPolicy", POLICIES[0]) not in POLICIES:
        raise bad("allocationPolicy is none of " + ", ".join(POLICIES))
    if not all(isinstance(hub, str) for hub in body.get("iotHubs", [])):
        raise bad("iotHubs is a list of host names")
    policy = body.get(
        "reprovisionPolicy", {"updateHubAssignment": True, "migrateDeviceData": True}
    )
    if any(
        type(policy.get(key)) is not bool for key in ("updateHubAssignment", "migrateDeviceData")
    ):
        raise bad("reprovisionPolicy needs updateHubAssignment and migrateDeviceData")
    try:
        azure_twin.read_initial(body.get("initialTwin", {}))
    except Refusal as refusal:
        raise bad(f"initialTwin: {refusal.reason}") from None


def _keys(details: object, known: Enrolment | None) -> tuple[Secret, ...]:
    """Those given, else those known, else new ones."""
    given = details if isinstance(details, dict) else {}
    kept = known.keys if known is not None and known.kind == SYMMETRIC else ()
    keys = []
    for place, name in enumerate(("primaryKey", "secondaryKey")):
        if text := given.get(name):
            if not sas.valid_key(text):
                raise bad(f"{name} is not base64 of 16 to 64 bytes")
            keys.append(Secret(text))
        else:
            keys.append(kept[place] if kept else new_key())
    return tuple(keys)


def _read_certificates(
    enrolment: Enrolment, details: dict[str, Any], known: Enrolment | None
) -> None:
    references = details.get("caReferences")
    if enrolment.group and isinstance(references, dict):
        enrolment.ca_names = {p: str(references[p]) for p in BOTH if references.get(p)}
    given = details.get(enrolment.certificates_field)
    given = given if isinstance(given, dict) else {}
    for place in BOTH:
        if (entry := given.get(place)) is not None:
            if not isinstance(entry, dict):
                raise bad("a certificate is an object")
            enrolment.certificates[place] = _certificate(entry, place, known)
    if not enrolment.certificates and not enrolment.ca_names:
        raise bad("attestation.x509 holds no certificate")


def _certificate(entry: dict[str, Any], place: str, known: Enrolment | None) -> str:
    """As PEM; what came back as GET told it stands for the certificate that is stored."""
    if entry.get("certificate"):
        try:
            return certificates.pem(certificates.load(entry["certificate"]))
        except Refusal as refusal:
            raise bad(refusal.reason) from None
    stored = known.certificates.get(place) if known is not None else None
    details = entry.get("info")
    if stored is None or not isinstance(details, dict):
        raise bad("a certificate is missing")
    if details.get("sha256Thumbprint") != certificates.sha256(certificates.load(stored)):
        raise bad("the certificate's info is not that of the one stored")
    return stored
