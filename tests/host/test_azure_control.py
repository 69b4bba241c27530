"""The clients of Azure's control planes, against the local Azure and the vendor's vectors."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path

import factorylab
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imprint_tools.control import azure_dps
from imprint_tools.control.azure_dps import DpsClient, x509_enrolment
from imprint_tools.control.azure_rest import AzureRest, ServiceConnection
from imprint_tools.errors import ServiceError, ServiceUnavailableError
from imprint_tools.issuer import Authority
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig
from imprint_tools.localcloud.azure.faults import Trouble
from imprint_tools.secret import Secret

KEY = base64.b64encode(bytes(range(32))).decode()
GOOD = (
    "HostName=contoso-dps.azure-devices-provisioning.net;SharedAccessKeyName=p;"
    f"SharedAccessKey={KEY}"
)
SE = 1893456000


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureCloud]:
    folder = tmp_path_factory.mktemp("cloud")
    with AzureCloud(folder) as up:
        yield up


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("ca") / "root"
    with Authority.create_root(folder, "Root", factorylab.PASSPHRASE) as root:
        return root.issue_leaf(registration_id="some-unit").pem.decode()


class Waits(list[float]):
    """Takes the place of sleeping: how long was to be waited."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def dps(cloud: AzureCloud, tmp_path: Path, waits: Waits) -> Iterator[DpsClient]:
    service = factorylab.service(tmp_path / "dps.connection", cloud)
    client = service.dps(wait=waits)
    yield client
    client.close()


# --- Connection strings and tokens ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "policy", "signature"),
    [
        (
            "contoso-dps.azure-devices-provisioning.net",
            "provisioningserviceowner",
            "WqP4ovvlMRvwqfeM8qoBUgmgpGcM3BcO7Zxdy%2BfYO1E%3D",
        ),
        (
            "contoso-hub.azure-devices.net",
            "iothubowner",
            "v7b%2B6OlOWv2ujvT9V91LYnE4e6ACRwNsAjmbl%2BcJq5w%3D",
        ),
    ],
)
def test_tokens_are_the_vendors(host: str, policy: str, signature: str) -> None:
    """Vectors made with the vendor's SDKs: azure-iot-device 2.14.0, azure-iot-common 1.13.3."""
    text = f"HostName={host};SharedAccessKeyName={policy};SharedAccessKey={KEY}"
    token = ServiceConnection.parse(text).token(SE).reveal().decode()
    assert token == f"SharedAccessSignature sr={host}&sig={signature}&se={SE}&skn={policy}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not NAME=VALUE"),
        (GOOD + ";", "not NAME=VALUE"),
        (GOOD.replace(";", ";;", 1), "not NAME=VALUE"),
        (GOOD + ";HostName=other", "HostName stands twice"),
        (GOOD.replace("HostName", "Hostname"), "does not belong"),
        (GOOD.replace("HostName=", "HostName ="), "does not belong"),
        (GOOD + ";DeviceId=x", "does not belong"),
        (GOOD.partition(";")[2], "HostName is missing"),
        (GOOD.rpartition(";")[0], "SharedAccessKey is missing"),
        (GOOD.replace(KEY, "not base64!"), "not base64"),
        (GOOD.replace("contoso-dps", "contoso/dps"), "not a host's name"),
        (GOOD.replace("SharedAccessKeyName=p", "SharedAccessKeyName="), "not NAME=VALUE"),
    ],
)
def test_a_wrong_connection_string_is_refused(text: str, problem: str) -> None:
    """Each for its own reason, and without a word of the string."""
    with pytest.raises(ServiceError, match=problem) as caught:
        ServiceConnection.parse(text)
    assert KEY not in str(caught.value)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text leads to anything but a connection or ServiceError."""
    for candidate in (text, f"{GOOD};{text}", GOOD.replace(KEY, text)):
        try:
            ServiceConnection.parse(candidate)
        except ServiceError:
            pass


def test_the_key_shows_nowhere() -> None:
    """A connection can be printed."""
    assert KEY not in repr(ServiceConnection.parse(GOOD))


# --- Enrolments ----------------------------------------------------------------------------------


def test_an_enrolment_is_created_disabled_changed_and_deleted(
    dps: DpsClient, certificate: str
) -> None:
    """Created once; changed only with the etag that it has; deleted; deleted again."""
    entry = x509_enrolment("one-unit", certificate, enabled=False)
    assert dps.create([entry]) == []
    stored = dps.get("one-unit")
    assert stored is not None and stored["provisioningStatus"] == "disabled"
    enabled = x509_enrolment("one-unit", certificate, enabled=True)
    changed = dps.put(enabled, stored["etag"])
    assert changed["provisioningStatus"] == "enabled" and changed["etag"] != stored["etag"]
    with pytest.raises(ServiceError) as caught:
        dps.put(enabled, stored["etag"])
    assert caught.value.status == 412
    dps.delete("one-unit")
    dps.delete("one-unit")
    assert dps.get("one-unit") is None


def test_a_second_enrolment_of_an_id_is_told_apart(dps: DpsClient, certificate: str) -> None:
    """In a bulk the one that exists is named as such, the others are created."""
    entries = [x509_enrolment(f"bulk-{n}", certificate, enabled=False) for n in range(3)]
    assert dps.create(entries[:1]) == []
    (error,) = dps.create(entries)
    assert (error.registration_id, error.exists) == ("bulk-0", True)
    found = {entry["registrationId"] for entry in dps.query()}
    assert {"bulk-0", "bulk-1", "bulk-2"} <= found


def test_a_query_follows_its_pages(dps: DpsClient, certificate: str) -> None:
    """More enrolments than a page has."""
    wanted = {f"page-{n:03}" for n in range(130)}
    names = sorted(wanted)
    for begin in range(0, len(names), azure_dps.BULK_MAX):
        chunk = names[begin : begin + azure_dps.BULK_MAX]
        assert dps.create([x509_enrolment(n, certificate, enabled=False) for n in chunk]) == []
    assert wanted <= {entry["registrationId"] for entry in dps.query()}


def test_who_never_registered_has_no_record(dps: DpsClient) -> None:
    """Neither enrolment nor registration record: None, not an error."""
    assert dps.get("nobody") is None and dps.registration("nobody") is None
    dps.delete_registration("nobody")


# --- Throttles, failures, servers that are not ours ----------------------------------------------


def test_a_throttle_is_obeyed(cloud: AzureCloud, dps: DpsClient, waits: Waits) -> None:
    """429 with retry-after waits exactly that; without one, and for 5xx, it backs off."""
    cloud.faults.service.extend(
        [Trouble(429001, 7), Trouble(429001), Trouble(503001), Trouble(500001, 2)]
    )
    assert dps.get("nobody") is None
    assert waits[0] == 7 and waits[3] == 2
    assert 0 < waits[1] < waits[2] < 4


def test_patience_has_an_end(cloud: AzureCloud, tmp_path: Path, waits: Waits) -> None:
    """A wait beyond the bound is not begun."""
    client = factorylab.service(tmp_path / "c", cloud).dps(patience_s=5, wait=waits)
    cloud.faults.service.append(Trouble(429001, 60))
    with pytest.raises(ServiceUnavailableError, match="status 429"):
        client.get("nobody")
    assert waits == []
    client.close()


def test_a_wait_can_be_broken_off(cloud: AzureCloud, tmp_path: Path) -> None:
    """Who stops does not wait out a throttle."""
    stopped = threading.Event()
    stopped.set()
    client = factorylab.service(tmp_path / "c", cloud).dps(wait=stopped.wait)
    cloud.faults.service.append(Trouble(429001, 60))
    with pytest.raises(ServiceUnavailableError, match="told to stop"):
        client.get("nobody")
    client.close()


def test_a_refusal_is_not_tried_again(cloud: AzureCloud, dps: DpsClient, waits: Waits) -> None:
    """A status of the 400 family is told with Azure's own code."""
    cloud.faults.service.append(Trouble(400004))
    with pytest.raises(ServiceError) as caught:
        dps.get("nobody")
    assert (caught.value.status, caught.value.error_code, waits) == (400, 400004, [])


def test_a_wrong_key_is_refused(cloud: AzureCloud) -> None:
    """401, with the two usual suspects as the next step."""
    connection = ServiceConnection(
        cloud.config.dps_host, "provisioningserviceowner", Secret(b"x" * 32)
    )
    rest = AzureRest(
        connection, azure_dps.API_VERSION, ca_file=cloud.ca_pem, address=factorylab.address(cloud)
    )
    with pytest.raises(ServiceError, match="401") as caught:
        DpsClient(rest).get("nobody")
    assert "clock" in caught.value.next_step
    rest.close()


@pytest.mark.parametrize("variant", ["expired", "wrong-name", "other-ca", "self-signed"])
def test_a_server_that_is_not_verified_gets_nothing(
    tmp_path: Path, variant: str, waits: Waits
) -> None:
    """Refused at once, each time, and before a token is sent."""
    with AzureCloud(tmp_path / "cloud", AzureConfig(certificate=variant)) as bad:
        client = factorylab.service(tmp_path / "c", bad).dps(wait=waits)
        with pytest.raises(ServiceError, match="not verified"):
            client.get("nobody")
        client.close()
    assert waits == []


def test_tokens_are_renewed_in_time(cloud: AzureCloud) -> None:
    """One token serves many requests, until five minutes before its end."""
    now = [1_000_000.0]
    connection = ServiceConnection.parse(GOOD)
    rest = AzureRest(connection, azure_dps.API_VERSION, clock=lambda: now[0])
    first = rest._authorization()
    now[0] += 3000
    assert rest._authorization() == first
    now[0] += 400
    assert rest._authorization() != first
    rest.close()
