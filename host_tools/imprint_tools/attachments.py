"""What lies beside an identity in a unit's NVS: the root CA, a client certificate and its key, the
list of a gateway's sub-devices.

A source names a file; certificates and keys, PEM or DER, go to the unit as DER, which is smaller.
Only a client certificate with its issuers goes as PEM: MicroPython takes several in no other form.
A private key is a Secret from the moment it is read. A unit that is to apply for its certificate
itself gets a key and a request that are made here for it, in memory, and are nowhere else.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from imprint_tools import certificates, subdevices
from imprint_tools.errors import IdentityError
from imprint_tools.secret import Secret

_FILE_BYTES_MAX = 64 << 10
_BLOB_BYTES_MAX = 4000  # what one page of NVS holds
_LIST_BYTES_MAX = 12_000  # in up to four parts, which hold no half a line
_COMMON_NAME_MAX = 64  # RFC 5280, ub-common-name
_KEY_FORM = PrivateFormat.TraditionalOpenSSL  # what every mbedTLS reads


@dataclass(frozen=True)
class Kind:
    """One attachment: what the file is to a person, and what makes the blob of its bytes."""

    what: str
    parse: Callable[[bytes, Path, dt.datetime], bytes | Secret]
    smaller: str = "Use a smaller one; EC P-256 is a tenth of RSA."
    most: int = _BLOB_BYTES_MAX


def load(name: str, path: Path, *, now: dt.datetime | None = None) -> bytes | Secret:
    """The blob for the attachment `name` from a file. Raises IdentityError."""
    blob = KINDS[name].parse(read(path, _FILE_BYTES_MAX), path, now or dt.datetime.now(dt.UTC))
    size = len(blob.reveal() if isinstance(blob, Secret) else blob)
    if size > (most := KINDS[name].most):
        raise IdentityError(
            f"{path}: is {size:,} bytes for the unit, and its NVS takes {most:,}",
            next_step=KINDS[name].smaller,
        )
    return blob


def parts(name: str, blob: bytes | Secret) -> dict[str, bytes | Secret]:
    """The blob by its key in the unit's NVS; a long list in parts of whole lines, NAME, NAME2 and
    so on, each of which one page of NVS holds."""
    if KINDS[name].most == _BLOB_BYTES_MAX or not isinstance(blob, Secret):
        return {name: blob}
    found = [b""]
    for line in blob.reveal().splitlines(keepends=True):
        if len(found[-1]) + len(line) > _BLOB_BYTES_MAX:
            found.append(b"")
        found[-1] += line
    return {
        name if number == 1 else f"{name}{number}": Secret(part)
        for number, part in enumerate(found, start=1)
    }


def applicant(product_key: str, device_key: str) -> tuple[Secret, bytes]:
    """A new key, EC P-256, and a request (CSR) for it, both DER: for a unit that applies for its
    certificate itself. The subject is the device, as far as 64 characters go."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = f"{product_key}.{device_key}"
    if len(subject) > _COMMON_NAME_MAX:
        subject = device_key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    made = request.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    return Secret(key.private_bytes(Encoding.DER, _KEY_FORM, NoEncryption())), made


def agree(blobs: Mapping[str, bytes | Secret], fields: Mapping[str, Any], origin: str) -> None:
    """Hold certificate, key and registration id against each other, and a list of sub-devices
    against the product that they are of. Raises IdentityError."""
    listed = [blob for name, blob in blobs.items() if name.startswith("subdevices")]
    subdevices.agree(listed, fields.get("subdevice_product_key"), origin)
    chain, key = blobs.get("client_cert"), blobs.get("client_key")
    if not isinstance(chain, bytes) or not isinstance(key, Secret):
        return
    pem = chain.startswith(b"-----BEGIN ")
    leaf = x509.load_pem_x509_certificate(chain) if pem else x509.load_der_x509_certificate(chain)
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ours = load_der_private_key(key.reveal(), None).public_key()
    if leaf.public_key().public_bytes(*form) != ours.public_bytes(*form):
        raise IdentityError(
            f"{origin}: client_key is not the key of client_cert",
            next_step="Take both from the same issue.",
        )
    wanted = fields.get("registration_id")
    names = [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if wanted is not None and names != [wanted]:
        raise IdentityError(
            f"{origin}: the certificate's common name is not the registration_id {wanted}",
            next_step="DPS wants them equal: issue the certificate for that id.",
        )


def read(path: Path, limit: int) -> bytes:
    """The file's bytes. Raises IdentityError: it cannot be read, or is larger than `limit`."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}") from None
    except ValueError:  # a NUL or a lone surrogate in the name
        raise IdentityError(f"{str(path)!a}: is not a file's name") from None
    if len(data) > limit:
        raise IdentityError(f"{path}: is larger than {limit} bytes")
    return data


def _root_ca(data: bytes, path: Path, now: dt.datetime) -> bytes:
    """The one CA certificate. Refused: more or fewer than one, one that is not a CA's, one outside
    its dates."""
    found = _certificates(data, path)
    if len(found) != 1:
        raise IdentityError(
            f"{path}: holds {len(found)} certificates, and a unit trusts exactly one",
            next_step="Keep the root's certificate only.",
        )
    certificate = found[0]
    _check_dates(certificate, path, now, "root CA", "Take the root CA that the cloud uses today.")
    if not _is_ca(certificate):
        raise IdentityError(
            f"{path}: the certificate is not a CA's (no basicConstraints CA:TRUE)",
            next_step="Give the root that signed the server's certificate, not the server's own.",
        )
    return certificate.public_bytes(Encoding.DER)


def _client_cert(data: bytes, path: Path, now: dt.datetime) -> bytes:
    """The unit's own certificate: the first of a PEM file, which may hold its issuers after it.

    With issuers it goes to the unit as PEM, each the issuer of the one before; a root that ends
    the file is left out, since whoever verifies has it.
    """
    chain = _certificates(data, path)
    for certificate in chain:
        _check_dates(certificate, path, now, "certificate", "Issue a new one for the unit.")
    if _is_ca(chain[0]):
        raise IdentityError(
            f"{path}: the first certificate is a CA's", next_step="Give the unit's own, the leaf."
        )
    if len(chain) > 1 and chain[-1].subject == chain[-1].issuer:
        chain.pop()
    for below, above in pairwise(chain):
        if below.issuer != above.subject:
            raise IdentityError(
                f"{path}: a certificate is followed by one that is not its issuer's",
                next_step="Put the leaf first, then its issuer, then the issuer's.",
            )
    if len(chain) == 1:
        return chain[0].public_bytes(Encoding.DER)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def _client_key(data: bytes, path: Path, _now: dt.datetime) -> Secret:
    """An EC or RSA private key, not encrypted, as DER in the form that every mbedTLS reads."""
    problem = "is not a private key in PEM or DER"
    try:
        load_key = load_pem_private_key if b"-----BEGIN " in data else load_der_private_key
        key = load_key(data, None)
        if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            return Secret(key.private_bytes(Encoding.DER, _KEY_FORM, NoEncryption()))
        problem = "is neither an EC nor an RSA key"
    except TypeError:
        problem = "is encrypted"
    except ValueError:
        pass
    raise IdentityError(
        f"{path}: {problem}", next_step="Give the unit's private key, EC P-256, not encrypted."
    )


def _client_csr(data: bytes, path: Path, _now: dt.datetime) -> bytes:
    """A request (CSR) for the unit's own key, in PEM or DER."""
    problem = "is not a certificate request in PEM or DER"
    try:
        found = certificates.load_csr(data)
        if found.is_signature_valid:
            return found.public_bytes(Encoding.DER)
        problem = "is not signed by the key that it is for"
    except ValueError:
        pass
    raise IdentityError(f"{path}: {problem}", next_step="Leave it out, and one is made.")


def _subdevices(data: bytes, path: Path, _now: dt.datetime) -> Secret:
    """The list of a gateway's sub-devices."""
    return subdevices.compile_list(data, path)


KINDS = {
    "root_ca": Kind("path of a PEM or DER certificate", _root_ca),
    "client_cert": Kind("path of the unit's certificate, PEM or DER", _client_cert),
    "client_key": Kind("path of the unit's private key, PEM or DER", _client_key),
    "client_csr": Kind("path of a request for the unit's key, PEM or DER", _client_csr),
    "subdevices": Kind(
        "path of the list of sub-devices, TOML or JSON",
        _subdevices,
        "Use shorter device keys and table names, or split the list over two edges.",
        _LIST_BYTES_MAX,
    ),
}


def _certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    """Those in the file, at least one."""
    if b"PRIVATE KEY-----" in data:
        raise IdentityError(
            f"{path}: holds a private key",
            next_step="Give the certificate alone; its key has a file of its own.",
        )
    try:
        if b"-----BEGIN " not in data:
            return [x509.load_der_x509_certificate(data)]
        if found := x509.load_pem_x509_certificates(data):
            return found
    except ValueError:
        pass
    raise IdentityError(f"{path}: is not an X.509 certificate in PEM or DER")


def _check_dates(
    certificate: x509.Certificate, path: Path, now: dt.datetime, what: str, expired: str
) -> None:
    if now > certificate.not_valid_after_utc:
        raise IdentityError(
            f"{path}: the {what} expired on {certificate.not_valid_after_utc:%Y-%m-%d}",
            next_step=expired,
        )
    if now < certificate.not_valid_before_utc:
        raise IdentityError(
            f"{path}: the {what} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} on",
            next_step="Check this computer's clock.",
        )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False
    return constraints.value.ca
