"""Tokens, keys, names and topics of the local Azure against the vendor's own."""

from __future__ import annotations

import pytest
from imprint_tools.localcloud import azure_names as names
from imprint_tools.localcloud import azure_sas as sas
from imprint_tools.localcloud.azure_twin import merged
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

# Made with the vendor's Python and Node SDKs, the clock stopped; the first group key and its
# result are printed in the vendor's documentation.
K = Secret("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
G1 = Secret(
    "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
)
G2 = Secret(
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw=="
)
EXPIRY = 1893456000
UNIT = names.HubUser("contoso-hub.azure-devices.net", "dev-0001", None, "2021-04-12")


@pytest.mark.parametrize(
    ("group", "registration_id", "key"),
    [
        (
            G1,
            "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6",
            "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=",
        ),
        (G2, "pico-e66118604b4a2d29", "CnUCxzqY857uL8LwtJsPQKTUOHDNvs26hp1y6Qin3Cw="),
        (G2, "PICO-E66118604B4A2D29", "v/1kKt3RVhdaDC/Yz/i3rY4NhC9IMyh0N3Id6qbou84="),
    ],
)
def test_keys_are_derived_as_the_vendor_does(
    group: Secret, registration_id: str, key: str
) -> None:
    """Another case is another key."""
    assert sas.derive(group, registration_id).reveal().decode() == key


@pytest.mark.parametrize(
    ("resource", "key", "policy", "signature"),
    [
        (
            "contoso-hub.azure-devices.net/devices/dev-0001",
            K,
            None,
            "3kRwOiYneLOtFwwJVKwVRgMO6PFucFkOZ2ztlVirbCY%3D",
        ),
        (
            "contoso-hub.azure-devices.net/devices/Dev_1.a:b@c!(x)'*",
            K,
            None,
            "8NKntyJzUzf1Vxlhd44Bd1kpe9442o%2FoU%2BBvYQ6br%2FY%3D",
        ),
        (
            "0ne00123456/registrations/pico-e66118604b4a2d29",
            sas.derive(G2, "pico-e66118604b4a2d29"),
            "registration",
            "eG8Avn4qwD%2BxqStVNVxIiSdC2X7EZuj3klu9SgMBJ10%3D",
        ),
        (
            "contoso-dps.azure-devices-provisioning.net",
            K,
            "provisioningserviceowner",
            "WqP4ovvlMRvwqfeM8qoBUgmgpGcM3BcO7Zxdy%2BfYO1E%3D",
        ),
    ],
)
def test_tokens_are_made_and_checked_as_the_vendor_does(
    resource: str, key: Secret, policy: str | None, signature: str
) -> None:
    """And hold until they expire, and not for another resource."""
    text = sas.make(resource, key, EXPIRY, policy).reveal().decode()
    assert f"&sig={signature}&se={EXPIRY}" in text
    token = sas.parse(text)
    assert (token.resource, token.expiry, token.policy) == (resource, EXPIRY, policy)
    sas.check(token, resource, [G1, key], EXPIRY - 1, 0)
    sas.check(token, resource, [key], EXPIRY + 299, 300)
    for wanted, keys, now, reason in (
        (resource + "x", [key], 0, "sas-resource-wrong"),
        (resource, [G1], 0, "sas-signature-wrong"),
        (resource, [], 0, "sas-signature-wrong"),
        (resource, [key], EXPIRY, "sas-expired"),
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
