"""Everything that EnOS refuses an edge, by the codes of its documents: of the edge's own login, of
sub-devices, and of the API. Each is an error that names the code, and the others are unharmed.

A refusal that the local EnOS has no reason for is one of another reason, with that code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from edge_bench import FREE, GATEWAY_DK, GATEWAY_PK, LEAPING, SUB_PK, EdgeBench, listed
from imprint_tools.localcloud.enos.cloud import EnosConfig, Inferred
from imprint_tools.localcloud.enos.registry import ORGANISATION
from imprint_tools.monitor import Event
from journey_bench import flash_content

Make = Callable[..., EdgeBench]

ERRORS = {
    401: 530, 705: 520, 719: 526, 723: 521, 740: 522, 741: 526, 742: 523, 745: 524, 746: 524,
    770: 525, 771: 525, 791: 526, 1200: 527, 1220: 527, 11739: 531,
}  # fmt: skip
"""The cloud's code of a sub-device: the firmware's."""

# Who is refused, for which of the local cloud's reasons, and with which code.
REFUSED = {
    "absent": ("device-unknown", 705),
    "mirror": ("device-mirror", 719),
    "disabled": ("device-disabled", 723),
    "foreign": ("not-a-subdevice", 740),
    "wrong": ("signature-wrong", 742),
    "forbidden": ("activation-off", 770),
    "again": ("already-activated", 771),
    "gateway": ("gateway-as-subdevice", 791),
}
OTHERS = {
    "device-unknown": 741,
    "device-mirror": 745,
    "signature-wrong": 746,
    "gateway-as-subdevice": 11739,
    "activation-off": 1200,
    "already-activated": 1220,
}


def told(edge: EdgeBench) -> dict[str, tuple[int, int]]:
    """(the firmware's code, the cloud's) of each sub-device that an error was about."""
    found = {}
    for item in edge.items:
        if isinstance(item, Event) and item.name == "error":
            who = item.data["detail"].split(":")[0]
            found[who] = (item.data["code"], item.data["number"])
    return found


# --- Sub-devices


@pytest.mark.parametrize("codes", [{}, OTHERS], ids=["documented", "others"])
def test_sub_devices(make_edge: Make, codes: dict[str, int]) -> None:
    """Eight are refused, each for its own reason; the ninth is online and reports."""
    config = EnosConfig(limits=FREE, inferred=Inferred(codes=codes))
    edge = make_edge(config=config)
    entries = _of_each_kind(edge)
    edge.list["subdevices"] = entries
    secret = edge.cloud.product_secret(SUB_PK).reveal().decode()
    edge.burn(
        edge.make_identity(
            subdevice_registration="none", subdevice_product_secret=secret, access_key=None
        )
    )
    edge.board.power_on()
    edge.all_online(1)
    edge.reported()
    expected = {}
    for who, (reason, documented) in REFUSED.items():
        number = codes.get(reason, documented)
        expected[who] = (ERRORS[number], number)
    assert told(edge) == expected
    assert edge.online_keys() == {"good"}
    assert edge.device("good")["measurepoints"]


def _of_each_kind(edge: EdgeBench) -> list[dict[str, Any]]:
    cloud = edge.cloud
    secrets = edge.create("good", "mirror", "disabled", "wrong")
    secrets |= {"absent": "nobody", "wrong": "another"}
    secrets["gateway"] = cloud.create_device(GATEWAY_PK, "gateway").reveal().decode()
    cloud.set_mirror(SUB_PK, "mirror")
    cloud.set_enabled(SUB_PK, "disabled", False)
    edge.create("foreign")
    # Both are activated with their product's secret, which may be one and the same.
    cloud.create_product("strictPK1", cloud.product_secret(SUB_PK))
    cloud.set_dynamic_activation("strictPK1", False)
    cloud.create_device("strictPK1", "forbidden")
    cloud.bind((GATEWAY_PK, GATEWAY_DK), ("strictPK1", "forbidden"))
    _log_in_once(edge, "again")
    entries = listed("good", *REFUSED)
    for entry in entries:
        if entry["device_key"] in secrets:
            entry["device_secret"] = secrets[entry["device_key"]]
    entries[-1]["product_key"] = GATEWAY_PK
    next(e for e in entries if e["device_key"] == "forbidden")["product_key"] = "strictPK1"
    return entries


def _log_in_once(edge: EdgeBench, key: str) -> None:
    # With its own secret: it cannot be activated any more.
    edge.list["subdevices"] = listed(key, device_secret=edge.create(key)[key])
    edge.burn(edge.make_identity(subdevice_registration="none"))
    edge.board.power_on()
    edge.all_online(1)


def test_a_batch_half_accepted(make_edge: Make) -> None:
    """Whom a batch refuses is asked for alone, and then accepted."""
    edge = make_edge()
    secrets = edge.create("a", "b", "c", "d")
    edge.list["subdevices"] = [
        entry | {"device_secret": secrets[entry["device_key"]]} for entry in listed(*secrets)
    ]
    edge.burn(edge.make_identity(subdevice_registration="none"))
    edge.cloud.faults.half_batch = 1
    edge.board.power_on()
    edge.all_online(4)
    logins = [e for e in edge.events("publish") if "combine/login" in e["topic"]]
    assert [e["topic"].endswith("batch") for e in logins] == [True, False, False]


def test_registered_before(make_edge: Make) -> None:
    """Who exists and has a secret that cannot be had over MQTT is named; the others are made."""
    edge = make_edge(
        subdevices=listed("old", "new-1", "new-2"), subdevice_registration="mqtt", access_key=None
    )
    edge.create("old")
    edge.board.power_on()
    edge.all_online(2)
    assert told(edge) == {"old": (529, 11702)}


# --- The edge itself


def _disable(edge: EdgeBench) -> None:
    edge.cloud.set_enabled(GATEWAY_PK, GATEWAY_DK, False)


def _mirror(edge: EdgeBench) -> None:
    edge.cloud.set_mirror(GATEWAY_PK, GATEWAY_DK)


def _below_another(edge: EdgeBench) -> None:
    edge.cloud.create_device(GATEWAY_PK, "edge-2")
    edge.cloud.create_device(SUB_PK, "below")
    edge.cloud.bind((GATEWAY_PK, "edge-2"), (SUB_PK, "below"))
    secret = edge.cloud.device_secret(SUB_PK, "below").reveal().decode()
    edge.identity = edge.make_identity(
        product_key=SUB_PK, device_key="below", device_secret=secret
    )


def _demand_certificate(edge: EdgeBench) -> None:
    edge.cloud.require_certificate(GATEWAY_PK)


def _wrong_secret(edge: EdgeBench) -> None:
    edge.identity = edge.make_identity(**{"device_secret": "another"})


def _by_product(edge: EdgeBench) -> None:
    secret = edge.cloud.product_secret(GATEWAY_PK).reveal().decode()
    edge.identity = edge.make_identity(secure_mode=3, device_secret=None, product_secret=secret)


def _forbid_activation(edge: EdgeBench) -> None:
    _by_product(edge)
    edge.cloud.set_dynamic_activation(GATEWAY_PK, False)


def _activate_before(edge: EdgeBench) -> None:
    _by_product(edge)
    edge.burn(edge.identity)
    edge.board.power_on()
    edge.online()


@pytest.mark.parametrize(
    ("change", "code", "number"),
    [
        (_mirror, 510, 719),
        (_disable, 510, 723),
        (_below_another, 510, 741),
        (_wrong_secret, 502, 742),
        (_demand_certificate, 510, 746),
        (_forbid_activation, 510, 770),
        (_activate_before, 510, 771),
    ],
)
def test_edge(
    make_edge: Make, change: Callable[[EdgeBench], None], code: int, number: int
) -> None:
    """An edge that is not let in waits for a person, who is told where the code is to be found and
    what the likely ones mean."""
    edge = make_edge()
    change(edge)
    edge.burn(edge.identity)
    edge.board.power_on()
    error = edge.halted_with(code).error
    assert error is not None and error.next_step
    assert code == 502 or str(number) in error.cause
    burned = edge.identity.fields
    log = edge.cloud.device_log(str(burned["product_key"]), str(burned["device_key"]))
    assert log[-1]["code"] == number


# --- The API


@pytest.mark.parametrize(
    ("field", "value", "number"),
    [("access_key", "nobody", 1002), ("access_secret", "wrong", 1003)],
)
def test_service_account(make_edge: Make, field: str, value: str, number: int) -> None:
    """A wrong service account stops nothing but the creation of sub-devices."""
    edge = _with_one_burned(make_edge)
    edge.burn(edge.make_identity(**{field: value}))
    edge.board.power_on()
    assert edge.error(440).data["number"] == number
    edge.all_online(1)
    edge.reported()


@pytest.mark.parametrize("rights", [None, []])
def test_organisation(make_edge: Make, rights: list[str] | None) -> None:
    """An organisation that has not registered the application, or grants it nothing."""
    edge = _with_one_burned(make_edge)
    edge.cloud.set_rights(edge.account[0], ORGANISATION, rights)
    edge.board.power_on()
    assert edge.error(442).data["number"] == 498
    edge.all_online(1)
    edge.reported()


def test_no_certificate(make_edge: Make) -> None:
    """A service account without that right gets no certificate: a person has to grant it."""
    edge = make_edge(certificate="apply")
    edge.cloud.require_certificate(GATEWAY_PK)
    edge.cloud.set_rights(edge.account[0], ORGANISATION, ["devices"])
    edge.board.power_on()
    assert edge.halted_with(442).data["number"] == 498


@pytest.mark.parametrize(
    ("codes", "errors"),
    [
        ({}, {"b": (444, 99400), "c": (444, 99400), "d": (449, 11739)}),
        (
            {"product-of-another": 11714, "product-unknown": 11404, "too-many-devices": 403},
            {"b": (444, 11714), "c": (448, 11404), "d": (442, 403)},
        ),
    ],
    ids=["documented", "others"],
)
def test_creation(
    make_edge: Make, codes: dict[str, int], errors: dict[str, tuple[int, int]]
) -> None:
    """Of four that are to be created three are refused, one for another organisation's product."""
    limits = dataclasses.replace(FREE, devices_per_product=1)
    config = EnosConfig(limits=limits, inferred=Inferred(rest_codes=codes))
    edge = make_edge(config=config)
    edge.cloud.create_product("foreignPK1", organisation=edge.cloud.create_organisation())
    entries = listed("a", "b", "c", "d")
    entries[1]["product_key"], entries[2]["product_key"] = "foreignPK1", "nowherePK1"
    edge.list["subdevices"] = entries
    edge.burn(edge.make_identity())
    edge.board.power_on()
    edge.all_online(1)
    edge.reported()
    assert told(edge) == errors


@pytest.mark.parametrize("fault", ["api_error", "api_garbage", "half_batch"])
def test_api_out_of_order(make_edge: Make, fault: str) -> None:
    """A 5xx, nonsense, or a batch that is half done delays who is to be created, and nobody else:
    half a minute later all are online, without another login."""
    content = flash_content({"application.py": LEAPING})
    edge = _with_one_burned(make_edge, content)
    setattr(edge.cloud.faults, fault, 1)
    edge.board.power_on()
    assert edge.wait("error").data["retry_ms"] == 30_000
    edge.all_online(2 if fault == "half_batch" else 1)
    edge.leap(31)
    edge.all_online(3)
    assert len(edge.events("login")) == 1


def _with_one_burned(make_edge: Make, *content: bytes) -> EdgeBench:
    edge = make_edge(*content)
    secret = edge.create("burned")["burned"]
    entries = listed("dyn-1", "dyn-2", "burned")
    entries[-1]["device_secret"] = secret
    edge.list["subdevices"] = entries
    edge.identity = edge.make_identity()
    edge.burn(edge.identity)
    return edge
