"""What the REST interfaces of Azure's DPS and IoT Hub have in common.

A service connection string, the SAS token that is made with its key, and requests that are
authorised, verified, and patient: a throttled one (429) waits as long as it is told to, a failing
one (5xx, no answer) backs off, and every wait has a bound.

Errors: the caller's mistake or the service's refusal is a ServiceError (a `status`, Azure's own
six-digit `error_code`); what may pass by itself is a ServiceUnavailableError.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from imprint_tools.errors import ServiceError, ServiceUnavailableError
from imprint_tools.secret import Secret

_TOKEN_LIFE_S = 3600
_TOKEN_SPARE_S = 300  # a new one is made so long before the old one ends
_CONNECT_S, _ANSWER_S = 10.0, 30.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.5, 30.0
_RETRY_AFTER_MOST_S = 120.0
PATIENCE_S = 180.0
"""So long one request is tried again, waits included; then it is ServiceUnavailableError."""

_KEY_BYTES = range(1, 129)  # 16 to 64 are what the service makes


@dataclass(frozen=True)
class ServiceConnection:
    """`HostName=...;SharedAccessKeyName=...;SharedAccessKey=...`, parsed."""

    host: str
    policy: str
    key: Secret

    @classmethod
    def parse(cls, text: str) -> ServiceConnection:
        """Exactly these three keys, each once, spelt so. Raises ServiceError, without the text."""
        found: dict[str, str] = {}
        for part in text.strip().split(";"):
            name, equals, value = part.partition("=")  # a key in base64 ends in "=" itself
            if not equals or not value:
                raise _malformed("a part of it is not NAME=VALUE")
            if name not in ("HostName", "SharedAccessKeyName", "SharedAccessKey"):
                raise _malformed("it has a name that does not belong there (case counts)")
            if name in found:
                raise _malformed(f"{name} stands twice")
            found[name] = value
        for name in ("HostName", "SharedAccessKeyName", "SharedAccessKey"):
            if name not in found:
                raise _malformed(f"{name} is missing")
        try:
            key = base64.b64decode(found["SharedAccessKey"], validate=True)
        except ValueError:
            key = b""
        if len(key) not in _KEY_BYTES:
            raise _malformed("SharedAccessKey is not base64")
        host = found["HostName"]
        if not host.replace(".", "").replace("-", "").isalnum() or not host.isascii():
            raise _malformed("HostName is not a host's name")
        return cls(host.lower(), found["SharedAccessKeyName"], Secret(key))

    def token(self, expires: int) -> Secret:
        """The SAS token for the whole host, until `expires` (seconds since 1970)."""
        resource = quote(self.host, safe="")
        digest = hmac.digest(self.key.reveal(), f"{resource}\n{expires}".encode(), hashlib.sha256)
        signature = quote(base64.b64encode(digest), safe="")
        return Secret(
            f"SharedAccessSignature sr={resource}&sig={signature}&se={expires}"
            f"&skn={quote(self.policy, safe='')}"
        )


def _malformed(problem: str) -> ServiceError:
    return ServiceError(
        f"the service connection string cannot be used: {problem}",
        next_step="Copy it again from the service's shared access policies: "
        "HostName=...;SharedAccessKeyName=...;SharedAccessKey=...",
    )


@dataclass(frozen=True)
class Answer:
    """What the service said to a request that succeeded."""

    status: int
    body: Any
    headers: Mapping[str, str]


class AzureRest:
    """Authorised requests to one host. Safe to use from several threads.

    `ca_file` is what the server is verified against, instead of the system's authorities.
    `address` (host, port) is where to connect if that is not what the host's name resolves to;
    the name that is verified stays the host's. `wait` sleeps, and returns something true when it
    is of no use to go on (an Event's `wait` does).
    """

    def __init__(
        self,
        connection: ServiceConnection,
        api_version: str,
        *,
        ca_file: Path | None = None,
        address: tuple[str, int] | None = None,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.time,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.host = connection.host
        self._connection = connection
        self._api_version = api_version
        self._patience_s = patience_s
        self._clock, self._wait = clock, wait
        self._token: tuple[Secret, float] | None = None
        self._lock = threading.Lock()
        where, port = address or (self.host, 443)
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise ServiceError(f"{ca_file} is no CA file: {error.strerror or error}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._client = httpx.Client(
            base_url=f"https://{where}:{port}",
            verify=context,
            timeout=httpx.Timeout(min(_ANSWER_S, patience_s), connect=min(_CONNECT_S, patience_s)),
            headers={"Host": self.host, "Accept": "application/json", "User-Agent": "imprint"},
            trust_env=address is None,
        )

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        etag: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask, and ask again while that may help. `path` is percent-encoded already.

        Raises ServiceError for a refusal, ServiceUnavailableError when patience is at its end.
        """
        deadline = time.monotonic() + self._patience_s
        sent = dict(headers or {}) | ({"If-Match": etag} if etag else {})
        delay_s = _BACKOFF_FIRST_S
        while True:
            try:
                answer = self._client.request(
                    method,
                    path,
                    params={"api-version": self._api_version},
                    json=body,
                    headers={**sent, "Authorization": self._authorization()},
                    extensions={"sni_hostname": self.host},
                )
            except httpx.TransportError as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise ServiceError(
                        f"{self.host} is not verified: {error}",
                        next_step="Give the CA file of a local service; check the clock.",
                    ) from None
                pause_s, why = _jittered(delay_s), f"no answer ({type(error).__name__})"
            else:
                if answer.is_success:
                    return Answer(answer.status_code, _json(answer), answer.headers)
                if answer.status_code != 429 and answer.status_code < 500:
                    raise _refusal(self.host, answer)
                told = _retry_after(answer)
                pause_s = told if told is not None else _jittered(delay_s)
                why = f"status {answer.status_code}"
            if time.monotonic() + pause_s > deadline:
                raise ServiceUnavailableError(f"{self.host}: {why}, for {self._patience_s:.0f} s")
            if self._wait(pause_s):
                raise ServiceUnavailableError(f"{self.host}: {why}, and told to stop")
            delay_s = min(delay_s * 2, _BACKOFF_MOST_S)

    def _authorization(self) -> str:
        """A token that lasts; made anew in time."""
        with self._lock:
            now = self._clock()
            if self._token is None or self._token[1] - _TOKEN_SPARE_S < now:
                expires = int(now) + _TOKEN_LIFE_S
                self._token = self._connection.token(expires), expires
            return self._token[0].reveal().decode()


def segment(name: str) -> str:
    """`name` as one segment of a path."""
    return quote(name, safe="")


def _json(answer: httpx.Response) -> Any:
    if not answer.content:
        return None
    try:
        return answer.json()
    except ValueError:
        raise ServiceError(f"{answer.request.url.host} answered with no JSON") from None


def _refusal(host: str, answer: httpx.Response) -> ServiceError:
    """The service's own words, cut short; it quotes no key."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    found = body if isinstance(body, dict) else {}
    code = found.get("errorCode", answer.headers.get("x-ms-error-code", 0))
    words = str(found.get("message", found.get("Message", answer.reason_phrase)))[:300]
    error = ServiceError(f"{host}: {answer.status_code} {words}".strip())
    error.status = answer.status_code
    error.error_code = int(code) if str(code).isdecimal() else 0
    if answer.status_code == 401:
        error.next_step = "Check the policy's key and this computer's clock."
    return error


def _retry_after(answer: httpx.Response) -> float | None:
    """What the answer says, in seconds; None where it does not, or says nonsense."""
    try:
        told = float(answer.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(told, _RETRY_AFTER_MOST_S) if told >= 0 else None


def _jittered(delay_s: float) -> float:
    return delay_s * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
