"""Azure IoT Hub, straight or behind an IoT Edge gateway: what to say and how to read it. Pure.

MQTT 3.1.1 over TLS. A gateway is transparent: it is what we connect to, and whose certificate we
verify; user name, signature and topics remain the hub's. A token ends, and with it the connection
(the hub has no other way to renew it than a new one), so a session makes its successor in time.
Sources: the vendor's "Communicate with your IoT hub using MQTT", its Python and Node SDKs, and
EdgeHub's own code where they differ.
"""

from micropython import const

from imprint import canonical
from imprint.errors import ImprintError, SetupError, WeatherError
from imprint.wire.mqtt import ConnectRequest
from imprint.wire.percent import quote, unquote

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.secret import Secret

# What the documents and the Node SDK name.
_API_VERSION = "2021-04-12"

# Below the hub's 1177 s and EdgeHub's 10 min; a report on its way finds a dead line sooner.
_KEEPALIVE_S = const(240)

# A token is renewed at 4/5 of its life, as the vendor's C SDK does, and at least twice a week,
# which is what a board's milliseconds can count.
_RENEW_MOST_S = const(300_000)

_DOWNLINK_MAX = const(4096)  # bytes; what net.mqtt has room for, too
REPLY_MAX = const(4096)  # bytes of a method's answer

# errors.py
_LOGIN_ID_REJECTED = const(501)
_LOGIN_UNAVAILABLE = const(503)
_HUB_REFUSED = const(507)

_TWIN_REPLY = b"$iothub/twin/res/"
_DESIRED = b"$iothub/twin/PATCH/properties/desired/"
_METHOD = b"$iothub/methods/POST/"


class Endpoint:
    """Where a device logs in, and as whom."""

    def __init__(
        self,
        hub: str,
        device_id: str,
        key: "Secret | None",
        gateway: "str | None" = None,
        module_id: "str | None" = None,
    ) -> None:
        self.hub = hub  # the name in user name and token
        self.host = gateway or hub  # what is dialled, and what the certificate must be for
        self.client_id = device_id + "/" + module_id if module_id else device_id
        self.key = key  # base64; None: the client certificate proves who we are
        path = device_id + "/modules/" + module_id if module_id else device_id
        self.path = "devices/" + path


def login(endpoint: Endpoint, port: int, now_s: int, ttl_s: int) -> ConnectRequest:
    """The CONNECT of a session at `now_s` (seconds since 1970), with a token good for `ttl_s`.

    The session is kept at the hub, and with it what is sent to the device meanwhile. Raises
    SetupError: the key is none.
    """
    password = None
    if endpoint.key:
        from imprint.clouds import azure_sas

        resource = endpoint.hub + "/" + endpoint.path
        password = azure_sas.token(resource, endpoint.key, now_s + ttl_s)
    username = "%s/%s/?api-version=%s&DeviceClientType=imprint" % (
        endpoint.hub,
        endpoint.client_id,
        _API_VERSION,
    )
    return ConnectRequest(
        endpoint.host,
        port,
        endpoint.client_id.encode(),
        username.encode(),
        password,
        _KEEPALIVE_S,
        clean_session=False,
    )


def renew_after_s(endpoint: Endpoint, ttl_s: int) -> "int | None":
    """How long after its login a session is to be replaced; None: never, it has no token."""
    return min(ttl_s * 4 // 5, _RENEW_MOST_S) if endpoint.key else None


def refused(_identity: "Any", connack_code: int) -> ImprintError:
    """The error for the CONNACK of a login, other than 0.

    The hub does not say why: an unknown or disabled device, a wrong or ended token, a certificate
    that it does not know, a gateway that has not heard of the device yet are all the same.
    """
    if connack_code == 3:
        return WeatherError(_LOGIN_UNAVAILABLE, number=connack_code)
    if connack_code in (1, 2):
        return SetupError(_LOGIN_ID_REJECTED, number=connack_code)
    return WeatherError(_HUB_REFUSED, number=connack_code)


def subscriptions(endpoint: Endpoint) -> tuple:
    """(topic, QoS) to subscribe after login; at most five are allowed.

    At QoS 1 the hub keeps what the cloud sends while the unit is away. A module is sent nothing.
    """
    own = (
        (_TWIN_REPLY + b"#", 0),
        (_DESIRED + b"#", 0),
        (_METHOD + b"#", 0),
    )
    if "/modules/" in endpoint.path:
        return own
    return own + (((endpoint.path + "/messages/devicebound/#").encode(), 1),)


def telemetry_topic(endpoint: Endpoint, bag: bytes) -> bytes:
    """Where a message with that property bag goes."""
    return (endpoint.path + "/messages/events/").encode() + bag


def bag(properties: dict) -> bytes:
    """Properties (text to text) as a message's topic carries them, sorted.

    The hub's own begin with `$.`: mid message id, cid correlation id, ct content type, ce content
    encoding, ctime creation time.
    """
    pairs = [quote(name) + "=" + quote(properties[name]) for name in sorted(properties)]
    return "&".join(pairs).encode()


def twin_get(rid: int) -> bytes:
    """The topic to ask for the twin on; the payload is empty."""
    return b"$iothub/twin/GET/?$rid=%d" % rid


def twin_report(rid: int) -> bytes:
    """The topic for a change of the reported properties; the payload is the change, as JSON."""
    return b"$iothub/twin/PATCH/properties/reported/?$rid=%d" % rid


def method_reply(rid: bytes, status: int) -> bytes:
    """The topic that answers a method; the payload is JSON."""
    return b"$iothub/methods/res/%d/?$rid=" % status + rid


def downlink(endpoint: Endpoint, topic: bytes, payload: bytes) -> tuple:
    """What the cloud wants, as one of

        ("twin", rid: int, status: int, payload)     to twin_get or twin_report
        ("desired", version: int, params: dict)      a change of the desired properties
        ("method", name: str, rid: bytes, payload)   answer it with method_reply
        ("message", id: str, payload)                cloud-to-device
        ("unusable", what: str)                      too large, or not JSON
        ("other", topic)                             not for us, or not what is documented

    Never raises: a message that does not parse must not end the session.
    """
    try:
        if topic.startswith(_TWIN_REPLY):
            status, query = _split(topic[len(_TWIN_REPLY) :])
            return ("twin", int(query[b"$rid"]), int(status), payload)
        if topic.startswith(_METHOD):
            name, query = _split(topic[len(_METHOD) :])
            return ("method", unquote(name), query[b"$rid"], payload)
        if topic.startswith(_DESIRED):
            return desired(payload)
        begin = (endpoint.path + "/messages/devicebound/").encode()
        if topic.startswith(begin):
            query = _query(topic[len(begin) :])
            mid = query.get(b"%24.mid") or query.get(b"$.mid") or b""
            return ("message", unquote(mid), payload)
    except (KeyError, ValueError):
        pass
    return ("other", topic)


def desired(payload: bytes) -> tuple:
    """("desired", version, params) of a change, else ("unusable", what)."""
    try:
        params = canonical.loads(payload, _DOWNLINK_MAX)
    except ValueError:
        return ("unusable", "not a JSON object")
    return _desired(params)


def twin(payload: bytes) -> tuple:
    """The same of the whole twin, as twin_get is answered."""
    try:
        whole = canonical.loads(payload, _DOWNLINK_MAX)
    except ValueError:
        return ("unusable", "not a JSON object")
    return _desired(whole.get("desired"))


def fits(name: str, most: int) -> bool:
    """Whether `name` can stand in a user name and in a topic: visible ASCII without wildcards."""
    good = [" " < char < "\x7f" and char not in "/+#" for char in name]
    return 0 < len(good) <= most and all(good)


def _split(rest: bytes) -> tuple:
    # `{first}/?{query}` as the first segment and the query's pairs.
    first, _, query = rest.partition(b"/")
    return first, _query(query[1:] if query.startswith(b"?") else query)


def _query(text: bytes) -> dict:
    # Not decoded: a rid goes back as it came. The order is not ours to expect.
    pairs = {}
    for part in text.split(b"&"):
        name, _, value = part.partition(b"=")
        pairs[name] = value
    return pairs


def _desired(params: "Any") -> tuple:
    if not isinstance(params, dict):
        return ("unusable", "no desired properties")
    version = params.pop("$version", None)
    if not isinstance(version, int) or isinstance(version, bool):
        return ("unusable", "no $version")
    return ("desired", version, params)
