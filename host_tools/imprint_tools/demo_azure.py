"""The demo's worlds of the journeys to Azure: a local Azure behind a virtual access point, with a
factory and its portal, or with an IoT Edge gateway whose power fails in the middle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from imprint_tools import identities
from imprint_tools.demo_factory import DemoFactory
from imprint_tools.demo_world import INTERVAL_S, WifiWorld
from imprint_tools.identities import Identity
from imprint_tools.journey import Party
from imprint_tools.localcloud.azure.cloud import AzureCloud
from imprint_tools.paths import examples_dir
from imprint_tools.recorder import Recorder

_GATEWAY = "edge.plant.example"
_DEVICE = "pump-7"
_OUTAGE_S = 4.0

BENCH, BOARD, CLOUD = Party.BENCH, Party.BOARD, Party.CLOUD


class AzureWorld(WifiWorld):
    """What both have: the cloud, the air, and how they tell of what happens."""

    HEAP = "96k"
    OPTIONS = ("chip",)

    cloud: AzureCloud

    def __init__(self, recorder: Recorder, *, chip: str) -> None:
        super().__init__(recorder, chip=chip)
        fields = self.JOURNEY.replace("-", "_")
        self.modules = (
            f"clouds/{fields}*.py",
            "clouds/azure_sas.py",
            f"fields/{fields}.py",
            "net/azure_session.py",
        )

    def files(self) -> Mapping[str, bytes]:
        source = examples_dir() / "azure_application.py"
        return {"application.py": source.read_bytes()}

    def registrations(self) -> int:
        answers = [event for event in self.cloud.events if event["kind"] == "registration"]
        return sum(event["status"] == "assigned" for event in answers)

    # -- their words ----------------------------------------------------------------------------

    def tell_cloud(self, event: Mapping[str, Any], at_s: float) -> None:
        def say(
            sender: Party, receiver: Party, text: str, size: int | None = None, ok: bool = True
        ) -> None:
            self.recorder.say(sender, receiver, text, size, ok=ok, at_s=at_s)

        match event["kind"]:
            case "open" if event["tls"]:
                say(BOARD, CLOUD, "TLS 1.2: chain and name verified")
            case "tls-failed":
                say(BOARD, CLOUD, f"TLS failed: {event['detail']}", ok=False)
            case "connect":
                shown = "by certificate" if event["certificates"] else "by SAS token"
                say(BOARD, CLOUD, f"CONNECT {event['client_id']} {shown}")
            case "refused":
                say(CLOUD, BOARD, f"CONNACK {event['code']}: {event['reason']}", ok=False)
            case "subscribe":
                say(BOARD, CLOUD, f"SUBSCRIBE {_short(event['filter'])}")
            case "provisioning-answer":
                shown = event["body_status"] or event["code"]
                say(CLOUD, BOARD, f"DPS: {event['status']} {shown}")
            case "publish":
                say(BOARD, CLOUD, _short(event["topic"]), event.get("bytes"))
            case "telemetry":
                mid = event["properties"].get("$.mid") or ""
                if mid:
                    self.recorder.acknowledged.add(str(int(mid, 16)))
                alert = event["properties"].get("temperatureAlert")
                via = f" via {event['via'][0]}" if event["via"] else ""
                values = ", ".join(f"{k} {v}" for k, v in sorted(event["body"].items()))
                say(CLOUD, CLOUD, f"telemetry{via}: {values}; temperatureAlert {alert}")
            case "desired":
                say(CLOUD, BOARD, f"desired properties, version {event['version']}")
            case "reported":
                say(CLOUD, CLOUD, f"twin: reported {event['patch']}")
            case "down":
                say(CLOUD, BOARD, _short(event["topic"]), event["bytes"])
            case "gateway-down":
                say(CLOUD, CLOUD, f"the power of {event['gateway']} fails", ok=False)
            case "gateway-up":
                say(CLOUD, CLOUD, f"{event['gateway']} has power again")
            case "close":
                size = event["bytes_up"] + event["bytes_down"]
                say(CLOUD, CLOUD, f"{event['reason']}; MQTT in all", size)


class AzureDpsWorld(AzureWorld):
    """The factory enrols the unit disabled; the portal activates it when it first knocks."""

    JOURNEY = "azure-dps"

    _factory: DemoFactory
    _unit_id = ""
    _activated = False

    def start_cloud(self, stack: ExitStack, folder: Path) -> None:
        self.cloud = stack.enter_context(AzureCloud(folder))
        self._factory = DemoFactory(folder.with_name("factory"), self.cloud)
        self._factory.start(stack)

    def facts(self) -> dict[str, str]:
        return {
            "Cloud": f"Azure IoT (local): DPS and {', '.join(self.cloud.config.hub_hosts)}",
            "Factory": f"{self._factory.url}: a station's API and the activation portal's",
            "Registration": "X.509, enrolled disabled, activated over the portal's API",
        } | super().facts()

    def identity(self, mac: str) -> Identity:
        self._unit_id, path = self._factory.enrol(self.wifi())
        self.recorder.say(BENCH, CLOUD, f"factory: {self._unit_id} enrolled, disabled")
        return identities.load_one(path)

    def look_back(self) -> None:
        super().look_back()
        if not self._activated and any(
            event["kind"] == "registration" and event["status"] == "disabled"
            for event in self.cloud.events
        ):
            self._activated = True
            settings = {"tags": {"machine": "press 4"}, "desired": {"limit": 28}}
            self._factory.activate(self._unit_id, settings)
            self.recorder.say(BENCH, CLOUD, "portal: activated, twin with a limit of 28 degrees")


class AzureEdgeWorld(AzureWorld):
    """The gateway's power fails after the first report, and comes back."""

    JOURNEY = "azure-edge"

    _down_at: float | None = None
    _over = False

    def start_cloud(self, stack: ExitStack, folder: Path) -> None:
        self.cloud = stack.enter_context(AzureCloud(folder))
        self._gateway = self.cloud.gateway(_GATEWAY)
        self.cloud.create_device(_DEVICE, gateway=_GATEWAY)

    def facts(self) -> dict[str, str]:
        return {
            "Cloud": f"Azure IoT (local): {', '.join(self.cloud.config.hub_hosts)}",
            "Gateway": f"{_GATEWAY} (transparent, with a root CA of its own)",
        } | super().facts()

    def identity(self, mac: str) -> Identity:
        text = self.cloud.connection_string(_DEVICE, gateway=_GATEWAY).reveal().decode()
        raw = {
            "journey": self.JOURNEY,
            "connection_string": text,
            "root_ca": str(self._gateway.root_ca.resolve()),
            "interval_s": INTERVAL_S,
            **self.wifi(),
        }
        return identities.check(raw, origin="the demo", folder=self.cloud.folder)

    def look_back(self) -> None:
        super().look_back()
        if self._over:
            return
        if self._down_at is None and self.recorder.acknowledged:
            self._down_at = time.monotonic()
            self._gateway.down()
        elif self._down_at is not None and time.monotonic() - self._down_at > _OUTAGE_S:
            self._over = True
            self._gateway.up()


def _short(topic: str) -> str:
    """A topic without the properties that it carries, and without the device's own id."""
    head, mark, _ = topic.partition("/messages/")
    if not mark:
        return topic
    return "messages/" + topic.removeprefix(head + mark).partition("/")[0]
