"""An edge with sub-devices, its network and the local EnOS, for tests of whole journeys."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imprint_tools import identities
from imprint_tools.identities import Identity
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig
from imprint_tools.localcloud.enos.config import EnosLimits
from imprint_tools.localcloud.enos.records import DEVICE, GATEWAY
from imprint_tools.localcloud.enos.registry import ORGANISATION
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.network import AccessPoint
from journey_bench import PASSWORD, SSID, UnitBench

HEAP = "128k"
GATEWAY_PK, GATEWAY_DK = "edgePK01", "edge-1"
SUB_PK = "inverterPK1"
TABLES = {
    "sim": {"driver": "simulated", "points": ["power:5000:400", "temperature:40:8"]},
}

# A first boot may connect twice (activation, login), and tests start units over and over.
FREE = dataclasses.replace(EnosLimits(), connects=None)


def listed(*keys: str, **common: Any) -> list[dict[str, Any]]:
    """Entries of a list of sub-devices, one address after the other."""
    return [
        {"device_key": key, "table": "sim", "address": at, **common}
        for at, key in enumerate(keys, start=1)
    ]


LEAPING = b"""\
from imprint import port
_ticks, _unix = port.ticks_ms, port.unix_ms
_wanted = []
_gone = _ahead = 0

def apply(params):
    _wanted.append(params["leap_s"] * 1000)

def read():
    global _gone, _ahead
    _ahead = _wanted.pop() if _wanted else 0
    _gone += _ahead
    return {"gone_ms": _gone}

port.ticks_ms = lambda: port.ticks_add(_ticks(), _gone)
port.unix_ms = lambda: _unix() + _ahead
"""
"""An application of an edge whose time can leap (`EdgeBench.leap`)."""


class EdgeBench(UnitBench):
    """An edge, its access point and the local EnOS.

    `subdevices` are the entries of its list, `tables` and `bus` the rest of it; `burned` are
    fields of the identity that differ from those of an edge that creates its sub-devices over
    REST; None leaves one out.
    """

    cloud: EnosCloud

    def __init__(
        self,
        folder: Path,
        content: bytes,
        *,
        subdevices: Sequence[Mapping[str, Any]] = (),
        tables: Mapping[str, Any] | None = None,
        bus: Mapping[str, int] | None = None,
        config: EnosConfig | None = None,
        heap: str = HEAP,
        **burned: Any,
    ) -> None:
        self.folder = folder
        self.cloud = EnosCloud(folder / "cloud", config or EnosConfig(limits=FREE))
        self.cloud.start()
        self.cloud.create_product(GATEWAY_PK, kind=GATEWAY)
        self.cloud.create_product(SUB_PK, kind=DEVICE)
        self.cloud.create_device(GATEWAY_PK, GATEWAY_DK)
        self.account = self.cloud.create_application("edge")
        self.air = AccessPoint(SSID, PASSWORD, self.cloud.endpoints)
        super().__init__(
            content, Board(folder / "unit", doors=(), access_point=self.air, heap=heap)
        )
        self.list = {"tables": tables or TABLES, "subdevices": list(subdevices)}
        if bus:
            self.list["bus"] = dict(bus)
        self.identity = self.make_identity(**burned)

    def make_identity(self, **burned: Any) -> Identity:
        """An identity for this cloud, valid by the firmware's own rules."""
        access_key, access_secret = self.account
        raw: dict[str, Any] = {
            "journey": "enos-gateway",
            "product_key": GATEWAY_PK,
            "device_key": GATEWAY_DK,
            "secure_mode": 2,
            "device_secret": self.cloud.device_secret(GATEWAY_PK, GATEWAY_DK).reveal().decode(),
            "host": self.cloud.config.mqtt_host,
            "api_host": self.cloud.config.api_host,
            "access_key": access_key,
            "access_secret": access_secret.reveal().decode(),
            "org_id": ORGANISATION,
            "subdevice_registration": "rest",
            "subdevice_product_key": SUB_PK,
            "root_ca": str(self.cloud.ca_pem),
            "wifi_ssid": SSID,
            "wifi_password": PASSWORD,
            "interval_s": 1,
        }
        if self.list["subdevices"]:
            path = self.folder / "subdevices.json"
            path.write_text(json.dumps(self.list))
            raw["subdevices"] = str(path)
        raw |= burned
        present = {name: value for name, value in raw.items() if value is not None}
        return identities.check(present, origin="the test", folder=self.folder)

    def leap(self, seconds: int) -> None:
        """Let so much time pass for a unit with LEAPING: its clock shows it until it is read out
        once more, as if the cloud's had caught up; its ticks go on from there."""
        self.cloud.set_measurepoints(GATEWAY_PK, GATEWAY_DK, {"leap_s": seconds})

    def create(self, *keys: str, bound: bool = False) -> dict[str, str]:
        """Sub-devices that are in the cloud already; their secrets by key."""
        secrets = {}
        for key in keys:
            secrets[key] = self.cloud.create_device(SUB_PK, key).reveal().decode()
            if bound:
                self.cloud.bind((GATEWAY_PK, GATEWAY_DK), (SUB_PK, key))
        return secrets

    def all_online(self, count: int, *, timeout_s: float = 60.0) -> None:
        """Wait until so many sub-devices are online, by both sides' account."""
        self.wait("subdevices", online=count, timeout_s=timeout_s)
        assert len(self.online_keys()) == count

    def online_keys(self) -> set[str]:
        """The sub-devices that are online, as the cloud has it."""
        return {
            d["device_key"]
            for d in self.cloud.devices()
            if d["online"] and d["product_key"] != GATEWAY_PK
        }

    def device(self, key: str, product_key: str = SUB_PK) -> dict[str, Any]:
        """What the console of the cloud shows of a device."""
        return next(
            d
            for d in self.cloud.devices()
            if (d["product_key"], d["device_key"]) == (product_key, key)
        )
