"""Certificates of units: issuer.Authority against `cryptography` with nothing around it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from imprint_tools import certificates
from imprint_tools.issuer import Authority
from imprint_tools.secret import Secret
from lab import Lab
from measure import Figure, Row, Section, alternate

_UNITS = 1000
_UNITS_QUICK = 200
_STATIONS = 8
_BARE = "cryptography"


@dataclass(frozen=True)
class _Request:
    name: str
    csr: bytes


def measure(lab: Lab) -> Section:
    """The same requests by each; what came of the last one is verified, off the clock."""
    units = _UNITS_QUICK if lab.quick else _UNITS
    rounds = 1 if lab.quick else 3
    folder = lab.folder / "issuing"
    folder.mkdir()
    passphrase = Secret("the bench's own passphrase")
    with Authority.create_root(folder / "root", "Bench root", passphrase) as root:
        requests = [_request(lab.new_name()) for _ in range(units)]

        def issue(request: _Request) -> x509.Certificate:
            return root.issue_leaf(registration_id=request.name, csr=request.csr).certificate

        def sign(request: _Request) -> x509.Certificate:
            return _sign(root, request)

        def ours() -> float:
            return _each(requests, issue)

        def bare() -> float:
            return _each(requests, sign)

        def at_once() -> float:
            with ThreadPoolExecutor(_STATIONS) as stations:
                began = time.perf_counter()
                list(stations.map(issue, requests))
                return (time.perf_counter() - began) * 1000 / units

        for make in (issue, sign):
            make(requests[-1]).verify_directly_issued_by(root.certificate)
        one, other = alternate(rounds, ours, bare)
        many = [at_once() for _ in range(rounds)]
    return Section(
        "Certificates for units, each",
        "EC P-256, from a request to a signed certificate. imprint checks name, key, lifetime and "
        "possession, and has each certificate in its record, on disk, before it gives it away; "
        f"{_BARE} checks the request's signature and signs. {_rate(one):,.0f} and "
        f"{_rate(other):,.0f} a second.",
        (
            Row("one station", "ms", Figure.of(one), Figure.of(other), _BARE),
            Row(f"{_STATIONS} stations at once", "ms", Figure.of(many)),
        ),
    )


def _rate(milliseconds: list[float]) -> float:
    return 1000 / Figure.of(milliseconds).median


def _each(requests: list[_Request], make: Callable[[_Request], x509.Certificate]) -> float:
    """Milliseconds a certificate."""
    began = time.perf_counter()
    for request in requests:
        make(request)
    return (time.perf_counter() - began) * 1000 / len(requests)


def _request(name: str) -> _Request:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key = certificates.new_key("ec")
    signed = (
        x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    )
    return _Request(name, signed.public_bytes(Encoding.DER))


def _sign(root: Authority, request: _Request) -> x509.Certificate:
    """What a script does that has an authority's key at hand."""
    csr = x509.load_der_x509_csr(request.csr)
    if not csr.is_signature_valid:
        raise RuntimeError("a request of our own is not signed")
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(root.certificate.subject)
        .public_key(csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    return builder.sign(root._key, hashes.SHA256())
