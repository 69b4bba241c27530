"""The provisioning service's control plane: enrolments and registrations (2021-10-01)."""

from __future__ import annotations

import re
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from imprint_tools.localcloud.azure import enrolment as enrolments
from imprint_tools.localcloud.azure.dps import Dps
from imprint_tools.localcloud.azure.enrolment import SYMMETRIC, Enrolment, bad
from imprint_tools.localcloud.azure.error import NOT_ENROLLED, ServiceError, inferred
from imprint_tools.localcloud.azure.faults import AzureFaults
from imprint_tools.localcloud.azure.rest import Guard, Throttle, body, check_etag, page

POLICY = "provisioningserviceowner"

_BULK_MAX = 10
_BULK_MODES = ("create", "update", "updateIfMatchETag", "delete")
_QUERY = re.compile(
    r"\s*SELECT\s+\*\s+FROM\s+(enrollments|enrollmentGroups)"
    r"(?:\s+WHERE\s+(\w+)\s*=\s*'([^']*)')?\s*",
    re.IGNORECASE,
)


class DpsRest:
    """Runs in the cloud's loop."""

    def __init__(self, dps: Dps, faults: AzureFaults) -> None:
        self._dps = dps
        self._data = dps.data
        self._config = dps.config
        self._faults = faults

    def application(self) -> Starlette:
        host = self._config.dps_host
        guard = Guard(
            host,
            POLICY,
            self._data.policy_key(host),
            self._dps.log,
            throttle=Throttle(self._config.operations_per_min, 60.0),
            retry_after_s=self._config.throttle_retry_after_s,
            troubles=self._faults.service,
        )
        return guard.application([
            *self._collection("/enrollments", group=False),
            *self._collection("/enrollmentGroups", group=True),
            ("GET", "/registrations/{name}", self._get_registration),
            ("DELETE", "/registrations/{name}", self._delete_registration),
            ("POST", "/registrations/{name}/query", self._query_registrations),
        ])  # fmt: skip

    def _collection(self, path: str, *, group: bool) -> list[tuple[str, str, Any]]:
        door = _Collection(self._dps, group)
        return [
            ("POST", path, door.bulk),
            ("POST", f"{path}/", door.bulk),  # as the vendor's SDK for Node.js spells it
            ("POST", f"{path}/query", door.query),
            ("POST", path + "/{name}/attestationmechanism", door.attestation),
            ("PUT", path + "/{name}", door.put),
            ("GET", path + "/{name}", door.get),
            ("DELETE", path + "/{name}", door.delete),
        ]

    async def _get_registration(self, request: Request) -> Response:
        name = request.path_params["name"]
        entry = self._data.registrations.get(name.casefold())
        if entry is None:
            raise _unknown(name)
        return JSONResponse(entry.shown())

    async def _delete_registration(self, request: Request) -> Response:
        name = request.path_params["name"]
        entry = self._data.registrations.get(name.casefold())
        if entry is None:
            raise _unknown(name)
        check_etag(request, entry.etag)
        del self._data.registrations[name.casefold()]
        self._data.changed()
        return Response(status_code=204)

    async def _query_registrations(self, request: Request) -> Response:
        group = request.path_params["name"]
        found = [
            entry.shown()
            for entry in self._data.registrations.values()
            if (entry.group or "").casefold() == group.casefold()
        ]
        return page(request, found, "deviceRegistration")


class _Collection:
    """Individual enrolments, or groups."""

    def __init__(self, dps: Dps, group: bool) -> None:
        self._dps = dps
        self._config = dps.config
        self._group = group
        self._known = dps.data.groups if group else dps.data.enrolments

    async def put(self, request: Request) -> Response:
        name = request.path_params["name"]
        document = await body(request)
        known = self._known.get(name.casefold())
        if known is not None:
            check_etag(request, known.etag)
            if request.headers.get("if-match") is None and not self._config.put_overwrites:
                raise ServiceError(inferred(409), "it is there already")
        elif request.headers.get("if-match") is not None:
            raise ServiceError(inferred(412), "it is not there")
        return JSONResponse(self._shown(self._store(document, name, known)))

    async def get(self, request: Request) -> Response:
        return JSONResponse(self._shown(self._find(request)))

    async def delete(self, request: Request) -> Response:
        enrolment = self._find(request)
        check_etag(request, enrolment.etag)
        self._remove(enrolment)
        return Response(status_code=204)

    async def attestation(self, request: Request) -> Response:
        """The one place where keys are told."""
        enrolment = self._find(request)
        if enrolment.kind != SYMMETRIC:
            shown = enrolment.shown(with_certificate=self._config.get_returns_certificate)
            return JSONResponse(shown["attestation"])
        primary, secondary = (key.reveal().decode() for key in enrolment.keys)
        keys = {"primaryKey": primary, "secondaryKey": secondary}
        return JSONResponse({"type": SYMMETRIC, SYMMETRIC: keys})

    async def query(self, request: Request) -> Response:
        """`SELECT * FROM enrollments`, with one equality at most: what the real one takes beyond
        that is not documented."""
        document = await body(request)
        match = _QUERY.fullmatch(str(document.get("query", "")))
        wanted = "enrollmentgroups" if self._group else "enrollments"
        if match is None or match[1].casefold() != wanted:
            raise bad("the query is not understood")
        found = [self._shown(enrolment) for enrolment in self._known.values()]
        if match[2] is not None:
            found = [entry for entry in found if entry.get(match[2]) == match[3]]
        return page(request, found, "enrollmentGroup" if self._group else "enrollment")

    async def bulk(self, request: Request) -> Response:
        document = await body(request)
        mode, entries = document.get("mode"), document.get("enrollments")
        if self._group or mode not in _BULK_MODES or not isinstance(entries, list):
            raise bad("a bulk operation has a mode and enrollments")
        if not 1 <= len(entries) <= _BULK_MAX or not all(isinstance(e, dict) for e in entries):
            raise bad(f"a bulk operation has 1 to {_BULK_MAX} enrolments")
        errors = []
        for entry in entries:
            name = str(entry.get("registrationId", ""))
            try:
                self._do(mode, name, entry)
            except ServiceError as error:
                errors.append(
                    {
                        "registrationId": name,
                        "errorCode": error.code,
                        "errorStatus": error.message,
                    }
                )
        return JSONResponse({"isSuccessful": not errors, "errors": errors})

    def _do(self, mode: str, name: str, entry: dict[str, Any]) -> None:
        """One of a bulk. Raises ServiceError."""
        known = self._known.get(name.casefold())
        if mode == "create":
            if known is not None:
                raise ServiceError(inferred(409), "it is there already")
            self._store(entry, name, None)
            return
        if known is None:
            raise _unknown(name)
        if mode == "updateIfMatchETag" and entry.get("etag") != known.etag:
            raise ServiceError(inferred(412), "the etag is not the current one")
        if mode == "delete":
            self._remove(known)
        else:
            self._store(entry, name, known)

    def _store(self, document: dict[str, Any], name: str, known: Enrolment | None) -> Enrolment:
        enrolment = enrolments.read(
            document,
            known.name if known is not None else name,
            known,
            group=self._group,
            info_suffices=self._config.info_keeps_certificate,
        )
        self._known[name.casefold()] = enrolment
        self._dps.data.changed()
        self._dps.log.add(
            "enrolment",
            name=enrolment.name,
            group=self._group,
            enabled=enrolment.enabled,
            attestation=enrolment.kind,
            new=known is None,
        )
        return enrolment

    def _remove(self, enrolment: Enrolment) -> None:
        del self._known[enrolment.name.casefold()]
        if not self._group:
            self._dps.data.registrations.pop(enrolment.name.casefold(), None)
        self._dps.data.changed()
        self._dps.log.add("enrolment-deleted", name=enrolment.name, group=self._group)

    def _find(self, request: Request) -> Enrolment:
        name = request.path_params["name"]
        enrolment = self._known.get(name.casefold())
        if enrolment is None:
            raise _unknown(name)
        return enrolment

    def _shown(self, enrolment: Enrolment) -> dict[str, Any]:
        document = enrolment.shown(with_certificate=self._config.get_returns_certificate)
        registration = self._dps.data.registrations.get(enrolment.name.casefold())
        if registration is not None and not self._group:
            document["registrationState"] = registration.shown()
        return document


def _unknown(name: str) -> ServiceError:
    return ServiceError(NOT_ENROLLED, f"{name} is not known")
