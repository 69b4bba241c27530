"""The private certification authority of a local cloud, and servers that a device must refuse.

A folder holds it all and is used again at the next start:

    root_ca.pem                      what a device trusts, PEM
    pki/ca.pem, ca.key               the authority
    pki/<variant>/server.pem, .key   the server, and for some variants an authority of its own

Keys are readable by their owner alone. The server's certificate is renewed a month before it
ends; the authority lives ten years, since a device has it burned in.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from imprint_tools import certificates
from imprint_tools.certificates import PrivateKey, Purpose
from imprint_tools.localcloud.files import replace

GOOD = "good"
VARIANTS = {
    GOOD: "a server that a device must accept",
    "expired": "the server's certificate has ended",
    "not-yet-valid": "the server's certificate begins tomorrow",
    "ca-expired": "the authority that the device trusts has ended",
    "wrong-name": "a certificate for another host",
    "name-in-cn-only": "the right name stands only in the subject, where nobody looks any more",
    "other-ca": "signed by an authority that the device does not know",
    "self-signed": "signed by nobody but itself",
}

_DAY = datetime.timedelta(days=1)
_CA_LIFE = 3650 * _DAY
_SERVER_LIFE = 365 * _DAY
_RENEWAL = 30 * _DAY

Clock = Callable[[], datetime.datetime]


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


@dataclass(frozen=True)
class ServerFiles:
    """What a server needs to start, and what its devices are to trust."""

    chain: Path
    key: Path
    root_ca: Path
    root_ca_der: bytes


def provide(
    folder: Path,
    names: Sequence[str],
    *,
    variant: str = GOOD,
    key_type: str = "ec",
    clock: Clock = certificates.utc_now,
) -> ServerFiles:
    """The files of a server for those host names, made if need be. A wildcard is one label.

    `variant` is one of VARIANTS; `key_type`, of certificates.KEY_TYPES, goes for the server and,
    where it is first made, the authority.
    """
    if variant not in VARIANTS:
        raise ValueError(f"no certificate variant {variant!r}")
    store = folder / "pki"
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = clock()
    authority = _load(store / "ca")
    if authority is None or _ends_within(authority.certificate, _RENEWAL, now):
        authority = _authority("imprint local root CA", key_type, now - _DAY, now + _CA_LIFE)
        _save(store / "ca", authority)
    place = store / variant
    place.mkdir(mode=0o700, exist_ok=True)
    anchor = authority
    if variant == "ca-expired":
        anchor = _expired_authority(place, key_type, now)
    server = _load(place / "server")
    if server is None or not _still_right(server.certificate, anchor, names, variant, now):
        server = _server(variant, anchor, names, key_type, now)
        _save(place / "server", server)
    root_ca = folder / "root_ca.pem"
    replace(root_ca, certificates.pem(anchor.certificate), mode=0o644)
    return ServerFiles(
        chain=place / "server.pem",
        key=place / "server.key",
        root_ca=root_ca,
        root_ca_der=certificates.der(anchor.certificate),
    )


def authority(folder: Path, stem: str, name: str, key_type: str, clock: Clock) -> Issued:
    """An authority besides the server's, that a cloud signs its devices' certificates with; made
    if need be. Files: pki/<stem>.pem and .key."""
    store = folder / "pki"
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = clock()
    found = _load(store / stem)
    if found is None or _ends_within(found.certificate, _RENEWAL, now):
        found = _authority(name, key_type, now - _DAY, now + _CA_LIFE)
        _save(store / stem, found)
    return found


def _expired_authority(place: Path, key_type: str, now: datetime.datetime) -> Issued:
    kept = _load(place / "ca")
    if kept is not None:
        return kept
    made = _authority("imprint expired root CA", key_type, now - _CA_LIFE, now - _DAY)
    _save(place / "ca", made)
    return made


def _server(
    variant: str, anchor: Issued, names: Sequence[str], key_type: str, now: datetime.datetime
) -> Issued:
    begin, end = now - _DAY, now + _SERVER_LIFE
    alternative = names
    common_name = names[0]
    issuer: Issued | None = anchor
    match variant:
        case "expired":
            begin, end = now - 2 * _DAY, now - _DAY
        case "not-yet-valid":
            begin = now + _DAY
        case "wrong-name":
            alternative, common_name = ("wrong.example",), "wrong.example"
        case "name-in-cn-only":
            alternative = ("wrong.example",)
        case "other-ca":
            issuer = _authority("somebody else's root CA", key_type, begin, end)
        case "self-signed":
            issuer = None
    key = certificates.new_key(key_type)
    purpose = Purpose(server=True, names=tuple(alternative))
    return _signed(common_name, key, issuer, begin, end, purpose)


def _authority(
    name: str, key_type: str, begin: datetime.datetime, end: datetime.datetime
) -> Issued:
    purpose = Purpose(authority=True, path_length=0)
    return _signed(name, certificates.new_key(key_type), None, begin, end, purpose)


def _signed(
    name: str,
    key: PrivateKey,
    issuer: Issued | None,
    begin: datetime.datetime,
    end: datetime.datetime,
    purpose: Purpose,
) -> Issued:
    above, signer = (issuer.certificate, issuer.key) if issuer else (None, key)
    made = certificates.build(name, key.public_key(), above, signer, begin, end, purpose)
    return Issued(made, key)


def _still_right(
    certificate: x509.Certificate,
    anchor: Issued,
    names: Sequence[str],
    variant: str,
    now: datetime.datetime,
) -> bool:
    """May a certificate found in the folder be served again?"""
    if variant != GOOD:
        # Made anew, for what is wrong with it may depend on today's date.
        return False
    if _ends_within(certificate, _RENEWAL, now) or certificate.not_valid_before_utc > now:
        return False
    if certificate.issuer != anchor.certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(anchor.certificate)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return found.value.get_values_for_type(x509.DNSName) == list(names)


def _ends_within(
    certificate: x509.Certificate, span: datetime.timedelta, now: datetime.datetime
) -> bool:
    return certificate.not_valid_after_utc - now < span


def _load(stem: Path) -> Issued | None:
    """A certificate and key saved before; None when either is absent or damaged."""
    try:
        certificate = x509.load_pem_x509_certificate(stem.with_suffix(".pem").read_bytes())
        key = load_pem_private_key(stem.with_suffix(".key").read_bytes(), None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(key, PrivateKey):
        return None
    return Issued(certificate, key) if key.public_key() == certificate.public_key() else None


def _save(stem: Path, issued: Issued) -> None:
    # The key first: a certificate without its key would be found damaged and made anew.
    replace(
        stem.with_suffix(".key"),
        certificates.key_bytes(issued.key).reveal(),
        mode=0o600,
    )
    replace(stem.with_suffix(".pem"), certificates.pem(issued.certificate), mode=0o644)
