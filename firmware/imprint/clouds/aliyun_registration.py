"""Aliyun's dynamic registration: ask for a credential once, and read what is pushed. Pure.

A module of its own because a unit needs it once in its life: it leaves the memory before the
first login. aliyun.py tells of the ways to register and names the sources.
"""

from micropython import const

from imprint import canonical
from imprint.clouds.aliyun import client_id, connect
from imprint.errors import ImprintError, SetupError, WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from imprint.identity import Identity
    from imprint.wire.mqtt import ConnectRequest

# The cloud pushes the credential right after CONNACK, and closes the connection 15 s later
# (132111). A device that has heard nothing by then does not know whether a slot was used.
WAIT_MS = const(15_000)

# Ceilings on what the network fills, in bytes. The SDK's own buffers are 64 for token and secret;
# the longest answer with both keys is below 400.
_ANSWER_MAX = const(1024)
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


def request(identity: "Identity", rand: "Callable[[int], bytes]") -> "ConnectRequest":
    """The registration CONNECT (132111). `rand(n)` gives n random bytes.

    The vendor's documents and SDKs differ on securemode (2 or -2), hence `secure_mode`.
    """
    from imprint import sign

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
    return connect(identity, client_id(identity), extension, password, clean_session=True)


def refused(identity: "Identity", connack_code: int) -> ImprintError:
    """The error for the CONNACK of a registration, other than 0.

    Which code the platform gives for the switch, an unknown name, an activated name or the sixth
    ClientID is not documented; 4 covers them all, and so does any code that is not listed.
    """
    if connack_code == 3:
        return WeatherError(_REGISTRATION_UNAVAILABLE, number=connack_code)
    code = _REGNWL_REFUSED if identity.registration == "regnwl" else _REGISTER_REFUSED
    if connack_code == 2:
        code = _REGISTRATION_REJECTED
    return SetupError(code, number=connack_code)


def answer(identity: "Identity", topic: bytes, payload: bytes) -> dict | None:
    """The credential that `payload` carries, as the record for the vault; None: not the answer.

    A record has product_key and device_name, and either client_id and device_token (regnwl) or
    device_secret (register): told apart by what came, since the documents disagree on the topic.
    Raises SetupError: it is malformed, or for another device.
    """
    if topic not in (b"/ext/regnwl", b"/ext/register"):
        return None
    try:
        push = canonical.loads(payload, _ANSWER_MAX)
    except ValueError:
        raise SetupError(_REGISTRATION_ANSWER_MALFORMED, "not a JSON object")
    if (
        push.get("productKey") != identity.product_key
        or push.get("deviceName") != identity.device_name
    ):
        raise SetupError(_REGISTRATION_ANSWER_FOREIGN)
    record = {"product_key": identity.product_key, "device_name": identity.device_name}
    if "deviceToken" in push:
        record["client_id"] = _issued(push, "clientId")
        record["device_token"] = _issued(push, "deviceToken")
    else:
        record["device_secret"] = _issued(push, "deviceSecret")
    return record


def _issued(push: dict, name: str) -> str:
    value = push.get(name)
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= _ISSUED_MAX
        or value.strip(_ISSUED)  # at both ends: nothing is left of what is all right
    ):
        raise SetupError(_REGISTRATION_ANSWER_MALFORMED, name)
    return value
