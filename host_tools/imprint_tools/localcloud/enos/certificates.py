"""EnOS's certificate service: an organisation's authorities, and what they issue to its devices.

A gateway that is to log in with a certificate sends a request (CSR) for its own key and gets the
certificate; at the MQTT port the hub then compares what the gateway shows with what is bound to
it here. Whether real EnOS puts a common name of its own into the subject is not documented; here
the subject is the request's.

Source: the vendor's documents on certificates/apply, renew, revoke and list.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from imprint_tools import certificates
from imprint_tools.localcloud import pki
from imprint_tools.localcloud.enos.config import Inferred
from imprint_tools.localcloud.enos.records import Certificate, Name, Product
from imprint_tools.localcloud.enos.registry import EnosRegistry
from imprint_tools.localcloud.refusal import Refusal

DAYS = 730
REASONS = (0, 1, 3, 4, 5, 6, 9)
"""Of a revocation, as RFC 5280 5.3.1 numbers them; CA compromise and two more are not offered."""

_KEY_TYPES = {"RSA": "rsa", "ECC": "ec"}
_CSR_MAX = 16 * 1024
_RSA_BITS = 2048
_DAY = datetime.timedelta(days=1)

Clock = Callable[[], datetime.datetime]


class CertificateService:
    """Refuses "argument-invalid" for what a caller should have known, "certificate-of-another"."""

    def __init__(
        self,
        registry: EnosRegistry,
        folder: Path,
        inferred: Inferred,
        clock: Clock = certificates.utc_now,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._inferred = inferred
        self._clock = clock

    # -- the API's side ------------------------------------------------------------------------

    def apply(self, name: Name, body: Mapping[str, Any]) -> dict[str, Any]:
        """Issue a certificate for the key of a request."""
        csr = body.get("csr")
        if not isinstance(csr, str):
            raise Refusal("argument-invalid")
        request = _read(csr)
        subject = _subject(request)
        now = self._clock().timestamp()
        for other in self._registry.certificates.values():
            live = other.revoked is None and other.not_after > now
            if live and other.subject == subject and other.owner != name:
                raise Refusal("argument-invalid")  # "duplicate subject"
        return self._issue(name, request, csr, body)

    def renew(self, name: Name, body: Mapping[str, Any]) -> dict[str, Any]:
        """Issue a successor, for the same key or for that of a new request."""
        old = self._bound(name, body)
        if old.revoked is not None or old.not_after <= self._clock().timestamp():
            raise Refusal("argument-invalid")
        csr = body.get("csr", old.csr)
        if not isinstance(csr, str):
            raise Refusal("argument-invalid")
        data = self._issue(name, _read(csr), csr, {"issueAuthority": old.authority, **body})
        if self._inferred.renewal_revokes:
            old.revoked = 4  # superseded
            self._registry.save()
        return data

    def revoke(self, name: Name, body: Mapping[str, Any]) -> None:
        """End a certificate; again is no harm."""
        certificate = self._bound(name, body)
        reason = body.get("reason", 0)
        if type(reason) is not int or reason not in REASONS:
            raise Refusal("argument-invalid")
        if certificate.revoked is None:
            certificate.revoked = reason
            self._registry.save()

    def listed(self, name: Name) -> list[dict[str, Any]]:
        """Those of a device; status 0 is active, 1 revoked."""
        return [
            {
                "certSN": certificate.serial,
                "issueAuthority": certificate.authority,
                "status": int(certificate.revoked is not None),
                "validEndTime": int(certificate.not_after * 1000),
            }
            for certificate in self._registry.certificates.values()
            if certificate.owner == name
        ]

    # -- the hub's side ------------------------------------------------------------------------

    def check(self, name: Name, product: Product, chain: Sequence[x509.Certificate]) -> None:
        """May a device log in with what it showed? Refuses "certificate-missing" (746) and
        "certificate-invalid" (745)."""
        if not chain:
            if product.certificate:
                raise Refusal("certificate-missing")
            return
        leaf = chain[0]
        known = self._registry.certificates.get(_serial(leaf))
        now = self._clock().timestamp()
        if (
            known is None
            or known.owner != name
            or known.revoked is not None
            or not leaf.not_valid_before_utc.timestamp() <= now < known.not_after
            or certificates.pem(leaf).decode() != known.pem
        ):
            raise Refusal("certificate-invalid")

    # -- inside --------------------------------------------------------------------------------

    def authority(self, organisation: str, kind: str) -> pki.Issued:
        """An organisation's own, "RSA" or "ECC", made when it is first needed."""
        stem = f"{organisation}-{kind.lower()}"
        name = f"imprint local EnOS {organisation} {kind}"
        return pki.authority(self._folder, stem, name, _KEY_TYPES[kind], self._clock)

    def _issue(
        self,
        name: Name,
        request: x509.CertificateSigningRequest,
        csr: str,
        body: Mapping[str, Any],
    ) -> dict[str, Any]:
        product = self._registry.product(name[0])
        if not product.certificate:
            raise Refusal("argument-invalid")  # "product not in bi-directional mode"
        days = body.get("validDay", min(DAYS, product.certificate_days))
        if type(days) is not int or not 1 <= days <= product.certificate_days:
            raise Refusal("argument-invalid")
        kind = body.get("issueAuthority", "RSA")
        if not isinstance(kind, str) or kind.upper() not in _KEY_TYPES:
            raise Refusal("argument-invalid")
        kind = kind.upper()
        above = self.authority(product.organisation, kind)
        now = self._clock()
        end = min(now + days * _DAY, above.certificate.not_valid_after_utc)
        key = request.public_key()
        if not isinstance(key, certificates.PublicKey):
            raise Refusal("argument-invalid")
        begin = now - _DAY  # a unit's clock may be behind
        subject = _subject(request)
        made = certificates.build(subject, key, above.certificate, above.key, begin, end)
        record = Certificate(
            serial=_serial(made),
            owner=name,
            authority=kind,
            pem=certificates.pem(made).decode(),
            csr=csr,
            subject=subject,
            not_after=made.not_valid_after_utc.timestamp(),
        )
        self._registry.certificates[record.serial] = record
        self._registry.save()
        ca_pem = certificates.pem(above.certificate).decode()
        return {
            "certChainURL": f"/enos/CA/{product.organisation}/{kind}",
            "caCert": ca_pem,
            "cert": record.pem,
            "certSN": record.serial,
            "issueAuthority": kind,
        }

    def _bound(self, name: Name, body: Mapping[str, Any]) -> Certificate:
        serial = body.get("certSn")
        certificate = self._registry.certificates.get(serial) if isinstance(serial, str) else None
        if certificate is None:
            raise Refusal("argument-invalid")
        if certificate.owner != name:
            raise Refusal("certificate-of-another")
        return certificate


def _read(csr: str) -> x509.CertificateSigningRequest:
    """A request with a key and a signature that the service takes. Refuses "argument-invalid"."""
    try:
        if len(csr) > _CSR_MAX:
            raise ValueError
        request = certificates.load_csr(csr.encode())
        key, signed = request.public_key(), request.is_signature_valid
        digest = request.signature_hash_algorithm
        if len(certificates.common_names(request.subject)) != 1:
            raise ValueError
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Refusal("argument-invalid") from None
    right_key = (isinstance(key, rsa.RSAPublicKey) and key.key_size == _RSA_BITS) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    )
    if not signed or not right_key or digest is None or digest.name != "sha256":
        raise Refusal("argument-invalid")
    return request


def _subject(request: x509.CertificateSigningRequest) -> str:
    return certificates.common_names(request.subject)[0]


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"
