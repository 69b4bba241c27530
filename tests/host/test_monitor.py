"""The console: events decoded at any cut, codes explained, the wait bounded."""

from __future__ import annotations

import json
import os
import pty
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from imprint_tools import device_errors, monitor
from imprint_tools.cli.monitor import monitor as command
from imprint_tools.errors import DeviceError, PortError
from imprint_tools.monitor import Decoder, Event, Link, Text

CONSOLE = (
    b"ets Jul 29 2019\r\n"
    b'@imprint {"t":12,"e":"boot","version":"0.1.0"}\r\n'
    b'@imprint {"t":900,"e":"error","code":101,"name":"IdentityMissing","retry_ms":500}\r\n'
    b'gar@imprint {"t":1000,"e":"state","s":"CONNECT"}\r\n'
    b'@imprint {"t":"x"}\r\n'
    b"@imprint nonsense\r\n"
    b'@imprint {"t":1500,"e":"reported","id":"1","acked":true}\r\n'
)
ITEMS = [
    Text("ets Jul 29 2019"),
    Event(12, "boot", {"version": "0.1.0"}),
    Event(900, "error", {"code": 101, "name": "IdentityMissing", "retry_ms": 500}),
    Event(1000, "state", {"s": "CONNECT"}),
    Text('@imprint {"t":"x"}'),
    Text("@imprint nonsense"),
    Event(1500, "reported", {"id": "1", "acked": True}),
]


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal: the board's end, and the name of the other."""
    master, slave = _terminal()
    yield master, os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_lines_become_events() -> None:
    """Events where the line is one in all its parts, text elsewhere."""
    assert list(Decoder().feed(CONSOLE)) == ITEMS


def test_every_cut_reads_the_same() -> None:
    """A chunk may end anywhere, even within a character."""
    for at in range(len(CONSOLE)):
        decoder = Decoder()
        assert [*decoder.feed(CONSOLE[:at]), *decoder.feed(CONSOLE[at:])] == ITEMS
    decoder = Decoder()
    assert [item for byte in CONSOLE for item in decoder.feed(bytes([byte]))] == ITEMS


@given(st.lists(st.binary(max_size=9000)))
def test_any_bytes_are_items(chunks: list[bytes]) -> None:
    """Noise is text, is never kept beyond a line's ceiling, and never an exception."""
    decoder = Decoder()
    items = [item for chunk in chunks for item in decoder.feed(chunk)] + list(decoder.flush())
    assert all(isinstance(item, Event | Text) for item in items)
    assert all(len(item.line) <= 4096 for item in items if isinstance(item, Text))


def test_events_match_by_name_and_by_field() -> None:
    """`reported.acked` is a report that the cloud has answered."""
    event = Event(1, "reported", {"id": "1", "acked": False})
    assert event.matches("reported")
    assert not event.matches("reported.acked")
    assert not event.matches("online")
    assert Event(1, "reported", {"acked": True}).matches("reported.acked")


def test_follow_ends_at_the_event(line: tuple[int, str]) -> None:
    """Items come in order, and the wanted event is the last."""
    items = monitor.follow(line[1], until="reported.acked", timeout_s=10)
    os.write(line[0], CONSOLE)
    assert list(items) == ITEMS


def test_follow_ends_when_the_time_is_up(line: tuple[int, str]) -> None:
    """The wait is bounded, and the unfinished line is shown."""
    items = monitor.follow(line[1], until="online", timeout_s=0.3)
    os.write(line[0], b"boot...")
    assert next(items) == Text("boot...")
    with pytest.raises(DeviceError, match=r"no event online within 0\.3 s"):
        next(items)


def test_follow_ends_when_the_board_gives_up(line: tuple[int, str]) -> None:
    """A halted board will not come online: its error, cause and next step are ours."""
    items = monitor.follow(line[1], until="online", timeout_s=10)
    os.write(line[0], b'@imprint {"t":9,"e":"error","code":101,"retry":false}\n')
    assert isinstance(next(items), Event)
    os.write(line[0], b'@imprint {"t":9,"e":"state","s":"HALT"}\n')
    with pytest.raises(DeviceError, match="halted with error 101") as caught:
        list(items)
    assert "imprint inject" in caught.value.next_step


def test_a_port_that_goes_away_is_opened_again(tmp_path: Path) -> None:
    """A USB chip that resets takes its port with it for a moment."""
    name = tmp_path / "port"
    first, slave = _terminal()
    name.symlink_to(os.ttyname(slave))
    items = monitor.follow(str(name), until="online", timeout_s=20)
    os.write(first, b"one\n")
    assert next(items) == Text("one")
    name.unlink()
    os.close(slave)
    os.close(first)
    assert next(items) == Link(up=False)
    second, slave = _terminal()
    back = threading.Timer(0.2, name.symlink_to, [os.ttyname(slave)])
    back.start()
    assert next(items) == Link(up=True)
    os.write(second, b'@imprint {"t":1,"e":"online"}\n')
    assert list(items) == [Event(1, "online", {})]
    back.join()
    os.close(slave)
    os.close(second)


def _terminal() -> tuple[int, int]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    return master, slave


def test_a_port_that_is_not_there() -> None:
    """An absent port is said at once."""
    with pytest.raises(PortError, match="/dev/nothing"):
        monitor.follow("/dev/nothing")


def test_the_command_explains_in_words_and_in_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A person reads cause and next step beside a code; a script reads JSON lines."""
    monkeypatch.setattr(monitor, "follow", lambda *_args, **_kwargs: iter(ITEMS))
    words = CliRunner().invoke(command, ["--port", "x"])
    assert words.exit_code == 0
    assert "0.900 s  error      101 IdentityMissing retry_ms=500" in words.stdout
    assert "There is no identity on this board." in words.stdout
    assert "next: burn one with" in words.stdout
    assert "1.000 s  state      CONNECT" in words.stdout
    lines = CliRunner().invoke(command, ["--port", "x", "--json"]).stdout.splitlines()
    records = [json.loads(text) for text in lines]
    assert records[0] == {"kind": "text", "line": "ets Jul 29 2019"}
    assert records[2]["data"]["code"] == 101
    assert records[2]["cause"].startswith("There is no identity")


def test_every_device_error_has_words() -> None:
    """Each code of the firmware has a cause and a next step, and no two are the same."""
    found = device_errors.table()
    assert len(found) > 10
    for info in found.values():
        assert info.cause, info.name
        assert info.next_step, info.name


def test_codes_are_read_with_their_words() -> None:
    """`retry` is that of the class that the text names; a number without a text has no row."""
    found = device_errors.parse(
        'class Setup(Exception):\n    """Ours."""\n    retry = False\n'
        'class Weather(Exception):\n    """Not ours."""\n    retry = True\n'
        "_LIMIT = const(3)\n"
        '_LEFT_OPEN = const(7)\n"""Setup: A window\nis open.\n\nNext: close\nit.\n"""\n'
        '_RAIN = const(8)\n"""Weather: It rains.\n\nNext: take an umbrella.\n"""\n'
    )
    assert found == {
        7: device_errors.DeviceErrorInfo(7, "LeftOpen", False, "A window is open.", "close it."),
        8: device_errors.DeviceErrorInfo(8, "Rain", True, "It rains.", "take an umbrella."),
    }
    assert "does not know" in device_errors.explain(99999).cause
