"""Parameter types and options that several commands share.

What can be wrong with an argument is said before a port is opened. A secret is never an argument:
an identity is the name of a file, or `prompt`, or `env`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imprint_tools import identities
from imprint_tools.errors import AuthorityError
from imprint_tools.identities import Identity, Question
from imprint_tools.secret import Secret
from imprint_tools.serialport import find_port

if TYPE_CHECKING:
    from imprint_tools.boards import Board

_F = TypeVar("_F", bound=Callable[..., Any])

_HEAP_MIN, _HEAP_MAX = 16 << 10, 64 << 20  # bytes


class PortType(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """A serial port: a device's name or any pyserial URL."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        port = str(value)
        if not port.strip() or any(char.isspace() for char in port):
            self.fail(f"{port!r} is not a port's name or URL", param, ctx)
        return port


class HeapType(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """The size of MicroPython's heap as its `-X heapsize` takes it: bytes, or `64k`."""

    name = "heap"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        size = re.fullmatch(r"([1-9]\d*)([kKmM]?)", str(value))
        scale = {"": 1, "k": 1 << 10, "m": 1 << 20}
        if not size or not _HEAP_MIN <= int(size[1]) * scale[size[2].lower()] <= _HEAP_MAX:
            self.fail(f"{value!r} is not a size from 16k to 64m, such as 64k", param, ctx)
        return str(value)


class BoardType(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """A board: the name of a file in boards/, or the path of a TOML file."""

    name = "board"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Board:
        from imprint_tools import boards

        return value if isinstance(value, boards.Board) else boards.load(str(value))


@dataclass(frozen=True)
class IdentitySource:
    """Where an identity comes from; read only when everything else about a command is right."""

    name: str

    def load(self, row: int | None = None) -> Identity:
        """Read, ask for or collect it. Raises IdentityError."""
        if self.name == "prompt":
            return identities.from_answers(_ask)
        if self.name == "env":
            return identities.from_environment(os.environ)
        return identities.load_one(Path(self.name), row)


class IdentitySourceType(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """`prompt`, `env`, or a .toml, .json or .csv file (`./prompt` is a file of that name)."""

    name = "identity"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> IdentitySource:
        if isinstance(value, IdentitySource):
            return value
        if value not in ("prompt", "env") and not Path(value).is_file():
            self.fail(f"{value!r} is neither a file nor `prompt` nor `env`", param, ctx)
        return IdentitySource(str(value))


@dataclass(frozen=True)
class PassphraseSource:
    """Where a passphrase comes from; read only when everything else about a command is right."""

    name: str
    variable: str

    def load(self, question: str, *, confirm: bool = False) -> Secret:
        """Read it, or ask for it (twice with `confirm`). Raises AuthorityError."""
        if self.name == "prompt":
            answer = click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)
            return Secret(str(answer))
        if self.name == "env":
            value = os.environ.get(self.variable, "")
            if not value:
                raise AuthorityError(f"no environment variable {self.variable}")
            return Secret(value)
        try:
            return Secret(Path(self.name).read_bytes().rstrip(b"\r\n"))
        except OSError as error:
            raise AuthorityError(f"{self.name} cannot be read: {error.strerror}") from None


class PassphraseType(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """`prompt`, `env`, or a file that holds it (`./prompt` is a file of that name)."""

    name = "passphrase"

    def __init__(self, variable: str) -> None:
        self.variable = variable

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> PassphraseSource:
        if isinstance(value, PassphraseSource):
            return value
        if value not in ("prompt", "env") and not Path(value).exists():
            self.fail(f"{value!r} is neither a file nor `prompt` nor `env`", param, ctx)
        return PassphraseSource(str(value), self.variable)


def passphrase_option(
    option: str = "--passphrase", variable: str = "IMPRINT_CA_PASSPHRASE", whose: str = "the"
) -> Callable[[_F], _F]:
    """Add `--passphrase`: where that of an authority comes from."""
    return click.option(
        option,
        type=PassphraseType(variable),
        default="prompt",
        show_default=True,
        help=f"FILE, or env ({variable}), or prompt: where {whose} authority's passphrase is.",
    )


def port_option(function: _F) -> _F:
    """Add `--port`."""
    return click.option(
        "--port",
        type=PortType(),
        envvar="IMPRINT_PORT",
        help="Device or pyserial URL (virtual://NAME); found by itself where only one can be it.",
    )(function)


def board_option(function: _F) -> _F:
    """Add `--board`, which must be given."""
    return click.option(
        "--board", type=BoardType(), required=True, help="Name in boards/, or a TOML file."
    )(function)


def firmware_options(function: _F) -> _F:
    """Add `--firmware` and `--virtual`: which MicroPython."""
    function = click.option(
        "--virtual", is_flag=True, help="For a virtual board (virtual:// says so by itself)."
    )(function)
    return click.option(
        "--firmware",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="MicroPython's .bin; fetched as the board's TOML names it by default.",
    )(function)


def wants_virtual(url: str, firmware: Path | None, virtual: bool) -> bool:
    """Whether the image of a virtual board is meant: said so, or by its port and no file."""
    if virtual and firmware is not None:
        raise click.UsageError("--virtual and --firmware exclude each other")
    return virtual or (firmware is None and url.startswith("virtual://"))


def identity_options(*, required: bool) -> Callable[[_F], _F]:
    """Add `--identity` and `--row`: where the identity comes from."""

    def add(function: _F) -> _F:
        function = click.option(
            "--row",
            type=click.IntRange(min=1),
            help="Which identity of a file that holds many; in a CSV file 2 is the first.",
        )(function)
        return click.option(
            "--identity",
            type=IdentitySourceType(),
            required=required,
            help="FILE (.toml, .json, .csv), or prompt, or env (IMPRINT_ID_PRODUCT_KEY ...).",
        )(function)

    return add


def package_options(function: _F) -> _F:
    """Add `--with-package` and `--package-index`: mip packages for /lib."""
    function = click.option(
        "--package-index", metavar="URL", help="mip's index; micropython.org's by default."
    )(function)
    return click.option(
        "--with-package",
        "packages",
        metavar="SPEC",
        multiple=True,
        help="Put a mip package into /lib: a folder, a .py file, NAME@VERSION, or "
        "github:ORG/REPO@VERSION. Repeat for more.",
    )(function)


def load_packages(specs: Iterable[str], index: str | None) -> dict[str, bytes]:
    """The files that --with-package means. Raises ImageError, FetchError."""
    from imprint_tools import packages

    return packages.collect(specs, index or packages.INDEX)


def replace_option(function: _F) -> _F:
    """Add `--replace-identity`."""
    return click.option(
        "--replace-identity",
        "replace",
        is_flag=True,
        help="Let a unit that holds a credential become another device, and lose it.",
    )(function)


def resolve_port(port: str | None) -> str:
    """The port that was named, or the only one that can be meant. Raises PortError."""
    return port or find_port()


def _ask(question: Question) -> str:
    if question.problem:
        click.echo(question.problem, err=True)
    text = f"{question.name} ({question.rule})" + (", empty for none" * question.optional)
    answer: str = click.prompt(
        text,
        default="" if question.optional else None,
        hide_input=question.secret,
        show_default=False,
        err=True,
    )
    return answer
