"""An IoT hub's rules: its device identities, their twins, and what goes up and down.

Devices come in by `front`, straight or by way of gateways; services by `hub_rest`. To
the hub a way to a device is a `Downlink`: its own front, or the nearest gateway.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from imprint_tools.localcloud.azure import names
from imprint_tools.localcloud.azure import twin as azure_twin
from imprint_tools.localcloud.azure.data import C2dMessage, Device, Message
from imprint_tools.localcloud.azure.error import (
    DEVICE_NOT_FOUND,
    DEVICE_OFFLINE,
    GATEWAY_TIMEOUT,
    ServiceError,
    inferred,
)
from imprint_tools.localcloud.datafile import random_text
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

C2D_MAX = 50
"""Messages that may wait for a device."""
_C2D_BYTES_MAX = 64 * 1024
_METHOD_BYTES_MAX = 128 * 1024

_BODY_SHOWN_MAX = 4096


class Downlink(Protocol):
    """A way to devices."""

    def send(
        self, device_id: str, topic: str, payload: bytes, on_acknowledged: Callable[[], None]
    ) -> bool:
        """Send to a device that is there and subscribed; False where it is not."""
        ...

    def disconnect(self, device_id: str, reason: str) -> None: ...


class Upstream(Protocol):
    """What devices, or a gateway for them, ask of a hub, or of the gateway above."""

    name: str

    @property
    def reachable(self) -> bool: ...
    def scope(self, parent: str) -> dict[str, Device]:
        """The devices below that gateway, whatever lies between."""
        ...

    def connected(self, device_id: str, way: Downlink) -> None: ...
    def disconnected(self, device_id: str, way: Downlink) -> None: ...
    def telemetry(self, message: Message) -> None: ...
    def twin(self, device_id: str) -> dict[str, Any]: ...
    def patch_reported(self, device_id: str, patch: Mapping[str, Any]) -> int: ...
    def method_answered(self, device_id: str, rid: str, status: int, body: bytes) -> None: ...
    def ready_for_messages(self, device_id: str) -> None:
        """The device has subscribed to what the cloud sends it."""
        ...


@dataclass
class _Call:
    """A direct method that runs."""

    device_id: str
    answer: asyncio.Future[tuple[int, bytes]] = field(default_factory=lambda: _future())


class Hub:
    """Runs in the cloud's loop."""

    def __init__(
        self,
        name: str,
        key: Secret,
        devices: dict[str, Device],
        log: EventLog,
        on_change: Callable[[], None],
    ) -> None:
        """`key` is the policy `iothubowner`'s; `on_change` writes down."""
        self.name = name
        self.host = f"{name}.azure-devices.net"
        self.key = key
        self.devices = devices
        self.up = False
        self.log = log
        self._on_change = on_change
        self._ways: dict[str, Downlink] = {}
        self._calls: dict[str, _Call] = {}
        self._in_flight: dict[str, set[str]] = {}

    # -- identities -----------------------------------------------------------------------------

    def device(self, device_id: str) -> Device:
        """Refuses "device-unknown"."""
        try:
            return self.devices[device_id]
        except KeyError:
            raise Refusal("device-unknown") from None

    def add(self, device: Device) -> Device:
        self.devices[device.device_id] = device
        self._on_change()
        return device

    def remove(self, device_id: str) -> None:
        """Forget a device and cut it off."""
        if self.devices.pop(device_id, None) is not None:
            self._on_change()
            self._cut(device_id, "the device was deleted")

    def set_enabled(self, device_id: str, on: bool) -> None:
        """Disabling cuts the device off. Refuses "device-unknown"."""
        device = self.device(device_id)
        device.enabled, device.etag = on, random_text(16)
        self._on_change()
        if not on:
            self._cut(device_id, "the device was disabled")

    def online(self, device_id: str) -> bool:
        return device_id in self._ways

    def _cut(self, device_id: str, reason: str) -> None:
        if (way := self._ways.get(device_id)) is not None:
            way.disconnect(device_id, reason)

    # -- Upstream -------------------------------------------------------------------------------

    @property
    def reachable(self) -> bool:
        return self.up

    def scope(self, parent: str) -> dict[str, Device]:
        return below(self.devices, parent)

    def connected(self, device_id: str, way: Downlink) -> None:
        before = self._ways.get(device_id)
        self._ways[device_id] = way
        if before is not None and before is not way:
            before.disconnect(device_id, "another connection took the session")
        self._in_flight.pop(device_id, None)
        if (device := self.devices.get(device_id)) is not None:
            device.last_seen = time.time()

    def disconnected(self, device_id: str, way: Downlink) -> None:
        if self._ways.get(device_id) is way:
            del self._ways[device_id]
            self._in_flight.pop(device_id, None)
            if (device := self.devices.get(device_id)) is not None:
                device.last_seen = time.time()
                self._on_change()

    def telemetry(self, message: Message) -> None:
        if (device := self.devices.get(message.device_id)) is not None:
            device.last_seen = time.time()
        self.log.add(
            "telemetry",
            hub=self.name,
            device_id=message.device_id,
            body=_shown(message.payload),
            bytes=len(message.payload),
            properties=dict(message.properties),
            taken=round(message.at, 3),
            via=list(message.via),
        )

    def twin(self, device_id: str) -> dict[str, Any]:
        return self.device(device_id).twin.for_device()

    def patch_reported(self, device_id: str, patch: Mapping[str, Any]) -> int:
        version = self.device(device_id).twin.patch_reported(patch)
        self.log.add(
            "reported", hub=self.name, device_id=device_id, version=version, patch=dict(patch)
        )
        self._on_change()
        return version

    def method_answered(self, device_id: str, rid: str, status: int, body: bytes) -> None:
        call = self._calls.get(rid)
        known = call is not None and call.device_id == device_id and not call.answer.done()
        self.log.add(
            "method-answer",
            hub=self.name,
            device_id=device_id,
            rid=rid,
            status=status,
            known=known,
        )
        if call is not None and known:
            call.answer.set_result((status, body))

    def ready_for_messages(self, device_id: str) -> None:
        """Send what waits and is not on its way yet."""
        device, way = self.devices.get(device_id), self._ways.get(device_id)
        if device is None or way is None:
            return
        in_flight = self._in_flight.setdefault(device_id, set())
        for message in list(device.c2d):
            if message.id in in_flight:
                continue
            begin = f"devices/{device_id}/messages/devicebound/"
            topic = begin + names.write_bag(message.properties)
            in_flight.add(message.id)
            completed = _Completed(self, device, message)
            if not way.send(device_id, topic, message.payload, completed):
                in_flight.discard(message.id)
                return

    # -- what services ask ------------------------------------------------------------------------

    def patch_twin(self, device_id: str, document: Mapping[str, Any]) -> Device:
        """Merge tags and desired properties. Refuses "device-unknown" and as `twin`."""
        device = self.device(device_id)
        tags, desired = azure_twin.parts(document)
        if tags:
            device.twin.patch_tags(tags)
        if desired:
            version = device.twin.patch_desired(desired)
            payload = json.dumps({**desired, "$version": version}, separators=(",", ":")).encode()
            way = self._ways.get(device_id)
            topic = names.desired_topic(version)
            sent = way is not None and way.send(device_id, topic, payload, _nothing)
            self.log.add("desired", hub=self.name, device_id=device_id, version=version, sent=sent)
        self._on_change()
        return device

    def send_c2d(self, device_id: str, payload: bytes, properties: Mapping[str, str]) -> str:
        """Keep a message for a device and send it as soon as it can be; returns its id.

        Refuses "device-unknown", "message-too-large" and, beyond fifty that wait,
        "too-many-messages".
        """
        device = self.device(device_id)
        if len(payload) > _C2D_BYTES_MAX:
            raise Refusal("message-too-large")
        if len(device.c2d) >= C2D_MAX:
            raise Refusal("too-many-messages")
        message_id = properties.get("$.mid") or str(uuid.uuid4())
        bag = {"$.mid": message_id, "$.to": f"/devices/{device_id}/messages/devicebound"}
        body = base64.b64encode(payload).decode()
        device.c2d.append(C2dMessage(message_id, {**bag, **properties}, body))
        self._on_change()
        self.log.add("c2d", hub=self.name, device_id=device_id, id=message_id)
        self.ready_for_messages(device_id)
        return message_id

    async def invoke(
        self, device_id: str, name: str, payload: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        """Have a device run a method; its status and body. Raises ServiceError."""
        if device_id not in self.devices:
            raise ServiceError(DEVICE_NOT_FOUND, f"{device_id} is not known")
        if len(payload) > _METHOD_BYTES_MAX:
            raise ServiceError(inferred(413), "a method's body has 128 KB at most")
        call, rid = _Call(device_id), uuid.uuid4().hex[:8]
        self._calls[rid] = call
        try:
            way = self._ways.get(device_id)
            topic = names.method_topic(name, rid)
            if way is None or not way.send(device_id, topic, payload, _nothing):
                raise ServiceError(DEVICE_OFFLINE, f"{device_id} is not online")
            self.log.add("method", hub=self.name, device_id=device_id, name=name, rid=rid)
            async with asyncio.timeout(timeout_s):
                return await call.answer
        except TimeoutError:
            raise ServiceError(GATEWAY_TIMEOUT, f"{device_id} did not answer") from None
        finally:
            del self._calls[rid]

    def completed(self, device: Device, message: C2dMessage) -> None:
        """A device has acknowledged a message."""
        if message in device.c2d:
            device.c2d.remove(message)
            self._in_flight.get(device.device_id, set()).discard(message.id)
            self._on_change()
            self.log.add("c2d-completed", hub=self.name, device_id=device.device_id, id=message.id)


@dataclass(frozen=True)
class _Completed:
    hub: Hub
    device: Device
    message: C2dMessage

    def __call__(self) -> None:
        self.hub.completed(self.device, self.message)


def below(devices: Mapping[str, Device], parent: str) -> dict[str, Device]:
    """The devices whose parents lead up to that one."""
    found: dict[str, Device] = {}
    wanted = {parent}
    while wanted:
        more = {n: d for n, d in devices.items() if d.parent in wanted and n not in found}
        found |= more
        wanted = set(more)
    return found


def bad_request(refusal: Refusal) -> ServiceError:
    """A service is told what is wrong with its request."""
    if refusal.reason == "device-unknown":
        return ServiceError(DEVICE_NOT_FOUND, "the device is not known")
    return ServiceError(inferred(400), refusal.reason)


def _nothing() -> None:
    """Nobody waits for that acknowledgement."""


def _future() -> asyncio.Future[tuple[int, bytes]]:
    return asyncio.get_running_loop().create_future()


def _shown(payload: bytes) -> Any:
    """JSON as what it says, all else as text."""
    try:
        return json.loads(payload[:_BODY_SHOWN_MAX])
    except (ValueError, RecursionError):
        return payload[:_BODY_SHOWN_MAX].decode("utf-8", "replace")
