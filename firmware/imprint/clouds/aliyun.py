"""Alibaba Cloud (Aliyun) IoT Platform: what to say and how to read the answer. Pure.

Three ways to a session, all MQTT 3.1.1 over TLS:

    regnwl    one secret per product, no pre-registration: a registration CONNECT, the cloud
              pushes {clientId, deviceToken}, token login (`connwl`) ever after
    register  one secret per product, name added to the product before: the cloud pushes
              {deviceSecret}, signed login ever after
    none      the triple productKey, deviceName, deviceSecret is burned: signed login

Sources: the vendor's documents 132111 (dynamic registration), 73742 (login), 148610 (CONNACK),
89301 and 120329 (property reports, error codes), and its Link SDK for C 4.2.0 where they differ.
What they leave open stays configurable (`secure_mode`, `instance_id`, `host`, `client_id`), and
the push is accepted on either of the two topics that the documents name.
"""

from micropython import const

from imprint import canonical, sign
from imprint.errors import ImprintError, SetupError, WeatherError
from imprint.secret import Secret
from imprint.wire.mqtt import ConnectRequest

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from imprint.identity import Identity

# The cloud pushes the credential right after CONNACK, and closes the connection 15 s later
# (132111). A device that has heard nothing by then does not know whether a slot was used.
REGISTRATION_WAIT_MS = const(15_000)

# Not checked while registering; at login 30 to 1200 s, 300 or more advised (73742).
_KEEPALIVE_S = const(300)

# Year 2050 in ms. The server checks no time window, so a constant serves (Link SDK for C), and
# the signature does not depend on the clock.
_TIMESTAMP = "2524608000000"

# Ceilings on what the network fills, in bytes. The SDK's own buffers are 128 for the client id
# with its extension, 64 for token and secret; the longest answer with both keys is below 400.
_ANSWER_MAX = const(1024)
_DOWNLINK_MAX = const(4096)
_ISSUED_MAX = const(128)

# The alphabet of what is issued is not documented: visible ASCII, but "|" and "," would break a
# client id.
_ISSUED = (
    "!\"#$%&'()*+-./0123456789:;<=>?@"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{}~"
)

# errors.py
_REGISTRATION_REJECTED = const(401)
_REGNWL_REFUSED = const(402)
_REGISTER_REFUSED = const(403)
_REGISTRATION_UNAVAILABLE = const(404)
_REGISTRATION_ANSWER_MALFORMED = const(406)
_REGISTRATION_ANSWER_FOREIGN = const(407)
_LOGIN_ID_REJECTED = const(501)
_LOGIN_REFUSED = const(502)
_LOGIN_UNAVAILABLE = const(503)
_REPORT_REFUSED = const(601)
_REPORT_DEFERRED = const(602)
_DEVICE_DISABLED = const(603)

_POST = "thing/event/property/post"
_SET = "thing/service/property/set"


def needs_registration(identity: "Identity", credential: dict | None) -> bool:
    """Whether the unit must register: dynamic registration is burned and none of it is held.

    A credential that was issued to another name (the board has a new identity) is not held.
    """
    if identity.registration == "none":
        return False
    return not (
        credential
        and credential.get("product_key") == identity.product_key
        and credential.get("device_name") == identity.device_name
    )


def registration(identity: "Identity", rand: "Callable[[int], bytes]") -> ConnectRequest:
    """The registration CONNECT (132111). `rand(n)` gives n random bytes.

    The vendor's documents and SDKs differ on securemode (2 or -2), hence `secure_mode`.
    """
    nonce = str(int.from_bytes(rand(6), "big"))
    extension = "securemode=%d,authType=%s,random=%s,signmethod=%s" % (
        identity.secure_mode,
        identity.registration,
        nonce,
        identity.sign_method,
    )
    if identity.instance_id:
        extension += ",instanceId=" + identity.instance_id
    signed = {
        "deviceName": identity.device_name,
        "productKey": identity.product_key,
        "random": nonce,
    }
    password = sign.hex_hmac(identity.sign_method, identity.product_secret.reveal(), signed)
    return _connect(identity, _client_id(identity), extension, password)


def registration_answer(identity: "Identity", topic: bytes, payload: bytes) -> dict | None:
    """The credential that `payload` carries, as the record for the vault; None: not the answer.

    A record has product_key and device_name, and either client_id and device_token (regnwl) or
    device_secret (register): told apart by what came, since the documents disagree on the topic.
    Raises SetupError: it is malformed, or for another device.
    """
    if topic not in (b"/ext/regnwl", b"/ext/register"):
        return None
    try:
        answer = canonical.loads(payload, _ANSWER_MAX)
    except ValueError:
        raise SetupError(_REGISTRATION_ANSWER_MALFORMED, "not a JSON object")
    if (
        answer.get("productKey") != identity.product_key
        or answer.get("deviceName") != identity.device_name
    ):
        raise SetupError(_REGISTRATION_ANSWER_FOREIGN)
    record = {"product_key": identity.product_key, "device_name": identity.device_name}
    if "deviceToken" in answer:
        record["client_id"] = _issued(answer, "clientId")
        record["device_token"] = _issued(answer, "deviceToken")
    else:
        record["device_secret"] = _issued(answer, "deviceSecret")
    return record


def refused(step: str, connack_code: int) -> ImprintError:
    """The error for a CONNACK other than 0. `step` is "login" or the identity's `registration`.

    Which code the platform gives for the switch, an unknown name, an activated name or the sixth
    ClientID is not documented; 4 covers them all, and so does any code that is not listed.
    """
    if connack_code == 3:
        code = _LOGIN_UNAVAILABLE if step == "login" else _REGISTRATION_UNAVAILABLE
        return WeatherError(code, number=connack_code)
    if step == "login":
        code = _LOGIN_ID_REJECTED if connack_code in (1, 2) else _LOGIN_REFUSED
    elif connack_code == 2:
        code = _REGISTRATION_REJECTED
    else:
        code = _REGNWL_REFUSED if step == "regnwl" else _REGISTER_REFUSED
    return SetupError(code, number=connack_code)


def login(identity: "Identity", credential: dict | None) -> ConnectRequest:
    """The CONNECT of a session (73742): by token where one was issued, else signed.

    `credential` is what registration_answer returned; None where the triple is burned.
    """
    if identity.registration == "none" or credential is None:
        secret = identity.device_secret.reveal()
    elif "device_token" in credential:
        return _connect(
            identity,
            credential["client_id"],
            "securemode=-2,authType=connwl",
            credential["device_token"],
        )
    else:
        secret = credential["device_secret"].encode()
    signed = {
        "clientId": _client_id(identity),
        "deviceName": identity.device_name,
        "productKey": identity.product_key,
        "timestamp": _TIMESTAMP,
    }
    extension = "securemode=2,signmethod=%s,timestamp=%s" % (identity.sign_method, _TIMESTAMP)
    password = sign.hex_hmac(identity.sign_method, secret, signed)
    return _connect(identity, _client_id(identity), extension, password)


def subscriptions(identity: "Identity") -> tuple:
    """Topics to subscribe after login; the user topic is there in every new product."""
    return (
        _sys(identity, _POST + "_reply"),
        _sys(identity, _SET),
        _user(identity, "get"),
    )


def report(identity: "Identity", msg_id: int, params: dict) -> tuple:
    """(topic, payload) of a property post; the cloud replies with the same id (0 to 2^32-1).

    `params` maps property identifiers to values. TypeError, ValueError: a value that JSON or
    the thing model has no form for (NaN, infinity, bytes).
    """
    return _sys(identity, _POST), canonical.dumps({
        "id": str(msg_id),
        "method": "thing.event.property.post",
        "params": params,
        "version": "1.0",
    })  # fmt: skip


def user_update(identity: "Identity", payload: bytes) -> tuple:
    """(topic, payload) of a free message on the product's default custom topic."""
    return _user(identity, "update"), payload


def downlink(identity: "Identity", topic: bytes, payload: bytes) -> tuple:
    """What the cloud wants, as one of

        ("reply", id: int, code: int, message: str)   to a report
        ("set", id: str, params: dict)                answer it with set_reply
        ("user", topic, payload)                      a custom topic of this device
        ("other", topic)                              not for us, or not what is documented

    Never raises: a message that does not parse must not end the session.
    """
    if topic.startswith(_user(identity, "")):
        return ("user", topic, payload)
    is_reply = topic == _sys(identity, _POST + "_reply")
    if is_reply or topic == _sys(identity, _SET):
        try:
            message = canonical.loads(payload, _DOWNLINK_MAX)
            if is_reply:
                return ("reply", int(message["id"]), int(message["code"]), _message(message))
            if isinstance(message["params"], dict):
                return ("set", _echo(message["id"]), message["params"])
        except (KeyError, TypeError, ValueError, OverflowError):
            pass
    return ("other", topic)


def set_reply(identity: "Identity", msg_id: str, code: int = 200) -> tuple:
    """(topic, payload) that answers a property set; codes 200, 400, 460, own 100000 to 110000."""
    payload = canonical.dumps({"code": code, "data": {}, "id": msg_id})
    return _sys(identity, _SET + "_reply"), payload


def report_refused(code: int, message: str = "") -> ImprintError | None:
    """The error for a report's reply code (120329), None for 200."""
    if code == 200:
        return None
    if code in (6100, 6204):
        return SetupError(_DEVICE_DISABLED, message, code)
    if code == 429 or 500 <= code < 600:
        return WeatherError(_REPORT_DEFERRED, message, code)
    return SetupError(_REPORT_REFUSED, message, code)


def host(identity: "Identity") -> str:
    """The broker's name: instances since 2021-07-30 and Enterprise have names of their own."""
    if identity.host:
        return identity.host
    if identity.instance_id:
        return identity.instance_id + ".mqtt.iothub.aliyuncs.com"
    return "%s.iot-as-mqtt.%s.aliyuncs.com" % (identity.product_key, identity.region)


def _connect(identity: "Identity", client_id: str, extension: str, password) -> ConnectRequest:
    return ConnectRequest(
        host(identity),
        identity.port,
        ("%s|%s|" % (client_id, extension)).encode(),
        ("%s&%s" % (identity.device_name, identity.product_key)).encode(),
        Secret(password),
        _KEEPALIVE_S,
    )


def _client_id(identity: "Identity") -> str:
    # Free text of 1 to 64 characters; the vendor's samples build it of the two names.
    return identity.client_id or "%s.%s" % (identity.product_key, identity.device_name)


def _sys(identity: "Identity", tail: str) -> bytes:
    return ("/sys/%s/%s/%s" % (identity.product_key, identity.device_name, tail)).encode()


def _user(identity: "Identity", tail: str) -> bytes:
    return ("/%s/%s/user/%s" % (identity.product_key, identity.device_name, tail)).encode()


def _issued(answer: dict, name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= _ISSUED_MAX:
        raise SetupError(_REGISTRATION_ANSWER_MALFORMED, name)
    if value.strip(_ISSUED):  # at both ends: nothing is left of what is all right
        raise SetupError(_REGISTRATION_ANSWER_MALFORMED, name)
    return value


def _message(reply: dict) -> str:
    message = reply.get("message")
    return message[:80] if isinstance(message, str) else ""


def _echo(msg_id) -> str:
    # Digits by the documents; whatever it is, it goes back as it came.
    if not isinstance(msg_id, str) or len(msg_id) > 64:
        raise ValueError
    return msg_id
