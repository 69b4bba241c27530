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
the push is accepted on either of the two topics that the documents name. The first step of the
first two ways is aliyun_registration.py.
"""

from micropython import const

from imprint import canonical
from imprint.errors import ImprintError, SetupError, WeatherError
from imprint.secret import Secret
from imprint.wire.mqtt import ConnectRequest

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.identity import Identity

SESSION = "aliyun_session"  # of imprint.net
PASSING = "clouds.aliyun_registration "  # needed once: see app

# Not checked while registering; at login 30 to 1200 s, 300 or more advised (73742).
_KEEPALIVE_S = const(300)

# Year 2050 in ms. The server checks no time window, so a constant serves (Link SDK for C), and
# the signature does not depend on the clock.
_TIMESTAMP = "2524608000000"

_DOWNLINK_MAX = const(4096)  # bytes; a ceiling on what the network fills

# errors.py
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


def refused(_identity: "Identity", connack_code: int) -> ImprintError:
    """The error for the CONNACK of a login, other than 0 (148610)."""
    if connack_code == 3:
        return WeatherError(_LOGIN_UNAVAILABLE, number=connack_code)
    code = _LOGIN_ID_REJECTED if connack_code in (1, 2) else _LOGIN_REFUSED
    return SetupError(code, number=connack_code)


def login(identity: "Identity", credential: dict | None) -> ConnectRequest:
    """The CONNECT of a session (73742): by token where one was issued, else signed.

    `credential` is what aliyun_registration.answer returned; None where the triple is burned.
    """
    if identity.registration == "none" or credential is None:
        secret = identity.device_secret.reveal()
    elif "device_token" in credential:
        token = credential["device_token"]
        return connect(
            identity, credential["client_id"], "securemode=-2,authType=connwl", token
        )
    else:
        secret = credential["device_secret"].encode()
    from imprint import sign

    signed = {
        "clientId": client_id(identity),
        "deviceName": identity.device_name,
        "productKey": identity.product_key,
        "timestamp": _TIMESTAMP,
    }
    extension = "securemode=2,signmethod=%s,timestamp=%s" % (identity.sign_method, _TIMESTAMP)
    password = sign.hex_hmac(identity.sign_method, secret, signed)
    return connect(identity, client_id(identity), extension, password)


def subscriptions(identity: "Identity") -> tuple:
    """(topic, QoS) to subscribe after login; the user topic is there in every new product.

    At QoS 1 the cloud keeps what is sent while the unit is away; a reply that comes late is of
    no use.
    """
    return (
        (_sys(identity, _POST + "_reply"), 0),
        (_sys(identity, _SET), 1),
        (_user(identity, "get"), 1),
    )


def report_topic(identity: "Identity") -> bytes:
    """Where a report goes."""
    return _sys(identity, _POST)


def report(msg_id: int, params: dict) -> bytes:
    """The payload of a property post; the cloud replies with the same id (0 to 2^32-1).

    `params` maps property identifiers to values. TypeError, ValueError: a value that JSON or
    the thing model has no form for (NaN, infinity, bytes).
    """
    return canonical.dumps({
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


def connect(
    identity: "Identity",
    client_id: str,
    extension: str,
    password: bytes | str,
    clean_session: bool = False,
) -> ConnectRequest:
    """A CONNECT with the parameters that the platform wants inside of the client id."""
    return ConnectRequest(
        host(identity),
        identity.port,
        ("%s|%s|" % (client_id, extension)).encode(),
        ("%s&%s" % (identity.device_name, identity.product_key)).encode(),
        Secret(password),
        _KEEPALIVE_S,
        clean_session,
    )


def client_id(identity: "Identity") -> str:
    """Free text of 1 to 64 characters; the vendor's samples build it of the two names."""
    return identity.client_id or "%s.%s" % (identity.product_key, identity.device_name)


def _sys(identity: "Identity", tail: str) -> bytes:
    return ("/sys/%s/%s/%s" % (identity.product_key, identity.device_name, tail)).encode()


def _user(identity: "Identity", tail: str) -> bytes:
    return ("/%s/%s/user/%s" % (identity.product_key, identity.device_name, tail)).encode()


def _message(reply: dict) -> str:
    message = reply.get("message")
    return message[:80] if isinstance(message, str) else ""


def _echo(msg_id) -> str:
    # Digits by the documents; whatever it is, it goes back as it came.
    if not isinstance(msg_id, str) or len(msg_id) > 64:
        raise ValueError
    return msg_id
