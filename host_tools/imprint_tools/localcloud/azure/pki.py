"""Certificates that stand around a local Azure: an Edge gateway's chain, and devices' own.

A folder holds a gateway's chain and is used again at the next start:

    root_ca.pem     what a downstream device trusts, and nothing else of it
    server.pem      the server's certificate, its Edge CA, the intermediate
    server.key
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from imprint_tools import certificates
from imprint_tools.certificates import PrivateKey, Purpose
from imprint_tools.localcloud.files import replace
from imprint_tools.secret import Secret

_DAY = datetime.timedelta(days=1)
_CA_LIFE = 3650 * _DAY
_SERVER_LIFE = 90 * _DAY
_RENEWAL = 30 * _DAY


@dataclass(frozen=True)
class GatewayFiles:
    root_ca: Path
    chain: Path
    key: Path


@dataclass(frozen=True)
class Issued:
    """A certificate, its key, and what stands between it and its root."""

    certificate: x509.Certificate
    key: PrivateKey
    above: tuple[x509.Certificate, ...] = ()

    def sign(self, name: str, key_type: str, purpose: Purpose, life: datetime.timedelta) -> Issued:
        """Issue another one below."""
        key, now = certificates.new_key(key_type), certificates.utc_now()
        made = certificates.build(
            name, key.public_key(), self.certificate, self.key, now - _DAY, now + life, purpose
        )
        return Issued(made, key, (self.certificate, *self.above))

    @property
    def chain_pem(self) -> bytes:
        """Itself and what is above, the root left out."""
        return certificates.pem(self.certificate, *self.above[:-1])

    @property
    def key_pem(self) -> Secret:
        return certificates.key_bytes(self.key)


def authority(name: str, key_type: str = "ec") -> Issued:
    """A root."""
    key, now = certificates.new_key(key_type, authority=True), certificates.utc_now()
    purpose = Purpose(authority=True)
    made = certificates.build(
        name, key.public_key(), None, key, now - _DAY, now + _CA_LIFE, purpose
    )
    return Issued(made, key)


def intermediate(above: Issued, name: str, key_type: str = "ec") -> Issued:
    return above.sign(name, key_type, Purpose(authority=True), _CA_LIFE)


def leaf(above: Issued, name: str, key_type: str = "ec") -> Issued:
    """A device's certificate, the name its common name."""
    return above.sign(name, key_type, certificates.CLIENT, _SERVER_LIFE)


def self_signed(name: str, key_type: str = "ec") -> Issued:
    """A device's certificate that nobody but itself stands for."""
    key, now = certificates.new_key(key_type), certificates.utc_now()
    made = certificates.build(name, key.public_key(), None, key, now - _DAY, now + _SERVER_LIFE)
    return Issued(made, key)


def gateway(folder: Path, host: str, key_type: str = "ec") -> GatewayFiles:
    """A gateway's chain: root, intermediate, Edge CA, and the server's for that host name."""
    files = GatewayFiles(folder / "root_ca.pem", folder / "server.pem", folder / "server.key")
    if all(path.exists() for path in (files.root_ca, files.chain, files.key)):
        served = certificates.load(files.chain.read_bytes())[0]
        if served.not_valid_after_utc - certificates.utc_now() > _RENEWAL:
            return files
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = authority(f"imprint gateway root {host}", key_type)
    between = intermediate(root, "imprint gateway intermediate", key_type)
    # Not the host's own name: a subject that is its issuer's would be a loop.
    edge = intermediate(between, f"{host}.ca", key_type)
    purpose = Purpose(server=True, names=(host, "edgeHub"))
    server = edge.sign(host, key_type, purpose, _SERVER_LIFE)
    replace(files.key, server.key_pem.reveal())
    replace(files.chain, server.chain_pem, mode=0o644)
    replace(files.root_ca, certificates.pem(root.certificate), mode=0o644)
    return files
