"""The demo's world of the journey `aliyun`: a local Aliyun behind a virtual access point."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from imprint_tools import identities
from imprint_tools.demo_world import INTERVAL_S, WifiWorld
from imprint_tools.identities import Identity
from imprint_tools.journey import Party
from imprint_tools.localcloud.aliyun.cloud import AliyunCloud
from imprint_tools.recorder import Recorder

BOARD, CLOUD = Party.BOARD, Party.CLOUD


class AliyunWorld(WifiWorld):
    """`registration` is how the unit gets its credential."""

    JOURNEY = "aliyun"
    HEAP = "64k"
    OPTIONS = ("chip", "registration")

    cloud: AliyunCloud

    def __init__(self, recorder: Recorder, *, chip: str, registration: str) -> None:
        super().__init__(recorder, chip=chip)
        self.modules = ("clouds/aliyun*.py", "fields/aliyun.py", "net/aliyun_session.py")
        self._registration = registration

    def start_cloud(self, stack: ExitStack, folder: Path) -> None:
        self.cloud = stack.enter_context(AliyunCloud(folder))

    def facts(self) -> dict[str, str]:
        return {
            "Cloud": f"Aliyun IoT Platform (local), {self.cloud.config.region}",
            "Registration": self._registration,
        } | super().facts()

    def identity(self, mac: str) -> Identity:
        cloud = self.cloud
        product_key = cloud.create_product()
        raw: dict[str, Any] = {
            "journey": self.JOURNEY,
            "product_key": product_key,
            "registration": self._registration,
            "root_ca": str(cloud.ca_pem.resolve()),
            "region": cloud.config.region,
            **self.wifi(),
            "interval_s": INTERVAL_S,
        }
        if self._registration == "none":
            raw["device_name"] = mac
            raw["device_secret"] = cloud.create_device(product_key, mac).reveal().decode()
        else:
            raw["product_secret"] = cloud.product_secret(product_key).reveal().decode()
            if self._registration == "register":
                cloud.create_device(product_key, mac)
        return identities.check(raw, origin="the demo", folder=cloud.folder)

    def registrations(self) -> int:
        return sum(d["registrations"] for d in self.cloud.devices())

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
            case "registered":
                say(BOARD, CLOUD, f"CONNECT {event['auth']}: signed with the productSecret")
            case "login":
                say(BOARD, CLOUD, f"CONNECT {_AUTH[event['auth']]}")
                say(CLOUD, BOARD, "CONNACK: accepted")
            case "refused":
                say(CLOUD, BOARD, f"CONNACK {event['code']}: {event['reason']}", ok=False)
            case "subscribe":
                say(BOARD, CLOUD, f"SUBSCRIBE {_short(event['filter'])}")
            case "publish":
                say(BOARD, CLOUD, _short(event["topic"]), event["bytes"])
            case "report":
                good = event["code"] == 200 and event["replied"]
                if good:
                    self.recorder.acknowledged.add(str(event["id"]))
                names = ", ".join(event["names"])
                say(CLOUD, CLOUD, f"report {event['id']} recorded: {names}", ok=good)
            case "down":
                say(CLOUD, BOARD, _short(event["topic"]), event["bytes"])
            case "close":
                size = event["bytes_up"] + event["bytes_down"]
                say(CLOUD, CLOUD, f"{event['reason']}; MQTT in all", size)


_AUTH = {"connwl": "connwl: by the deviceToken", "signed": "signed with the deviceSecret"}


def _short(topic: str) -> str:
    """A topic without what is the same in all of them: /sys/{productKey}/{deviceName}."""
    parts = topic.split("/")
    return "/".join(parts[4:]) if parts[:2] == ["", "sys"] and len(parts) > 4 else topic
