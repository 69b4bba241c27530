"""Proves what is on a board, by hashes that the board itself computes.

Two ways, for two states of a unit:

* running (`running`): over the REPL, every file of the firmware by SHA-256, code that does not
  belong there, and the identity. It may have been online for years.
* fresh from the line (`flashed`): over esptool, every segment of flash by MD5. It resets the chip,
  and the file system matches only until the board first writes to it.

Secrets never leave the board: they are compared by hash and shown by fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imprint_tools.errors import DeviceError, VerifyError
from imprint_tools.flash import Segment, Session, segment_md5
from imprint_tools.flash import describe as describe_nvs
from imprint_tools.identities import Identity, tables
from imprint_tools.inject import Held, blobs, describe
from imprint_tools.nvs import BytesRegion, NvsError, NvsPartition
from imprint_tools.partitions import Partition
from imprint_tools.repl import Repl

_HASH_FILES = """
import os, hashlib, binascii
def _sha256(path):
    h = hashlib.sha256()
    try:
        with open(path, "rb") as f:
            while True:
                piece = f.read(512)
                if not piece:
                    return binascii.hexlify(h.digest()).decode()
                h.update(piece)
    except OSError:
        return None
def _code(folder, found):
    for entry in os.ilistdir(folder or "/"):
        path = folder + "/" + entry[0]
        if entry[1] & 0x4000:
            # A ROMFS is part of the flashed image, which `flashed` compares.
            if path != "/rom":
                _code(path, found)
        elif path.endswith(".py") or path.endswith(".mpy"):
            found.append(path)
    return found
"""


@dataclass(frozen=True)
class Check:
    """One comparison; `found` is what the board has, None where it has nothing."""

    name: str
    expected: str | None
    found: str | None

    @property
    def ok(self) -> bool:
        return self.expected == self.found

    def __str__(self) -> str:
        if self.ok:
            return f"{self.name}: {_short(self.found)}"
        if self.expected is None:
            return f"{self.name}: does not belong there"
        if self.found is None:
            return f"{self.name}: missing"
        return f"{self.name}: {_short(self.found)}, expected {_short(self.expected)}"


@dataclass(frozen=True)
class Verification:
    """What was compared, and the identity as the board holds it (secrets as fingerprints)."""

    checks: tuple[Check, ...]
    identity: Mapping[str, Any] | None
    credential: bool

    @property
    def mismatches(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    def require(self) -> None:
        """Raise VerifyError, which lists every mismatch, when there is one."""
        if self.mismatches:
            listed = "; ".join(str(check) for check in self.mismatches)
            raise VerifyError(
                f"{len(self.mismatches)} of {len(self.checks)} differ: {listed}",
                next_step="Write it again: imprint flash for files, imprint inject for the "
                "identity.",
            )


def running(
    repl: Repl, files: Mapping[str, str], identity: Identity | None = None
) -> Verification:
    """Compare a running board with `files` (path on the board -> SHA-256) and `identity`."""
    repl.run("prepare to hash its files", _HASH_FILES)
    checks = [
        Check(path, digest, repl.call(f"hash {path}", f"print(repr(_sha256({path!r})))"))
        for path, digest in sorted(files.items())
    ]
    code = repl.call("list its code", "print(_code('', []))")
    if not isinstance(code, list):
        raise DeviceError("the board did not list its files")
    checks += [Check(path, None, "present") for path in sorted(set(code) - set(files))]
    held = describe(repl)
    return Verification(
        tuple(checks + _identity_checks(held, identity)), held.fields, bool(held.credentials)
    )


def flashed(
    url: str,
    chip: str,
    segments: Sequence[Segment],
    *,
    nvs_partition: Partition | None = None,
    identity: Identity | None = None,
) -> Verification:
    """Compare a board's flash with `segments`, and its nvs partition with `identity`."""
    held = Held(None, None, {}, ())
    with Session(url, chip) as session:
        checks = [
            Check(
                segment.label,
                segment_md5(segment),
                session.md5(segment.offset, len(segment.padded())),
            )
            for segment in segments
        ]
        if nvs_partition is not None:
            raw = session.read(nvs_partition.offset, nvs_partition.size)
            try:
                held = describe_nvs(NvsPartition(BytesRegion(raw)).entries())
            except NvsError as error:
                checks.append(Check("nvs", "readable", type(error).__name__))
    return Verification(
        tuple(checks + _identity_checks(held, identity)), held.fields, bool(held.credentials)
    )


def _identity_checks(held: Held, identity: Identity | None) -> list[Check]:
    stated = held.fields or {}
    checks = [
        Check(name, stated.get(f"{name}_sha256"), held.attachments.get(name))
        for name in tables().attachments
        if f"{name}_sha256" in stated or name in held.attachments
    ]
    if identity is None:
        return checks
    identity = identity.as_held(held.fields)
    # The whole blob decides; the fields say what differs.
    blob = hashlib.sha256(blobs(identity)["identity"]).hexdigest()
    checks.append(Check("identity", blob, held.identity_sha256))
    wanted, found = identity.shown(), held.fields or {}
    return checks + [
        Check(f"identity.{name}", _text(wanted.get(name)), _text(found.get(name)))
        for name in sorted({*wanted, *found})
    ]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _short(text: str | None) -> str:
    """A hash by its head: enough to tell two apart."""
    text = text or "nothing"
    return text[:12] + "..." if len(text) > 48 else text
