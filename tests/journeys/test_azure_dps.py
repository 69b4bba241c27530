"""The journey by way of Azure's provisioning service, and what goes wrong on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from azure_bench import UNIT, AzureBench
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.cloud import AzureConfig, Trouble
from journey_bench import flash_content

MakeBench = Callable[..., AzureBench]

APPLICATION = Path(__file__).parents[2] / "examples/azure_application.py"
BOTH = pytest.mark.parametrize("attestation", ["x509", "symmetric-key"])


@pytest.fixture(scope="module")
def with_application() -> bytes:
    """A flash with the example's application."""
    return flash_content({"application.py": APPLICATION.read_bytes()})


@BOTH
def test_a_unit_provisions_itself_and_reports(
    make_azure_bench: MakeBench, attestation: str
) -> None:
    """First power-on: DPS names the hub, and the first report is there; the next start goes
    straight to that hub."""
    bench = make_azure_bench(attestation=attestation)
    bench.board.power_on()
    bench.wait("registered")
    bench.online()
    assert bench.device()["online"]
    bench.power_cycle()
    bench.online()
    assert bench.registrations() == 1
    bench.keeps_its_secrets()


@pytest.mark.parametrize("after_poll", [False, True])
def test_a_disabled_enrolment_is_waited_for(
    make_azure_bench: MakeBench, *, after_poll: bool
) -> None:
    """Disabled is an answer: the unit asks again, and comes online when it was activated."""
    config = AzureConfig(retry_after_s=1, polls=1, disabled_after_poll=after_poll)
    bench = make_azure_bench(config=config)
    bench.cloud.set_enabled(UNIT, False)
    bench.board.power_on()
    for _ in range(2):
        bench.wait("disabled")
        bench.wait("state", s="WAIT")
    bench.cloud.set_enabled(UNIT, True)
    bench.online()
    assert not [item for item in bench.items if "error" in str(item)]


def test_a_chain_is_sent_for_a_group(make_azure_bench: MakeBench) -> None:
    """A group's unit sends its issuer with its leaf: to DPS, and to the hub."""
    bench = make_azure_bench(enrolled=False)
    root = azure_pki.authority("maker's root")
    unit = azure_pki.leaf(azure_pki.intermediate(root, "maker's line"), UNIT)
    (bench.folder / "unit.pem").write_bytes(unit.chain_pem)
    (bench.folder / "unit.key").write_bytes(unit.key_pem.reveal())
    bench.cloud.upload_ca("maker", azure_pki.certificates.pem(root.certificate))
    bench.cloud.enrol_group(
        "fleet", attestation={"type": "x509", "x509": {"caReferences": {"primary": "maker"}}}
    )
    bench.burn(bench.make_identity())
    bench.board.power_on()
    bench.online()
    assert bench.device()["online"]


def test_a_key_that_was_derived_from_a_groups(make_azure_bench: MakeBench) -> None:
    """A group's key makes each unit's own at the bench; the unit never has the group's."""
    bench = make_azure_bench(attestation="symmetric-key")
    bench.cloud.delete_enrolment(UNIT)
    bench.cloud.enrol_group("fleet")
    group_key = bench.cloud.group_key("fleet").reveal().decode()
    bench.burn(bench.make_identity(group_key=group_key))
    bench.board.power_on()
    bench.online()
    assert group_key.encode() not in bench.read()


@BOTH
def test_a_hub_that_refuses_leads_to_dps_again(
    make_azure_bench: MakeBench, attestation: str
) -> None:
    """A device that its hub has lost is assigned anew, and no report is lost meanwhile."""
    bench = make_azure_bench(attestation=attestation)
    bench.board.power_on()
    bench.online()
    bench.cloud.delete_device(UNIT)
    bench.error(507)
    bench.wait("registered")
    bench.online()
    last = bench.reported()
    bench.lost_nothing(last)
    assert bench.registrations() == 2


def test_a_device_that_is_disabled_at_its_hub_is_no_storm(make_azure_bench: MakeBench) -> None:
    """As long as the hub refuses what DPS assigns, the time between two registrations grows."""
    bench = make_azure_bench()
    bench.board.power_on()
    bench.online()
    bench.cloud.set_device_enabled(UNIT, False)
    waits = [bench.wait("wait").data["ms"] for _ in range(3)]
    before = bench.registrations()
    waits.append(bench.wait("wait").data["ms"])
    assert bench.registrations() - before <= 1
    assert all(later > first for first, later in zip(waits[:2], waits[2:], strict=True))
    bench.cloud.set_device_enabled(UNIT, True)
    bench.online(timeout_s=60)
    bench.lost_nothing(bench.reported())


def test_a_token_is_renewed_before_it_ends(make_azure_bench: MakeBench) -> None:
    """A new connection with a new token takes the place of the old one: nothing is lost, nothing
    comes twice, and the hub never has to cut the unit off."""
    bench = make_azure_bench(attestation="symmetric-key", sas_ttl_s=15)
    bench.board.power_on()
    bench.online()
    bench.wait("renewed", timeout_s=30)
    bench.reported()
    last = bench.reported()
    bench.lost_nothing(last, twice=False)
    assert not [item for item in bench.items if "error" in str(item)]
    assert bench.registrations() == 1


@pytest.mark.parametrize("retry_after_s", [None, 2])
def test_a_throttled_registration_waits(
    make_azure_bench: MakeBench, retry_after_s: int | None
) -> None:
    """429 and faults of the service, with and without a time to wait: the same question again."""
    bench = make_azure_bench()
    bench.cloud.faults.provisioning.extend(
        [Trouble(429001, retry_after_s), Trouble(503001, retry_after_s)]
    )
    bench.board.power_on()
    bench.online()
    assert bench.registrations() == 1


def test_a_long_retry_after_is_obeyed_without_a_connection(make_azure_bench: MakeBench) -> None:
    """What DPS asks to wait for is obeyed, above the back-off's own ceiling, too."""
    bench = make_azure_bench()
    bench.cloud.faults.provisioning.append(Trouble(429001, 400))
    bench.board.power_on()
    bench.error(423)
    assert bench.wait("wait").data["ms"] >= 400_000


@pytest.mark.parametrize(
    ("digits", "code"), [(400001, 422), (401002, 420), (404201, 421), (409203, 423)]
)
def test_refusals(make_azure_bench: MakeBench, digits: int, code: int) -> None:
    """Each refusal has its code, with the service's own number."""
    bench = make_azure_bench()
    bench.cloud.faults.provisioning.append(Trouble(digits))
    bench.board.power_on()
    assert bench.error(code).data["number"] == digits


def test_a_unit_that_is_not_enrolled_halts(make_azure_bench: MakeBench) -> None:
    """Nobody knows it: it waits for a person, and does not hammer the service."""
    bench = make_azure_bench()
    bench.cloud.delete_enrolment(UNIT)
    bench.board.power_on()
    bench.halted_with(421)


@pytest.mark.parametrize("at", ["register", "connect"])
def test_a_wrong_key_halts(make_azure_bench: MakeBench, at: str) -> None:
    """A wrong key is refused wherever the service does it."""
    config = AzureConfig(sas_refused_at=at)
    bench = make_azure_bench(config=config, attestation="symmetric-key")
    bench.burn(bench.make_identity(symmetric_key="AAECAwQFBgcICQoLDA0ODw=="))
    bench.board.power_on()
    bench.halted_with(420)
    bench.keeps_its_secrets()


def test_a_wrong_certificate_halts(make_azure_bench: MakeBench) -> None:
    """Another certificate of the same name is not the one that was enrolled."""
    bench = make_azure_bench()
    bench.certificate(UNIT)
    bench.burn(bench.make_identity())
    bench.board.power_on()
    bench.halted_with(420)


def test_a_registration_that_is_cut_is_asked_for_again(make_azure_bench: MakeBench) -> None:
    """The answer is lost with the connection; to register again costs nothing."""
    bench = make_azure_bench()
    bench.cloud.faults.register_drop = 1
    bench.board.power_on()
    bench.error(320)
    bench.online()


def test_a_report_that_is_not_acknowledged_is_marked(make_azure_bench: MakeBench) -> None:
    """It comes again with MQTT's DUP and the same id, so that whoever reads the hub can tell."""
    bench = make_azure_bench()
    bench.board.power_on()
    bench.online()
    bench.cloud.faults.no_puback = 1
    bench.error(322, timeout_s=40)
    bench.online()
    bench.lost_nothing(bench.reported())
    assert [event["dup"] for event in bench.events("publish")].count(True) == 1
    mids = [event["properties"]["$.mid"] for event in bench.events("telemetry")]
    assert len(mids) == len(set(mids)) + 1


def test_twin_methods_and_messages(make_azure_bench: MakeBench, with_application: bytes) -> None:
    """Desired properties are applied and reported, methods answered, messages heard."""
    bench = make_azure_bench(with_application)
    cloud = bench.cloud
    bench.board.power_on()
    bench.online()
    told = bench.events("telemetry")[0]
    assert set(told["body"]) == {"temperature", "humidity"}
    assert told["properties"]["temperatureAlert"] in ("true", "false")
    cloud.set_desired(UNIT, {"limit": 25})
    bench.until(lambda: cloud.twin(UNIT)["reported"].get("limit") == 25)
    assert cloud.invoke_method(UNIT, "echo", [1, {"a": None}]) == (
        200,
        {"you said": [1, {"a": None}]},
    )
    assert cloud.invoke_method(UNIT, "other")[0] == 404
    mid = cloud.send_c2d(UNIT, b"hello")
    cloud.event_log.wait("c2d-completed", id=mid, timeout_s=10)
    bench.until(
        lambda: any(
            event["body"] == "heard hello" and event["properties"].get("$.cid") == mid
            for event in bench.events("telemetry")
        )
    )
    bench.reported()


def test_what_was_wanted_meanwhile(make_azure_bench: MakeBench, with_application: bytes) -> None:
    """Desired properties and messages of the time without power are there at the next login."""
    bench = make_azure_bench(with_application)
    cloud = bench.cloud
    bench.board.power_on()
    bench.online()
    bench.board.power_off()
    cloud.set_desired(UNIT, {"limit": 21})
    cloud.set_desired(UNIT, {"limit": 22})
    mid = cloud.send_c2d(UNIT, b"later")
    bench.board.power_on()
    bench.until(lambda: cloud.twin(UNIT)["reported"].get("limit") == 22)
    cloud.event_log.wait("c2d-completed", id=mid, timeout_s=10)


def test_desired_properties_that_nobody_takes(make_azure_bench: MakeBench) -> None:
    """Without an application the unit refuses them, reports nothing, and stays online."""
    bench = make_azure_bench()
    bench.board.power_on()
    bench.online()
    bench.cloud.set_desired(UNIT, {"limit": 25})
    assert bench.wait("set").data["code"] == 400
    bench.reported()
    assert "limit" not in bench.cloud.twin(UNIT)["reported"]


def test_a_twin_that_is_too_large_or_not_json(make_azure_bench: MakeBench) -> None:
    """What the unit cannot use is dropped and told of; the session goes on."""
    bench = make_azure_bench()
    bench.cloud.faults.garbage_twin = 1
    bench.board.power_on()
    assert "JSON" in bench.error(605).data["detail"]
    bench.reported()
    bench.cloud.set_desired(UNIT, {"text": "x" * 3000, "more": "y" * 3000})
    assert "too large" in bench.error(605).data["detail"]
    bench.reported()
    bench.power_cycle()
    assert "too large" in bench.error(605).data["detail"]
    bench.reported()


def test_a_hub_that_closes_in_the_middle_of_a_packet(
    make_azure_bench: MakeBench, with_application: bytes
) -> None:
    """Half a packet and then nothing: the unit connects again and loses no message."""
    bench = make_azure_bench(with_application)
    bench.board.power_on()
    bench.online()
    bench.cloud.faults.cut_message = 1
    mid = bench.cloud.send_c2d(UNIT, b"twice")
    bench.error(320)
    bench.online()
    bench.cloud.event_log.wait("c2d-completed", id=mid, timeout_s=10)
    bench.lost_nothing(bench.reported())
