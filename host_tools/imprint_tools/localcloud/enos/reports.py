"""What a device may report, by topic below `/sys/{productKey}/{deviceKey}/`, and where it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imprint_tools.localcloud.enos import messages
from imprint_tools.localcloud.enos.records import Device

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


def store(device: Device, points: Mapping[str, dict[str, Any]], *, late: bool) -> None:
    """Keep measurepoints; late ones do not take the place of newer values."""
    for name, point in points.items():
        latest = device.measurepoints.get(name)
        if not late or latest is None or latest["time"] < point["time"]:
            device.measurepoints[name] = point


def _post_measurepoints(device: Device, params: Any, now_ms: int) -> None:
    store(device, messages.measurepoints(params, now_ms), late=False)


def _resume_measurepoints(device: Device, params: Any, now_ms: int) -> None:
    store(device, messages.measurepoints(params, now_ms), late=True)


def _update_attributes(device: Device, params: Any, _now_ms: int) -> None:
    device.attributes.update(messages.attributes(params))


def _query_attributes(device: Device, params: Any, _now_ms: int) -> dict[str, Any]:
    names = messages.names(params, "attributes") or device.attributes
    return {name: device.attributes[name] for name in names if name in device.attributes}


def _delete_attributes(device: Device, params: Any, _now_ms: int) -> None:
    for name in messages.names(params, "attributes"):
        device.attributes.pop(name, None)


def _update_tags(device: Device, params: Any, _now_ms: int) -> None:
    found = device.tags | messages.tags(params)
    if len(found) > messages.TAGS_MAX:
        raise messages.FormatError("tags")
    device.tags = found


def _query_tags(device: Device, params: Any, _now_ms: int) -> dict[str, str]:
    names = messages.names(params, "tags") or device.tags
    return {name: device.tags[name] for name in names if name in device.tags}


def _delete_tags(device: Device, params: Any, _now_ms: int) -> None:
    for name in messages.names(params, "tags"):
        device.tags.pop(name, None)


_USES: dict[str, Use] = {
    "thing/measurepoint/post": _post_measurepoints,
    "thing/measurepoint/resume": _resume_measurepoints,
    "thing/attribute/update": _update_attributes,
    "thing/attribute/query": _query_attributes,
    "thing/attribute/delete": _delete_attributes,
    "thing/tag/update": _update_tags,
    "thing/tag/query": _query_tags,
    "thing/tag/delete": _delete_tags,
}
