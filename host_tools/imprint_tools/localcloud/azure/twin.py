"""A device's twin: tags, desired and reported properties, each with a version. Pure."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imprint_tools.localcloud.refusal import Refusal

PROPERTIES_MAX = 32 * 1024
"""Bytes of JSON that desired and reported may have, each."""
TAGS_MAX = 8 * 1024
_DEPTH_MAX = 10
_KEY_MAX = 1024


@dataclass
class Twin:
    tags: dict[str, Any] = field(default_factory=dict)
    desired: dict[str, Any] = field(default_factory=dict)
    reported: dict[str, Any] = field(default_factory=dict)
    desired_version: int = 1
    reported_version: int = 1
    version: int = 1

    def for_device(self) -> dict[str, Any]:
        return {
            "desired": {**self.desired, "$version": self.desired_version},
            "reported": {**self.reported, "$version": self.reported_version},
        }

    def patch_reported(self, patch: Mapping[str, Any]) -> int:
        """Merge; returns the new version. Refuses as `merged` does."""
        self.reported = merged(self.reported, patch, PROPERTIES_MAX)
        self.reported_version += 1
        self.version += 1
        return self.reported_version

    def patch_desired(self, patch: Mapping[str, Any]) -> int:
        """Merge; returns the new version. Refuses as `merged` does."""
        self.desired = merged(self.desired, patch, PROPERTIES_MAX)
        self.desired_version += 1
        self.version += 1
        return self.desired_version

    def patch_tags(self, patch: Mapping[str, Any]) -> None:
        self.tags = merged(self.tags, patch, TAGS_MAX)
        self.version += 1


def read_initial(document: Mapping[str, Any]) -> Twin:
    """A twin as an enrolment describes it. Refuses as `parts` and `merged` do."""
    tags, desired = parts(document)
    return Twin(tags=merged({}, tags, TAGS_MAX), desired=merged({}, desired, PROPERTIES_MAX))


def parts(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tags and the desired properties of a twin's document. Refuses "twin-malformed"."""
    return _object(document, "tags"), _object(_object(document, "properties"), "desired")


def _object(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal("twin-malformed")
    return value


def merged(old: Mapping[str, Any], patch: Mapping[str, Any], size_max: int) -> dict[str, Any]:
    """A JSON merge patch applied: null deletes, objects merge, all else replaces.

    Refuses "twin-key-invalid", "twin-too-deep" and "twin-too-large".
    """
    _check_keys(patch, _DEPTH_MAX)
    result = _merge(old, patch)
    text = json.dumps(result, separators=(",", ":"), ensure_ascii=False)
    if len(text.encode("utf-8", "surrogatepass")) > size_max:
        raise Refusal("twin-too-large")
    return result


def _merge(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(dict(old))
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = _merge(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result


def _check_keys(part: Mapping[str, Any], depth: int) -> None:
    if depth == 0:
        raise Refusal("twin-too-deep")
    for key, value in part.items():
        if not key or len(key) > _KEY_MAX or any(c in ".$ " or c < " " for c in key):
            raise Refusal("twin-key-invalid")
        if isinstance(value, dict):
            _check_keys(value, depth - 1)
