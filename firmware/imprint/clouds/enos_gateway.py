"""The edge gateway of Envision EnOS: sub-devices in its own session. Pure.

What the edge says of itself is enos_mqtt.py's. For a sub-device, in this order:

    created   over REST (enos_rest.py) or thing/device/register; or it exists already
    bound     thing/topo/add, signed with the sub-device's own secret
    online    combine/login, one or many at a time, signed with its own secret, or in mode 3 with
              its product's, whereupon the reply brings its own
    reported  thing/measurepoint/post/batch of the edge, an entry for each

Sources: the vendor's documents (topology management, batch connect, device log) and its SDKs for
Java, Python and C. What they leave open is inferred: registering does not bind; a batch's client
id is the edge's device key; 401, which nobody documents, is a sub-device that is not online.
"""

import json

from micropython import const

from imprint import canonical
from imprint.clouds import enos_mqtt as mqtt
from imprint.clouds.enos_mqtt import issued, sign
from imprint.errors import ImprintError, SetupError, WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

SESSION = "enos_session"  # of imprint.net
REST = "imprint.clouds.enos_rest"
HUB = mqtt  # what the edge says of itself
PASSING = (  # needed while devices are created or a certificate is due: see app
    "clouds.enos_rest net.enos_api net.enos_certificate net.enos_creation net.http_client "
    "wire.der wire.http "
)

LOGIN = "combine/login"
LOGIN_BATCH = "combine/login/batch"
LOGOUT = "combine/logout"
TOPOLOGY_ADD = "thing/topo/add"
TOPOLOGY_DELETE = "thing/topo/delete"
REGISTER = "thing/device/register"
POST = "thing/measurepoint/post"
RESUME = "thing/measurepoint/resume"
BATCH = "/batch"  # behind one of these

# Beside `params` of a batch. A late one may be of sub-devices that are not online at the moment.
LATE = b',"allowOfflineSubDevice":true,"skipInvalidMeasurepoints":true'
NOW = b',"skipInvalidMeasurepoints":true'

_METHOD = "sha256"
_EVENT = b"!"  # begins an event among a report's entries

# What a reply has to fit into; more would be thrown away unread. Per sub-device, beside its names:
# asset id, secret, and JSON's own.
_REPLY_MAX = const(3500)  # bytes
_REPLY_EACH = const(140)

# errors.py
_SUBDEVICE_ABSENT = const(520)
_SUBDEVICE_DISABLED = const(521)
_SUBDEVICE_FOREIGN = const(522)
_SUBDEVICE_SECRET_WRONG = const(523)
_SUBDEVICE_CERTIFICATE = const(524)
_SUBDEVICE_NOT_ACTIVATED = const(525)
_SUBDEVICE_KIND_WRONG = const(526)
_SUBDEVICE_REFUSED = const(527)
_SUBDEVICE_DEFERRED = const(528)
_SUBDEVICE_EXISTS = const(529)
_SUBDEVICE_OFFLINE = const(530)
_SUBDEVICES_TOO_MANY = const(531)

_CODES = {
    401: _SUBDEVICE_OFFLINE,
    705: _SUBDEVICE_ABSENT,
    719: _SUBDEVICE_KIND_WRONG,
    723: _SUBDEVICE_DISABLED,
    740: _SUBDEVICE_FOREIGN,
    741: _SUBDEVICE_KIND_WRONG,
    742: _SUBDEVICE_SECRET_WRONG,
    745: _SUBDEVICE_CERTIFICATE,
    746: _SUBDEVICE_CERTIFICATE,
    770: _SUBDEVICE_NOT_ACTIVATED,
    771: _SUBDEVICE_NOT_ACTIVATED,
    791: _SUBDEVICE_KIND_WRONG,
    11702: _SUBDEVICE_EXISTS,
    11739: _SUBDEVICES_TOO_MANY,
}


def refusal(code: int, message: str, device_key: str = "") -> ImprintError:
    """The error for what the cloud says of a sub-device, or of a request about several."""
    detail = (device_key + ": " + message).strip(": ")
    if code == 429 or 500 <= code < 600:
        return WeatherError(_SUBDEVICE_DEFERRED, detail, code)
    return SetupError(_CODES.get(code, _SUBDEVICE_REFUSED), detail, code)


def share(lengths: "Any") -> int:
    """How many sub-devices one request may name, so that there is room for what the cloud says of
    them; `lengths` gives for each how long its two keys are together. At least one."""
    room, count = _REPLY_MAX, 0
    for length in lengths:
        room -= _REPLY_EACH + length
        if room < 0 and count:
            break
        count += 1
    return count


# --- What we say; each gives params as JSON


def login(name: tuple, client_id: str, secret: bytes, time_ms: int, mode: int = 2) -> bytes:
    """Of LOGIN, for one sub-device. In mode 3 the secret is its product's."""
    return b"{%s}" % (_signed(name, client_id, secret, time_ms) + _mode(mode))


def login_batch(client_id: str, time_ms: int, entries: "Any") -> bytes:
    """Of LOGIN_BATCH; `entries` gives (name, secret, mode) for each."""
    body, timestamp = bytearray(), str(time_ms)
    for name, secret, mode in entries:
        signature = sign(client_id, name[0], name[1], timestamp, secret)
        body += b"," if body else b""
        body += b'{%s,"sign":"%s"%s}' % (_keys(name), signature.encode(), _mode(mode))
    head = b'{"clientId":"%s","signMethod":"%s","subDevices":[' % (
        client_id.encode(), _METHOD.encode(),
    )  # fmt: skip
    return head + body + b'],"timestamp":"%s"}' % timestamp.encode()


def named(name: tuple) -> bytes:
    """Of LOGOUT, one sub-device."""
    return b"{%s}" % _keys(name)


def topology_add(client_id: str, time_ms: int, entries: "Any") -> bytes:
    """Of TOPOLOGY_ADD; `entries` gives (name, its own secret) for each."""
    body = bytearray()
    for name, secret in entries:
        body += b"," if body else b""
        body += b"{%s}" % _signed(name, client_id, secret, time_ms)
    return b"[" + body + b"]"


def topology_delete(names: "Any") -> bytes:
    """Of TOPOLOGY_DELETE."""
    return b"[%s]" % b",".join([b"{%s}" % _keys(name) for name in names])


def register(names: "Any", timezone: str) -> bytes:
    """Of REGISTER: create devices of these names, (product key, device key) each."""
    body = bytearray()
    for name in names:
        body += b"," if body else b""
        body += b'{%s,"deviceName":{"defaultValue":"%s"},"timezone":%s}' % (
            _keys(name), name[1].encode(), json.dumps(timezone).encode(),
        )  # fmt: skip
    return b"[" + body + b"]"


# --- Reports. An entry is JSON in a line, so that what is refused can be parted again.


def entry(name: "tuple | None", values: dict, time_ms: int) -> bytes:
    """One sub-device's values; of the edge itself where `name` is None. TypeError, ValueError: a
    value that JSON has no form for."""
    found = {"measurepoints": values, "time": time_ms}
    if name:
        found["productKey"], found["deviceKey"] = name
    return canonical.dumps(found)


def happening(name: "tuple | None", event: tuple, time_ms: int) -> bytes:
    """An event, (identifier, fields), of that sub-device or of the edge itself; for the same body.
    TypeError, ValueError as of `entry`, or an identifier that no topic can have in it."""
    event_id, fields = event
    for char in "/+#\0":
        if char in event_id:
            raise ValueError("event " + event_id)
    found = {"event": event_id, "fields": fields, "time": time_ms}
    if name:
        found["productKey"], found["deviceKey"] = name
    return _EVENT + canonical.dumps(found)


def happened(body: bytes) -> tuple:
    """([(name, tail of the topic, params)] of the events in a body, the body without them)."""
    if body[:1] != _EVENT and b"\n" + _EVENT not in body:
        return (), body
    events, entries = [], []
    for part in body.split(b"\n"):
        if part[:1] != _EVENT:
            entries.append(part)
            continue
        found = canonical.loads(part[1:], len(part))
        name = (found.get("productKey"), found.get("deviceKey"))
        events.append((name,) + mqtt.event(found["event"], found["fields"], found["time"]))
    return events, b"\n".join(entries)


def parts(body: bytes) -> "list[bytes]":
    """The entries of a body that was joined with b"\\n"."""
    return body.split(b"\n")


def params(body: bytes) -> bytes:
    """The params of a batch out of such a body."""
    return b"[" + body.replace(b"\n", b",") + b"]"


def of_whom(part: bytes) -> tuple:
    """(product key, device key) of an entry; two None: the edge's own."""
    found = canonical.loads(part, len(part))
    return found.get("productKey"), found.get("deviceKey")


# --- What the cloud says


def logged_in(data: "Any") -> tuple:
    """([(product key, device key, secret or "")], [(product key, device key)]) of those who are
    online and those who are not, by the reply of LOGIN or LOGIN_BATCH."""
    if not isinstance(data, dict):
        return [], []
    done = data.get("loginedSubDevices")
    failed = data.get("failedSubDevices")
    return _devices([data] if "productKey" in data else done), [
        found[:2] for found in _devices(failed)
    ]


def registered(data: "Any") -> list:
    """[(product key, device key, secret)] by the reply of REGISTER."""
    return _devices(data)


def _devices(found: "Any") -> list:
    devices = []
    for item in found if isinstance(found, list) else ():
        name = (item.get("productKey"), item.get("deviceKey")) if isinstance(item, dict) else ()
        if name and isinstance(name[0], str) and isinstance(name[1], str):
            devices.append(name + (issued(item.get("deviceSecret")),))
    return devices


def _keys(name: tuple) -> bytes:
    # Nothing in a key has to be escaped: see identity.KINDS.
    return b'"deviceKey":"%s","productKey":"%s"' % (name[1].encode(), name[0].encode())


def _signed(name: tuple, client_id: str, secret: bytes, time_ms: int) -> bytes:
    timestamp = str(time_ms)
    signature = sign(client_id, name[0], name[1], timestamp, secret)
    return b'"clientId":"%s",%s,"sign":"%s","signMethod":"%s","timestamp":"%s"' % (
        client_id.encode(), _keys(name), signature.encode(), _METHOD.encode(), timestamp.encode(),
    )  # fmt: skip


def _mode(mode: int) -> bytes:
    return b"" if mode == 2 else b',"secureMode":"%d"' % mode
