"""EnOS's JSON envelope: requests read, replies and commands written. Pure.

    up      {"id":"1","version":"1.0","method":"thing.measurepoint.post","params":{...}}
    reply   {"id":"1","code":200,"message":"","data":null}
    batch   the same with an array, "allowOfflineSubDevice" and "skipInvalidMeasurepoints" beside

A reply code for the content of a measurepoint, event or attribute post is not documented: 1220
("payload format error") is what MQTT's gives for a shape that is wrong. `method` is not compared
with the path: the vendor's own Python SDK gets it wrong for events, and is in use.

Invariant: any payload gives a result, ValueError (not an envelope) or FormatError (an envelope
whose `params` are not what the path asks for); never another exception.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imprint_tools.localcloud import jsonobject
from imprint_tools.localcloud.enos.auth import valid_name

OK = 200
FORMAT_ERROR = 1220
_MESSAGES = {OK: "", FORMAT_ERROR: "payload format error"}
TAGS_MAX, TAG_KEY_MAX, TAG_VALUE_MAX = 100, 50, 200
"""Tags of a device, characters of a key and of a value (the vendor's limits page)."""

PROFILE = ("deviceName", "timezone", "deviceDesc")

_TIMEZONE = re.compile(r"[+-][01][0-9]:[0-5][0-9]")
_ID_MAX = 64
_CODE_DIGITS = 9
_QUALITIES = range(10)
_VERSION = "1.0"


class FormatError(Exception):
    """The `params` are not what they have to be."""


@dataclass(frozen=True)
class Envelope:
    """A request's. `id` is empty where there is none, which is allowed. `allow_offline` and
    `skip_invalid` are a batch's, and may be anything in another one."""

    id: str
    params: Any
    allow_offline: Any = False
    skip_invalid: Any = False


def parse_request(payload: bytes) -> Envelope:
    """Read a request's payload. Raises ValueError."""
    document = jsonobject.load(payload)
    message_id = document.get("id", "")
    if not isinstance(message_id, str) or len(message_id) > _ID_MAX:
        raise ValueError("id")
    if not isinstance(document.get("method", ""), str) or "params" not in document:
        raise ValueError("method or params")
    # The Python SDK sends an empty string for a switch that was not set.
    allow = document.get("allowOfflineSubDevice") or False
    skip = document.get("skipInvalidMeasurepoints") or False
    return Envelope(message_id, document["params"], allow, skip)


def parse_reply(payload: bytes) -> tuple[str, int, Any]:
    """Read a device's reply to a command: (id, code, data). Raises ValueError.

    A code may be the text of a number: so the vendor's Python SDK says that it has no handler.
    """
    document = jsonobject.load(payload)
    message_id, code = document.get("id"), document.get("code")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= _CODE_DIGITS:
        code = int(code)
    if not isinstance(message_id, str) or type(code) is not int:
        raise ValueError("id or code")
    return message_id, code, document.get("data")


def measurepoints(
    params: Any, now_ms: int, *, skip_invalid: bool = False
) -> dict[str, dict[str, Any]]:
    """The points of a post, each with `value`, `time` (ms) and, where it was given, `quality`;
    `skip_invalid`: without those that are none."""
    time_ms = _time(params, now_ms)
    found: dict[str, dict[str, Any]] = {}
    for name, value in _members(params, "measurepoints").items():
        try:
            found[name] = _point(value, time_ms)
        except FormatError:
            if not skip_invalid:
                raise
    return found


def batch_flags(envelope: Envelope) -> tuple[bool, bool]:
    """(allow offline sub-devices, skip invalid measurepoints) of a batch."""
    allow, skip = envelope.allow_offline, envelope.skip_invalid
    if type(allow) is not bool or type(skip) is not bool:
        raise FormatError("allowOfflineSubDevice or skipInvalidMeasurepoints")
    return allow, skip


def objects(params: Any, most: int) -> list[dict[str, Any]]:
    """An array of objects, at least one and at most so many."""
    if not isinstance(params, list) or not 1 <= len(params) <= most:
        raise FormatError("params")
    if not all(isinstance(entry, dict) for entry in params):
        raise FormatError("params")
    return params


def text(entry: Any, name: str) -> str:
    """A string with something in it, of an object."""
    found = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(found, str) or not found:
        raise FormatError(name)
    return found


def tags(params: Any) -> dict[str, str]:
    """The tags of an update."""
    return {
        _within(text(entry, "tagKey"), TAG_KEY_MAX): _within(
            text(entry, "tagValue"), TAG_VALUE_MAX
        )
        for entry in objects(params, TAGS_MAX)
    }


def event(params: Any, event_id: str, now_ms: int) -> dict[str, Any]:
    """An event: `id`, `fields` and `time` (ms)."""
    fields = params.get("events") if isinstance(params, dict) else None
    if not isinstance(fields, dict):
        raise FormatError("events")
    return {"id": event_id, "fields": fields, "time": _time(params, now_ms)}


def profile(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a device is created with, of an object that has to bring productKey, timezone and
    deviceName, and may bring deviceKey, deviceDesc, deviceAttributes and deviceTags."""
    text(entry, "productKey")
    if not _TIMEZONE.fullmatch(text(entry, "timezone")):
        raise FormatError("timezone")
    name = entry.get("deviceName")
    text(name, "defaultValue")
    if not isinstance(name, dict) or not isinstance(name.get("i18nValue", {}), dict):
        raise FormatError("i18nValue")
    if "deviceKey" in entry and not valid_name(text(entry, "deviceKey")):
        raise FormatError("deviceKey")
    if not isinstance(entry.get("deviceDesc", ""), str):
        raise FormatError("deviceDesc")
    for field in ("deviceAttributes", "deviceTags"):
        if not isinstance(entry.get(field, {}), dict):
            raise FormatError(field)
    return {field: entry[field] for field in PROFILE if field in entry}


def attributes(params: Any) -> dict[str, Any]:
    """The attributes of an update."""
    return _members(params, "attributes")


def names(params: Any, field: str) -> list[str]:
    """The attributes or tags that a query or a deletion names."""
    found = params.get(field) if isinstance(params, dict) else None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise FormatError(field)
    return found


def reply(message_id: str, code: int, data: Any = None, message: str | None = None) -> bytes:
    if message is None:
        message = _MESSAGES[code]
    return jsonobject.dump({"id": message_id, "code": code, "message": message, "data": data})


def request(message_id: str, topic: str, params: Any) -> bytes:
    """A request from the cloud; `topic` as `thing/service/…`."""
    method = topic.replace("/", ".")
    return jsonobject.dump(
        {"id": message_id, "version": _VERSION, "method": method, "params": params}
    )


def _point(value: Any, time_ms: int) -> dict[str, Any]:
    point = {"value": value, "time": time_ms}
    if isinstance(value, dict) and value.keys() == {"value", "quality"}:
        if type(value["quality"]) is not int or value["quality"] not in _QUALITIES:
            raise FormatError("quality")
        point |= value
    if point["value"] is None:
        raise FormatError("value")
    return point


def _within(value: str, most: int) -> str:
    if len(value) > most:
        raise FormatError("tag")
    return value


def _members(params: Any, name: str) -> dict[str, Any]:
    found = params.get(name) if isinstance(params, dict) else None
    if not isinstance(found, dict) or not found or "" in found:
        raise FormatError(name)
    return found


def _time(params: Any, now_ms: int) -> int:
    time_ms = params.get("time", now_ms) if isinstance(params, dict) else now_ms
    if type(time_ms) is not int or time_ms < 0:
        raise FormatError("time")
    return time_ms
