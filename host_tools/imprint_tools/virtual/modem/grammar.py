"""AT command lines by V.250: their names, kinds and parameters. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_EXTENDED = re.compile(r"([+%#^*$][A-Z0-9_]+)(?:(=\?)|(\?)|=(.*))?", re.IGNORECASE | re.DOTALL)
_BASIC = re.compile(r"(&?[A-Z])(\d*)", re.IGNORECASE)


class Kind(Enum):
    """How the command was used: `+X`, `+X?`, `+X=?`, `+X=...`."""

    DO = ""
    READ = "?"
    TEST = "=?"
    SET = "="


class CommandError(Exception):
    """The command ends in ERROR, or with CMEE on in +CME ERROR: `number` (TS 27.007, 9.2)."""

    def __init__(self, number: int | None = None) -> None:
        super().__init__(number)
        self.number = number


BAD_PARAMETER = 50


@dataclass(frozen=True)
class Command:
    """One command. `args` are as written, quotes included; an omitted one is empty."""

    name: str
    kind: Kind = Kind.DO
    args: tuple[str, ...] = ()

    def number(self, index: int, default: int | None = None) -> int:
        """A decimal parameter. Raises CommandError: missing without default, or not a number."""
        word = self.args[index] if index < len(self.args) else ""
        if not word and default is not None:
            return default
        if not re.fullmatch(r"-?\d{1,10}", word):
            raise CommandError(BAD_PARAMETER)
        return int(word)

    def text(self, index: int, default: str | None = None) -> str:
        """A parameter in quotes, without them. Raises CommandError as `number` does."""
        word = self.args[index] if index < len(self.args) else ""
        if not word and default is not None:
            return default
        if len(word) < 2 or word[0] != '"' or word[-1] != '"':
            raise CommandError(BAD_PARAMETER)
        return word[1:-1]

    def word(self, index: int, default: str = "") -> str:
        """A parameter with or without quotes."""
        word = self.args[index] if index < len(self.args) else ""
        return word.strip('"') or default


def commands(line: str) -> list[Command]:
    """The commands of one line that starts with AT. Raises CommandError: it is none."""
    body = line[2:].strip()
    found: list[Command] = []
    if line[:2].upper() != "AT":
        raise CommandError
    while body:
        basic = _BASIC.match(body)
        if basic:
            found.append(Command(basic[1].upper() + basic[2]))
            body = body[basic.end() :].lstrip(";")
            continue
        first, _, body = _cut(body)
        extended = _EXTENDED.fullmatch(first)
        if not extended:
            raise CommandError
        name, test, read, values = extended.groups()
        if values is not None:
            found.append(Command(name.upper(), Kind.SET, arguments(values)))
        else:
            found.append(
                Command(name.upper(), Kind.TEST if test else Kind.READ if read else Kind.DO)
            )
    return found or [Command("")]


def arguments(values: str) -> tuple[str, ...]:
    """Split at the commas outside of quotes."""
    parts, start, quoted = [], 0, False
    for at, char in enumerate(values):
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            parts.append(values[start:at].strip())
            start = at + 1
    return (*parts, values[start:].strip())


def _cut(body: str) -> tuple[str, str, str]:
    quoted = False
    for at, char in enumerate(body):
        if char == '"':
            quoted = not quoted
        elif char == ";" and not quoted:
            return body[:at], ";", body[at + 1 :]
    return body, "", ""
