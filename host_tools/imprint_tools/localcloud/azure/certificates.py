"""Client certificates as Azure judges them: by thumbprint, or by the CA that they lead to."""

from __future__ import annotations

import base64
import datetime
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.localcloud.tls import check_readable

K = TypeVar("K")

_PEM = "-----BEGIN CERTIFICATE-----"


def load(text: object) -> x509.Certificate:
    """A certificate in PEM or in bare base64 of its DER. Refuses "certificate-unreadable"."""
    try:
        if not isinstance(text, str):
            raise ValueError
        if _PEM in text:
            found = x509.load_pem_x509_certificate(text.encode())
        else:
            found = x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
        check_readable(found)
    except (ValueError, x509.InvalidVersion):
        raise Refusal("certificate-unreadable") from None
    return found


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def sha1(certificate: x509.Certificate) -> str:
    """Upper-case hex. A name for it, not a protection: the vendor compares these, too."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303


def sha256(certificate: x509.Certificate) -> str:
    """Upper-case hex."""
    return certificate.fingerprint(hashes.SHA256()).hex().upper()


def has_thumbprint(certificate: x509.Certificate, thumbprints: Iterable[str]) -> bool:
    """Is it one of those, SHA-1 or SHA-256, in whatever case?"""
    own = sha1(certificate), sha256(certificate)
    given = [text.upper().encode("utf-8", "replace") for text in thumbprints if text]
    return any(hmac.compare_digest(o.encode(), g) for o in own for g in given)


def common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def check_dates(certificate: x509.Certificate, now: datetime.datetime) -> None:
    """Refuses "certificate-expired" and "certificate-not-yet-valid"."""
    if now > certificate.not_valid_after_utc:
        raise Refusal("certificate-expired")
    if now < certificate.not_valid_before_utc:
        raise Refusal("certificate-not-yet-valid")


def nearest_authority(
    chain: Sequence[x509.Certificate],
    authorities: Mapping[K, Sequence[x509.Certificate]],
    now: datetime.datetime,
) -> K | None:
    """Whose CA the chain meets first on the way up from its leaf; None where it meets nobody's.

    Each step is checked by signature, dates and the right to sign, so a chain that lacks an
    intermediate ends there. Refuses "certificate-is-ca" for a leaf that may sign.
    """
    if not chain:
        return None
    if _may_sign(chain[0]):
        raise Refusal("certificate-is-ca")
    for place, child in enumerate(chain):
        check_dates(child, now)
        for key, anchors in authorities.items():
            if any(_issued(child, anchor) and _may_sign(anchor) for anchor in anchors):
                return key
        above = chain[place + 1 : place + 2]
        if not above or not _issued(child, above[0]) or not _may_sign(above[0]):
            return None
    return None


def info(certificate: x509.Certificate) -> dict[str, Any]:
    """What the service tells of a certificate."""
    return {
        "subjectName": certificate.subject.rfc4514_string(),
        "sha1Thumbprint": sha1(certificate),
        "sha256Thumbprint": sha256(certificate),
        "issuerName": certificate.issuer.rfc4514_string(),
        "notBeforeUtc": _when(certificate.not_valid_before_utc),
        "notAfterUtc": _when(certificate.not_valid_after_utc),
        "serialNumber": f"{certificate.serial_number:X}",
        "version": certificate.version.value + 1,
    }


def _issued(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _when(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
