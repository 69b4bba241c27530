"""The names that Azure's devices speak by: ids, user names, topics, property bags. Pure.

Whatever text comes, each parser gives a result or a Refusal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from imprint_tools.localcloud.refusal import Refusal

REGISTRATION_ID_MAX = 128

_REGISTRATION_ID = re.compile(r"[A-Za-z0-9._:-]{0,127}[A-Za-z0-9-]")
_DEVICE_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@$']{1,128}")
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_CONNECTION_KEYS = {
    "HostName", "DeviceId", "ModuleId", "SharedAccessKey", "SharedAccessKeyName",
    "SharedAccessSignature", "GatewayHostName", "x509",
}  # fmt: skip

DPS_ANSWERS = "$dps/registrations/res/#"
_DPS_REGISTER = "$dps/registrations/PUT/iotdps-register/"
_DPS_STATUS = "$dps/registrations/GET/iotdps-get-operationstatus/"
TWIN_ANSWERS = "$iothub/twin/res/#"
DESIRED_PATCHES = "$iothub/twin/PATCH/properties/desired/#"
METHOD_CALLS = "$iothub/methods/POST/#"


def valid_registration_id(text: str) -> bool:
    """Letters, digits and `-._:`, 128 at most, the last a letter, a digit or a dash."""
    return _REGISTRATION_ID.fullmatch(text) is not None


def valid_device_id(text: str) -> bool:
    return _DEVICE_ID.fullmatch(text) is not None


def valid_api_version(text: str) -> bool:
    return _API_VERSION.fullmatch(text) is not None


@dataclass(frozen=True)
class DpsUser:
    """`{idScope}/registrations/{registrationId}/api-version=...`"""

    id_scope: str
    registration_id: str
    api_version: str


def parse_dps_username(text: str) -> DpsUser:
    """Refuses "username-malformed", "registration-id-invalid" and "api-version-missing"."""
    parts = text.split("/", 3)
    if len(parts) != 4 or parts[1] != "registrations" or not parts[0]:
        raise Refusal("username-malformed")
    if not valid_registration_id(parts[2]):
        raise Refusal("registration-id-invalid")
    return DpsUser(parts[0], parts[2], _api_version(parts[3]))


@dataclass(frozen=True)
class HubUser:
    """`{hubHost}/{deviceId}[/{moduleId}]/?api-version=...`"""

    host: str
    device_id: str
    module_id: str | None
    api_version: str

    @property
    def client_id(self) -> str:
        return self.device_id if self.module_id is None else f"{self.device_id}/{self.module_id}"


def parse_hub_username(text: str) -> HubUser:
    """Three or four parts and no more: a slash in a value is percent-encoded.

    Refuses "username-malformed", "device-id-invalid" and "api-version-missing".
    """
    parts = text.split("/")
    if len(parts) not in (3, 4) or not parts[0]:
        raise Refusal("username-malformed")
    names = parts[1:-1]
    if not all(valid_device_id(name) for name in names):
        raise Refusal("device-id-invalid")
    module_id = names[1] if len(names) == 2 else None
    return HubUser(parts[0], names[0], module_id, _api_version(parts[-1].removeprefix("?")))


def _api_version(query: str) -> str:
    version = parse_bag(query).get("api-version") or ""
    if not valid_api_version(version):
        raise Refusal("api-version-missing")
    return version


def parse_bag(text: str) -> dict[str, str | None]:
    """`key=value` pairs joined by `&`, both sides percent-encoded; a key alone means None.

    Refuses "properties-malformed".
    """
    bag: dict[str, str | None] = {}
    for pair in filter(None, text.split("&")):
        key, equals, value = pair.partition("=")
        try:
            name = unquote(key, errors="strict")
            bag[name] = unquote(value, errors="strict") if equals else None
        except UnicodeError:
            raise Refusal("properties-malformed") from None
    return bag


def write_bag(properties: Mapping[str, str]) -> str:
    return "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in properties.items())


# -- DPS's topics --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RegisterRequest:
    rid: str


@dataclass(frozen=True)
class StatusRequest:
    rid: str
    operation_id: str


def parse_dps_topic(topic: str) -> RegisterRequest | StatusRequest:
    """Refuses "topic-unknown", "rid-missing", "operation-id-missing", "properties-malformed"."""
    for begin in (_DPS_REGISTER, _DPS_STATUS):
        if topic.startswith(begin):
            query = _query(topic.removeprefix(begin))
            break
    else:
        raise Refusal("topic-unknown")
    rid = query.get("$rid")
    if not rid:
        raise Refusal("rid-missing")
    if begin == _DPS_REGISTER:
        return RegisterRequest(rid)
    operation_id = query.get("operationId")
    if not operation_id:
        raise Refusal("operation-id-missing")
    return StatusRequest(rid, operation_id)


def dps_answer_topic(status: int, rid: str, retry_after_s: int | None) -> str:
    wait = "" if retry_after_s is None else f"&retry-after={retry_after_s}"
    return f"$dps/registrations/res/{status}/?$rid={quote(rid, safe='')}{wait}"


# -- the hub's topics ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Telemetry:
    properties: dict[str, str | None]


@dataclass(frozen=True)
class TwinGet:
    rid: str


@dataclass(frozen=True)
class ReportedPatch:
    rid: str


@dataclass(frozen=True)
class MethodAnswer:
    rid: str
    status: int


Action = Telemetry | TwinGet | ReportedPatch | MethodAnswer


def parse_hub_topic(topic: str, client: HubUser) -> Action:
    """What a device asks by publishing to that topic.

    Refuses "topic-unknown", another device's topics included, "rid-missing",
    "properties-malformed" and "method-status-malformed".
    """
    events = events_topic(client)
    if topic.startswith(events) or topic == events.rstrip("/"):
        return Telemetry(parse_bag(topic.removeprefix(events) if topic != events[:-1] else ""))
    match topic.split("/", 4)[:3]:
        case ["$iothub", "twin", "GET"]:
            return TwinGet(_rid(topic, "$iothub/twin/GET/"))
        case ["$iothub", "twin", "PATCH"]:
            return ReportedPatch(_rid(topic, "$iothub/twin/PATCH/properties/reported/"))
        case ["$iothub", "methods", "res"]:
            status = topic.split("/")[3:4]
            if not status or re.fullmatch(r"-?[0-9]{1,9}", status[0]) is None:
                raise Refusal("method-status-malformed")
            rid = _rid(topic, f"$iothub/methods/res/{status[0]}/")
            return MethodAnswer(rid, int(status[0]))
    raise Refusal("topic-unknown")


def may_subscribe(topic_filter: str, client: HubUser) -> bool:
    own = {TWIN_ANSWERS, DESIRED_PATCHES, METHOD_CALLS, c2d_topic(client) + "#"}
    if client.module_id is not None:
        own.add(f"devices/{client.device_id}/modules/{client.module_id}/inputs/#")
    return topic_filter in own


def events_topic(client: HubUser) -> str:
    return _own(client) + "/messages/events/"


def c2d_topic(client: HubUser) -> str:
    return _own(client) + "/messages/devicebound/"


def twin_answer_topic(status: int, rid: str, version: int | None = None) -> str:
    more = "" if version is None else f"&$version={version}"
    return f"$iothub/twin/res/{status}/?$rid={quote(rid, safe='')}{more}"


def desired_topic(version: int) -> str:
    return f"$iothub/twin/PATCH/properties/desired/?$version={version}"


def method_topic(name: str, rid: str) -> str:
    return f"$iothub/methods/POST/{quote(name, safe='')}/?$rid={quote(rid, safe='')}"


def _own(client: HubUser) -> str:
    module = "" if client.module_id is None else f"/modules/{client.module_id}"
    return f"devices/{client.device_id}{module}"


def _query(text: str) -> dict[str, str | None]:
    if not text.startswith("?"):
        raise Refusal("topic-unknown")
    return parse_bag(text[1:])


def _rid(topic: str, begin: str) -> str:
    if not topic.startswith(begin):
        raise Refusal("topic-unknown")
    rid = _query(topic.removeprefix(begin)).get("$rid")
    if not rid:
        raise Refusal("rid-missing")
    return rid


# -- connection strings --------------------------------------------------------------------------


def parse_connection_string(text: str) -> dict[str, str]:
    """Read a connection string by the vendor's Python SDK's strict grammar.

    Refuses "connection-string-malformed", "connection-string-incomplete" and
    "connection-string-contradicts".
    """
    found: dict[str, str] = {}
    for part in text.split(";"):
        key, equals, value = part.partition("=")
        if not equals or key not in _CONNECTION_KEYS or key in found:
            raise Refusal("connection-string-malformed")
        found[key] = value
    named = {key for key, value in found.items() if value}
    if {"SharedAccessKey", "x509"} <= named:
        raise Refusal("connection-string-contradicts")
    device = {"HostName", "DeviceId"} <= named and named & {"SharedAccessKey", "x509"}
    if not device and not {"HostName", "SharedAccessKeyName", "SharedAccessKey"} <= named:
        raise Refusal("connection-string-incomplete")
    return found
