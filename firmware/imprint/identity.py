"""What was burned into this unit: parse it, check it, refuse it with a reason.

The tables, here and in `imprint.fields`, are literals on purpose: the host's tools read them out
of the files, so that the rule that refuses a bad identity at the bench is the very rule that the
board would have applied. A journey's own fields are a module of its own, since a board needs one.
Pure: the caller brings the bytes.
"""

import binascii

from micropython import const

from imprint import canonical
from imprint.errors import SetupError
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_BLOB_MAX = const(4000)  # bytes; what one page of NVS holds

# errors.py
_IDENTITY_MISSING = const(101)
_IDENTITY_DAMAGED = const(102)
_IDENTITY_ERROR = const(103)

# Each has a module of that name in imprint.fields, with "_" for "-".
JOURNEYS = ("aliyun", "enos-coap", "enos-gateway", "azure-dps", "azure-edge")

# Which characters a field of that kind may hold. None: any UTF-8.
KINDS = {
    "alnum": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "name": "-.0123456789:@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz",
    "id": "-.0123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz",
    "host": "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "base64": "+/0123456789=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "hex": "0123456789abcdef",
    "digits": "0123456789",
    "text": None,
    "int": None,
    "choice": None,
}

# What several journeys have; which of them is SHARES in the journey's module. A field is
#
#     name: (kind, least, most, secret, default)
#
# with lengths in bytes; for "int" the range of the value; for "choice" `least` is the tuple of
# choices. A field `X_sha256` stands for a blob X that lies beside the identity: it is its digest.
SHARED = {
    "wifi_ssid": ("text", 1, 32, 0, None),
    "wifi_password": ("text", 8, 63, 1, None),
    "ntp_host": ("host", 1, 253, 0, "pool.ntp.org"),
    "interval_s": ("int", 1, 86400, 0, 60),
    "host": ("host", 1, 253, 0, None),
    "port": ("int", 1, 65535, 0, 8883),
    # DER. The CA that the server is verified by; our own certificate (PEM, with its issuers after
    # it) and its key.
    "root_ca_sha256": ("hex", 64, 64, 0, None),
    "client_cert_sha256": ("hex", 64, 64, 0, None),
    "client_key_sha256": ("hex", 64, 64, 0, None),
}


class Identity:
    """One attribute for each field of the journey: the burned value, else its default, else None.

    Secret fields are `Secret`. Aliyun's `device_name` is never None: without one burned, it is
    the chip's MAC as 12 lower-case hex digits.
    """

    # Without a method on purpose: a function holds its module, and the tables of this one are
    # garbage once an identity is parsed (see app._forget). All journeys' fields stand here, for
    # the type checker; those of another journey are not there.
    journey: str
    wifi_ssid: str
    wifi_password: Secret | None
    ntp_host: str
    interval_s: int
    host: str | None
    port: int
    root_ca_sha256: str
    client_cert_sha256: str | None
    client_key_sha256: str | None
    # fields/aliyun.py
    product_key: str
    registration: str
    product_secret: Secret | None
    device_name: str
    device_secret: Secret | None
    client_id: str | None
    region: str
    instance_id: str | None
    sign_method: str
    secure_mode: int
    # fields/enos_coap.py
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
    # fields/enos_gateway.py
    certificate: str
    client_csr_sha256: str | None
    certificate_days: int | None
    api_host: str | None
    api_port: int
    access_key: str | None
    access_secret: Secret | None
    org_id: str | None
    subdevices_sha256: str | None
    subdevices2_sha256: str | None
    subdevices3_sha256: str | None
    subdevices4_sha256: str | None
    subdevice_registration: str
    subdevice_product_key: str | None
    subdevice_product_secret: Secret | None
    timezone: str
    # fields/azure_dps.py
    id_scope: str
    registration_id: str
    attestation: str
    symmetric_key: Secret | None
    sas_ttl_s: int
    # fields/azure_edge.py
    connection_string: Secret


def rules(journey: str) -> "tuple[Any, dict[str, tuple]]":
    """The module of that journey's fields, and all the fields that it has: its own and shared."""
    module: "Any" = __import__("imprint." + module_name(journey), None, None, ("FIELDS",))
    found = dict(module.FIELDS)
    for name in module.SHARES:
        if name not in found:
            found[name] = SHARED[name]
    return module, found


def module_name(journey: str) -> str:
    """Where that journey's fields are, below `imprint`."""
    return "fields." + journey.replace("-", "_")


def build(values: dict) -> Identity:
    """The identity that `values` give, which are not checked."""
    identity = Identity()
    identity.journey = values["journey"]
    fields = rules(identity.journey)[1]
    for name in fields:
        value = values.get(name, fields[name][4])
        if fields[name][3] and value is not None:
            value = Secret(value)
        setattr(identity, name, value)
    return identity


def parse(
    blob: bytes | None, digest: "Callable[[str], str | None]", unit_id: bytes
) -> Identity:
    """The identity in `blob`, checked by the tables.

    `digest(name)` gives the SHA-256 (hex) of the blob of that name that lies beside it, None where
    none does; `unit_id` is the chip's MAC. A field that is not in the tables is ignored: a newer
    host may have written it. Raises SetupError; `detail` names the field and the rule, never the
    value.
    """
    if blob is None:
        raise SetupError(_IDENTITY_MISSING)
    try:
        values = canonical.loads(blob, _BLOB_MAX)
    except ValueError:
        raise SetupError(_IDENTITY_DAMAGED, "not a JSON object")
    journey: "Any" = values.get("journey")
    _check(("choice", JOURNEYS, 0), "journey", journey)
    module, fields = rules(journey)
    for name in fields:
        if name in values:
            _check(fields[name], name, values[name])
    wanted = module.REQUIRED
    for need in module.NEEDS:
        if values.get(need[0]) == need[1]:
            wanted += module.NEEDS[need]
    for name in wanted:
        if name not in values:
            raise SetupError(_IDENTITY_ERROR, name + " is missing")
    for name in fields:
        if name in values and name.endswith("_sha256") and digest(name[:-7]) != values[name]:
            raise SetupError(_IDENTITY_DAMAGED, name[:-7] + " is not the one that is named")
    if "device_name" in fields and "device_name" not in values:
        values["device_name"] = binascii.hexlify(unit_id).decode()
    return build(values)


def _check(rule: tuple, name: str, value: "Any") -> None:
    kind, least, most = rule[:3]
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
