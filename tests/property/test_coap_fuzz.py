"""Any datagram, at any time: a message, or it is dropped and counted; never another exception,
never more than a bounded number of bytes kept, never a request without an end.

Arbitrary bytes rarely get past the head of a message, so most are messages that were damaged, and
for the exchange those that nearly match what it waits for.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from imprint import errors, identity, ticks
from imprint.clouds import enos_coap, enos_coap_commands, enos_coap_login
from imprint.wire.coap import block
from imprint.wire.coap.codes import GET, POST, RECEIVE_MAX
from imprint.wire.coap.exchange import Exchange
from imprint.wire.coap.message import Message, decode
from imprint.wire.coap.params import Parameters

UNIT = identity.build({
    "journey": "enos-coap",
    "product_key": "pk",
    "device_key": "dk",
    "secure_mode": 3,
    "product_secret": "secret",
})  # fmt: skip

numbers = st.sampled_from([1, 4, 11, 12, 14, 23, 27, 60, 258, 2100, 2101, 2102]) | st.integers(
    0, 65535
)
codes = st.sampled_from([0, 1, 2, 0x44, 0x45, 0x5F, 0x84, 0x8D, 0xA0, 0xE1]) | st.integers(0, 255)
# What a Block option may say: small numbers, each size, more or not.
block_values = st.builds(
    block.pack, st.integers(0, 20), st.booleans(), st.integers(0, 7)
) | st.binary(max_size=4)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    message = Message(draw(codes), draw(st.binary(max_size=40)), draw(st.integers(0, 3)))
    message.message_id = draw(st.integers(0, 9) | st.integers(0, 65535))
    message.token = draw(st.sampled_from([b"", b"\x00", b"\x01"]) | st.binary(max_size=8))
    for number in draw(st.lists(numbers, max_size=4)):
        values = block_values if number in (23, 27) else st.binary(max_size=20)
        message.add(number, draw(values))
    return message


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    """Bytes; a message; or a message that was cut, spoilt or lengthened."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    wire = bytearray(draw(messages()).encode())
    if draw(st.booleans()):
        return bytes(wire)
    at = draw(st.integers(0, len(wire) - 1))
    match draw(st.integers(0, 2)):
        case 0:
            del wire[at:]
        case 1:
            wire[at] = draw(st.integers(0, 255))
        case 2:
            wire[at:at] = draw(st.binary(max_size=6))
    return bytes(wire)


@given(datagrams())
@example(b"\x40\x45\x00\x00" + b"\x00" * 1276)
@example(b"\x40\x45\x00\x00\xe0\xff\xff")
@example(b"\x40" * (RECEIVE_MAX + 1))
def test_decode(datagram: bytes) -> None:
    """What is read is written as the same message; what is not is a ValueError."""
    try:
        message = decode(datagram)
    except ValueError:
        return
    assert len(message.options) <= 32
    assert [number for number, _ in message.options] == sorted(n for n, _ in message.options)
    again = decode(message.encode())
    assert vars(again) == vars(message)


@given(messages())
def test_encode(message: Message) -> None:
    """What is written is read as it was, if it is a message at all."""
    wire = message.encode()
    if message.code == 0 and len(wire) != 4:
        return  # an empty message that is none: ours are never
    assert vars(decode(wire)) == vars(message)


steps = st.lists(
    st.tuples(st.just("receive"), datagrams())
    | st.tuples(st.just("wait"), st.integers(0, 300_000))
    | st.tuples(st.just("ask"), st.integers(0, 1))
    | st.tuples(st.just("cancel"), st.just(0)),
    max_size=40,
)


@given(steps, st.integers(0, 0x3FFFFFFF))
def test_exchange(orders: list[tuple[str, Any]], now: int) -> None:
    """Whatever comes, whenever: counted or answered, bounded, and every request has an end."""
    exchange = Exchange(Parameters(TOKEN_BYTES=1), bytes)  # chance is all zeros: easy to hit
    open_tokens: list[bytes] = []
    received = 0
    for order, argument in orders:
        match order:
            case "receive":
                exchange.receive(argument, now)
                received += 1
            case "wait":
                now = ticks.add(now, argument)
                exchange.handle_timer(now)
            case "ask":
                try:
                    open_tokens.append(exchange.request(Message(GET, b"", argument), now))
                except ValueError:
                    assert open_tokens  # NSTART
            case "cancel" if open_tokens:
                exchange.cancel(open_tokens.pop())
        sent = 0
        while (datagram := exchange.to_send(now)) is not None:
            decode(datagram)
            sent += 1
        assert sent <= 9
        open_tokens = [token for token in open_tokens if not ended(exchange, token)]
    assert exchange.malformed + exchange.duplicates + exchange.unexpected <= received
    assert len(exchange._seen) <= 16
    for _ in range(60):
        if not open_tokens:
            break
        wait = exchange.next_timeout(now)
        assert wait is not None and 0 <= wait <= 247_000
        now = ticks.add(now, wait)
        exchange.handle_timer(now)
        while exchange.to_send(now):
            pass
        open_tokens = [token for token in open_tokens if not ended(exchange, token)]
    assert not open_tokens and exchange.next_timeout(now) is None


def ended(exchange: Exchange, token: bytes) -> bool:
    try:
        return exchange.response(token) is not None
    except errors.ImprintError as error:
        assert error.code in (330, 331, 332)
        return True


@given(
    st.binary(max_size=300),
    st.integers(16, 64),
    st.integers(0, 2),
    st.lists(messages(), max_size=30),
    st.integers(0, 63),
)
def test_transfer(
    payload: bytes, whole: int, exponent: int, responses: list[Message], kindness: int
) -> None:
    """Whatever the responses are, and in some part what was asked for: a last one, or an error of
    the protocol, after a bounded number of requests that each fit into a message."""
    request = Message(POST, payload)
    dialogue = block.transfer(request, whole, exponent, 256)
    asked = next(dialogue)
    try:
        for turn in range(200):
            asked.encode()
            assert len(asked.payload) <= max(whole, 16 << exponent)
            if turn < len(responses) and kindness >> turn % 6 & 1:
                response = responses[turn]
            else:
                response = helpful(asked)
            asked = dialogue.send(response)
        raise AssertionError("no end")
    except StopIteration as end:
        assert len(end.value.payload) <= 256 + 40
    except errors.ProtocolError as error:
        assert error.code == 332


def helpful(asked: Message) -> Message:
    """The response of a server that has a body of 100 bytes in blocks of 16."""
    if (value := asked.get(27)) is not None and block.unpack(value)[1]:
        answer = Message(0x5F)
        answer.add(27, value)
        return answer
    at = block.unpack(asked.get(23) or b"")[0] * 16
    answer = Message(0x44, bytes(range(100))[at : at + 16])
    answer.add(23, block.pack(at // 16, at + 16 < 100, 0))
    return answer


values = st.none() | st.booleans() | st.integers() | st.text(max_size=140) | st.lists(st.text())
likely = {
    "id": st.just("1"),
    "code": st.sampled_from([200, 460, 723, 771, 500]),
    "message": st.text(max_size=100),
    "productKey": st.just("pk"),
    "deviceKey": st.just("dk"),
    "deviceSecret": st.text(alphabet="abc !", max_size=140),
}
flat = st.fixed_dictionaries({}, optional={name: v | values for name, v in likely.items()})
bodies = st.binary(max_size=100) | (
    flat
    | st.fixed_dictionaries({"params": flat | values}, optional={"id": values, "code": values})
    | st.fixed_dictionaries({"data": flat | values})
).map(lambda body: json.dumps(body).encode())


@given(codes, bodies)
def test_activation(code: int, payload: bytes) -> None:
    """A record with which the unit counts as activated, or one of the documented errors."""
    try:
        record = enos_coap_login.activation_answer(UNIT, code, payload)
    except errors.ImprintError as error:
        assert error.code in (410, 411, 412, 413)
        return
    assert not enos_coap_login.needs_activation(UNIT, record)
    assert len(enos_coap_login.psk_key(UNIT, record).reveal()) == 16


@given(codes, bodies)
def test_report_refused(code: int, payload: bytes) -> None:
    """None is for success only; everything else has one of the codes for it."""
    error = enos_coap.report_refused(code, payload, 7)
    assert error is not None or code >> 5 == 2
    assert error is None or error.code in (505, 506, 601, 602, 603, 604)


@given(
    st.lists(st.sampled_from(["", "topic", "sys", "pk", "dk", "thing", "service", "x"])).map(
        lambda segments: "/".join(segments).encode()
    )
    | st.just(b"/topic/sys/pk/dk/thing/service/measurepoint/set")
    | st.binary(max_size=40),
    bodies,
)
def test_commands(topic: bytes, payload: bytes) -> None:
    """A command is one of five things and never an exception, and each can be answered."""
    response = Message(0x44)
    response.add(2100, topic)
    named = enos_coap.command(UNIT, response)
    if named is None:
        return
    segments, inline = named
    assert inline is None and segments[:4] == ["topic", "sys", "pk", "dk"]
    what = enos_coap_commands.parse_command(segments, payload)
    assert what[0] in ("set", "get", "service", "other", "malformed")
    code, path, answer = enos_coap_commands.command_reply(segments, what[1])
    assert code == POST and path[-1].endswith("_reply") and json.loads(answer)["id"] == what[1]
