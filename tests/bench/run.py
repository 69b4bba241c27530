"""Measure what a bench engineer waits for and what a board pays, beside what people use today.

    python tests/bench/run.py                 everything, some twenty minutes
    python tests/bench/run.py --quick         fewer runs, less than half of that
    python tests/bench/run.py --only sizes    one section (may be repeated)

Prints one table and writes the same as JSON (--json FILE, build/bench.json). Nothing here passes
or fails by the clock: the exit status is 1 only when something could not be measured. What is
counted stands under each section's title, and in docs/bench.md, which `--docs` writes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

import air_bytes
import at_line
import factory
import flashing
import gateway
import heap
import issuing
import modem_heap
import nvs_images
import provisioning
import sizes
import telemetry
from lab import Lab
from measure import Section
from show import document, markdown, table

ROOT = Path(__file__).resolve().parent.parent.parent
RESULT = ROOT / "build/bench.json"
PAGE = ROOT / "docs/bench.md"
MARKER = "<!-- written by tests/bench/run.py --docs -->"
SECTIONS = {
    "flashing": flashing.measure,
    "telemetry": telemetry.measure,
    "heap": heap.measure,
    "nvs": nvs_images.measure,
    "sizes": sizes.measure,
    "air": air_bytes.measure,
    "modem-heap": modem_heap.measure,
    "at": at_line.measure,
    "gateway": gateway.measure,
    "azure": provisioning.measure,
    "factory": factory.measure,
    "issuing": issuing.measure,
}


def main() -> int:
    """Measure, show, write; 1 when a section could not be measured."""
    options = _options()
    began = time.perf_counter()
    sections: dict[str, Section] = {}
    failed: list[str] = []
    with Lab(quick=options.quick) as lab:
        for name in options.only or SECTIONS:
            print(f"bench: {name} ...", file=sys.stderr)
            try:
                sections[name] = SECTIONS[name](lab)
            except Exception:  # the other sections are worth having
                traceback.print_exc()
                failed.append(name)
    seconds = time.perf_counter() - began
    result = document(sections, quick=options.quick, seconds=seconds, failed=failed)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    if options.docs:
        PAGE.write_text(_with_table(PAGE.read_text(), markdown(result)))
    return 1 if failed else 0


def _with_table(page: str, text: str) -> str:
    """The page with its generated part, which goes from the marker to the end, written anew."""
    return page[: page.index(MARKER) + len(MARKER)] + "\n\n" + text


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs, within four minutes")
    parser.add_argument(
        "--only", action="append", choices=list(SECTIONS), help="one section (repeatable)"
    )
    parser.add_argument(
        "--json", type=Path, default=RESULT, metavar="FILE", help="default: build/bench.json"
    )
    parser.add_argument(
        "--docs", action="store_true", help="write the table into docs/bench.md, too"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
