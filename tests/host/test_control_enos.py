"""The client of EnOS's REST API, against the local EnOS: when all is well, and when not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from enosmqtt import TLS
from enosmqtt import EnosClient as Device
from imprint_tools import certificates
from imprint_tools.control.enos import Created, EnosClient, Failed, NewDevice
from imprint_tools.errors import ClockSkewError, ServiceError, ServiceUnavailableError
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig, EnosProduct
from imprint_tools.localcloud.enos.config import EnosLimits
from imprint_tools.localcloud.enos.records import DEVICES_RIGHT, GATEWAY
from imprint_tools.localcloud.enos.registry import ORGANISATION
from imprint_tools.localcloud.faults import FOREVER
from imprint_tools.secret import Secret

GW, SUB_PK = ("gwPK0001", "edge-1"), "subPK001"
CONFIG = EnosConfig(
    products=(
        EnosProduct(GW[0], devices=(GW[1],), kind=GATEWAY, certificate=True),
        EnosProduct(SUB_PK, devices=("old",)),
    ),
    limits=EnosLimits(connects=None),
)
METER = NewDevice(SUB_PK, "meter-1", "meter", "+08:00", {"site": "north"})


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[EnosCloud]:
    with EnosCloud(tmp_path / "enos", CONFIG) as running:
        yield running


@contextmanager
def client(
    cloud: EnosCloud,
    *,
    account: tuple[str, Secret] | None = None,
    organisation: str = ORGANISATION,
    host: str = "",
    ca_file: Path | None = None,
    clock: Callable[[], float] = time.time,
    patience_s: float = 10.0,
) -> Iterator[EnosClient]:
    endpoint = next(e for e in cloud.endpoints if e.host == cloud.config.api_host)
    made = EnosClient(
        host or endpoint.host,
        *(account or cloud.create_application("edge")),
        organisation,
        ca_file=ca_file or cloud.ca_pem,
        address=endpoint.target,
        patience_s=patience_s,
        clock=clock,
        wait=lambda _seconds: None,
    )
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def api(cloud: EnosCloud) -> Iterator[EnosClient]:
    with client(cloud) as made:
        yield made


def asked(cloud: EnosCloud, path: str) -> int:
    """How often that was asked for and answered."""
    return sum(e["kind"] == "api" and e["path"].endswith(path) for e in cloud.events)


# -- devices --------------------------------------------------------------------------------------


def test_a_device_is_created_looked_at_and_deleted(cloud: EnosCloud, api: EnosClient) -> None:
    """With one token for all calls, and no secret in sight."""
    made = api.create(METER)
    assert made.device_secret == cloud.device_secret(SUB_PK, "meter-1")
    assert made.device_secret.reveal().decode() not in repr(made)
    record = api.get((SUB_PK, "meter-1"))
    assert record is not None and record["deviceSecret"] == made.device_secret
    assert record["deviceAttributes"] == {"site": "north"}
    api.set_enabled((SUB_PK, "meter-1"), False)
    with pytest.raises(ServiceError) as caught:
        api.set_enabled((SUB_PK, "meter-1"), False)
    assert caught.value.error_code == 11721
    api.delete((SUB_PK, "meter-1"))
    api.delete((SUB_PK, "meter-1"))
    assert api.get((SUB_PK, "meter-1")) is None
    assert asked(cloud, "token/get") == 1


def test_a_batch_says_of_each_how_it_went(cloud: EnosCloud, api: EnosClient) -> None:
    """In its order."""
    devices = [METER, NewDevice(SUB_PK, "old", "old"), NewDevice("nobody", "x", "x")]
    made, exists, unknown = api.create_batch(devices)
    assert isinstance(made, Created) and made.device_key == "meter-1"
    assert isinstance(exists, Failed) and (exists.device_key, exists.code) == ("old", 11702)
    assert isinstance(unknown, Failed) and unknown.code == 99400


def test_sub_devices_are_bound_and_logs_are_read(cloud: EnosCloud, api: EnosClient) -> None:
    """What the hub says of a device that may not log in by itself."""
    made = api.create(METER)
    api.add_subdevices(GW, [(SUB_PK, "meter-1")])
    with Device(cloud, (SUB_PK, "meter-1")) as device:
        assert device.login(made.device_secret) != 0
    assert [entry["code"] for entry in api.log((SUB_PK, "meter-1"))] == [741]


def test_a_certificate_is_had_renewed_and_revoked(
    cloud: EnosCloud, api: EnosClient, tmp_path: Path
) -> None:
    """And opens the MQTT port, until it is revoked."""
    key = certificates.new_key("ec")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, GW[1])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    csr = request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    first = api.apply_certificate(GW, csr, days=30, authority="ECC")
    second = api.renew_certificate(GW, first.serial)
    third = api.renew_certificate(GW, first.serial, csr_pem=csr, days=5)
    assert len({first.serial, second.serial, third.serial}) == 3
    assert (second.authority, second.ca_pem) == ("ECC", first.ca_pem)
    (tmp_path / "key.pem").write_bytes(certificates.key_bytes(key).reveal())
    chain = tmp_path / "chain.pem"
    chain.write_text(second.pem + second.ca_pem)

    def login() -> int:
        files = (chain, tmp_path / "key.pem")
        with Device(cloud, GW, port=TLS, certificate=files) as device:
            return device.login(cloud.device_secret(*GW))

    assert login() == 0
    api.revoke_certificate(GW, second.serial, reason=4)
    assert login() != 0
    with pytest.raises(ServiceError) as caught:
        api.renew_certificate(GW, second.serial)
    assert caught.value.error_code == 99400


# -- refusals -------------------------------------------------------------------------------------


def refusal(call: Callable[[], Any]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        call()
    return caught.value


def test_a_wrong_account_is_told_from_a_wrong_secret(cloud: EnosCloud) -> None:
    """1002 and 1003; the secret is in no message."""
    key, secret = cloud.create_application("edge")
    with client(cloud, account=("nobody", secret)) as api:
        error = refusal(lambda: api.create(METER))
        assert error.error_code == 1002 and "access key" in error.next_step
    wrong = Secret("canary-in-the-mine")
    with client(cloud, account=(key, wrong)) as api:
        error = refusal(lambda: api.create(METER))
        assert error.error_code == 1003 and "access secret" in error.next_step
        assert not isinstance(error, ClockSkewError)
        assert "canary" not in f"{error!r} {error} {error.next_step}"


@pytest.mark.parametrize(("offset_s", "which"), [(-86400, "behind"), (86400, "ahead of")])
def test_a_wrong_clock_is_told_from_a_wrong_secret(
    cloud: EnosCloud, offset_s: int, which: str
) -> None:
    """At the token and, where the clock goes wrong later, at a call."""
    with client(cloud, clock=lambda: time.time() + offset_s) as api:
        error = refusal(lambda: api.create(METER))
        assert isinstance(error, ClockSkewError) and error.error_code == 1004
        assert which in str(error)
    jump = [0]
    with client(cloud, clock=lambda: time.time() + jump[0]) as api:
        api.create(METER)
        jump[0] = -5000  # back, so that the token seems to live
        error = refusal(lambda: api.get((SUB_PK, "meter-1")))
        assert isinstance(error, ClockSkewError) and error.error_code == 497


def test_an_organisation_that_has_not_registered_the_application(cloud: EnosCloud) -> None:
    """498, and the next step says what is to be done there."""
    others = cloud.create_organisation("others")
    with client(cloud, organisation=others) as api:
        error = refusal(lambda: api.create(METER))
        assert error.error_code == 498 and "register" in error.next_step
    account = cloud.create_application("devices only", [])
    cloud.set_rights(account[0], ORGANISATION, [DEVICES_RIGHT])
    with client(cloud, account=account) as api:
        api.create(METER)
        error = refusal(lambda: api.apply_certificate(GW, "x"))
        assert error.error_code == 498


def test_a_product_of_another_organisation(cloud: EnosCloud, api: EnosClient) -> None:
    """99400 is what the local EnOS says; what the real one does is not documented."""
    theirs = cloud.create_product(organisation=cloud.create_organisation("others"))
    error = refusal(lambda: api.create(NewDevice(theirs, "x", "x")))
    assert error.error_code == 99400 and "organisation" in error.next_step
    error = refusal(lambda: api.create(NewDevice(SUB_PK, "old", "x")))
    assert error.error_code == 11702, "made by somebody else"


def test_a_server_is_verified(cloud: EnosCloud, tmp_path: Path) -> None:
    """By authority and by name."""
    with EnosCloud(tmp_path / "other") as other, client(cloud, ca_file=other.ca_pem) as api:
        assert "not verified" in str(refusal(lambda: api.create(METER)))
    with client(cloud, host="apim-elsewhere.example") as api:
        assert "not verified" in str(refusal(lambda: api.create(METER)))
    assert asked(cloud, "token/get") == 0
    (tmp_path / "no").write_text("")
    with (
        pytest.raises(ServiceError, match="is no CA file"),
        client(cloud, ca_file=tmp_path / "nothing"),
    ):
        pass


# -- weather --------------------------------------------------------------------------------------


def test_a_token_that_ends_in_mid_run_is_asked_for_anew(cloud: EnosCloud, api: EnosClient) -> None:
    """Once; the call is made again."""
    api.create(METER)
    cloud.faults.token_expires = 1
    assert api.get((SUB_PK, "meter-1")) is not None
    assert asked(cloud, "token/get") == 2
    cloud.faults.token_expires = FOREVER
    assert refusal(lambda: api.get((SUB_PK, "meter-1"))).status == 401


def test_a_token_is_asked_for_in_time(cloud: EnosCloud) -> None:
    """A minute before its end."""
    moved = [0.0]
    with client(cloud, clock=lambda: time.time() + moved[0]) as api:
        api.create(METER)
        moved[0] = 600
        assert api.get((SUB_PK, "meter-1")) is not None
        assert asked(cloud, "token/get") == 1
        moved[0] = 7200 - 59
        assert isinstance(refusal(lambda: api.get((SUB_PK, "meter-1"))), ClockSkewError)
        assert asked(cloud, "token/get") == 2


def test_a_service_that_fails_is_asked_again(cloud: EnosCloud, api: EnosClient) -> None:
    """At the token, too; in the end patience is over."""
    cloud.faults.api_error = 3
    assert api.create(METER).device_key == "meter-1"
    cloud.faults.api_error = FOREVER
    with client(cloud, patience_s=0.5) as hasty, pytest.raises(ServiceUnavailableError):
        hasty.get((SUB_PK, "meter-1"))


def test_an_answer_that_was_lost_does_not_make_a_device_twice(
    cloud: EnosCloud, api: EnosClient
) -> None:
    """It was created, and what came back was not JSON: the second time it exists, and is had."""
    assert api.get((SUB_PK, "old"))
    cloud.faults.api_garbage = 1
    assert api.create(METER).device_secret == cloud.device_secret(SUB_PK, "meter-1")
    cloud.faults.api_garbage = 1
    others = [NewDevice(SUB_PK, f"m{n}", "m") for n in range(2)]
    found = api.create_batch(others)
    assert [type(one) for one in found] == [Created, Created]
    assert len(cloud.devices()) == 5


def test_a_batch_that_is_half_done(cloud: EnosCloud, api: EnosClient) -> None:
    """The rest can be asked for again."""
    devices = [NewDevice(SUB_PK, f"m{n}", "m") for n in range(4)]
    cloud.faults.half_batch = 1
    found = api.create_batch(devices)
    assert [isinstance(one, Created) for one in found] == [True, True, False, False]
    rest = [d for d, f in zip(devices, found, strict=True) if isinstance(f, Failed)]
    assert all(isinstance(one, Created) for one in api.create_batch(rest))
