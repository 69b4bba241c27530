"""A transparent IoT Edge gateway: devices enter here and are the hub's, near or far.

It knows the devices in its scope, keeps their telemetry in order while the way up is cut, answers
for their twins from its copies, and passes on what comes down. A gateway may stand behind another
one. What the real one says upstream is its own affair (AMQP or MQTT, many devices on one
connection); here it is a call. Runs in the cloud's loop.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cryptography import x509

from imprint_tools.localcloud.azure.config import AzureConfig
from imprint_tools.localcloud.azure.data import AzureData, Device, Message
from imprint_tools.localcloud.azure.error import ServiceError, inferred
from imprint_tools.localcloud.azure.hub import Downlink, Hub, Upstream, below
from imprint_tools.localcloud.azure.twin import PROPERTIES_MAX, merged
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.refusal import Refusal


class Gateway:
    """A `Door` for its devices, an `Upstream` for gateways below and a `Downlink` for what is
    above. `name` is its host name; `device_id` its own identity at the hub."""

    def __init__(
        self,
        name: str,
        device_id: str,
        hub: Hub,
        parent: Upstream,
        data: AzureData,
        config: AzureConfig,
        log: EventLog,
    ) -> None:
        self.name = name
        self.device_id = device_id
        self.up = False
        self._hub = hub
        self._parent = parent
        self._data = data
        self._config = config
        self._log = log
        self._linked = True
        self._scope: dict[str, Device] = {}
        self._scope_at: float | None = None
        self._ways: dict[str, Downlink] = {}
        self._twins: dict[str, dict[str, Any]] = {}
        self._reported: deque[tuple[str, dict[str, Any]]] = deque()
        self._store = data.stores.setdefault(name, deque())

    # -- what the console does -------------------------------------------------------------------

    def start(self) -> None:
        self.up = True
        self.refresh()

    def stop(self) -> None:
        """Without power; what it stores is on its disk. Its front closes the connections."""
        self.up = False

    def set_link(self, on: bool) -> None:
        """Cut the way up, or mend it."""
        self._linked = on
        self._log.add("gateway-link", gateway=self.name, on=on)
        if not on:
            for device_id in self._ways:
                self._parent.disconnected(device_id, self)
        self.refresh()

    def refresh(self) -> None:
        """The way up may be free: read the scope again and send what waits, in its order."""
        if not self.up or not self.parent_reachable:
            return
        self._scope = copy.deepcopy(self._parent.scope(self.device_id))
        self._scope_at = time.monotonic()
        for device_id in list(self._ways):
            self._parent.connected(device_id, self)
        while self._reported:
            self._push(*self._reported.popleft())
        self._drain()
        for device_id in list(self._ways):
            self._parent.ready_for_messages(device_id)

    @property
    def waiting(self) -> int:
        """Messages that are stored."""
        return len(self._store)

    @property
    def parent_reachable(self) -> bool:
        return self._linked and self._parent.reachable

    # -- front.Door ------------------------------------------------------------------------

    @property
    def upstream(self) -> Upstream:
        return self

    @property
    def grace_s(self) -> float:
        return self._config.gateway_grace_s

    def device(self, device_id: str) -> Device:
        if self._stale() or device_id not in self._scope:
            self.refresh()
        if device_id not in self._scope:
            raise Refusal("not-in-scope")
        if len(self._ways.keys() - {device_id}) >= self._config.gateway_clients_max:
            raise Refusal("too-many-clients")
        return self._scope[device_id]

    def check_host(self, host: str) -> None:
        """The real one does not look at it."""

    def resources(self, device_id: str) -> Sequence[str]:
        return [f"{host}/devices/{device_id}" for host in (self._hub.host, self.name)]

    def authorities(self) -> dict[str, list[x509.Certificate]]:
        return self._data.certificate_authorities()

    def _stale(self) -> bool:
        at = self._scope_at
        return at is None or time.monotonic() - at > self._config.scope_refresh_s

    # -- Upstream --------------------------------------------------------------------------------

    @property
    def reachable(self) -> bool:
        return self.up

    def scope(self, parent: str) -> dict[str, Device]:
        if self.parent_reachable:
            self._scope = copy.deepcopy(self._parent.scope(self.device_id))
            self._scope_at = time.monotonic()
        return below(self._scope, parent)

    def connected(self, device_id: str, way: Downlink) -> None:
        before = self._ways.get(device_id)
        self._ways[device_id] = way
        if before is not None and before is not way:
            before.disconnect(device_id, "another connection took the session")
        if self.parent_reachable:
            self._parent.connected(device_id, self)

    def disconnected(self, device_id: str, way: Downlink) -> None:
        if self._ways.get(device_id) is way:
            del self._ways[device_id]
            if self.parent_reachable:
                self._parent.disconnected(device_id, self)

    def telemetry(self, message: Message) -> None:
        """Acknowledged by now; stored until it is the parent's."""
        self._store.append(message)
        self._data.changed()
        if not self.parent_reachable:
            self._log.add("stored", gateway=self.name, device_id=message.device_id)
        self._drain()
        while len(self._store) > self._config.store_max:
            self._lose("too many")

    def twin(self, device_id: str) -> dict[str, Any]:
        """The parent's, else the copy. Raises ServiceError 503 where there is neither."""
        if self.parent_reachable:
            try:
                self._twins[device_id] = copy.deepcopy(self._parent.twin(device_id))
            except ServiceError:
                pass  # further up the way is cut
        try:
            return self._twins[device_id]
        except KeyError:
            raise ServiceError(inferred(503), "the twin has never been read") from None

    def patch_reported(self, device_id: str, patch: Mapping[str, Any]) -> int:
        """Merged here, too, and pushed when that can be. Refuses as the twin does."""
        known = self._twins.setdefault(
            device_id, {"desired": {"$version": 1}, "reported": {"$version": 1}}
        )
        if self.parent_reachable:
            version = self._parent.patch_reported(device_id, patch)
        else:
            version = known["reported"]["$version"] + 1
            self._reported.append((device_id, dict(patch)))
        old = {name: value for name, value in known["reported"].items() if name != "$version"}
        known["reported"] = {**merged(old, patch, PROPERTIES_MAX), "$version": version}
        return version

    def method_answered(self, device_id: str, rid: str, status: int, body: bytes) -> None:
        if self.parent_reachable:
            self._parent.method_answered(device_id, rid, status, body)

    def ready_for_messages(self, device_id: str) -> None:
        if self.parent_reachable:
            self._parent.ready_for_messages(device_id)

    # -- Downlink --------------------------------------------------------------------------------

    def send(
        self, device_id: str, topic: str, payload: bytes, on_acknowledged: Callable[[], None]
    ) -> bool:
        way = self._ways.get(device_id)
        if way is None or not self.up or not self.parent_reachable:
            return False
        return way.send(device_id, topic, payload, on_acknowledged)

    def disconnect(self, device_id: str, reason: str) -> None:
        if (way := self._ways.get(device_id)) is not None and self.up:
            way.disconnect(device_id, reason)

    # -- store and forward -----------------------------------------------------------------------

    def _drain(self) -> None:
        while self._store and self.parent_reachable:
            message = self._store.popleft()
            if time.time() - message.at > self._config.store_life_s:
                self._store.appendleft(message)
                self._lose("too old")
                continue
            via = (*message.via, self.name)
            self._parent.telemetry(
                Message(message.device_id, message.properties, message.payload, message.at, via)
            )

    def _lose(self, why: str) -> None:
        message = self._store.popleft()
        self._log.add("lost", gateway=self.name, device_id=message.device_id, why=why)

    def _push(self, device_id: str, patch: dict[str, Any]) -> None:
        try:
            self._parent.patch_reported(device_id, patch)
        except Refusal as refusal:
            self._log.add(
                "reported-refused", gateway=self.name, device_id=device_id, reason=refusal.reason
            )
