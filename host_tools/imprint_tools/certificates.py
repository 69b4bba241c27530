"""What certificates are made of: keys, extensions by purpose, the rules for names, file formats.

Nothing here refuses a certificate for what it says: that is `issuer`, which keeps the rules, and
the local clouds sign bad ones on purpose. Extensions are those of RFC 5280 4.2: every
certificate says whose key it holds and whose signed it (4.2.1.1, 4.2.1.2), whether it may sign
others (4.2.1.9), what its key is for (4.2.1.3) and, below an authority, as whom (4.2.1.12).
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imprint_tools.secret import Secret

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

KEY_TYPES = {"ec": "P-256", "rsa": "2048 bits, 3072 for an authority"}
CURVES = ("secp256r1", "secp384r1")
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 4096
_RSA_BITS = 2048
_RSA_BITS_AUTHORITY = 3072
_RSA_EXPONENT = 65537

_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_HOST_MAX = 253


@dataclass(frozen=True)
class Purpose:
    """What a certificate is for, as its extensions say it.

    `path_length` is how many authorities may stand below this one; None for no limit, and for
    what is no authority. `names` are host names and IP addresses.
    """

    authority: bool = False
    path_length: int | None = None
    client: bool = False
    server: bool = False
    names: tuple[str, ...] = ()


CLIENT = Purpose(client=True)


def utc_now() -> datetime.datetime:
    """Now, in whole seconds: X.509 has no smaller unit."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def new_key(key_type: str, *, authority: bool = False) -> PrivateKey:
    """A key of one of KEY_TYPES."""
    if key_type == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "rsa":
        bits = _RSA_BITS_AUTHORITY if authority else _RSA_BITS
        return rsa.generate_private_key(public_exponent=_RSA_EXPONENT, key_size=bits)
    raise ValueError(f"no key type {key_type!r}")


def key_weakness(key: object) -> str:
    """Why a public key is not to be used; empty when it may be.

    P-256, P-384 and RSA of 2048 to 4096 bits are what boards and clouds have in common.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.name in CURVES else f"the curve is {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
            return f"the RSA key has {key.key_size} bits"
        exponent = key.public_numbers().e
        return "" if exponent >= _RSA_EXPONENT else f"the RSA exponent is {exponent}"
    return f"the key is {type(key).__name__.removesuffix('PublicKey')}"


def is_server_name(name: str) -> bool:
    """An IP address, a DNS name by RFC 1123 2.1, or one wildcard label before such a name (RFC
    6125 6.4.3)."""
    if isinstance(_general_name(name), x509.IPAddress):
        return True
    labels = name.removeprefix("*.").split(".")
    numeric = labels[-1].isdigit()  # an address that is none, such as 10.0.0.300
    return len(name) <= _HOST_MAX and not numeric and all(map(_HOST_LABEL.fullmatch, labels))


def alternative_names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    """The extension for host names and IP addresses."""
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def build(
    common_name: str,
    public_key: PublicKey,
    issuer: x509.Certificate | None,
    signer: PrivateKey,
    begin: datetime.datetime,
    end: datetime.datetime,
    purpose: Purpose = CLIENT,
) -> x509.Certificate:
    """A certificate with a new random serial number (RFC 5280 4.1.2.2), signed with SHA-256.

    `signer` is the issuer's key; without an issuer the certificate is signed by itself.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_authority_key_identifier(issuer, signer), critical=False)
        .add_extension(
            x509.BasicConstraints(ca=purpose.authority, path_length=purpose.path_length),
            critical=True,
        )
        .add_extension(_key_usage(purpose, public_key), critical=True)
    )
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] * purpose.client
    usages += [ExtendedKeyUsageOID.SERVER_AUTH] * purpose.server
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if purpose.names:
        builder = builder.add_extension(alternative_names(purpose.names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def common_names(name: x509.Name) -> list[str]:
    """Every common name of a subject; one is what a certificate should have."""
    return [str(item.value) for item in name.get_attributes_for_oid(NameOID.COMMON_NAME)]


def public_key(certificate: x509.Certificate) -> PublicKey:
    """The key of a certificate that `build` could have made. Raises ValueError."""
    key = certificate.public_key()
    if not isinstance(key, PublicKey):
        raise ValueError(f"no key for TLS: {type(key).__name__}")
    return key


def key_id(key: PublicKey) -> bytes:
    """SHA-256 of a public key's DER: the same for the same key in whatever certificate."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()


def pem(*certificates: x509.Certificate) -> bytes:
    """The certificates one after another."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def load(data: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file, or the one of a DER file. Raises ValueError."""
    if b"-----BEGIN" in data:
        return x509.load_pem_x509_certificates(data)
    return [x509.load_der_x509_certificate(data)]


def load_csr(data: bytes) -> x509.CertificateSigningRequest:
    """A request (PKCS#10) in PEM or DER. Raises ValueError, whatever is wrong with it."""
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_csr(data)
        return x509.load_der_x509_csr(data)
    except x509.InvalidVersion as error:  # which is no ValueError
        raise ValueError(str(error)) from None


def key_bytes(
    key: PrivateKey, passphrase: Secret | None = None, *, encoding: Encoding = Encoding.PEM
) -> Secret:
    """The key as PKCS#8, encrypted where there is a passphrase."""
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        encryption = BestAvailableEncryption(passphrase.reveal())
    return Secret(key.private_bytes(encoding, PrivateFormat.PKCS8, encryption))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority_key_identifier(
    issuer: x509.Certificate | None, signer: PrivateKey
) -> x509.AuthorityKeyIdentifier:
    if issuer is not None:
        try:
            found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            pass  # made elsewhere; the identifier is then derived as RFC 5280 4.2.1.2 (1) has it
        else:
            return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())


def _key_usage(purpose: Purpose, key: object) -> x509.KeyUsage:
    # Key encipherment is RSA key exchange of TLS 1.2; an EC key has no use for it.
    return x509.KeyUsage(
        digital_signature=not purpose.authority,
        key_encipherment=isinstance(key, rsa.RSAPublicKey) and not purpose.authority,
        key_cert_sign=purpose.authority, crl_sign=purpose.authority,
        content_commitment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
