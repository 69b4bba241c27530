"""Identities: what a unit is told about itself, read from wherever a bench keeps it.

The rules are the board's own. `firmware/imprint/identity.py` and the modules of `imprint/fields`
hold them as literal tables, and this module reads those tables out of the files
(`ast.literal_eval`, nothing is imported), so that what passes here passes there.

Sources: a TOML or JSON file (one identity, or a list under `identities`), a CSV file (one unit a
row), environment variables, or questions put to a person. All use the same flat field names. In a
source, `root_ca` is the path of the certificate that the unit shall trust (PEM or DER, relative
to the file), and so are the other attachments (`client_cert`, `client_key`); on the unit each is
a blob of its own, and the identity holds its SHA-256. `group_key`, an Azure enrolment group's,
stands in place of the `symmetric_key` that is derived from it here.

An error names the source, the row, the field and the rule, and never the value of a secret. Errors
are raised outside of `except` blocks, because a parser's exception may hold the whole document.
"""

from __future__ import annotations

import ast
import csv
import datetime as dt
import difflib
import hashlib
import io
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from imprint_tools import attachments, azure_identity, syntax
from imprint_tools.errors import IdentityError
from imprint_tools.paths import firmware_dir
from imprint_tools.secret import Secret

Value = str | int | Secret

_HASH = "_sha256"  # ends the name of a field that stands for an attachment
_SOURCE_BYTES_MAX = 16 << 20  # some ten thousand units; more is another kind of file
_ASK_ATTEMPTS = 3


@dataclass(frozen=True)
class Rule:
    """One field's rule, as the firmware states it.

    `kind` names the alphabet; `least` and `most` bound the length in bytes, or the value of an
    "int"; `choices` are a "choice"'s values.
    """

    name: str
    kind: str
    least: int
    most: int
    secret: bool
    choices: tuple[str | int, ...] = ()

    @property
    def numeric(self) -> bool:
        return self.kind == "int" or any(isinstance(choice, int) for choice in self.choices)

    def __str__(self) -> str:
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        if self.kind == "int":
            return f"a whole number from {self.least} to {self.most}"
        span = str(self.least) if self.least == self.most else f"{self.least} to {self.most}"
        alphabet = tables().kinds[self.kind]
        return f"{span} bytes of " + ("UTF-8" if alphabet is None else _ranges(alphabet))


@dataclass(frozen=True)
class Journey:
    """A journey's fields, which of them it requires, what (field, value) asks for besides."""

    rules: Mapping[str, Rule]
    required: tuple[str, ...]
    needs: Mapping[tuple[str, Any], tuple[str, ...]]

    @property
    def attachments(self) -> tuple[str, ...]:
        """The blobs that may lie beside such an identity."""
        return tuple(sorted(n.removesuffix(_HASH) for n in self.rules if n.endswith(_HASH)))


@dataclass(frozen=True)
class Tables:
    """The literal tables of the firmware's identity.py and of its folder fields."""

    kinds: Mapping[str, str | None]
    journeys: Mapping[str, Journey]

    @property
    def names(self) -> set[str]:
        """Every journey's fields."""
        return {name for journey in self.journeys.values() for name in journey.rules}

    @property
    def secrets(self) -> frozenset[str]:
        """The fields that are a secret, in whatever journey."""
        rules = (rule for journey in self.journeys.values() for rule in journey.rules.values())
        return frozenset(rule.name for rule in rules if rule.secret)

    @property
    def attachments(self) -> tuple[str, ...]:
        """The blobs that may lie beside an identity, in whatever journey."""
        return tuple(sorted({n for j in self.journeys.values() for n in j.attachments}))

    def rule(self, journey: object, name: str) -> Rule | None:
        """The rule of a field in that journey; of one that it has not, another journey's."""
        mine = self.journeys.get(journey) if isinstance(journey, str) else None
        for known in (*filter(None, [mine]), *self.journeys.values()):
            if name in known.rules:
                return known.rules[name]
        return None


@cache
def tables() -> Tables:
    """Read the firmware's tables, once."""
    folder = firmware_dir() / "imprint"
    common = _literals(folder / "identity.py")
    choice = Rule("journey", "choice", 0, 0, False, tuple(common["JOURNEYS"]))
    journeys = {}
    for journey in common["JOURNEYS"]:
        found = _literals(folder / "fields" / f"{journey.replace('-', '_')}.py")
        rows = {name: common["SHARED"][name] for name in found["SHARES"]} | found["FIELDS"]
        rules = {"journey": choice} | {name: _rule(name, *row) for name, row in rows.items()}
        journeys[journey] = Journey(rules, ("journey", *found["REQUIRED"]), found["NEEDS"])
    return Tables(common["KINDS"], journeys)


def _literals(path: Path) -> dict[str, Any]:
    """The module's tables: its names in capitals, as far as they are literals."""
    found: dict[str, Any] = {}
    for node in syntax.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            if target.id.isupper() and not isinstance(node.value, ast.Call):
                found[target.id] = ast.literal_eval(node.value)
    return found


def _rule(name: str, kind: str, least: Any, most: int, secret: int, _default: Any) -> Rule:
    if kind == "choice":
        return Rule(name, kind, 0, 0, bool(secret), tuple(least))
    return Rule(name, kind, least, most, bool(secret))


@dataclass(frozen=True)
class Identity:
    """One unit's identity, complete and valid.

    `fields` are the flat fields, secrets wrapped; `blobs` the attachments, such as the root CA's
    DER, private ones wrapped; `origin` says where it came from, for messages.
    """

    fields: Mapping[str, Value]
    blobs: Mapping[str, Secret | bytes]
    origin: str = field(default="", compare=False)
    made: tuple[str, ...] = ()
    """Attachments that are in no source: they were made for this unit, now."""

    def as_held(self, fields: Mapping[str, Any] | None) -> Identity:
        """The same, with what a unit holds of these fields in place of what was made: a unit that
        was given its key once keeps it."""
        held = fields or {}
        own = {n: held[n] for n in (name + _HASH for name in self.made) if n in held}
        if not own or len(own) < len(self.made):
            return self
        blobs = {name: blob for name, blob in self.blobs.items() if name not in self.made}
        return Identity(MappingProxyType({**self.fields, **own}), blobs, self.origin, self.made)

    def entries(self) -> dict[str, Secret | bytes]:
        """The NVS entries, in the order in which they are written (the identity last)."""
        return {**self.blobs, "identity": Secret(self._canonical())}

    def shown(self) -> dict[str, str | int]:
        """The fields as they may be shown: secrets by fingerprint."""
        return {
            name: value.fingerprint if isinstance(value, Secret) else value
            for name, value in sorted(self.fields.items())
        }

    def _canonical(self) -> bytes:
        plain = {
            name: value.reveal().decode() if isinstance(value, Secret) else value
            for name, value in self.fields.items()
        }
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode()


# --- Sources -----------------------------------------------------------------------------------


def load(path: Path, *, now: dt.datetime | None = None) -> list[Identity]:
    """All the identities of a .toml, .json or .csv file, in its order.

    Raises IdentityError for the first one that breaks a rule, and for a duplicate in the batch.
    """
    readers: dict[str, Callable[[str, str], list[tuple[str, dict[str, Any]]]]] = {
        ".toml": _read_toml,
        ".json": _read_json,
        ".csv": _read_csv,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise IdentityError(
            f"{path}: an identity file ends in {', '.join(readers)}",
            next_step="Rename the file after what it holds.",
        )
    text = _text(attachments.read(path, _SOURCE_BYTES_MAX), path)
    units = reader(text, str(path))
    if not units:
        raise IdentityError(f"{path}: holds no identity")
    found = [check(raw, origin=origin, folder=path.parent, now=now) for origin, raw in units]
    refuse_duplicates(found)
    return found


def load_one(path: Path, row: int | None = None, *, now: dt.datetime | None = None) -> Identity:
    """The file's one identity, or the one in `row` (as errors count rows)."""
    found = load(path, now=now)
    if row is None and len(found) == 1:
        return found[0]
    known = f"the first is {found[0].origin}, the last {found[-1].origin}"
    if row is None:
        raise IdentityError(
            f"{path}: holds {len(found)} identities, and one unit takes one",
            next_step=f"Name the row with --row; {known}.",
        )
    for identity in found:
        if identity.origin == _origin(str(path), row):
            return identity
    raise IdentityError(
        f"{path}: has no identity in row {row}", next_step=f"Name another with --row; {known}."
    )


def from_environment(
    environ: Mapping[str, str], prefix: str = "IMPRINT_ID_", *, now: dt.datetime | None = None
) -> Identity:
    """An identity from variables such as `IMPRINT_ID_PRODUCT_KEY`; paths from where one stands."""
    raw = {
        name.removeprefix(prefix).lower(): value
        for name, value in environ.items()
        if name.startswith(prefix) and value
    }
    if not raw:
        raise IdentityError(
            f"no environment variable starts with {prefix}",
            next_step=f"Set {prefix}JOURNEY, {prefix}PRODUCT_KEY and so on.",
        )
    return check(_from_text(raw, "environment"), origin="environment", folder=Path.cwd(), now=now)


@dataclass(frozen=True)
class Question:
    """What to ask a person: the field, its rule, whether to hide the answer, what was wrong."""

    name: str
    rule: str
    secret: bool
    optional: bool
    problem: str = ""


def from_answers(
    ask: Callable[[Question], str],
    journey: str = "aliyun",
    *,
    folder: Path | None = None,
    now: dt.datetime | None = None,
) -> Identity:
    """An identity from answers: what is required, what the answers ask for, and free secrets.

    Other optional fields keep the board's defaults; they are for files. An answer that breaks its
    rule is asked for again, three times in all.
    """
    folder = folder or Path.cwd()
    known = _journey(journey, "answers")
    governed = {name for names in known.needs.values() for name in names}
    raw: dict[str, Any] = {"journey": journey}

    def put(field_name: str, *, may_be_empty: bool) -> None:
        name = field_name.removesuffix(_HASH)
        rule = None if name != field_name else known.rules[name]
        what = str(rule) if rule else attachments.KINDS[name].what
        secret = rule is not None and rule.secret
        problem = ""
        for _attempt in range(_ASK_ATTEMPTS):
            answer = ask(Question(name, what, secret, may_be_empty, problem))
            if not answer and may_be_empty:
                return
            try:
                if rule is None:
                    attachments.load(name, folder / answer, now=now)
                    raw[name] = answer
                else:
                    value = _from_text({"journey": journey, name: answer}, "answers")[name]
                    _check_value(rule, value, "answers")
                    raw[name] = value
                return
            except IdentityError as error:
                problem = str(error)
        raise IdentityError(problem)

    for name in known.required:
        if name != "journey" and not name.endswith(_HASH):
            put(name, may_be_empty=False)
            for needed in known.needs.get((name, raw[name]), ()):
                put(needed, may_be_empty=False)
    for name, rule in known.rules.items():
        if rule.secret and name not in governed and name not in raw:
            put(name, may_be_empty=True)
    for name in known.required:
        if name.endswith(_HASH):
            put(name, may_be_empty=False)
    return check(raw, origin="answers", folder=folder, now=now)


# --- Rules -------------------------------------------------------------------------------------


def check(
    raw: Mapping[str, Any], *, origin: str, folder: Path, now: dt.datetime | None = None
) -> Identity:
    """Hold one unit's raw fields against the firmware's rules. Raises IdentityError."""
    known = tables()
    raw = azure_identity.derived(raw, origin)
    for name in raw:
        if name not in attachments.KINDS and name not in known.names:
            raise IdentityError(
                f"{origin}: unknown field {_shortened(name)!r}{_suggestion(name)}",
                next_step="Remove or rename it. A field that no one reads is a mistake.",
            )
    choice = known.rule(None, "journey")
    assert choice is not None  # noqa: S101 - every journey has it
    if "journey" not in raw:
        raise IdentityError(f"{origin}: field journey is missing ({choice})")
    _check_value(choice, raw["journey"], origin)
    journey = _journey(raw["journey"], origin)
    fields, blobs = _attached(raw, journey, origin, folder, now)
    made = _make(fields, blobs)
    for name in fields:
        if name not in journey.rules:
            raise IdentityError(
                f"{origin}: field {name} has no place in the journey {raw['journey']}"
            )
        _check_value(journey.rules[name], fields[name], origin)
    _demand(fields, journey, origin)
    azure_identity.check(fields, origin)
    attachments.agree(blobs, fields, origin)
    wrapped: dict[str, Value] = {
        name: Secret(value) if journey.rules[name].secret else value
        for name, value in fields.items()
    }
    return Identity(MappingProxyType(wrapped), MappingProxyType(blobs), origin, made)


def _make(fields: dict[str, Any], blobs: dict[str, Secret | bytes]) -> tuple[str, ...]:
    """Add the key and the request of a unit that applies for its certificate itself, unless the
    source brings them; the names of what was added."""
    names = ("client_key", "client_csr")
    if fields.get("certificate") != "apply" or set(names) & blobs.keys():
        return ()
    product_key, device_key = fields.get("product_key"), fields.get("device_key")
    if not isinstance(product_key, str) or not isinstance(device_key, str):
        return ()  # it is missing, or no text: _demand and the rules say so
    key, request = attachments.applicant(product_key, device_key)
    blobs.update(client_key=key, client_csr=request)
    for name, bare in (("client_key", key.reveal()), ("client_csr", request)):
        fields[name + _HASH] = hashlib.sha256(bare).hexdigest()
    return names


def _attached(
    raw: Mapping[str, Any], journey: Journey, origin: str, folder: Path, now: dt.datetime | None
) -> tuple[dict[str, Any], dict[str, Secret | bytes]]:
    """The fields with an attachment's digest in place of its path, and the attachments."""
    fields = dict(raw)
    blobs: dict[str, Secret | bytes] = {}
    for name in filter(attachments.KINDS.__contains__, journey.attachments):
        path = fields.pop(name, None)
        if path is None:
            continue
        if not isinstance(path, str) or not path:
            raise IdentityError(f"{origin}: field {name} is not the path of a file")
        try:
            blob = attachments.load(name, folder / path, now=now)
        except IdentityError as error:
            raise IdentityError(
                f"{origin}: field {name}: {error}", next_step=error.next_step
            ) from None
        for key, part in attachments.parts(name, blob).items():
            blobs[key] = part
            bare = part.reveal() if isinstance(part, Secret) else part
            fields[key + _HASH] = hashlib.sha256(bare).hexdigest()
            if raw.get(key + _HASH, fields[key + _HASH]) != fields[key + _HASH]:
                raise IdentityError(f"{origin}: field {key}{_HASH} is not the hash of {key}")
    return fields, blobs


def _demand(fields: Mapping[str, Any], journey: Journey, origin: str) -> None:
    """Raise IdentityError where a field is missing, with the reason why it is wanted."""
    wanted = {name: f"the journey {fields['journey']} asks for it" for name in journey.required}
    for (name, value), needed in journey.needs.items():
        if fields.get(name) == value:
            wanted |= {other: f"{name} = {value} asks for it" for other in needed}
    for name, why in wanted.items():
        if name not in fields:
            shown = name.removesuffix(_HASH)
            rule = journey.rules[name] if shown == name else attachments.KINDS[shown].what
            raise IdentityError(
                f"{origin}: field {shown} is missing; {why} ({rule})",
                next_step=f"Add {shown} to the identity.",
            )


def refuse_duplicates(batch: Iterable[Identity]) -> None:
    """Raise IdentityError when two units of a batch would be the same device to their cloud."""
    names: dict[tuple[Value, ...], str] = {}
    secrets: dict[Value | bytes, str] = {}
    for identity in batch:
        fields = identity.fields
        for name, scope, words in _NAMES:
            if name not in fields:
                continue
            key = (fields["journey"], fields[scope], fields[name])
            if first := names.get(key):
                raise IdentityError(
                    f"{identity.origin}: {name} {fields[name]} of {words} "
                    f"{fields[scope]} stands in {first} already",
                    next_step="Give each unit of the batch a name of its own.",
                )
            names[key] = identity.origin
        for name in ("device_secret", "symmetric_key", "connection_string", "client_key"):
            secret = identity.blobs.get(name) if name in identity.blobs else fields.get(name)
            if secret is None:
                continue
            if first := secrets.get(secret):
                raise IdentityError(
                    f"{identity.origin}: {name} is the same as in {first}",
                    next_step=f"Export the batch anew: each device's {name} is its own.",
                )
            secrets[secret] = identity.origin


# The field that names the device, the one within which it does so, and what that is.
_NAMES = (
    ("device_name", "product_key", "product"),
    ("device_key", "product_key", "product"),
    ("registration_id", "id_scope", "id scope"),
)


def _check_value(rule: Rule, value: Any, origin: str) -> None:
    # The message never holds the value: of a secret it must not, of others the file has it.
    problem = ""
    if rule.choices:
        # By type too: True equals 1 and 2.0 equals 2, and neither is what the board expects.
        if (type(value), value) not in [(type(choice), choice) for choice in rule.choices]:
            problem = "is none of the choices"
    elif rule.kind == "int":
        if isinstance(value, bool) or not isinstance(value, int):
            problem = "is not a whole number"
        elif not rule.least <= value <= rule.most:
            problem = "is out of range"
    elif not isinstance(value, str):
        problem = "is not text"
    else:
        problem = _text_problem(rule, value)
    if problem:
        raise IdentityError(
            f"{origin}: field {rule.name} {problem}; the rule: {rule}",
            next_step=f"Correct {rule.name}.",
        )


def _text_problem(rule: Rule, value: str) -> str:
    try:
        length = len(value.encode())
    except UnicodeEncodeError:  # a lone surrogate, which JSON's \u escapes can spell
        return "is not valid Unicode"
    if not rule.least <= length <= rule.most:
        return f"is {length} bytes long"
    alphabet = tables().kinds[rule.kind]
    if alphabet is not None and not set(value) <= set(alphabet):
        at = next(i for i, char in enumerate(value) if char not in alphabet)
        return f"has a character outside its alphabet at position {at + 1}"
    return ""


def _journey(journey: str, origin: str) -> Journey:
    found = tables().journeys.get(journey)
    if found is None:
        raise IdentityError(f"{origin}: no such journey; known: {', '.join(tables().journeys)}")
    return found


# --- Parsers -----------------------------------------------------------------------------------


def _read_toml(text: str, source: str) -> list[tuple[str, dict[str, Any]]]:
    problem = ""
    try:
        return _units(tomllib.loads(text), source)
    except tomllib.TOMLDecodeError as error:
        problem = str(error)  # ends in "(at line L, column C)", quotes one character at most
    except (ValueError, RecursionError):  # a number of 4,300 digits; tables nested without end
        problem = "a value is too large or nested too deeply"
    raise IdentityError(f"{source}: is not TOML: {problem}")


def _read_json(text: str, source: str) -> list[tuple[str, dict[str, Any]]]:
    problem = ""
    try:
        return _units(json.loads(text, object_pairs_hook=_unique), source)
    except json.JSONDecodeError as error:
        problem = f"{error.msg} (at line {error.lineno}, column {error.colno})"
    except _RepeatedError as error:
        problem = f"field {_shortened(str(error))!r} stands twice in one object"
    except (ValueError, RecursionError):
        problem = "a value is too large or nested too deeply"
    raise IdentityError(f"{source}: is not usable JSON: {problem}")


class _RepeatedError(ValueError):
    """A JSON object names a key twice; the argument is the key."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedError(key)
        found[key] = value
    return found


def _units(document: Any, source: str) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(document, dict):
        raise IdentityError(f"{source}: is not an object of fields")
    if "identities" not in document:
        return [(source, document)]
    listed = document["identities"]
    if len(document) > 1 or not isinstance(listed, list):
        raise IdentityError(f"{source}: `identities` must be a list and stand alone")
    found = []
    for row, unit in enumerate(listed, 1):
        if not isinstance(unit, dict):
            raise IdentityError(f"{_origin(source, row)}: is not an object of fields")
        found.append((_origin(source, row), unit))
    return found


def _read_csv(text: str, source: str) -> list[tuple[str, dict[str, Any]]]:
    """Rows count as a spreadsheet counts them: the header is row 1. An empty cell is no value."""
    rows, problem = _csv_rows(text)
    if problem:
        raise IdentityError(f"{source}: is not CSV: {problem}")
    header = [name.strip() for name in rows[0]] if rows else []
    if len(set(header)) != len(header):
        raise IdentityError(f"{source}, row 1: a field name stands twice in the header")
    found = []
    for row, cells in enumerate(rows[1:], 2):
        if not any(cells):
            continue
        origin = _origin(source, row)
        if len(cells) != len(header):
            raise IdentityError(
                f"{origin}: has {len(cells)} cells, the header names {len(header)} fields"
            )
        given = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
        found.append((origin, _from_text(given, origin)))
    return found


def _csv_rows(text: str) -> tuple[list[list[str]], str]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return list(reader), ""
    except csv.Error as error:
        return [], f"{error} (at line {reader.line_num})"


def _from_text(raw: Mapping[str, str], origin: str) -> dict[str, Any]:
    """Cells, variables and answers are text; numbers among them become numbers."""
    found: dict[str, Any] = dict(raw)
    for name, text in raw.items():
        rule = tables().rule(raw.get("journey"), name)
        if rule is not None and rule.numeric:
            digits = text.strip().removeprefix("-")
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
                raise IdentityError(f"{origin}: field {name} is not {rule}")
            found[name] = int(text)
    return found


def _text(data: bytes, path: Path) -> str:
    position = -1
    try:
        return data.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        position = error.start
    raise IdentityError(
        f"{path}: is not UTF-8 (at byte {position})", next_step="Save the file as UTF-8."
    )


# --- Words -------------------------------------------------------------------------------------


def _origin(source: str, row: int) -> str:
    return f"{source}, row {row}"


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else name[:37] + "..."


def _suggestion(name: str) -> str:
    names: Sequence[str] = [*attachments.KINDS, *sorted(tables().names)]
    near = difflib.get_close_matches(name[:64].lower(), names, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _ranges(alphabet: str) -> str:
    """`0-9, A-Z and .`: an alphabet in as few words as it can be said."""
    parts: list[str] = []
    chars = sorted(alphabet)
    start = 0
    for i, char in enumerate(chars):
        if i + 1 == len(chars) or ord(chars[i + 1]) != ord(char) + 1:
            run = chars[start : i + 1]
            parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else run
            start = i + 1
    return " ".join(parts)
