"""Short private names for the firmware, as a linker strips local symbols.

MicroPython keeps every name of an imported module in RAM for ever, `_take_unsolicited` as well as
`sendto`: in a heap of 64 kB they took 17 kB. What begins with an underscore is a module's own
business; and what an argument without a default is called is its function's, as long as no call
in the firmware names it. On their way from source to .mpy these get names that every MicroPython
has in its ROM, as far as the module has no use for those itself, then `_a`, `_b` ..., the same
ones in every module; so on a board such arguments are given by position. Lines stay where they
are: a traceback's module and line read against the source, the function's name says nothing.

A class shares its names with those it inherits from: a module goes on with the table of the
modules that its base classes come from. One that inherits from a foreign library keeps its names,
since the library's own are not known here. Strings are never touched: no private name is looked
up by one.
"""

from __future__ import annotations

import ast
import io
import string
import tokenize
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import lru_cache

from imprint_tools import syntax

# Of the names that .mpy files refer to by number, so that every build has them (static_qstr_list
# in MicroPython's py/makeqstrdata.py): those that nobody looks for in a device or a collection.
IN_ROM = (
    "abs all bool builtins bytecode bytes callable chr dict dir divmod endswith eval exec "
    "extend format from_bytes getattr globals hasattr hash int isalpha isdigit isinstance "
    "islower isspace issubclass isupper iter join len list little locals lower lstrip map ord "
    "popitem pow replace repr reverse rfind rindex round rsplit rstrip setattr setdefault "
    "sort sorted split startswith strip sum to_bytes tuple upper zip"
).split()

# A constant whose name begins with an underscore leaves nothing behind.
_LEAVES_NOTHING = {"TYPE_CHECKING": "_TYPE_CHECKING"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Nodes = Sequence[ast.AST]  # of one module, its ast.Module first
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def shorten(sources: Mapping[str, str], *, arguments: bool = True) -> dict[str, str]:
    """The modules by their dotted names, each with short private names. Without `arguments`,
    those of public functions keep theirs.

    Raises ValueError: a module inherits from two others whose names differ.
    """
    trees = {module: list(ast.walk(syntax.parse(text))) for module, text in sources.items()}
    keywords = {word for tree in trees.values() for word in _keywords(tree)}
    if not arguments:
        keywords |= {word for tree in trees.values() for word in _of_public_functions(tree)}
    relatives = _relatives(trees)
    tables: dict[str, dict[str, str] | None] = {}

    def table(module: str) -> dict[str, str] | None:
        if module not in trees:
            return None
        if module not in tables:
            bases = sorted(set(_imported_bases(trees[module], trees)))
            known = _joined(module, [table(base) for base in bases])
            if known is not None:
                free = _free([sources[relative] for relative in relatives[module]])
                for name in _private(sources[module], trees[module], keywords):
                    if name not in trees:  # a module's own name is its file's
                        known.setdefault(name, _short(len(known), free))
            tables[module] = known
        return tables[module]

    return {
        module: _renamed(text, trees[module], keywords, (table(module) or {}) | _LEAVES_NOTHING)
        for module, text in sources.items()
    }


def _joined(module: str, tables: list[dict[str, str] | None]) -> dict[str, str] | None:
    """The names that a module inherits; None where it inherits from what is not ours."""
    joined: dict[str, str] = {}
    for table in tables:
        if table is None:
            return None
        joined |= table
    agree = all(table.items() <= joined.items() for table in tables if table)
    if not agree or len(set(joined.values())) < len(joined):
        raise ValueError(f"{module} inherits from modules with different private names")
    return joined


def _relatives(trees: Mapping[str, _Nodes]) -> dict[str, set[str]]:
    """For each module those with which it shares names: by its classes' bases, and theirs."""
    groups = {module: {module} for module in trees}
    for module, tree in trees.items():
        for base in _imported_bases(tree, trees):
            joined = groups[module] | groups.get(base, set())
            groups |= dict.fromkeys(joined, joined)
    return groups


def _free(texts: Sequence[str]) -> list[str]:
    """The names in ROM that these modules do not use."""
    used = {token.string for text in texts for token in _tokens(text)}
    return [name for name in IN_ROM if name not in used]


def _imported_bases(tree: _Nodes, own: Container[str]) -> Iterator[str]:
    """The modules that the base classes of a module come from; `own` are those of the firmware."""
    origin = {}
    for node in tree:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                # `from package import module`, or a name out of a module
                whole = f"{node.module}.{alias.name}"
                origin[alias.asname or alias.name] = whole if whole in own else str(node.module)
    for node in tree:
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                name = ast.unparse(base).split(".")[0]
                if name in origin:
                    yield origin[name]


def _keywords(tree: _Nodes) -> Iterator[str]:
    """The names by which calls give arguments."""
    for node in tree:
        if isinstance(node, ast.Call):
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)


def _of_public_functions(tree: _Nodes) -> Iterator[str]:
    for node in tree:
        if isinstance(node, _FUNCTION) and not _is_private(node.name):
            yield from (argument.arg for argument in node.args.args)


def _private(text: str, tree: _Nodes, keywords: Container[str]) -> Iterator[str]:
    """Private names, and those of arguments that nobody gives by name."""
    constants = set(_constants(tree))
    for token in _tokens(text):
        if _is_private(token.string) and token.string not in constants:
            yield token.string
    for node in tree:
        if isinstance(node, _FUNCTION):
            yield from _arguments(node, keywords)


def _constants(tree: _Nodes) -> Iterator[str]:
    """Names of `_NAME = const(...)`: the compiler leaves nothing of them."""
    module = tree[0]
    for node in module.body if isinstance(module, ast.Module) else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            if ast.unparse(node.value.func) == "const":
                yield from (ast.unparse(target) for target in node.targets)


def _arguments(function: _Function, keywords: Container[str]) -> list[str]:
    required = function.args.args
    if not _is_private(function.name):
        required = required[: len(required) - len(function.args.defaults)]
    names = [argument.arg for argument in required if argument.arg not in ("self", "cls")]
    return [name for name in names if name not in keywords and name[0] != "_"]


def _renamed(text: str, tree: _Nodes, keywords: Container[str], table: Mapping[str, str]) -> str:
    lines = text.splitlines(keepends=True)
    places = {
        token.start: token.string
        for token in _tokens(text)
        if _is_private(token.string) or token.string in _LEAVES_NOTHING
    }
    for function in tree:
        if not isinstance(function, _FUNCTION):
            continue
        arguments = _arguments(function, keywords)
        if not arguments:
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.arg | ast.Name):
                continue
            name = node.arg if isinstance(node, ast.arg) else node.id
            if name in arguments:
                # ast counts in bytes, tokenize in characters
                before = lines[node.lineno - 1].encode()[: node.col_offset]
                places[node.lineno, len(before.decode())] = name
    for (row, column), name in sorted(places.items(), reverse=True):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + table.get(name, name) + line[column + len(name) :]
    return "".join(lines)


@lru_cache(maxsize=256)  # each module is read twice
def _tokens(text: str) -> tuple[tokenize.TokenInfo, ...]:
    found = tokenize.generate_tokens(io.StringIO(text).readline)
    return tuple(token for token in found if token.type == tokenize.NAME)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _short(number: int, free: Sequence[str]) -> str:
    if number < len(free):
        return free[number]
    number -= len(free)
    name = ""
    while number >= 0:
        number, letter = divmod(number, 26)
        name = string.ascii_lowercase[letter] + name
        number -= 1
    return "_" + name
