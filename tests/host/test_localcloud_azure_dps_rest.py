"""The local provisioning service's REST: enrolments, and every way of saying no."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azurerest import Rest, token
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig
from imprint_tools.localcloud.azure.faults import Trouble

UNIT = "/enrollments/unit-1"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AzureCloud]:
    with AzureCloud(tmp_path / "azure") as running:
        yield running


@pytest.fixture
def rest(cloud: AzureCloud) -> Rest:
    return Rest.dps(cloud)


def leaf(name: str) -> str:
    """A self-signed certificate, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def symmetric(name: str, **more: Any) -> dict[str, Any]:
    return {"registrationId": name, "attestation": {"type": "symmetricKey"}, **more}


def by_certificate(name: str, entry: dict[str, Any], **more: Any) -> dict[str, Any]:
    attestation = {"type": "x509", "x509": {"clientCertificates": {"primary": entry}}}
    return {"registrationId": name, "attestation": attestation, **more}


def test_an_enrolment_is_put_read_and_deleted(rest: Rest) -> None:
    """Created disabled with its twin; an etag with quotes; gone after DELETE."""
    twin = {"tags": {"line": 7}, "properties": {"desired": {"interval": 5}}}
    wanted = symmetric("unit-1", provisioningStatus="disabled", initialTwin=twin)
    status, _, made = rest.ask("PUT", UNIT, wanted)
    assert status == 200 and made["registrationId"] == "unit-1"
    assert made["provisioningStatus"] == "disabled" and made["initialTwin"] == twin
    assert made["etag"].startswith('"') and made["etag"].endswith('"')
    assert rest.ask("GET", UNIT)[::2] == (200, made)
    assert rest.ask("GET", "/enrollments/UNIT-1")[2] == made, "ids have no case"
    assert rest.ask("DELETE", UNIT)[::2] == (204, None)
    status, headers, error = rest.ask("GET", UNIT)
    assert (status, error["errorCode"], headers["x-ms-error-code"]) == (404, 404201, "404201")
    assert {"message", "trackingId", "timestampUtc"} <= error.keys()


def test_keys_are_made_told_in_one_place_and_kept(rest: Rest) -> None:
    """GET never shows them; a PUT that names none keeps them."""
    made = rest.ask("PUT", UNIT, symmetric("unit-1"))[2]
    assert made["attestation"] == {"type": "symmetricKey"}
    keys = rest.ask("POST", UNIT + "/attestationmechanism", {})[2]["symmetricKey"]
    assert len(keys["primaryKey"]) == 88 and keys["primaryKey"] != keys["secondaryKey"]
    rest.ask("PUT", UNIT, {**made, "provisioningStatus": "disabled"})
    assert rest.ask("POST", UNIT + "/attestationmechanism", {})[2]["symmetricKey"] == keys


def test_if_match_guards_a_change(rest: Rest) -> None:
    """The current etag or * pass; another one, or one for what is not there, is 412."""
    made = rest.ask("PUT", UNIT, symmetric("unit-1"))[2]
    status, _, changed = rest.ask("PUT", UNIT, made, If_Match=made["etag"])
    assert status == 200 and changed["etag"] != made["etag"]
    assert rest.ask("PUT", UNIT, made, If_Match=made["etag"])[0] == 412
    assert rest.ask("DELETE", UNIT, If_Match=made["etag"])[0] == 412
    assert rest.ask("PUT", UNIT, made)[0] == 200, "without If-Match it overwrites"
    assert rest.ask("DELETE", UNIT, If_Match="*")[0] == 204
    assert rest.ask("PUT", UNIT, made, If_Match=made["etag"])[0] == 412


def test_overwriting_without_an_etag_can_be_refused(tmp_path: Path) -> None:
    """Not documented, so a factory can be tried with both."""
    with AzureCloud(tmp_path / "azure", AzureConfig(put_overwrites=False)) as cloud:
        rest = Rest.dps(cloud)
        assert rest.ask("PUT", UNIT, symmetric("unit-1"))[0] == 200
        assert rest.ask("PUT", UNIT, symmetric("unit-1"))[0] == 409


@pytest.mark.parametrize("echoed", [False, True])
def test_a_certificate_survives_the_way_through_get_and_put(tmp_path: Path, echoed: bool) -> None:
    """With the certificate in what GET returns, and with its info alone."""
    config = AzureConfig(get_returns_certificate=echoed)
    with AzureCloud(tmp_path / "azure", config) as cloud:
        rest, pem = Rest.dps(cloud), leaf("unit-1")
        assert rest.ask("PUT", UNIT, by_certificate("unit-1", {"certificate": pem}))[0] == 200
        got = rest.ask("GET", UNIT)[2]
        entry = got["attestation"]["x509"]["clientCertificates"]["primary"]
        assert ("certificate" in entry) is echoed
        assert entry["info"]["subjectName"] == "CN=unit-1"
        status, _, again = rest.ask("PUT", UNIT, {**got, "provisioningStatus": "disabled"})
        assert status == 200 and again["provisioningStatus"] == "disabled"
        assert again["attestation"]["x509"]["clientCertificates"]["primary"] == entry


def test_info_alone_can_be_refused_and_must_be_right(tmp_path: Path) -> None:
    """Info of another certificate is never taken; its own only where that is configured."""
    with AzureCloud(tmp_path / "azure") as cloud:
        rest = Rest.dps(cloud)
        rest.ask("PUT", UNIT, by_certificate("unit-1", {"certificate": leaf("unit-1")}))
        got = rest.ask("GET", UNIT)[2]
        got["attestation"]["x509"]["clientCertificates"]["primary"]["info"]["sha256Thumbprint"] = (
            "A"
        )
        assert rest.ask("PUT", UNIT, got)[0] == 400
    with AzureCloud(tmp_path / "azure", AzureConfig(info_keeps_certificate=False)) as cloud:
        rest = Rest.dps(cloud)
        assert rest.ask("PUT", UNIT, rest.ask("GET", UNIT)[2])[0] == 400


@pytest.mark.parametrize(
    "change",
    [
        {"registrationId": "another"}, {"provisioningStatus": "off"}, {"attestation": None},
        {"attestation": {"type": "tpm", "tpm": {}}}, {"attestation": {"type": "x509"}},
        {"attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {}}}}},
        {"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "short"}}},
        {"deviceId": "a/b"}, {"deviceId": 7}, {"allocationPolicy": "nearest"}, {"iotHubs": [1]},
        {"initialTwin": {"tags": {"a.b": 1}}}, {"initialTwin": {"properties": []}},
        {"initialTwin": {"properties": {"desired": {"x": "y" * 33000}}}},
        {"reprovisionPolicy": {"updateHubAssignment": True}},
    ],
)  # fmt: skip
def test_a_wrong_body_is_400_and_changes_nothing(rest: Rest, change: dict[str, Any]) -> None:
    """Whatever is wrong with it."""
    made = rest.ask("PUT", UNIT, symmetric("unit-1"))[2]
    status, _, error = rest.ask("PUT", UNIT, {**symmetric("unit-1"), **change})
    assert (status, error["errorCode"] // 1000) == (400, 400)
    assert rest.ask("GET", UNIT)[2] == made


def test_a_certificate_that_is_none_is_400(rest: Rest) -> None:
    """Not PEM, not base64 of DER."""
    for text in ("x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 7):
        assert rest.ask("PUT", UNIT, by_certificate("unit-1", {"certificate": text}))[0] == 400


def test_a_misspelt_name_is_ignored_as_the_service_does(rest: Rest) -> None:
    """`deviceID` is not `deviceId`."""
    made = rest.ask("PUT", UNIT, symmetric("unit-1", deviceID="x"))[2]
    assert "deviceID" not in made and "deviceId" not in made


@pytest.mark.parametrize(
    "wrong",
    ["nothing", "Bearer x", "other key", "other host", "other policy", "no policy", "expired"],
)
def test_a_wrong_signature_is_401(cloud: AzureCloud, rest: Rest, wrong: str) -> None:
    """Before anything else is looked at."""
    good, host = rest.key, rest.host
    other = "A" * 43 + "="
    sent = {
        "nothing": "",
        "Bearer x": "Bearer x",
        "other key": token(host, other, policy=rest.policy),
        "other host": token("other.azure-devices-provisioning.net", good, policy=rest.policy),
        "other policy": token(host, good, policy="somebody"),
        "no policy": token(host, good),
        "expired": token(host, good, policy=rest.policy, expiry=int(time.time()) - 1),
    }[wrong]
    status, _, error = rest.ask("GET", UNIT, authorization=sent, version=None)
    assert (status, error["errorCode"]) == (401, 401002)


def test_api_version_and_content_type_are_required(rest: Rest) -> None:
    """400 and 415."""
    assert rest.ask("GET", UNIT, version=None)[0] == 400
    assert rest.ask("GET", UNIT, version="latest")[0] == 400
    assert rest.ask("PUT", UNIT, symmetric("unit-1"), Content_Type="text/plain")[0] == 415
    assert rest.ask("PUT", UNIT, b"{")[0] == 400
    assert rest.ask("PUT", UNIT, b"[]")[0] == 400


def test_what_is_not_offered_is_404_or_405(rest: Rest) -> None:
    """With an error's body."""
    status, _, error = rest.ask("GET", "/nothing")
    assert (status, error["errorCode"]) == (404, 404001)
    assert rest.ask("PATCH", UNIT, {})[0] == 405


def test_bulk_does_each_and_tells_of_each(rest: Rest) -> None:
    """create, update, updateIfMatchETag, delete; ten at most."""

    def bulk(mode: str, *entries: dict[str, Any]) -> tuple[int, Any]:
        status, _, answer = rest.ask(
            "POST", "/enrollments", {"mode": mode, "enrollments": list(entries)}
        )
        return status, answer

    units = [symmetric(f"unit-{n}") for n in range(10)]
    assert bulk("create", *units) == (200, {"isSuccessful": True, "errors": []})
    status, answer = bulk("create", units[0], symmetric("unit-new"), symmetric("bad/id"))
    assert status == 200 and answer["isSuccessful"] is False
    assert [(e["registrationId"], e["errorCode"] // 1000) for e in answer["errors"]] == [
        ("unit-0", 409), ("bad/id", 400),
    ]  # fmt: skip
    assert rest.ask("GET", "/enrollments/unit-new")[0] == 200
    assert bulk("update", symmetric("nobody"))[1]["errors"][0]["errorCode"] == 404201
    stale = bulk("updateIfMatchETag", symmetric("unit-1", etag='"0"'))[1]
    assert stale["errors"][0]["errorCode"] // 1000 == 412
    etag = rest.ask("GET", UNIT)[2]["etag"]
    good = symmetric("unit-1", etag=etag, provisioningStatus="disabled")
    assert bulk("updateIfMatchETag", good)[1]["isSuccessful"] is True
    assert rest.ask("GET", UNIT)[2]["provisioningStatus"] == "disabled"
    assert bulk("delete", *({"registrationId": f"unit-{n}"} for n in range(10)))[0] == 200
    assert rest.ask("GET", UNIT)[0] == 404
    assert bulk("create", *units, symmetric("unit-10"))[0] == 400
    assert bulk("invent", units[0])[0] == 400 and bulk("create")[0] == 400
    body = {"mode": "delete", "enrollments": [{"registrationId": "unit-new"}]}
    assert rest.ask("POST", "/enrollments/", body)[2]["isSuccessful"] is True
    assert rest.ask("GET", UNIT + "/")[0] == 404, "and no redirection"


def test_query_pages(rest: Rest) -> None:
    """x-ms-max-item-count and x-ms-continuation; what is no query is 400."""
    for n in range(5):
        status = "disabled" if n % 2 else "enabled"
        rest.ask(
            "PUT", f"/enrollments/unit-{n}", symmetric(f"unit-{n}", provisioningStatus=status)
        )

    def query(text: str, **headers: str) -> tuple[int, dict[str, str], Any]:
        return rest.ask("POST", "/enrollments/query", {"query": text}, **headers)

    found, more = [], ""
    for _ in range(3):
        headers = {"x_ms_continuation": more} if more else {}
        status, got, items = query("SELECT * FROM enrollments", x_ms_max_item_count="2", **headers)
        assert status == 200 and got["x-ms-item-type"] == "enrollment"
        found += [item["registrationId"] for item in items]
        more = got.get("x-ms-continuation", "")
    assert found == [f"unit-{n}" for n in range(5)] and not more
    only = query("select * from enrollments where provisioningStatus = 'disabled'")[2]
    assert [item["registrationId"] for item in only] == ["unit-1", "unit-3"]
    assert query("DROP TABLE enrollments")[0] == 400
    assert query("SELECT * FROM enrollments", x_ms_continuation="?")[0] == 400
    assert query("SELECT * FROM enrollments", x_ms_max_item_count="0")[0] == 400


def test_the_service_throttles(tmp_path: Path) -> None:
    """So many a minute, then 429 with retry-after, or without where that is configured."""
    for retry_after_s in (5, None):
        config = AzureConfig(operations_per_min=2, throttle_retry_after_s=retry_after_s)
        with AzureCloud(tmp_path / "azure", config) as cloud:
            rest = Rest.dps(cloud)
            assert [rest.ask("GET", UNIT)[0] for _ in range(3)] == [404, 404, 429]
            headers = rest.ask("GET", UNIT)[1]
            assert headers.get("retry-after") == (None if retry_after_s is None else "5")


def test_troubles_can_be_ordered(cloud: AzureCloud, rest: Rest) -> None:
    """One answer each, then all is well again."""
    cloud.faults.service.extend([Trouble(500001), Trouble(429001, 7)])
    assert rest.ask("GET", UNIT)[0] == 500
    status, headers, _ = rest.ask("GET", UNIT)
    assert (status, headers["retry-after"]) == (429, "7")
    assert rest.ask("GET", UNIT)[0] == 404


def test_groups_have_the_same_verbs(rest: Rest) -> None:
    """Named by enrollmentGroupId."""
    body = {"enrollmentGroupId": "line", "attestation": {"type": "symmetricKey"}}
    assert rest.ask("PUT", "/enrollmentGroups/line", body)[0] == 200
    assert rest.ask("GET", "/enrollmentGroups/line")[2]["enrollmentGroupId"] == "line"
    assert rest.ask("POST", "/enrollmentGroups/line/attestationmechanism", {})[0] == 200
    assert rest.ask("POST", "/registrations/line/query", {})[2] == []
    assert rest.ask("DELETE", "/enrollmentGroups/line")[0] == 204
    assert rest.ask("GET", "/registrations/unit-1")[0] == 404


def test_what_was_enrolled_outlives_the_cloud(tmp_path: Path) -> None:
    """Keys and etags, too, in a file that is its owner's alone; and no key in the events."""
    with AzureCloud(tmp_path / "azure") as cloud:
        rest = Rest.dps(cloud)
        made = rest.ask("PUT", UNIT, symmetric("unit-1"))[2]
        keys = rest.ask("POST", UNIT + "/attestationmechanism", {})[2]["symmetricKey"]
    with AzureCloud(tmp_path / "azure") as cloud:
        rest = Rest.dps(cloud)
        assert rest.ask("GET", UNIT)[2] == made
        assert cloud.enrolment_key("unit-1").reveal().decode() == keys["primaryKey"]
    assert (tmp_path / "azure" / "devices.json").stat().st_mode & 0o777 == 0o600
    events = (tmp_path / "azure" / "events.jsonl").read_text()
    assert keys["primaryKey"] not in events and rest.key not in events
