"""The service side of Azure's Device Provisioning Service: individual enrolments.

REST of api-version 2021-10-01. A PUT without an etag overwrites what is stored, so an enrolment is
created through `create`, which the service refuses for an id that it has, and changed only with
its etag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imprint_tools.control.azure_rest import AzureRest, segment
from imprint_tools.errors import ServiceError

API_VERSION = "2021-10-01"
BULK_MAX = 10
"""Enrolments in one bulk request."""


@dataclass(frozen=True)
class BulkError:
    """Why one enrolment of a bulk request was not taken."""

    registration_id: str
    error_code: int
    message: str

    @property
    def exists(self) -> bool:
        """Whether there is an enrolment of that id already (a code of the 409 family)."""
        return self.error_code // 1000 == 409


def x509_enrolment(
    registration_id: str, certificate_pem: str, *, enabled: bool, **more: Any
) -> dict[str, Any]:
    """The body of an individual enrolment by a leaf certificate; `more` are fields as REST has
    them (initialTwin, iotHubHostName, allocationPolicy, iotHubs, reprovisionPolicy ...)."""
    return {
        "registrationId": registration_id,
        "deviceId": registration_id,
        "attestation": {
            "type": "x509",
            "x509": {"clientCertificates": {"primary": {"certificate": certificate_pem}}},
        },
        # Always spelt out: left out it would mean enabled.
        "provisioningStatus": "enabled" if enabled else "disabled",
        **more,
    }


def thumbprint_of(enrolment: Mapping[str, Any]) -> str:
    """SHA-256 of an enrolment's primary certificate, upper-case hex; empty if it is not told."""
    x509 = enrolment.get("attestation", {}).get("x509") or {}
    primary = (x509.get("clientCertificates") or {}).get("primary") or {}
    return str((primary.get("info") or {}).get("sha256Thumbprint", "")).upper()


class DpsClient:
    """Enrolments and registration records, through one AzureRest made for API_VERSION."""

    def __init__(self, rest: AzureRest) -> None:
        self._rest = rest

    def close(self) -> None:
        """Drop the connections."""
        self._rest.close()

    def get(self, registration_id: str) -> dict[str, Any] | None:
        """The enrolment, `etag` included; None if there is none."""
        return self._get(f"/enrollments/{segment(registration_id)}")

    def put(self, enrolment: Mapping[str, Any], etag: str) -> dict[str, Any]:
        """Replace the enrolment that has this etag; returns what is stored. 412: it changed."""
        path = f"/enrollments/{segment(enrolment['registrationId'])}"
        return _object(self._rest.request("PUT", path, dict(enrolment), etag=etag).body)

    def create(self, enrolments: Sequence[Mapping[str, Any]]) -> list[BulkError]:
        """Create up to BULK_MAX enrolments; those that could not be, and why."""
        body = {"mode": "create", "enrollments": [dict(one) for one in enrolments]}
        answer = _object(self._rest.request("POST", "/enrollments", body).body)
        errors = answer.get("errors") or []
        if not answer.get("isSuccessful") and not errors:
            raise ServiceError("the bulk request was refused, and no reason was given")
        return [
            BulkError(
                str(error.get("registrationId", "")),
                int(error.get("errorCode", 0)),
                str(error.get("errorStatus", ""))[:300],
            )
            for error in errors
        ]

    def delete(self, registration_id: str, etag: str | None = None) -> None:
        """Delete the enrolment; one that is not there is as good as deleted."""
        self._delete(f"/enrollments/{segment(registration_id)}", etag)

    def query(self, text: str = "SELECT * FROM enrollments") -> Iterable[dict[str, Any]]:
        """All that a query finds, page by page."""
        continuation = ""
        while True:
            headers = {"x-ms-max-item-count": "100"}
            if continuation:
                headers["x-ms-continuation"] = continuation
            answer = self._rest.request(
                "POST", "/enrollments/query", {"query": text}, headers=headers
            )
            yield from answer.body
            continuation = answer.headers.get("x-ms-continuation", "")
            if not continuation:
                return

    def registration(self, registration_id: str) -> dict[str, Any] | None:
        """The registration record: status, assignedHub, deviceId ...; None before the first."""
        return self._get(f"/registrations/{segment(registration_id)}")

    def delete_registration(self, registration_id: str) -> None:
        """Forget the registration record."""
        self._delete(f"/registrations/{segment(registration_id)}", None)

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            return _object(self._rest.request("GET", path).body)
        except ServiceError as error:
            if error.status == 404:
                return None
            raise

    def _delete(self, path: str, etag: str | None) -> None:
        try:
            self._rest.request("DELETE", path, etag=etag)
        except ServiceError as error:
            if error.status != 404:
                raise


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ServiceError("DPS answered with something other than a JSON object")
    return body
