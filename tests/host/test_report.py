"""The report page: whole, self-contained, legible to people and to programs that read pages."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from imprint_tools.journey import (
    ACKNOWLEDGED,
    FAILED,
    Heap,
    JourneyResult,
    Message,
    Party,
    Span,
    Step,
    Traffic,
)
from imprint_tools.report import render
from imprint_tools.report_parts import size_text, ticks

BENCH, BOARD, AIR, _, CLOUD = Party

RESULT = JourneyResult(
    journey="aliyun",
    outcome=ACKNOWLEDGED,
    began="2026-05-04T10:00:00+02:00",
    facts={"chip": "ESP32", "registration": "regnwl", "runtime": "MicroPython 1.25.0 i386"},
    steps=(
        Step("image", 0, 0.71, True, "23 files, 96 kB"),
        Step("flash", 0.71, 1.62, True, "esptool, verified by MD5"),
        Step("inject", 2.33, 0.64, True, "identity sha256:0badcafe"),
        Step("register", 2.97, 1.21, True, "regnwl"),
        Step("report", 4.18, 4.02, True, "3 reports"),
    ),
    messages=(
        Message(0.75, BENCH, BOARD, "ESP32 ROM loader: connect, MD5, write", 412_000),
        Message(2.32, BOARD, BENCH, "hashes equal what was sent"),
        Message(2.35, BENCH, BOARD, "identity into NVS", 1432),
        Message(2.97, BENCH, BOARD, "reset by EN"),
        Message(3.01, BOARD, BOARD, "boot, 46.2 kB of heap free"),
        Message(3.11, BOARD, AIR, "join imprint-bench"),
        Message(3.15, BOARD, AIR, "NTP: what time is it?", 48),
        Message(3.15, AIR, BOARD, "2026-05-04 08:00:03 UTC", 48),
        Message(3.21, BOARD, CLOUD, "TLS 1.2, name and chain verified", 812),
        Message(3.42, BOARD, CLOUD, "CONNECT regnwl, signed by hmacsha256", 244),
        Message(3.50, CLOUD, BOARD, "/ext/regnwl: clientId and deviceToken", 182),
        Message(3.61, BOARD, BOARD, "credential kept and read back"),
        Message(3.80, BOARD, CLOUD, "CONNECT connwl by deviceToken", 233),
        Message(3.81, CLOUD, BOARD, "CONNACK 0"),
        Message(4.18, BOARD, CLOUD, "property post 1171", 141),
        Message(4.20, CLOUD, BOARD, "property post reply 200", 96),
        Message(6.18, BOARD, CLOUD, "property post 1172", 141),
        Message(6.20, CLOUD, BOARD, "property post reply 200", 96),
        Message(6.21, CLOUD, CLOUD, "recorded: heap_free, uptime_s"),
    ),
    states=(
        Span("ROM", 0.72, 2.32),
        Span("REPL", 2.32, 2.97),
        Span("IDENTITY", 3.02, 3.1),
        Span("LINK", 3.1, 3.14),
        Span("CLOCK", 3.14, 3.2),
        Span("REGISTER", 3.2, 3.7),
        Span("CONNECT", 3.7, 4.1),
        Span("ONLINE", 4.1, 8.2),
    ),
    traffic=(
        Traffic(3.15, 48, 48),
        Traffic(3.4, 1100, 2800),
        Traffic(3.8, 1700, 3100),
        Traffic(4.2, 2900, 5900),
        Traffic(6.2, 3100, 6100),
    ),
    heap=(Heap(3.01, 17_000), Heap(3.4, 31_200), Heap(4.1, 38_900), Heap(6.2, 33_000)),
    heap_limit_bytes=65_536,
    registrations=1,
    reports=2,
    bytes_up=3100,
    bytes_down=6100,
    heap_peak_bytes=38_900,
    mpy_bytes=22_871,
)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags_of(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Page()
    parser.feed(page)
    return parser.tags


def test_takes_nothing_from_elsewhere() -> None:
    """The page has no script and no address, so it shows the same years later and offline."""
    page = render(RESULT)
    names = {name for name, _ in tags_of(page)}
    assert names.isdisjoint({"script", "link", "img", "iframe", "image", "use", "object"})
    attributes = {key for _, attrs in tags_of(page) for key in attrs}
    assert attributes.isdisjoint({"href", "src", "srcset", "xlink:href", "style", "onload"})
    assert not re.search(r"https?://|url\(|@import|@font-face", page)


def test_pictures_are_well_formed_and_named() -> None:
    """Each picture is proper XML with a title and a description that a reader can speak."""
    pictures = re.findall(r"<svg.*?</svg>", render(RESULT), re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        root = ElementTree.fromstring(picture)  # noqa: S314 - the text is our own
        assert root.get("role") == "img"
        named = {child.get("id"): child.text for child in root[:2]}
        assert list(named) == (root.get("aria-labelledby") or "").split()
        assert all(named.values())


def test_every_message_and_step_is_on_the_page() -> None:
    """What was said and done can be read as text, too."""
    page = render(RESULT)
    for message in RESULT.messages:
        assert page.count(message.text) >= 2, "in the picture, and in the table"
    for step in RESULT.steps:
        assert step.detail in page


def test_says_the_verdict_first() -> None:
    """The first heading tells whether telemetry arrived."""
    heading = re.search(r"<h1>(.*?)</h1>", render(RESULT))
    assert heading and "acknowledged telemetry in 8.20 s" in heading[1]


def test_failure_says_what_and_what_next() -> None:
    """A journey that failed says why and what a person does, and needs no samples to be drawn."""
    failed = JourneyResult(
        "aliyun",
        FAILED,
        RESULT.began,
        steps=(Step("flash", 0, 1.5, False, "the port fell silent"),),
        failure="flash: the port fell silent",
        next_step="Look at the cable.",
    )
    page = render(failed)
    assert "No telemetry was acknowledged" in page
    assert failed.failure in page and failed.next_step in page
    assert "✗ failed" in page


def test_text_is_escaped() -> None:
    """What a device or a user named with markup stays text."""
    hostile = "<script>&\"'"
    page = render(
        replace(
            RESULT,
            facts={hostile: hostile},
            messages=(Message(0, BOARD, CLOUD, hostile),),
            states=(Span(hostile, 0, 1),),
            steps=(Step(hostile, 0, 1, True, hostile),),
        )
    )
    assert "script" not in {name for name, _ in tags_of(page)}
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(picture)  # noqa: S314 - the text is our own


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (65_536, "65.5 kB"), (4_194_304, "4.19 MB")],
)
def test_sizes_have_three_digits(size: int, text: str) -> None:
    """Sizes are given in the unit that fits, with three digits that count."""
    assert size_text(size) == text


@pytest.mark.parametrize("most", [0.0, 0.1, 0.7, 1, 3, 8.2, 97, 65_536])
def test_axes_have_round_ticks_and_hold_their_data(most: float) -> None:
    """An axis begins at 0, goes on in equal round steps and ends at or after its data."""
    marks = ticks(most, 5)
    assert marks[0] == 0 and marks[-1] >= most * 0.999
    assert 2 <= len(marks) <= 8
