"""A hub's service REST, as far as a portal needs it: identities, twins, methods, messages.

The real one takes cloud-to-device messages over AMQP alone; `/messages/devicebound` is ours.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from imprint_tools.localcloud.azure import names, sas
from imprint_tools.localcloud.azure.data import AUTHORITY, SAS, SELF_SIGNED, Device
from imprint_tools.localcloud.azure.error import ServiceError, inferred
from imprint_tools.localcloud.azure.hub import Hub, bad_request
from imprint_tools.localcloud.azure.rest import Guard, Throttle, body
from imprint_tools.localcloud.datafile import random_text
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

POLICY = "iothubowner"

_METHOD_TIMEOUT_S = (5, 300)


class HubRest:
    """Runs in the cloud's loop."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def application(self) -> Starlette:
        guard = Guard(
            self._hub.host, POLICY, self._hub.key, self._hub.log, throttle=Throttle(None, 1.0)
        )
        return guard.application([
            ("PUT", "/devices/{name}", self._put_device),
            ("GET", "/devices/{name}", self._get_device),
            ("DELETE", "/devices/{name}", self._delete_device),
            ("GET", "/twins/{name}", self._get_twin),
            ("PATCH", "/twins/{name}", self._patch_twin),
            ("POST", "/twins/{name}/methods", self._invoke),
            ("POST", "/messages/devicebound", self._send),
        ])  # fmt: skip

    async def _put_device(self, request: Request) -> Response:
        name = request.path_params["name"]
        document = await body(request)
        if document.get("deviceId") != name or not names.valid_device_id(name):
            raise ServiceError(inferred(400), "deviceId is wrong, or not the one in the path")
        known = self._hub.devices.get(name)
        if known is not None and request.headers.get("if-match") is None:
            raise ServiceError(inferred(409), "it is there already")
        if known is not None:
            _check_etag(request, known.etag)
        elif request.headers.get("if-match") is not None:
            raise ServiceError(inferred(412), "it is not there")
        device = known or Device(name)
        _take_authentication(device, document.get("authentication"))
        device.edge = bool((document.get("capabilities") or {}).get("iotEdge", device.edge))
        scopes = document.get("parentScopes")
        if isinstance(scopes, list):
            device.parent = _device_of_scope(scopes[0]) if scopes else None
        device.etag = random_text(16)
        self._hub.add(device)
        self._hub.set_enabled(name, document.get("status", "enabled") == "enabled")
        return JSONResponse(self._shown(device))

    async def _get_device(self, request: Request) -> Response:
        return JSONResponse(self._shown(self._find(request)))

    async def _delete_device(self, request: Request) -> Response:
        device = self._find(request)
        _check_etag(request, device.etag)
        self._hub.remove(device.device_id)
        return Response(status_code=204)

    async def _get_twin(self, request: Request) -> Response:
        return JSONResponse(self._twin(self._find(request)))

    async def _patch_twin(self, request: Request) -> Response:
        device = self._find(request)
        document = await body(request)
        _check_etag(request, _twin_etag(device))
        try:
            self._hub.patch_twin(device.device_id, document)
        except Refusal as refusal:
            raise bad_request(refusal) from None
        return JSONResponse(self._twin(device))

    async def _invoke(self, request: Request) -> Response:
        name = request.path_params["name"]
        document = await body(request)
        method, timeout_s = (
            document.get("methodName"),
            document.get("responseTimeoutInSeconds", 30),
        )
        low, high = _METHOD_TIMEOUT_S
        if not isinstance(method, str) or not method:
            raise ServiceError(inferred(400), "methodName is missing")
        if type(timeout_s) is not int or not low <= timeout_s <= high:
            raise ServiceError(inferred(400), f"responseTimeoutInSeconds is {low} to {high}")
        payload = json.dumps(document.get("payload")).encode()
        status, answer = await self._hub.invoke(name, method, payload, timeout_s)
        try:
            decoded = json.loads(answer) if answer else None
        except ValueError:
            raise ServiceError(inferred(502), "the device's answer is not JSON") from None
        return JSONResponse({"status": status, "payload": decoded})

    async def _send(self, request: Request) -> Response:
        to = request.headers.get("iothub-to", "").removeprefix("/devices/").split("/")[0]
        payload = await request.body()
        begin = "iothub-app-"
        properties = {
            key.removeprefix(begin): value
            for key, value in request.headers.items()
            if key.startswith(begin)
        }
        try:
            message_id = self._hub.send_c2d(to, payload, properties)
        except Refusal as refusal:
            raise bad_request(refusal) from None
        return JSONResponse({"messageId": message_id}, status_code=201)

    def _find(self, request: Request) -> Device:
        try:
            return self._hub.device(request.path_params["name"])
        except Refusal as refusal:
            raise bad_request(refusal) from None

    def _shown(self, device: Device) -> dict[str, Any]:
        authentication: dict[str, Any] = {"type": device.auth}
        if device.auth == SAS:
            keys = [key.reveal().decode() for key in device.keys]
            authentication["symmetricKey"] = {"primaryKey": keys[0], "secondaryKey": keys[-1]}
        elif device.auth == SELF_SIGNED:
            prints = [*device.thumbprints, None, None]
            authentication["x509Thumbprint"] = {
                "primaryThumbprint": prints[0],
                "secondaryThumbprint": prints[1],
            }
        return {
            "deviceId": device.device_id,
            "generationId": device.generation,
            "etag": device.etag,
            "status": "enabled" if device.enabled else "disabled",
            "connectionState": (
                "Connected" if self._hub.online(device.device_id) else "Disconnected"
            ),
            "authentication": authentication,
            "capabilities": {"iotEdge": device.edge},
            "parentScopes": [] if device.parent is None else [_scope_of(device.parent)],
            "lastActivityTime": _utc(device.last_seen),
            "cloudToDeviceMessageCount": len(device.c2d),
        }

    def _twin(self, device: Device) -> dict[str, Any]:
        twin = device.twin
        return {
            "deviceId": device.device_id,
            "etag": _twin_etag(device),
            "version": twin.version,
            "status": "enabled" if device.enabled else "disabled",
            "connectionState": (
                "Connected" if self._hub.online(device.device_id) else "Disconnected"
            ),
            "tags": twin.tags,
            "properties": twin.for_device(),
        }


def _take_authentication(device: Device, given: object) -> None:
    """Raises ServiceError."""
    if given is None:
        return
    if not isinstance(given, dict) or given.get("type", SAS) not in (SAS, SELF_SIGNED, AUTHORITY):
        raise ServiceError(inferred(400), "authentication.type is none that is offered")
    device.auth = given.get("type", SAS)
    if device.auth == SAS:
        keys = given.get("symmetricKey") or {}
        texts = [keys.get(name) for name in ("primaryKey", "secondaryKey")]
        if any(text and not sas.valid_key(text) for text in texts):
            raise ServiceError(inferred(400), "a key is not base64 of 16 to 64 bytes")
        kept = zip(texts, device.keys, strict=True)
        device.keys = tuple(Secret(text) if text else key for text, key in kept)
    elif device.auth == SELF_SIGNED:
        prints = given.get("x509Thumbprint") or {}
        found = [prints.get(name) for name in ("primaryThumbprint", "secondaryThumbprint")]
        device.thumbprints = tuple(str(text) for text in found if text)
        if not device.thumbprints:
            raise ServiceError(inferred(400), "a thumbprint is missing")


def _utc(moment: float | None) -> str:
    """When a device last connected or sent something; the real one writes year 1 for never."""
    if moment is None:
        return "0001-01-01T00:00:00Z"
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _check_etag(request: Request, etag: str) -> None:
    """A hub tells etags without quotes; its clients send them with. Raises ServiceError."""
    wanted = request.headers.get("if-match")
    if wanted is not None and wanted.strip('"') not in ("*", etag):
        raise ServiceError(inferred(412), "the etag is not the current one")


def _twin_etag(device: Device) -> str:
    return str(device.twin.version)


def _scope_of(device_id: str) -> str:
    return f"ms-azure-iot-edge://{device_id}-1"


def _device_of_scope(scope: object) -> str:
    text = str(scope).removeprefix("ms-azure-iot-edge://")
    return text.rpartition("-")[0] or text
