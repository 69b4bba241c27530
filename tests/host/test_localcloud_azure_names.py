"""Tokens, keys, names and topics of the local Azure against the vendor's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from imprint_tools.localcloud.azure import names, sas
from imprint_tools.localcloud.azure.twin import merged
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "azure.json").read_text())
K = Secret("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
OTHER = Secret("A" * 43 + "=")
EXPIRY = 1893456000
UNIT = names.HubUser("contoso-hub.azure-devices.net", "dev-0001", None, "2021-04-12")


@pytest.mark.parametrize("vector", VECTORS["derived"], ids=lambda vector: vector["id"])
def test_keys_are_derived_as_the_vendor_does(vector: dict[str, Any]) -> None:
    """Another case is another key."""
    derived = sas.derive(Secret(vector["group_key"]), vector["registration_id"])
    assert derived.reveal().decode() == vector["key"]


@pytest.mark.parametrize("vector", VECTORS["tokens"], ids=lambda vector: vector["id"])
def test_tokens_are_made_and_checked_as_the_vendor_does(vector: dict[str, Any]) -> None:
    """And hold until they expire, and not for another resource."""
    resource, key, expiry = vector["resource"], Secret(vector["key"]), vector["expires_s"]
    policy = vector["policy"] or None
    assert sas.make(resource, key, expiry, policy).reveal().decode() == vector["token"]
    token = sas.parse(vector["token"])
    assert (token.resource, token.expiry, token.policy) == (resource, expiry, policy)
    sas.check(token, resource, [OTHER, key], expiry - 1, 0)
    sas.check(token, resource + "/below", [key], expiry - 1, 0)
    sas.check(token, resource.upper(), [key], expiry + 299, 300)
    for wanted, keys, now, reason in (
        (resource + "x", [key], 0, "sas-resource-wrong"),
        (resource, [OTHER], 0, "sas-signature-wrong"),
        (resource, [], 0, "sas-signature-wrong"),
        (resource, [key], expiry, "sas-expired"),
    ):
        with pytest.raises(Refusal, match=reason):
            sas.check(token, wanted, keys, now, 0)


@pytest.mark.parametrize(
    "text",
    [
        "sr=0ne00123456%2fregistrations%2fdev-0001&sig=lMU1y0eqXwGPy07k50EvkF4ibiMUb5WGhacsSfsj06c%3D",
        "sr=0ne00123456/registrations/dev-0001&sig=ftZJJQKBLPOgFsc4ezWoO8rVHgKcHIphLnlo651vPl0%3D"
        "&skn=registration",
    ],
)
def test_every_spelling_of_a_resource_is_good(text: str) -> None:
    """Lower-case hex as the vendor's C SDK has it, none as Node's; fields in any order."""
    token = sas.parse(f"SharedAccessSignature {text}&se={EXPIRY}")
    sas.check(token, "0ne00123456/registrations/dev-0001", [K], 0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "", "SharedAccessSignature ", "sharedaccesssignature sr=a&sig=YQ==&se=1",
        "SharedAccessSignature sr=a&sig=YQ==", "SharedAccessSignature sr=a&sig=YQ==&se=x",
        "SharedAccessSignature sr=a&sig=YQ==&se=-1", "SharedAccessSignature sr=a&sig=?&se=1",
        "SharedAccessSignature sr=a&sr=a&sig=YQ==&se=1", "SharedAccessSignature sr&sig=YQ==&se=1",
        "SharedAccessSignature sr=%ff&sig=YQ==&se=1",
        "SharedAccessSignature sr=a&sig=YQ==&se=1&x=y",
        "SharedAccessSignature sr=a&sig=YQ==&se=1234567890123",
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused(text: str) -> None:
    """Whatever is wrong with it."""
    with pytest.raises(Refusal, match="sas-malformed"):
        sas.parse(text)


def test_topics_of_the_vendors_sdk_are_read() -> None:
    """Its property bag with all that needs an escape."""
    begin = "devices/dev-0001/messages/events/"
    assert names.parse_hub_topic(begin, UNIT) == names.Telemetry({})
    bag = (
        "%24.mid=id%201%2F2&%24.cid=c%26%3D%2B%25&%24.ct=application%2Fjson&%24.ce=utf-8"
        "&a%20b=c%2Fd%3Fe%23f%2Bg&temperatureAlert=false"
        "&%D0%BA%D0%BB%D1%8E%D1%87=%D0%B7%D0%BD%D0%B0%D1%87%D0%B5%D0%BD%D0%B8%D0%B5"
    )
    found = names.parse_hub_topic(begin + bag, UNIT)
    assert isinstance(found, names.Telemetry)
    assert found.properties == {
        "$.mid": "id 1/2", "$.cid": "c&=+%", "$.ct": "application/json", "$.ce": "utf-8",
        "a b": "c/d?e#f+g", "temperatureAlert": "false", "ключ": "значение",
    }  # fmt: skip
    assert names.parse_bag(names.write_bag({"a b": "c/d", "ключ": "&="})) == {
        "a b": "c/d", "ключ": "&=",
    }  # fmt: skip
    for topic, expected in (
        ("$iothub/methods/res/200/?$rid=3", names.MethodAnswer("3", 200)),
        ("$iothub/twin/GET/?$rid=5", names.TwinGet("5")),
        ("$iothub/twin/PATCH/properties/reported/?$rid=6", names.ReportedPatch("6")),
    ):
        assert names.parse_hub_topic(topic, UNIT) == expected
    register = "$dps/registrations/PUT/iotdps-register/?$rid=rid%201%2F2%2B"
    assert names.parse_dps_topic(register) == names.RegisterRequest("rid 1/2+")
    assert names.dps_answer_topic(202, "rid 1/2+", 3) == (
        "$dps/registrations/res/202/?$rid=rid%201%2F2%2B&retry-after=3"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "malformed"),
        ("HostName=h;DeviceId=d;SharedAccessKey=k;", "malformed"),
        ("HostName=h;HostName=h;DeviceId=d;SharedAccessKey=k", "malformed"),
        ("Hostname=h;DeviceId=d;SharedAccessKey=k", "malformed"),
        ("HostName=h; DeviceId=d;SharedAccessKey=k", "malformed"),
        ("HostName=h;DeviceId=d;SharedAccessKey=k;x", "malformed"),
        ("HostName=h;DeviceId=d", "incomplete"),
        ("HostName=h;DeviceId=d;SharedAccessSignature=s", "incomplete"),
        ("DeviceId=d;SharedAccessKey=k", "incomplete"),
        ("HostName=h;DeviceId=;SharedAccessKey=k", "incomplete"),
        ("HostName=h;DeviceId=d;SharedAccessKey=k;x509=true", "contradicts"),
        ("HostName=h;DeviceId=d;SharedAccessKey=k;x509=false", "contradicts"),
    ],
)
def test_connection_strings_are_strict(text: str, reason: str) -> None:
    """By the grammar of the vendor's Python SDK."""
    with pytest.raises(Refusal, match=f"connection-string-{reason}"):
        names.parse_connection_string(text)


def test_good_connection_strings_are_read() -> None:
    """A key's own equals signs are its own."""
    text = "HostName=h;DeviceId=d;SharedAccessKey=ab==;GatewayHostName=g"
    assert names.parse_connection_string(text) == {
        "HostName": "h", "DeviceId": "d", "SharedAccessKey": "ab==", "GatewayHostName": "g",
    }  # fmt: skip
    assert names.parse_connection_string("HostName=h;DeviceId=d;x509=true")["x509"] == "true"
    assert names.parse_connection_string("HostName=h;SharedAccessKeyName=n;SharedAccessKey=k")


def test_a_merge_patch_is_that_of_the_rfc() -> None:
    """RFC 7396: null deletes, objects merge, arrays and all else replace."""
    old = {"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 1}
    patch = {"a": {"b": None, "x": {"y": None, "z": 1}}, "d": [3], "e": {"f": 1}}
    assert merged(old, patch, 1000) == {
        "a": {"c": 2, "x": {"z": 1}}, "d": [3], "e": {"f": 1},
    }  # fmt: skip
    assert old["a"] == {"b": 1, "c": 2}, "the old one is untouched"
