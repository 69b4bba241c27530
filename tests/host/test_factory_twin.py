"""What a twin may hold, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imprint_tools.factory import twin
from imprint_tools.factory.twin import TwinError


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(depth - 1):
        found = {"a": found}
    return found


@pytest.mark.parametrize(
    ("tags", "desired"),
    [
        ({}, {}),
        ({"site": "north", "ключ": "значение"}, {"on": True, "rate": 1.5, "list": [1, "a", None]}),
        ({"a": "x" * 4096}, {"n": (1 << 52) - 1, "m": -(1 << 52)}),
        (nested(10), {"k" * 1024: 1}),
    ],
)
def test_what_fits(tags: Any, desired: Any) -> None:
    """At the very bounds, and back out of its JSON."""
    assert twin.check(tags, desired) == (tags, desired)
    assert twin.parse(json.dumps(twin.document(tags, desired))) == (tags, desired)


@pytest.mark.parametrize(
    ("tags", "desired", "problem"),
    [
        ([], {}, "tags is not an object"),
        ({}, "x", "desired is not an object"),
        ({"a.b": 1}, {}, "no dot"),
        ({}, {"a": {"$version": 1}}, "desired.a has the key"),
        ({"a b": 1}, {}, "no blank"),
        ({"a\x00": 1}, {}, "control"),
        ({"a\x9f": 1}, {}, "control"),
        ({"": 1}, {}, "empty"),
        ({"k" * 1025: 1}, {}, "1024 bytes"),
        ({"a": "x" * 4097}, {}, "4096 bytes"),
        ({}, {"a": ["x" * 4097]}, r"desired.a\[0\]"),
        ({"n": 1 << 52}, {}, "outside"),
        (nested(11), {}, "10 deep"),
        ({}, {"a": [[[[[[[[[[1]]]]]]]]]]}, "10 deep"),
        ({"t" + str(n): "x" * 1000 for n in range(9)}, {}, "8192"),
        ({}, {"t" + str(n): "x" * 1000 for n in range(33)}, "32768"),
        ({"a": "\ud800"}, {}, "half a character"),
        ({"a": float("inf")}, {}, "no number"),
        ({}, {"a": [float("nan")]}, r"desired.a\[0\] is no number"),
    ],
)
def test_what_does_not(tags: Any, desired: Any, problem: str) -> None:
    """Each rule has its reason, and says where."""
    with pytest.raises(TwinError, match=problem):
        twin.check(tags, desired)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"tag": {}}', "no place"),
        ('{"properties": []}', "properties is not"),
        ('{"properties": {"reported": {}}}', "no place"),
        ('{"tags": {"a": 1, "a": 2}}', "twice"),
        ('{"tags": {"a": NaN}}', "NaN"),
        ('{"tags": {"a": 1e999}}', "no number"),
        ("[" * 60_000, "nested|not JSON"),
        ('{"tags": "' + "x" * 70_000, "longer"),
    ],
)
def test_texts_that_are_refused(text: str, problem: str) -> None:
    """Whatever a person pastes."""
    with pytest.raises(TwinError, match=problem):
        twin.parse(text)


@given(st.text())
def test_any_text(text: str) -> None:
    """Is parsed or refused."""
    for candidate in (text, json.dumps({"tags": {text: text}})):
        try:
            twin.parse(candidate)
        except TwinError:
            pass


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_JSON, _JSON)
def test_any_document(tags: Any, desired: Any) -> None:
    """Is taken as it is, or refused."""
    try:
        assert twin.check(tags, desired) == (tags, desired)
    except TwinError:
        pass


_TREES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers(0, 2),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=8,
    ),
)


def merged(twin_: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """As a hub does it (RFC 7396)."""
    found = dict(twin_)
    for name, value in patch.items():
        old = found.pop(name, None)
        if isinstance(value, dict):
            found[name] = merged(old if isinstance(old, dict) else {}, value)
        elif value is not None:
            found[name] = value
    return found


@given(st.lists(st.tuples(_TREES, st.booleans()), min_size=1))
def test_changes_lead_to_what_was_entered(entered: list[tuple[dict[str, Any], bool]]) -> None:
    """Whichever of them the hub got, if only it got the last."""
    there: dict[str, Any] = {}
    names: dict[str, Any] = {}
    for wanted, arrives in entered:
        names = twin.named(names, wanted)
        patch = twin.change(names, wanted)
        if arrives:
            there = merged(there, patch)
    assert merged(there, patch) == wanted
