"""An EnOS device over MQTT: bytes and the vendor's formulas, nothing of the server's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imprint_tools.localcloud.enos.cloud import EnosCloud
from imprint_tools.secret import Secret
from rawmqtt import RawClient

PLAIN, TLS = 11883, 18883
T = "1548753362502"
Name = tuple[str, str]


def sign(secret: Secret | str, method: str = "sha256", **fields: str) -> str:
    """Names and values in the order of the names, then the secret: upper-case hex."""
    text = "".join(name + fields[name] for name in sorted(fields))
    key = secret.reveal().decode() if isinstance(secret, Secret) else secret
    return hashlib.new(method, (text + key).encode()).hexdigest().upper()


def login(
    name: Name, secret: Secret | str, *, mode: str = "2", method: str = "sha256", more: str = ""
) -> tuple[str, str, str]:
    """clientId, username and password."""
    pk, dk = name
    digest = method.removeprefix("hmac")
    password = sign(secret, digest, clientId=dk + more, deviceKey=dk, productKey=pk, timestamp=T)
    return (
        f"{dk}{more}|securemode={mode},signmethod={method},timestamp={T}|", f"{dk}&{pk}", password,
    )  # fmt: skip


def signed(name: Name, secret: Secret | str, **more: Any) -> dict[str, Any]:
    """A sub-device's entry of topo/add, or the params of its combine/login."""
    pk, dk = name
    client_id = f"{pk}.{dk}"
    found = sign(secret, clientId=client_id, deviceKey=dk, productKey=pk, timestamp=T)
    return {
        "productKey": pk, "deviceKey": dk, "clientId": client_id, "timestamp": T,
        "signMethod": "sha256", "sign": found, **more,
    }  # fmt: skip


def batch(entries: Iterable[tuple[Name, Secret | str]], **more: Any) -> dict[str, Any]:
    """The params of combine/login/batch."""
    subdevices = [
        {
            "productKey": pk,
            "deviceKey": dk,
            "sign": sign(
                secret, clientId="login.batch", deviceKey=dk, productKey=pk, timestamp=T
            ).lower(),
        }
        for (pk, dk), secret in entries
    ]
    return {
        "clientId": "login.batch", "timestamp": T, "signMethod": "sha256",
        "subDevices": subdevices, **more,
    }  # fmt: skip


class EnosClient(RawClient):
    """A connection of a device, with EnOS's envelope."""

    def __init__(
        self,
        cloud: EnosCloud,
        name: Name,
        *,
        port: int = PLAIN,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        super().__init__(
            cloud,
            port=port,
            tls=port == TLS,
            host=cloud.config.mqtt_host,
            certificate=certificate,
        )
        self.name = name
        self._subscribed: set[str] = set()
        self._id = 0

    def login(self, secret: Secret | str, **options: str) -> int:
        """CONNECT; the CONNACK's code."""
        return self.connect(*login(self.name, secret, **options))

    def topic(self, tail: str, name: Name | None = None) -> str:
        """`combine/` and `thing/activate` are of a session, the others of the system."""
        pk, dk = name or self.name
        session = tail.startswith(("combine/", "thing/activate"))
        return f"/{'ext/session' if session else 'sys'}/{pk}/{dk}/{tail}"

    def ask(
        self, tail: str, params: Any, *, name: Name | None = None, **more: Any
    ) -> dict[str, Any]:
        """A request and its reply."""
        topic = self.topic(tail, name)
        self._id += 1
        method = tail.replace("/", ".")
        document = {"id": str(self._id), "version": "1.0", "method": method, "params": params}
        return self.say(topic, json.dumps(document | more).encode(), str(self._id))

    def say(self, topic: str, payload: bytes, message_id: str | None = None) -> dict[str, Any]:
        """Any payload, and its reply."""
        if topic not in self._subscribed:
            assert self.subscribe(topic + "_reply") == b"\x01"
            self._subscribed.add(topic)
        self.publish(topic, payload)
        where, reply = self.json()
        assert where == topic + "_reply"
        assert reply.keys() == {"id", "code", "message", "data"}
        assert message_id in (None, reply["id"])
        return reply

    def code(self, tail: str, params: Any, **more: Any) -> int:
        return int(self.ask(tail, params, **more)["code"])

    def answer(self, topic: str, message_id: str, data: Any = None, code: int = 200) -> None:
        """Reply to a command."""
        document = {"id": message_id, "code": code, "message": "", "data": data}
        self.publish(topic + "_reply", json.dumps(document).encode())
