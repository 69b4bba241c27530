"""EnOS's REST API as its documents have it: formulas and addresses, nothing of the server's."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx
from imprint_tools.localcloud.enos.cloud import EnosCloud
from imprint_tools.secret import Secret

TOKEN = "/apim-token-service/v2.0/token/"  # noqa: S105 - a path
WAIT_S = 10.0


def now_ms() -> int:
    return int(time.time() * 1000)


def encryption(key: str, timestamp: int | str, secret: str) -> str:
    return hashlib.sha256(f"{key}{timestamp}{secret}".encode()).hexdigest()


def signature(
    token: str, query: Mapping[str, str], body: bytes, timestamp: int | str, secret: str
) -> str:
    parameters = "".join(name + query[name] for name in sorted(query))
    message = (token + parameters).encode() + body + f"{timestamp}{secret}".encode()
    return hashlib.sha256(message).hexdigest()


class EnosRest:
    """A verified connection and a service account."""

    def __init__(self, cloud: EnosCloud, account: tuple[str, Secret], organisation: str) -> None:
        endpoint = next(e for e in cloud.endpoints if e.host == cloud.config.api_host)
        self.host = endpoint.host
        self.key, self.secret = account[0], account[1].reveal().decode()
        self.organisation = organisation
        self.token = ""
        host, port = endpoint.target
        self.http = httpx.Client(
            base_url=f"https://{host}:{port}",
            verify=ssl.create_default_context(cafile=str(cloud.ca_pem)),
            timeout=WAIT_S,
            headers={"Host": self.host},
        )

    def __enter__(self) -> EnosRest:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        self.http.close()

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, path, extensions={"sni_hostname": self.host}, **options)

    def ask_token(self, **changed: Any) -> dict[str, Any]:
        """token/get, with fields in place of the right ones; None leaves one out."""
        timestamp = changed.get("timestamp", now_ms())
        document = {
            "appKey": self.key,
            "timestamp": timestamp,
            "encryption": encryption(self.key, timestamp, self.secret),
        }
        document |= changed
        body = {name: value for name, value in document.items() if value is not None}
        answer = self.send("POST", TOKEN + "get", json=body)
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        assert found["business"] == "apim-token-service"
        if found["status"] == 0:
            self.token = found["data"]["accessToken"]
        return found

    def call(
        self,
        resource: str,
        action: str,
        body: Any = None,
        *,
        version: str = "v2.1",
        method: str = "POST",
        **query: str | None,
    ) -> httpx.Response:
        """A signed call; a parameter that is None is left out."""
        wanted = {"action": action, "orgId": self.organisation, **query}
        parameters = {name: value for name, value in wanted.items() if value is not None}
        content = b"" if body is None else json.dumps(body).encode()
        timestamp = str(now_ms())
        return self.send(
            method,
            f"/connect-service/{version}/{resource}",
            params=parameters,
            content=content,
            headers={
                "apim-accesstoken": self.token,
                "apim-timestamp": timestamp,
                "apim-signature": signature(
                    self.token, parameters, content, timestamp, self.secret
                ),
            },
        )

    def ok(self, resource: str, action: str, body: Any = None, **more: Any) -> Any:
        """The data of a call that succeeds."""
        answer = self.call(resource, action, body, **more)
        document = answer.json()
        assert (answer.status_code, document["code"], document["msg"]) == (200, 0, "OK"), document
        assert document["requestId"]
        return document["data"]

    def code(self, resource: str, action: str, body: Any = None, **more: Any) -> int:
        return int(self.call(resource, action, body, **more).json()["code"])
