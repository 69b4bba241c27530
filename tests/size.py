"""What the firmware costs on a board: bytes of .mpy, and of heap once imported, by module.

    python tests/size.py            measure, and exit 1 if size_budget.json is exceeded
    python tests/size.py --json     the same as one JSON object
    python tests/size.py --write    make what is measured now the modules' budget, with some room

Compiled as boards get it (mpy-cross -O2, short private names). The heap is 32-bit MicroPython's
after importing the modules one after the other, each after those that it needs. Frozen or
executed in place, as from a ROMFS, most of it would stay in flash.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from imprint_tools import image, runtime
from run_on_micropython import ROOT, SHIMS, STAND_INS, TIMEOUT_S
from test_architecture import MODULES, imports, parse

BUDGET = Path(__file__).with_name("size_budget.json")

# journey: the modules (and what begins with them) that not every journey has a use for.
ONLY = {
    "aliyun": (
        "imprint.clouds.aliyun",
        "imprint.fields.aliyun",
        "imprint.net.aliyun",
        "imprint.net.mqtt",
        "imprint.wire.mqtt",
    ),
    "enos-coap": (
        "imprint.clouds.enos_coap",
        "imprint.fields.enos_coap",
        "imprint.links.cellular",
        "imprint.modem",
        "imprint.net.coap",
        "imprint.net.dtls",
        "imprint.ticks",
        "imprint.wire.coap",
    ),
    "enos-gateway": (
        "imprint.clouds.enos_gateway",
        "imprint.clouds.enos_mqtt",
        "imprint.clouds.enos_rest",
        "imprint.drivers",
        "imprint.fields.enos_gateway",
        "imprint.net.enos",
        "imprint.net.http",
        "imprint.net.mqtt",
        "imprint.subdevices",
        "imprint.wire.der",
        "imprint.wire.http",
        "imprint.wire.mqtt",
    ),
    "azure-dps": (
        "imprint.clouds.azure_dps",
        "imprint.clouds.azure_hub",
        "imprint.clouds.azure_sas",
        "imprint.fields.azure_dps",
        "imprint.net.azure",
        "imprint.net.mqtt",
        "imprint.wire.mqtt",
        "imprint.wire.percent",
    ),
    "azure-edge": (
        "imprint.clouds.azure_edge",
        "imprint.clouds.azure_hub",
        "imprint.clouds.azure_sas",
        "imprint.fields.azure_edge",
        "imprint.net.azure",
        "imprint.net.mqtt",
        "imprint.wire.mqtt",
        "imprint.wire.percent",
    ),
}

HEAP = """\
import gc, sys
sys.path[:0] = {path!r}
import esp32, machine, network, socket, tls, umqtt.simple
for name in {names!r}:
    gc.collect()
    before = gc.mem_alloc()
    __import__(name)
    gc.collect()
    print(name, gc.mem_alloc() - before)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--write", action="store_true", help="write the modules' budget anew")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imprint-size-") as scratch:
        stage = Path(scratch)
        flash = measure_flash(stage)
        heap = measure_heap(stage)
    budget = json.loads(BUDGET.read_text())
    if options.write:
        # Room for a corrected line, not for a feature nobody looked at.
        budget["modules"] = {name: -(-size // 128) * 128 for name, size in flash.items()}
        BUDGET.write_text(json.dumps(budget, indent=1) + "\n")
    totals = {name: journey_total(flash, name) for name in budget["journeys"]}
    if options.json:
        print(json.dumps({"mpy_bytes": flash, "heap_bytes": heap, "journeys": totals}))
    else:
        show(flash, heap, totals, budget)
    broken = violations(flash, totals, budget)
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


def measure_flash(stage: Path) -> dict[str, int]:
    """Bytes of .mpy of each module of the package; leaves them compiled in `stage`."""
    sizes = {}
    for name, data in sorted(image.mpy_files(ROOT / "firmware").items()):
        path = stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        sizes[name.removesuffix(".mpy").replace("/", ".")] = len(data)
    return sizes


def measure_heap(stage: Path) -> dict[str, int]:
    """Bytes of heap that importing each module leaves in use on 32-bit MicroPython."""
    for name in STAND_INS:
        shutil.copy(SHIMS / name, stage / name)
    path = [str(stage), str(runtime.umqtt_dir())]
    start = HEAP.format(path=path, names=in_order_of_need())
    done = subprocess.run(  # noqa: S603 - our own words, no shell
        runtime.find("i386").argv("-c", start),
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    return {name: int(size) for name, size in map(str.split, done.stdout.splitlines())}


def in_order_of_need() -> list[str]:
    """The package's modules, each after those that it imports."""
    ordered: list[str] = []

    def visit(module: str) -> None:
        if module in ordered or not module.startswith("imprint"):
            return
        for needed in imports(parse(MODULES[module])):
            visit(needed)
        if module not in ordered:
            ordered.append(module)

    for module in MODULES:
        visit(module)
    return ordered


def journey_total(flash: dict[str, int], journey: str) -> int:
    """What a board of that journey carries: everything but what only other journeys use."""
    foreign = tuple(
        prefix
        for other, prefixes in ONLY.items()
        if other != journey
        for prefix in prefixes
        if prefix not in ONLY[journey]
    )
    return sum(size for module, size in flash.items() if not module.startswith(foreign))


def violations(
    flash: dict[str, int], totals: dict[str, int], budget: dict[str, dict[str, int]]
) -> list[str]:
    """One line for each budget that is exceeded or missing."""
    lines = []
    for kind, sizes in (("modules", flash), ("journeys", totals)):
        for name, size in sizes.items():
            allowed = budget[kind].get(name)
            if allowed is None:
                lines.append(f"{name}: {size} bytes, and {BUDGET.name} says nothing of it")
            elif size > allowed:
                lines.append(f"{name}: {size} bytes, {size - allowed} over its budget")
    return lines


def show(
    flash: dict[str, int],
    heap: dict[str, int],
    totals: dict[str, int],
    budget: dict[str, dict[str, int]],
) -> None:
    print(f"{'module':<28}{'.mpy':>8}{'budget':>8}{'heap':>8}")
    for name, size in flash.items():
        module = name.removesuffix(".__init__")
        allowed = budget["modules"].get(name, 0)
        print(f"{module:<28}{size:>8}{allowed:>8}{heap[module]:>8}")
    for journey, total in totals.items():
        print(f"{'journey ' + journey:<28}{total:>8}{budget['journeys'][journey]:>8}")
    print(f"{'all imported':<28}{sum(heap.values()):>24}")


if __name__ == "__main__":
    sys.exit(main())
