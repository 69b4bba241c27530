"""The journey `azure-edge`: to a hub, or to a gateway before it, by a connection string. Pure.

The string's grammar is that of the vendor's Python SDK, the strictest of its own:

    pair *( ";" pair )        pair = key "=" value, split at the first "="

with HostName and DeviceId, ModuleId for a module, GatewayHostName for a device behind a gateway,
and either SharedAccessKey or, with the certificate that lies beside the identity, `x509=true`. A
gateway takes modules by key alone. What the documents spell otherwise (`Hostname`, `DeviceID`) is
refused there and here.
"""

from micropython import const

from imprint.clouds import azure_hub as hub
from imprint.errors import SetupError
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.identity import Identity

SESSION = "azure_session"  # of imprint.net
PASSING = "clouds.azure_sas "  # needed for a login: see app

_KEYS = (
    "HostName", "DeviceId", "ModuleId", "SharedAccessKey", "SharedAccessKeyName",
    "SharedAccessSignature", "GatewayHostName", "x509",
)  # fmt: skip

_IDENTITY_ERROR = const(103)  # errors.py


def endpoint(identity: "Identity", _record: "dict | None") -> hub.Endpoint:
    """Where the connection string leads. Raises SetupError; `detail` never has a value."""
    pairs = parse(str(identity.connection_string.reveal(), "utf-8"))
    key = None
    if "SharedAccessKey" in pairs:
        from imprint.clouds import azure_sas

        key = Secret(pairs["SharedAccessKey"])
        azure_sas.unpack(key)
    elif not identity.client_cert_sha256 or not identity.client_key_sha256:
        _fail("says x509, and client_cert or client_key is missing")
    return hub.Endpoint(
        pairs["HostName"],
        pairs["DeviceId"],
        key,
        pairs.get("GatewayHostName"),
        pairs.get("ModuleId"),
    )


def parse(text: str) -> "dict[str, str]":
    """The pairs of a device's or module's connection string, checked. Raises SetupError."""
    pairs = _split(text)
    for name in ("HostName", "DeviceId"):
        if name not in pairs:
            _fail("has no " + name)
    for name in ("HostName", "GatewayHostName", "DeviceId", "ModuleId"):
        if name in pairs and not hub.fits(pairs[name], 253 if name.endswith("Name") else 128):
            _fail("has a " + name + " that cannot be")
    for name in ("SharedAccessKeyName", "SharedAccessSignature"):
        if name in pairs:
            _fail("has " + name + ", not a device's")
    if ("SharedAccessKey" in pairs) == ("x509" in pairs):
        _fail("has not one of SharedAccessKey and x509")
    if pairs.get("x509", "true") != "true":
        _fail("has x509 other than true")
    if "ModuleId" in pairs and "x509" in pairs:
        _fail("is a module's, which takes no x509")
    return pairs


def _split(text: str) -> "dict[str, str]":
    pairs: "dict[str, str]" = {}
    for part in text.split(";"):
        name, mark, value = part.partition("=")
        if not mark:
            _fail("has a part that is not key=value")
        if name not in _KEYS:
            _fail("has a key that is not known")
        if name in pairs:
            _fail("has " + name + " twice")
        if not value:
            _fail("has " + name + " without a value")
        pairs[name] = value
    return pairs


def _fail(why: str) -> None:
    raise SetupError(_IDENTITY_ERROR, "connection_string " + why)
