"""EnOS's JSON envelope: requests read, replies and commands written. Pure.

    up      {"id":"1","version":"1.0","method":"thing.measurepoint.post","params":{...}}
    reply   {"id":"1","code":200,"message":"","data":null}

A reply code for the content of a measurepoint, event or attribute post is not documented: 1220
("payload format error") is what MQTT's gives for a shape that is wrong. `method` is not compared
with the path: the vendor's own Python SDK gets it wrong for events, and is in use.

Invariant: any payload gives a result, ValueError (not an envelope) or FormatError (an envelope
whose `params` are not what the path asks for); never another exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imprint_tools.localcloud import jsonobject

OK = 200
FORMAT_ERROR = 1220
_MESSAGES = {OK: "", FORMAT_ERROR: "payload format error"}
_ID_MAX = 64
_QUALITIES = range(10)
_VERSION = "1.0"


class FormatError(Exception):
    """The `params` are not what they have to be."""


@dataclass(frozen=True)
class Envelope:
    """A request's. `id` is empty where there is none, which is allowed."""

    id: str
    params: Any


def parse_request(payload: bytes) -> Envelope:
    """Read a request's payload. Raises ValueError."""
    document = jsonobject.load(payload)
    message_id = document.get("id", "")
    if not isinstance(message_id, str) or len(message_id) > _ID_MAX:
        raise ValueError("id")
    if not isinstance(document.get("method", ""), str) or "params" not in document:
        raise ValueError("method or params")
    return Envelope(message_id, document["params"])


def parse_reply(payload: bytes) -> tuple[str, int, Any]:
    """Read a device's reply to a command: (id, code, data). Raises ValueError."""
    document = jsonobject.load(payload)
    message_id, code = document.get("id"), document.get("code")
    if not isinstance(message_id, str) or type(code) is not int:
        raise ValueError("id or code")
    return message_id, code, document.get("data")


def measurepoints(params: Any, now_ms: int) -> dict[str, dict[str, Any]]:
    """The points of a post, each with `value`, `time` (ms) and, where it was given, `quality`."""
    time_ms = _time(params, now_ms)
    found: dict[str, dict[str, Any]] = {}
    for name, value in _members(params, "measurepoints").items():
        point = {"value": value, "time": time_ms}
        if isinstance(value, dict) and value.keys() == {"value", "quality"}:
            if type(value["quality"]) is not int or value["quality"] not in _QUALITIES:
                raise FormatError("quality")
            point |= value
        if point["value"] is None:
            raise FormatError("value")
        found[name] = point
    return found


def event(params: Any, event_id: str, now_ms: int) -> dict[str, Any]:
    """An event: `id`, `fields` and `time` (ms)."""
    fields = params.get("events") if isinstance(params, dict) else None
    if not isinstance(fields, dict):
        raise FormatError("events")
    return {"id": event_id, "fields": fields, "time": _time(params, now_ms)}


def attributes(params: Any) -> dict[str, Any]:
    """The attributes of an update."""
    return _members(params, "attributes")


def attribute_names(params: Any) -> list[str]:
    """Those that a query or a deletion names."""
    names = params.get("attributes") if isinstance(params, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError("attributes")
    return names


def reply(message_id: str, code: int, data: Any = None) -> bytes:
    return jsonobject.dump(
        {"id": message_id, "code": code, "message": _MESSAGES[code], "data": data}
    )


def request(message_id: str, topic: str, params: Any) -> bytes:
    """A request from the cloud; `topic` as `thing/service/…`."""
    method = topic.replace("/", ".")
    return jsonobject.dump(
        {"id": message_id, "version": _VERSION, "method": method, "params": params}
    )


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
