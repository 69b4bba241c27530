"""Whatever a peer sends to the local cloud: a result or the documented refusal, nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from imprint_tools.localcloud import packets
from imprint_tools.localcloud.aliyun import alink, auth, topics
from imprint_tools.localcloud.aliyun.config import REFUSALS
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

PK, DN = "pk", "press-07"

# Characters that mean something to the grammar, among all others.
TEXT = st.text(st.one_of(st.sampled_from("|,=&/+#{}"), st.characters()))
PAIRS = st.dictionaries(
    st.sampled_from(["securemode", "signmethod", "authType", "random", "timestamp", "_ss"]),
    st.one_of(st.sampled_from(["2", "-2", "3", "hmacmd5", "hmacsha256", "regnwl"]), TEXT),
)
LIKE_A_CLIENT_ID = st.builds(
    lambda cid, pairs: f"{cid}|{','.join(f'{k}={v}' for k, v in pairs.items())}|", TEXT, PAIRS
)
CLIENT_ID = st.one_of(TEXT, LIKE_A_CLIENT_ID)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
ENVELOPE = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.integers().map(str), JSON),
        "params": st.one_of(st.dictionaries(st.text(), JSON), JSON),
        "method": st.one_of(st.just("thing.event.property.post"), JSON),
        "sys": JSON,
        "code": JSON,
    },
)
PAYLOAD = st.one_of(
    st.binary(), JSON.map(json.dumps).map(str.encode), ENVELOPE.map(json.dumps).map(str.encode)
)
FRAME = st.builds(
    lambda first, body: bytes([first]) + _length(len(body)) + body,
    st.one_of(
        st.integers(0, 255),
        st.sampled_from([0x10, 0x30, 0x32, 0x3A, 0x40, 0x82, 0xA2, 0xC0, 0xE0]),
    ),
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=100).map(lambda tail: b"\x00\x04MQTT\x04" + tail),
        st.binary(max_size=100).map(lambda tail: b"\x00\x01t" + tail),
    ),
)


def _length(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 | 0x80, value // 128])


@given(CLIENT_ID, TEXT, st.binary())
def test_any_client_id_is_read_or_refused_with_a_reason_that_has_a_code(
    client_id: str, username: str, password: bytes
) -> None:
    """Any clientId, username and password: admitted or a Refusal of the table."""
    try:
        client = auth.parse_client_id(client_id)
        device_name, product_key = auth.parse_username(username)
        check = auth.check_registration if client.auth == auth.REGNWL else auth.check_login
        check(client, device_name, product_key, Secret("secret"), Secret(password))
    except Refusal as refusal:
        assert refusal.reason in REFUSALS


@given(PAYLOAD)
@example(b"[" * 100_000)
@example(b'{"id":"1","params":{"a":1e999}}')
@example(b'{"id":"1","params":{"a":' + b"9" * 5000 + b"}}")
def test_any_payload_is_a_request_or_an_error_with_a_code(payload: bytes) -> None:
    """Any payload: points that JSON can hold, or 460 or 6207, and a reply that is JSON."""
    try:
        request = alink.parse_request(payload, "thing.event.property.post")
        points = alink.points(request, 1_700_000_000_000)
        json.dumps(points, allow_nan=False)
        message_id, code = request.message_id, alink.OK
    except alink.AlinkError as error:
        assert error.code in (alink.PARAMETER_ERROR, alink.NOT_JSON)
        message_id, code = error.message_id, error.code
    assert json.loads(alink.reply(message_id, code))["id"] == message_id


@given(PAYLOAD)
def test_any_payload_is_a_reply_or_an_error(payload: bytes) -> None:
    """A device's reply: an id of digits and a number, or an AlinkError."""
    try:
        message_id, code = alink.parse_reply(payload)
        assert message_id.isdigit()
        assert type(code) is int
    except alink.AlinkError:
        pass


@given(st.one_of(st.binary(max_size=300), FRAME))
def test_any_bytes_are_a_packet_or_one_of_two_errors(data: bytes) -> None:
    """The broker's first line of defence: nothing but its own errors, nothing kept."""

    async def run() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        try:
            packets.decode(await packets.read_frame(reader, 200))
        except (
            packets.MalformedPacketError,
            packets.ProtocolLevelError,
            asyncio.IncompleteReadError,
        ):
            pass

    asyncio.run(run())


@given(TEXT)
def test_no_topic_outside_a_devices_own_is_allowed(topic: str) -> None:
    """What may be used names the device, or is its product's broadcast."""
    if topics.may_publish(topic, PK, DN, topics.USER_TOPICS):
        assert f"{PK}/{DN}" in topic
    if packets.valid_filter(topic) and topics.may_subscribe(topic, PK, DN, topics.USER_TOPICS):
        assert f"{PK}/{DN}" in topic or topic.startswith(f"/broadcast/{PK}/")


@given(st.lists(st.sampled_from(["a", "b", "", "+"])), st.lists(st.sampled_from(["a", "b", ""])))
def test_a_filter_without_hash_matches_level_by_level(wanted: list[str], topic: list[str]) -> None:
    """A second, naive reading of the standard agrees."""
    expected = len(wanted) == len(topic) and all(
        w in ("+", t) for w, t in zip(wanted, topic, strict=False)
    )
    if wanted and topic:
        assert packets.matches("/".join(wanted), "/".join(topic)) is expected
