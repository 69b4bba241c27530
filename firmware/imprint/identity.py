"""What was burned into this unit: parse it, check it, refuse it with a reason.

The tables are literals on purpose, with their types in comments: the host's tools read them out of
this file, so that the rule that refuses a bad identity at the bench is the very rule that the
board would have applied.
Pure: the caller brings the bytes.
"""

import binascii

from micropython import const

from imprint import canonical
from imprint.errors import SetupError
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_BLOB_MAX = const(4000)  # bytes; what one page of NVS holds

# errors.py
_IDENTITY_MISSING = const(101)
_IDENTITY_DAMAGED = const(102)
_IDENTITY_ERROR = const(103)

# Which characters a field of that kind may hold. None: any UTF-8.
KINDS = {
    "alnum": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "name": "-.0123456789:@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz",
    "host": "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "hex": "0123456789abcdef",
    "digits": "0123456789",
    "text": None,
    "int": None,
    "choice": None,
}

# field: (kind, least, most, secret). Lengths in bytes; for "int" the range of the value;
# for "choice" `least` is the tuple of choices.
FIELDS = {  # type: dict[str, tuple[str, Any, int, int]]
    "journey": ("choice", ("aliyun", "enos-coap"), 0, 0),
    "wifi_ssid": ("text", 1, 32, 0),
    "wifi_password": ("text", 8, 63, 1),
    "ntp_host": ("host", 1, 253, 0),
    "interval_s": ("int", 1, 86400, 0),
    "root_ca_sha256": ("hex", 64, 64, 0),
    # Aliyun IoT Platform: a device name is 4 to 32 letters, digits and -_@.: (RegisterDevice).
    "product_key": ("alnum", 1, 32, 0),
    "registration": ("choice", ("regnwl", "register", "none"), 0, 0),
    "product_secret": ("alnum", 1, 64, 1),
    "device_name": ("name", 4, 32, 0),
    "device_secret": ("alnum", 1, 64, 1),
    "client_id": ("name", 1, 64, 0),
    "region": ("host", 1, 32, 0),
    "instance_id": ("host", 1, 63, 0),
    "host": ("host", 1, 253, 0),
    "port": ("int", 1, 65535, 0),
    "sign_method": ("choice", ("hmacmd5", "hmacsha1", "hmacsha256"), 0, 0),
    "secure_mode": ("choice", (-2, 2), 0, 0),
    # EnOS: the device key is free of "," and "/", which separate what it stands in; SDK for C: 64.
    "device_key": ("name", 1, 64, 0),
    "device_key_source": ("choice", ("burned", "imei"), 0, 0),
    "lifetime_s": ("int", 30, 86400, 0),
    # CoAP's ACK_TIMEOUT: the first wait for an answer, before the request is repeated.
    "ack_timeout_s": ("int", 1, 60, 0),
    # The modem's dialect; "none": the chip does DTLS itself, over Wi-Fi.
    "modem": ("choice", ("nrf91", "bg95", "sequans", "sara", "none"), 0, 0),
    # The one that is offered, where the modem does not offer all and choosing is not left to it.
    "suite": ("choice", ("psk-aes128-ccm-8", "psk-aes128-cbc-sha256"), 0, 0),
    "apn": ("host", 1, 100, 0),
    "sim_pin": ("digits", 4, 8, 1),
    "rat": ("choice", ("nb-iot", "lte-m"), 0, 0),
    "band": ("int", 1, 88, 0),
}

# (journey, field): the rule where it is not the one above.
RULES = {  # type: dict[tuple[str, str], tuple[str, Any, int, int]]
    ("enos-coap", "secure_mode"): ("choice", (2, 3), 0, 0),
}

# journey: (required, optional)
JOURNEYS = {  # type: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    "aliyun": (
        ("journey", "product_key", "registration", "root_ca_sha256", "wifi_ssid"),
        (
            "wifi_password", "ntp_host", "interval_s", "product_secret", "device_name",
            "device_secret", "client_id", "region", "instance_id", "host", "port",
            "sign_method", "secure_mode",
        ),
    ),
    "enos-coap": (
        ("journey", "product_key", "secure_mode", "device_key_source", "host", "modem"),
        (
            "device_key", "device_secret", "product_secret", "port", "lifetime_s", "interval_s",
            "ack_timeout_s", "suite", "apn", "sim_pin", "rat", "band", "wifi_ssid",
            "wifi_password",
        ),
    ),
}  # fmt: skip

# (journey, field, value): what else that value asks for.
NEEDS = {  # type: dict[tuple[str, str, Any], tuple[str, ...]]
    ("aliyun", "registration", "regnwl"): ("product_secret",),
    ("aliyun", "registration", "register"): ("product_secret",),
    ("aliyun", "registration", "none"): ("device_name", "device_secret"),
    ("enos-coap", "secure_mode", 2): ("device_secret",),
    ("enos-coap", "secure_mode", 3): ("product_secret",),
    ("enos-coap", "device_key_source", "burned"): ("device_key",),
    ("enos-coap", "modem", "none"): ("wifi_ssid",),
}

# What a field, or (journey, field), is worth when it is absent; None where nothing stands here.
DEFAULTS = {  # type: dict[str | tuple[str, str], Any]
    "ntp_host": "pool.ntp.org",
    "interval_s": 60,
    "region": "cn-shanghai",
    "port": 8883,
    "sign_method": "hmacsha256",
    "secure_mode": 2,
    "lifetime_s": 3600,
    "ack_timeout_s": 20,
    "rat": "nb-iot",
    # EnOS does not name its DTLS port: this one is RFC 7252's.
    ("enos-coap", "port"): 5684,
    ("enos-coap", "interval_s"): 900,
}


class Identity:
    """One attribute for each of FIELDS: the burned value, else its default, else None.

    Secret fields are `Secret`. `device_name` is never None: without one burned, it is the chip's
    MAC as 12 lower-case hex digits.
    """

    # Without a method on purpose: a function holds its module, and the tables of this one are
    # garbage once an identity is parsed (see app._forget).
    journey: str
    wifi_ssid: str
    wifi_password: Secret | None
    ntp_host: str
    interval_s: int
    root_ca_sha256: str
    product_key: str
    registration: str
    product_secret: Secret | None
    device_name: str
    device_secret: Secret | None
    client_id: str | None
    region: str
    instance_id: str | None
    host: str | None
    port: int
    sign_method: str
    secure_mode: int
    device_key: str | None
    device_key_source: str
    lifetime_s: int
    ack_timeout_s: int
    modem: str
    suite: str | None
    apn: str | None
    sim_pin: Secret | None
    rat: str
    band: int | None


def build(values: dict) -> Identity:
    """The identity that `values` give, which are not checked."""
    identity = Identity()
    journey: "Any" = values.get("journey")
    for name in FIELDS:
        default = DEFAULTS.get((journey, name), DEFAULTS.get(name))
        value = values.get(name, default)
        if FIELDS[name][3] and value is not None:
            value = Secret(value)
        setattr(identity, name, value)
    return identity


def parse(blob: bytes | None, root_ca_sha256: str | None, unit_id: bytes) -> Identity:
    """The identity in `blob`, checked by the tables above.

    `root_ca_sha256` is the digest (hex) of the root CA that lies beside it, None where none does;
    `unit_id` the chip's MAC. A field that is not in the tables is ignored: a newer host may have
    written it. Raises SetupError; `detail` names the field and the rule, never the
    value.
    """
    if blob is None:
        raise SetupError(_IDENTITY_MISSING)
    try:
        values = canonical.loads(blob, _BLOB_MAX)
    except ValueError:
        raise SetupError(_IDENTITY_DAMAGED, "not a JSON object")
    journey: "Any" = values.get("journey")
    _check(FIELDS["journey"], "journey", journey)
    required, optional = JOURNEYS[journey]
    for name in required + optional:
        if name in values:
            _check(RULES.get((journey, name), FIELDS[name]), name, values[name])
    for name in required:
        _demand(values, name)
    for name in required + optional:
        for needed in NEEDS.get((journey, name, values.get(name)), ()):
            _demand(values, needed)
    if "root_ca_sha256" in required and values["root_ca_sha256"] != root_ca_sha256:
        raise SetupError(_IDENTITY_DAMAGED, "root_ca is not the one that is named")
    if "device_name" not in values:
        values["device_name"] = binascii.hexlify(unit_id).decode()
    return build(values)


def _demand(values: dict, name: str) -> None:
    if name not in values:
        raise SetupError(_IDENTITY_ERROR, name + " is missing")


def _check(rule: "Any", name: str, value: "Any") -> None:
    kind, least, most, _ = rule
    allowed = KINDS[kind]
    fault = ""
    if kind == "choice":
        if value not in least or isinstance(value, (bool, float)):
            fault = "is not one of its choices"
    elif kind == "int":
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            fault = "is not a number from %d to %d" % (least, most)
    elif not isinstance(value, str) or not least <= _length(value) <= most:
        fault = "is not text of %d to %d bytes" % (least, most)
    elif allowed and value.strip(allowed):  # at both ends: nothing is left of what is all right
        fault = "has a character that is not " + kind
    if fault:
        raise SetupError(_IDENTITY_ERROR, name + " " + fault)


def _length(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeError:  # half a surrogate pair: no UTF-8 for it, and no length that fits
        return -1
