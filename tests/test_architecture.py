"""Which way imports may point, and what a firmware module may do: read out of the sources.

Firmware: `app` puts everything together; `net` and `links` do I/O; all else is pure: bytes in,
bytes out, time and chance are arguments. Host: the command line is a guest of the library, the
virtual board and the local clouds are strangers, and neither side imports the other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FIRMWARE = ROOT / "firmware"
HOST = ROOT / "host_tools"

PURE = {"binascii", "errno", "hashlib", "json", "micropython", "struct"}
BASE = {"imprint.canonical", "imprint.errors", "imprint.secret"}

# module: (libraries, own modules) that it may import; the first line that matches counts.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "imprint": (set(), set()),
    "imprint.errors": ({"micropython"}, set()),
    "imprint.secret": (PURE, set()),
    "imprint.sign": (PURE, set()),
    "imprint.canonical": (PURE, set()),
    "imprint.backoff": (PURE, set()),
    "imprint.ticks": (PURE, set()),
    "imprint.onboarding": (PURE, set()),
    "imprint.identity": (PURE, BASE),
    "imprint.fields": (set(), set()),
    "imprint.fields.*": (set(), set()),
    "imprint.vault": (PURE, BASE),
    "imprint.outbox": (PURE, BASE),
    "imprint.folder": ({"os"}, set()),
    "imprint.subdevices": (PURE | {"array"}, BASE),
    # What is behind a gateway; the serial line is handed in, or made of what the list says.
    "imprint.drivers": (set(), set()),
    "imprint.drivers.*": (PURE | {"machine"}, {"imprint.errors", "imprint.port"}),
    "imprint.wire": (set(), set()),
    "imprint.wire.*": (PURE, BASE | {"imprint.ticks", "imprint.wire.*"}),
    "imprint.clouds": (set(), set()),
    "imprint.clouds.*": (
        PURE,
        BASE | {"imprint.clouds.*", "imprint.sign", "imprint.identity", "imprint.wire.*"},
    ),
    "imprint.modem": (set(), set()),
    "imprint.modem.uart": (PURE, BASE | {"imprint.modem.*", "imprint.port"}),
    "imprint.modem.datagram": (PURE, BASE | {"imprint.modem.*", "imprint.port"}),
    "imprint.modem.*": (PURE, BASE | {"imprint.modem.*", "imprint.ticks"}),
    "imprint.port": ({"esp32", "json", "machine", "micropython", "os", "sys", "time"}, set()),
    "imprint.links": (set(), set()),
    "imprint.links.cellular": (PURE, {"imprint.errors", "imprint.links.cellular_setup"}),
    "imprint.links.cellular_setup": (
        PURE | {"machine"},
        {"imprint.errors", "imprint.port", "imprint.modem.*", "imprint.modem"},
    ),
    "imprint.links.*": ({"micropython", "network"}, {"imprint.errors", "imprint.port"}),
    "imprint.net": (set(), set()),
    # The edge has sub-devices, what drives them, and a certificate in a vault of its own.
    "imprint.net.enos_fleet": (
        PURE,
        BASE | {"imprint.port", "imprint.folder", "imprint.subdevices", "imprint.net.*"},
    ),
    "imprint.net.enos_creation": (PURE, BASE | {"imprint.port", "imprint.subdevices"}),
    "imprint.net.enos_certificate": (
        PURE,
        BASE | {"imprint.port", "imprint.vault", "imprint.wire.der"},
    ),
    "imprint.net.enos_drivers": (
        PURE,
        BASE | {"imprint.port", "imprint.subdevices", "imprint.drivers.*"},
    ),
    "imprint.net.enos_api": (
        PURE | {"os"},
        BASE | {"imprint.port", "imprint.wire.*", "imprint.net.*"},
    ),
    "imprint.net.enos_session": (
        PURE,
        BASE | {"imprint.port", "imprint.net.*"},
    ),
    # What a kind of journey is made of: its link and its client, for the cloud that it is given.
    "imprint.net.*_session": (
        PURE | {"os", "umqtt.simple"},
        BASE | {"imprint.port", "imprint.wire.*", "imprint.net.*", "imprint.links.*"},
    ),
    "imprint.net.dtls_link": (
        PURE,
        BASE | {"imprint.links.wifi", "imprint.net.dtls"},
    ),
    "imprint.net.*": (
        PURE | {"ntptime", "select", "socket", "time", "tls", "umqtt.simple"},
        BASE | {"imprint.port", "imprint.wire.*", "imprint.net.*"},
    ),
    # `application` is the user's own, if there is one.
    "imprint.app": (
        PURE | {"application", "gc", "os", "sys", "umqtt.simple"},
        {"imprint.*"},
    ),
    "boot": ({"machine"}, set()),
    "main": ({"machine", "os", "sys", "time"}, {"imprint.app", "imprint.port", "imprint.errors"}),
}

MODULES = {
    ".".join(path.relative_to(FIRMWARE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(FIRMWARE.rglob("*.py"))
}
HOST_FILES = [
    path
    for path in sorted(HOST.rglob("*.py"))
    # These two run on MicroPython or stand in for it; neither is host code.
    if "guest" not in path.parts and "shims" not in path.parts
]
SOURCES = sorted([*FIRMWARE.rglob("*.py"), *HOST.rglob("*.py")])


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that `tree` names in an import, but not under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            # `from imprint import port` names a module; `from imprint.errors import X` a name.
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES or is_host_module(full) else str(node.module)
        else:
            yield from imports(node)


def is_host_module(name: str) -> bool:
    path = HOST.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def rule(module: str) -> tuple[set[str], set[str]]:
    for pattern, allowed in MAY_IMPORT.items():
        if fnmatch(module, pattern):
            return allowed
    raise AssertionError(f"{module} is in no layer: add it to the table")


@pytest.mark.parametrize("module", MODULES)
def test_firmware_imports(module: str) -> None:
    """A firmware module imports only what its layer may."""
    libraries, own = rule(module)
    for name in imports(parse(MODULES[module])):
        allowed = own if name.split(".")[0] == "imprint" else libraries
        assert any(fnmatch(name, pattern) for pattern in allowed), f"{module} imports {name}"


def test_every_layer_exists() -> None:
    """The table has no line for a module that is gone."""
    for pattern in MAY_IMPORT:
        assert any(fnmatch(module, pattern) for module in MODULES), pattern


@pytest.mark.parametrize("module", [m for m in MODULES if m != "imprint.port"])
def test_only_port_asks_where_it_runs(module: str) -> None:
    """`sys.platform` and `sys.implementation` are nobody's business but port.py's."""
    for node in ast.walk(parse(MODULES[module])):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("platform", "implementation"), f"{module}:{node.lineno}"


@pytest.mark.parametrize("module", [m for m in MODULES if rule(m)[0] <= PURE])
def test_pure_modules_do_nothing_at_import(module: str) -> None:
    """Importing a pure module only defines: constants, functions, classes."""
    for node in parse(MODULES[module]).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        definition = isinstance(
            node, ast.Import | ast.ImportFrom | ast.Assign | ast.FunctionDef | ast.ClassDef
        )
        assert docstring or typing or definition, f"{module}:{node.lineno}"
        if isinstance(node, ast.Assign):
            calls = [n.func for n in ast.walk(node.value) if isinstance(n, ast.Call)]
            assert {ast.unparse(call) for call in calls} <= {"const"}, f"{module}:{node.lineno}"


@pytest.mark.parametrize("module", MODULES)
def test_firmware_does_not_assert(module: str) -> None:
    """Boards run with -O2, which drops every assert: what must hold is an `if` and a `raise`."""
    for node in ast.walk(parse(MODULES[module])):
        assert not isinstance(node, ast.Assert), f"{module}:{node.lineno}"


def test_error_codes_agree() -> None:
    """Each code of errors.py is unique, is raised as the kind that its text names, and in every
    module that raises it has the number that errors.py gives it."""
    table: dict[str, tuple[int, str]] = {}
    for statement, following in pairwise(parse(MODULES["imprint.errors"]).body):
        if isinstance(statement, ast.Assign) and isinstance(following, ast.Expr):
            text = ast.literal_eval(following.value)
            table[ast.unparse(statement.targets[0])] = constant(statement), text.partition(":")[0]
    numbers = [number for number, _ in table.values()]
    assert len(numbers) == len(set(numbers)) and 100 < min(numbers) and max(numbers) < 700
    raised = set()
    for module in set(MODULES) - {"imprint.errors"}:
        own = {}
        for node in ast.walk(parse(MODULES[module])):
            if isinstance(node, ast.Assign) and (name := ast.unparse(node.targets[0])) in table:
                own[name] = constant(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                raised |= {node.id} & own.keys()
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
                code, kind = ast.unparse(node.args[0]), ast.unparse(node.func).split(".")[-1]
                assert code not in table or table[code][1] == kind, f"{module}:{node.lineno}"
        for name, number in own.items():
            assert number == table[name][0], f"{name} in {module}"
    assert raised == table.keys(), f"nobody raises {sorted(table.keys() - raised)}"


def test_states_and_events_agree() -> None:
    """Each name of a state or an event that the application uses is one of the onboarding table,
    and it uses them all."""
    table = {
        ast.literal_eval(node.value)
        for node in parse(MODULES["imprint.onboarding"]).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    used = {
        node.value
        for node in ast.walk(parse(MODULES["imprint.app"]))
        if isinstance(node, ast.Constant) and re.fullmatch("[A-Z_]{2,}", str(node.value))
    }
    assert used == table


def test_coap_numbers_agree() -> None:
    """A number of CoAP's that a module repeats for itself is the one in wire/coap/codes.py."""
    codes = {
        f"_{ast.unparse(node.targets[0])}": constant(node)
        for node in parse(MODULES["imprint.wire.coap.codes"]).body
        if isinstance(node, ast.Assign)
    }
    repeated = 0
    for module, path in MODULES.items():
        if fnmatch(module, "imprint.wire.coap.*") or "coap" in module.rpartition(".")[2]:
            for node in parse(path).body:
                name = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
                if isinstance(node, ast.Assign) and name in codes:
                    assert constant(node) == codes[name], f"{name} in {module}"
                    repeated += 1
    assert repeated > len(codes) / 2


def test_identity_declares_its_fields() -> None:
    """What the type checker knows of an identity are the very fields of the tables."""
    declared: set[str] = set()
    fields = {"journey"}
    for node in parse(MODULES["imprint.identity"]).body:
        if isinstance(node, ast.ClassDef) and node.name == "Identity":
            declared = {ast.unparse(n.target) for n in node.body if isinstance(n, ast.AnnAssign)}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SHARED":
            fields |= set(ast.literal_eval(node.value))
    for module in MODULES:
        if module.startswith("imprint.fields."):
            for node in parse(MODULES[module]).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FIELDS":
                    fields |= set(ast.literal_eval(node.value))
    assert declared == fields


def constant(node: ast.Assign) -> int:
    """The number in `NAME = const(number)`; 0 where that is not what stands there."""
    if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "const":
        return int(ast.literal_eval(node.value.args[0]))
    return 0


@pytest.mark.parametrize("path", HOST_FILES, ids=lambda path: str(path.relative_to(HOST)))
def test_host_imports(path: Path) -> None:
    """The host reads the firmware as files; strangers stay strangers; click stays in cli."""
    folder = path.relative_to(HOST / "imprint_tools").parts[0]
    for name in imports(parse(path)):
        assert name.split(".")[0] != "imprint", "firmware is not host code"
        if folder != "cli":
            assert name.split(".")[0] not in ("click", "rich"), f"{name} outside of cli"
            assert not name.startswith("imprint_tools.cli"), "the library does not know its guest"
        if folder == "virtual":
            assert not name.startswith("imprint_tools.localcloud"), name
        if folder == "localcloud":
            assert not name.startswith("imprint_tools.virtual"), name


@pytest.mark.parametrize("path", HOST_FILES, ids=lambda path: str(path.relative_to(HOST)))
def test_host_calls(path: Path) -> None:
    """Only the command line prints. Trees of syntax are built in syntax.py alone, which says why;
    `literal_eval` of one that is there already is no harm."""
    called = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in called}
    if path.relative_to(HOST / "imprint_tools").parts[0] != "cli":
        assert "print" not in names
    if path.name != "syntax.py":
        assert "ast.parse" not in names


def code_lines(nodes: Iterable[ast.AST]) -> int:
    """Lines that hold code: comments, docstrings and blank lines cost a reader nothing."""
    lines: set[int] = set()
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, ast.stmt | ast.arg | ast.excepthandler):
            lines.add(node.lineno)
    return len(lines)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_short(path: Path) -> None:
    """A firmware module has 400 lines of code at most, another one 500, a function 50."""
    tree = parse(path)
    assert code_lines(tree.body) <= (400 if FIRMWARE in path.parents else 500)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert code_lines(node.body) <= 50, node.name
