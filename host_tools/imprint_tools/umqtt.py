"""umqtt.simple from the package index: the MQTT client that official ESP32 builds have frozen in.

The unix port lacks it. 1.3.4 is the newest on the index; it is an sdist in a format that pip
refuses to build, so it is fetched by pypi-simple, from the index that pip is set up to use.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple

from imprint_tools import syntax
from imprint_tools.errors import FetchError

PROJECT = "micropython-umqtt.simple"
VERSION = "1.3.4"
SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"

_SDIST = f"{PROJECT}-{VERSION}.tar.gz"
_MODULE = "umqtt/simple.py"
_MODULE_MAX = 64 * 1024  # bytes; the file has 6 kB
_TIMEOUT_S = 30.0
_PIP_TIMEOUT_S = 60


def fetch(folder: Path) -> None:
    """Put `umqtt/simple.py` into `folder`. Raises FetchError, also for a wrong hash."""
    sdist = folder / _SDIST
    _download(sdist)
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if digest != SHA256:
        raise FetchError(
            f"{_SDIST} from the package index has sha256 {digest}, not the pinned {SHA256}",
            next_step="do not use that index: `pip config list` shows where it is set",
        )
    source = _read_module(sdist)
    sdist.unlink()
    target = folder / _MODULE
    target.parent.mkdir()
    target.write_bytes(source)


def _download(sdist: Path) -> None:
    pip = _pip_config()
    try:
        with PyPISimple(pip.get("index-url", PYPI_SIMPLE_ENDPOINT)) as index:
            if "cert" in pip:
                index.s.verify = pip["cert"]
            page = index.get_project_page(PROJECT, timeout=_TIMEOUT_S)
            package = next((p for p in page.packages if p.filename == sdist.name), None)
            if package is None:
                raise FetchError(f"the package index has no {sdist.name}", next_step=_ASK_PIP)
            # Its hash is checked against ours, which is stronger than the index's own word.
            index.download_package(package, sdist, verify=False, timeout=_TIMEOUT_S)
    except (OSError, ValueError, NoSuchProjectError) as error:
        # The error's text holds the index's URL, which may hold a password: name the kind only.
        raise FetchError(
            f"{sdist.name} could not be fetched from the package index ({type(error).__name__})",
            next_step=_ASK_PIP,
        ) from None


_ASK_PIP = "check the network, and the index that `pip config list` names"


def _read_module(sdist: Path) -> bytes:
    """The one file wanted, read from the archive without extracting any name that it carries."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            if member.isfile() and member.name.partition("/")[2] == _MODULE:
                stream = archive.extractfile(member)
                if stream is not None and member.size <= _MODULE_MAX:
                    return stream.read()
    raise FetchError(f"{sdist.name} holds no {_MODULE}")


def _pip_config() -> dict[str, str]:
    """pip's effective options for `pip install`: environment over [install] over [global]."""
    try:
        listing = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PIP_TIMEOUT_S,
        ).stdout
    except subprocess.TimeoutExpired:
        return {}
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        key, equals, value = line.partition("=")
        section, _, name = key.partition(".")
        if equals and section in found:
            found[section][name] = str(syntax.literal(value))
    return found["global"] | found["install"] | found[":env:"]
