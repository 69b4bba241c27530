"""EnOS's API gateway: an application gets a token for its service account, and signs with both.

    token/get     encryption = hex(SHA-256(appKey + timestamp + appSecret))
    every call    apim-signature = hex(SHA-256(token + parameters + body + timestamp + appSecret))

The parameters are those of the query, decoded, in the order of their names, each name followed by
its value, with nothing in between. No HMAC anywhere.

Sources: the vendor's documents on the token service and on signing; their example is a vector of
the tests. Not documented, and so `EnosConfig` or a guess: a window for timestamps, the answer to
a call with a wrong token or signature, and the body of token/refresh.

Time is an argument: `now` in seconds of whatever clock for the life of tokens, `wall` in seconds
since 1970.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imprint_tools.localcloud.datafile import random_text
from imprint_tools.localcloud.enos.config import EnosConfig
from imprint_tools.localcloud.enos.records import Application
from imprint_tools.localcloud.enos.registry import EnosRegistry
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

STATUSES: Mapping[str, tuple[int, str]] = {
    "encryption-repeated": (1001, "encryption was used before"),
    "application-unknown": (1002, "appKey does not exist"),
    "encryption-wrong": (1003, "encryption is wrong"),
    "parameter-invalid": (1004, "parameter is invalid"),
    "parameter-empty": (1202, "parameter is empty"),
    "token-expired": (1203, "token has expired"),
    "token-unknown": (1204, "token cannot be refreshed"),
    # Not documented: a timestamp that is not now could as well go unnoticed.
    "timestamp-outside": (1004, "timestamp is not now"),
}
"""What the token service answers: reason, `status` and `msg`."""

_TOKEN_LENGTH = 36
_FORGOTTEN_MAX = 10_000


@dataclass
class _Token:
    application: Application
    ends: float


class Tokens:
    def __init__(self, registry: EnosRegistry, config: EnosConfig) -> None:
        self._registry = registry
        self._config = config
        self._tokens: dict[str, _Token] = {}
        self._used: dict[str, None] = {}

    def get(self, document: Mapping[str, Any], now: float, wall: float) -> dict[str, Any]:
        """token/get: {accessToken, expire}, the same token while it lives. Refuses with the
        reasons of STATUSES."""
        key, timestamp, encryption = _parameters(document, "appKey", "timestamp", "encryption")
        application = self._registry.application(key)
        self._check_encryption(encryption, key + timestamp, application.secret)
        self._check_time(timestamp, wall)
        self._use(encryption)
        for text, token in self._tokens.items():
            if token.application is application and now < token.ends:
                return self._told(text, token, now)
        return self._issue(application, now)

    def refresh(self, document: Mapping[str, Any], now: float, wall: float) -> dict[str, Any]:
        """token/refresh: the token begins anew. Its body is a guess: as of get, with accessToken
        in the place of appKey in what is signed."""
        names = ("appKey", "accessToken", "timestamp", "encryption")
        key, text, timestamp, encryption = _parameters(document, *names)
        application = self._registry.application(key)
        self._check_encryption(encryption, text + timestamp, application.secret)
        self._check_time(timestamp, wall)
        token = self._tokens.get(text)
        if token is None or token.application is not application:
            raise Refusal("token-unknown")
        if now >= token.ends:
            raise Refusal("token-expired")
        self._use(encryption)
        token.ends = now + self._config.token_s
        return self._told(text, token, now)

    def check(
        self,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]],
        body: bytes,
        now: float,
        wall: float,
    ) -> Application:
        """Whose call is that? Refuses "token-missing", "token-unknown", "token-expired",
        "signature-wrong", "timestamp-outside"."""
        text = headers.get("apim-accesstoken", "")
        timestamp, given = headers.get("apim-timestamp", ""), headers.get("apim-signature", "")
        if not text or not timestamp or not given:
            raise Refusal("token-missing")
        token = self._tokens.get(text)
        if token is None:
            raise Refusal("token-unknown")
        if now >= token.ends:
            raise Refusal("token-expired")
        expected = signature(text, query, body, timestamp, token.application.secret)
        if not _same(expected, given):
            raise Refusal("signature-wrong")
        self._check_time(timestamp, wall)
        return token.application

    def expire(self, text: str) -> None:
        """End a token now."""
        if text in self._tokens:
            self._tokens[text].ends = float("-inf")

    def _issue(self, application: Application, now: float) -> dict[str, Any]:
        text = random_text(_TOKEN_LENGTH)
        token = self._tokens[text] = _Token(application, now + self._config.token_s)
        return self._told(text, token, now)

    def _told(self, text: str, token: _Token, now: float) -> dict[str, Any]:
        remaining = self._config.inferred.remaining_expire
        expire = token.ends - now if remaining else self._config.token_s
        return {"accessToken": text, "expire": int(expire)}

    def _check_encryption(self, given: str, content: str, secret: Secret) -> None:
        if given.lower() in self._used:
            raise Refusal("encryption-repeated")
        message = content.encode("utf-8", "surrogatepass") + secret.reveal()
        if not _same(hashlib.sha256(message).hexdigest(), given):
            raise Refusal("encryption-wrong")

    def _check_time(self, timestamp: str, wall: float) -> None:
        window_s = self._config.inferred.api_window_s
        digits = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 16
        if not digits:
            raise Refusal("timestamp-outside")
        if window_s is not None and abs(int(timestamp) / 1000 - wall) > window_s:
            raise Refusal("timestamp-outside")

    def _use(self, encryption: str) -> None:
        self._used[encryption.lower()] = None
        while len(self._used) > _FORGOTTEN_MAX:
            del self._used[next(iter(self._used))]


def signature(
    token: str, query: Sequence[tuple[str, str]], body: bytes, timestamp: str, secret: Secret
) -> str:
    """Of a call: lower-case hex."""
    parameters = "".join(name + value for name, value in sorted(query, key=lambda pair: pair[0]))
    digest = hashlib.sha256((token + parameters).encode("utf-8", "surrogatepass"))
    digest.update(body + timestamp.encode("utf-8", "surrogatepass") + secret.reveal())
    return digest.hexdigest()


def _parameters(document: Mapping[str, Any], *names: str) -> list[str]:
    found = []
    for name in names:
        value = document.get(name)
        if value in (None, ""):
            raise Refusal("parameter-empty")
        if name == "timestamp" and type(value) is int:
            value = str(value)
        if not isinstance(value, str):
            raise Refusal("parameter-invalid")
        found.append(value)
    return found


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.lower().encode("utf-8", "surrogatepass"))
