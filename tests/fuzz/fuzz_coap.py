"""Whatever datagrams come: read or a ValueError; counted or answered; every request has an end.

And what is read is written as the same message. `make fuzz`; or with PYTHONPATH as there:
python tests/fuzz/fuzz_coap.py [libFuzzer's options] [a saved input].
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["imprint"]):
    from imprint import ticks
    from imprint.errors import ImprintError, ProtocolError
    from imprint.wire.coap import block
    from imprint.wire.coap.codes import GET, POST
    from imprint.wire.coap.exchange import Exchange
    from imprint.wire.coap.message import Message, decode
    from imprint.wire.coap.params import Parameters

DATAGRAM_MAX = 1400
REPLIES_MAX = 9
SEEN_MAX = 16
BODY_MAX = 256


def read(datagram: bytes) -> Message | None:
    try:
        message = decode(datagram)
    except ValueError:
        return None
    assert vars(decode(message.encode())) == vars(message)
    return message


def ended(exchange: Exchange, token: bytes) -> bool:
    try:
        return exchange.response(token) is not None
    except ImprintError as error:
        assert error.code in (330, 331, 332), error.code
        return True


def exchange_input(data: atheris.FuzzedDataProvider) -> None:
    """A request, and datagrams of which some fit it."""
    exchange = Exchange(Parameters(TOKEN_BYTES=1), bytes)  # chance is all zeros: easy to hit
    now = data.ConsumeIntInRange(0, 0x3FFFFFFF)
    token = exchange.request(Message(GET, b"", data.ConsumeIntInRange(0, 1)), now)
    received = 0
    while data.remaining_bytes() and received < 60:
        datagram = bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 80)))
        if data.ConsumeBool():  # a header that fits
            datagram = bytes((0x40 | datagram[0] & 0x31 | 1 if datagram else 0x41,)) + datagram[1:]
        read(datagram)
        exchange.receive(datagram, now)
        received += 1
        now = ticks.add(now, data.ConsumeIntInRange(0, 20_000))
        exchange.handle_timer(now)
        sent = 0
        while (reply := exchange.to_send(now)) is not None:
            assert read(reply) is not None
            sent += 1
        assert sent <= REPLIES_MAX
        if ended(exchange, token):
            return
    assert exchange.malformed + exchange.duplicates + exchange.unexpected <= received
    assert len(exchange._seen) <= SEEN_MAX
    for _ in range(20):
        if ended(exchange, token):
            return
        wait = exchange.next_timeout(now)
        assert wait is not None and 0 <= wait <= 247_000
        now = ticks.add(now, wait)
        exchange.handle_timer(now)
        while exchange.to_send(now):
            pass
    raise AssertionError("no end")


def transfer_input(data: atheris.FuzzedDataProvider) -> None:
    """A transfer in blocks, answered by whatever can be read."""
    body = bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 200)))
    whole, exponent = data.ConsumeIntInRange(16, 64), data.ConsumeIntInRange(0, 2)
    dialogue = block.transfer(Message(POST, body), whole, exponent, BODY_MAX)
    asked = next(dialogue)
    try:
        for _ in range(200):
            asked.encode()
            assert len(asked.payload) <= max(whole, 16 << exponent)
            response = read(bytes(data.ConsumeBytes(data.ConsumeIntInRange(4, 60))))
            if response is None:
                response = Message(0x44, b"x" * 16)
            for number in (23, 27):
                value = asked.get(number)
                if value is not None and response.get(number) is None and data.ConsumeBool():
                    response.add(number, value)
            asked = dialogue.send(response)
        raise AssertionError("no end")
    except StopIteration as end:
        assert len(end.value.payload) <= BODY_MAX + 60
    except ProtocolError as error:
        assert error.code == 332


def one_input(raw: bytes) -> None:
    read(raw[:DATAGRAM_MAX])
    data = atheris.FuzzedDataProvider(raw)
    (exchange_input if data.ConsumeBool() else transfer_input)(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
