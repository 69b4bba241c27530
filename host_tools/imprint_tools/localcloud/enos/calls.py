"""What EnOS's REST API is made of: calls, actions, and what a failure is answered with. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Failure:
    """`status` of HTTP; `apim`: the header apim_status, which a client of the vendor's reads."""

    code: int
    text: str
    status: int = 200
    apim: int | None = None


FAILURES: Mapping[str, Failure] = {
    "device-unknown": Failure(11404, "device not found"),
    "device-exists": Failure(11702, "deviceKey exists"),
    "state-conflict": Failure(11721, "device is in that state already"),
    "not-a-gateway": Failure(11738, "not a gateway"),
    "too-many-subdevices": Failure(11739, "too many sub-devices"),
    "too-many-devices": Failure(11739, "too many devices"),
    "certificate-of-another": Failure(11833, "certificate is bound to another device"),
    "no-public-key": Failure(11858, "service account has no public key"),
    "argument-invalid": Failure(99400, "invalid argument"),
    "internal": Failure(99500, "internal error"),
    # Of the older signing scheme, and so inferred for this one.
    "signature-wrong": Failure(497, "signature check failed", 401),
    "timestamp-outside": Failure(497, "timestamp check failed", 401),
    "application-unregistered": Failure(498, "organisation has not registered the application"),
    "no-right": Failure(498, "application has no right to this API"),
    # apim_status as another client of the vendor's reads it; the codes are the token service's.
    "token-expired": Failure(1203, "token has expired", 401, 4011),
    "token-unknown": Failure(1203, "token is not known", 401, 4012),
    "token-missing": Failure(1202, "apim headers are missing", 401, 4012),
    # Not documented.
    "product-unknown": Failure(99400, "product not found"),
    "product-of-another": Failure(99400, "product is not one of the organisation"),
    "organisation-unknown": Failure(99400, "organisation not found"),
    "gateway-as-subdevice": Failure(99400, "a gateway cannot be a sub-device"),
    "other-gateway": Failure(99400, "device is in the topology of another gateway"),
    "not-a-subdevice": Failure(99400, "device is not in that topology"),
    "path-unknown": Failure(404, "no such API", 404),
    "method-wrong": Failure(405, "method not allowed", 405),
}
"""By reason. HTTP status, and everything below a comment, is inferred."""


@dataclass(frozen=True)
class Call:
    """One that has been admitted: of which organisation, and with what."""

    organisation: str
    version: str
    query: Mapping[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """The reply's data, and what stands beside it."""

    data: Any = None
    beside: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Action:
    """What is done, by which methods, with which right of the application."""

    run: Callable[[Call], Result]
    right: str
    methods: Sequence[str] = ("POST",)


Actions = Mapping[tuple[str, str], Action]
"""By resource and action."""
