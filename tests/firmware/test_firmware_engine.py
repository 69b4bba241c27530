"""The AT engine against a scripted modem and a hand-turned clock.

Section numbers are those of the rules that a driver must keep: "what a driver must survive" 1 to
13, each met in somebody's driver, and the result grammar of V.250 and TS 27.007.
"""

import unittest

from firmware_support import raises
from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.modem import cme
from imprint.modem.dialects.common import Common
from imprint.modem.dialects.common_setup import Setup
from imprint.modem.engine import Command, Engine, Wait
from imprint.secret import Secret

_PROBES = (b"AT+CMEE?\r", b"AT+CFUN?\r")
_ANSWERS = (b"\r\n+CMEE: 1\r\n\r\nOK\r\n", b"\r\n+CFUN: 1\r\n\r\nOK\r\n")


class Family(Common):
    """A modem with a counted answer, a counted URC, and a word of its own at the start."""

    BUFFER = 128
    BOOT = (b"RDY",)
    URCS = Common.URCS + (b"RDY", b"+DATA:", b"+RECV:", b"+OPEN:")
    PROMPT_GAP_MS = 0

    def raw_after(self, line):
        if line.startswith(b"+READ: ") or line.startswith(b"+DATA: "):
            return int(line[7:])
        return 0


class Bench:
    """An engine, its clock, and what it sent."""

    def __init__(self, family=Family, in_step=True):
        self.now = 1073741000  # the ticks wrap within the first second
        self.sent = []
        self.dialect = family()
        self.engine = Engine(self.dialect)
        if in_step:
            self.engine.start(one(Command(b"AT")), self.now)
            self.settle()
            self.hear(_ANSWERS[0])
            self.wait(100)
            self.hear(b"\r\nOK\r\n")
            self.wait(self.dialect.SEND_GAP_MS)
            self.sent = []

    def settle(self):
        """Do what is due now; collect what is sent."""
        while True:
            self.engine.handle_timer(self.now)
            data = self.engine.to_send()
            if data is None:
                return
            while data is not None:
                self.sent.append(data)
                data = self.engine.to_send()

    def hear(self, data):
        self.engine.feed(data, 0, len(data), self.now)
        self.settle()

    def wait(self, ms):
        """Let that much time pass, in the steps that the engine asks for."""
        while ms > 0:
            due = self.engine.next_timeout(self.now)
            step = ms if due is None else min(ms, max(due, 1))
            self.now += step
            ms -= step
            self.settle()

    def start(self, talk):
        self.sent = []
        self.engine.start(talk, self.now)
        self.settle()

    def urcs(self):
        found = []
        urc = self.engine.urc()
        while urc:
            found.append(urc[0] if urc[1] is None else urc)
            urc = self.engine.urc()
        return found


def one(*items):
    """A dialogue of those commands; returns the answer of the last."""
    answer = None
    for item in items:
        answer = yield item
    return answer


def ended(bench):
    """What the dialogue returned or raised; fails if it goes on."""
    if not bench.engine.done():
        raise AssertionError("goes on")
    return bench.engine.result()


class TestGrammar(unittest.TestCase):
    def test_a_command_and_its_answer(self):
        """A line ends with CR; its information lines are returned when OK came."""
        bench = Bench()
        bench.start(one(Command(b"AT+CGMR")))
        self.assertEqual([b"AT+CGMR\r"], bench.sent)
        bench.hear(b"\r\n1.2\r\n3.4\r\n")
        self.assertFalse(bench.engine.done())
        bench.hear(b"\r\nOK\r\n")
        self.assertEqual([b"1.2", b"3.4"], ended(bench))

    def test_one_at_a_time(self):
        """No command before the final of the one before, and a gap."""
        bench = Bench()
        bench.start(one(Command(b"AT+A"), Command(b"AT+B")))
        bench.wait(500)
        self.assertEqual([b"AT+A\r"], bench.sent)
        bench.hear(b"OK\r\n")
        bench.wait(bench.dialect.SEND_GAP_MS - 1)
        self.assertEqual([b"AT+A\r"], bench.sent)
        bench.wait(1)
        self.assertEqual([b"AT+A\r", b"AT+B\r"], bench.sent)

    def test_finals_that_say_no(self):
        """Each ends the command; the code of ours, the original number, the command's name."""
        for final, kind, code, number in (
            (b"ERROR", WeatherError, 223, None),
            (b"SEND FAIL", WeatherError, 223, None),
            (b"+CME ERROR: 3", WeatherError, 223, 3),
            (b"+CME ERROR: 515", WeatherError, 223, 515),
            (b"+CME ERROR:10", SetupError, 225, 10),
            (b"+CME ERROR: SIM not inserted", SetupError, 225, 10),
            (b"+CME ERROR: 11", SetupError, 226, 11),
            (b"+CME ERROR: SIM PUK required", SetupError, 226, 12),
            (b"+CME ERROR: 14", WeatherError, 223, 14),
            (b"+CME ERROR: incorrect password", SetupError, 226, 16),
            (b"+CME ERROR: 30", WeatherError, 230, 30),
            (b"+CME ERROR: 111", WeatherError, 231, 111),
            (b"+CME ERROR: 148", WeatherError, 232, 148),
            (b"+CME ERROR: something new", WeatherError, 223, None),
            (b"+CME ERROR:", WeatherError, 223, None),
            (b"+CMS ERROR: 310", SetupError, 225, 10),
            (b"+CMS ERROR: 500", WeatherError, 223, 500),
        ):
            with self.subTest(final):
                bench = Bench()
                bench.start(one(Command(b'AT+COPS=0,"x"')))
                bench.hear(b"\r\n" + final + b"\r\n")
                with raises(kind, code) as caught:
                    ended(bench)
                self.assertEqual(
                    ("AT+COPS", number), (caught.exception.detail, caught.exception.number)
                )

    def test_every_text_has_its_number(self):
        """The verbose form of an error means what the numeric one does."""
        for text, code in ((b"operation not allowed", 3), (b"Incorrect Parameters", 50)):
            self.assertEqual(code, cme.number(b"+CME ERROR: " + text))

    def test_other_words_that_say_yes(self):
        """SEND OK and CLOSE OK end a command, too."""
        for final in (b"SEND OK", b"CLOSE OK"):
            bench = Bench()
            bench.start(one(Command(b"AT+X")))
            bench.hear(final + b"\r\n")
            self.assertEqual([], ended(bench))

    def test_until(self):
        """An answer that is complete only with a line after OK, or before it."""
        for answer in (b"OK\r\n+OPEN: 1,0\r\n", b"+OPEN: 1,0\r\nOK\r\n"):
            bench = Bench()
            bench.start(one(Command(b"AT+OPEN=1", until=b"+OPEN: 1,")))
            bench.hear(b"+OPEN: 2,9\r\n")
            bench.hear(answer)
            self.assertEqual([b"+OPEN: 1,0"], ended(bench))
            self.assertEqual([b"+OPEN: 2,9"], bench.urcs())

    def test_until_in_vain(self):
        """Its absence is a timeout; the modem is in step, since its final came."""
        bench = Bench()
        bench.start(one(Command(b"AT+OPEN=1", 5000, until=b"+OPEN: 1,")))
        bench.hear(b"OK\r\n")
        bench.wait(5000)
        with raises(WeatherError, 221):
            ended(bench)
        bench.wait(100)
        bench.start(one(Command(b"AT+X")))
        self.assertEqual([b"AT+X\r"], bench.sent)

    def test_waiting(self):
        """A Wait ends with its line, also one that came before, or with None."""
        bench = Bench()
        bench.start(one(Wait(1000, b"+OPEN:")))
        bench.wait(400)
        bench.hear(b"+OPEN: 1,0\r\n")
        self.assertEqual(b"+OPEN: 1,0", ended(bench))
        self.assertEqual([], bench.urcs())
        bench.hear(b"+RECV: 1\r\n+OPEN: 2,0\r\n")
        bench.start(one(Wait(1000, b"+OPEN:")))
        self.assertEqual(b"+OPEN: 2,0", ended(bench))
        self.assertEqual([b"+RECV: 1"], bench.urcs())
        bench.start(one(Wait(1000, b"+OPEN:")))
        bench.wait(999)
        self.assertFalse(bench.engine.done())
        bench.wait(1)
        self.assertIsNone(ended(bench))

    def test_a_pause(self):
        """A Wait for nothing lets time pass, whatever comes."""
        bench = Bench()
        bench.start(one(Wait(250)))
        bench.hear(b"+RECV: 1\r\nOK\r\n")
        bench.wait(249)
        self.assertFalse(bench.engine.done())
        bench.wait(1)
        self.assertIsNone(ended(bench))

    def test_errors_are_raised_where_the_dialogue_stands(self):
        """A dialect may catch a refusal and go on."""

        def talk():
            try:
                yield Command(b"AT+NEW")
            except WeatherError:
                return (yield Command(b"AT+OLD", prefix=b"+OLD:"))

        bench = Bench()
        bench.start(talk())
        bench.hear(b"ERROR\r\n")
        bench.wait(100)
        bench.hear(b"+OLD: 1\r\nOK\r\n")
        self.assertEqual([b"+OLD: 1"], ended(bench))

    def test_two_dialogues(self):
        """The second may not begin before the first has ended; aborting ends it."""
        bench = Bench()
        bench.start(one(Wait(1000)))
        with self.assertRaises(RuntimeError):
            bench.engine.start(one(Wait(1)), bench.now)
        bench.engine.abort()
        self.assertTrue(bench.engine.done())
        bench.start(one(Wait(1)))

    def test_no_carrier_ends_dials_only(self):
        """A second NO CARRIER, of a dial long gone, ends no other command (Sequans)."""
        bench = Bench()
        bench.start(one(Command(b"AT+X")))
        bench.hear(b"\r\nNO CARRIER\r\n")
        self.assertFalse(bench.engine.done())
        bench.hear(b"\r\nOK\r\n")
        self.assertEqual([], ended(bench))
        bench.wait(100)
        bench.start(one(Command(b"AT+SQNSD=1", dials=True)))
        bench.hear(b"\r\nNO CARRIER\r\n")
        with raises(WeatherError, 223):
            ended(bench)


class TestSurvival(unittest.TestCase):
    def test_1_echo(self):
        """Echo on is no answer, not even one longer than the line buffer."""
        bench = Bench()
        line = b'AT+USOWR=0,90,"' + b"41" * 90 + b'"'
        bench.start(one(Command(line, prefix=b"+USOWR:")))
        bench.hear(line + b"\r\r\n+USOWR: 0,90\r\n\r\nOK\r\n")
        self.assertEqual([b"+USOWR: 0,90"], ended(bench))
        bench.wait(100)
        bench.start(one(Command(b"AT+CGMM")))
        bench.hear(b"AT+CGMM\r\r\nBG95-M3\r\n\r\nOK\r\n")
        self.assertEqual([b"BG95-M3"], ended(bench))

    def test_2_urcs_anywhere(self):
        """A URC before the echo, between the lines, right after OK, split: none is lost."""
        urc = b"\r\n+RECV: 1\r\n"
        parts = (b"", b"AT+X\r", b"\r\n+X: 1\r\n", b"\r\n+X: 2\r\n", b"\r\nOK\r\n")
        for place in range(1, len(parts) + 1):
            wire = b"".join(parts[:place]) + urc + b"".join(parts[place:])
            for step in (1, 3, len(wire)):
                bench = Bench()
                bench.start(one(Command(b"AT+X", prefix=b"+X:")))
                for index in range(0, len(wire), step):
                    bench.hear(wire[index : index + step])
                self.assertEqual([b"+X: 1", b"+X: 2"], ended(bench))
                self.assertEqual([b"+RECV: 1"], bench.urcs())
                self.assertEqual((0, 0), (bench.engine.lost, bench.engine.strays))

    def test_2_many_urcs(self):
        """At most 16 wait; the oldest give way, and are counted."""
        bench = Bench()
        for index in range(20):
            bench.hear(b"+RECV: %d\r\n" % index)
        self.assertEqual(4, bench.engine.lost)
        self.assertEqual([b"+RECV: %d" % index for index in range(4, 20)], bench.urcs())

    def test_2_answer_or_urc(self):
        """`+CEREG:` is both: with a read pending its form decides, else it is a URC."""
        bench = Bench()
        bench.start(Setup(bench.dialect).registration())
        bench.hear(b'\r\n+CEREG: 1,"1A2B","0012BEEF",9\r\n\r\n+CEREG: 5,2\r\n\r\nOK\r\n')
        self.assertEqual((2, None, b"", b""), ended(bench))
        bench.hear(b"+CEREG: 5\r\n")
        self.assertEqual([b'+CEREG: 1,"1A2B","0012BEEF",9', b"+CEREG: 5"], bench.urcs())

    def test_3_prompts(self):
        """`>` and `@`, without line end, after CR LF, before a space, and a word as prompt."""
        for prompt, wire in (
            (b">", b"> "),
            (b">", b"\r\n> "),
            (b">", b"AT+SEND=5\r\r\n>"),
            (b"@", b"\r\n@"),
            (b"CONNECT", b"\r\nCONNECT\r\n"),
        ):
            bench = Bench()
            bench.start(one(Command(b"AT+SEND=5", payload=b"\r\nOK\x1a", prompt=prompt)))
            self.assertEqual([b"AT+SEND=5\r"], bench.sent)
            bench.hear(wire)
            self.assertEqual([b"AT+SEND=5\r", b"\r\nOK\x1a"], bench.sent)
            bench.hear(b"\r\nOK\r\n")
            self.assertEqual([], ended(bench))

    def test_3_a_moment_before_the_payload(self):
        """Where the modem needs one (u-blox: 50 ms), it gets it."""

        class Slow(Family):
            PROMPT_GAP_MS = 50

        bench = Bench(Slow)
        bench.start(one(Command(b"AT+SEND=1", payload=b"x", prompt=b"@")))
        bench.hear(b"@")
        bench.wait(49)
        self.assertEqual([b"AT+SEND=1\r"], bench.sent)
        bench.wait(1)
        self.assertEqual([b"AT+SEND=1\r", b"x"], bench.sent)

    def test_3_no_prompt(self):
        """A final instead of the prompt: the payload is not sent; a late prompt means nothing."""
        for final, kind, code in (
            (b"ERROR", WeatherError, 223),
            (b"OK", ProtocolError, 222),
        ):
            bench = Bench()
            bench.start(one(Command(b"AT+SEND=1", payload=b"x", prompt=b">")))
            bench.hear(b"\r\n" + final + b"\r\n")
            with raises(kind, code):
                ended(bench)
            bench.hear(b"> ")
            self.assertEqual([b"AT+SEND=1\r"], bench.sent)

    def test_3_a_prompt_that_may_be_missing(self):
        """After prompt_ms the payload goes out anyway; `final` b"" waits for none (nRF91 SLM)."""
        for wire in (b"", b"\r\nOK\r\n"):
            bench = Bench()
            command = Command(b"AT#X", payload=b"x", prompt=b"OK", prompt_ms=300, final=b"")
            bench.start(one(command))
            bench.hear(wire)
            bench.wait(300)
            self.assertEqual([b"AT#X\r", b"x"], bench.sent)
            self.assertEqual([], ended(bench))

    def test_4_binary(self):
        """A counted run may hold CR, LF, finals, prompts and URCs."""
        data = b"\r\nOK\r\nERROR\r\n+CME ERROR: 3\r\n> @RDY\r\n\x00\xff"
        wire = b"\r\n+READ: %d\r\n" % len(data) + data + b"\r\nOK\r\n"
        for step in (1, 5, len(wire)):
            bench = Bench()
            bench.start(one(Command(b"AT+READ", prefix=b"+READ:")))
            for index in range(0, len(wire), step):
                bench.hear(wire[index : index + step])
            self.assertEqual([b"+READ: %d" % len(data), data], ended(bench))

    def test_4_binary_urc(self):
        """One that comes unasked, also within an answer, is kept with its bytes."""
        bench = Bench()
        bench.start(one(Command(b"AT+READ", prefix=b"+READ:")))
        bench.hear(b"+READ: 2\r\nab\r\n+DATA: 4\r\nOK\r\n\r\nOK\r\n")
        self.assertEqual([b"+READ: 2", b"ab"], ended(bench))
        self.assertEqual([(b"+DATA: 4", b"OK\r\n")], bench.urcs())

    def test_4_binary_cut_short(self):
        """A run whose rest never comes ends the command after a second without a byte."""
        bench = Bench()
        bench.start(one(Command(b"AT+READ", prefix=b"+READ:")))
        bench.hear(b"+READ: 20\r\nab")
        bench.wait(900)
        bench.hear(b"c")
        bench.wait(999)
        self.assertFalse(bench.engine.done())
        bench.wait(1)
        with raises(WeatherError, 221):
            ended(bench)
        bench.hear(b"\r\nRDY\r\n")
        self.assertEqual([b"RDY"], bench.urcs())

    def test_4_binary_too_long(self):
        """One that does not fit is counted off and is an answer without its bytes."""
        bench = Bench()
        bench.start(one(Command(b"AT+READ", prefix=b"+READ:")))
        bench.hear(b"+READ: 200\r\n" + b"\r\nOK\r\n" * 33 + b"ab" + b"\r\nOK\r\n")
        self.assertEqual([b"+READ: 200"], ended(bench))
        self.assertEqual(1, bench.engine.lost)

    def test_5_no_information_line(self):
        """OK without the line that was asked for is an answer of its own kind."""
        bench = Bench()
        bench.start(one(Command(b"AT+X", prefix=b"+X:")))
        bench.hear(b"OK\r\n")
        with raises(ProtocolError, 222):
            ended(bench)
        bench.wait(100)
        bench.start(one(Command(b"AT+X", prefix=b"+X:", least=0)))
        bench.hear(b"OK\r\n")
        self.assertEqual([], ended(bench))

    def test_6_wrong_prefix(self):
        """A line of another prefix is no answer; it is counted."""
        bench = Bench()
        bench.start(one(Command(b"AT+X", prefix=b"+X:")))
        bench.hear(b"+Y: 1\r\nOK\r\n")
        with raises(ProtocolError, 222):
            ended(bench)
        self.assertEqual(1, bench.engine.strays)

    def test_7_a_final_that_comes_late(self):
        """It is not the next command's: the modem is asked first, until it answers just that."""
        bench = Bench()
        bench.start(one(Command(b"AT+SLOW", 5000)))
        bench.wait(5000)
        with raises(WeatherError, 221) as caught:
            ended(bench)
        self.assertEqual("AT+SLOW", caught.exception.detail)
        bench.wait(100)
        bench.start(one(Command(b"AT+X", prefix=b"+X:")))
        self.assertEqual([_PROBES[0]], bench.sent)
        bench.hear(b"\r\n+X: 9\r\n\r\nOK\r\n")  # of AT+SLOW, say
        bench.hear(_ANSWERS[0])
        bench.hear(b"\r\nERROR\r\n")
        bench.wait(99)
        self.assertEqual([_PROBES[0]], bench.sent)
        bench.wait(1)
        self.assertEqual([_PROBES[0], b"AT+X\r"], bench.sent)
        bench.hear(b"\r\n+X: 1\r\n\r\nOK\r\n")
        self.assertEqual([b"+X: 1"], ended(bench))

    def test_7_late_answers_to_probes(self):
        """They come in a burst when a modem wakes, and are none of the next command's."""
        bench = Bench()
        bench.engine.distrust()
        bench.start(one(Command(b"AT+X")))
        bench.wait(2000)
        self.assertEqual([_PROBES[0], _PROBES[1], _PROBES[0]], bench.sent)
        bench.hear(_ANSWERS[0] + _ANSWERS[1])
        bench.wait(50)
        bench.hear(_ANSWERS[0])
        bench.wait(99)
        self.assertEqual(3, len(bench.sent))
        bench.wait(1)
        self.assertEqual(b"AT+X\r", bench.sent[-1])

    def test_7_silence(self):
        """A modem that never answers is given up after twelve seconds."""
        bench = Bench(in_step=False)
        bench.start(one(Command(b"AT+X")))
        bench.wait(11999)
        self.assertFalse(bench.engine.done())
        bench.wait(1)
        with raises(WeatherError, 220):
            ended(bench)
        self.assertEqual(12, len(bench.sent))

    def test_7_babble(self):
        """One that talks without end, too."""
        bench = Bench(in_step=False)
        bench.start(one(Command(b"AT+X")))
        bench.hear(_ANSWERS[0])
        for _ in range(100):
            bench.wait(50)
            if not bench.engine.done():
                bench.hear(b"bla\r\n")
        with raises(WeatherError, 220):
            ended(bench)

    def test_8_reboot(self):
        """The word of a modem that starts ends what runs; it is kept for all others to see."""
        for item in (
            Command(b"AT+X"),
            Command(b"AT+X", payload=b"x", prompt=b">"),
            Command(b"AT+X", until=b"+OPEN:"),
            Wait(1000, b"+OPEN:"),
        ):
            bench = Bench()
            bench.start(one(item))
            bench.hear(b"\r\nRDY\r\n")
            with raises(WeatherError, 227):
                ended(bench)
            self.assertEqual([b"RDY"], bench.urcs())
            bench.wait(100)
            bench.start(one(Command(b"AT+X")))
            self.assertEqual(_PROBES[0], bench.sent[0])

    def test_8_a_reboot_that_is_waited_for(self):
        """It ends nothing, whether it comes before the modem is in step or as `until`."""
        bench = Bench(in_step=False)
        bench.start(one(Command(b"AT+X")))
        bench.hear(b"RDY\r\n")
        self.assertFalse(bench.engine.done())
        bench.hear(_ANSWERS[0] + b"RDY\r\n")
        self.assertEqual([_PROBES[0], _PROBES[1]], bench.sent)
        bench.hear(_ANSWERS[1])
        bench.wait(100)
        bench.hear(b"OK\r\n")
        self.assertEqual([], ended(bench))
        bench.wait(100)
        bench.start(one(Command(b"AT+RST", until=b"RDY")))
        bench.hear(b"OK\r\n\r\nRDY\r\n")
        self.assertEqual([b"RDY"], ended(bench))

    def test_8_a_reset_by_command(self):
        """After it the modem is asked first."""
        bench = Bench()
        bench.start(one(Command(b"AT+CFUN=15", resets=True), Command(b"ATE0")))
        bench.hear(b"OK\r\n")
        bench.wait(100)
        self.assertEqual([b"AT+CFUN=15\r", _PROBES[0]], bench.sent)

    def test_9_the_data_connection(self):
        """Its loss is a URC that a dialect knows by name."""
        dialect = Family()
        self.assertEqual(("pdp_lost",), dialect.parse_urc(b"+CGEV: NW PDN DEACT 1"))
        self.assertEqual(("pdp_lost",), dialect.parse_urc(b"+CGEV: NW DETACH"))
        self.assertIsNone(dialect.parse_urc(b"+CGEV: ME PDN ACT 1"))

    def test_10_first_bytes_lost(self):
        """A UART that slept is poked until it answers; no command is spent on waking it."""
        bench = Bench()
        bench.engine.distrust()
        bench.start(one(Command(b"AT+SEND=1")))
        bench.hear(b"\r\nERROR\r\n")  # of the half that arrived
        bench.wait(1000)
        self.assertEqual(list(_PROBES), bench.sent)
        bench.hear(_ANSWERS[1])
        bench.wait(100)
        self.assertEqual(list(_PROBES) + [b"AT+SEND=1\r"], bench.sent)

    def test_12_secrets(self):
        """They are sent, and shown neither in errors nor, when the modem echoes, in URCs."""
        bench = Bench()
        key = b"0123456789ABCDEF"
        line = Secret(b'AT%CMNG=0,1,3,"' + key + b'"')
        bench.start(one(Command(line)))
        self.assertEqual([line.reveal() + b"\r"], bench.sent)
        bench.hear(line.reveal() + b'\r\r\n%CMNG: "' + key + b'"\r\n\r\n+CME ERROR: 515\r\n')
        with raises(WeatherError, 223) as caught:
            ended(bench)
        self.assertEqual("AT%CMNG", caught.exception.detail)
        self.assertEqual("AT%CMNG", str(caught.exception))
        self.assertIsNone(bench.engine.urc())

    def test_13_nothing_is_repeated(self):
        """A command that is not answered was sent once, whatever the modem does then."""
        for answer in (b"", b"\r\nERROR\r\n", b"\r\nRDY\r\n", b"\r\n+CME ERROR: 14\r\n"):
            bench = Bench()
            bench.start(one(Command(b"AT+SEND=1", 3000)))
            bench.hear(answer)
            bench.wait(60000)
            with self.assertRaises(WeatherError):
                ended(bench)
            self.assertEqual([b"AT+SEND=1\r"], bench.sent)


class TestBounds(unittest.TestCase):
    def test_an_endless_answer(self):
        """Of one answer 32 lines are kept."""
        bench = Bench()
        bench.start(one(Command(b"AT+X", prefix=b"+X:")))
        for _ in range(100):
            bench.hear(b"+X: 1\r\n" * 10)
        bench.hear(b"OK\r\n")
        self.assertEqual(32, len(ended(bench)))

    def test_every_state_has_an_end(self):
        """`next_timeout` names one as long as a dialogue runs, and it comes."""
        for item in (
            Command(b"AT+X", 3000),
            Command(b"AT+X", 3000, payload=b"x", prompt=b">"),
            Command(b"AT+X", 3000, until=b"+OPEN:"),
            Wait(3000, b"+OPEN:"),
        ):
            for wire in (b"", b"> ", b"OK\r\n", b"+DATA: 100\r\nx"):
                bench = Bench()
                bench.start(one(item))
                bench.hear(wire)
                while not bench.engine.done():
                    due = bench.engine.next_timeout(bench.now)
                    self.assertTrue(due is not None and due <= 3000)
                    bench.wait(max(due, 1))
        self.assertIsNone(Bench().engine.next_timeout(0))

    def test_idle_for_half_the_clock(self):
        """Days after the last command, when its time is about to look like the future, a
        command that is sent some milliseconds after it was begun is not put off for days."""
        bench = Bench()
        bench.now += 0x20000000 - 1
        bench.engine.start(one(Command(b"AT+A")), bench.now)
        bench.now += 10
        bench.settle()
        self.assertEqual([b"AT+A\r"], bench.sent)

    def test_a_bug_in_a_dialogue(self):
        """What it raises comes out of `result`, and the engine is free."""
        bench = Bench()

        def talk():
            yield Command(b"AT+X")
            raise ZeroDivisionError

        bench.start(talk())
        bench.hear(b"OK\r\n")
        with self.assertRaises(ZeroDivisionError):
            ended(bench)
        bench.start(one(Wait(1)))
