"""What a device may report, by topic below `/sys/{productKey}/{deviceKey}/`, and where it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imprint_tools.localcloud import enos_messages as messages
from imprint_tools.localcloud.enos_registry import Device

Use = Callable[[Device, Any, int], Any]
"""(device, params, now in ms) -> the reply's data. Raises enos_messages.FormatError."""


def use(topic: str) -> Use | None:
    """What is done with a post to that topic; None where there is no such topic."""
    match topic.split("/"):
        case ["thing", "event", event_id, "post"]:
            return lambda device, params, now_ms: device.happened(
                messages.event(params, event_id, now_ms)
            )
        case _:
            return _USES.get(topic)


def _post_measurepoints(device: Device, params: Any, now_ms: int) -> None:
    device.measurepoints.update(messages.measurepoints(params, now_ms))


def _resume_measurepoints(device: Device, params: Any, now_ms: int) -> None:
    """Late ones: they do not take the place of newer values."""
    for name, point in messages.measurepoints(params, now_ms).items():
        latest = device.measurepoints.get(name)
        if latest is None or latest["time"] < point["time"]:
            device.measurepoints[name] = point


def _update_attributes(device: Device, params: Any, _now_ms: int) -> None:
    device.attributes.update(messages.attributes(params))


def _query_attributes(device: Device, params: Any, _now_ms: int) -> dict[str, Any]:
    names = messages.attribute_names(params) or device.attributes
    return {name: device.attributes[name] for name in names if name in device.attributes}


def _delete_attributes(device: Device, params: Any, _now_ms: int) -> None:
    for name in messages.attribute_names(params):
        device.attributes.pop(name, None)


_USES: dict[str, Use] = {
    "thing/measurepoint/post": _post_measurepoints,
    "thing/measurepoint/resume": _resume_measurepoints,
    "thing/attribute/update": _update_attributes,
    "thing/attribute/query": _query_attributes,
    "thing/attribute/delete": _delete_attributes,
}
