"""Certificates as files: for a unit, for a server, and the test hierarchy of an IoT Edge gateway.

A key that is made here is written before its certificate is asked for. So a kill at any moment
leaves either nothing, or a key that the same call takes up again; never a certificate whose key
is lost. Keys of units and servers are PKCS#8, not encrypted, readable by their owner only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from imprint_tools import certificates, issuer_store
from imprint_tools.certificates import PrivateKey
from imprint_tools.errors import AuthorityError, IssueError
from imprint_tools.issuer import LEAF_DAYS, SERVER_DAYS, Authority, Issued, check_registration_id
from imprint_tools.secret import Secret

EDGE_DAYS = 365


@dataclass(frozen=True)
class Written:
    """A certificate, its chain file and, where it was made here, its key file."""

    issued: Issued
    certificate: Path
    key: Path | None


def leaf(
    authority: Authority,
    registration_id: str,
    folder: Path,
    *,
    csr: bytes | None = None,
    days: int = LEAF_DAYS,
    key_type: str = "ec",
    renew: bool = False,
    encoding: Encoding = Encoding.PEM,
) -> Written:
    """A unit's certificate into `folder`: `ID.pem`, the chain, or `ID.der`, the leaf alone; with
    `ID.key` or `ID.key.der` where there is no `csr`."""
    check_registration_id(registration_id)

    def issue(request: bytes) -> Issued:
        return authority.issue_leaf(
            registration_id=registration_id, csr=request, days=days, renew=renew
        )

    return _write(folder, registration_id, registration_id, csr, key_type, encoding, issue)


def server(
    authority: Authority,
    names: Sequence[str],
    folder: Path,
    *,
    csr: bytes | None = None,
    days: int = SERVER_DAYS,
    key_type: str = "ec",
    renew: bool = False,
    encoding: Encoding = Encoding.PEM,
) -> Written:
    """A server's certificate into `folder`, its files called after the first name."""
    if not names:
        raise IssueError("a server's certificate needs a name")

    def issue(request: bytes) -> Issued:
        return authority.issue_server(names=names, csr=request, days=days, renew=renew)

    stem = names[0].replace("*", "_")
    return _write(folder, stem, names[0], csr, key_type, encoding, issue)


def _write(
    folder: Path,
    stem: str,
    name: str,
    csr: bytes | None,
    key_type: str,
    encoding: Encoding,
    issue: Callable[[bytes], Issued],
) -> Written:
    is_pem = encoding is Encoding.PEM
    certificate = folder / f"{stem}.{'pem' if is_pem else 'der'}"
    key_file = folder / (f"{stem}.key" if is_pem else f"{stem}.key.der")
    if certificate.exists():
        raise IssueError(
            f"{certificate} is there already", next_step="Name another folder, or move it away."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if csr is None:
            csr = _request(name, _kept_key(key_file, key_type, encoding))
            kept: Path | None = key_file
        else:
            kept = None
        issued = issue(csr)
        issuer_store.write(certificate, issued.chain_pem if is_pem else issued.der)
    except OSError as error:
        raise IssueError(f"{folder} cannot be written: {error.strerror}") from None
    return Written(issued, certificate, kept)


def _kept_key(path: Path, key_type: str, encoding: Encoding) -> PrivateKey:
    """The key in the file, which a killed call left there; else a new one, written there."""
    if path.exists():
        load = load_pem_private_key if encoding is Encoding.PEM else load_der_private_key
        try:
            found = load(path.read_bytes(), None)
        except (ValueError, TypeError):
            found = None
        if not isinstance(found, PrivateKey):
            raise IssueError(f"{path} is there already and is no key that can be used")
        return found
    key = certificates.new_key(key_type)
    secret = certificates.key_bytes(key, encoding=encoding)
    issuer_store.write(path, secret.reveal(), private=True)
    return key


def _request(name: str, key: PrivateKey) -> bytes:
    try:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError:
        raise IssueError(f"{name!r} is no common name") from None
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class EdgeFiles:
    """What a transparent IoT Edge gateway, and the devices below it, get."""

    root: Path
    device_ca_chain: Path
    device_ca_key: Path
    server_chain: Path
    server_key: Path


def edge_hierarchy(
    folder: Path,
    gateway: str,
    hostname: str,
    passphrase: Secret,
    *,
    days: int = EDGE_DAYS,
    key_type: str = "ec",
) -> EdgeFiles:
    """The hierarchy of a gateway under test: root, intermediate, device CA, server certificate.

    Below `folder` stand the authorities `root`, `intermediate` and `device-ca`, and in `certs`
    what EdgeFiles names: each chain with the certificate first and the root last. The device CA's
    key is there unencrypted as well, since IoT Edge reads it like that. The device CA is called
    `GATEWAY.ca`: with the gateway's own name or its host name, a chain would end there.
    """
    if f"{gateway}.ca" == hostname:
        raise IssueError("the gateway's name with .ca is its host name; they must differ")
    issuer_store.refuse_existing(folder)
    staged = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staged, ignore_errors=True)  # left by a process that was killed here
    now = certificates.utc_now()  # stands still, so that all end together
    try:
        with (
            Authority.create_root(
                staged / "root", f"{gateway} test root", passphrase,
                days=days, key_type=key_type, clock=lambda: now,
            ) as root,
            root.create_intermediate(
                staged / "intermediate", f"{gateway} test intermediate", passphrase,
                days=days, key_type=key_type, path_length=1,
            ) as middle,
            middle.create_intermediate(
                staged / "device-ca", f"{gateway}.ca", passphrase, days=days, key_type=key_type
            ) as device_ca,
        ):  # fmt: skip
            # The second name is how modules on the gateway itself reach it.
            made = device_ca.issue_server(
                names=(hostname, "edgeHub"), days=days, key_type=key_type
            )
            certs = staged / "certs"
            certs.mkdir(mode=0o700)
            files = _edge_files(certs)
            issuer_store.write(files.root, certificates.pem(root.certificate))
            issuer_store.write(files.device_ca_chain, certificates.pem(*device_ca.full_chain))
            issuer_store.write(files.device_ca_key, device_ca.key_pem.reveal(), private=True)
            issuer_store.write(files.server_chain, made.full_chain_pem)
            issuer_store.write(files.server_key, made.key_pem.reveal(), private=True)
        staged.rename(folder)
    except OSError as error:
        raise AuthorityError(f"{folder} cannot be made: {error.strerror}") from None
    except IssueError:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return _edge_files(folder / "certs")


def _edge_files(certs: Path) -> EdgeFiles:
    return EdgeFiles(
        root=certs / "root.pem",
        device_ca_chain=certs / "device-ca-full-chain.pem",
        device_ca_key=certs / "device-ca.key",
        server_chain=certs / "server-full-chain.pem",
        server_key=certs / "server.key",
    )
