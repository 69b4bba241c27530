"""Envision EnOS over CoAP and DTLS with a pre-shared key: what to say, how to read it. Pure.

Two ways to a session:

    mode 2    one device one secret: the PSK is derived from the device's secret
    mode 3    one product one secret: a session with a PSK derived from the product's secret, in
              which the device fetches its own (activation), and mode 2 ever after

The DTLS handshake is the login; a path is `/topic` and the MQTT topic; a payload is MQTT's. No
vendor's SDK speaks CoAP, so all is by the vendor's documents ("CoAP DTLS", editions 2.1 to 2.4),
and what they leave open is inferred:

    port                5684, RFC 7252's; the identity may name another
    secret's encoding   UTF-8
    events, attributes  at the paths that the rule gives
    activation          any success code; the four fields at the top, or under `params` or `data`
    2.04 with a reply   accepted at CoAP's level only: its `code` counts as well
    4.01                the session is no longer authenticated: a new handshake
    Content-Format      none is sent; Block1 as RFC 7959 has it, for what exceeds a message of 1 KB
"""

import hashlib

from micropython import const

from imprint import canonical
from imprint.errors import ImprintError, ProtocolError, SetupError, WeatherError
from imprint.secret import Secret
from imprint.wire.coap.message import GET, POST

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.identity import Identity
    from imprint.wire.coap.message import Message

SESSION = "coap_session"  # of imprint.net
PASSING = ()  # modules of ours that are needed once: see app

# EnOS takes messages of 1 KB at most, head and options included: what a request of the longest
# path leaves for its payload, and the largest block below that (2 ** (5 + 4) bytes).
WHOLE_MAX = const(768)
BLOCK_EXPONENT = const(5)

# EnOS's options, all elective. 2101, a signature, belongs to its way without DTLS.
_COMMAND_TOPIC = const(2100)
_COMMAND_PAYLOAD = const(2102)

# Ceilings on what the network fills, in bytes.
_ANSWER_MAX = const(1024)
_COMMAND_MAX = const(2048)
_ISSUED_MAX = const(128)  # SDK for C: 64
_SEGMENTS_MAX = const(16)

_VERSION = "1.0"

# errors.py
_DEVICE_KEY_MISMATCH = const(104)
_IMEI_INVALID = const(105)
_ACTIVATION_REFUSED = const(410)
_ACTIVATION_UNAVAILABLE = const(411)
_ACTIVATION_ANSWER_MALFORMED = const(412)
_ACTIVATION_ANSWER_FOREIGN = const(413)
_SESSION_EXPIRED = const(505)
_FORBIDDEN = const(506)
_REPORT_REFUSED = const(601)
_REPORT_DEFERRED = const(602)
_DEVICE_DISABLED = const(603)


# --- Who the unit is


def device_key(identity: "Identity", imei: str) -> str:
    """The device key of a unit whose modem has that IMEI; to be kept in `identity.device_key`.

    Where the identity says that the key is the IMEI, it need not be burned; if it is, it must be
    this one. Raises SetupError: it is another; ProtocolError: that is no IMEI.
    """
    burned = identity.device_key
    if identity.device_key_source != "imei":
        return burned or ""  # parse() has seen to it that it is there
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


# --- Activation


def activation_request(identity: "Identity") -> tuple:
    """(code, path's segments), to be asked in a session of mode 3."""
    return GET, ["topic", "ext", "session"] + _names(identity) + ["thing", "activate", "info"]


def activation_answer(identity: "Identity", code: int, payload: bytes) -> dict:
    """The credential in the answer, as the record for the vault: product_key, device_key and
    device_secret.

    It counts once the vault has it; then the unit makes a new session, in mode 2. Raises
    SetupError (refused, or of another device), WeatherError (not now), ProtocolError (malformed).
    """
    if code >> 5 == 5:
        raise WeatherError(_ACTIVATION_UNAVAILABLE, number=_number(code))
    if code >> 5 != 2:
        raise SetupError(_ACTIVATION_REFUSED, number=_number(code))
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
        if not _is_number(said):
            raise ProtocolError(_ACTIVATION_ANSWER_MALFORMED, "code")
        raise SetupError(_ACTIVATION_REFUSED, _message(answer), said)
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


# --- Reports


def measurepoints(
    identity: "Identity", msg_id: int, values: dict, time_ms: int | None = None
) -> tuple:
    """(code, segments, payload) of a report.

    `values` maps measurepoints to a value or to {"value", "quality": 0 to 9}; `time_ms` since 1970
    is when they were taken, else the cloud's clock counts. TypeError, ValueError: a value that
    JSON has no form for (NaN, infinity, bytes).
    """
    params = _with_time({"measurepoints": values}, time_ms)
    return _post(identity, msg_id, ("measurepoint", "post"), params)


def report_path(identity: "Identity") -> tuple:
    """(code, segments) of a report, for a payload that was made before."""
    return POST, _path(identity, ("measurepoint", "post"))


def event(
    identity: "Identity", msg_id: int, event_id: str, fields: dict, time_ms: int | None = None
) -> tuple:
    """The same of an event of the thing model."""
    params = _with_time({"events": fields}, time_ms)
    return _post(identity, msg_id, ("event", event_id, "post"), params)


def attributes(identity: "Identity", msg_id: int, values: dict) -> tuple:
    """The same of attributes."""
    return _post(identity, msg_id, ("attribute", "update"), {"attributes": values})


def report_refused(code: int, payload: bytes) -> ImprintError | None:
    """The error for the response to a report or to a command's reply; None: accepted.

    WeatherError: keep the report, and for SESSION_EXPIRED make a new session first. SetupError: it
    would be refused again.
    """
    number = _number(code)
    detail = ""
    if code >> 5 == 2:
        if not payload:
            return None
        try:
            reply = canonical.loads(payload, _ANSWER_MAX)
        except ValueError:
            return None  # CoAP has accepted it, and what is said beyond that is not documented
        number = reply.get("code", 200)
        if number == 200 or not _is_number(number):
            return None
        detail = _message(reply)
    elif number == 401:
        return WeatherError(_SESSION_EXPIRED, number=number)
    elif number == 403:
        return SetupError(_FORBIDDEN, number=number)
    if number in (705, 723):
        return SetupError(_DEVICE_DISABLED, detail, number)
    if number == 429 or 500 <= number < 600:
        return WeatherError(_REPORT_DEFERRED, detail, number)
    return SetupError(_REPORT_REFUSED, detail, number)


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


# --- Commands. The cloud keeps them until the unit says something: any response may name one.


def command(identity: "Identity", response: "Message") -> tuple | None:
    """(segments, payload or None) of the command that waits for this unit, None when none does.

    With a payload of None it has to be fetched: GET the segments. A path that is not below one of
    this unit's own topics is none.
    """
    topic = response.get(_COMMAND_TOPIC)
    if topic is None:
        return None
    try:
        segments = str(topic, "utf-8").split("/")
    except UnicodeError:
        return None
    if (
        segments[:3] != ["", "topic", "sys"]
        or segments[3:5] != _names(identity)
        or not 6 <= len(segments) <= _SEGMENTS_MAX
        or "" in segments[1:]
    ):
        return None
    return segments[1:], response.get(_COMMAND_PAYLOAD)


def parse_command(segments: list, payload: bytes) -> tuple:
    """What the cloud wants, as one of

        ("set", id: str, params: dict)          measurepoints to values
        ("get", id: str, names: list)           reply with their values
        ("service", id: str, name: str, params) a service of the thing model
        ("other", id: str)                      reply 1101: nobody handles it
        ("malformed", id: str)                  reply 1200: it cannot be parsed

    Never raises.
    """
    msg_id = ""
    try:
        message = canonical.loads(payload, _COMMAND_MAX)
        if isinstance(message.get("id"), str):
            msg_id = message["id"][:64]
        params = message.get("params")
    except ValueError:
        return ("malformed", msg_id)
    tail = segments[4:]
    if tail[:2] != ["thing", "service"]:
        return ("other", msg_id)
    tail = tail[2:]
    if tail == ["measurepoint", "set"] and isinstance(params, dict):
        return ("set", msg_id, params)
    if tail == ["measurepoint", "get"] and isinstance(params, list):
        return ("get", msg_id, params)
    if len(tail) == 1 and isinstance(params, dict):
        return ("service", msg_id, tail[0], params)
    return ("malformed", msg_id)


def command_reply(
    segments: list, msg_id: str, code: int = 200, data: dict | None = None, message: str = ""
) -> tuple:
    """(code, segments, payload) that answers the command of those segments.

    Codes: 200, 1101 nobody handles it, 1102 the handler failed, 1200 not parsed, own from 2000.
    """
    payload = canonical.dumps({
        "code": code,
        "data": data or {},
        "id": msg_id,
        "message": message,
    })  # fmt: skip
    return POST, segments[:-1] + [segments[-1] + "_reply"], payload


def _names(identity: "Identity") -> list:
    return [identity.product_key, identity.device_key]


def _post(identity: "Identity", msg_id: int, tail: tuple, params: dict) -> tuple:
    payload = canonical.dumps({
        "id": str(msg_id),
        "method": "thing." + ".".join(tail),
        "params": params,
        "version": _VERSION,
    })  # fmt: skip
    return POST, _path(identity, tail), payload


def _path(identity: "Identity", tail: tuple) -> list:
    return ["topic", "sys"] + _names(identity) + ["thing"] + list(tail)


def _with_time(params: dict, time_ms: int | None) -> dict:
    if time_ms is not None:
        params["time"] = time_ms
    return params


def _number(code: int) -> int:
    # 4.04 as people and HTTP write it: 404.
    return (code >> 5) * 100 + (code & 0x1F)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _message(reply: dict) -> str:
    message = reply.get("message")
    return message[:80] if isinstance(message, str) else ""


def _visible(text: str) -> bool:
    for char in text:
        if not "!" <= char <= "~":
            return False
    return True


def _luhn(digits: str) -> int:
    # 3GPP TS 23.003, B.2: 0 when the last digit is the check digit of those before it.
    total = 0
    for at, digit in enumerate(digits):
        doubled = int(digit) << (at & 1)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10
