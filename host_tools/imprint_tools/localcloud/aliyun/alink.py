"""Alink, the platform's JSON protocol above MQTT: requests read, replies written. Pure.

    up      {"id":"1","version":"1.0","params":{...},"method":"thing.event.property.post"}
    reply   {"id":"1","code":200,"data":{},"message":"success","version":"1.0"}
    down    {"id":"1","version":"1.0","params":{...},"method":"thing.service.property.set"}

Source: the platform's documents 89301 (properties), 89309 (device-side codes), 120329 (codes).

Invariant: any payload gives a Request or an AlinkError; never another exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from imprint_tools.localcloud import jsonobject
from imprint_tools.localcloud.jsonobject import dump

OK = 200
PARAMETER_ERROR = 460
DEVICE_DISABLED = 6204
NOT_JSON = 6207

_MESSAGES = {
    OK: "success",
    PARAMETER_ERROR: "request parameter error",
    DEVICE_DISABLED: "device disabled",
    NOT_JSON: "the payload is not a JSON object",
}
_ID_MAX = 4294967295
_ID_DIGITS_MAX = 10
_FUTURE_MS = 24 * 3600 * 1000


class AlinkError(Exception):
    """A request that gets an error's code for an answer. `message_id` where it could be read."""

    def __init__(self, code: int, message_id: str = "") -> None:
        super().__init__(_MESSAGES[code])
        self.code = code
        self.message_id = message_id


@dataclass(frozen=True)
class Request:
    """A request from a device; `wants_reply` is False where it says `sys.ack` 0."""

    message_id: str
    params: Mapping[str, Any]
    wants_reply: bool


def parse_request(payload: bytes, method: str) -> Request:
    """Read a request that came to the topic of `method`.

    The method may be absent, as the vendor's own C SDK leaves it out; another one is an error.
    """
    document = load_object(payload)
    message_id = document.get("id")
    if not valid_id(message_id):
        raise AlinkError(PARAMETER_ERROR)
    params = document.get("params")
    system = document.get("sys", {})
    if document.get("method", method) != method or not isinstance(params, dict):
        raise AlinkError(PARAMETER_ERROR, message_id)
    if not isinstance(system, dict):
        raise AlinkError(PARAMETER_ERROR, message_id)
    return Request(message_id, params, system.get("ack") not in (0, "0"))


def parse_reply(payload: bytes) -> tuple[str, int]:
    """Read a device's reply to a request from the cloud: (id, code)."""
    document = load_object(payload)
    message_id, code = document.get("id"), document.get("code")
    if not valid_id(message_id) or type(code) is not int:
        raise AlinkError(PARAMETER_ERROR)
    return message_id, code


def points(request: Request, now_ms: int) -> dict[str, dict[str, Any]]:
    """The properties of a post, each with `value` and `time` (ms).

    A property is a plain value or {"value":..., "time":...}; the time may lie at most 24 h ahead
    (89301). Raises AlinkError 460.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, value in request.params.items():
        time_ms = now_ms
        if isinstance(value, dict) and "value" in value:
            time_ms = value.get("time", now_ms)
            if type(time_ms) is not int or not 0 <= time_ms <= now_ms + _FUTURE_MS:
                raise AlinkError(PARAMETER_ERROR, request.message_id)
            value = value["value"]
        if not name or value is None:
            raise AlinkError(PARAMETER_ERROR, request.message_id)
        found[name] = {"value": value, "time": time_ms}
    if not found:
        raise AlinkError(PARAMETER_ERROR, request.message_id)
    return found


def reply(message_id: str, code: int) -> bytes:
    return dump(
        {"id": message_id, "code": code, "data": {}, "message": _MESSAGES[code], "version": "1.0"}
    )


def request(message_id: str, method: str, params: Mapping[str, Any]) -> bytes:
    return dump({"id": message_id, "version": "1.0", "params": params, "method": method})


def load_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in a payload. Raises AlinkError 6207 for anything else."""
    try:
        return jsonobject.load(payload)
    except ValueError:
        raise AlinkError(NOT_JSON) from None


def valid_id(value: object) -> TypeGuard[str]:
    """A string of digits, 0 to 4294967295."""
    return (
        isinstance(value, str)
        and value.isascii()
        and value.isdigit()
        and len(value) <= _ID_DIGITS_MAX
        and int(value) <= _ID_MAX
    )
