"""A root CA in this machine's own store, on Debian and Ubuntu; and out of it again.

The store is a folder of PEM files that end in .crt, from which update-ca-certificates makes
/etc/ssl/certs. OpenSSL, curl and most languages read that; Firefox, Java and Python programs that
use certifi do not.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from imprint_tools import certificates, chain_check, issuer_store
from imprint_tools.errors import TrustAnchorError

_TOOL = "update-ca-certificates"
_SUDO_PATH = "/usr/local/sbin:/usr/sbin:/sbin"  # not on everybody's PATH
_TIMEOUT_S = 120.0
_FINGERPRINT = 16  # hexadecimal digits that are part of the file's name


@dataclass(frozen=True)
class Store:
    """Where the store is; `arguments` tell update-ca-certificates where that is elsewhere."""

    local: Path = Path("/usr/local/share/ca-certificates")
    bundle: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is to be done: `steps` for a person to read; none where it is done already."""

    root: x509.Certificate
    target: Path
    remove: bool
    steps: tuple[str, ...]
    command: tuple[str, ...]


def plan(file: Path, *, remove: bool = False, store: Store | None = None) -> Plan:
    """What installing (or removing) the root CA in `file` takes.

    Raises TrustAnchorError: no root CA's certificate, one outside its dates, or another kind of
    machine.
    """
    store = store or Store()
    root = _root(file, any_date=remove)
    name = re.sub(r"[^A-Za-z0-9-]+", "-", chain_check.subject(root)).strip("-") or "root"
    digest = root.fingerprint(hashes.SHA256()).hex()[:_FINGERPRINT]
    target = store.local / f"imprint-{name}-{digest}.crt"
    command = (_tool(), *["--fresh"] * remove, *store.arguments)
    there = target.exists()
    steps: tuple[str, ...] = ()
    if remove and there:
        steps = (f"remove {target}", f"run {shlex.join(command)}")
    elif not remove and not (there and _holds(store.bundle, root)):
        steps = (f"write {target}", f"run {shlex.join(command)}")
    return Plan(root, target, remove, steps, command)


def carry_out(what: Plan, file: Path, *, store: Store | None = None) -> None:
    """Do it, and look whether it worked; what fails is undone. Raises TrustAnchorError."""
    store = store or Store()
    if not what.steps:
        return
    if not os.access(store.local, os.W_OK):
        own = Path(sys.executable).with_name("imprint")
        words = [str(own), "ca", "install", *["--remove"] * what.remove, str(file.absolute())]
        raise TrustAnchorError(
            f"{store.local} can be written by root only", next_step=f"sudo {shlex.join(words)}"
        )
    before = what.target.read_bytes() if what.target.exists() else None
    try:
        if what.remove:
            what.target.unlink()
        else:
            issuer_store.write(what.target, certificates.pem(what.root))
        _run(what.command)
        if _holds(store.bundle, what.root) is what.remove:
            raise TrustAnchorError(f"{store.bundle} is not as it should be after {_TOOL}")
    except (TrustAnchorError, OSError) as error:
        if before is None:
            what.target.unlink(missing_ok=True)
        else:
            issuer_store.write(what.target, before)
        if isinstance(error, TrustAnchorError):
            raise
        raise TrustAnchorError(f"{error.filename}: {error.strerror}") from None


def _root(file: Path, *, any_date: bool) -> x509.Certificate:
    found = chain_check.load_anchors(file)
    if len(found) != 1:
        raise TrustAnchorError(f"{file} holds {len(found)} certificates; give the root alone")
    root = found[0]
    now = certificates.utc_now()
    wrong = [
        finding
        for finding in chain_check.judge([root], [root], "", now)
        if finding.cause in ("weak", "expired", "not-yet-valid")
    ]
    if wrong and not any_date:
        raise TrustAnchorError(wrong[0].about, next_step="Take the root CA that is used today.")
    if root.subject != root.issuer:
        raise TrustAnchorError(
            f"{chain_check.subject(root)} is no root: {root.issuer.rfc4514_string()} issued it",
            next_step="Give the root; OpenSSL takes nothing below it for an anchor.",
        )
    return root


def _tool() -> str:
    found = shutil.which(_TOOL, path=f"{os.environ.get('PATH', os.defpath)}:{_SUDO_PATH}")
    if found is None:
        raise TrustAnchorError(
            f"there is no {_TOOL} here, so this is neither Debian nor Ubuntu with ca-certificates",
            next_step="sudo apt-get install ca-certificates, or use this system's own way.",
        )
    return found


def _holds(bundle: Path, root: x509.Certificate) -> bool:
    try:
        return certificates.pem(root).strip() in bundle.read_bytes()
    except OSError:
        return False


def _run(command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the system's own tool, no shell
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise TrustAnchorError(f"{_TOOL} did not end in {_TIMEOUT_S:g} s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no words"]
        raise TrustAnchorError(f"{_TOOL} failed with {done.returncode}: {last[0]}")
