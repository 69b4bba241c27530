"""Short private names for the firmware, as a linker strips local symbols.

MicroPython keeps every name of an imported module in RAM for ever, `_take_unsolicited` as well as
`sendto`: in a heap of 64 kB they took 17 kB. What begins with an underscore is a module's own
business, and so are the arguments of its private functions. Those names become `_a`, `_b` ..., the
same ones in every module, on their way from the source to the .mpy. Lines stay where they are, so a
traceback (file and line) reads against the source as before.

A class shares its names with those it inherits from: a module goes on with the table of the modules
that its base classes come from. One that inherits from a foreign library keeps its names, since the
library's own are not known here. Strings are never touched: no private name is looked up by one.
"""

from __future__ import annotations

import ast
import io
import string
import tokenize
from collections.abc import Container, Iterator, Mapping

Functions = ast.FunctionDef | ast.AsyncFunctionDef


def shorten(sources: Mapping[str, str]) -> dict[str, str]:
    """The modules by their dotted names, each with short private names.

    Raises ValueError: a module inherits from two others whose names differ.
    """
    trees = {module: ast.parse(text) for module, text in sources.items()}
    tables: dict[str, dict[str, str] | None] = {}

    def table(module: str) -> dict[str, str] | None:
        if module not in trees:
            return None
        if module not in tables:
            bases = sorted(set(_imported_bases(trees[module], trees)))
            inherited = [table(base) for base in bases]
            known = _joined(module, inherited)
            if known is not None:
                for name in _private(sources[module], trees[module]):
                    if name not in trees:  # a module's own name is its file's
                        known.setdefault(name, _short(len(known)))
            tables[module] = known
        return tables[module]

    return {
        module: _renamed(text, trees[module], table(module) or {})
        for module, text in sources.items()
    }


def _joined(module: str, tables: list[dict[str, str] | None]) -> dict[str, str] | None:
    """The names that a module inherits; None where it inherits from what is not ours."""
    joined: dict[str, str] = {}
    for table in tables:
        if table is None:
            return None
        joined |= table
    if len(set(joined.values())) < len(joined) or any(not t.items() <= joined.items() for t in tables if t):
        raise ValueError(f"{module} inherits from modules with different private names")
    return joined


def _imported_bases(tree: ast.Module, own: Container[str]) -> Iterator[str]:
    """The modules that the base classes of a module come from; `own` are those of the firmware."""
    origin = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                # `from package import module`, or a name out of a module
                whole = f"{node.module}.{alias.name}"
                origin[alias.asname or alias.name] = whole if whole in own else str(node.module)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                name = ast.unparse(base).split(".")[0]
                if name in origin:
                    yield origin[name]


def _private(text: str, tree: ast.Module) -> Iterator[str]:
    """Private names, and the arguments of private functions, in the order of the text."""
    constants = set(_constants(tree))
    for token in _tokens(text):
        if _is_private(token.string) and token.string not in constants:
            yield token.string
    for function in _private_functions(tree):
        yield from _arguments(function)


def _constants(tree: ast.Module) -> Iterator[str]:
    """Names of `_NAME = const(...)`: the compiler leaves nothing of them."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            if ast.unparse(node.value.func) == "const":
                yield from (ast.unparse(target) for target in node.targets)


def _private_functions(tree: ast.Module) -> Iterator[Functions]:
    called = {keyword.arg for node in ast.walk(tree) if isinstance(node, ast.Call)
              for keyword in node.keywords}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, Functions) and _is_private(node.name):
            if not called & set(_arguments(node)) and not node.args.kwonlyargs:
                yield node


def _arguments(function: Functions) -> list[str]:
    names = [argument.arg for argument in function.args.args]
    return [name for name in names if name != "self" and not name.startswith("_")]


def _renamed(text: str, tree: ast.Module, table: Mapping[str, str]) -> str:
    lines = text.splitlines(keepends=True)
    places = {(t.start[0], t.start[1]): t.string for t in _tokens(text) if _is_private(t.string)}
    for function in _private_functions(tree):
        arguments = set(_arguments(function))
        for node in ast.walk(function):
            name = node.arg if isinstance(node, ast.arg) else getattr(node, "id", None)
            if name in arguments:
                # ast counts in bytes, tokenize in characters
                before = lines[node.lineno - 1].encode()[: node.col_offset]
                places[node.lineno, len(before.decode())] = name
    for (row, column), name in sorted(places.items(), reverse=True):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + table.get(name, name) + line[column + len(name) :]
    return "".join(lines)


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _short(number: int) -> str:
    name = ""
    while number >= 0:
        number, letter = divmod(number, 26)
        name = string.ascii_lowercase[letter] + name
        number -= 1
    return "_" + name
