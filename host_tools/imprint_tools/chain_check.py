"""What is wrong with the certificates that a server showed: every cause, with what to do.

Pure: certificates, anchors, the name that was dialled and the time are arguments. This is a
diagnosis, which goes on where a verifier stops; whether a connection may be used is never decided
here but by TLS itself.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from imprint_tools import certificates
from imprint_tools.errors import TrustAnchorError

_E = TypeVar("_E", bound=x509.ExtensionType)

_RSA_BITS_MIN, _EC_BITS_MIN = 2048, 256
_WEAK_HASHES = ("md5", "sha1")
_FILE_MAX = 1 << 20  # bytes; a distribution's whole bundle has a quarter of that


@dataclass(frozen=True)
class Cause:
    """A way in which a server fails: its exit status, what it means, what to do."""

    exit_status: int
    what: str
    next_step: str


# In the order in which one is named the cause where several are found.
CAUSES = {
    "name-unresolved": Cause(
        60, "The host name has no address.",
        "Compare it with `hostname` in the gateway's config.toml; add it to DNS or /etc/hosts."),
    "unreachable": Cause(
        61, "Nothing answers at the address.",
        "Check that the gateway is on and in this network, and the firewall for the port."),
    "refused": Cause(
        62, "The host is there, but nothing listens on the port.",
        "Check that edgeHub runs (iotedge list) and publishes the port."),
    "not-tls": Cause(
        63, "What answers on the port does not speak TLS.",
        "Check the port: TLS is on 8883, 443 and 5671; plain MQTT is on 1883."),
    "silent": Cause(
        64, "The port takes connections and then says nothing in TLS.",
        "Check that the service behind the port has started, and that TLS is on there."),
    "closed": Cause(
        65, "The connection was closed in the handshake.",
        "Look at the server's log. A server without certificate, or plain MQTT, does so."),
    "handshake-refused": Cause(
        66, "The server refused the handshake with an alert.",
        "Look at the server's log; it and this machine share no TLS version or cipher suite."),
    "no-certificate": Cause(
        67, "The handshake ended without a certificate of the server.",
        "Give the server a certificate and turn anonymous cipher suites off."),
    "key-not-proven": Cause(
        68, "The server did not prove that it holds the certificate's key.",
        "Give the server the key that belongs to its certificate."),
    "self-signed": Cause(
        69, "The server's certificate is signed by nobody but itself.",
        "Give the server a certificate of your CA (an Edge quickstart has one of its own)."),
    "other-ca": Cause(
        70, "The chain leads to another CA than the given one.",
        "Give --ca the root that signed the chain, or the server a chain of this root."),
    "missing-intermediate": Cause(
        71, "The certificate's issuer is neither sent nor given.",
        "Configure the server with its full chain file. If the issuer named is a root, give it "
        "with --ca."),
    "not-an-authority": Cause(
        72, "A certificate of the chain was signed by one that may not sign.",
        "Issue the chain again; each issuer needs CA:TRUE, keyCertSign and room in its pathlen."),
    "expired": Cause(
        73, "A certificate of the chain has ended.",
        "Renew it. If it is not past its date, this machine's clock is ahead."),
    "not-yet-valid": Cause(
        74, "A certificate of the chain is not valid yet.",
        "Check this machine's clock, then the clock of the machine that issued it."),
    "wrong-name": Cause(
        75, "The certificate is for other names.",
        "Dial one of its names (GatewayHostName = `hostname` in config.toml), or issue it anew."),
    "name-in-cn-only": Cause(
        76, "The name stands in the subject only, where nobody looks any more.",
        "Issue the certificate anew, with the name as subject alternative name."),
    "wrong-usage": Cause(
        77, "The certificate is not for a TLS server.",
        "Issue it with extended key usage serverAuth and key usage digitalSignature."),
    "weak": Cause(
        78, "A key or a signature of the chain is too weak, or of a kind that boards do not know.",
        "Issue it anew: EC P-256, or RSA with 2048 bits, and SHA-256."),
    "refused-by-openssl": Cause(
        79, "OpenSSL refuses the server for a reason that is none of the above.",
        "Read its words; `openssl s_client -verify_return_error -verify_hostname` shows more."),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A cause, and in what way."""

    cause: str
    about: str

    @property
    def exit_status(self) -> int:
        return CAUSES[self.cause].exit_status

    @property
    def next_step(self) -> str:
        return CAUSES[self.cause].next_step


def load_anchors(path: Path) -> list[x509.Certificate]:
    """The CA certificates in a PEM or DER file. Raises TrustAnchorError."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_MAX + 1)
    except OSError as error:
        raise TrustAnchorError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _FILE_MAX:
        raise TrustAnchorError(f"{path} is larger than {_FILE_MAX} bytes")
    if b"PRIVATE KEY-----" in data:
        raise TrustAnchorError(
            f"{path} holds a private key",
            next_step="Give the certificate alone; nobody who only trusts a CA needs its key.",
        )
    try:
        found = certificates.load(data)
        for one in found:
            basic = _extension(one, x509.BasicConstraints)
            if basic is None or not basic.ca:
                raise TrustAnchorError(
                    f"{subject(one)} in {path} is no CA's certificate",
                    next_step="Give the root that signed the server's certificate.",
                )
    except ValueError:
        raise TrustAnchorError(f"{path} holds no certificate, PEM or DER") from None
    return found


def judge(
    sent: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    host: str,
    now: datetime.datetime,
) -> list[Finding]:
    """All that is wrong with what a server at `host` sent, the gravest first."""
    chain = path(sent, anchors)
    found = [
        *_trust(chain, sent, anchors),
        *_authorities(chain),
        *_dates(chain, now),
        *_name(sent[0], host),
        *_usage(sent[0]),
        *_strength(chain, anchors),
    ]
    order = list(CAUSES)
    return sorted(found, key=lambda finding: order.index(finding.cause))


def path(
    sent: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """From the server's certificate upward, each signed by the next, as far as that goes."""
    chain = [sent[0]]
    while chain[-1] not in anchors:
        above = [one for one in (*anchors, *sent[1:]) if one not in chain]
        signer = next((one for one in above if _signed(chain[-1], one)), None)
        if signer is None:
            break
        chain.append(signer)
    return chain


def subject(certificate: x509.Certificate) -> str:
    """The common name where there is one, for a person."""
    names = certificates.common_names(certificate.subject)
    return names[0] if len(names) == 1 else certificate.subject.rfc4514_string() or "(no name)"


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses that the certificate is for."""
    found = _extension(certificate, x509.SubjectAlternativeName)
    if found is None:
        return []
    addresses = found.get_values_for_type(x509.IPAddress)
    return [*found.get_values_for_type(x509.DNSName), *map(str, addresses)]


def describe_key(certificate: x509.Certificate) -> str:
    """Kind and size of a key."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "unknown key"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey")


def _trust(
    chain: list[x509.Certificate],
    sent: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
) -> list[Finding]:
    last = chain[-1]
    if last in anchors:
        return []
    issuer = last.issuer.rfc4514_string()
    if last.issuer == last.subject and _signed(last, last):
        if last is chain[0]:
            return [Finding("self-signed", f"{subject(last)} signed itself")]
        return [Finding("other-ca", f"the chain ends at {issuer}, which is not the given CA")]
    if any(one.subject == last.issuer for one in anchors):
        return [Finding("other-ca", f"the given {issuer} has another key than its namesake that "
                                    f"signed {subject(last)}: that CA was made anew")]  # fmt: skip
    if len(sent) == 1:
        return [Finding("missing-intermediate", f"{subject(last)} was issued by {issuer}, which "
                                                "the server did not send")]  # fmt: skip
    # A server that sends issuers sends them all but the root; so this is one.
    return [Finding("other-ca", f"the chain leads to {issuer}, which is not the given CA")]


def _authorities(chain: list[x509.Certificate]) -> list[Finding]:
    found = []
    for below, one in enumerate(chain[1:]):
        basic = _extension(one, x509.BasicConstraints)
        usage = _extension(one, x509.KeyUsage)
        if basic is None or not basic.ca:
            about = "it is not marked as a CA"
        elif usage is not None and not usage.key_cert_sign:
            about = "its key is not for signing certificates"
        elif basic.path_length is not None and below > basic.path_length:
            about = f"it may have {basic.path_length} authorities below it, and has {below}"
        else:
            continue
        found.append(Finding("not-an-authority", f"{subject(one)}: {about}"))
    return found


def _dates(chain: list[x509.Certificate], now: datetime.datetime) -> list[Finding]:
    found = []
    for one in chain:
        begin, end = one.not_valid_before_utc, one.not_valid_after_utc
        if now > end:
            found.append(Finding("expired", f"{subject(one)} ended on {end:%Y-%m-%d %H:%M} UTC"))
        if now < begin:
            found.append(
                Finding("not-yet-valid", f"{subject(one)} begins on {begin:%Y-%m-%d %H:%M} UTC")
            )
    return found


def _name(leaf: x509.Certificate, host: str) -> list[Finding]:
    names = alternative_names(leaf)
    if any(_matches(name, host) for name in names):
        return []
    listed = ", ".join(names) or "none"
    if any(_matches(name, host) for name in certificates.common_names(leaf.subject)):
        return [Finding("name-in-cn-only", f"{host} is the common name; the names are: {listed}")]
    return [Finding("wrong-name", f"{host} is not among the certificate's names: {listed}")]


def _matches(pattern: str, host: str) -> bool:
    """RFC 6125 6.4: without case; a wildcard is the whole left-most label; addresses as such."""
    try:
        return ipaddress.ip_address(pattern) == ipaddress.ip_address(host)
    except ValueError:
        pass
    pattern, host = pattern.lower(), host.lower().removesuffix(".")
    if pattern.startswith("*."):
        first, dot, rest = host.partition(".")
        return bool(first and dot) and "." in rest and rest == pattern[2:]
    return pattern == host


def _usage(leaf: x509.Certificate) -> list[Finding]:
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    allowed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if extended is not None and not allowed & set(extended):
        return [Finding("wrong-usage", f"{subject(leaf)} is not for servers (extended key usage)")]
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return [Finding("wrong-usage", f"{subject(leaf)}: its key must not sign (key usage)")]
    return []


def _strength(chain: list[x509.Certificate], anchors: Sequence[x509.Certificate]) -> list[Finding]:
    found = []
    for one in chain:
        try:
            weakness = _key_weakness(one.public_key())
            hash_name = one.signature_hash_algorithm.name if one.signature_hash_algorithm else ""
        except (ValueError, UnsupportedAlgorithm):
            weakness, hash_name = "key or signature is of an unknown kind", ""
        # Nobody checks the signature of what is trusted by itself.
        if not weakness and hash_name in _WEAK_HASHES and one not in anchors:
            weakness = f"it is signed with {hash_name.upper()}"
        if weakness:
            found.append(Finding("weak", f"{subject(one)}: {weakness}"))
    return found


def _key_weakness(key: object) -> str:
    # More is good enough here than we issue: it is what mbedTLS takes by default.
    if isinstance(key, rsa.RSAPublicKey):
        return f"the RSA key has {key.key_size} bits" if key.key_size < _RSA_BITS_MIN else ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"the curve is {key.curve.name}" if key.key_size < _EC_BITS_MIN else ""
    return f"the key is {type(key).__name__.removesuffix('PublicKey')}"


def _signed(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None
