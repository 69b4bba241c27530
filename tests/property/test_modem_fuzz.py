"""The AT parser, engine and dialects under anything that a UART can bring.

The invariant: any bytes, cut and timed in any way, end a dialogue with its result or with an error
of ours; never another exception, never more kept than the bounds say, never without an end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imprint.errors import ImprintError
from imprint.modem import dialects
from imprint.modem.at import AtParser
from imprint.modem.dialects import status
from imprint.modem.dialects.common import Common, fields
from imprint.modem.engine import Engine
from imprint.secret import Secret

# Kinds of the parser's events
LINE, OK, RAW = 1, 2, 5

patient = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], database=None)

# What modems say, whole or in pieces, so that chance gets past the first line.
WORDS = (
    b"\r\n", b"\r", b"\n", b"OK", b"\r\nOK\r\n", b"\r\nERROR\r\n", b"+CME ERROR: 10", b"> ", b"@",
    b"+CMS ERROR: 310", b"+CME ERROR: SIM busy", b"\r\nSEND OK\r\n", b"\r\nNO CARRIER\r\n",
    b"\r\nCONNECT\r\n", b"\r\n+CMEE: 1\r\n\r\nOK\r\n", b"\r\n+CFUN: 1\r\n\r\nOK\r\n", b"RDY\r\n",
    b"APP RDY\r\n", b"Ready\r\n", b"+SYSSTART\r\n", b"+CEREG: 5,1\r\n", b'+CEREG: 1,"a","b",9\r\n',
    b"+CPIN: READY\r\n", b"+CPIN: SIM PIN\r\n", b"+CGATT: 1\r\n", b"+CGATT:\r\n", b"+CGSN:\r\n",
    b"#XSMVER: 1\r\n", b"#XSSOCKET: 1,2,273\r\n", b"#XSSOCKET:\r\n", b"#XCONNECT: 1,1\r\n",
    b"#XRECV: 1,1,3\r\n", b"313233", b"#XRECV: 1,1,99999999999\r\n", b"#XRECV: -1,1,-5\r\n",
    b"#XUDPDATA: 2\r\n", b'#XUDPCLI: 0,"connected"\r\n', b"#XSEND: 1,0,3\r\n",
    b"+QSSLOPEN: 1,0\r\n", b"+QSSLOPEN: 1,\r\n", b"+QSSLRECV: 3\r\nabc\r\n",
    b"+QSSLRECV: 4000\r\n",
    b'+QSSLURC: "recv",1\r\n', b"+QSSLURC:\r\n", b"+QFUPL: 45,1\r\n", b'+QIURC: "closed",1\r\n',
    b"+SQNSRING: 1,4\r\n", b"+SQNSRECV: 1,3\r\nabc\r\n", b"+SQNSRECV:\r\n", b"+SQNSH: 1\r\n",
    b"+USOCR: 3\r\n", b'+UDNSRN: "192.0.2.1"\r\n', b"+UDNSRN:\r\n", b'+USORD: 3,2,"4f4b"\r\n',
    b'+USORD: 3,2,"xx"\r\n', b"+UUSORD: 3,2\r\n", b"+UUPSDD: 0\r\n", b"+USOER: 11\r\n",
    b"+NSONMI:0,5\r\n", b"0,192.0.2.1,5683,2,4f4b,0\r\n", b"+CEDRXP: 5\r\n", b"nRF9151\r\n",
    b"\xff\r\n", b"+CPIN: \xff\r\n", b'%CMNG: 1,3,"\xff"\r\n', b'%CMNG: 1,4,"\xff"\r\n',
    b'%XBANDLOCK: "\xff",""\r\n', b'+QCFG: "band",0,\xff,1\r\n', b"+UBANDMASK: 1,\xff\r\n",
    b'+SQNBANDSEL: 1,standard,"\xff"\r\n',
)  # fmt: skip
noise = st.lists(st.sampled_from(WORDS) | st.binary(max_size=12), max_size=25)
# (milliseconds that pass, what is heard then)
timed = st.lists(st.tuples(st.sampled_from([0, 1, 20, 150, 1000, 6000]), noise), max_size=12)


def attach_in_band(dialect: Any) -> Generator[Any, Any, Any]:
    dialect.band = 20
    return dialects.setup(dialect).attach("iot", None, 60_000)


KEY = Secret(b"\xf0secret-of-the-unit")
DIALOGUES: dict[str, Callable[[Any], Generator[Any, Any, Any]]] = {
    "power_up": lambda dialect: dialects.setup(dialect).power_up(),
    "imei": lambda dialect: dialects.setup(dialect).imei(),
    "iccid": lambda dialect: status.iccid(dialects.setup(dialect)),
    "signal": lambda dialect: status.signal(),
    "attach": lambda dialect: dialects.setup(dialect).attach("iot", Secret("4711"), 60_000),
    "band": lambda dialect: attach_in_band(dialect),
    "psm": lambda dialect: status.psm(dialects.setup(dialect), 3600, 20),
    "edrx": lambda dialect: status.edrx(dialects.setup(dialect), b"0101"),
    "provision": lambda dialect: dialects.dialer(dialect).provision_psk(1, b"id", KEY),
    "dtls": lambda dialect: dialects.dialer(dialect).open_dtls("h.example", 5684, 1),
    "udp": lambda dialect: dialects.dialer(dialect).open_udp("192.0.2.1", 5683),
    "receive": lambda dialect: dialect.receive(1, 1500),
    "close": lambda dialect: dialect.close(1),
}


@patient
@given(st.lists(noise, max_size=6), st.integers(8, 64), st.randoms(use_true_random=False))
def test_parser(pieces: list[list[bytes]], size: int, random: Any) -> None:
    """Every byte is taken; a line is no longer than the buffer and holds no line end; a counted
    run is as long as was said, or None. What is asked for between the lines does not matter."""
    parser = AtParser(size)
    wanted = 0  # bytes
    for data in map(b"".join, pieces):
        start = 0
        while start < len(data):
            taken = parser.feed(data, start, len(data))
            assert taken > start
            start = taken
            while event := parser.next_event():
                kind, value = event
                if kind == RAW:
                    assert value is None or len(value) == wanted <= size
                elif kind == LINE:
                    assert 0 < len(value) < size and b"\r" not in value and b"\n" not in value
                    if random.random() < 0.2:
                        wanted = random.randrange(1, 2 * size)
                        digits = random.random() < 0.5
                        parser.expect_raw(wanted * (1 + digits), digits)
                    parser.expect_prompt(random.choice([b">", b"@", None]))


@patient
@given(noise, st.integers(1, 9))
def test_cuts_do_not_matter(words: list[bytes], step: int) -> None:
    """The same bytes in one piece and in many give the same events."""
    data = b"".join(words)

    def events(pieces: list[bytes]) -> list[tuple[int, bytes]]:
        parser, found = AtParser(4096), []
        for piece in pieces:
            parser.feed(piece, 0, len(piece))
            while event := parser.next_event():
                found.append(event)
        return found

    assert events([data]) == events([data[i : i + step] for i in range(0, len(data), step)])
    assert sum(kind == OK for kind, _ in events([data + b"\r\nOK\r\n"])) >= 1


@pytest.mark.parametrize("family", dialects.NAMES)
@patient
@given(st.sampled_from(sorted(DIALOGUES)), timed)
def test_dialogues(family: str, name: str, heard: list[tuple[int, list[bytes]]]) -> None:
    """Whatever is heard and when: the dialogue ends within its time, by a value or by an error of
    ours, without the key in it, and each URC that was kept can be read."""
    dialect = dialects.load(family)
    engine = Engine(dialect)
    now = 0

    def settle() -> None:
        engine.handle_timer(now)
        while engine.to_send():
            pass

    engine.start(DIALOGUES[name](dialect), now)
    for ms, words in heard:
        now += ms
        settle()
        data = b"".join(words)
        engine.feed(data, 0, len(data), now)
    for _ in range(5000):
        if engine.done():
            break
        due = engine.next_timeout(now)
        assert due is not None
        now += max(due, 1)
        settle()
    assert engine.done()
    try:
        engine.result()
    except ImprintError as error:
        assert 200 < error.code < 240 and "secret" not in str(error)
    for _ in range(20):
        if (urc := engine.urc()) is not None:
            event = dialect.parse_urc(*urc)
            assert event is None or isinstance(event[0], str)
    assert engine.urc() is None


def as_fields(numbers: list[int]) -> bytes:
    return b" " + ",".join(map(str, numbers)).encode()


@patient
@given(
    st.binary(max_size=60) | st.lists(st.integers(), max_size=4).map(as_fields),
    st.none() | st.binary(max_size=60),
)
@pytest.mark.parametrize("family", dialects.NAMES)
def test_urcs(family: str, tail: bytes, data: bytes | None) -> None:
    """A URC of any content is an event or nothing; a counted run is not negative."""
    dialect = dialects.load(family)
    for prefix in dialect.URCS:
        line = prefix + tail
        assert dialect.raw_after(line) >= 0
        event = dialect.parse_urc(line, data)
        assert event is None or isinstance(event[0], str)


@patient
@given(st.binary(max_size=80))
def test_fields(line: bytes) -> None:
    """Any line has fields."""
    assert len(fields(line)) >= 1
    assert Common().raw_after(line) == 0
