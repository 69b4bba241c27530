"""EnOS's REST API: who may call what, and how it is answered. No I/O.

    POST /apim-token-service/v2.0/token/get | refresh       {status, msg, business, data}
    ...  /connect-service/{version}/{resource}?action=...   {code, msg, requestId, data}
    GET  /enos/CA/cacert                                    what the servers are verified with

Every call to connect-service is signed (`tokens`), names an organisation (orgId) that has
registered the application, and needs a right there.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imprint_tools.localcloud import jsonobject
from imprint_tools.localcloud.enos import api_devices as enos_api_devices
from imprint_tools.localcloud.enos.calls import FAILURES, Action, Actions, Call, Result
from imprint_tools.localcloud.enos.certificates import CertificateService
from imprint_tools.localcloud.enos.config import EnosConfig
from imprint_tools.localcloud.enos.faults import EnosFaults
from imprint_tools.localcloud.enos.hub import Hub
from imprint_tools.localcloud.enos.messages import FormatError
from imprint_tools.localcloud.enos.records import CERTIFICATES_RIGHT
from imprint_tools.localcloud.enos.registry import EnosRegistry
from imprint_tools.localcloud.enos.tokens import STATUSES, Tokens
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.localcloud.rest import HttpReply, HttpRequest

_TOKEN_PATH = "/apim-token-service/v2.0/token/"  # noqa: S105 - a path
_SERVICE_PATH = "/connect-service/"
_ROOT_PATH = "/enos/CA/cacert"
_VERSIONS = ("v2.0", "v2.1", "v2.4")
_JSON = {"content-type": "application/json;charset=UTF-8"}
_GARBAGE = b"<html><body>502 Bad Gateway</body></html>"
_LOGGED_MAX = 200


class EnosApi:
    """The API. `root`: the PEM file that the servers are verified with. `clock`: seconds, for the
    life of tokens."""

    def __init__(
        self,
        registry: EnosRegistry,
        hub: Hub,
        config: EnosConfig,
        log: EventLog,
        faults: EnosFaults,
        clock: Callable[[], float],
        root: Path,
    ) -> None:
        self._registry = registry
        self._config = config
        self._log = log
        self._faults = faults
        self._clock = clock
        self._root = root
        self._tokens = Tokens(registry, config)
        self._actions: Actions = {
            **enos_api_devices.DeviceActions(registry, hub, config, faults).actions(),
            **_certificate_actions(registry, hub.certificates),
        }

    def handle(self, request: HttpRequest) -> HttpReply | None:
        """Answer a request; None: it is never answered."""
        details: dict[str, Any] = {"method": request.method, "path": request.path[:_LOGGED_MAX]}
        if self._faults.take("api_silent"):
            self._log.add("fault", fault="api_silent", **details)
            return None
        if self._faults.take("api_error"):
            self._log.add("fault", fault="api_error", **details)
            return HttpReply(503)
        if request.path.startswith(_TOKEN_PATH):
            reply = self._token(request, details)
        elif request.path == _ROOT_PATH:
            reply = HttpReply(200, self._root.read_bytes(), {"content-type": "text/plain"})
        else:
            reply = self._service(request, details)
        self._log.add("api", **details, status=reply.status)
        if self._faults.take("api_garbage"):
            return HttpReply(200, _GARBAGE, {"content-type": "text/html"})
        return reply

    # -- tokens --------------------------------------------------------------------------------

    def _token(self, request: HttpRequest, details: dict[str, Any]) -> HttpReply:
        run = {"get": self._tokens.get, "refresh": self._tokens.refresh}.get(
            request.path.removeprefix(_TOKEN_PATH)
        )
        if run is None:
            return self._failed("path-unknown", details)
        if request.method != "POST":
            return self._failed("method-wrong", details)
        status, message, data = 0, "success", None
        try:
            document = jsonobject.load(request.body)
            data = run(document, self._clock(), time.time())
        except ValueError:
            status, message = STATUSES["parameter-invalid"]
        except Refusal as refusal:
            status, message = STATUSES[refusal.reason]
            details["reason"] = refusal.reason
        details["code"] = status
        answer = {"status": status, "msg": message, "business": "apim-token-service", "data": data}
        return HttpReply(200, jsonobject.dump(answer), _JSON)

    # -- connect-service -----------------------------------------------------------------------

    def _service(self, request: HttpRequest, details: dict[str, Any]) -> HttpReply:
        try:
            result = self._run(request, details)
        except Refusal as refusal:
            return self._failed(refusal.reason, details)
        except FormatError:
            return self._failed("argument-invalid", details)
        details["code"] = 0
        answer = {"code": 0, "msg": "OK", "requestId": _request_id(), "data": result.data}
        return HttpReply(200, jsonobject.dump({**answer, **result.beside}), _JSON)

    def _run(self, request: HttpRequest, details: dict[str, Any]) -> Result:
        if not request.path.startswith(_SERVICE_PATH):
            raise Refusal("path-unknown")
        if self._faults.take("token_expires"):
            self._tokens.expire(request.headers.get("apim-accesstoken", ""))
        application = self._tokens.check(
            request.headers, request.query, request.body, self._clock(), time.time()
        )
        details["access_key"] = application.key
        query = dict(request.query)
        version, _, resource = request.path.removeprefix(_SERVICE_PATH).partition("/")
        action = self._actions.get((resource, query.get("action", "")))
        if version not in _VERSIONS or action is None:
            raise Refusal("path-unknown")
        details["action"] = query["action"]
        if request.method not in action.methods:
            raise Refusal("method-wrong")
        if not query.get("orgId"):
            raise Refusal("argument-invalid")
        organisation = self._registry.organisation(query["orgId"])
        if organisation not in application.grants:
            raise Refusal("application-unregistered")
        if action.right not in application.grants[organisation]:
            raise Refusal("no-right")
        return action.run(Call(organisation, version, query, _object(request.body)))

    def _failed(self, reason: str, details: dict[str, Any]) -> HttpReply:
        failure = FAILURES[reason]
        code = self._config.inferred.rest_codes.get(reason, failure.code)
        details.update(reason=reason, code=code)
        answer = {"code": code, "msg": failure.text, "requestId": _request_id(), "data": None}
        headers = dict(_JSON)
        if failure.apim is not None:
            headers["apim_status"] = str(failure.apim)
        return HttpReply(failure.status, jsonobject.dump(answer), headers)


def _certificate_actions(registry: EnosRegistry, service: CertificateService) -> Actions:
    def apply(call: Call) -> Result:
        return Result(service.apply(enos_api_devices.find(registry, call)[0], call.body))

    def renew(call: Call) -> Result:
        return Result(service.renew(enos_api_devices.find(registry, call)[0], call.body))

    def revoke(call: Call) -> Result:
        service.revoke(enos_api_devices.find(registry, call)[0], call.body)
        return Result()

    def listed(call: Call) -> Result:
        return Result(service.listed(enos_api_devices.find(registry, call)[0]))

    return {
        ("certificates", "apply"): Action(apply, CERTIFICATES_RIGHT),
        ("certificates", "renew"): Action(renew, CERTIFICATES_RIGHT),
        ("certificates", "revoke"): Action(revoke, CERTIFICATES_RIGHT),
        ("certificates", "list"): Action(listed, CERTIFICATES_RIGHT, ("GET", "POST")),
    }


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body, an empty one for none. Refuses "argument-invalid"."""
    if not body:
        return {}
    try:
        return jsonobject.load(body)
    except ValueError:
        raise Refusal("argument-invalid") from None


def _request_id() -> str:
    return str(uuid.uuid4())
