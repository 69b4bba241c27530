"""Identities from files, rows, variables and answers; the rules; what a batch may not hold."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imprint_tools import attachments, identities
from imprint_tools.errors import IdentityError
from imprint_tools.identities import Identity, Question
from imprint_tools.secret import Secret

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
KEY = ec.generate_private_key(ec.SECP256R1())
CANARY = "CANARYsecret0123456789"

GOOD: dict[str, Any] = {
    "journey": "aliyun",
    "product_key": "a1B2c3D4e5F",
    "registration": "regnwl",
    "product_secret": CANARY,
    "wifi_ssid": "bench",
    "root_ca": "ca.pem",
}


def certificate(*, ca: bool = True, until: dt.datetime = NOW + DAY) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's root")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(until - 2 * DAY)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(KEY, hashes.SHA256())
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a root CA in it."""
    (tmp_path / "ca.pem").write_bytes(certificate().public_bytes(Encoding.PEM))
    return tmp_path


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def load_json(folder: Path, document: Any) -> list[Identity]:
    return identities.load(write(folder, "unit.json", json.dumps(document)), now=NOW)


def refused(folder: Path, **changes: Any) -> str:
    """The message for GOOD with changes (None removes a field)."""
    fields = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    with pytest.raises(IdentityError) as caught:
        load_json(folder, fields)
    assert CANARY not in f"{caught.value} {caught.value.next_step}"
    return str(caught.value)


# --- Sources -----------------------------------------------------------------------------------


def test_one_identity_reads_the_same_from_toml_json_and_csv(folder: Path) -> None:
    """The three formats are three spellings of one identity."""
    toml = "\n".join(f"{k} = {json.dumps(v)}" for k, v in {**GOOD, "port": 1883}.items())
    csv = ",".join([*GOOD, "port"]) + "\n" + ",".join([*map(str, GOOD.values()), "1883"]) + "\n"
    by_json = load_json(folder, {**GOOD, "port": 1883})
    assert identities.load(write(folder, "unit.toml", toml), now=NOW) == by_json
    assert identities.load(write(folder, "unit.csv", csv), now=NOW) == by_json


def test_entries_are_the_certificate_and_canonical_json(folder: Path) -> None:
    """What goes to NVS: the DER, then sorted compact JSON that holds the DER's hash."""
    identity = load_json(folder, {**GOOD, "wifi_ssid": "Büro"})[0]
    entries = identity.entries()
    assert list(entries) == ["root_ca", "identity"]
    der = (x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())).public_bytes(
        Encoding.DER
    )
    assert entries["root_ca"] == der
    assert isinstance(entries["root_ca"], bytes)
    blob = entries["identity"]
    assert isinstance(blob, Secret)
    digest = hashlib.sha256(der).hexdigest()
    assert (
        blob.reveal()
        == (
            f'{{"journey":"aliyun","product_key":"a1B2c3D4e5F","product_secret":"{CANARY}",'
            f'"registration":"regnwl","root_ca_sha256":"{digest}","wifi_ssid":"Büro"}}'
        ).encode()
    )


def test_csv_of_a_spreadsheet(folder: Path) -> None:
    """A byte order mark, CRLF, quotes, an empty line and empty cells are written so."""
    rows = [
        ",".join([*GOOD, "device_name"]),
        ",".join([*map(str, GOOD.values()), "unit-1"]).replace("bench", '"be, ""nch"""'),
        "",
        ",".join([*map(str, GOOD.values()), ""]),
    ]
    path = write(folder, "units.csv", b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    first, second = identities.load(path, now=NOW)
    assert first.fields["wifi_ssid"] == 'be, "nch"'
    assert first.fields["device_name"] == "unit-1"
    assert "device_name" not in second.fields
    assert (first.origin, second.origin) == (f"{path}, row 2", f"{path}, row 4")
    assert identities.load_one(path, 4, now=NOW) == second


def test_a_list_under_identities(folder: Path) -> None:
    """A TOML or JSON file may hold a batch, and one unit of it is picked by its row."""
    units = [{**GOOD, "device_name": f"unit-{n}"} for n in range(3)]
    assert [i.fields["device_name"] for i in load_json(folder, {"identities": units})] == [
        "unit-0", "unit-1", "unit-2",
    ]  # fmt: skip
    path = folder / "unit.json"
    assert identities.load_one(path, 2, now=NOW).fields["device_name"] == "unit-1"
    with pytest.raises(IdentityError, match="holds 3 identities"):
        identities.load_one(path, now=NOW)
    with pytest.raises(IdentityError, match="no identity in row 9") as caught:
        identities.load_one(path, 9, now=NOW)
    assert str(caught.value.next_step).endswith("unit.json, row 3.")


def test_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline brings the identity in variables; paths are from where it stands."""
    monkeypatch.chdir(folder)
    environ = {f"IMPRINT_ID_{k.upper()}": v for k, v in GOOD.items()}
    environ |= {"PATH": "/bin", "IMPRINT_ID_SECURE_MODE": "-2"}
    identity = identities.from_environment(environ, now=NOW)
    assert identity.fields["secure_mode"] == -2
    with pytest.raises(IdentityError, match="no environment variable"):
        identities.from_environment({})


def test_answers(folder: Path) -> None:
    """A person is asked what is required and what that asks for, secrets hidden."""
    asked: list[Question] = []
    answers = {**GOOD, "wifi_password": ""}

    def ask(question: Question) -> str:
        asked.append(question)
        if question.name == "product_key" and not question.problem:
            return "not alnum!"
        return str(answers[question.name])

    identity = identities.from_answers(ask, folder=folder, now=NOW)
    assert identity == load_json(folder, GOOD)[0]
    assert [q.name for q in asked] == [
        "product_key", "product_key", "registration", "product_secret", "wifi_ssid",
        "wifi_password", "root_ca",
    ]  # fmt: skip
    assert {q.name for q in asked if q.secret} == {"product_secret", "wifi_password"}
    with pytest.raises(IdentityError, match="product_key"):
        identities.from_answers(lambda _q: "!", folder=folder, now=NOW)


# --- Rules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"product_key": None}, ["product_key is missing", "1 to 32 bytes of 0-9 A-Z a-z"]),
        ({"product_secret": None}, ["product_secret is missing", "registration = regnwl"]),
        ({"registration": "none"}, ["device_name is missing", "registration = none"]),
        ({"product_key": "a" * 33}, ["product_key is 33 bytes long", "1 to 32"]),
        ({"product_key": "a b"}, ["product_key", "outside its alphabet at position 2"]),
        ({"product_secret": CANARY + "!"}, ["product_secret", "alphabet at position 23"]),
        ({"product_secret": CANARY * 9}, ["product_secret is 198 bytes long"]),
        ({"product_secret": 5}, ["product_secret is not text"]),
        ({"device_name": "abc"}, ["device_name is 3 bytes long", "4 to 32"]),
        ({"wifi_ssid": "ü" * 17}, ["wifi_ssid is 34 bytes long"]),
        ({"wifi_ssid": "\ud800"}, ["wifi_ssid is not valid Unicode"]),
        ({"port": 0}, ["port is out of range", "from 1 to 65535"]),
        ({"port": True}, ["port is not a whole number"]),
        ({"secure_mode": 2.0}, ["secure_mode", "one of -2, 2"]),
        ({"sign_method": "hmacsha512"}, ["sign_method", "hmacmd5, hmacsha1, hmacsha256"]),
        ({"journey": "nowhere"}, ["journey", "one of aliyun"]),
        ({"journey": None}, ["journey is missing"]),
        ({"produckt_key": "x"}, ["unknown field 'produckt_key'", "did you mean product_key?"]),
        ({"root_ca": None}, ["root_ca is missing"]),
        ({"root_ca": "elsewhere.pem"}, ["root_ca", "No such file"]),
        ({"root_ca": "a\0b"}, ["root_ca", "not a file's name"]),
        ({"root_ca_sha256": "0" * 64}, ["root_ca_sha256 is not the hash of root_ca"]),
    ],
)
def test_a_broken_rule_is_named(folder: Path, changes: dict[str, Any], words: list[str]) -> None:
    """The message names file, field and rule; never a value."""
    message = refused(folder, **changes)
    assert str(folder / "unit.json") in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("u.toml", 'journey = "aliyun\n', "is not TOML: .*line 1"),
        ("u.toml", "a = " + "[" * 9999, "is not TOML"),
        ("u.toml", "a = " + "9" * 9999, "is not TOML"),
        ("u.json", '{"a": ', "is not usable JSON: .*line 1, column 7"),
        ("u.json", '{"a": 1, "a": 2}', "'a' stands twice"),
        ("u.json", "[1]", "not an object"),
        ("u.json", '{"identities": [], "x": 1}', "stand alone"),
        ("u.json", '{"identities": []}', "holds no identity"),
        ("u.json", '{"identities": [3]}', "row 1: is not an object"),
        ("u.csv", "a,b\n1\n", "row 2: has 1 cells, the header names 2"),
        ("u.csv", "a,a\n1,2\n", "row 1: a field name stands twice"),
        ("u.csv", 'a,b\n"1,2\n', "is not CSV: .*line 2"),
        ("u.csv", "journey,port\naliyun,x\n", "row 2: field port is not a whole number"),
        ("u.csv", "", "holds no identity"),
        ("u.csv", b"\xff\xfe", "not UTF-8"),
        ("u.yaml", "a: 1", "ends in .toml, .json, .csv"),
    ],
)
def test_a_broken_file_is_named(folder: Path, name: str, text: str | bytes, words: str) -> None:
    """A file that is not what its name says: an error with the place."""
    with pytest.raises(IdentityError, match=words):
        identities.load(write(folder, name, text), now=NOW)


def test_a_parser_that_fails_leaves_no_document_behind(folder: Path) -> None:
    """json's own exception holds the whole text; ours is not chained to it."""
    path = write(folder, "unit.json", f'{{"product_secret": "{CANARY}", ]')
    with pytest.raises(IdentityError) as caught:
        identities.load(path, now=NOW)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"device_name": "unit-1"}, "row 2: device_name unit-1 of product .* in .*row 1"),
        ({"device_name": "unit-2"}, "row 2: device_secret is the same as in .*row 1"),
    ],
)
def test_a_duplicate_in_a_batch(folder: Path, second: dict[str, str], words: str) -> None:
    """Two units of one name, or of one secret, would be one device to the cloud."""
    first = {**GOOD, "registration": "none", "device_name": "unit-1", "device_secret": CANARY}
    with pytest.raises(IdentityError, match=words) as caught:
        load_json(folder, {"identities": [first, {**first, **second}]})
    assert CANARY not in str(caught.value)


ENOS: dict[str, Any] = {
    "journey": "enos-coap",
    "product_key": "MuGsF6W4",
    "secure_mode": 3,
    "product_secret": CANARY,
    "device_key_source": "burned",
    "device_key": "15bBZlRknc",
    "host": "coap-cn5.example",
    "modem": "bg95",
}


def test_a_journey_without_a_root(folder: Path) -> None:
    """EnOS over DTLS proves itself by the shared key: one entry, and no certificate."""
    identity = load_json(folder, ENOS)[0]
    assert not identity.blobs
    assert list(identity.entries()) == ["identity"]
    assert "root_ca_sha256" not in identity.fields
    with pytest.raises(IdentityError, match="root_ca has no place in the journey enos-coap"):
        load_json(folder, {**ENOS, "root_ca": "ca.pem"})


def test_a_journey_has_its_own_rule_for_a_field(folder: Path) -> None:
    """secure_mode 3 is EnOS's, -2 is Aliyun's."""
    assert "one of 2, 3" in refused_as(folder, {**ENOS, "secure_mode": -2})
    assert "one of -2, 2" in refused(folder, secure_mode=3)


def test_a_device_key_twice_in_a_batch(folder: Path) -> None:
    """Two units of one key would be one device to EnOS; those that take their IMEI are not."""
    words = refused_as(folder, {"identities": [ENOS, {**ENOS, "modem": "nrf91"}]})
    assert "device_key 15bBZlRknc of product MuGsF6W4" in words
    unnamed = {k: v for k, v in ENOS.items() if k != "device_key"} | {"device_key_source": "imei"}
    assert len(load_json(folder, {"identities": [unnamed, unnamed]})) == 2


def refused_as(folder: Path, document: Any) -> str:
    with pytest.raises(IdentityError) as caught:
        load_json(folder, document)
    return str(caught.value)


def test_units_named_by_their_own_chip_are_no_duplicates(folder: Path) -> None:
    """Without device_name each board names itself, so the whole batch may share one identity."""
    assert len(load_json(folder, {"identities": [GOOD, GOOD]})) == 2


# --- The root CA -------------------------------------------------------------------------------


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _pem(certificate()) * 2, "holds 2 certificates"),
        (lambda: _pem(certificate(ca=False)), "not a CA's"),
        (lambda: _pem(certificate(until=NOW - DAY)), "expired on 2026-05-31"),
        (lambda: _pem(certificate(until=NOW + 9 * DAY)), "valid from 2026-06-08"),
        (lambda: b"\x30\x03\x02\x01\x01", "not an X.509 certificate"),
        (lambda: b"-----BEGIN NONSENSE-----", "not an X.509 certificate"),
        (lambda: b"x" * 70000, "larger than"),
        (
            lambda: KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "holds a private key",
        ),
    ],
)
def test_a_root_ca_that_cannot_be_one(folder: Path, make: Callable[[], bytes], words: str) -> None:
    """Exactly one certificate, a CA's, within its dates; the error names the date."""
    write(folder, "ca.pem", make())
    with pytest.raises(IdentityError, match=words):
        load_json(folder, GOOD)


def test_pem_and_der_are_one(folder: Path) -> None:
    """The blob is DER whichever way the file spells it."""
    root = certificate()
    for name, encoding in (("a.pem", Encoding.PEM), ("a.crt", Encoding.DER)):
        path = write(folder, name, root.public_bytes(encoding))
        assert attachments.load("root_ca", path, now=NOW) == root.public_bytes(Encoding.DER)


def test_shown_hides_secrets(folder: Path) -> None:
    """What may be printed holds fingerprints in place of secrets."""
    identity = load_json(folder, {**GOOD, "wifi_password": CANARY})[0]
    assert CANARY not in f"{identity!r} {identity.shown()} {identity.entries()}"
    digest = hashlib.sha256(CANARY.encode()).hexdigest()
    assert identity.shown()["product_secret"] == f"sha256:{digest[:8]}"


# --- Any bytes ---------------------------------------------------------------------------------

_NAMES = st.sampled_from([*GOOD, "identities", "port", "device_name", "x"])
_VALUES = st.one_of(
    st.sampled_from(list(GOOD.values())), st.text(max_size=8), st.integers(), st.booleans(),
    st.none(), st.floats(), st.lists(st.integers(), max_size=2),
)  # fmt: skip
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=8)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    suffix=st.sampled_from([".toml", ".json", ".csv"]),
    data=st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
        _OBJECTS.map(lambda found: json.dumps({**GOOD, **found}).encode()),
        _OBJECTS.map(lambda found: json.dumps({"identities": [found]}).encode()),
        st.lists(st.lists(_VALUES.map(str), max_size=4), max_size=4).map(
            lambda rows: "\n".join(map(",".join, rows)).encode("utf-8", "replace")
        ),
    ),
)
def test_any_bytes_are_identities_or_an_identity_error(suffix: str, data: bytes) -> None:
    """Whatever lies in the file: a list of identities, or IdentityError, and nothing else."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ca.pem").write_bytes(_pem(certificate()))
        path = write(folder, "unit" + suffix, data)
        try:
            found = identities.load(path, now=NOW)
        except IdentityError as error:
            assert str(path) in str(error)
        else:
            assert found
            assert all(isinstance(identity, Identity) for identity in found)
