"""The REST API of Envision EnOS for an application: devices, topology, certificates.

A service account (access key and secret) gets a token and signs every call with both; the
organisation in which that counts has registered the application. Signatures are plain SHA-256:

    token     SHA-256(accessKey + timestamp + accessSecret)
    call      SHA-256(token + query in the order of names + body + timestamp + accessSecret)

A call that may have been lost is made again, for every one of them can be: a device is created
with a key of the caller's choice, and found again by it.

Errors: a refusal is a ServiceError with EnOS's `error_code`; one that comes from a clock that is
wrong is a ClockSkewError; what may pass by itself is a ServiceUnavailableError.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from imprint_tools.errors import ClockSkewError, ServiceError, ServiceUnavailableError
from imprint_tools.secret import Secret

BATCH_MAX = 1000
"""Devices in one batch; inferred from what a gateway may register at once."""

SKEW_S = 60.0
"""So far may our clock be from the server's (its Date header) before it is blamed for a refusal.
How far EnOS itself lets it be is not documented."""

DEVICE_NOT_FOUND, DEVICE_EXISTS = 11404, 11702

_PATIENCE_S = 120.0
_CONNECT_S, _ANSWER_S = 10.0, 30.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.5, 30.0
_TOKEN_SPARE_S = 60.0  # a new one is asked for so long before the old one ends
_SERVICE, _CERTIFICATES = "v2.1", "v2.0"
_TOKEN_PATH = "/apim-token-service/v2.0/token/get"  # noqa: S105 - a path
_REPEATED, _EXPIRED = 1001, 1203
_BY_CLOCK = (1003, 1004, 497)
"""Codes that a wrong clock may have: of encryption, parameter, and signature or timestamp."""

_NEXT_STEPS = {
    1002: "Check the access key: EnOS does not know it.",
    1003: "Check the access secret: it is not the one of this access key.",
    497: "Check the access secret: the signature made with it is wrong.",
    498: "Have the organisation register the application and grant it device management.",
    11404: "Check productKey and deviceKey, and that the product is one of this organisation.",
    11739: "Delete devices that are not used, or have the limit raised.",
    99400: "Check the fields, and that the product is one of this organisation.",
}

Name = tuple[str, str]
"""(productKey, deviceKey)."""


@dataclass(frozen=True)
class NewDevice:
    """A device to be created. `timezone` as `+08:00`."""

    product_key: str
    device_key: str
    name: str
    timezone: str = "+00:00"
    attributes: Mapping[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "productKey": self.product_key,
            "deviceKey": self.device_key,
            "timezone": self.timezone,
            "deviceName": {"defaultValue": self.name},
        }
        return found | ({"deviceAttributes": dict(self.attributes)} if self.attributes else {})


@dataclass(frozen=True)
class Created:
    """What EnOS keeps of a device."""

    product_key: str
    device_key: str
    device_secret: Secret
    asset_id: str


@dataclass(frozen=True)
class Failed:
    """Why one device of a batch was not created."""

    device_key: str
    code: int
    message: str


@dataclass(frozen=True)
class Certificate:
    """What the certificate service issued, in PEM. `serial` is its name from then on."""

    serial: str
    pem: str
    ca_pem: str
    authority: str


class EnosClient:
    """The API for one application in one organisation. Safe to use from several threads.

    `ca_file` is what the server is verified against, instead of the system's authorities.
    `address` (host, port) is where to connect if that is not what the host's name resolves to;
    the name that is verified stays the host's.
    """

    def __init__(
        self,
        host: str,
        access_key: str,
        access_secret: Secret,
        organisation: str,
        *,
        port: int = 443,
        ca_file: Path | None = None,
        address: tuple[str, int] | None = None,
        patience_s: float = _PATIENCE_S,
        clock: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = host
        self.organisation = organisation
        self._key, self._secret = access_key, access_secret
        self._patience_s = patience_s
        self._clock, self._wait = clock, wait
        self._token: tuple[Secret, float] | None = None
        self._lock = threading.Lock()
        where, at = address or (host, port)
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise ServiceError(f"{ca_file} is no CA file: {error.strerror or error}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._http = httpx.Client(
            base_url=f"https://{where}:{at}",
            verify=context,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            headers={"Host": host, "Accept": "application/json", "User-Agent": "imprint"},
            trust_env=address is None,
        )

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    # -- devices -------------------------------------------------------------------------------

    def create(self, device: NewDevice) -> Created:
        """Create a device. ServiceError 11702: there is one of that key, made by somebody else."""
        calls = _Calls()
        try:
            return _created(self._call("devices", "create", device.body(), calls=calls))
        except ServiceError as error:
            if error.error_code != DEVICE_EXISTS or calls.unanswered == 0:
                raise
        # An answer was lost; what is there is what was made then.
        return _created(self._get((device.product_key, device.device_key)))

    def create_batch(self, devices: Sequence[NewDevice]) -> list[Created | Failed]:
        """Create up to BATCH_MAX devices; of each what became of it, in their order."""
        calls = _Calls()
        body = {"deviceList": [device.body() for device in devices]}
        answers = self._call("devices", "batchCreate", body, calls=calls)
        if not isinstance(answers, list) or len(answers) != len(devices):
            raise ServiceError(f"{self.host}: the batch's answer is not about this batch")
        found: list[Created | Failed] = []
        for device, answer in zip(devices, answers, strict=True):
            code = answer.get("code") if isinstance(answer, dict) else None
            if code == 0:
                found.append(_created(answer.get("data")))
            elif code == DEVICE_EXISTS and calls.unanswered:
                found.append(_created(self._get((device.product_key, device.device_key))))
            else:
                message = str(answer.get("msg"))[:300] if isinstance(answer, dict) else ""
                number = code if isinstance(code, int) else 0
                found.append(Failed(device.device_key, number, message))
        return found

    def get(self, name: Name) -> dict[str, Any] | None:
        """A device's record, its deviceSecret as a Secret; None if there is none."""
        try:
            record = self._get(name)
        except ServiceError as error:
            if error.error_code == DEVICE_NOT_FOUND:
                return None
            raise
        secret = record.get("deviceSecret")
        return record | ({"deviceSecret": Secret(secret)} if isinstance(secret, str) else {})

    def set_enabled(self, name: Name, on: bool) -> None:
        """Enable or disable a device. ServiceError 11721: it is in that state."""
        self._call("devices", "enable" if on else "disable", query=_query(name))

    def delete(self, name: Name) -> None:
        """Delete a device; one that is not there is as good as deleted."""
        try:
            self._call("devices", "delete", query=_query(name))
        except ServiceError as error:
            if error.error_code != DEVICE_NOT_FOUND:
                raise

    def add_subdevices(self, gateway: Name, names: Sequence[Name]) -> None:
        """Put devices into a gateway's topology."""
        body = {"gateway": _query(gateway), "subDevices": [_query(name) for name in names]}
        self._call("device-topos", "addSubDevice", body)

    def log(self, name: Name) -> list[dict[str, Any]]:
        """What went wrong with a device, with EnOS's codes."""
        found = self._call("device-logs", "search", query=_query(name))
        return found if isinstance(found, list) else []

    def _get(self, name: Name) -> dict[str, Any]:
        record = self._call("devices", "get", query=_query(name))
        if not isinstance(record, dict):
            raise ServiceError(f"{self.host}: a device's record is no object")
        return record

    # -- certificates --------------------------------------------------------------------------

    def apply_certificate(
        self, name: Name, csr_pem: str, *, days: int | None = None, authority: str = "RSA"
    ) -> Certificate:
        """Have a certificate issued for the key of a request; `authority` is RSA or ECC."""
        body = {"csr": csr_pem, "issueAuthority": authority} | _days(days)
        return _certificate(self._call("certificates", "apply", body, query=_query(name)))

    def renew_certificate(
        self, name: Name, serial: str, *, csr_pem: str | None = None, days: int | None = None
    ) -> Certificate:
        """Have its successor issued, for the same key where there is no new request."""
        body = {"certSn": serial} | _days(days) | ({} if csr_pem is None else {"csr": csr_pem})
        return _certificate(self._call("certificates", "renew", body, query=_query(name)))

    def revoke_certificate(self, name: Name, serial: str, *, reason: int = 0) -> None:
        """End a certificate; `reason` as RFC 5280 5.3.1 numbers it."""
        body = {"certSn": serial, "reason": reason}
        self._call("certificates", "revoke", body, query=_query(name))

    # -- calls ---------------------------------------------------------------------------------

    def _call(
        self,
        resource: str,
        action: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        calls: _Calls | None = None,
    ) -> Any:
        """A signed call, again while that may help; the reply's data."""
        version = _CERTIFICATES if resource == "certificates" else _SERVICE
        parameters = {"action": action, "orgId": self.organisation, **(query or {})}
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        path = f"/connect-service/{version}/{resource}"
        renewed = False

        def sign() -> dict[str, str]:
            token, timestamp = self._current_token(), _timestamp(self._clock())
            signed = _digest(token, _run_together(parameters), content, timestamp, self._secret)
            return {
                "apim-accesstoken": token.reveal().decode(),
                "apim-timestamp": timestamp,
                "apim-signature": signed,
                "Content-Type": "application/json",
            }

        while True:
            answer = self._ask(path, content, sign, parameters, calls)
            code, message = answer.number("code"), answer.text("msg")
            if answer.status == 200 and code == 0:
                return answer.document.get("data")
            if _token_is_over(answer, code) and not renewed:
                renewed = True
                with self._lock:
                    self._token = None
                continue
            raise self._refusal(answer, code, message)

    def _current_token(self) -> Secret:
        """A token that lasts; asked for anew in time."""
        with self._lock:
            if self._token is None or self._token[1] <= self._clock():
                self._token = self._new_token()
            return self._token[0]

    def _new_token(self) -> tuple[Secret, float]:
        """(token, when to ask for another one). The same encryption is not taken twice."""
        for again in (False, True):
            timestamp = _timestamp(self._clock() + again * random.uniform(0.001, 1.0))  # noqa: S311
            document = {
                "appKey": self._key,
                "timestamp": int(timestamp),
                "encryption": _digest(self._key, timestamp, self._secret),
            }
            content = json.dumps(document).encode()
            answer = self._ask(_TOKEN_PATH, content, lambda: {"Content-Type": "application/json"})
            status = answer.number("status")
            data = answer.document.get("data")
            if answer.status == 200 and status == 0 and isinstance(data, dict):
                token, expire = data.get("accessToken"), data.get("expire")
                if isinstance(token, str) and token and isinstance(expire, int | float):
                    return Secret(token), self._clock() + max(expire - _TOKEN_SPARE_S, 0.0)
                raise ServiceError(f"{self.host}: a token without a life")
            if status != _REPEATED:
                break
        raise self._refusal(answer, status, answer.text("msg"))

    def _ask(
        self,
        path: str,
        content: bytes,
        headers: Callable[[], Mapping[str, str]],
        parameters: Mapping[str, str] | None = None,
        calls: _Calls | None = None,
    ) -> _Answer:
        """POST, and again while the service fails: what it answers that is JSON.

        Raises ServiceUnavailableError when patience is at its end.
        """
        deadline = time.monotonic() + self._patience_s
        delay_s = _BACKOFF_FIRST_S
        while True:
            try:
                reply = self._http.post(
                    path,
                    params=parameters,
                    content=content,
                    headers=headers(),
                    extensions={"sni_hostname": self.host},
                )
            except httpx.TransportError as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise ServiceError(
                        f"{self.host} is not verified: {error}",
                        next_step="Give the CA file of a local service; check the clock.",
                    ) from None
                why = f"no answer ({type(error).__name__})"
            else:
                document = _object(reply)
                if document is not None and reply.status_code != 429 and reply.status_code < 500:
                    return _Answer(reply.status_code, document, reply.headers)
                why = f"status {reply.status_code}"
            if calls is not None:
                calls.unanswered += 1
            pause_s = delay_s * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
            if time.monotonic() + pause_s > deadline:
                raise ServiceUnavailableError(f"{self.host}: {why}, for {self._patience_s:.0f} s")
            self._wait(pause_s)
            delay_s = min(delay_s * 2, _BACKOFF_MOST_S)

    def _refusal(self, answer: _Answer, code: int, message: str) -> ServiceError:
        """The service's own words, cut short; or, where that is why, that the clock is wrong."""
        skew_s = answer.skew_s(self._clock())
        error = ServiceError(
            f"{self.host}: code {code} {message}".strip(), next_step=_NEXT_STEPS.get(code, "")
        )
        if code in _BY_CLOCK and skew_s is not None and abs(skew_s) > SKEW_S:
            which = "behind" if skew_s < 0 else "ahead of"
            error = ClockSkewError(
                f"{self.host}: code {code}; this computer's clock is {abs(skew_s):.0f} s "
                f"{which} the server's"
            )
        error.status, error.error_code = answer.status, code
        return error


@dataclass
class _Calls:
    """How often a call was made that nobody answered, so that it may have been done."""

    unanswered: int = 0


@dataclass(frozen=True)
class _Answer:
    status: int
    document: Mapping[str, Any]
    headers: Mapping[str, str]

    def number(self, name: str) -> int:
        found = self.document.get(name)
        return found if type(found) is int else self.status

    def text(self, name: str) -> str:
        return str(self.document.get(name, ""))[:300]

    def skew_s(self, now: float) -> float | None:
        """How far our clock is ahead of the server's; None where it does not tell the time."""
        try:
            return now - email.utils.parsedate_to_datetime(self.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return None


def _token_is_over(answer: _Answer, code: int) -> bool:
    """What a call with a token that has ended gets is not documented; a client of the vendor's
    looks for apim_status 4011 and 4012."""
    return code == _EXPIRED or answer.headers.get("apim_status") in ("4011", "4012")


def _digest(*parts: str | bytes | Secret) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.reveal() if isinstance(part, Secret) else part
        digest.update(data.encode() if isinstance(data, str) else data)
    return digest.hexdigest()


def _run_together(parameters: Mapping[str, str]) -> str:
    return "".join(name + parameters[name] for name in sorted(parameters))


def _timestamp(seconds: float) -> str:
    return str(int(seconds * 1000))


def _query(name: Name) -> dict[str, str]:
    return {"productKey": name[0], "deviceKey": name[1]}


def _days(days: int | None) -> dict[str, Any]:
    return {} if days is None else {"validDay": days}


def _object(reply: httpx.Response) -> dict[str, Any] | None:
    try:
        found = reply.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _created(data: Any) -> Created:
    fields = ("productKey", "deviceKey", "deviceSecret", "assetId")
    if not isinstance(data, dict) or not all(isinstance(data.get(name), str) for name in fields):
        raise ServiceError("EnOS answered with a device that lacks its keys or its secret")
    pk, dk, secret, asset = (data[name] for name in fields)
    return Created(pk, dk, Secret(secret), asset)


def _certificate(data: Any) -> Certificate:
    fields = ("certSN", "cert", "caCert", "issueAuthority")
    if not isinstance(data, dict) or not all(isinstance(data.get(name), str) for name in fields):
        raise ServiceError("EnOS answered with a certificate that lacks a part")
    return Certificate(*(data[name] for name in fields))
