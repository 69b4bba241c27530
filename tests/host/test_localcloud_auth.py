"""Who may come in: the grammar and the signatures, against the vendor's vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from imprint_tools.localcloud.aliyun import auth
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "aliyun.json").read_text())[
    "vectors"
]
REGISTRATIONS = [v for v in VECTORS if v["kind"] in auth.REGISTRATIONS]
LOGINS = [v for v in VECTORS if v["kind"] == "login"]


def check(vector: dict[str, Any], password: str) -> None:
    client = auth.parse_client_id(vector["client_id"])
    device_name, product_key = auth.parse_username(vector["username"])
    if vector["kind"] == "login":
        key = Secret(vector["device_secret"])
        auth.check_login(client, device_name, product_key, key, Secret(password))
    else:
        key = Secret(vector["product_secret"])
        auth.check_registration(client, device_name, product_key, key, Secret(password))


def test_there_are_vectors_of_every_kind() -> None:
    """Both registrations, logins and all three methods are among the vectors."""
    assert {v["kind"] for v in REGISTRATIONS} == set(auth.REGISTRATIONS)
    assert {v["method"] for v in REGISTRATIONS} == set(auth.METHODS)
    assert {v["method"] for v in LOGINS} == set(auth.METHODS)


@pytest.mark.parametrize("vector", REGISTRATIONS + LOGINS, ids=lambda v: v["id"])
def test_a_vendor_signature_is_accepted_in_either_case(vector: dict[str, Any]) -> None:
    """What the vendor's own code signs is accepted, its hex in upper or lower case."""
    check(vector, vector["password"].upper())
    check(vector, vector["password"].lower())


@pytest.mark.parametrize("vector", REGISTRATIONS + LOGINS, ids=lambda v: v["id"])
def test_a_signature_with_one_digit_changed_is_refused(vector: dict[str, Any]) -> None:
    """One wrong digit, or none at all, is a wrong signature."""
    wrong = ("0" if vector["password"][0] != "0" else "1") + vector["password"][1:]
    for password in (wrong, "", "ü" * 64):
        with pytest.raises(Refusal, match="signature-wrong"):
            check(vector, password)


@pytest.mark.parametrize(
    ("text", "cid", "pairs"),
    [
        ("c|k=v|", "c", {"k": "v"}),
        ("a.b&c|k=v=w,l=|", "a.b&c", {"k": "v=w", "l": ""}),
        ("x" * 64 + "|securemode=-2|", "x" * 64, {"securemode": "-2"}),
    ],
)
def test_a_client_id_is_read_whatever_the_order_of_its_pairs(
    text: str, cid: str, pairs: dict[str, str]
) -> None:
    """The part before the first pipe, then pairs between two pipes."""
    assert auth.parse_client_id(text) == auth.ClientId(cid, pairs)


@pytest.mark.parametrize(
    "text",
    [
        "", "c", "c|", "||", "|k=v|", "c|k=v", "c|k=v||", "c|k=v|x", "c|kv|", "c|=v|", "c||",
        "c|k=v,|", "c|k=v,k=w|", "x" * 65 + "|k=v|",
    ],
)  # fmt: skip
def test_a_client_id_of_another_shape_is_refused(text: str) -> None:
    """Pipes missing or too many, pairs empty or twice, a first part too long."""
    with pytest.raises(Refusal, match="client-id-malformed"):
        auth.parse_client_id(text)


@pytest.mark.parametrize("text", ["", "dn", "dn&", "&pk", "dn&pk&x"])
def test_a_username_of_another_shape_is_refused(text: str) -> None:
    """A username is a device name, one ampersand, and a product key."""
    with pytest.raises(Refusal, match="username-malformed"):
        auth.parse_username(text)


@pytest.mark.parametrize(
    ("name", "valid"),
    [("abcd", True), ("Az9-_@.:", True), ("x" * 32, True),
     ("abc", False), ("x" * 33, False), ("ab cd", False), ("prüf", False)],
)  # fmt: skip
def test_a_device_name_has_4_to_32_characters_of_its_alphabet(name: str, valid: bool) -> None:
    """The rule of the vendor's RegisterDevice."""
    assert auth.valid_device_name(name) is valid


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ("authType=regnwl,random=1,signmethod=hmacsha256", "secure-mode-wrong"),
        ("securemode=3,authType=regnwl,random=1,signmethod=hmacsha256", "secure-mode-wrong"),
        ("securemode=2,authType=regnwl,signmethod=hmacsha256", "parameter-missing"),
        ("securemode=2,authType=regnwl,random=1", "parameter-missing"),
        ("securemode=2,authType=regnwl,random=1,signmethod=md5", "sign-method-unknown"),
    ],
)
def test_a_registration_without_one_of_its_parameters_is_refused(pairs: str, reason: str) -> None:
    """securemode, random and signmethod must be there and be of a known kind."""
    client = auth.parse_client_id(f"c|{pairs}|")
    with pytest.raises(Refusal, match=reason):
        auth.check_registration(client, "dn01", "pk", Secret("s"), Secret("p"))
