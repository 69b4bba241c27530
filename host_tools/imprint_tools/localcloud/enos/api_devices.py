"""EnOS's REST API about devices: create, look, change, delete; topology; the device log.

A device is named in the query, by assetId or by productKey and deviceKey, and has to be one of a
product of the call's organisation. Failures have the reasons of `enos_calls.FAILURES`.

The bodies of topology calls other than adding and removing, and the shape of a device record and
of a log entry, are not documented well enough to build on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imprint_tools.localcloud.enos import messages
from imprint_tools.localcloud.enos.calls import FAILURES, Action, Actions, Call, Result
from imprint_tools.localcloud.enos.config import EnosConfig
from imprint_tools.localcloud.enos.faults import EnosFaults
from imprint_tools.localcloud.enos.hub import Hub, status
from imprint_tools.localcloud.enos.records import DEVICES_RIGHT, GATEWAY, Device, Name, Product
from imprint_tools.localcloud.enos.registry import EnosRegistry
from imprint_tools.localcloud.refusal import Refusal

_BATCH_MAX = 1000
_WITHOUT_SECRET = "v2.4"  # noqa: S105 - a version
"""From this version on, a deviceSecret is told only to who asks for it, encrypted."""


def find(registry: EnosRegistry, call: Call) -> tuple[Name, Device]:
    """The device that a call names. Refuses "argument-invalid", "device-unknown"."""
    asset_id = call.query.get("assetId")
    product_key, device_key = call.query.get("productKey"), call.query.get("deviceKey")
    if asset_id:
        product, device = registry.by_asset(asset_id)
    elif product_key and device_key:
        try:
            product, device = (
                registry.product(product_key),
                registry.device(product_key, device_key),
            )
        except Refusal:
            raise Refusal("device-unknown") from None
    else:
        raise Refusal("argument-invalid")
    if product.organisation != call.organisation:
        raise Refusal("device-unknown")
    return (product.key, device.key), device


class DeviceActions:
    def __init__(
        self, registry: EnosRegistry, hub: Hub, config: EnosConfig, faults: EnosFaults
    ) -> None:
        self._registry = registry
        self._hub = hub
        self._limits = config.limits
        self._codes = config.inferred.rest_codes
        self._faults = faults

    def actions(self) -> Actions:
        """By resource and action."""
        post, either = ("POST",), ("GET", "POST")
        table = {
            ("devices", "create"): (self.create, post),
            ("devices", "batchCreate"): (self.create_batch, post),
            ("devices", "get"): (self.get, either),
            ("devices", "update"): (self.update, post),
            ("devices", "delete"): (self.delete, ("POST", "DELETE")),
            ("devices", "enable"): (self.enable, post),
            ("devices", "disable"): (self.disable, post),
            ("device-topos", "addSubDevice"): (self.add_subdevices, post),
            ("device-topos", "removeSubDevice"): (self.remove_subdevices, post),
            ("device-topos", "getGateway"): (self.gateway, either),
            ("device-topos", "searchSubDevice"): (self.subdevices, either),
            ("device-logs", "search"): (self.logs, either),
        }
        return {key: Action(run, DEVICES_RIGHT, methods) for key, (run, methods) in table.items()}

    # -- devices -------------------------------------------------------------------------------

    def create(self, call: Call) -> Result:
        return Result(self._create(call, call.body))

    def create_batch(self, call: Call) -> Result:
        """Each for itself; the reply is a success, and says of each how it went."""
        entries = messages.objects(call.body.get("deviceList"), _BATCH_MAX)
        half = len(entries) // 2 if self._faults.take("half_batch") else len(entries)
        results = []
        for place, entry in enumerate(entries):
            try:
                if place >= half:
                    raise Refusal("internal")
                results.append({"code": 0, "msg": "OK", "data": self._create(call, entry)})
            except Refusal as refusal:
                results.append(self._failed(refusal.reason))
            except messages.FormatError:
                results.append(self._failed("argument-invalid"))
        good = sum(result["code"] == 0 for result in results)
        return Result(results, {"successSize": good, "totalSize": len(results)})

    def _failed(self, reason: str) -> dict[str, Any]:
        failure = FAILURES[reason]
        code = self._codes.get(reason, failure.code)
        return {"code": code, "msg": failure.text, "data": None}

    def get(self, call: Call) -> Result:
        name, device = find(self._registry, call)
        online = self._hub.online(name)
        record = {
            **_names(name, device),
            **device.profile,
            "deviceAttributes": dict(device.attributes),
            "deviceTags": dict(device.tags),
            "status": status(device, online=online) if device.enabled else "disabled",
        }
        if call.version < _WITHOUT_SECRET:
            record["deviceSecret"] = device.secret.reveal().decode()
        return Result(record)

    def update(self, call: Call) -> Result:
        """Name, timezone, description, attributes and tags; isPatchUpdate adds to the last two."""
        name, device = find(self._registry, call)
        known = {"timezone": "+00:00", "deviceName": {"defaultValue": name[1]}, **device.profile}
        profile = messages.profile({**known, **call.body, "productKey": name[0]})
        patch = call.query.get("isPatchUpdate", "false").lower() == "true"
        device.profile = profile
        if "deviceAttributes" in call.body:
            kept = device.attributes if patch else {}
            device.attributes = kept | call.body["deviceAttributes"]
        if "deviceTags" in call.body:
            device.tags = (device.tags if patch else {}) | call.body["deviceTags"]
        self._registry.save()
        return Result()

    def delete(self, call: Call) -> Result:
        name, _ = find(self._registry, call)
        self._hub.delete(name)
        return Result()

    def enable(self, call: Call) -> Result:
        return self._set_enabled(call, True)

    def disable(self, call: Call) -> Result:
        return self._set_enabled(call, False)

    def _set_enabled(self, call: Call, on: bool) -> Result:
        name, device = find(self._registry, call)
        if device.enabled is on:
            raise Refusal("state-conflict")
        self._hub.set_enabled(name, on)
        return Result()

    def _create(self, call: Call, entry: Mapping[str, Any]) -> dict[str, str]:
        profile = messages.profile(entry)
        product = self._product(call, entry["productKey"])
        if call.version >= _WITHOUT_SECRET and entry.get("requireSecret") is True:
            raise Refusal("no-public-key")
        if entry.get("deviceKey") in product.devices:
            raise Refusal("device-exists")
        if len(product.devices) >= self._limits.devices_per_product:
            raise Refusal("too-many-devices")
        device = self._registry.create_device(product.key, entry.get("deviceKey"))
        device.profile = profile
        device.attributes.update(entry.get("deviceAttributes", {}))
        device.tags.update(entry.get("deviceTags", {}))
        self._registry.save()
        name = (product.key, device.key)
        self._hub.tell_created(name)
        data = _names(name, device)
        if call.version < _WITHOUT_SECRET:
            data["deviceSecret"] = device.secret.reveal().decode()
        return data

    def _product(self, call: Call, product_key: str) -> Product:
        product = self._registry.product(product_key)
        if product.organisation != call.organisation:
            raise Refusal("product-of-another")
        return product

    # -- topology ------------------------------------------------------------------------------

    def add_subdevices(self, call: Call) -> Result:
        """All of them or none."""
        gateway, names = self._topology(call)
        there = self._registry.subdevices(gateway)
        if len({*there, *names}) > self._limits.topology_max:
            raise Refusal("too-many-subdevices")
        for name in names:
            self._registry.check_bind(gateway, name)
        for name in names:
            self._registry.bind(gateway, name)
        self._registry.save()
        return Result()

    def remove_subdevices(self, call: Call) -> Result:
        """All of them or none; who was online is offline then."""
        gateway, names = self._topology(call)
        if not set(names) <= set(self._registry.subdevices(gateway)):
            raise Refusal("not-a-subdevice")
        for name in names:
            self._hub.mqtt.leave(name, "topology")
            self._registry.device(*name).gateway = None
        self._registry.save()
        return Result()

    def gateway(self, call: Call) -> Result:
        """Of the sub-device in the query."""
        _, device = find(self._registry, call)
        if device.gateway is None:
            return Result()
        return Result(_names(device.gateway, self._registry.device(*device.gateway)))

    def subdevices(self, call: Call) -> Result:
        """Of the gateway in the query."""
        name, _ = find(self._registry, call)
        if self._registry.product(name[0]).kind != GATEWAY:
            raise Refusal("not-a-gateway")
        found = self._registry.subdevices(name)
        return Result([_names(sub, self._registry.device(*sub)) for sub in found])

    def _topology(self, call: Call) -> tuple[Name, list[Name]]:
        """The gateway and the sub-devices that a body names."""
        gateway = self._named(call, call.body.get("gateway"))
        if self._registry.product(gateway[0]).kind != GATEWAY:
            raise Refusal("not-a-gateway")
        entries = messages.objects(call.body.get("subDevices"), _BATCH_MAX)
        return gateway, [self._named(call, entry) for entry in entries]

    def _named(self, call: Call, entry: Any) -> Name:
        if not isinstance(entry, dict):
            raise Refusal("argument-invalid")
        query = {key: value for key, value in entry.items() if isinstance(value, str)}
        return find(self._registry, Call(call.organisation, call.version, query, {}))[0]

    # -- log -----------------------------------------------------------------------------------

    def logs(self, call: Call) -> Result:
        name, device = find(self._registry, call)
        return Result(
            [
                {
                    **_names(name, device),
                    "time": entry.time_ms,
                    "type": entry.what,
                    "code": entry.code,
                    "message": entry.message,
                }
                for entry in self._hub.mqtt.device_log.of(name)
            ]
        )


def _names(name: Name, device: Device) -> dict[str, str]:
    return {"assetId": device.asset_id, "productKey": name[0], "deviceKey": name[1]}
