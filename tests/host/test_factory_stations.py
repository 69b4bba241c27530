"""Stations at the factory server: who may ask, what is given, and what outlives a kill."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import factorylab
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from factorylab import Lab, serving
from imprint_tools import identities, labels
from imprint_tools.control.azure_dps import x509_enrolment
from imprint_tools.errors import ServiceError, StationError
from imprint_tools.factory.activation import Activation
from imprint_tools.factory.client import StationClient
from imprint_tools.factory.enroller import Enroller
from imprint_tools.factory.people import People, Station
from imprint_tools.factory.server import ensure_certificate
from imprint_tools.issuer import Authority
from imprint_tools.ledger import ENROLLED, ISSUED, Issued, Ledger, new_id, open_ledger
from imprint_tools.localcloud.azure.cloud import AzureCloud
from imprint_tools.localcloud.azure.faults import Trouble
from imprint_tools.secret import Secret

FIELDS = {"wifi_ssid": "bench", "wifi_password": "bench password"}
KEY = "request-key-of-a-test"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with factorylab.lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def station(shared: Lab) -> Iterator[StationClient]:
    with StationClient(shared.url, shared.ca, shared.station) as client:
        yield client


def csr(name: str, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def stored(cloud: AzureCloud) -> dict[str, dict[str, Any]]:
    """What DPS has, by id."""
    with DpsOf(cloud) as dps:
        return {entry["registrationId"]: entry for entry in dps.query()}


class DpsOf:
    """A client of the cloud's own, beside the factory's."""

    def __init__(self, cloud: AzureCloud) -> None:
        self._client = factorylab.service(cloud.folder / "look.connection", cloud).dps()

    def __enter__(self) -> Any:
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()


def eventually(what: Any) -> Any:
    """What `what` returns, once that is true."""
    deadline = time.monotonic() + factorylab.WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


# --- A unit, from nothing to an identity ---------------------------------------------------------


def test_a_unit_is_made(shared: Lab, station: StationClient, tmp_path: Path) -> None:
    """Its key stays at the station; DPS has it disabled; the identity is one that injects."""
    made = station.enrol(tmp_path / "unit", FIELDS)
    entry = stored(shared.cloud)[made.id]
    assert entry["provisioningStatus"] == "disabled" and entry["deviceId"] == made.id
    identity = identities.load_one(made.identity)
    assert identity.fields["registration_id"] == made.id
    assert identity.fields["id_scope"] == shared.cloud.config.id_scope
    leaf, _line = x509.load_pem_x509_certificates(identity.blobs["client_cert"])
    assert entry["attestation"]["x509"]["clientCertificates"]["primary"]["info"][
        "sha256Thumbprint"
    ].upper() == leaf.fingerprint(hashes.SHA256()).hex().upper()  # fmt: skip
    (tmp_path / "label.png").write_bytes(labels.png(made.id))
    assert labels.read((tmp_path / "label.png").read_bytes()) == [made.id]
    assert made.id in (tmp_path / "unit/label.svg").read_text()
    for path in (tmp_path / "unit").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    key = (tmp_path / "unit/client_key.pem").read_text().splitlines()[1]
    factory = shared.factory.config.folder
    assert all(key.encode() not in f.read_bytes() for f in factory.rglob("*") if f.is_file())


def test_the_chain_leads_to_the_root(shared: Lab, station: StationClient, tmp_path: Path) -> None:
    """The leaf, then the authority that signed it; the root is left out."""
    made = station.enrol(tmp_path / "unit", FIELDS)
    leaf, line = x509.load_pem_x509_certificates(
        (made.identity.parent / "client_cert.pem").read_bytes()
    )
    leaf.verify_directly_issued_by(line)
    assert leaf.subject.rfc4514_string() == f"CN={made.id}"


def test_enrolling_again_makes_nothing_new(
    shared: Lab, station: StationClient, tmp_path: Path
) -> None:
    """The same folder is the same unit, whatever was lost in it but its key and its request."""
    first = station.enrol(tmp_path / "unit", FIELDS)
    before = len(stored(shared.cloud))
    for name in ("client_cert.pem", "identity.toml", "root_ca.pem", "label.svg"):
        (tmp_path / "unit" / name).unlink()
    assert station.enrol(tmp_path / "unit", FIELDS) == first
    assert len(stored(shared.cloud)) == before


def test_a_printed_label_is_kept_to(station: StationClient, tmp_path: Path) -> None:
    """A unit takes the id of its label; no other unit does after it."""
    wanted = new_id()
    assert station.enrol(tmp_path / "one", FIELDS, unit_id=wanted).id == wanted
    with pytest.raises(StationError, match="has been used"):
        station.enrol(tmp_path / "two", FIELDS, unit_id=wanted)


def test_wrong_fields_are_told_at_the_station(station: StationClient, tmp_path: Path) -> None:
    """An identity that would not inject is refused with the rule, and can be finished after."""
    with pytest.raises(Exception, match="wifi_ssid"):
        station.enrol(tmp_path / "unit", {})
    assert station.enrol(tmp_path / "unit", FIELDS).identity.is_file()


# --- Who may ask ---------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["imp_1_wrong", "imp_9_" + "A" * 43])
def test_a_wrong_token_is_refused(shared: Lab, token: str, tmp_path: Path) -> None:
    """401, and nothing is made."""
    before = shared.factory.ledger.counts()
    with StationClient(shared.url, shared.ca, Secret(token)) as client:
        with pytest.raises(StationError, match="wrong or has been revoked"):
            client.enrol(tmp_path / "unit", FIELDS)
    assert shared.factory.ledger.counts() == before


@pytest.mark.parametrize("token", ["", "x", "imp_1_", "imp_1_x\n"])
def test_what_is_no_token_is_not_sent(shared: Lab, token: str) -> None:
    """A file with something else in it is told at the station."""
    with pytest.raises(StationError, match="no station's token"):
        StationClient(shared.url, shared.ca, Secret(token))


def test_a_stolen_token_is_revoked(shared: Lab, tmp_path: Path) -> None:
    """From that moment on it gets neither a new unit nor a look at an old one."""
    token = shared.factory.people.add_station("stolen", "acme")
    with StationClient(shared.url, shared.ca, token) as client:
        client.enrol(tmp_path / "one", FIELDS)
        shared.factory.people.revoke_station("stolen")
        for name in ("one", "two"):
            with pytest.raises(StationError, match="wrong or has been revoked"):
                client.enrol(tmp_path / name, FIELDS)


def test_an_account_is_no_station(shared: Lab) -> None:
    """Nor the other way round."""
    with shared.client(shared.account) as program:
        assert program.post("/api/v1/station/units", json={"request_key": KEY}).status_code == 401
    with shared.client(shared.station) as program:
        assert program.get("/api/v1/units").status_code == 401


def test_another_stations_unit_is_not_there(shared: Lab, tmp_path: Path) -> None:
    """Neither to see nor to certify."""
    other = shared.factory.people.add_station(f"other-{tmp_path.name}", "acme")
    with StationClient(shared.url, shared.ca, shared.station) as client:
        made = client.enrol(tmp_path / "unit", FIELDS)
    with shared.client(other) as program:
        path = f"/api/v1/station/units/{made.id}"
        assert program.get(path).status_code == 404
        body = {"csr": csr(made.id)}
        assert program.put(path + "/certificate", json=body).status_code == 404


def test_the_server_is_verified(shared: Lab, tmp_path: Path) -> None:
    """By the factory's own root and by its name; and nothing goes over plain HTTP."""
    with StationClient(shared.url, shared.cloud.ca_pem, shared.station) as client:
        with pytest.raises(StationError, match="not verified"):
            client.enrol(tmp_path / "unit", FIELDS)
    named = shared.url.replace("localhost", "127.0.0.1")
    with StationClient(named, shared.ca, shared.station) as client:
        with pytest.raises(StationError, match="not verified"):
            client.enrol(tmp_path / "unit", FIELDS)
    with pytest.raises(StationError, match="https"):
        StationClient(shared.url.replace("https", "http"), None, shared.station)


# --- Bad requests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [[], "x", 7, None, {"request_key": 7}, {"request_key": "short"}, {"request_key": "k" * 129},
     {"request_key": KEY + "é"}, {"request_key": KEY, "id": "../../etc"},
     {"request_key": KEY, "id": 7}, {"request_key": KEY, "organisation": "other"}],
)  # fmt: skip
def test_a_bad_reservation_is_refused(shared: Lab, body: Any) -> None:
    """422, and nothing is made."""
    before = shared.factory.ledger.counts()
    with shared.client(shared.station) as program:
        assert program.post("/api/v1/station/units", json=body).status_code == 422
    assert shared.factory.ledger.counts() == before


def test_bad_requests_for_a_certificate(shared: Lab) -> None:
    """None of them is signed: not PEM, another name, a weak key, another key after the first."""
    with shared.client(shared.station) as program:
        body = {"request_key": KEY + "bad"}
        unit = program.post("/api/v1/station/units", json=body).json()
        path = f"/api/v1/station/units/{unit['id']}/certificate"
        weak = csr(unit["id"], ec.generate_private_key(ec.SECP192R1()))
        damaged = csr(unit["id"]).replace("MI", "MJ", 1)
        for bad in ("", "x", 7, None, csr(new_id()), weak, damaged, "x" * 20_000):
            answer = program.put(path, json={"csr": bad})
            assert answer.status_code == 422, bad
            assert set(answer.json()["error"]) == {"code", "message", "next_step"}
        key = ec.generate_private_key(ec.SECP256R1())
        first = program.put(path, json={"csr": csr(unit["id"], key)})
        again = program.put(path, json={"csr": csr(unit["id"], key)})
        assert first.json()["chain"] == again.json()["chain"]
        other = program.put(path, json={"csr": csr(unit["id"])})
        assert other.status_code == 422 and "another key" in other.json()["error"]["message"]


def test_bodies_have_a_bound(shared: Lab) -> None:
    """A large one is not read to its end; one that is no JSON is told so."""
    with shared.client(shared.station) as program:
        large = program.post("/api/v1/station/units", content=b'{"a": "' + b"x" * (1 << 20))
        assert large.status_code == 413
        assert program.post("/api/v1/station/units", content=b"{").status_code == 400
        deep = b"[" * 100_000
        assert program.post("/api/v1/station/units", content=deep).status_code in (400, 422)


# --- DPS in bad weather --------------------------------------------------------------------------


def test_throttled_and_failing_dps(shared: Lab, tmp_path: Path, station: StationClient) -> None:
    """Units wait at the server; each is enrolled once, with no error for anybody."""
    shared.cloud.faults.service.extend([Trouble(429001, 1), Trouble(503001), Trouble(429001, 0)])
    made = station.enrol(tmp_path / "unit", FIELDS)
    assert not shared.cloud.faults.service
    assert stored(shared.cloud)[made.id]["provisioningStatus"] == "disabled"


def test_an_id_that_dps_has_with_another_certificate(
    shared: Lab, tmp_path: Path, station: StationClient
) -> None:
    """The unit is refused, and the enrolment stays what it was."""
    wanted = new_id()
    with Authority.create_root(tmp_path / "r", "Other", factorylab.PASSPHRASE) as other:
        foreign = other.issue_leaf(registration_id=wanted).pem.decode()
    with DpsOf(shared.cloud) as dps:
        assert dps.create([x509_enrolment(wanted, foreign, enabled=True)]) == []
    with pytest.raises(StationError, match="another certificate"):
        station.enrol(tmp_path / "unit", FIELDS, unit_id=wanted)
    assert stored(shared.cloud)[wanted]["provisioningStatus"] == "enabled"


# --- Kills at each step --------------------------------------------------------------------------


class KilledError(BaseException):
    """Stands for SIGKILL at a line: nothing after it is done, nothing is caught."""


def killed(*_: object, **__: object) -> None:
    raise KilledError


def add_station(ledger: Ledger) -> Station:
    """The first station of a ledger."""
    People(ledger).add_station("line-1", "acme")
    return People(ledger).stations()[0]


def issued_to(authority: Authority, unit_id: str, request: str) -> Issued:
    """What the server notes of a certificate."""
    made = authority.issue_leaf(registration_id=unit_id, csr=request.encode())
    thumbprint = made.certificate.fingerprint(hashes.SHA256()).hex().upper()
    return Issued(made.pem.decode(), made.serial, thumbprint)


@pytest.mark.parametrize("after", ["signing", "creating"])
def test_a_kill_between_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Signed but not noted, created in DPS but not noted: the next start makes it good."""
    with AzureCloud(tmp_path / "azure") as cloud:
        config = factorylab.make_config(
            tmp_path / "factory", cloud, factorylab.make_authority(tmp_path)
        )
        ledger = open_ledger(config.ledger)
        token = People(ledger).add_station("line-1", "acme")
        station = People(ledger).stations()[0]
        key = ec.generate_private_key(ec.SECP256R1())
        unit = ledger.reserve(station.id, station.organisation_id, KEY)
        with Authority.open(config.authority, factorylab.PASSPHRASE) as authority:
            issued = issued_to(authority, unit.id, csr(unit.id, key))
            if after == "creating":
                ledger.issue(unit.id, issued)
                dps = config.dps.dps()
                enroller = Enroller(ledger, dps, Activation(ledger, dps, {}, authority))
                with monkeypatch.context() as patch, pytest.raises(KilledError):
                    patch.setattr(Ledger, "enrolled", killed)
                    enroller.enrol_some()
                dps.close()
                assert stored(cloud) and ledger.get(unit.id).state == ISSUED
        ledger.close()
        with serving(config) as factory, Lab(cloud, factory, token, token).client(token) as desk:
            again = desk.post("/api/v1/station/units", json={"request_key": KEY}).json()
            assert again["id"] == unit.id
            path = f"/api/v1/station/units/{unit.id}"
            assert desk.put(path + "/certificate", json={"csr": csr(unit.id, key)}).is_success
            eventually(lambda: desk.get(path).json()["state"] == ENROLLED)
        assert list(stored(cloud)) == [unit.id]


def test_one_bad_enrolment_does_not_keep_the_others_out(
    shared: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bulk that is refused whole is made one by one; only the bad one is refused."""
    ledger, station = shared.factory.ledger, shared.factory.people.stations()[0]
    made = [ledger.reserve(station.id, station.organisation_id, f"{KEY}-bulk-{n}") for n in (1, 2)]
    with Authority.open(shared.factory.config.authority, factorylab.PASSPHRASE) as authority:
        good = issued_to(authority, made[0].id, csr(made[0].id))
    with DpsOf(shared.cloud) as dps:

        class Strict:
            """DPS, if it read all of a bulk before it does any of it."""

            def create(self, entries: list[dict[str, Any]]) -> Any:
                if "no certificate" in str(entries):
                    raise refusal
                return dps.create(entries)

        refusal = ServiceError("400 a certificate cannot be read")
        refusal.status = 400
        enroller = Enroller(ledger, Strict(), shared.factory.activation)  # type: ignore[arg-type]
        batch = [replace(made[0], **vars(good)), replace(made[1], certificate="no certificate")]
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "in_state", lambda *_: batch)
            refused: dict[str, str] = {}
            patch.setattr(Ledger, "refuse", lambda _, name, why: refused.update({name: why}))
            assert enroller.enrol_some()
    assert list(refused) == [made[1].id] and "cannot be read" in refused[made[1].id]
    assert made[0].id in stored(shared.cloud) and made[1].id not in stored(shared.cloud)


def test_a_torn_server_certificate_is_made_anew(shared: Lab, tmp_path: Path) -> None:
    """A key that does not fit, a certificate for other names, or half a file."""
    config = replace(shared.factory.config, folder=tmp_path)
    with Authority.open(config.authority, factorylab.PASSPHRASE) as authority:
        found = []
        for damage in ("nothing", "nothing at all", "key", "file", "names"):
            if damage == "key":
                other = authority.issue_server(names=["localhost"], renew=True)
                (tmp_path / "server.key").write_bytes(other.key_pem.reveal())
            elif damage == "file":
                (tmp_path / "server.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n")
            elif damage == "names":
                config = replace(config, names=("localhost", "127.0.0.1"))
            ensure_certificate(config, authority)
            found.append((tmp_path / "server.pem").read_bytes())
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    assert found[0] == found[1] and len(set(found)) == 4


def test_one_server_a_folder(shared: Lab) -> None:
    """A second one is told so."""
    with pytest.raises(Exception, match="runs in"):
        with serving(shared.factory.config):
            pass


def test_enrolments_go_ten_at_a_time(tmp_path: Path) -> None:
    """What has waited for DPS takes a tenth of the requests."""
    with AzureCloud(tmp_path / "azure") as cloud:
        config = factorylab.make_config(
            tmp_path / "factory", cloud, factorylab.make_authority(tmp_path)
        )
        ledger = open_ledger(config.ledger)
        station = add_station(ledger)
        dps = config.dps.dps()
        with Authority.open(config.authority, factorylab.PASSPHRASE) as authority:
            for number in range(25):
                unit = ledger.reserve(station.id, station.organisation_id, f"{KEY}-{number}")
                ledger.issue(unit.id, issued_to(authority, unit.id, csr(unit.id)))
            enroller = Enroller(ledger, dps, Activation(ledger, dps, {}, authority))
            assert [enroller.enrol_some() for _ in range(2)] == [True, False]
        assert ledger.counts() == {ENROLLED: 25} and len(stored(cloud)) == 25
        posts = (tmp_path / "azure/events.jsonl").read_text().count('"path":"/enrollments"')
        assert posts == 3
        dps.close()
        ledger.close()
