"""How Azure's services say no: a status, a six-digit code that begins with it, a sentence."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

CERTIFICATE_OR_SAS_WRONG = 401002
NOT_ENROLLED = 404201
ALLOCATION_FAILED = 400207
NO_HUB = 400208
HUB_UNAUTHORISED = 400209
DEVICE_NOT_FOUND = 404001
DEVICE_OFFLINE = 404103
GATEWAY_TIMEOUT = 504101


class ServiceError(Exception):
    """A request is refused. Where the vendor's code is not known, it is `status * 1000 + 1`."""

    def __init__(
        self, code: int, message: str, *, retry_after_s: int | None = None, **info: Any
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.info = info

    @property
    def status(self) -> int:
        return self.code // 1000

    def body(self) -> dict[str, Any]:
        document = {
            "errorCode": self.code,
            "trackingId": str(uuid.uuid4()),
            "message": self.message,
            "timestampUtc": utc_text(),
        }
        return document | ({"info": self.info} if self.info else {})


def inferred(status: int) -> int:
    """A code for a status whose codes are not known."""
    return status * 1000 + 1


def utc_text() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
