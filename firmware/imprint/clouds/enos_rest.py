"""EnOS's REST API, for what an edge asks of it: tokens, devices, certificates. Pure.

A service account (an application's accessKey and accessSecret, which the newer API calls appKey
and appSecret) gets a token; each call names it and is signed:

    encryption  hex SHA-256(appKey + timestamp + appSecret), to get the token
    signature   hex SHA-256(token + query's names and values in order + body + timestamp +
                appSecret); plain concatenations, no HMAC

A request here is (method, path with query, headers, body), an answer (status, headers, body).
Sources: the vendor's documents of apim-token-service v2.0 and connect-service v2.0 and v2.1. What
they leave open is inferred:

    refresh of a token    its body is not documented: a new one is got in the old one's last tenth
    token/get's timestamp may not be used twice (1001), so the caller's time never stands still
    expired token         1203, and HTTP 401 as well
    other organisation    no code is documented: whatever it is, it is shown (API_REFUSED)
"""

import binascii
import hashlib

from micropython import const

from imprint import canonical
from imprint.clouds.enos_mqtt import issued
from imprint.errors import ImprintError, ProtocolError, SetupError, WeatherError
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity

ANSWER_MAX = const(8192)  # bytes
_TOKEN_MAX = const(512)  # characters
_TOKEN_LIFE_S = const(7200)  # documented; where the answer does not say
_SKEW_MAX_S = const(300)

_TOKEN = "/apim-token-service/v2.0/token/get"
_DEVICES = "/connect-service/v2.1/devices"
_TOPOLOGY = "/connect-service/v2.1/device-topos"
_CERTIFICATES = "/connect-service/v2.0/certificates"
_JSON = "application/json"

# errors.py
_SERVICE_ACCOUNT_REFUSED = const(440)
_CLOCK_SKEWED = const(441)
_API_FORBIDDEN = const(442)
_API_DEFERRED = const(443)
_API_REFUSED = const(444)
_API_ANSWER_MALFORMED = const(445)
_TOKEN_EXPIRED = const(446)
_DEVICE_EXISTS = const(447)
_DEVICE_ABSENT = const(448)
_DEVICE_LIMIT = const(449)

_EXISTS = const(11702)

# The cloud's code (in a token's answer `status`, else `code`): ours. 497 and 498 are those of the
# API before this one.
_SETUP = {
    1002: _SERVICE_ACCOUNT_REFUSED,
    1003: _SERVICE_ACCOUNT_REFUSED,
    497: _SERVICE_ACCOUNT_REFUSED,
    403: _API_FORBIDDEN,
    498: _API_FORBIDDEN,
    11404: _DEVICE_ABSENT,
    _EXISTS: _DEVICE_EXISTS,
    11739: _DEVICE_LIMIT,
}
_EXPIRED = (401, 1203, 4011, 4012)
_DEFERRED = (429, 1001, 1005, 99500)

_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


# --- Tokens and signatures


def token_request(identity: "Identity", time_ms: int) -> tuple:
    """Ask for a token."""
    key, timestamp = identity.access_key or "", str(time_ms)
    text = (key + timestamp).encode() + identity.access_secret.reveal()
    fields = {"appKey": key, "encryption": _digest(text), "timestamp": time_ms}
    return "POST", _TOKEN, {"Content-Type": _JSON}, canonical.dumps(fields)


def token(answer: tuple) -> tuple:
    """(token as Secret, seconds that it is good for). Raises ImprintError."""
    said = _envelope(answer, "status")
    data = said.get("data")
    # It goes into a header, so visible characters are all that it may have.
    found = issued(data.get("accessToken"), _TOKEN_MAX) if isinstance(data, dict) else ""
    if not found:
        raise ProtocolError(_API_ANSWER_MALFORMED, "accessToken")
    life_s = data.get("expire")
    if not isinstance(life_s, int) or not 0 < life_s <= 1 << 24:
        life_s = _TOKEN_LIFE_S
    return Secret(found), life_s


def signature(
    token: Secret, query: dict, body: bytes, time_ms: int, secret: "Secret | None"
) -> str:
    """What a call is signed with."""
    named = "".join([name + query[name] for name in sorted(query)])
    text = token.reveal() + named.encode() + body + str(time_ms).encode() + secret.reveal()
    return _digest(text)


def signed(identity: "Identity", token: Secret, call: tuple, time_ms: int) -> tuple:
    """The request of a call, which is (method, path, query, body)."""
    method, path, query, body = call
    secret = identity.access_secret
    query = dict(query)
    query["orgId"] = identity.org_id or ""
    headers = {
        "apim-accesstoken": token.reveal().decode(),
        "apim-signature": signature(token, query, body, time_ms, secret),
        "apim-timestamp": str(time_ms),
    }
    if body:
        headers["Content-Type"] = _JSON
    named = "&".join(["%s=%s" % (name, _quoted(query[name])) for name in sorted(query)])
    return method, path + "?" + named, headers, body


def data(answer: tuple) -> "Any":
    """The `data` of a call's answer. Raises ImprintError."""
    return _envelope(answer, "code").get("data")


def skewed(error: ImprintError, answer: tuple, time_ms: int) -> ImprintError:
    """`error`, or, where our clock is the likelier cause of it, CLOCK_SKEWED.

    A signature over a wrong time is refused as one with a wrong secret is; the difference is in
    the answer's own date.
    """
    if error.code not in (_SERVICE_ACCOUNT_REFUSED, _API_REFUSED, _TOKEN_EXPIRED, _API_FORBIDDEN):
        return error
    theirs_s = _date(answer[1].get("date", ""))
    if theirs_s is None or abs(theirs_s - time_ms // 1000) <= _SKEW_MAX_S:
        return error
    return WeatherError(
        _CLOCK_SKEWED, "ours is %d s ahead" % (time_ms // 1000 - theirs_s), error.number
    )


# --- Calls


def device_create(identity: "Identity", names: list, timezone: str) -> tuple:
    """Create devices, (product key, device key) each; one or many."""
    entries = [
        {
            "deviceKey": name[1],
            "deviceName": {"defaultValue": name[1]},
            "productKey": name[0],
            "timezone": timezone,
        }
        for name in names
    ]
    if len(entries) == 1:
        return "POST", _DEVICES, {"action": "create"}, canonical.dumps(entries[0])
    fields = {"deviceList": entries}
    return "POST", _DEVICES, {"action": "batchCreate"}, canonical.dumps(fields)


def devices_created(data: "Any") -> list:
    """[(product key, device key, secret, code)] of a creation, of one device or of many.

    The secret is "" where that one was refused; then `code` says why. Raises ProtocolError.
    """
    items = data if isinstance(data, list) else [data]
    found = []
    for item in items:
        if not isinstance(item, dict):
            raise ProtocolError(_API_ANSWER_MALFORMED, "data")
        inner = item.get("data")
        info = inner if isinstance(inner, dict) else item
        code = item.get("code", 0)
        found.append((
            _word(info.get("productKey")),
            _word(info.get("deviceKey")),
            issued(info.get("deviceSecret")),
            code if isinstance(code, int) else -1,
        ))  # fmt: skip
    return found


def device_secret(data: "Any") -> str:
    """What a device's record says; "" where it says none."""
    return issued(data.get("deviceSecret")) if isinstance(data, dict) else ""


def device_get(identity: "Identity", product_key: str, device_key: str) -> tuple:
    """Ask for a device's record, its secret as well."""
    query = {"action": "get", "productKey": product_key, "deviceKey": device_key}
    return "GET", _DEVICES, query, b""


def topology_add(identity: "Identity", names: list) -> tuple:
    """Put sub-devices, (product key, device key) each, below this edge: the way for those whose
    own secret, which the edge's own request has to be signed with, it does not know."""
    fields = {
        "gateway": _name(identity.product_key, identity.device_key or ""),
        "subDevices": [_name(name[0], name[1]) for name in names],
    }
    return "POST", _TOPOLOGY, {"action": "addSubDevice"}, canonical.dumps(fields)


def certificate_apply(identity: "Identity", request: str, days: int | None = None) -> tuple:
    """Ask for the edge's certificate by its request (PEM); without `days` the product's default
    is its life."""
    fields: dict = {"csr": request, "issueAuthority": "ECC"}
    return _certificate(identity, "apply", fields, days)


def certificate_renew(
    identity: "Identity", serial: str, request: str, days: int | None = None
) -> tuple:
    """Ask for a newer one than that of that serial number, which must still be valid."""
    fields: dict = {"certSn": serial, "csr": request, "issueAuthority": "ECC"}
    return _certificate(identity, "renew", fields, days)


def certificate_revoke(identity: "Identity", serial: str, reason: int = 0) -> tuple:
    """End one: 0 unspecified, 1 key compromised, 4 superseded, 5 out of use."""
    return _certificate(identity, "revoke", {"certSn": serial, "reason": reason}, None)


def certificate_issued(data: "Any") -> tuple:
    """(certificate as PEM, its serial number). Raises ProtocolError."""
    pem = data.get("cert") if isinstance(data, dict) else None
    serial = data.get("certSN") if isinstance(data, dict) else None
    if not isinstance(pem, str) or not isinstance(serial, (str, int)):
        raise ProtocolError(_API_ANSWER_MALFORMED, "cert or certSN")
    return pem, str(serial)


def refusal(code: int, message: str) -> ImprintError:
    """The error for a code of the API, or an HTTP status where it says nothing."""
    if code in _EXPIRED:
        return WeatherError(_TOKEN_EXPIRED, message, code)
    if code in _DEFERRED or 500 <= code < 600:
        return WeatherError(_API_DEFERRED, message, code)
    return SetupError(_SETUP.get(code, _API_REFUSED), message, code)


def _certificate(identity: "Identity", action: str, fields: dict, days: int | None) -> tuple:
    if days is not None:
        fields["validDay"] = days
    query = _name(identity.product_key, identity.device_key or "")
    query["action"] = action
    return "POST", _CERTIFICATES, query, canonical.dumps(fields)


def _word(value: "Any") -> "str | None":
    return value if isinstance(value, str) else None


def _name(product_key: str, device_key: str) -> dict:
    return {"productKey": product_key, "deviceKey": device_key}


def _envelope(answer: tuple, member: str) -> dict:
    status, _, body = answer
    try:
        said = canonical.loads(body, ANSWER_MAX)
        code = said.get(member)
    except ValueError:
        if status < 400:
            raise ProtocolError(_API_ANSWER_MALFORMED, "not a JSON object", status)
        raise refusal(status, "")
    if status == 200 and code == 0 and not isinstance(code, bool):
        return said
    text = said.get("msg")
    words = text[:80] if isinstance(text, str) else ""
    if isinstance(code, int) and code not in (0, 200):
        raise refusal(code, words)
    if status >= 400:
        raise refusal(status, words)
    raise ProtocolError(_API_ANSWER_MALFORMED, member, status)


def _digest(text: bytes) -> str:
    return binascii.hexlify(hashlib.sha256(text).digest()).decode()


def _quoted(value: str) -> str:
    # RFC 3986: what a query may hold as it is; all of it that our fields and serials can have.
    quoted = ""
    for char in value:
        if char < "\x7f" and (char.isalpha() or char.isdigit() or char in "-._~:@"):
            quoted += char
        else:
            quoted += "".join(["%%%02X" % byte for byte in char.encode()])
    return quoted


def _date(text: str) -> int | None:
    # RFC 9110's one form: "Sun, 06 Nov 1994 08:49:37 GMT"; seconds since 1970.
    from imprint.wire import der

    parts = text.split(" ")
    try:
        if len(parts) != 6 or parts[5] != "GMT" or _MONTHS.find(parts[2]) % 3:
            return None
        month = _MONTHS.find(parts[2]) // 3 + 1
        hour, minute, second = parts[4].split(":")
        day = der.days(int(parts[3]), month, int(parts[1]))
        return day * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second)
    except ValueError:
        return None
