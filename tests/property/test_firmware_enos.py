"""Whatever the network sends, an EnOS edge's parsers give a result or their own error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imprint.clouds import enos_gateway, enos_mqtt, enos_rest
from imprint.drivers import modbus
from imprint.errors import ImprintError, ProtocolError
from imprint.wire import der, http
from imprint_tools.virtual import modbus as slaves

ROOM = 256

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=1024), st.lists(st.integers(1, 64), max_size=20))
def test_http(data: bytes, cuts: list[int]) -> None:
    """Any bytes, in any pieces: an answer within bounds, or a ProtocolError."""
    response = http.Response(ROOM)
    try:
        while data:
            size = cuts.pop() if cuts else len(data)
            response.feed(data[:size])
            data = data[size:]
        response.end()
    except ProtocolError:
        pass
    assert len(response.body) <= ROOM


@given(
    st.binary(max_size=ROOM),
    st.lists(st.integers(1, 50), min_size=1, max_size=20),
    st.booleans(),
    st.integers(1, 40),
)
def test_http_whole(body: bytes, sizes: list[int], chunked: bool, step: int) -> None:
    """What a server sends by the book comes out as it went in, however it is cut."""
    if chunked:
        framed, at = b"", 0
        for size in sizes:
            part = body[at : at + size]
            framed += b"%x\r\n%s\r\n" % (len(part), part) if part else b""
            at += size
        body = body[:at]
        data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
    else:
        data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    response = http.Response(ROOM)
    for at in range(0, len(data), step):
        response.feed(data[at : at + step])
    assert response.done and response.keep and bytes(response.body) == body


@given(st.sampled_from(["/sys/p/d/", "/ext/session/p/d/", ""]), st.text(), st.binary(max_size=200))
def test_downlink_of_bytes(head: str, tail: str, payload: bytes) -> None:
    """Any message is of one of the kinds that are documented."""
    topic = (head + tail).encode("utf-8", "surrogatepass")
    kinds = {"reply", "set", "get", "service", "state", "malformed", "other", "none"}
    assert enos_mqtt.downlink(topic, payload)[0] in kinds


@given(
    st.sampled_from([
        "thing/service/measurepoint/set", "thing/service/x", "combine/disable", "thing/delete",
        "combine/login/batch_reply", "thing/service/measurepoint/get",
    ]),
    json_values,
    json_values,
)  # fmt: skip
def test_downlink_of_json(tail: str, params: Any, number: Any) -> None:
    """The same for messages that are JSON, whatever their members are."""
    message = {"id": number, "params": params, "code": number, "data": params}
    enos_mqtt.downlink(f"/sys/p/d/{tail}".encode(), json.dumps(message).encode())
    enos_gateway.logged_in(params)
    enos_gateway.registered(params)


@given(
    st.integers(100, 599),
    st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode()),
)
def test_api_answers(status: int, body: bytes) -> None:
    """Any answer of the API is data or an error of ours; a date never breaks anything."""
    answer = (status, {"date": body.decode("latin-1")}, body)
    for read in (enos_rest.data, enos_rest.token):
        try:
            read(answer)
        except ImprintError as error:
            enos_rest.skewed(error, answer, 1_700_000_000_000)


@given(
    st.lists(
        st.tuples(
            st.none() | st.tuples(st.text("ab1", min_size=1), st.text("a-:@", min_size=1)),
            st.none() | st.text("abc_", min_size=1),
            st.dictionaries(st.text(), st.text() | st.integers() | st.booleans(), max_size=3),
        ),
        max_size=6,
    )
)
def test_report_there_and_back(said: list[tuple[Any, ...]]) -> None:
    """A report's entries and events are parted again as they were joined, whatever they hold."""
    lines = [
        enos_gateway.happening(name, (event, values), 5)
        if event
        else enos_gateway.entry(name, values, 5)
        for name, event, values in said
    ]
    events, rest = enos_gateway.happened(b"\n".join(lines))
    assert [(*name, tail, json.loads(params)) for name, tail, params in events] == [
        (*(name or (None, None)), f"thing/event/{event}/post", {"events": values, "time": 5})
        for name, event, values in said
        if event
    ]
    entries = [(name, values) for name, event, values in said if not event]
    assert rest == b"\n".join(enos_gateway.entry(*entry, 5) for entry in entries)
    if entries:
        assert len(json.loads(enos_gateway.params(rest))) == len(entries)


@given(json_values)
def test_api_data(data: Any) -> None:
    """Whatever stands for devices or a certificate is read, or refused as malformed."""
    for read in (enos_rest.devices_created, enos_rest.certificate_issued):
        try:
            read(data)
        except ProtocolError:
            pass


@given(st.binary(max_size=300))
def test_der(data: bytes) -> None:
    """Any bytes are a certificate, or refused."""
    for read in (der.validity, lambda d: der.is_for(d, d)):
        try:
            read(data)
        except (ValueError, IndexError):
            pass


@given(st.binary(max_size=64), st.integers(1, 247))
def test_modbus_answers(data: bytes, address: int) -> None:
    """Any bytes are an answer to a request, or one of Modbus's errors."""
    try:
        modbus.answer(address, b"\x03\0\0\0\1", data)
    except ImprintError as error:
        assert 250 <= error.code <= 253


@given(
    st.sampled_from(["u16", "s16", "u32", "s32", "u32r", "s32r"]),
    st.integers(0, 0xFFF0),
    st.integers(-(1 << 31), (1 << 32) - 1),
)
def test_modbus_there_and_back(kind: str, register: int, value: int) -> None:
    """What a master writes, an independent slave holds and gives back."""
    point = modbus.Point(f"p:h:{register}:{kind}")
    try:
        request = point.encode(value)
    except ValueError:
        return
    slave = slaves.Slave()
    frame = modbus.frame(7, request)
    assert slaves.crc(frame[:-2]) == frame[-2:]
    said = slaves.respond(slave, request)
    assert modbus.answer(7, request, modbus.frame(7, said)) == b""
    ask = bytes([3]) + register.to_bytes(2, "big") + point.size.to_bytes(2, "big")
    said = slaves.respond(slave, ask)
    assert point.decode(modbus.answer(7, ask, modbus.frame(7, said)), register) == value


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_a_head_is_one_head(text: str) -> None:
    """No path or header makes a second request out of one."""
    try:
        data = http.request("GET", "h", "/" + text, {"A": text})
    except ValueError:
        return
    assert data.count(b"\r\n\r\n") == 1 and data.endswith(b"\r\n\r\n")
    assert data.count(b"\n") == 4


def test_strategies_are_sound() -> None:
    """A redirect is the one answer that is refused for what it asks."""
    with pytest.raises(ProtocolError):
        http.Response(ROOM).feed(b"HTTP/1.1 302 Found\r\n\r\n")
