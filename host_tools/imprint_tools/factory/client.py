"""A station's side of the factory server: a unit's key, its certificate, its identity file.

    with StationClient("https://factory.example:8443", ca_file, token) as station:
        station.enrol(Path("unit-1"), {"wifi_ssid": "bench"})

The key is made here and goes nowhere. What is made is written down before it is used, so a unit
whose enrolment broke off is finished by enrolling into the same folder again, without another id.

    unit-1/client_key.pem    the unit's private key, its owner's alone
    unit-1/request.json      the request's key, and what the server has said to it
    unit-1/client_cert.pem   the unit's certificate and its issuers
    unit-1/root_ca.pem       what the unit trusts
    unit-1/label.svg         its QR label
    unit-1/identity.toml     for `imprint inject`; written last
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from imprint_tools import identities, labels
from imprint_tools.errors import StationError
from imprint_tools.secret import Secret

_TOKEN = re.compile(rb"imp_[0-9]+_[A-Za-z0-9_-]+")
_WAIT_S = 30.0  # for one answer
_PATIENCE_S = 60.0  # for a server that is away
_POLL_FIRST_S, _POLL_MOST_S = 0.05, 2.0
ENROLLED_S = 600.0
"""So long `enrol` waits for DPS by default: thousands of units may be before this one."""


@dataclass(frozen=True)
class Enrolled:
    """A unit that is ready to be flashed."""

    id: str
    identity: Path
    serial: str


class StationClient:
    """Talks to one server, verified against `ca_file` (the system's authorities without)."""

    def __init__(
        self,
        url: str,
        ca_file: Path | None,
        token: Secret,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        if not url.lower().startswith("https://"):
            raise StationError(
                "the server's URL does not begin with https://",
                next_step="A token is only sent over TLS.",
            )
        if not _TOKEN.fullmatch(token.reveal()):
            raise StationError("this is no station's token")
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise StationError(
                f"{ca_file} is no CA file: {error.strerror or error}",
                next_step="Give server_ca.pem out of the factory's folder.",
            ) from None
        self._token, self._clock, self._wait = token, clock, wait
        self._client = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1/station", verify=context, timeout=_WAIT_S,
            headers={"User-Agent": "imprint"}, trust_env=False,  # it is in-house: no proxy
        )  # fmt: skip

    def __enter__(self) -> StationClient:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def enrol(
        self,
        folder: Path,
        fields: Mapping[str, Any],
        *,
        unit_id: str = "",
        patience_s: float = ENROLLED_S,
    ) -> Enrolled:
        """Make a unit in `folder`, or finish the one that was begun there.

        `fields` are the identity's other fields (Wi-Fi ...). `unit_id` is the GUID of a label that
        is printed already. Returns when DPS has the unit. Raises StationError, IdentityError.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _key(folder / "client_key.pem")
        request = folder / "request.json"
        if not request.exists():
            _write(request, json.dumps({"request_key": secrets.token_urlsafe(24)}).encode())
        asked = json.loads(request.read_bytes())["request_key"]
        body = {"request_key": asked} | ({"id": unit_id} if unit_id else {})
        unit = self._ask("POST", "/units", body)
        unit = self._ask("PUT", f"/units/{unit['id']}/certificate", {"csr": _csr(key, unit["id"])})
        unit = self._enrolled(unit, patience_s)
        _write(folder / "client_cert.pem", unit["chain"].encode())
        _write(folder / "root_ca.pem", unit["root_ca"].encode())
        _write(folder / "label.svg", labels.svg(unit["id"]))
        identity = folder / "identity.toml"
        document = {
            "journey": "azure-dps", "id_scope": unit["id_scope"], "registration_id": unit["id"],
            "attestation": "x509", "client_cert": "client_cert.pem",
            "client_key": "client_key.pem", "root_ca": "root_ca.pem", **fields,
        }  # fmt: skip
        identities.check(document, origin=str(identity), folder=folder)
        # A JSON string or number is a TOML one.
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in document.items()]
        _write(identity, "".join(lines).encode())
        return Enrolled(unit["id"], identity, unit["serial"])

    def _enrolled(self, unit: dict[str, Any], patience_s: float) -> dict[str, Any]:
        deadline, pause_s = self._clock() + patience_s, _POLL_FIRST_S
        while unit["state"] == "issued":
            if self._clock() > deadline:
                raise StationError(
                    f"DPS has not got {unit['id']} within {patience_s:.0f} s",
                    next_step="Run this again into the same folder; look at the server's log.",
                )
            self._wait(pause_s)
            pause_s = min(pause_s * 2, _POLL_MOST_S)
            unit = self._ask("GET", f"/units/{unit['id']}", None)
        if unit["state"] == "refused":
            raise StationError(
                f"{unit['id']} is refused: {unit['problem']}",
                next_step="Make a new unit in another folder.",
            )
        return unit

    def _ask(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """One request; again while the server is away or busy, which does no harm."""
        deadline = self._clock() + _PATIENCE_S
        delay_s = 0.25
        while True:
            try:
                answer = self._client.request(
                    method,
                    path,
                    json=body,
                    headers={"Authorization": f"Bearer {self._token.reveal().decode()}"},
                )
            except httpx.TransportError as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise StationError(
                        f"the server is not verified: {error}",
                        next_step="Give server_ca.pem out of the factory's folder with --ca, and "
                        "the server's name as its certificate has it.",
                    ) from None
                why = f"no answer ({type(error).__name__})"
            else:
                if answer.is_success:
                    found: dict[str, Any] = answer.json()
                    return found
                if answer.status_code < 500 and answer.status_code != 429:
                    raise _refused(answer)
                why = f"status {answer.status_code}"
            if self._clock() + delay_s > deadline:
                raise StationError(
                    f"the factory server does not serve: {why}",
                    next_step="Check that it runs, then run this again into the same folder.",
                )
            self._wait(delay_s * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
            delay_s = min(delay_s * 2, 5.0)


def _refused(answer: httpx.Response) -> StationError:
    try:
        error = answer.json()["error"]
        message, next_step = str(error["message"]), str(error["next_step"])
    except (ValueError, KeyError, TypeError):
        message, next_step = answer.reason_phrase, ""
    return StationError(f"the server refuses: {message}", next_step=next_step)


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The unit's key, made at the first time."""
    if path.exists():
        found = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(found, ec.EllipticCurvePrivateKey):
            raise StationError(f"{path} is no EC key", next_step="Take an empty folder.")
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def _csr(key: ec.EllipticCurvePrivateKey, unit_id: str) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, unit_id)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def _write(path: Path, data: bytes) -> None:
    """Whole and on disk, or not at all; for its owner alone."""
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
