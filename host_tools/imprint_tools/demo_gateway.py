"""The demo's world of the journey `enos-gateway`: inverters on a Modbus line behind an edge, and a
local EnOS behind a virtual access point."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from imprint_tools import identities
from imprint_tools.demo_world import INTERVAL_S, WifiWorld
from imprint_tools.identities import Identity
from imprint_tools.journey import Party
from imprint_tools.localcloud.enos.cloud import EnosCloud
from imprint_tools.localcloud.enos.records import GATEWAY
from imprint_tools.localcloud.enos.registry import ORGANISATION
from imprint_tools.recorder import Recorder
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.modbus import ModbusBus, Slave

SUBDEVICES_MAX = 200

_UART = 1
_STATIC_MAX = 5
"""Of the sub-devices so many, and no more than half, have their secrets burned; the edge creates
the others itself."""
_POWER, _ENERGY, _TEMPERATURE = 30775, 30529, 30953

BOARD, CLOUD = Party.BOARD, Party.CLOUD


class GatewayWorld(WifiWorld):
    """`subdevices` are on the line; with `certificate` the edge's product demands one, for which
    the edge applies."""

    JOURNEY = "enos-gateway"
    HEAP = "128k"
    OPTIONS = ("chip", "subdevices", "certificate")

    cloud: EnosCloud

    def __init__(
        self, recorder: Recorder, *, chip: str, subdevices: int, certificate: bool
    ) -> None:
        super().__init__(recorder, chip=chip)
        self.modules = (
            "clouds/enos_gateway.py",
            "clouds/enos_rest.py",
            "drivers/modbus.py",
            "fields/enos_gateway.py",
            "net/enos_session.py",
        )
        self._count, self._certificate = subdevices, certificate
        self._static = min(_STATIC_MAX, subdevices // 2)
        self._online: set[str] = set()

    def start_cloud(self, stack: ExitStack, folder: Path) -> None:
        self.cloud = stack.enter_context(EnosCloud(folder))

    def wire(self, stack: ExitStack, board: Board) -> None:
        slaves = {at: _inverter(at) for at in range(1, self._count + 1)}
        stack.enter_context(ModbusBus(board.uarts.far_end(_UART), slaves))

    def facts(self) -> dict[str, str]:
        return {
            "Cloud": f"Envision EnOS (local), {self.cloud.config.mqtt_host}",
            "Login": "certificate and secret" if self._certificate else "secret",
            "Sub-devices": f"{self._count} inverters on one Modbus line (virtual), "
            f"{self._static} with burned secrets, the others created by the edge",
        } | super().facts()

    def identity(self, mac: str) -> Identity:
        cloud = self.cloud
        edges = cloud.create_product(kind=GATEWAY)
        inverters = cloud.create_product()
        access_key, access_secret = cloud.create_application("demo")
        if self._certificate:
            cloud.require_certificate(edges)
        names = [f"inv-{at}" for at in range(1, self._count + 1)]
        entries: list[dict[str, Any]] = [
            {"device_key": name, "table": "inv", "address": at}
            for at, name in enumerate(names, start=1)
        ]
        for entry in entries[: self._static]:
            secret = cloud.create_device(inverters, entry["device_key"])
            entry["device_secret"] = secret.reveal().decode()
        points = [
            f"power:i:{_POWER}:s32",
            f"energy:i:{_ENERGY}:u32:0.001",
            f"temperature:i:{_TEMPERATURE}:s16:0.1",
        ]
        document = {
            "bus": {"id": _UART, "baudrate": 19200},
            "tables": {"inv": {"driver": "modbus", "points": points}},
            "subdevices": entries,
        }
        path = cloud.folder / "subdevices.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(document))
        raw: dict[str, Any] = {
            "journey": self.JOURNEY,
            "product_key": edges,
            "device_key": mac,
            "secure_mode": 2,
            "device_secret": cloud.create_device(edges, mac).reveal().decode(),
            "host": cloud.config.mqtt_host,
            "api_host": cloud.config.api_host,
            "access_key": access_key,
            "access_secret": access_secret.reveal().decode(),
            "org_id": ORGANISATION,
            "certificate": "apply" if self._certificate else "none",
            "subdevices": str(path),
            "subdevice_registration": "rest",
            "subdevice_product_key": inverters,
            "root_ca": str(cloud.ca_pem),
            **self.wifi(),
            "interval_s": INTERVAL_S,
        }
        return identities.check(raw, origin="the demo", folder=cloud.folder)

    def registrations(self) -> int:
        return len(self._online)

    # -- their words ----------------------------------------------------------------------------

    def tell_cloud(self, event: Mapping[str, Any], at_s: float) -> None:
        def say(text: str, size: int | None = None, *, ok: bool = True) -> None:
            self.recorder.say(BOARD, CLOUD, text, size, ok=ok, at_s=at_s)

        match event["kind"]:
            case "api":
                what = event.get("action") or event["path"].rsplit("/", 2)[-2]
                good = event["status"] == 200 and event.get("code") == 0
                say(f"REST {what}: {event.get('code')}", ok=good)
            case "login":
                say("CONNECT, certificate and secret" if self._certificate else "CONNECT, secret")
            case "refused":
                say(f"CONNECT refused: {event['code']} {event['reason']}", ok=False)
            case "subdevice-refused":
                say(f"{event['device_key']}: {event['code']} {event['reason']}", ok=False)
            case "online" if event["device_key"].startswith("inv-"):
                self._online.add(event["device_key"])
            case "session-request":
                who = f"{len(self._online)} of {self._count} sub-devices online"
                say(f"{event['topic']}: {who}", event["bytes"], ok=event["code"] == 200)
            case "report" if "entries" in event:
                good = event["code"] == 200
                if good and len(self._online) == self._count:
                    self.recorder.acknowledged.add(str(event["id"]))
                text = f"{event['entries']} devices, {event['points']} points recorded"
                say(text, event["bytes"], ok=good)
            case "report":
                good = event["code"] == 200
                say(f"{event['topic']}: {event['code']}", event["bytes"], ok=good)


def _inverter(address: int) -> Slave:
    """Each a little different from its neighbours."""
    slave = Slave()
    slave.put(_POWER, 4000 + 10 * address, "s32")
    slave.put(_ENERGY, 1_000_000 + address, "u32")
    slave.put(_TEMPERATURE, 350 + address % 50, "s16")
    return slave
