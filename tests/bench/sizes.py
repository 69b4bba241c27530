"""Bytes of .mpy on the board: each journey by its modules, and each modem's dialect."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from imprint_tools import image, runtime
from imprint_tools.paths import firmware_dir
from lab import Lab
from measure import Figure, Row, Section

_KIB = 1024

# Where a unit of a journey starts to import. What is named at run time, by the identity, is here.
_ROOTS = {
    "aliyun": (
        "imprint.app",
        "imprint.clouds.aliyun",
        "imprint.clouds.aliyun_registration",
        "imprint.fields.aliyun",
        "imprint.net.aliyun_session",
    ),
    "enos-coap": (
        "imprint.app",
        "imprint.clouds.enos_coap",
        "imprint.fields.enos_coap",
        "imprint.net.coap_session",
    ),
    "azure-dps": (
        "imprint.app",
        "imprint.clouds.azure_dps",
        "imprint.clouds.azure_dps_registration",
        "imprint.fields.azure_dps",
        "imprint.net.azure_session",
    ),
    "azure-edge": (
        "imprint.app",
        "imprint.clouds.azure_edge",
        "imprint.fields.azure_edge",
        "imprint.net.azure_session",
    ),
}
_DIALECTS = "imprint/modem/dialects/"
_SHARED = {f"{_DIALECTS}{name}.mpy" for name in ("__init__", "common")}


def measure(_lab: Lab) -> Section:
    """What of the firmware a board of a journey needs, beside the library it builds on."""
    compiled = image.mpy_files(firmware_dir())
    source = (runtime.umqtt_dir() / "umqtt/simple.py").read_bytes()
    umqtt = Figure.of([len(image.compile_mpy(source, "umqtt/simple.py"))])
    modules = {
        name: {path: len(compiled[path]) for path in journey(roots, set(compiled))}
        for name, roots in _ROOTS.items()
    }
    dialects = {
        path: len(data)
        for path, data in compiled.items()
        if path.startswith(_DIALECTS) and path not in _SHARED
    }
    aliyun, enos = modules["aliyun"], modules["enos-coap"]
    rows = [
        Row(
            f"aliyun: all {len(aliyun)} modules",
            "B",
            Figure.of([sum(aliyun.values())]),
            umqtt,
            against="umqtt.simple alone",
            aim=f"<= {24 * _KIB:,}",
        ),
        *_by_size(aliyun),
        Row(
            f"enos-coap: all {len(enos)} modules, and a dialect",
            "B",
            Figure.of([sum(enos.values())]),
        ),
        *_by_size(enos),
        *_whole(modules, "azure-dps"),
        *_by_size({p: n for p, n in modules["azure-dps"].items() if "azure" in p}),
        *_whole(modules, "azure-edge"),
        *_by_size(dialects, aim=f"<= {4 * _KIB:,}"),
    ]
    return Section(
        "Firmware of the journeys, bytes of .mpy (mpy-cross -O2)",
        "All that a unit of the journey can import, without boot.py and main.py, which are "
        "source. MQTT needs umqtt.simple beside it, which official ESP32 builds have frozen in; "
        "enos-coap needs one of the modems' dialects, which stand last.",
        tuple(rows),
        {"modules": aliyun, "dialects": dialects}
        | {name: modules[name] for name in ("enos-coap", "azure-dps", "azure-edge")},
    )


def _whole(modules: Mapping[str, Mapping[str, int]], name: str) -> list[Row]:
    found = modules[name]
    return [Row(f"{name}: all {len(found)} modules", "B", Figure.of([sum(found.values())]))]


def _by_size(modules: Mapping[str, int], aim: str = "") -> list[Row]:
    ordered = sorted(modules.items(), key=lambda item: (-item[1], item[0]))
    return [Row(f"  {path}", "B", Figure.of([size]), aim=aim) for path, size in ordered]


def journey(roots: Iterable[str], present: set[str]) -> set[str]:
    """Of the .mpy files those that the application can import on its way."""
    found: set[str] = set()
    todo = list(roots)
    while todo:
        module = todo.pop()
        folder = module.replace(".", "/")
        for path in (f"{folder}.mpy", f"{folder}/__init__.mpy"):
            if path in present - found:
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
