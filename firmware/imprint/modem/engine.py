"""One command at a time, and every line to whom it belongs. Pure: bytes and time are arguments.

A dialogue is a generator (a dialect's method). It yields a `Command` and gets the lines that
answer it, or a `Wait` and gets the line waited for; what goes wrong is raised in it where it
yielded. The engine decides what each line is:

    the running command's  it has the command's `prefix` (and `fits` agrees)
    a URC                  it begins as one of the dialect's URCS; kept for `urc()`, in order
    the running command's  it asked for lines of any kind (`prefix` None)
    an echo                it begins with AT
    noise                  anything else; counted in `strays`

Rules. Nothing is ever repeated here: a command that sends or dials may have done so though its
final did not come. After a timeout, a reboot, at the start and after `distrust()` the modem is
not believed: before the next command it is asked for something whose answer has a name of its
own (AT+CMEE? and AT+CFUN? in turn) until just that answer comes, followed by silence. So a final
that comes late cannot be taken for another command's, and a UART that sleeps is woken.
A command that held a secret shows its name in errors, and nothing else.
"""

from micropython import const

from imprint import ticks
from imprint.errors import ProtocolError, WeatherError
from imprint.modem.at import AtParser
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    Talk = Generator[Any, Any, Any]

_DEFAULT_MS = const(10000)  # u-blox: 8 to 10 s for what is not said to take longer
_PROBE_MS = const(1000)
_PROBES = const(12)  # a modem boots in 2 to 10 s
_SETTLE_MS = const(100)  # of silence after the answer to a probe
_RAW_STALL_MS = const(1000)  # without a byte of a counted run
_LINES_MAX = const(32)  # of one answer
_URCS_MAX = const(16)

# at.py
_LINE = const(1)
_OK = const(2)
_PROMPT = const(4)
_RAW = const(5)

# What is going on.
_IDLE = const(0)
_STAGED = const(1)  # a command waits for its turn to be sent
_PROBING = const(2)  # a probe was sent, to get in step again
_SETTLING = const(3)  # the probe was answered, silence must follow
_PROMPTING = const(4)  # sent, the prompt is awaited
_PAUSING = const(5)  # prompted, the payload goes in a moment
_RUNNING = const(6)  # sent, the final is awaited
_UNTIL = const(7)  # the final came, the line `until` is awaited
_WAITING = const(8)  # a Wait

# errors.py
_MODEM_SILENT = const(220)
_MODEM_TIMEOUT = const(221)
_MODEM_GARBAGE = const(222)
_MODEM_REBOOTED = const(227)


class Command:
    """One command line, and what is to be expected of its answer.

    line        without its end; a Secret if an argument is one, or a list of its pieces
    timeout_ms  from sending to the end of the answer
    prefix      of the information lines; None: any line that is no URC
    least       so many of them must come (1 with a prefix), or it is an error although OK came
    fits        says of a line with that prefix whether it answers (else it is a URC)
    payload     bytes or Secret, sent after the prompt as they are
    prompt      `>`, `@`, or a line such as CONNECT
    prompt_ms   the prompt may be missing: after so long the payload is sent anyway
    until       the answer is complete with a line that begins so, which may come before the final
    final       a line that begins so also is a final that says yes; b"": no final comes
    bare        the line is sent without its end
    dials       NO CARRIER is a final for it; for others it is noise of a dial long gone
    resets      the modem starts anew after it: get in step before the next command
    """

    # What is not given is not stored: a small heap seldom has a long run free.
    timeout_ms = _DEFAULT_MS
    prefix: "bytes | None" = None
    least = 0
    fits: "Callable[[bytes], bool] | None" = None
    payload: "bytes | Secret | None" = None
    prompt: "bytes | None" = None
    prompt_ms: "int | None" = None
    until: "bytes | None" = None
    final: "bytes | None" = None
    bare = False
    dials = False
    resets = False

    def __init__(self, line: "bytes | Secret | list", timeout_ms: int = 0, **given: "Any") -> None:
        self.line = line
        if timeout_ms:
            self.timeout_ms = timeout_ms
        if "prefix" in given:
            self.least = 1
        for name, value in given.items():
            setattr(self, name, value)

    def name(self) -> str:
        """The line up to its arguments: what errors may show."""
        line = self.line[0] if isinstance(self.line, list) else _reveal(self.line)
        for index in range(len(line)):
            if line[index] in b"=?":
                return line[:index].decode()
        return line.decode()

    def takes(self, line: bytes) -> bool:
        """Whether `line` is, by its looks, an information line of the answer."""
        if self.prefix is None or not line.startswith(self.prefix):
            return False
        return self.fits is None or self.fits(line)


class Wait:
    """Until a line that begins with `until` comes, or `timeout_ms` pass; gives the line or None.

    A URC that came before and was not taken yet counts. Without `until` it is a pause.
    """

    def __init__(self, timeout_ms: int, until: "bytes | None" = None) -> None:
        self.timeout_ms = timeout_ms
        self.until = until


class Engine:
    """For one modem, whose `dialect` says what its URCs are and how long a counted run is."""

    def __init__(self, dialect) -> None:
        self.lost = 0  # URCs that nobody took in time
        self.strays = 0  # lines that were nothing known: noise, or a URC cut in half
        self._dialect = dialect
        self._parser = AtParser(dialect.BUFFER)
        self._talk: "Talk | None" = None
        self._value = None  # what the dialogue returned
        self._error: "Exception | None" = None  # or raised
        self._state = _IDLE
        self._command: "Command | None" = None
        self._wait: "Wait | None" = None
        self._found: "bytes | None" = None  # the line that ends the Wait
        self._lines: list = []  # of the answer so far
        self._until: "bytes | None" = None  # the line `until`, once it came
        self._deadline = 0  # ticks: of what _state says
        self._pause_until = 0  # ticks: then the payload is sent
        self._free_at = 0  # ticks: no command before
        self._trusted = False  # the modem is in step with us
        self._probes = 0  # sent since it was not
        self._probed = False  # the probe's own line came
        self._out: list = []  # to be sent
        self._urcs: list = []  # (line, counted run or None)
        self._raw_line: "bytes | None" = None  # the URC whose counted run is on its way
        self._raw_lines: "list | None" = None  # or the answer that it belongs to
        self._raw_at = 0  # ticks: of the last byte of it

    # --- what the skin calls

    def start(self, talk: "Talk", now: int) -> None:
        """Begin a dialogue; only when the one before is done. `result` tells how it ended."""
        if self._talk:
            raise RuntimeError("a dialogue is running")
        self._talk = talk
        self._value = self._error = None
        self._step(now, None, None)

    def feed(self, data, start: int, end: int, now: int) -> None:
        """Bytes data[start:end] came from the modem."""
        parser = self._parser
        if parser.raw_pending():
            self._raw_at = now
        while start < end:
            start = parser.feed(data, start, end)
            self._drain(now)

    def to_send(self) -> "bytes | None":
        """The next bytes for the modem, or None."""
        return self._out.pop(0) if self._out else None

    def next_timeout(self, now: int) -> "int | None":
        """Milliseconds until `handle_timer` has something to do; None: nothing is waited for."""
        due = None
        if self._state != _IDLE:
            due = max(0, ticks.diff(self._due(), now))
        if self._parser.raw_pending():
            stall = max(0, _RAW_STALL_MS - ticks.diff(now, self._raw_at))
            due = stall if due is None else min(due, stall)
        return due

    def handle_timer(self, now: int) -> None:
        """Do what is due."""
        if self._parser.raw_pending() and ticks.diff(now, self._raw_at) >= _RAW_STALL_MS:
            self._abandon_raw(now)
        state = self._state
        if state == _IDLE or ticks.diff(self._due(), now) > 0:
            return
        if state == _STAGED:
            self._send(now)
        elif state == _PAUSING or (state == _PROMPTING and self._prompt_is_optional()):
            self._send_payload(now)
        elif state == _PROBING:
            self._probe(now)
        elif state == _SETTLING:
            self._trusted = True
            self._send(now)
        elif state == _WAITING:
            self._step(now, self._found, None)
        else:
            if state != _UNTIL:  # else the final came: the modem is in step
                self._trusted = False
            self._fail(WeatherError(_MODEM_TIMEOUT, self._command.name()), now)

    def done(self) -> bool:
        """Whether the dialogue has ended, or none was begun."""
        return self._talk is None

    def result(self):
        """What the last dialogue returned; raises what it raised."""
        if self._error:
            raise self._error
        return self._value

    def abort(self) -> None:
        """End the dialogue at once, whatever it waits for."""
        if self._talk:
            self._talk.close()
            if _PROMPTING <= self._state <= _RUNNING:
                self._trusted = False
            self._parser.expect_prompt(None)
            self._finish(None, None)

    def distrust(self) -> None:
        """The modem slept, lost power or was talked to by others: get in step before the next
        command."""
        self._trusted = False

    def urc(self) -> "tuple | None":
        """(line, counted run or None) of the oldest URC that nobody took, or None."""
        return self._urcs.pop(0) if self._urcs else None

    # --- the dialogue

    def _step(self, now: int, value, error: "Exception | None") -> None:
        self._state = _IDLE
        self._command = self._wait = self._found = None
        try:
            item = self._talk.throw(error) if error else self._talk.send(value)
        except StopIteration as stop:
            self._finish(stop.value, None)
            return
        except Exception as raised:
            self._finish(None, raised)
            return
        if isinstance(item, Wait):
            self._wait = item
            self._found = self._take_urc(item.until)
            self._state = _WAITING
            self._deadline = now if self._found else ticks.add(now, item.timeout_ms)
        else:
            self._command = item
            self._state = _STAGED
            # What is long past would lie days ahead once the ticks have wrapped.
            if not 0 <= ticks.diff(self._free_at, now) <= self._dialect.SEND_GAP_MS:
                self._free_at = now
            self._probes = 0

    def _finish(self, value, error: "Exception | None") -> None:
        self._talk = self._command = self._wait = None
        self._state = _IDLE
        self._value = value
        self._error = error
        self._lines = []

    def _fail(self, error: "Exception", now: int) -> None:
        self._parser.expect_prompt(None)
        self._free_at = ticks.add(now, self._dialect.SEND_GAP_MS)
        self._step(now, None, error)

    def _take_urc(self, prefix: "bytes | None") -> "bytes | None":
        for index in range(len(self._urcs)):
            if prefix and self._urcs[index][0].startswith(prefix):
                return self._urcs.pop(index)[0]
        return None

    # --- out

    def _due(self) -> int:
        if self._state == _STAGED:
            return self._free_at
        if self._state == _PAUSING or (self._state == _PROMPTING and self._prompt_is_optional()):
            return self._pause_until
        return self._deadline

    def _prompt_is_optional(self) -> bool:
        return self._command.prompt_ms is not None

    def _send(self, now: int) -> None:
        if not self._trusted:
            self._probe(now)
            return
        command = self._command
        self._lines = []
        self._until = None
        self._deadline = ticks.add(now, command.timeout_ms)
        self._state = _RUNNING
        if command.prompt:
            self._state = _PROMPTING
            self._pause_until = ticks.add(now, command.prompt_ms or 0)
            if len(command.prompt) == 1:
                self._parser.expect_prompt(command.prompt)
        if isinstance(command.line, list):
            self._out += command.line
            self._out.append(self._dialect.eol)
        else:
            line = _reveal(command.line)
            self._out.append(line if command.bare else line + self._dialect.eol)
        if command.final == b"" and not command.prompt:
            self._complete(now)

    def _await_payload(self, now: int) -> None:
        # The prompt came; some modems need a moment before the payload.
        self._state = _PAUSING
        self._pause_until = ticks.add(now, self._dialect.PROMPT_GAP_MS)

    def _send_payload(self, now: int) -> None:
        self._parser.expect_prompt(None)
        payload = _reveal(self._command.payload)
        self._out.append(payload)
        self._state = _RUNNING
        if self._command.final == b"":
            self._complete(now)

    def _probe(self, now: int) -> None:
        if self._probes >= _PROBES:
            self._fail(WeatherError(_MODEM_SILENT), now)
            return
        probe = b"AT+CFUN?" if self._probes % 2 else b"AT+CMEE?"
        self._out.append(probe + self._dialect.eol)
        self._probes += 1
        self._probed = False
        self._state = _PROBING
        self._deadline = ticks.add(now, _PROBE_MS)

    # --- in

    def _drain(self, now: int) -> None:
        event = self._parser.next_event()
        while event:
            self._take(event[0], event[1], now)
            event = self._parser.next_event()

    def _take(self, kind: int, data, now: int) -> None:
        if kind == _RAW:
            self._take_raw(data)
        elif kind == _PROMPT:
            if self._state == _PROMPTING:
                self._await_payload(now)
        elif kind == _LINE:
            length = self._dialect.raw_after(data)
            if length:
                self._parser.expect_raw(length, data.startswith(self._dialect.DIGITS_AFTER))
                self._raw_at = now
            self._take_line(data, length, now)
        else:
            self._take_final(kind == _OK, data, now)

    def _take_line(self, line: bytes, raw_length: int, now: int) -> None:
        self._raw_lines = self._raw_line = None
        if self._is_awaited(line, raw_length, now):
            return
        for prefix in self._dialect.URCS:
            if line.startswith(prefix):
                self._take_unsolicited(line, raw_length, now)
                return
        if line[:2].upper() == b"AT":
            return  # an echo: it may hold a secret
        command = self._command if self._state >= _PROMPTING else None
        if command and command.prefix is None:
            self._answer(line, raw_length)
        else:
            self._stray(now)

    def _is_awaited(self, line: bytes, raw_length: int, now: int) -> bool:
        # Whether it is for the probe, the Wait or, by its looks, the command; if so it is dealt
        # with. A command that takes any line leaves URCs and echoes alone.
        state = self._state
        command = self._command
        if state == _PROBING:
            self._probed = self._probed or line.startswith(
                b"+CMEE:" if self._probes % 2 else b"+CFUN:"
            )
            return self._probed
        if state == _WAITING:
            awaited = self._wait.until
            if not awaited or not line.startswith(awaited):
                return False
            self._step(now, line, None)
            return True
        if state < _PROMPTING:
            return False
        if command.until and line.startswith(command.until):
            self._until = line
            if state == _UNTIL:
                self._complete(now)
        elif command.takes(line):
            self._answer(line, raw_length)
        elif command.final and line.startswith(command.final):
            self._take_final(True, line, now)
        elif state == _PROMPTING and line == command.prompt:
            self._await_payload(now)
        else:
            return False
        return True

    def _answer(self, line: bytes, raw_length: int) -> None:
        if len(self._lines) >= _LINES_MAX:
            self.strays += 1
            return
        self._lines.append(line)
        if raw_length:
            self._raw_lines = self._lines

    def _take_unsolicited(self, line: bytes, raw_length: int, now: int) -> None:
        if raw_length:
            self._raw_line = line
        else:
            self._keep(line, None)
        if line in self._dialect.BOOT:
            self._trusted = False
            if self._state == _SETTLING:
                self._probe(now)
            elif self._state not in (_IDLE, _PROBING):
                self._fail(WeatherError(_MODEM_REBOOTED), now)

    def _keep(self, line: bytes, data: "bytes | None") -> None:
        if len(self._urcs) >= _URCS_MAX:
            self._urcs.pop(0)
            self.lost += 1
        self._urcs.append((line, data))

    def _take_raw(self, data: "bytes | None") -> None:
        if data is None:
            self.lost += 1
        elif self._raw_lines is not None:
            self._raw_lines.append(data)
        elif self._raw_line:
            self._keep(self._raw_line, data)
        self._raw_lines = self._raw_line = None

    def _abandon_raw(self, now: int) -> None:
        # What comes of it as lines is noise; a final in it must not end a command.
        self.lost += 1
        self._raw_lines = self._raw_line = None
        self._trusted = False
        self._parser.abandon_raw()
        if self._state >= _PROMPTING and self._command:
            self._fail(WeatherError(_MODEM_TIMEOUT, self._command.name()), now)
        self._drain(now)

    def _take_final(self, good: bool, line: bytes, now: int) -> None:
        state = self._state
        if state == _PROBING:
            if self._probed:
                self._state = _SETTLING
                self._deadline = ticks.add(now, _SETTLE_MS)
            return
        if not _PROMPTING <= state <= _RUNNING:
            self._stray(now)  # nobody waits for it
            return
        command = self._command
        if line == b"NO CARRIER" and not command.dials:
            self._stray(now)
            return
        self._free_at = ticks.add(now, self._dialect.SEND_GAP_MS)
        if command.resets:
            self._trusted = False
        if not good:
            from imprint.modem import cme

            self._fail(cme.error(line, command.name()), now)
        elif state != _RUNNING:
            if line == command.prompt:
                self._send_payload(now)
            else:
                self._fail(ProtocolError(_MODEM_GARBAGE, command.name()), now)
        elif command.until and not self._until:
            self._state = _UNTIL
        else:
            self._complete(now)

    def _complete(self, now: int) -> None:
        lines = self._lines
        if len(lines) < self._command.least:
            self._fail(ProtocolError(_MODEM_GARBAGE, self._command.name()), now)
            return
        if self._until:
            lines.append(self._until)
        self._lines = []
        self._step(now, lines, None)

    def _stray(self, now: int) -> None:
        self.strays += 1
        if self._state == _SETTLING:  # late answers, which come one after the other
            self._deadline = ticks.add(now, _SETTLE_MS)
            self._probes += 1
            if self._probes > _PROBES + _LINES_MAX:
                self._fail(WeatherError(_MODEM_SILENT), now)


def _reveal(data) -> bytes:
    return data.reveal() if isinstance(data, Secret) else data
