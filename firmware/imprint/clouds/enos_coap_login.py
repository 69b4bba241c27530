"""EnOS over CoAP, until a session is there: which device this is, its key, its activation. Pure.

In a session of mode 3 the device fetches its own secret. Inferred, where the documents leave it
open: any success code counts; the four fields are at the top, or under `params` or `data`; the
secret's encoding is UTF-8.
"""

import hashlib

from micropython import const

from imprint import canonical
from imprint.clouds.enos_coap import is_number, message_of, names, number_of
from imprint.errors import ImprintError, ProtocolError, SetupError, WeatherError
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.identity import Identity

_GET = const(1)  # wire/coap/codes.py

# Ceilings on what the network fills, in bytes.
_ANSWER_MAX = const(1024)
_ISSUED_MAX = const(128)  # SDK for C: 64

# errors.py
_IDENTITY_ERROR = const(103)
_DEVICE_KEY_MISMATCH = const(104)
_IMEI_INVALID = const(105)
_ACTIVATION_REFUSED = const(410)
_ACTIVATION_UNAVAILABLE = const(411)
_ACTIVATION_ANSWER_MALFORMED = const(412)
_ACTIVATION_ANSWER_FOREIGN = const(413)


def device_key(identity: "Identity", imei: str) -> str:
    """The device key of a unit whose modem has that IMEI; to be kept in `identity.device_key`.

    Where the identity says that the key is the IMEI, it need not be burned; if it is, it must be
    this one. Raises SetupError: it is another, or there is no modem; ProtocolError: that is no
    IMEI.
    """
    burned = identity.device_key
    if identity.device_key_source != "imei":
        return burned or ""  # parse() has seen to it that it is there
    if identity.modem == "none":
        raise SetupError(_IDENTITY_ERROR, "device_key_source: no modem")
    if len(imei) != 15 or imei.strip("0123456789") or _luhn(imei):
        raise ProtocolError(_IMEI_INVALID)
    if burned and burned != imei:
        raise SetupError(_DEVICE_KEY_MISMATCH, "burned %s, modem %s" % (burned, imei))
    return imei


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


def psk_identity(identity: "Identity", credential: dict | None) -> bytes:
    """`product key,device key,mode,lifetime`: what the handshake names the key by."""
    mode = 3 if needs_activation(identity, credential) else 2
    return b"%s,%s,%d,%d" % (
        identity.product_key.encode(),
        (identity.device_key or "").encode(),
        mode,
        identity.lifetime_s,
    )


def psk_key(identity: "Identity", credential: dict | None) -> Secret:
    """The 16 bytes that prove it."""
    if identity.secure_mode == 2:
        secret = identity.device_secret.reveal()
    elif credential is None or needs_activation(identity, credential):
        secret = identity.product_secret.reveal()
    else:
        secret = credential["device_secret"].encode()
    return derive_psk(secret)


def derive_psk(secret: bytes) -> Secret:
    """Bytes 9 to 24, counted from 1, of the secret's SHA-256."""
    return Secret(hashlib.sha256(secret).digest()[8:24])


def report_due_ms(identity: "Identity", transmit_span_ms: int) -> int:
    """How long after the start of the last answered request the next report is due, at the latest.

    That is the unit's own interval, or less where the cloud would take it for offline: it does so
    when nothing was exchanged for the lifetime, counted (it is not said from where) at the
    earliest from our first transmission. So the report leaves `transmit_span_ms`
    (MAX_TRANSMIT_SPAN) for its retransmissions, though no more than half of the lifetime. No
    message for keeping alive is documented, and a report is as good: one message a lifetime.
    """
    lifetime_ms = identity.lifetime_s * 1000
    silence_ms = lifetime_ms - min(transmit_span_ms, lifetime_ms // 2)
    return min(identity.interval_s * 1000, silence_ms)


# --- Activation


def activation_request(identity: "Identity") -> tuple:
    """(code, path's segments), to be asked in a session of mode 3."""
    return _GET, ["topic", "ext", "session"] + names(identity) + ["thing", "activate", "info"]


def activation_answer(identity: "Identity", code: int, payload: bytes) -> dict:
    """The credential in the answer, as the record for the vault: product_key, device_key and
    device_secret.

    It counts once the vault has it; then the unit makes a new session, in mode 2. Raises
    SetupError (refused, or of another device), WeatherError (not now), ProtocolError (malformed).
    """
    if code >> 5 != 2:
        raise _refusal(number_of(code), "")
    try:
        answer = canonical.loads(payload, _ANSWER_MAX)
    except ValueError:
        raise ProtocolError(_ACTIVATION_ANSWER_MALFORMED, "not a JSON object")
    info = answer
    for name in ("params", "data"):
        if isinstance(answer.get(name), dict):
            info = answer[name]
    said = answer.get("code", 200)
    if said != 200 and "deviceSecret" not in info:
        if not is_number(said):
            raise ProtocolError(_ACTIVATION_ANSWER_MALFORMED, "code")
        raise _refusal(said, message_of(answer))
    if (
        info.get("productKey") != identity.product_key
        or info.get("deviceKey") != identity.device_key
    ):
        raise SetupError(_ACTIVATION_ANSWER_FOREIGN)
    secret = info.get("deviceSecret")
    if not isinstance(secret, str) or not 1 <= len(secret) <= _ISSUED_MAX or not _visible(secret):
        raise ProtocolError(_ACTIVATION_ANSWER_MALFORMED, "deviceSecret")
    return {
        "product_key": identity.product_key,
        "device_key": identity.device_key,
        "device_secret": secret,
    }


def _refusal(number: int, detail: str) -> ImprintError:
    # As with a report's: what is the server's own trouble, or too often, passes.
    if number == 429 or 500 <= number < 600:
        return WeatherError(_ACTIVATION_UNAVAILABLE, detail, number)
    return SetupError(_ACTIVATION_REFUSED, detail, number)


def _visible(text: str) -> bool:
    # By bytes: MicroPython keeps each character that a str gives out, for ever.
    for byte in text.encode():
        if not 0x21 <= byte <= 0x7E:
            return False
    return True


def _luhn(digits: str) -> int:
    # 3GPP TS 23.003, B.2: 0 when the last digit is the check digit of those before it.
    total = 0
    for at, digit in enumerate(digits.encode()):
        doubled = digit - 0x30 << (at & 1)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10
