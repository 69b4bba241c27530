"""CoAP as the local EnOS speaks it: the codec, exchanges, blocks. Wire literals by RFC 7252."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imprint_tools.localcloud import coap_server as coap
from imprint_tools.localcloud.coap_codec import FormatError, Kind, Message, dump, parse
from imprint_tools.localcloud.coap_server import CoapServer, Limits, Request, Response
from imprint_tools.localcloud.enos.faults import EnosFaults

URI_PATH, BLOCK2, BLOCK1 = 11, 23, 27
GET_AB = Message(Kind.CON, coap.GET, 7, b"\x01", ((URI_PATH, b"a"), (URI_PATH, b"b")))


class Echo:
    """Answers with what came, and remembers it."""

    def __init__(self, answer: Response | None = None) -> None:
        self.requests: list[Request] = []
        self.answer = answer

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return self.answer or Response(coap.CHANGED, request.payload)


def serve(answer: Response | None = None, **options: object) -> tuple[CoapServer, Echo]:
    echo = Echo(answer)
    return CoapServer(echo, **options), echo  # type: ignore[arg-type]  # passed through


def ask(server: CoapServer, message: Message, now: float = 0.0) -> Message:
    """The one answer."""
    (datagram,) = server.receive(dump(message), now)
    return parse(datagram)


# -- the codec -----------------------------------------------------------------------------------

WIRE = [
    ("empty CON, a ping", "40000001", Message(Kind.CON, 0, 1)),
    ("reset", "70000001", Message(Kind.RST, 0, 1)),
    ("GET with token and path", "41010007 01 b161 0162", GET_AB),
    (
        "2.04 with option 2100 and payload",
        "6044 0001 e3 0727 2f782f ff 7b7d",
        Message(Kind.ACK, 0x44, 1, b"", ((2100, b"/x/"),), b"{}"),
    ),
    (
        "an option of 13 bytes and one of 269",
        "40010001 bd00" + "61" * 13 + "0e0000" + "62" * 269,
        Message(Kind.CON, 1, 1, b"", ((11, b"a" * 13), (11, b"b" * 269))),
    ),
]


@pytest.mark.parametrize(("name", "wire", "message"), WIRE, ids=[case[0] for case in WIRE])
def test_messages_are_these_bytes(name: str, wire: str, message: Message) -> None:
    """Both ways."""
    data = bytes.fromhex(wire.replace(" ", ""))
    assert parse(data) == message
    assert dump(message) == data


@pytest.mark.parametrize(
    ("wire", "reject"),
    [
        ("", None), ("400100", None), ("00010001", None), ("80010001", None),
        ("4f010001", 1), ("48010001aabb", 1), ("5f010001", None),
        ("40010001f0", 1), ("40010001d0", 1), ("40010001b5", 1),
        ("40010001ff", 1), ("41010001ffff", 1), ("40000001ff61", 1), ("41000001aa", 1),
        ("40010001b1ff", 1),
    ],
)  # fmt: skip
def test_what_is_not_coap_is_a_format_error(wire: str, reject: int | None) -> None:
    """Confirmable ones name the message id to reset; a Uri-Path that is no UTF-8 is one of them,
    and a header of another version is nobody's."""
    with pytest.raises(FormatError) as caught:
        parse(bytes.fromhex(wire))
    assert caught.value.reject == reject


def test_a_token_may_end_in_a_payload_marker() -> None:
    """It is a token, not a marker."""
    assert parse(bytes.fromhex("41010001ff")).token == b"\xff"


@given(st.binary(max_size=64))
def test_any_datagram_is_a_message_or_a_format_error(data: bytes) -> None:
    """And what was read can be written and is then read alike."""
    try:
        message = parse(data)
    except FormatError:
        return
    again = parse(dump(message))
    assert dataclasses.replace(again, options=()) == dataclasses.replace(message, options=())
    assert len(again.options) == len(message.options)


@given(st.lists(st.binary(max_size=64), max_size=5))
def test_any_datagrams_are_served(datagrams: list[bytes]) -> None:
    """At most one answer each, always a message; never an exception."""
    server, _ = serve()
    for data in datagrams:
        for answer in server.receive(data, 0.0):
            parse(answer)


# -- exchanges -----------------------------------------------------------------------------------


def test_a_confirmable_request_is_answered_in_its_acknowledgement() -> None:
    """Same message id, same token."""
    server, echo = serve(Response(coap.CONTENT, b"x", ((2100, b"/y"), (12, b"\x32"))))
    answer = ask(server, GET_AB)
    assert answer == Message(
        Kind.ACK, coap.CONTENT, 7, b"\x01", ((12, b"\x32"), (2100, b"/y")), b"x"
    )
    assert echo.requests == [Request(coap.GET, ("a", "b"), b"")]


def test_a_request_that_wants_no_confirmation_gets_an_answer_of_its_kind() -> None:
    """Under message ids of the server's own."""
    server, _ = serve()
    answers = [
        ask(server, dataclasses.replace(GET_AB, kind=Kind.NON, message_id=n)) for n in (7, 8)
    ]
    assert [answer.kind for answer in answers] == [Kind.NON] * 2
    assert answers[0].message_id != answers[1].message_id


def test_a_repeated_request_is_handled_once() -> None:
    """Within EXCHANGE_LIFETIME the same answer; after it the message id is new again."""
    server, echo = serve()
    first = ask(server, GET_AB, 0.0)
    assert ask(server, GET_AB, 246.0) == first
    assert (len(echo.requests), server.repeated) == (1, 1)
    ask(server, GET_AB, 248.0)
    assert len(echo.requests) == 2


def test_exchanges_are_remembered_in_bounds() -> None:
    """The oldest is forgotten first."""
    server, _ = serve(limits=Limits(exchanges=4))
    for number in range(100):
        ask(server, dataclasses.replace(GET_AB, message_id=number))
    assert len(server._exchanges) == 4


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        ("40000001", "70000001"), ("50000001", None), ("60000001", None), ("70000001", None),
        ("40450001", "70000001"), ("50450001", None), ("40e10001", "70000001"),
        ("4001", None), ("4f010001", "70000001"),
    ],
)  # fmt: skip
def test_what_is_no_request(wire: str, answer: str | None) -> None:
    """A ping, a stray response and a reserved class get a reset if they ask for an answer."""
    server, echo = serve()
    wanted = [] if answer is None else [bytes.fromhex(answer)]
    assert server.receive(bytes.fromhex(wire), 0.0) == wanted
    assert not echo.requests


@pytest.mark.parametrize(
    ("option", "code"),
    [(9, 0x82), (2101, 0x82), (35, 0xA5), (39, 0xA5), (2100, 0x44), (12, 0x44), (3, 0x44)],
)
def test_options_that_may_not_be_overlooked(option: int, code: int) -> None:
    """Unknown critical ones are 4.02, a proxy's 5.05; elective ones are no matter."""
    server, _ = serve()
    assert ask(server, Message(Kind.CON, coap.POST, 1, b"", ((option, b"h"),))).code == code


def test_an_unconfirmed_request_with_a_critical_option_is_ignored() -> None:
    """RFC 7252, 5.4.1."""
    server, _ = serve()
    assert not server.receive(dump(Message(Kind.NON, coap.GET, 1, b"", ((2101, b""),))), 0.0)


# -- blocks --------------------------------------------------------------------------------------


def block(number: int, more: bool, exponent: int) -> bytes:
    value = number << 4 | more << 3 | exponent
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def put(number: int, more: bool, exponent: int, payload: bytes, mid: int) -> Message:
    options = ((URI_PATH, b"a"), (BLOCK1, block(number, more, exponent)))
    return Message(Kind.CON, coap.POST, mid, b"", options, payload)


def test_a_request_is_put_together_from_blocks() -> None:
    """2.31 for each but the last, and the handler sees it once and whole."""
    server, echo = serve(Response(coap.CHANGED, b"ok"))
    body = bytes(range(40))
    answers = [ask(server, put(n, n < 2, 0, body[n * 16 : n * 16 + 16], n + 1)) for n in range(3)]
    assert [answer.code for answer in answers] == [coap.CONTINUE, coap.CONTINUE, coap.CHANGED]
    assert [answer.value(BLOCK1) for answer in answers] == [
        block(0, True, 0), block(1, True, 0), block(2, False, 0),
    ]  # fmt: skip
    assert echo.requests == [Request(coap.POST, ("a",), body)]


@pytest.mark.parametrize(
    ("blocks", "code"),
    [
        ([(1, True, 0, bytes(16))], 0x88),
        ([(0, True, 0, bytes(16)), (2, False, 0, bytes(1))], 0x88),
        ([(0, True, 0, bytes(15))], 0x80),
        ([(0, False, 0, bytes(17))], 0x80),
        ([(0, True, 7, bytes(16))], 0x80),
        ([(0, True, 6, bytes(1024)), (1, True, 6, bytes(1024))], 0x8D),
    ],
)
def test_blocks_that_do_not_fit(blocks: list[tuple[int, bool, int, bytes]], code: int) -> None:
    """4.08 out of order, 4.00 a wrong size, 4.13 too much."""
    server, echo = serve(limits=Limits(body=2000))
    for number, one in enumerate(blocks):
        answer = ask(server, put(*one, number))
    assert answer.code == code
    assert not echo.requests


def get(number: int | None, exponent: int, mid: int, code: int = coap.GET) -> Message:
    options: tuple[tuple[int, bytes], ...] = ((URI_PATH, b"a"),)
    if number is not None:
        options += ((BLOCK2, block(number, False, exponent)),)
    return Message(Kind.CON, code, mid, b"", options)


def test_a_long_answer_is_cut_into_blocks() -> None:
    """As large as the server wants or as small as the peer does; handled once."""
    body = bytes(range(100))
    server, echo = serve(Response(coap.CONTENT, body), limits=Limits(block_exponent=2))
    first = ask(server, get(None, 0, 1))
    assert (first.payload, first.value(BLOCK2)) == (body[:64], block(0, True, 2))
    last = ask(server, get(1, 2, 2))
    assert (last.payload, last.value(BLOCK2)) == (body[64:], block(1, False, 2))
    assert len(echo.requests) == 1
    small = [ask(server, get(n, 1, 10 + n)) for n in range(4)]
    assert b"".join(answer.payload for answer in small) == body
    assert ask(server, get(9, 1, 20)).code == coap.BAD_REQUEST
    assert ask(server, get(0, 6, 21)).value(BLOCK2) == block(0, True, 2)
    assert ask(server, get(1, 6, 22)).code == coap.BAD_REQUEST


def test_a_later_block_of_an_answer_that_nobody_asked_for() -> None:
    """A GET is handled for it; a POST cannot be."""
    server, echo = serve(Response(coap.CONTENT, bytes(40)))
    assert ask(server, get(1, 0, 1)).payload == bytes(16)
    assert ask(server, get(1, 0, 2, coap.POST)).code == 0x88
    assert len(echo.requests) == 1


# -- faults --------------------------------------------------------------------------------------


def test_faults_of_an_answer() -> None:
    """Silence, 5.00, another's token, half a payload: each as often as told, then sound again."""
    faults = EnosFaults(silent=1, server_error=1, wrong_token=1, truncated_json=1)
    server, echo = serve(Response(coap.CONTENT, b"{}{}"), faults=faults)
    assert server.receive(dump(GET_AB), 0.0) == []
    assert ask(server, GET_AB).code == coap.INTERNAL_SERVER_ERROR
    assert not echo.requests
    wrong = ask(server, GET_AB)
    assert (wrong.token, wrong.payload) == (b"\xfe", b"{}")
    assert ask(server, GET_AB).token == b"\x01"
    assert ask(server, dataclasses.replace(GET_AB, message_id=8)).payload == b"{}{}"
