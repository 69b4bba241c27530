"""Where things lie: caches, state, and the files that are shipped to boards."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def cache_dir() -> Path:
    """Downloads that can be made again: `$IMPRINT_CACHE`, else the XDG cache folder."""
    return _base("IMPRINT_CACHE", "XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    """Virtual boards and local clouds: `$IMPRINT_STATE`, else the XDG state folder."""
    return _base("IMPRINT_STATE", "XDG_STATE_HOME", ".local/state")


def firmware_dir() -> Path:
    """The folder that holds boot.py, main.py and the package `imprint` for the board."""
    return _shipped("firmware")


def boards_dir() -> Path:
    """The folder of board TOML files."""
    return _shipped("boards")


def examples_dir() -> Path:
    """The folder of applications and programs to begin from."""
    return _shipped("examples")


def _base(own: str, xdg: str, fallback: str) -> Path:
    if value := os.environ.get(own):
        return Path(value)
    if value := os.environ.get(xdg):
        return Path(value) / "imprint"
    return Path.home() / fallback / "imprint"


def _shipped(name: str) -> Path:
    # A wheel carries the folder as data; a checkout has it beside host_tools.
    packed = _PACKAGE / "_data" / name
    return packed if packed.is_dir() else _PACKAGE.parent.parent / name
