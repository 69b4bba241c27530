"""A journey as one page to look at, to print and to mail: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from imprint_tools.journey import JourneyResult, Message, Step
from imprint_tools.report_charts import charts
from imprint_tools.report_parts import seconds_text, size_text
from imprint_tools.report_sequence import sequence

_STYLE = Path(__file__).with_name("report.css")


def render(result: JourneyResult) -> str:
    """The page as HTML. It holds what `result` holds, so no secret."""
    title = f"imprint: {result.journey} {result.outcome}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
{_verdict(result)}
{_figures(result)}
<h2>Set-up</h2>
{_facts(result)}
<h2>Who said what to whom</h2>
<p class="muted">Time runs downwards, one row a message. The bar on the line of the board is the
state that it was in. Blue goes to the cloud, purple comes from it.</p>
<figure>{sequence(result)}</figure>
{_message_table(result.messages)}
<h2>Over time</h2>
<figure class="chart">{charts(result)}</figure>
<h2>Steps</h2>
{_step_table(result.steps)}
<footer>Made by <code>imprint demo</code>, {escape(result.began)}.</footer>
</main>
</body>
</html>
"""


def _verdict(result: JourneyResult) -> str:
    eyebrow = f'<p class="eyebrow">Journey {escape(result.journey)}, {escape(result.began)}</p>'
    if result.ok:
        told = "report" if result.reports == 1 else "reports"
        return (
            f'<header class="verdict">{eyebrow}<h1><span class="mark">✓</span> '
            f"From blank flash to acknowledged telemetry in {seconds_text(result.seconds)}</h1>"
            f"<p>The cloud recorded and acknowledged {result.reports} {told}.</p></header>"
        )
    lines = f"<p>{escape(result.failure)}</p>"
    if result.next_step:
        lines += f"<p><strong>Next:</strong> {escape(result.next_step)}</p>"
    return (
        f'<header class="verdict failed">{eyebrow}<h1><span class="mark">✗</span> '
        f"No telemetry was acknowledged</h1>{lines}</header>"
    )


def _figures(result: JourneyResult) -> str:
    heap = "not seen" if result.heap_peak_bytes is None else size_text(result.heap_peak_bytes)
    of = f" of {size_text(result.heap_limit_bytes)}" if result.heap_limit_bytes else ""
    figures = (
        ("registrations", str(result.registrations), ""),
        ("reports acknowledged", str(result.reports), ""),
        ("sent up", size_text(result.bytes_up), _datagrams(result.datagrams_up)),
        ("came down", size_text(result.bytes_down), _datagrams(result.datagrams_down)),
        ("heap peak", heap, of),
        ("firmware as .mpy", size_text(result.mpy_bytes), ""),
    )
    return '<dl class="figures">' + "".join(
        f"<div><dd>{escape(value)}<small>{escape(more)}</small></dd><dt>{escape(name)}</dt></div>"
        for name, value, more in figures
    ) + "</dl>"  # fmt: skip


def _datagrams(count: int | None) -> str:
    return "" if count is None else f" in {count} datagrams"


def _facts(result: JourneyResult) -> str:
    return '<dl class="facts">' + "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in result.facts.items()
    ) + "</dl>"  # fmt: skip


def _step_table(steps: Iterable[Step]) -> str:
    rows = "".join(
        f"<tr><td>{escape(step.name)}</td>"
        f'<td class="number">{seconds_text(step.started_s)}</td>'
        f'<td class="number">{seconds_text(step.seconds)}</td>'
        + ('<td class="passed">✓ done</td>' if step.ok else '<td class="failed">✗ failed</td>')
        + f"<td>{escape(step.detail)}</td></tr>"
        for step in steps
    )
    return (
        '<table><thead><tr><th scope="col">Step</th><th scope="col" class="number">began at</th>'
        '<th scope="col" class="number">took</th><th scope="col">outcome</th>'
        f'<th scope="col">what it did</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _message_table(messages: Iterable[Message]) -> str:
    rows = "".join(
        f'<tr><td class="number">{message.at_s:.3f} s</td><td>{message.sender}</td>'
        f"<td>{message.receiver}</td><td>{escape(message.text)}</td>"
        f'<td class="number">{"" if message.size is None else size_text(message.size)}</td></tr>'
        for message in messages
    )
    return (
        "<details><summary>The same as a table</summary>"
        '<table><thead><tr><th scope="col" class="number">at</th><th scope="col">from</th>'
        '<th scope="col">to</th><th scope="col">what</th>'
        '<th scope="col" class="number">size</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )
