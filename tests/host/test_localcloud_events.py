"""The event log: bounded in memory and on disk, and something to wait on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from imprint_tools.localcloud import events
from imprint_tools.localcloud.events import EventLog


def test_the_oldest_events_leave_memory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark taken before stays a mark."""
    monkeypatch.setattr(events, "_KEPT_MAX", 3)
    log = EventLog(tmp_path / "events.jsonl", clock=lambda: 1.5)
    for number in range(4):
        log.add("step", number=number)
    mark = log.mark()
    log.add("step", number=4)
    assert [event["number"] for event in log.all()] == [2, 3, 4]
    assert log.wait("step", timeout_s=0, after=mark)["number"] == 4
    assert log.all()[0] == {"time": 1.5, "connection": None, "kind": "step", "number": 2}


def test_waiting_for_what_does_not_come_is_bounded(tmp_path: Path) -> None:
    """The error names what was waited for; an earlier event of the kind does not count."""
    log = EventLog(tmp_path / "events.jsonl")
    log.add("step", number=1)
    with pytest.raises(TimeoutError, match="no event 'step'"):
        log.wait("step", timeout_s=0.01, number=2)
    with pytest.raises(TimeoutError):
        log.wait("step", timeout_s=0.01, after=log.mark())


def test_an_overgrown_file_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next start; what is put aside is one generation."""
    monkeypatch.setattr(events, "_FILE_MAX", 10)
    path = tmp_path / "events.jsonl"
    for generation in range(2):
        log = EventLog(path)
        log.open()
        log.add("step", generation=generation)
        log.close()
    assert json.loads(path.read_text())["generation"] == 1
    assert json.loads(path.with_name("events.jsonl.1").read_text())["generation"] == 0
