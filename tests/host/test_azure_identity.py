"""What an identity for Azure asks for at the bench is what the board would ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from imprint.clouds import azure_edge
from imprint.errors import SetupError
from imprint.identity import build
from imprint_tools import attachments, azure_identity, identities
from imprint_tools.errors import IdentityError
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.secret import Secret

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/azure.json").read_text())
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NAME = "unit-1"

PAIRS = st.tuples(
    st.sampled_from(
        ["HostName", "DeviceId", "ModuleId", "SharedAccessKey", "SharedAccessKeyName",
         "SharedAccessSignature", "GatewayHostName", "x509", "hostname", " DeviceId", ""]
    ),
    st.sampled_from(["h.example", "d", KEY, "true", "false", "", "a b", "a/b", "a+", "ä", "="])
    | st.text(max_size=5),
).map("=".join)  # fmt: skip


@pytest.mark.parametrize("case", VECTORS["derived"], ids=lambda case: case["id"])
def test_a_groups_key_gives_each_unit_its_own(case: dict[str, str]) -> None:
    """The vendor's derivation; the id's case counts."""
    made = azure_identity.derive(Secret(case["group_key"]), case["registration_id"])
    assert made.reveal().decode() == case["key"]


@given(st.lists(PAIRS | st.text(max_size=9), max_size=6).map(";".join) | st.text(max_size=60))
@example(f"HostName=h;DeviceId=d;SharedAccessKey={KEY}")
@example(f"HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey={KEY};GatewayHostName=g")
@example("HostName=h;DeviceId=d;x509=true")
def test_bench_and_board_agree_on_connection_strings(text: str) -> None:
    """Any text: both take it, or both refuse it with the same words and without its values."""
    hashes = {"client_cert_sha256": "0" * 64, "client_key_sha256": "0" * 64}
    try:
        azure_edge.endpoint(
            build({"journey": "azure-edge", "connection_string": text, **hashes}), None
        )
        board = None
    except SetupError as error:
        assert error.code == 103
        board = error.detail
    try:
        azure_identity.check({"connection_string": text, **hashes}, "x")
        bench = None
    except IdentityError as error:
        bench = str(error)
    assert (board is None) == (bench is None)
    if board and "the key is" not in board:
        assert bench == f"x: {board}"


def files(folder: Path) -> azure_pki.Issued:
    """root.pem, and unit.pem with an intermediate, unit.key."""
    root = azure_pki.authority("root")
    unit = azure_pki.leaf(azure_pki.intermediate(root, "between"), NAME)
    (folder / "root.pem").write_bytes(azure_pki.certificates.pem(root.certificate))
    (folder / "unit.pem").write_bytes(unit.chain_pem)
    (folder / "unit.key").write_bytes(unit.key_pem.reveal())
    return unit


def test_issuers_go_with_the_certificate_as_pem(tmp_path: Path) -> None:
    """A leaf alone goes as DER; with its issuers as PEM, and a root at its end is left out."""
    unit = files(tmp_path)
    chain = attachments.load("client_cert", tmp_path / "unit.pem")
    assert chain == unit.chain_pem and isinstance(chain, bytes) and chain.count(b"BEGIN") == 2
    whole = tmp_path / "whole.pem"
    whole.write_bytes(unit.chain_pem + (tmp_path / "root.pem").read_bytes())
    assert attachments.load("client_cert", whole) == chain
    alone = tmp_path / "alone.pem"
    alone.write_bytes(azure_pki.certificates.pem(unit.certificate))
    assert attachments.load("client_cert", alone)[:1] == b"\x30"  # type: ignore[index]


def test_a_chain_in_disorder_is_refused(tmp_path: Path) -> None:
    """Each has to be the issuer of the one before it, or no server could follow."""
    unit = files(tmp_path)
    mixed = tmp_path / "mixed.pem"
    other = azure_pki.intermediate(azure_pki.authority("other"), "stranger")
    mixed.write_bytes(azure_pki.certificates.pem(unit.certificate, other.certificate))
    with pytest.raises(IdentityError, match="not its issuer's"):
        attachments.load("client_cert", mixed)


def raw(**changes: object) -> dict[str, object]:
    fields = {
        "journey": "azure-dps",
        "id_scope": "0ne00123456",
        "registration_id": NAME,
        "attestation": "symmetric-key",
        "root_ca": "root.pem",
        "wifi_ssid": "bench",
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def test_a_groups_key_stays_at_the_bench(tmp_path: Path) -> None:
    """What is burned is the unit's own key; the group's is nowhere in it."""
    files(tmp_path)
    made = identities.check(raw(group_key=KEY), origin="x", folder=tmp_path)
    burned = made.entries()["identity"]
    assert isinstance(burned, Secret) and KEY.encode() not in burned.reveal()
    expected = azure_identity.derive(Secret(KEY), NAME)
    assert made.fields["symmetric_key"] == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"group_key": KEY, "symmetric_key": KEY},
        {"group_key": "c2hvcnQ="},
        {"group_key": 7},
        {"group_key": KEY, "registration_id": None},
        {"symmetric_key": "c2hvcnQ="},
        {"symmetric_key": KEY[:-1]},
    ],
)
def test_keys_that_are_none(tmp_path: Path, changes: dict[str, object]) -> None:
    """A key that cannot be one is refused at the bench, and not shown."""
    files(tmp_path)
    with pytest.raises(IdentityError) as caught:
        identities.check(raw(**changes), origin="x", folder=tmp_path)
    assert KEY[:-1] not in str(caught.value) and "c2hvcnQ" not in str(caught.value)


def test_certificate_with_issuers_agrees_with_its_key(tmp_path: Path) -> None:
    """A chain is held against key and registration id as a leaf alone is."""
    files(tmp_path)
    proof = {"attestation": "x509", "client_cert": "unit.pem", "client_key": "unit.key"}
    identities.check(raw(**proof), origin="x", folder=tmp_path)
    with pytest.raises(IdentityError, match="common name"):
        identities.check(raw(**proof, registration_id="other"), origin="x", folder=tmp_path)
