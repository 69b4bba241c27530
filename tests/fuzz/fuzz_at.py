"""Whatever a modem says, and when: every dialogue ends, with a result or an `imprint.errors`.

And in bounded time, without a secret in an error, with bounded queues. `make fuzz`; or
with PYTHONPATH as there: python tests/fuzz/fuzz_at.py [libFuzzer's options] [a saved input].
"""

from __future__ import annotations

import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["imprint"]):
    from imprint import ticks
    from imprint.errors import ImprintError
    from imprint.modem import cme, dialects
    from imprint.modem.dialects import band, bg95, nrf91, nrf91_slm, sara, sequans, status, udp
    from imprint.modem.engine import Engine
    from imprint.secret import Secret

DIALECTS = [bg95, nrf91, sara, sequans, udp]
assert len(DIALECTS) == len(dialects.NAMES) and cme and band  # all of it, and instrumented
KEY = Secret(b"CANARY-KEY-16-by")
WORDS = [
    b"\r\nOK\r\n", b"\r\nERROR\r\n", b"\r\n+CME ERROR: 10\r\n", b"\r\n+CME ERROR: SIM busy\r\n",
    b"\r\nNO CARRIER\r\n", b"\r\nSEND OK\r\n", b"\r\nCONNECT\r\n", b"\r\n> ", b"\r\n@", b"> ",
    b"+CMEE: 1\r\n", b"+CFUN: 1\r\n", b"+CEREG: 5\r\n", b"+CEREG: 2,1\r\n", b"+CPIN: READY\r\n",
    b"+CGATT: 1\r\n", b"\r\n", b"\r", b"\n", b"AT\r", b"0,1,6\r\n", b"1,0\r\n", b'"recv",1\r\n',
    b'"band",0x0,0x1,0x1\r\n', b'1,standard,"20"\r\n',
    b"868000000000001\r\n", b"\xff\x00\x07", b": 1,12\r\n", b"1", b",", b'"a,b"', b"5\r\n",
]  # fmt: skip
STEPS_MAX = 400
TIMERS_MAX = 20_000


def talk_of(dialect: Any, which: int) -> Any:
    """The dialogue number `which`: all that a session is made of."""
    talks = (
        lambda: dialects.setup(dialect).power_up(),
        lambda: dialects.setup(dialect).imei(),
        lambda: status.signal(),
        lambda: status.iccid(dialects.setup(dialect)),
        lambda: dialects.setup(dialect).attach("iot", pin=Secret(b"1234")),
        lambda: dialects.setup(dialect).registration(),
        lambda: status.psm(dialects.setup(dialect), 3600, 10),
        lambda: status.edrx(dialects.setup(dialect), b"0101"),
        lambda: dialects.dialer(dialect).provision_psk(1, b"identity", KEY, None),
        lambda: dialects.dialer(dialect).open_dtls("coap.example.com", 5684, 1),
        lambda: dialects.dialer(dialect).open_udp("coap.example.com", 5683),
        lambda: dialect.send(1, b"\r\nOK\r\n> +CME ERROR: 1"),
        lambda: dialect.receive(1, 1200),
        lambda: dialect.close(1),
    )
    return talks[which % len(talks)]()


def reply(data: atheris.FuzzedDataProvider, engine: Engine, dialect: Any) -> bytes:
    """What the modem says next: likely words more often than noise."""
    kind = data.ConsumeIntInRange(0, 4)
    if kind == 0:
        return bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 40)))
    if kind == 1:
        return bytes(data.PickValueInList(list(dialect.URCS)))
    command = engine._command
    if kind == 2 and command and (command.prefix or command.until or command.prompt):
        return bytes(command.until or command.prefix or command.prompt)
    return bytes(data.PickValueInList(WORDS))


def one_input(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    dialect = data.PickValueInList(DIALECTS).Dialect()
    if dialect.NAME == "nrf91" and data.ConsumeBool():
        dialect.classic = nrf91_slm.Proxy(dialect)  # as if probing had found the older firmware
    dialect.band = data.PickValueInList([None, 20, 85])
    engine = Engine(dialect)
    now = data.ConsumeIntInRange(0, 0x3FFFFFFF)
    for _ in range(data.ConsumeIntInRange(1, 4)):
        if dialect.NAME == "udp":
            dialect.peers[1] = (b"192.0.2.1", 5683)  # nobody sends before an open, after a close
        engine._trusted = engine._trusted or data.ConsumeBool()  # else it is first asked twice
        engine.start(talk_of(dialect, data.ConsumeIntInRange(0, 99)), now)
        for _ in range(STEPS_MAX):
            if not data.remaining_bytes() or engine.done():
                break
            if data.ConsumeBool():
                words = reply(data, engine, dialect)
                engine.feed(words, 0, len(words), now)
            else:
                now = ticks.add(now, engine.next_timeout(now) or data.ConsumeIntInRange(0, 2000))
                engine.handle_timer(now)
            while engine.to_send() is not None:
                pass
        finish(engine, now)
        listen(engine, dialect)


def finish(engine: Engine, now: int) -> None:
    """The modem falls silent: the dialogue ends all the same."""
    for _ in range(TIMERS_MAX):
        if engine.done():
            break
        wait = engine.next_timeout(now)
        assert wait is not None and 0 <= wait <= 900_000, wait
        now = ticks.add(now, wait)
        engine.handle_timer(now)
        while engine.to_send() is not None:
            pass
    assert engine.done(), "no end"
    try:
        engine.result()
    except ImprintError as error:
        assert "CANARY" not in repr(error) + str(error.detail)


def listen(engine: Engine, dialect: Any) -> None:
    """What was left is read as ModemUart does."""
    count = 0
    while (urc := engine.urc()) is not None:
        event = dialect.parse_urc(*urc)
        assert event is None or isinstance(event[0], str)
        count += 1
    assert count <= 16


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
