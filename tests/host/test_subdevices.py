"""The list of sub-devices: what passes at the bench, the board takes; and a unit's own key."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from imprint.drivers import modbus, simulated
from imprint.subdevices import Subdevices
from imprint.wire import der
from imprint_tools import attachments, certificates, identities, inject
from imprint_tools.errors import IdentityError
from imprint_tools.secret import Secret
from imprint_tools.subdevices import agree, compile_list

TOML = b"""
[bus]
id = 2
baudrate = 19200

[tables.inv]
driver = "modbus"
points = ["power:i:30775:s32:0.1", "on:c:3:bit", "energy:h:1:f32r"]

[tables.sim]
driver = "simulated"
points = ["t:20:5"]

[[subdevices]]
device_key = "inv-1"
table = "inv"
address = 1

[[subdevices]]
device_key = "m:1@x"
product_key = "meterPK"
table = "sim"
device_secret = "Secret01"
"""

MODBUS = {"m": {"driver": "modbus", "points": ["t:h:1:u16"]}}


class Nothing:
    """A store in which nothing was ever issued."""

    def read(self, _name: str) -> None:
        return None


def compiled(document: Any) -> bytes:
    return compile_list(json.dumps(document).encode(), Path("list.json")).reveal()


def document() -> dict[str, Any]:
    return {
        "tables": {"sim": {"driver": "simulated", "points": ["t:1:2"]}},
        "subdevices": [{"device_key": "a", "table": "sim", "address": 1}],
    }


def test_the_board_takes_it() -> None:
    """What the bench makes, the board's own module and drivers read as it was meant."""
    text = compile_list(TOML, Path("list.toml")).reveal()
    found = Subdevices(io.BytesIO(text), Nothing(), "invPK")
    assert [found.name(0), found.name(1)] == [("invPK", "inv-1"), ("meterPK", "m:1@x")]
    assert found.secret(1) == b"Secret01"
    assert json.loads(found.bus) == {"id": 2, "baudrate": 19200}
    assert found.place(1) == ("sim", 0)
    words = found.table("inv")
    modbus.Driver(words[1:], io.BytesIO(), lambda: None)
    assert simulated.Driver(found.table("sim")[1:], {}, lambda: None).poll(0).keys() == {"t"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, "unknown 'colour'"),
        ({"subdevices": []}, "1 to 200"),
        ({"subdevices": [{"device_key": "a b", "table": "sim"}]}, "device_key"),
        ({"subdevices": [{"device_key": "a", "table": "none"}]}, "names none"),
        ({"subdevices": [{"device_key": "a", "table": "sim", "address": -1}]}, "address"),
        ({"subdevices": [{"device_key": "a", "table": "sim", "adress": 1}]}, "unknown field"),
        ({"subdevices": [{"device_key": "a", "table": "sim"}] * 2}, "already"),
        ({"tables": {"sim": {"driver": "magic", "points": ["t"]}}}, "driver"),
        ({"tables": {"sim": {"driver": "../x", "own": True, "points": ["t"]}}}, "driver"),
        ({"tables": {"sim": {"driver": "mine", "own": True, "points": ["a b"]}}}, "no point"),
        ({"tables": {"sim": {"driver": "simulated", "points": ["t"]}}}, "no point"),
        ({"tables": {"sim": {"driver": "modbus", "points": ["t:c:1:u16"]}}}, "no point"),
        ({"tables": {"m": {"driver": "modbus", "points": ["t:h:65536:u16"]}}}, "no point"),
        ({"tables": {"m": {"driver": "modbus", "points": ["t:h:65535:u32"]}}}, "no point"),
        ({"tables": {"m": {"driver": "modbus", "points": ["t:h:1:u16:0"]}}}, "no point"),
        ({"tables": MODBUS, "subdevices": [{"device_key": "a", "table": "m"}]}, "1 to 247"),
        (
            {"tables": MODBUS, "subdevices": [{"device_key": "a", "table": "m", "address": 248}]},
            "1 to 247",
        ),
        ({"subdevices": [{"device_key": "a", "table": ["sim"]}]}, "names none"),
        ({"bus": {"baud": 9600}}, "bus has no 'baud'"),
        ({"bus": {"id": "1"}}, "whole number"),
    ],
)
def test_refused(change: dict[str, Any], said: str) -> None:
    """Each rule has its message."""
    with pytest.raises(IdentityError, match=said):
        compiled(document() | change)


def test_nested_too_deep() -> None:
    """A list that no parser gets to the end of is refused as well."""
    with pytest.raises(IdentityError, match="nested too deep"):
        compile_list(b"[" * 100_000, Path("list.json"))


@pytest.mark.parametrize(
    ("entries", "product_key", "said"),
    [
        ([{"device_key": "a"}], None, "a has no product"),
        (
            [{"device_key": "a"}, {"device_key": "a", "product_key": "P1"}],
            "P1",
            "P1/a stands twice",
        ),
        ([{"device_key": "a"}, {"device_key": "a", "product_key": "P2"}], "P1", ""),
        ([{"device_key": "a", "product_key": "P2"}], None, ""),
    ],
)
def test_products(entries: list[dict[str, Any]], product_key: str | None, said: str) -> None:
    """Each sub-device has a product, by its own line or by the identity, and is there once."""
    text = compiled(document() | {"subdevices": [{"table": "sim"} | e for e in entries]})
    parts = attachments.parts("subdevices", Secret(text)).values()
    try:
        agree(parts, product_key, "edge.toml")
        found = ""
    except IdentityError as error:
        found = str(error)
    assert said in found and bool(said) == bool(found)


def test_own_driver() -> None:
    """A driver of one's own has its own words."""
    table = {"driver": "mine", "own": True, "points": ["any/thing?"]}
    assert compiled(document() | {"tables": {"sim": table}}).startswith(b"!sim mine any/thing?\n")


def test_a_long_list(tmp_path: Path) -> None:
    """One that a page of NVS does not hold goes in parts of whole lines; longer still is refused,
    and nobody names a part."""
    entry = {"table": "sim", "device_secret": "0123456789abcdefghij"}
    entries = [entry | {"device_key": f"inverter-{n:03}", "address": n} for n in range(200)]
    whole = compiled(document() | {"subdevices": entries})
    found = attachments.parts("subdevices", Secret(whole))
    assert list(found) == ["subdevices", "subdevices2", "subdevices3"]
    bare = [part.reveal() for part in found.values() if isinstance(part, Secret)]
    assert b"".join(bare) == whole and all(part.endswith(b"\n") for part in bare)
    assert max(map(len, bare)) <= 4000
    assert attachments.parts("subdevices", Secret(whole[:99])).keys() == {"subdevices"}

    long = [e | {"device_key": f"{e['device_key']:-<48}"} for e in entries]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(document() | {"subdevices": long}))
    with pytest.raises(IdentityError, match="NVS takes 12,000") as refused:
        attachments.load("subdevices", path)
    assert "shorter device keys" in str(refused.value.next_step)
    with pytest.raises(IdentityError, match="unknown field 'subdevices2'"):
        identities.check({"subdevices2": "x"}, origin="test", folder=tmp_path)


def test_secrets_do_not_show() -> None:
    """A list that is refused, or cannot be read, shows no secret."""
    entry = {"device_key": "a", "table": "sim", "device_secret": "Very secret!"}
    with pytest.raises(IdentityError) as refused:
        compiled(document() | {"subdevices": [entry]})
    assert "Very" not in str(refused.value)
    with pytest.raises(IdentityError) as broken:
        compile_list(b'[[subdevices]]\ndevice_secret = "Very secret', Path("list.toml"))
    assert "Very" not in str(broken.value) and broken.value.__cause__ is None
    assert "Secret01" not in repr(compile_list(TOML, Path("list.toml")))


def test_applicant() -> None:
    """A unit that applies for its certificate has a key of its own, and a request for it that the
    board can tell from another's."""
    key, request = attachments.applicant("PK", "DK")
    loaded = x509.load_der_x509_csr(request)
    assert loaded.is_signature_valid
    assert loaded.subject.rfc4514_string() == "CN=PK.DK"
    private = load_der_private_key(key.reveal(), None)
    assert private.public_key() == loaded.public_key()
    pem = der.to_pem(request)
    assert x509.load_pem_x509_csr(pem.encode()).public_key() == loaded.public_key()
    assert attachments.applicant("PK", "DK")[0] != key


def test_a_unit_keeps_its_key(tmp_path: Path) -> None:
    """An identity that is loaded again, with a new key, is the same to a unit that has one; and
    another one to a unit whose other fields differ."""
    root = tmp_path / "root.pem"
    root.write_bytes(certificates.pem(issuer_certificate()))
    raw = {
        "journey": "enos-gateway",
        "product_key": "PK",
        "device_key": "DK",
        "secure_mode": 2,
        "device_secret": "Secret01",
        "host": "mqtt.example",
        "root_ca": str(root),
        "wifi_ssid": "bench",
        "certificate": "apply",
        "api_host": "api.example",
        "access_key": "key",
        "access_secret": "Secret02",
        "org_id": "o1",
    }
    first, second, other = (
        identities.check(raw | more, origin="test", folder=tmp_path)
        for more in ({}, {}, {"interval_s": 5})
    )
    assert first.fields["client_key_sha256"] != second.fields["client_key_sha256"]
    bare = inject.blobs(first)
    held = inject.Held(
        first.shown(),
        hashlib.sha256(bare.pop("identity")).hexdigest(),
        {name: hashlib.sha256(blob).hexdigest() for name, blob in bare.items()},
        (),
    )
    assert held.is_of(first) and held.is_of(second)
    assert not held.is_of(other)


def issuer_certificate() -> x509.Certificate:
    key = certificates.new_key("ec")
    now = certificates.utc_now()
    end = now + datetime.timedelta(days=1)
    purpose = certificates.Purpose(authority=True)
    return certificates.build("root", key.public_key(), None, key, now, end, purpose)


def test_a_long_name_is_the_device_key() -> None:
    """A common name has 64 characters at most."""
    _, request = attachments.applicant("P" * 32, "D" * 64)
    assert x509.load_der_x509_csr(request).subject.rfc4514_string() == "CN=" + "D" * 64
