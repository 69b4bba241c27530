"""The local EnOS's certificates: applied for, shown at MQTT's port, renewed, revoked, refused."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from enosmqtt import PLAIN, TLS, EnosClient
from enosrest import EnosRest
from imprint_tools import certificates
from imprint_tools.localcloud.broker import NOT_AUTHORIZED
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig, EnosProduct, Inferred
from imprint_tools.localcloud.enos.config import EnosLimits
from imprint_tools.localcloud.enos.records import GATEWAY
from imprint_tools.localcloud.enos.registry import ORGANISATION

PK, DK, OTHER = "gwPK0001", "edge-1", "edge-2"
NAME = (PK, DK)
HERE = {"productKey": PK, "deviceKey": DK, "version": "v2.0"}
THERE = {"productKey": PK, "deviceKey": OTHER, "version": "v2.0"}
SINGLE = {"productKey": "simple", "deviceKey": "one", "version": "v2.0"}
CONFIG = EnosConfig(
    products=(
        EnosProduct(PK, devices=(DK, OTHER), kind=GATEWAY, certificate=True),
        EnosProduct("simple", devices=("one",)),
    ),
    limits=EnosLimits(connects=None),
)
_WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
_HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[EnosCloud]:
    with EnosCloud(tmp_path / "enos", CONFIG) as running:
        yield running


@pytest.fixture
def rest(cloud: EnosCloud) -> Iterator[EnosRest]:
    with EnosRest(cloud, cloud.create_application("edge"), ORGANISATION) as client:
        client.ask_token()
        yield client


class Unit:
    """A key that stays where it is, and the certificates for it."""

    def __init__(self, folder: Path, name: str = DK, key: Any = None) -> None:
        self.folder = folder / name
        self.folder.mkdir(exist_ok=True)
        self.name = name
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        (self.folder / "key.pem").write_bytes(certificates.key_bytes(self.key).reveal())

    def csr(self, *names: str, digest: Any = None) -> str:
        """A request with those common names; its own for none."""
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names or [self.name]]
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
        signer = None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(self.key, digest or signer).public_bytes(Encoding.PEM).decode()

    def files(self, data: dict[str, Any]) -> tuple[Path, Path]:
        """What a service issued, and the key, as TLS wants them."""
        chain = self.folder / f"{data['certSN']}.pem"
        chain.write_text(data["cert"] + data["caCert"])
        return chain, self.folder / "key.pem"


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(tmp_path)


def login(
    cloud: EnosCloud, files: tuple[Path, Path] | None = None, dk: str = DK, port: int = TLS
) -> int:
    """The CONNACK's code."""
    with EnosClient(cloud, (PK, dk), port=port, certificate=files) as client:
        return client.login(cloud.device_secret(PK, dk))


def refused(cloud: EnosCloud) -> int:
    """The code of the last refusal, which is in the device log, too."""
    event = [e for e in cloud.events if e["kind"] == "refused"][-1]
    return int(event["code"])


@pytest.mark.parametrize("authority", [None, "rsa", "ECC"])
def test_a_gateway_applies_and_logs_in(
    cloud: EnosCloud, rest: EnosRest, unit: Unit, authority: str | None
) -> None:
    """746 without one, at either port; then at home with key, certificate and secret."""
    for port in (PLAIN, TLS):
        assert login(cloud, port=port) == NOT_AUTHORIZED
        assert refused(cloud) == 746
    body: dict[str, Any] = {"csr": unit.csr()}
    if authority is not None:
        body |= {"issueAuthority": authority, "validDay": 30}
    data = rest.ok("certificates", "apply", body, **HERE)
    assert data.keys() == {"certChainURL", "caCert", "cert", "certSN", "issueAuthority"}
    assert data["issueAuthority"] == (authority or "RSA").upper()
    leaf = x509.load_pem_x509_certificate(data["cert"].encode())
    above = x509.load_pem_x509_certificate(data["caCert"].encode())
    leaf.verify_directly_issued_by(above)
    kind = rsa.RSAPublicKey if data["issueAuthority"] == "RSA" else ec.EllipticCurvePublicKey
    assert isinstance(above.public_key(), kind)
    assert leaf.public_key() == unit.key.public_key()
    assert data["certSN"] == f"{leaf.serial_number:x}"
    days = (leaf.not_valid_after_utc.timestamp() - time.time()) / 86400
    assert days == pytest.approx(730 if authority is None else 30, abs=0.1)
    assert login(cloud, unit.files(data)) == 0
    assert [e["code"] for e in cloud.device_log(*NAME)] == [746, 746]


def test_the_secret_still_counts(cloud: EnosCloud, rest: EnosRest, unit: Unit) -> None:
    """The certificate is an additional factor."""
    files = unit.files(rest.ok("certificates", "apply", {"csr": unit.csr()}, **HERE))
    with EnosClient(cloud, NAME, port=TLS, certificate=files) as client:
        assert client.login("wrong") == 4
    assert refused(cloud) == 742


def test_a_certificate_is_bound_to_its_device(
    cloud: EnosCloud, rest: EnosRest, unit: Unit, tmp_path: Path
) -> None:
    """745 for another's, a stranger's, a self-made one with the same serial number."""
    data = rest.ok("certificates", "apply", {"csr": unit.csr()}, **HERE)
    files = unit.files(data)
    assert login(cloud, files, OTHER) == NOT_AUTHORIZED and refused(cloud) == 745
    (tmp_path / "strange").mkdir()
    stranger = Unit(tmp_path / "strange")
    now = certificates.utc_now()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DK)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(stranger.key.public_key())
    builder = builder.not_valid_before(now - _HOUR).not_valid_after(now + _HOUR)
    for serial in (x509.random_serial_number(), int(data["certSN"], 16)):
        made = builder.serial_number(serial).sign(stranger.key, hashes.SHA256())
        foreign = {"certSN": "f", "cert": certificates.pem(made).decode(), "caCert": ""}
        assert login(cloud, stranger.files(foreign)) == NOT_AUTHORIZED and refused(cloud) == 745
    assert login(cloud, files) == 0


def test_a_certificate_is_renewed(cloud: EnosCloud, rest: EnosRest, unit: Unit) -> None:
    """For the same key, or a new one; the old one stays valid until it is revoked."""
    old = rest.ok("certificates", "apply", {"csr": unit.csr(), "issueAuthority": "ECC"}, **HERE)
    new = rest.ok("certificates", "renew", {"certSn": old["certSN"], "validDay": 10}, **HERE)
    assert new["certSN"] != old["certSN"] and new["issueAuthority"] == "ECC"
    assert [login(cloud, unit.files(data)) for data in (old, new)] == [0, 0]
    again = Unit(unit.folder.parent, "fresh")
    data = rest.ok(
        "certificates", "renew", {"certSn": new["certSN"], "csr": again.csr(DK)}, **HERE
    )
    assert login(cloud, again.files(data)) == 0
    listed = rest.ok("certificates", "list", method="GET", **HERE)
    assert [entry["certSN"] for entry in listed] == [
        old["certSN"], new["certSN"], data["certSN"],
    ]  # fmt: skip


def test_a_renewal_may_end_the_old_one(tmp_path: Path, unit: Unit) -> None:
    """Whether the real one does is not documented."""
    config = replace(CONFIG, inferred=Inferred(renewal_revokes=True))
    with (
        EnosCloud(tmp_path / "enos", config) as cloud,
        EnosRest(cloud, cloud.create_application(), ORGANISATION) as rest,
    ):
        rest.ask_token()
        old = rest.ok("certificates", "apply", {"csr": unit.csr()}, **HERE)
        new = rest.ok("certificates", "renew", {"certSn": old["certSN"]}, **HERE)
        assert login(cloud, unit.files(old)) == NOT_AUTHORIZED
        assert login(cloud, unit.files(new)) == 0


@pytest.mark.parametrize("reason", [None, 0, 1, 3, 4, 5, 6, 9])
def test_a_certificate_is_revoked(
    cloud: EnosCloud, rest: EnosRest, unit: Unit, reason: int | None
) -> None:
    """745 from then on; it cannot be renewed; another one can be had."""
    data = rest.ok("certificates", "apply", {"csr": unit.csr(), "issueAuthority": "ECC"}, **HERE)
    body = {"certSn": data["certSN"]} | ({} if reason is None else {"reason": reason})
    assert rest.ok("certificates", "revoke", body, **HERE) is None
    assert rest.ok("certificates", "revoke", body, **HERE) is None
    assert login(cloud, unit.files(data)) == NOT_AUTHORIZED and refused(cloud) == 745
    assert rest.code("certificates", "renew", {"certSn": data["certSN"]}, **HERE) == 99400
    (entry,) = rest.ok("certificates", "list", method="GET", **HERE)
    assert entry["status"] == 1
    body = {"csr": unit.csr(), "issueAuthority": "ECC"}
    assert login(cloud, unit.files(rest.ok("certificates", "apply", body, **HERE))) == 0


def test_every_refusal_of_the_service(rest: EnosRest, unit: Unit, tmp_path: Path) -> None:
    """99400 for what a caller should have known, 11404, 11833."""
    csr = unit.csr()
    weak = Unit(tmp_path, "weak", _WEAK).csr(DK)
    long = Unit(tmp_path, "long", rsa.generate_private_key(65537, 3072)).csr(DK)
    curve = Unit(tmp_path, "curve", ec.generate_private_key(ec.SECP384R1())).csr(DK)
    edwards = Unit(tmp_path, "edwards", ed25519.Ed25519PrivateKey.generate()).csr(DK)
    unsigned = csr[:-60] + ("A" if csr[-60] != "A" else "B") + csr[-59:]
    for body in (
        {}, {"csr": 1}, {"csr": ""}, {"csr": "x"}, {"csr": csr * 100}, {"csr": unsigned},
        {"csr": weak}, {"csr": long}, {"csr": curve}, {"csr": edwards},
        {"csr": unit.csr(digest=hashes.SHA384())}, {"csr": unit.csr("a", "b")},
        {"csr": csr, "validDay": 731}, {"csr": csr, "validDay": 0}, {"csr": csr, "validDay": "9"},
        {"csr": csr, "issueAuthority": "DSA"}, {"csr": csr, "issueAuthority": 1},
    ):  # fmt: skip
        assert rest.code("certificates", "apply", body, **HERE) == 99400, body
    assert rest.ok("certificates", "list", method="GET", **HERE) == []
    assert rest.code("certificates", "apply", {"csr": csr}, **SINGLE) == 99400, (
        "not bi-directional"
    )
    nobody = HERE | {"deviceKey": "nobody"}
    for action in ("apply", "renew", "revoke", "list"):
        assert rest.code("certificates", action, {"csr": csr}, **nobody) == 11404
    good = {"csr": csr, "issueAuthority": "ECC"}
    serial = rest.ok("certificates", "apply", good, **HERE)["certSN"]
    for action in ("renew", "revoke"):
        assert rest.code("certificates", action, {"certSn": serial}, **THERE) == 11833
        for wrong in (None, "", "0", 1):
            assert rest.code("certificates", action, {"certSn": wrong}, **HERE) == 99400
    assert rest.code("certificates", "renew", {"certSn": serial, "csr": 1}, **HERE) == 99400
    for reason in (2, 7, "0", True):
        body = {"certSn": serial, "reason": reason}
        assert rest.code("certificates", "revoke", body, **HERE) == 99400
    assert rest.code("certificates", "apply", good, **THERE) == 99400, "duplicate subject"
    assert rest.code("certificates", "apply", good, **HERE) == 0, "a device may ask again"


def test_a_certificate_ends_with_its_authority(tmp_path: Path, unit: Unit) -> None:
    """Silently cut to that."""
    with (
        EnosCloud(tmp_path / "enos", CONFIG) as cloud,
        EnosRest(cloud, cloud.create_application(), ORGANISATION) as rest,
    ):
        rest.ask_token()
        cloud.require_certificate(PK, days=100_000)
        body = {"csr": unit.csr(), "validDay": 50_000, "issueAuthority": "ECC"}
        data = rest.ok("certificates", "apply", body, **HERE)
        ends = [
            x509.load_pem_x509_certificate(data[name].encode()).not_valid_after_utc
            for name in ("cert", "caCert")
        ]
        assert ends[0] == ends[1]


def test_a_device_without_a_certificate_may_use_tls(tmp_path: Path) -> None:
    """Where its product demands none; whether the real one lets it is not documented."""
    for allowed, expected in ((True, 0), (False, NOT_AUTHORIZED)):
        config = replace(CONFIG, inferred=Inferred(tls_without_certificate=allowed))
        with (
            EnosCloud(tmp_path / "enos", config) as cloud,
            EnosClient(cloud, ("simple", "one"), port=TLS) as client,
        ):
            assert client.login(cloud.device_secret("simple", "one")) == expected


def test_certificates_survive_a_restart(tmp_path: Path, unit: Unit) -> None:
    """With the organisation's authority; a deleted device's are ended."""
    cloud = EnosCloud(tmp_path / "enos", CONFIG)
    with cloud, EnosRest(cloud, cloud.create_application(), ORGANISATION) as rest:
        rest.ask_token()
        body = {"csr": unit.csr(), "issueAuthority": "ECC"}
        first = rest.ok("certificates", "apply", body, **HERE)
    with cloud, EnosRest(cloud, cloud.create_application(), ORGANISATION) as rest:
        rest.ask_token()
        assert login(cloud, unit.files(first)) == 0
        second = rest.ok("certificates", "apply", body, **HERE)
        assert second["caCert"] == first["caCert"]
        cloud.delete_device(*NAME)
        cloud.create_device(*NAME)
        assert login(cloud, unit.files(second)) == NOT_AUTHORIZED and refused(cloud) == 745
