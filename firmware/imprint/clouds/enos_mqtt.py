"""Envision EnOS over MQTT: what any of its devices says, and how to read the answer. Pure.

Two ways to a session:

    mode 2    one device one secret: a login that the device's own secret signs
    mode 3    one product one secret: a login that the product's secret signs, in which the cloud
              pushes the device's own (activation), and mode 2 ever after

A signature is a plain digest of names, values and secret, although its methods are called
"hmac..." in places. The vendor's SDKs send both cases of digits; we send its documents' upper
one. Sources: the vendor's documents ("non-SDK login", device log) and its SDKs for Java, Python
and C. What they leave open is inferred:

    freshness       a login carries the time, though its own SDK for C always sends the year 2050
    CONNACK         3 passes; 1 and 2 are about the client id; anything else is a refusal, whose
                    reason only the cloud's device log tells
    subscriptions   replies are subscribed to, what the cloud pushes comes unasked
"""

import binascii
import hashlib

from micropython import const

from imprint import canonical
from imprint.errors import ImprintError, ProtocolError, SetupError, WeatherError
from imprint.secret import Secret
from imprint.wire.mqtt import ConnectRequest

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity

_KEEPALIVE_S = const(120)  # 60 to 300 by the vendor's limits page
_VERSION = b'"version":"1.1"'
_CLIENT_ID = "%s|securemode=%d,signmethod=%s,timestamp=%s|"
_METHOD = "sha256"  # the one that the current documents name

# Ceilings on what the network fills, in bytes.
DOWNLINK_MAX = const(4096)
_ISSUED_MAX = const(128)  # SDK for C: 64

# errors.py
_ACTIVATION_ANSWER_MALFORMED = const(412)
_ACTIVATION_ANSWER_FOREIGN = const(413)
_LOGIN_ID_REJECTED = const(501)
_LOGIN_REFUSED = const(502)
_LOGIN_UNAVAILABLE = const(503)
_CERTIFICATE_DEMANDED = const(510)
_CERTIFICATE_REFUSED = const(511)
_REPORT_REFUSED = const(601)
_REPORT_DEFERRED = const(602)
_DEVICE_DISABLED = const(603)

_NOT_AUTHORIZED = const(5)  # CONNACK


# --- Login


def sign(
    client_id: str,
    product_key: str,
    device_key: str,
    timestamp: str,
    secret: bytes,
    method: str = _METHOD,
) -> str:
    """The signature of a login, a sub-device's as well; `method` is one of hashlib's names."""
    text = "clientId%sdeviceKey%sproductKey%stimestamp%s" % (
        client_id, device_key, product_key, timestamp,
    )  # fmt: skip
    digest = getattr(hashlib, method)(text.encode())
    digest.update(secret)
    return binascii.hexlify(digest.digest()).decode().upper()


def needs_activation(identity: "Identity", credential: dict | None) -> bool:
    """Whether the unit has no secret of its own: none is burned, and none is held that was issued
    to this product and device key."""
    if identity.secure_mode == 2:
        return False
    return not (
        credential
        and credential.get("product_key") == identity.product_key
        and credential.get("device_key") == identity.device_key
    )


def login(identity: "Identity", credential: dict | None, time_ms: int) -> ConnectRequest:
    """The CONNECT of a session: in mode 3 until the unit has a secret, then in mode 2."""
    mode = 2
    if identity.secure_mode == 2:
        secret = identity.device_secret.reveal()
    elif credential is None or needs_activation(identity, credential):
        mode, secret = 3, identity.product_secret.reveal()
    else:
        secret = credential["device_secret"].encode()
    key, timestamp = identity.device_key or "", str(time_ms)
    return ConnectRequest(
        identity.host or "",
        identity.port,
        (_CLIENT_ID % (key, mode, _METHOD, timestamp)).encode(),
        ("%s&%s" % (key, identity.product_key)).encode(),
        Secret(sign(key, identity.product_key, key, timestamp, secret)),
        _KEEPALIVE_S,
    )


def refused(connack_code: int, certified: bool) -> ImprintError:
    """The error for the CONNACK of a login, other than 0. `certified`: we showed a certificate,
    which products can demand."""
    if connack_code == 3:
        return WeatherError(_LOGIN_UNAVAILABLE, number=connack_code)
    if connack_code in (1, 2):
        return SetupError(_LOGIN_ID_REJECTED, number=connack_code)
    if connack_code == _NOT_AUTHORIZED:
        code = _CERTIFICATE_REFUSED if certified else _CERTIFICATE_DEMANDED
        return SetupError(code, number=connack_code)
    return SetupError(_LOGIN_REFUSED, number=connack_code)


def activation(identity: "Identity", topic: bytes, payload: bytes) -> tuple | None:
    """(record for the vault, topic of the reply, payload of the reply) of an activation that was
    pushed; None: this is another message.

    The reply may go once the vault has the record. Raises ProtocolError (malformed), SetupError
    (another device's).
    """
    if topic != session_topic(identity, "thing/activate/info"):
        return None
    try:
        push = canonical.loads(payload, DOWNLINK_MAX)
    except ValueError:
        raise ProtocolError(_ACTIVATION_ANSWER_MALFORMED, "not a JSON object")
    info = push.get("params")
    if not isinstance(info, dict):
        raise ProtocolError(_ACTIVATION_ANSWER_MALFORMED, "params")
    if (
        info.get("productKey") != identity.product_key
        or info.get("deviceKey") != identity.device_key
    ):
        raise SetupError(_ACTIVATION_ANSWER_FOREIGN)
    secret = issued(info.get("deviceSecret"))
    if not secret:
        raise ProtocolError(_ACTIVATION_ANSWER_MALFORMED, "deviceSecret")
    record = {
        "product_key": identity.product_key,
        "device_key": identity.device_key,
        "device_secret": secret,
    }
    return record, topic + b"_reply", answer(_echo(push))


def issued(value: "Any", most: int = _ISSUED_MAX) -> str:
    """A secret as it came, where it can be one: visible ASCII of a sane length; else ""."""
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        return ""
    for char in value:
        if not "!" <= char <= "~":
            return ""
    return value


# --- What we say


def topic(identity: "Identity", tail: str, name: "tuple | None" = None) -> bytes:
    """A topic of this unit's own, or of the sub-device `name`, (product key, device key); `tail`
    such as `thing/measurepoint/post`."""
    product_key, device_key = name or (identity.product_key, identity.device_key)
    return ("/sys/%s/%s/%s" % (product_key, device_key, tail)).encode()


def session_topic(identity: "Identity", tail: str) -> bytes:
    """A topic about this unit's session and those of its sub-devices."""
    return ("/ext/session/%s/%s/%s" % (identity.product_key, identity.device_key, tail)).encode()


def request(msg_id: int, tail: str, params: bytes, more: bytes = b"") -> bytes:
    """The payload of a request; `params` is JSON already, `more` are further members of it."""
    method = tail.replace("/", ".").encode()
    return b'{"id":"%d","method":"%s","params":%s%s,%s}' % (msg_id, method, params, more, _VERSION)


# Each gives (tail of the topic, params). TypeError, ValueError: a value that JSON has no form for.


def event(event_id: str, fields: dict, time_ms: int) -> tuple:
    """An event of the thing model."""
    params = {"events": fields, "time": time_ms}
    return "thing/event/%s/post" % event_id, canonical.dumps(params)


def attributes(values: dict) -> tuple:
    """Set attributes."""
    return "thing/attribute/update", canonical.dumps({"attributes": values})


def tags(values: dict) -> tuple:
    """Set tags: at most 100, keys of 50 and values of 200 characters."""
    pairs = [{"tagKey": name, "tagValue": values[name]} for name in sorted(values)]
    return "thing/tag/update", canonical.dumps(pairs)


def answer(msg_id: str, code: int = 200, data: dict | None = None) -> bytes:
    """The payload that answers a command, at its topic and `_reply`.

    Codes: 200, 1101 nobody handles it, 1102 the handler failed, 1200 not parsed, own from 2000.
    """
    return canonical.dumps({"code": code, "data": data or {}, "id": msg_id, "message": ""})


# --- What we are told


def downlink(topic: bytes, payload: bytes) -> tuple:
    """What a message is, as one of

        ("reply", tail: str, id: str, code: int, message: str, data)    to a request of that tail
        ("set", product key, device key, id: str, params: dict)         measurepoints to values
        ("get", product key, device key, id: str, names: list)          reply with their values
        ("service", product key, device key, id: str, params: dict, name: str)
        ("state", id: str, verb, [(product key, device key), ...])      enable, disable, delete
        ("malformed", id: str)                                          reply 1200
        ("other", id: str)                                              reply 1101
        ("none",)                                                       nobody wants a reply

    Never raises: a message that does not parse must not end the session.
    """
    try:
        parts = str(topic, "utf-8").split("/")
    except UnicodeError:
        return ("none",)
    if parts[:3] == ["", "ext", "session"]:
        parts = parts[1:]
    elif parts[:2] != ["", "sys"]:
        return ("none",)
    if len(parts) < 5:
        return ("none",)
    names, tail = (parts[2], parts[3]), parts[4:]
    is_reply = tail[-1].endswith("_reply")
    msg_id = ""
    try:
        message = canonical.loads(payload, DOWNLINK_MAX)
        msg_id = _echo(message)
        if is_reply:
            return _reply("/".join(tail)[:-6], message)
    except ValueError:
        return ("none",) if is_reply else ("malformed", msg_id)
    params = message.get("params")
    if tail[:2] == ["thing", "service"]:
        return _service(names, tail[2:], msg_id, params)
    if len(tail) == 2 and tail[1] in ("enable", "disable", "delete"):
        if tail[0] == "combine":
            return _state(msg_id, tail[1], params)
        if tail[0] == "thing":
            return ("state", msg_id, tail[1], [names])
    return ("other", msg_id)


def report_refused(code: int, message: str) -> ImprintError | None:
    """The error for the reply to a report, None for 200."""
    if code == 200:
        return None
    if code in (705, 723):
        return SetupError(_DEVICE_DISABLED, message, code)
    if code == 429 or 500 <= code < 600:
        return WeatherError(_REPORT_DEFERRED, message, code)
    return SetupError(_REPORT_REFUSED, message, code)


def _reply(tail: str, message: dict) -> tuple:
    code = message.get("code")
    if not isinstance(code, int) or isinstance(code, bool):
        raise ValueError
    text = message.get("message")
    words = text[:80] if isinstance(text, str) else ""
    return ("reply", tail, _echo(message), code, words, message.get("data"))


def _service(names: tuple, tail: list, msg_id: str, params: "Any") -> tuple:
    if tail == ["measurepoint", "set"] and isinstance(params, dict):
        return ("set", names[0], names[1], msg_id, params)
    if tail == ["measurepoint", "get"] and isinstance(params, list):
        return ("get", names[0], names[1], msg_id, params)
    if len(tail) == 1 and isinstance(params, dict):
        return ("service", names[0], names[1], msg_id, params, tail[0])
    return ("malformed", msg_id)


def _state(msg_id: str, verb: str, params: "Any") -> tuple:
    named = []
    for entry in params if isinstance(params, list) else ():
        if isinstance(entry, dict):
            named.append((entry.get("productKey"), entry.get("deviceKey")))
    return ("state", msg_id, verb, named) if named else ("malformed", msg_id)


def _echo(message: dict) -> str:
    found = message.get("id")
    return found[:64] if isinstance(found, str) else ""
