"""Azure's provisioning service over MQTT: register, ask again, and read what it assigns. Pure.

A module of its own because a unit seldom needs it: it leaves the memory before the login.

    1. CONNECT, subscribe to ANSWERS
    2. publish `question()`; `answer()` says what came: a hub, "wait and ask again", or that the
       enrolment is disabled, which is an answer and no error
    3. close

Registering again is free of consequences: an enrolment that is assigned already is told the same.
Sources: the vendor's SDKs (Python, Node, C, C#, embedded C) and the service's REST specification.
"""

from micropython import const

from imprint import canonical
from imprint.clouds.azure_hub import fits
from imprint.errors import ImprintError, ProtocolError, SetupError, WeatherError
from imprint.wire.mqtt import ConnectRequest
from imprint.wire.percent import quote

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity

ANSWERS = b"$dps/registrations/res/#"
WAIT_MS = const(30_000)  # for one answer, as the vendor's Python SDK waits
QUESTIONS_MAX = const(30)  # in one connection

# What all released SDKs send. There is no "?" before it, other than at the hub.
_API_VERSION = "2019-03-31"
_KEEPALIVE_S = const(60)
_POLICY = "registration"
_TOKEN_S = const(3600)

_POLL_S = const(2)  # where DPS does not say
_POLL_MOST_S = const(86_400)  # a bound on what it may say

# Ceilings on what the network fills. A group's answer with certificate details is about 2 kB.
_ANSWER_MAX = const(4096)  # bytes
_HOST_MAX = const(253)  # characters
_ID_MAX = const(128)
_OPERATION_MAX = const(256)

_ASSIGNED = ("hub", "device_id", "registration_id", "id_scope")

# errors.py
_ATTESTATION_REFUSED = const(420)
_NOT_ENROLLED = const(421)
_PROVISIONING_REFUSED = const(422)
_PROVISIONING_UNAVAILABLE = const(423)
_ASSIGNMENT_FAILED = const(425)
_PROVISIONING_MALFORMED = const(426)


def request(identity: "Identity", now_s: int) -> ConnectRequest:
    """The CONNECT at `now_s`, seconds since 1970. Raises SetupError: the key is none."""
    rid = identity.registration_id
    password = None
    key = identity.symmetric_key
    if identity.attestation == "symmetric-key" and key:
        from imprint.clouds import azure_sas

        resource = "%s/registrations/%s" % (identity.id_scope, rid)
        password = azure_sas.token(resource, key, now_s + _TOKEN_S, _POLICY)
    username = "%s/registrations/%s/api-version=%s&ClientVersion=imprint" % (
        identity.id_scope,
        rid,
        _API_VERSION,
    )
    host: "Any" = identity.host  # not None in this journey
    return ConnectRequest(
        host, identity.port, rid.encode(), username.encode(), password, _KEEPALIVE_S
    )


def refused(_identity: "Identity", connack_code: int) -> ImprintError:
    """The error for the CONNACK of a registration, other than 0."""
    if connack_code == 3:
        return WeatherError(_PROVISIONING_UNAVAILABLE, number=connack_code)
    code = _PROVISIONING_REFUSED if connack_code in (1, 2) else _ATTESTATION_REFUSED
    return SetupError(code, number=connack_code)


def question(identity: "Identity", number: int, operation: str = "") -> tuple:
    """(topic, payload) of a registration, or of a look at one that is under way; QoS 1.

    `number` tells its answer from others.
    """
    if operation:
        topic = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=%d&operationId=%s"
        return (topic % (number, quote(operation))).encode(), b" "
    payload = canonical.dumps({"registrationId": identity.registration_id})
    return b"$dps/registrations/PUT/iotdps-register/?$rid=%d" % number, payload


def answer(identity: "Identity", number: int, topic: bytes, payload: bytes) -> "tuple | None":
    """What DPS says to the question of that number, as one of

        ("assigned", record)               a hub, as the record for the vault
        ("again", after_s, operation)      ask for that operation; None: the same as before
        ("disabled",)                      the enrolment is; ask again much later

    None: it is not the answer. Raises what else the status says; 429 and faults of its own are
    ("again", ...): the one who asks decides how often.
    """
    if not topic.startswith(ANSWERS[:-1]):
        return None
    status, _, rest = topic[len(ANSWERS) - 1 :].partition(b"/?")
    query = _query(rest)
    if query.get("$rid") != str(number):
        return None
    code = _number(status)
    after_s = _after_s(query.get("retry-after"))
    if code == 429 or code >= 500:
        return ("again", after_s, None)
    try:
        body = canonical.loads(payload, _ANSWER_MAX)
    except ValueError:
        if 200 <= code < 300:
            raise ProtocolError(_PROVISIONING_MALFORMED, "not a JSON object", code)
        body = {}
    if not 200 <= code < 300:
        raise _refusal(code, body)
    return _read(identity, body, after_s)


def _read(identity: "Identity", body: dict, after_s: int) -> tuple:
    # By the body's status, never by the topic's: "failed" and "disabled" come with 200.
    status = body.get("status")
    state = body.get("registrationState")
    if not isinstance(state, dict):
        state = {}
    if status == "assigned":
        return ("assigned", _record(identity, state))
    if status in ("disabled", "blacklisted"):
        return ("disabled",)
    if status == "failed":
        raise WeatherError(_ASSIGNMENT_FAILED, _text(state, "errorMessage"), _extended(state))
    if status not in ("assigning", "unassigned"):
        raise ProtocolError(_PROVISIONING_MALFORMED, "status")
    operation = body.get("operationId")
    if not isinstance(operation, str) or not 0 < len(operation) <= _OPERATION_MAX:
        raise ProtocolError(_PROVISIONING_MALFORMED, "operationId")
    return ("again", after_s, operation)


def _record(identity: "Identity", state: dict) -> dict:
    hub, device_id = state.get("assignedHub"), state.get("deviceId")
    if not isinstance(hub, str) or not fits(hub, _HOST_MAX):
        raise ProtocolError(_PROVISIONING_MALFORMED, "assignedHub")
    if not isinstance(device_id, str) or not fits(device_id, _ID_MAX):
        raise ProtocolError(_PROVISIONING_MALFORMED, "deviceId")
    values = (hub, device_id, identity.registration_id, identity.id_scope)
    return dict(zip(_ASSIGNED, values))


def _refusal(code: int, body: dict) -> ImprintError:
    number = _extended(body) or code
    detail = _text(body, "message")
    if code in (401, 403):
        return SetupError(_ATTESTATION_REFUSED, detail, number)
    if code == 404:
        return SetupError(_NOT_ENROLLED, detail, number)
    if code == 409:  # another one works on this enrolment at the moment
        return WeatherError(_PROVISIONING_UNAVAILABLE, detail, number)
    if 400 <= code < 500:
        return SetupError(_PROVISIONING_REFUSED, detail, number)
    return ProtocolError(_PROVISIONING_MALFORMED, "status %d" % code)


def _query(text: bytes) -> dict:
    # Names in lower case: the service's own spelling of retry-after has varied.
    pairs = {}
    for part in text.split(b"&"):
        name, _, value = part.partition(b"=")
        try:
            pairs[str(name, "utf-8").lower()] = str(value, "utf-8")
        except ValueError:
            pass
    return pairs


def _after_s(text: "str | None") -> int:
    seconds = _number(text.encode()) if text else 0
    return min(seconds, _POLL_MOST_S) if seconds > 0 else _POLL_S


def _number(text: bytes) -> int:
    # 0 for what is no number.
    return int(text) if text and len(text) < 10 and not text.strip(b"0123456789") else 0


def _extended(body: dict) -> "int | None":
    code = body.get("errorCode")
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _text(body: dict, name: str) -> str:
    text = body.get(name)
    return text[:80] if isinstance(text, str) else ""
