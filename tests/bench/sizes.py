"""Bytes of .mpy on the board: the whole Aliyun journey, module by module."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from imprint_tools import image, runtime
from imprint_tools.paths import firmware_dir
from lab import Lab
from measure import Figure, Row, Section

_KIB = 1024

# Where a unit of that journey starts to import. The clouds it names at run time, by its identity.
_ROOTS = ("imprint.app", "imprint.clouds.aliyun", "imprint.clouds.aliyun_registration")

# What the application imports for a link that this journey does not have.
_OTHER_LINKS = ("imprint.links.cellular", "imprint.modem", "imprint.net.coap_client")


def measure(_lab: Lab) -> Section:
    """What of the firmware a board of that journey needs, beside the library it builds on."""
    compiled = image.mpy_files(firmware_dir())
    modules = {path: len(compiled[path]) for path in journey(set(compiled))}
    source = (runtime.umqtt_dir() / "umqtt/simple.py").read_bytes()
    umqtt = Figure.of([len(image.compile_mpy(source, "umqtt/simple.py"))])
    total = Row(
        f"all {len(modules)} modules of the journey",
        "B",
        Figure.of([sum(modules.values())]),
        umqtt,
        against="umqtt.simple alone",
        aim=f"<= {24 * _KIB:,}",
    )
    by_size = sorted(modules.items(), key=lambda item: (-item[1], item[0]))
    rows = [Row(f"  {path}", "B", Figure.of([size])) for path, size in by_size]
    return Section(
        "Firmware of the journey, bytes of .mpy (mpy-cross -O2)",
        "All that a unit of the journey can import, without boot.py and main.py, which are "
        "source. It needs umqtt.simple beside it, which official ESP32 builds have frozen in.",
        (total, *rows),
        {"modules": modules},
    )


def journey(present: set[str]) -> set[str]:
    """Of the .mpy files those that the application can import on its way."""
    found: set[str] = set()
    todo = list(_ROOTS)
    while todo:
        module = todo.pop()
        folder = module.replace(".", "/")
        for path in (f"{folder}.mpy", f"{folder}/__init__.mpy"):
            if path in present - found and not module.startswith(_OTHER_LINKS):
                found.add(path)
                todo += _names(path)
        if "." in module:
            todo.append(module.rpartition(".")[0])  # a package is imported with its module
    return found


def _names(path: str) -> Iterator[str]:
    """All that may be a module's name in the file's imports, lazy ones, too."""
    source = (firmware_dir() / path).with_suffix(".py").read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
