"""Short private names: the same program, fewer and shorter names, the same lines."""

from __future__ import annotations

import ast

import pytest
from imprint_tools import paths
from imprint_tools.image import compile_mpy
from imprint_tools.shorten import IN_ROM, shorten

BASE = '''\
"""Says _nothing of `_take`."""
from micropython import const
_WAIT = const(3)
_KINDS = ("_take", "b")
class Base:
    def __init__(self, stream, size=4):
        self._stream = stream  # _stream
        self._size = size
    def take(self, amount):
        return self._take(amount + _WAIT)
    def _take(self, amount):
        return [self._stream, self._size, amount, _KINDS]
'''
DERIVED = """\
from base import Base
class Derived(Base):
    def __init__(self, stream):
        super().__init__(stream, size=5)
        self._own = "ä"; self._stream = self._stream * 2
    def all(self):
        return self._take(len(self._own))
"""
FOREIGN = """\
from umqtt.simple import MQTTClient
class Client(MQTTClient):
    def _recv_len(self):
        return self._sock
"""
SOURCES = {"base": BASE, "derived": DERIVED, "foreign": FOREIGN}


def names(text: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(text)):
        for attribute in ("id", "attr", "arg", "name"):
            found.add(str(getattr(node, attribute, "")))
    return found


def run(sources: dict[str, str]) -> list[object]:
    space: dict[str, object] = {"const": int}
    for module in ("base", "derived"):
        lines = [line for line in sources[module].splitlines() if not line.startswith("from ")]
        exec("\n".join(lines), space)  # noqa: S102  the program of this test
    made = space["Derived"]("xy")  # type: ignore[operator]
    return [made.all(), made.take(1)]


def test_the_program_does_the_same() -> None:
    """Classes that inherit across modules agree on their names; strings are left alone."""
    short = shorten(SOURCES)
    assert (
        run(short)
        == run(SOURCES)
        == [["xyxy", 5, 1, ("_take", "b")], ["xyxy", 5, 4, ("_take", "b")]]
    )
    assert not names(short["derived"]) & {"_own", "_take", "_stream", "stream"}
    assert not names(short["base"]) & {"_take", "_stream", "_KINDS", "amount", "stream"}


def test_what_others_may_name_stays() -> None:
    """Public names, arguments with a default or given by name, constants, a library's heirs."""
    short = shorten(SOURCES)
    assert {"Base", "take", "size", "_WAIT"} <= names(short["base"])
    assert short["foreign"] == FOREIGN
    assert {"stream", "amount"} <= names(shorten(SOURCES, arguments=False)["base"]) | {"amount"}


def test_lines_stay_where_they_are() -> None:
    """A traceback's line is the source's; docstrings and comments may say what they like."""
    short = shorten(SOURCES)
    for module, text in SOURCES.items():
        assert len(short[module].splitlines()) == len(text.splitlines())
    assert short["base"].splitlines()[0] == BASE.splitlines()[0]
    assert "# _stream" in short["base"]


def test_names_that_cannot_agree_are_refused() -> None:
    """A class that inherits from two modules with names of their own is nobody's to rename."""
    other = "class Other:\n    def __init__(self):\n        self._z = 1\n"
    both = "from base import Base\nfrom other import Other\nclass Both(Base, Other):\n    pass\n"
    with pytest.raises(ValueError, match="both inherits"):
        shorten({"base": BASE, "other": other, "both": both})


def test_names_in_rom_leave_nothing_behind() -> None:
    """Each is one that a .mpy file refers to by number; none is one that the module has a use for,
    nor one that modules with the same classes have."""
    for name in IN_ROM:
        assert name.encode() not in compile_mpy(f"x.{name}\n".encode(), "m"), name
    given = names(shorten(SOURCES)["base"]) & set(IN_ROM)
    assert given
    other = SOURCES | {"derived": DERIVED + f"    {'; '.join(sorted(given))}\n"}
    assert not names(shorten(other)["base"]) & given


def test_private_names_of_the_firmware_are_private() -> None:
    """A module uses no private name but its own and those that it inherits: else the two would
    be renamed apart. None is looked up by a string, which would not be renamed at all."""
    root = paths.firmware_dir()
    trees = {
        ".".join(path.relative_to(root).with_suffix("").parts): ast.parse(path.read_text())
        for path in (root / "imprint").rglob("*.py")
    }
    for module, tree in trees.items():
        known = defined(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                known |= defined(trees[str(node.module)]) if node.module in trees else {"umqtt"}
                assert not any(alias.name.startswith("_") for alias in node.names), module
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                if not node.attr.startswith("__"):
                    assert node.attr in known, f"{module}:{node.lineno}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr"):
                assert not ast.unparse(node.args[1]).startswith(("'_", '"_')), module


def defined(tree: ast.Module) -> set[str]:
    return {
        str(getattr(node, "attr", getattr(node, "id", getattr(node, "name", ""))))
        for node in ast.walk(tree)
        if isinstance(getattr(node, "ctx", ast.Store()), ast.Store)
    }
