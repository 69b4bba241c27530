"""The sequence diagram of a report: who told whom what, and when.

Time runs downwards, one row a message, so that everything can be read however close together it
was; the left column has the times, and a pause of a second or more gets a row of its own. What
the board was doing is the coloured bar on its lifeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from imprint_tools.journey import JourneyResult, Message, Party, Span
from imprint_tools.report_parts import ADVANCE, drawing, element, fitted, seconds_text, size_text
from imprint_tools.report_parts import words as _words

_WIDTH = 960
_GUTTER = 56
_X = {
    Party.BENCH: 136,
    Party.BOARD: 392,
    Party.ACCESS_POINT: 640,
    Party.MODEM: 640,
    Party.CLOUD: 888,
}
"""Of the two networks a journey has one."""
_HEADS = 46
_ROW = 30
_STATE_ROW = 30
_PAUSE_ROW = 30
_PAUSE_S = 1.0
_BAR = 8
_PAD = 10
_NOTE = 320  # width that a note may take, over the network's line if need be


@dataclass(frozen=True)
class _Row:
    at_s: float
    y: float
    thing: Message | Span | None


def sequence(result: JourneyResult) -> str:
    """The diagram as one SVG element."""
    rows, bottom = _rows(result.messages, result.states)
    lines = _lines(result)
    parts = [_lifelines(lines, bottom)]
    parts += [_bar(rows, bottom)]
    parts += [_pause(lines, row) for row in rows if row.thing is None]
    parts += [_state(row.y, row.thing) for row in rows if isinstance(row.thing, Span)]
    previous = ""
    for row in rows:
        if row.thing is not None:
            at = f"{row.at_s:.3f}"
            if at != previous:
                parts.append(_words(_GUTTER, row.y + 4, at, "quiet end"))
            previous = at
        if isinstance(row.thing, Message):
            parts.append(_message(row.y, row.thing))
    parts += [_heads(lines, 6), _heads(lines, bottom + 4)]
    parts += [_words(_GUTTER, 26, "seconds", "quiet end")]
    parties = ", ".join(lines)
    return drawing(
        _WIDTH,
        bottom + _HEADS,
        "Sequence diagram of the journey",
        f"Lifelines of {parties}; {len(result.messages)} messages from top to bottom in order of "
        "time. The same stands in the table below the diagram.",
        "".join(parts),
        "sequence",
    )


def _rows(messages: Sequence[Message], states: Sequence[Span]) -> tuple[list[_Row], float]:
    # A state is there before what is said in it at the same moment.
    things: list[tuple[float, int, Message | Span]] = [(s.start_s, 0, s) for s in states]
    things += [(m.at_s, 1, m) for m in messages]
    things.sort(key=lambda thing: thing[:2])
    rows: list[_Row] = []
    y, before = _HEADS + 26.0, None
    for at_s, _, thing in things:
        if before is not None and at_s - before >= _PAUSE_S:
            rows.append(_Row(at_s - before, y, None))
            y += _PAUSE_ROW
        rows.append(_Row(at_s, y, thing))
        y += _STATE_ROW if isinstance(thing, Span) else _ROW
        before = at_s
    return rows, y


def _lines(result: JourneyResult) -> dict[Party, int]:
    """Where the lifelines are of those who take part."""
    networks = {Party.ACCESS_POINT, Party.MODEM}
    absent = networks - {result.network}
    return {party: x for party, x in _X.items() if party not in absent}


def _lifelines(lines: Mapping[Party, int], bottom: float) -> str:
    return "".join(
        element("line", x1=x, y1=_HEADS - 10, x2=x, y2=bottom + 4, class_="lifeline")
        for x in lines.values()
    )


def _heads(lines: Mapping[Party, int], y: float) -> str:
    return "".join(
        element("rect", x=x - 66, y=y, width=132, height=30, rx=4, class_="party")
        + _words(x, y + 19.5, party.value, "strong middle")
        for party, x in lines.items()
    )


def _bar(rows: Sequence[_Row], bottom: float) -> str:
    starts = [(row.y, row.thing) for row in rows if isinstance(row.thing, Span)]
    ends = [y for y, _ in [*starts, (bottom - 10, None)]][1:]
    return "".join(
        element(
            "rect", x=_X[Party.BOARD] - _BAR / 2, y=y, width=_BAR, height=end - y,
            class_=f"state-bar s-{span.state}",
        )
        for (y, span), end in zip(starts, ends, strict=True)
    )  # fmt: skip


def _state(y: float, span: Span) -> str:
    width = len(span.state) * 8 + 22
    x = _X[Party.BOARD]
    return element(
        "g",
        element("title", escape(f"{span.state}: {seconds_text(span.end_s - span.start_s)}"))
        + element(
            "rect", x=x - width / 2, y=y - 10, width=width, height=20, rx=10,
            class_=f"state s-{span.state}",
        )
        + _words(x, y + 4, span.state, f"state-word s-{span.state}"),
    )  # fmt: skip


def _pause(lines: Mapping[Party, int], row: _Row) -> str:
    broken = "".join(
        element("line", x1=x, y1=row.y - 12, x2=x, y2=row.y + 12, class_="pause")
        for party, x in lines.items()
        if party is not Party.BOARD
    )
    return broken + _words(_GUTTER, row.y + 4, f"⋮ {row.at_s:.1f} s", "quiet end")


def _message(y: float, message: Message) -> str:
    start, end = _X[message.sender], _X[message.receiver]
    kind = _kind(message)
    if start == end:
        return _note(y, message, start, kind)
    way = 1 if end > start else -1
    near = _BAR / 2 + 1
    tail = start + way * (near if message.sender is Party.BOARD else 0)
    tip = end - way * (near if message.receiver is Party.BOARD else 1)
    drawn = element("line", x1=tail, y1=y + 6, x2=tip - way * 6, y2=y + 6, class_="arrow")
    head = f"M{tip} {y + 6}l{-way * 9} -4.5v9z"
    if not message.ok:
        head = f"M{tip - way * 12} {y + 1}l10 10m0 -10l-10 10"
    drawn += element("path", d=head, class_="head" if message.ok else "arrow")
    middle = (tail + tip) / 2
    # Beside a lifeline that the arrow only passes, not across it.
    room = abs(tip - tail) - 2 * _PAD
    return element("g", drawn + _label(middle, y, message, room, "middle"), class_=kind)


def _note(y: float, message: Message, x: float, kind: str) -> str:
    leftwards = message.sender is Party.CLOUD
    way = -1 if leftwards else 1
    drawn = element("circle", cx=x + way * 9, cy=y, r=2.5, class_="dot")
    text = _label(x + way * 17, y + 4, message, _NOTE, "end" if leftwards else "")
    return element("g", drawn + text, class_=kind)


def _label(x: float, y: float, message: Message, room: float, anchor: str) -> str:
    size = "" if message.size is None else f" · {size_text(message.size)}"
    text = fitted(message.text, room - len(size) * ADVANCE)
    content = escape(text) + (element("tspan", escape(size), class_="quiet") if size else "")
    full = message.text + size
    title = element("title", escape(full)) if text != message.text else ""
    return element("text", content + title, x=x, y=y, class_=f"halo {anchor}".rstrip())


def _kind(message: Message) -> str:
    if not message.ok:
        return "failed"
    order = list(_X)
    sender, receiver = order.index(message.sender), order.index(message.receiver)
    if Party.BENCH in (message.sender, message.receiver) or sender == receiver:
        return "local"
    return "up" if sender < receiver else "down"
