"""Any bytes: what the firmware makes of Azure's answers is a result or a documented error, and the
board and the local cloud read each other's topics alike."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from imprint import canonical, errors
from imprint.clouds import azure_dps, azure_dps_registration, azure_hub
from imprint.identity import build
from imprint.secret import Secret
from imprint.wire import percent
from imprint_tools.localcloud.azure import names

UNIT = build({
    "journey": "azure-dps",
    "id_scope": "0ne00123456",
    "registration_id": "unit-1",
    "attestation": "x509",
})  # fmt: skip
POINT = azure_hub.Endpoint("h.example", "unit-1", Secret("A" * 44))

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def json_of(likely: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional={n: v | values for n, v in likely.items()})


STATES = st.sampled_from(["assigned", "assigning", "disabled", "failed", "unassigned"])
ANSWERS = json_of({
    "status": STATES,
    "operationId": st.text(max_size=12),
    "errorCode": st.integers(400_000, 600_000),
    "message": st.text(),
    "registrationState": json_of({
        "status": STATES,
        "assignedHub": st.sampled_from(["h.example", "", "a/b"]),
        "deviceId": st.sampled_from(["unit-1", "", "a b", "a#"]),
        "errorCode": st.integers(),
        "errorMessage": st.text(),
    }),
}).map(lambda value: json.dumps(value).encode())  # fmt: skip


@given(
    st.tuples(
        st.sampled_from(["200", "202", "401", "404", "409", "429", "503", "0", "x", ""]),
        st.sampled_from(["?$rid=1", "?$rid=1&retry-after=3", "?retry-after=x&$rid=1", "", "?"]),
    ).map(lambda parts: "$dps/registrations/res/{}/{}".format(*parts).encode())
    | st.binary(max_size=40),
    ANSWERS | st.binary(max_size=200),
)  # fmt: skip
def test_an_answer_of_dps(topic: bytes, payload: bytes) -> None:
    """A hub that can be logged in to, a wait that ends, "disabled", None, or a known error."""
    try:
        found = azure_dps_registration.answer(UNIT, 1, topic, payload)
    except errors.ImprintError as error:
        assert 420 <= error.code <= 426 and len(error.detail) <= 80
        return
    if found is None:
        return
    assert found[0] in ("assigned", "again", "disabled")
    if found[0] == "assigned":
        point = azure_dps.endpoint(UNIT, found[1])
        assert point is not None
        request = azure_hub.login(point, 8883, 1_893_456_000, 3600)
        assert request.username.count(b"/") == 2 and request.username.isascii()
    if found[0] == "again":
        assert 1 <= found[1] <= 86_400
        azure_dps_registration.question(UNIT, 2, found[2] or "")


@given(
    st.sampled_from([
        b"$iothub/twin/res/200/?$rid=1",
        b"$iothub/twin/PATCH/properties/desired/?$version=2",
        b"$iothub/methods/POST/m/?$rid=1",
        b"devices/unit-1/messages/devicebound/%24.mid=1",
    ]) | st.binary(max_size=60)
    | st.binary(max_size=20).map(lambda end: b"$iothub/methods/POST/" + end)
    | st.binary(max_size=20).map(lambda end: b"devices/unit-1/messages/devicebound/" + end),
    st.binary(max_size=100)
    | json_of({"$version": st.integers(), "desired": values}).map(
        lambda value: json.dumps(value).encode()
    ),
)  # fmt: skip
@example(b"$iothub/methods/POST/%/?$rid=1", b"")
@example(b"$iothub/methods/POST/%-1/?$rid=1", b"")
def test_downlink(topic: bytes, payload: bytes) -> None:
    """A downlink is one of six things and never an exception."""
    what = azure_hub.downlink(POINT, topic, payload)
    assert what[0] in ("twin", "desired", "method", "message", "unusable", "other")
    if what[0] == "method":
        reply = azure_hub.method_reply(what[2], 200)
        assert reply.startswith(b"$iothub/methods/res/200/?$rid=")
    assert azure_hub.twin(payload)[0] in ("desired", "unusable")


@given(st.text(max_size=40))
def test_percent_encoding(text: str) -> None:
    """What was encoded comes back, and has nothing in it that a topic could not carry."""
    quoted = percent.quote(text)
    assert percent.unquote(quoted.encode()) == text
    assert not set(quoted) - set(percent._UNRESERVED + "%")


@given(st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=4))
def test_the_cloud_reads_our_properties(properties: dict[str, str]) -> None:
    """What the board puts into a topic is what the local hub takes out of it."""
    topic = azure_hub.telemetry_topic(POINT, azure_hub.bag(properties)).decode()
    head, _, bag = topic.rpartition("/")
    assert head == "devices/unit-1/messages/events"
    assert names.parse_bag(bag) == properties


@given(values)
def test_any_json_value(value: object) -> None:
    """A method's payload may be any JSON value, and reads as it was written."""
    text = json.dumps(value).encode()
    if b"NaN" not in text and b"Infinity" not in text:
        assert canonical.value(text, len(text)) == value
    for torn in (text[:-1], text + b",1"):
        try:
            canonical.value(torn, 1000)
        except ValueError:
            pass
