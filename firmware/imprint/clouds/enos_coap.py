"""Envision EnOS over CoAP and DTLS with a pre-shared key: what to say, how to read it. Pure.

Two ways to a session:

    mode 2    one device one secret: the PSK is derived from the device's secret
    mode 3    one product one secret: a session with a PSK derived from the product's secret, in
              which the device fetches its own (activation), and mode 2 ever after

The DTLS handshake is the login; a path is `/topic` and the MQTT topic; a payload is MQTT's. No
vendor's SDK speaks CoAP, so all is by the vendor's documents ("CoAP DTLS", editions 2.1 to 2.4),
and what they leave open is inferred (enos_coap_login.py, too):

    port                5684, RFC 7252's; the identity may name another
    events, attributes  at the paths that the rule gives (enos_coap_events.py)
    2.04 with a reply   accepted at CoAP's level only: its `code` counts as well
    4.01                the session is no longer authenticated: a new handshake
    Content-Format      none is sent; Block1 as RFC 7959 has it, for what exceeds a message of 1 KB
"""

from micropython import const

from imprint import canonical
from imprint.errors import ImprintError, SetupError, WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.identity import Identity
    from imprint.wire.coap.message import Message

SESSION = "coap_session"  # of imprint.net
# Needed once, or seldom: see app
PASSING = (
    "clouds.enos_coap_login clouds.enos_coap_commands clouds.enos_coap_events net.coap_commands "
)

# EnOS takes messages of 1 KB at most, head and options included: what a request of the longest
# path leaves for its payload, and the largest block below that (2 ** (5 + 4) bytes).
WHOLE_MAX = const(768)
BLOCK_EXPONENT = const(5)

_POST = const(2)  # wire/coap/codes.py

# EnOS's options, all elective. 2101, a signature, belongs to its way without DTLS.
_COMMAND_TOPIC = const(2100)
_COMMAND_PAYLOAD = const(2102)

# Ceilings on what the network fills, in bytes.
_ANSWER_MAX = const(1024)
_SEGMENTS_MAX = const(16)

_VERSION = "1.0"

# errors.py
_SESSION_EXPIRED = const(505)
_FORBIDDEN = const(506)
_REPORT_REFUSED = const(601)
_REPORT_DEFERRED = const(602)
_DEVICE_DISABLED = const(603)
_REPORT_UNANSWERED = const(604)


# --- Reports


def measurepoints(
    identity: "Identity", msg_id: int, values: dict, time_ms: int | None = None
) -> tuple:
    """(code, segments, payload) of a report.

    `values` maps measurepoints to a value or to {"value", "quality": 0 to 9}; `time_ms` since 1970
    is when they were taken, else the cloud's clock counts. TypeError, ValueError: a value that
    JSON has no form for (NaN, infinity, bytes).
    """
    params = with_time({"measurepoints": values}, time_ms)
    return post(identity, msg_id, ("measurepoint", "post"), params)


def report_path(identity: "Identity") -> tuple:
    """(code, segments) of a report, for a payload that was made before."""
    return _POST, _path(identity, ("measurepoint", "post"))


def report_refused(code: int, payload: bytes, msg_id: int) -> ImprintError | None:
    """The error for the response to the report `msg_id`; None: accepted.

    WeatherError: keep the report, and for SESSION_EXPIRED make a new session first; for
    REPORT_UNANSWERED CoAP has accepted it, but what should say so too is not its reply.
    SetupError: it would be refused again.
    """
    number = number_of(code)
    detail = ""
    if code >> 5 == 2:
        if not payload:
            return None
        try:
            reply = canonical.loads(payload, _ANSWER_MAX)
        except ValueError:
            return WeatherError(_REPORT_UNANSWERED, "not JSON")
        if reply.get("id", str(msg_id)) != str(msg_id):
            return WeatherError(_REPORT_UNANSWERED, "another message's reply")
        number = reply.get("code", 200)
        if number == 200 or not is_number(number):
            return None
        detail = message_of(reply)
    elif number == 401:
        return WeatherError(_SESSION_EXPIRED, number=number)
    elif number == 403:
        return SetupError(_FORBIDDEN, number=number)
    if number in (705, 723):
        return SetupError(_DEVICE_DISABLED, detail, number)
    if number == 429 or 500 <= number < 600:
        return WeatherError(_REPORT_DEFERRED, detail, number)
    return SetupError(_REPORT_REFUSED, detail, number)


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
        or segments[3:5] != names(identity)
        or not 6 <= len(segments) <= _SEGMENTS_MAX
        or "" in segments[1:]
    ):
        return None
    return segments[1:], response.get(_COMMAND_PAYLOAD)


# --- What its other parts use, too: enos_coap_*.py


def names(identity: "Identity") -> list:
    """Product key and device key, as paths have them."""
    return [identity.product_key, identity.device_key]


def post(identity: "Identity", msg_id: int, tail: tuple, params: dict) -> tuple:
    """(code, segments, payload) of a message to the topic that ends in `tail`."""
    payload = canonical.dumps({
        "id": str(msg_id),
        "method": "thing." + ".".join(tail),
        "params": params,
        "version": _VERSION,
    })  # fmt: skip
    return _POST, _path(identity, tail), payload


def _path(identity: "Identity", tail: tuple) -> list:
    return ["topic", "sys"] + names(identity) + ["thing"] + list(tail)


def with_time(params: dict, time_ms: int | None) -> dict:
    """`params`, and when that was, if it is known."""
    if time_ms is not None:
        params["time"] = time_ms
    return params


def number_of(code: int) -> int:
    """4.04 as people and HTTP write it: 404."""
    return (code >> 5) * 100 + (code & 0x1F)


def is_number(value: object) -> bool:
    """Whether a JSON value is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def message_of(reply: dict) -> str:
    """What the reply says to people, if anything."""
    message = reply.get("message")
    return message[:80] if isinstance(message, str) else ""
