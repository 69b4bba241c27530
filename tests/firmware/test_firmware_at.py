"""The AT parser: each case read whole, byte by byte, cut in two everywhere, and in a tight buffer.

The cases are what modems were seen to send; the events are what V.250 and their manuals mean.
"""

import binascii
import unittest

from imprint.modem.at import AtParser

# The kinds of events, which at.py keeps to itself.
LINE, OK, ERROR, PROMPT, RAW = 1, 2, 3, 4, 5

# (name, wire, events). A line `+RAW: n` makes the reader expect n bytes, `+ASK` the prompt `>` and
# `+AT` the prompt `@`, as a running command would.
CASES = (
    ("nothing", b"", ()),
    ("ok", b"\r\nOK\r\n", ((OK, b"OK"),)),
    ("ok without header", b"OK\r\n", ((OK, b"OK"),)),
    ("cr only", b"OK\r", ((OK, b"OK"),)),
    ("lf only", b"OK\n", ((OK, b"OK"),)),
    ("empty lines", b"\r\n\r\n\r\r\n\nOK\r\n", ((OK, b"OK"),)),
    ("unfinished", b"\r\nOK", ()),
    ("quectel and u-blox", b"\r\nSEND OK\r\n\r\nCLOSE OK\r\n",
     ((OK, b"SEND OK"), (OK, b"CLOSE OK"))),
    ("error", b"\r\nERROR\r\n", ((ERROR, b"ERROR"),)),
    ("send fail", b"\r\nSEND FAIL\r\n", ((ERROR, b"SEND FAIL"),)),
    ("no carrier", b"\r\nNO CARRIER\r\n", ((ERROR, b"NO CARRIER"),)),
    ("the others of V.250", b"BUSY\r\nNO ANSWER\r\nNO DIALTONE\r\n",
     ((ERROR, b"BUSY"), (ERROR, b"NO ANSWER"), (ERROR, b"NO DIALTONE"))),
    ("cme", b"\r\n+CME ERROR: 10\r\n", ((ERROR, b"+CME ERROR: 10"),)),
    ("cme verbose", b"\r\n+CME ERROR: SIM busy\r\n", ((ERROR, b"+CME ERROR: SIM busy"),)),
    ("cms", b"\r\n+CMS ERROR: 310\r\n", ((ERROR, b"+CMS ERROR: 310"),)),
    ("information", b"\r\n+CSQ: 12,99\r\n\r\nOK\r\n", ((LINE, b"+CSQ: 12,99"), (OK, b"OK"))),
    ("like a final", b"OKAY\r\nERRORS\r\n+CME\r\n",
     ((LINE, b"OKAY"), (LINE, b"ERRORS"), (LINE, b"+CME"))),
    ("echo", b"AT+CSQ\r\r\nOK\r\n", ((LINE, b"AT+CSQ"), (OK, b"OK"))),
    ("trailing spaces", b"\r\nOK \r\n+X: 1  \r\n", ((OK, b"OK"), (LINE, b"+X: 1"))),
    ("noise at power-up", b"\x00\x00\xff\xfe\x80\r\nRDY\r\n", ((LINE, b"RDY"),)),
    ("noise before a line", b"\x00\xff\x1bRDY\r\n", ((LINE, b"RDY"),)),
    ("control bytes in a line", b"+X: a\x00b\xff\r\n", ((LINE, b"+X: a\x00b\xff"),)),
    ("prompt", b"+ASK\r\n> ", ((LINE, b"+ASK"), (PROMPT, b">"))),
    ("prompt after a line end", b"+ASK\r\n\r\n> \r\nSEND OK\r\n",
     ((LINE, b"+ASK"), (PROMPT, b">"), (OK, b"SEND OK"))),
    ("prompt after an echo", b"+ASK\r>", ((LINE, b"+ASK"), (PROMPT, b">"))),
    ("u-blox's prompt", b"+AT\r\n@", ((LINE, b"+AT"), (PROMPT, b"@"))),
    ("prompt with a URC before it", b"+ASK\r\n+CEREG: 1\r\n> ",
     ((LINE, b"+ASK"), (LINE, b"+CEREG: 1"), (PROMPT, b">"))),
    ("an error for a prompt", b"+ASK\r\nERROR\r\n", ((LINE, b"+ASK"), (ERROR, b"ERROR"))),
    ("one prompt only", b"+ASK\r\n> >\r\n", ((LINE, b"+ASK"), (PROMPT, b">"), (LINE, b">"))),
    ("no prompt expected", b"\r\n> \r\nOK\r\n", ((LINE, b">"), (OK, b"OK"))),
    ("counted", b"+RAW: 5\r\nhello\r\nOK\r\n", ((LINE, b"+RAW: 5"), (RAW, b"hello"), (OK, b"OK"))),
    ("counted after cr only", b"+RAW: 5\rhello\rOK\r",
     ((LINE, b"+RAW: 5"), (RAW, b"hello"), (OK, b"OK"))),
    ("counted after lf only", b"+RAW: 2\n\r\n\nOK\n",
     ((LINE, b"+RAW: 2"), (RAW, b"\r\n"), (OK, b"OK"))),
    ("counted line ends", b"+RAW: 4\r\n\n\r\r\n\r\nOK\r\n",
     ((LINE, b"+RAW: 4"), (RAW, b"\n\r\r\n"), (OK, b"OK"))),
    ("counted finals", b"+RAW: 22\r\n\r\nOK\r\nERROR\r\n+CME> @\r\n\r\nOK\r\n",
     ((LINE, b"+RAW: 22"), (RAW, b"\r\nOK\r\nERROR\r\n+CME> @\r\n"), (OK, b"OK"))),
    ("counted zero bytes", b"+RAW: 3\r\n\x00\xff\x1a\r\nOK\r\n",
     ((LINE, b"+RAW: 3"), (RAW, b"\x00\xff\x1a"), (OK, b"OK"))),
    ("none counted", b"+RAW: 0\r\n\r\nOK\r\n", ((LINE, b"+RAW: 0"), (OK, b"OK"))),
    ("counted twice", b"+RAW: 1\r\na\r\n+RAW: 1\r\nb\r\n",
     ((LINE, b"+RAW: 1"), (RAW, b"a"), (LINE, b"+RAW: 1"), (RAW, b"b"))),
    ("counted, cut off", b"+RAW: 9\r\nhello", ((LINE, b"+RAW: 9"),)),
)  # fmt: skip

_ROOM = 64  # bytes of buffer; the longest line and run of the cases are shorter


def read(pieces, size=_ROOM):
    """(events, parser) of a modem that sends those pieces, one after the other."""
    parser = AtParser(size)
    events = []
    for piece in pieces:
        start = 0
        while start < len(piece):
            stop = parser.feed(piece, start, len(piece))
            if stop == start:
                raise AssertionError("no room, though every event was taken")
            start = stop
            event = parser.next_event()
            while event:
                events.append(event)
                if event[0] == LINE:
                    expect(parser, event[1])
                event = parser.next_event()
    return events, parser


def expect(parser, line):
    if line.startswith(b"+HEX: "):
        parser.expect_raw(2 * int(line[6:]), True)
    elif line.startswith(b"+RAW: ") and line != b"+RAW: 0":
        parser.expect_raw(int(line[6:]))
    elif line == b"+ASK":
        parser.expect_prompt(b">")
    elif line == b"+AT":
        parser.expect_prompt(b"@")


class TestCases(unittest.TestCase):
    def test_whole(self):
        """Each case in one piece."""
        for name, wire, events in CASES:
            with self.subTest(name):
                self.assertEqual(list(events), read([wire])[0])

    def test_byte_by_byte(self):
        """Each case a byte at a time."""
        for name, wire, events in CASES:
            with self.subTest(name):
                pieces = [wire[index : index + 1] for index in range(len(wire))]
                self.assertEqual(list(events), read(pieces)[0])

    def test_cut_everywhere(self):
        """Each case in two pieces, cut at each place."""
        for name, wire, events in CASES:
            with self.subTest(name):
                for cut in range(len(wire) + 1):
                    self.assertEqual(list(events), read([wire[:cut], wire[cut:]])[0])

    def test_one_after_the_other(self):
        """All complete cases as one stream, in one piece and in pieces of seven bytes."""
        whole = [case for case in CASES if case[0] not in ("unfinished", "counted, cut off")]
        wire = b"\r\n".join([case[1] for case in whole if case[0] != "an error for a prompt"])
        events = []
        for name, _, expected in whole:
            if name != "an error for a prompt":  # its prompt would be expected ever after
                events += expected
        self.assertEqual(events, read([wire])[0])
        pieces = [wire[index : index + 7] for index in range(0, len(wire), 7)]
        self.assertEqual(events, read(pieces)[0])


class TestLimits(unittest.TestCase):
    def test_a_line_too_long(self):
        """Dropped whole and counted; the next one is read."""
        wire = b"A" * 200 + b"\r\nOK\r\n"
        for pieces in ([wire], [wire[:64], wire[64:]], [wire[i : i + 1] for i in range(206)]):
            events, parser = read(pieces)
            self.assertEqual(([(OK, b"OK")], 1), (events, parser.overlong))

    def test_the_longest_line(self):
        """One that just fits, its end included."""
        line = b"A" * (_ROOM - 1)
        self.assertEqual([(LINE, line)], read([line + b"\r"])[0])

    def test_a_run_too_long(self):
        """Counted to its end, and given out as lost; what follows is read."""
        data = b"\r\nOK\r\n" * 30
        wire = b"+RAW: 180\r\n" + data + b"\r\nOK\r\n"
        for step in (1, 7, 500):
            pieces = [wire[index : index + step] for index in range(0, len(wire), step)]
            events, parser = read(pieces)
            self.assertEqual([(LINE, b"+RAW: 180"), (RAW, None), (OK, b"OK")], events)
            self.assertEqual(1, parser.overlong)

    def test_the_longest_run(self):
        """As long as the buffer, after its header."""
        data = bytes(range(_ROOM))
        events = read([b"+RAW: %d\r\n" % _ROOM + data + b"\r\nOK\r\n"])[0]
        self.assertEqual([(LINE, b"+RAW: 64"), (RAW, data), (OK, b"OK")], events)

    def test_the_longest_run_of_digits(self):
        """Twice as long as the buffer has room, however it comes."""
        data = bytes(range(_ROOM - 1))
        wire = b"+HEX: %d\r\n" % len(data) + binascii.hexlify(data) + b"\r\nOK\r\n"
        for step in (1, 7, 64, 500):
            pieces = [wire[index : index + step] for index in range(0, len(wire), step)]
            events = read(pieces)[0]
            self.assertEqual([(LINE, b"+HEX: 63"), (RAW, data), (OK, b"OK")], events)

    def test_digits_that_are_none(self):
        """Counted to their end, and given out as lost; so are too many."""
        for digits in (b"0102x304", b"00" * _ROOM):
            wire = b"+HEX: %d\r\n" % (len(digits) // 2) + digits + b"\r\nOK\r\n"
            for step in (1, 7, 500):
                pieces = [wire[index : index + step] for index in range(0, len(wire), step)]
                self.assertEqual([(RAW, None), (OK, b"OK")], read(pieces)[0][1:])

    def test_a_run_abandoned(self):
        """What had come of it is read as lines, and so is what comes then."""
        events, parser = read([b"+RAW: 50\r\nab\r\nRDY"])
        self.assertTrue(parser.raw_pending())
        parser.abandon_raw()
        self.assertFalse(parser.raw_pending())
        parser.feed(b"\r\n", 0, 2)
        self.assertEqual((LINE, b"ab"), parser.next_event())
        self.assertEqual((LINE, b"RDY"), parser.next_event())
        self.assertIsNone(parser.next_event())

    def test_a_long_run_abandoned(self):
        """Also one that was too long to keep."""
        parser = read([b"+RAW: 180\r\nab"])[1]
        parser.abandon_raw()
        parser.feed(b"\r\nOK\r\n", 0, 6)
        self.assertEqual((OK, b"OK"), parser.next_event())

    def test_a_prompt_given_up(self):
        """`expect_prompt(None)` makes it text again."""
        parser = read([b"+ASK\r\n"])[1]
        parser.expect_prompt(None)
        parser.feed(b"> \r\n", 0, 4)
        self.assertEqual((LINE, b">"), parser.next_event())


class TestHeap(unittest.TestCase):
    def test_bytes_allocate_nothing(self):
        """Feeding, and finding that no event is complete, needs no heap (MicroPython)."""
        try:
            from micropython import heap_lock, heap_unlock
        except ImportError:  # CPython, where nothing can be said of it
            heap_lock = heap_unlock = _nothing
        parser = AtParser(_ROOM)
        wire = b"\x00\r\n+CSQ: 12"
        parser.feed(b"OK\r\n+X", 0, 6)
        parser.next_event()
        parser.feed(b"Y\r\n", 0, 3)
        parser.next_event()
        event = True
        heap_lock()
        try:
            for index in range(len(wire)):
                parser.feed(wire, index, index + 1)
                event = parser.next_event()
        finally:
            heap_unlock()
        self.assertIsNone(event)
        parser.feed(b"\r", 0, 1)
        self.assertEqual((LINE, b"+CSQ: 12"), parser.next_event())


def _nothing():
    pass
