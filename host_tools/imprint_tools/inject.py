"""Puts an identity into the NVS of a board that runs MicroPython, through its REPL.

Write order, and what a power cut or a refusal at each point leaves:

    1. All blobs travel to the board's memory and are compared by hash.  Nothing is written yet.
    2. The attachments (`root_ca` and so on) are written, those that are not there already. A cut
       right after one leaves the old identity with a new attachment: the board halts with
       "identity damaged" until this is run again. That window is an NVS write long for each, and
       there is none where they stay the same.
    3. `identity` is written: one blob, so the unit has the old one or the new, whole.
    4. `cred_a` and `cred_b` are erased, if the unit became another device. A cut before that
       leaves credentials that the firmware knows are another's.

When NVS refuses a write (full), the old attachments are put back, so the old identity is whole
again. A credential that the cloud has issued is not thrown away by accident: a unit that holds one
keeps it if it stays the same device, and may become another device only with `replace`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imprint_tools.errors import DeviceError, IdentityError
from imprint_tools.identities import Identity, tables
from imprint_tools.repl import Repl
from imprint_tools.secret import Secret

NAMESPACE = "imprint"
CREDENTIALS = ("cred_a", "cred_b")

# What makes a unit that device to its cloud: a credential is of use to no other.
_WHO = ("journey", "product_key", "device_name", "device_key", "id_scope", "registration_id")

_ESP_ERR = {
    0x1104: ("ESP_ERR_NVS_READ_ONLY", "Flash the board again: imprint flash."),
    0x1105: (
        "ESP_ERR_NVS_NOT_ENOUGH_SPACE: the nvs partition is full",
        "Write it anew: imprint flash --identity FILE --replace-identity.",
    ),
    0x110D: (
        "ESP_ERR_NVS_NO_FREE_PAGES: the nvs partition is worn or damaged",
        "Write it anew: imprint flash --identity FILE --replace-identity.",
    ),
    0x110E: ("ESP_ERR_NVS_VALUE_TOO_LONG", "Use smaller certificates."),
}

# Runs on the board. `_read` gives a blob or None; 4000 bytes is the most that set_blob takes.
_HELPERS = """
import esp32, hashlib, json, binascii
_nvs = esp32.NVS("imprint")
def _read(key):
    buf = bytearray(4000)
    try:
        return bytes(memoryview(buf)[:_nvs.get_blob(key, buf)])
    except OSError:
        return None
def _hash(data):
    return data and binascii.hexlify(hashlib.sha256(data).digest()).decode()
"""

_DESCRIBE = """
def _describe(secrets, attachments):
    raw = _read("identity")
    try:
        fields = raw and json.loads(raw)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        fields = None
    for name in fields or ():
        if name in secrets:
            fields[name] = "sha256:" + _hash(str(fields[name]).encode())[:8]
    hashes = {}
    for key in attachments:
        blob = _read(key)
        if blob is not None:
            hashes[key] = _hash(blob)
    return (fields, _hash(raw), hashes,
            [key for key in ("cred_a", "cred_b") if _read(key) is not None])
print(repr(_describe(%r, %r)))
"""

# Answers 0, or the esp_err_t of the write that failed.
_STORE = """
def _store(new, identity, erase):
    old = {}
    try:
        for key in new:
            was = _read(key)
            if was != new[key]:
                old[key] = was
                _nvs.set_blob(key, new[key])
        _nvs.set_blob("identity", identity)
        _nvs.commit()
    except OSError as e:
        for key in old:
            try:
                if old[key] is None:
                    _nvs.erase_key(key)
                else:
                    _nvs.set_blob(key, old[key])
                _nvs.commit()
            except OSError:
                pass
        return e.args[0] if e.args else -1
    for key in erase:
        try:
            _nvs.erase_key(key)
        except OSError:
            pass
    _nvs.commit()
    return 0
print(_store(_new, _id, %r))
del _new, _id
"""


@dataclass(frozen=True)
class Held:
    """What a unit holds: fields (secrets as fingerprints), hashes of the blobs, credential?

    `fields` is None where there is no identity, or none that is JSON.
    """

    fields: Mapping[str, Any] | None
    identity_sha256: str | None
    attachments: Mapping[str, str]
    credentials: tuple[str, ...]

    def is_of(self, identity: Identity) -> bool:
        """The unit holds this very identity, its attachments and no other."""
        expected = identity.as_held(self.fields)
        wanted = {key: _sha256(blob) for key, blob in blobs(expected).items()}
        for name in identity.made:
            wanted.setdefault(name, str(expected.fields[f"{name}_sha256"]))
        return {**self.attachments, "identity": self.identity_sha256} == wanted


@dataclass(frozen=True)
class Injection:
    """What was done: `written` false when the unit held this very identity already."""

    written: bool
    credential_kept: bool


class CredentialHeldError(IdentityError):
    """The unit holds a credential of another device; replacing its identity would lose it."""

    code = "credential-held"


def inject(repl: Repl, identity: Identity, *, replace: bool = False) -> Injection:
    """Write `identity` to the board at `repl`, read it back, compare. The board is not reset.

    Raises CredentialHeldError (nothing written), DeviceError when NVS refuses or differs.
    """
    wanted = blobs(identity)
    held = describe(repl)
    if held.is_of(identity):
        return Injection(False, bool(held.credentials))
    keep = keeps_credential(held, identity, replace=replace)

    blob = wanted.pop("identity")
    repl.send("_id", blob)
    repl.run("make room for what lies beside it", "_new = {}")
    for key, data in wanted.items():
        repl.send("_blob", data)
        repl.run("take it in", f"_new[{key!r}] = _blob")
    arrived = repl.call(
        "hash what it was sent", "print((_hash(_id), {key: _hash(_new[key]) for key in _new}))"
    )
    if arrived != (_sha256(blob), {key: _sha256(data) for key, data in wanted.items()}):
        raise DeviceError(
            "the identity was damaged on its way to the board; nothing was written",
            next_step="Try again; if it repeats, look at the cable.",
        )
    erase = (() if keep else CREDENTIALS) + tuple(sorted(set(held.attachments) - set(wanted)))
    answer = repl.call("write its identity", _STORE % (erase,))
    if answer != 0:
        raise _refused(answer)
    after = describe(repl)
    if not after.is_of(identity):
        raise DeviceError(
            "the identity read back from the board is not what was written",
            next_step="Flash the nvs partition anew: imprint flash --identity FILE "
            "--replace-identity. If that repeats, the flash is worn.",
        )
    return Injection(True, bool(after.credentials))


def blobs(identity: Identity) -> dict[str, bytes]:
    """The identity's NVS blobs, bare: for the moment of writing them, in the order of writing."""
    return {
        key: value.reveal() if isinstance(value, Secret) else value
        for key, value in identity.entries().items()
    }


def describe(repl: Repl) -> Held:
    """What the board at `repl` holds. Its secrets stay there; their fingerprints come."""
    repl.run("open its NVS", _HELPERS)
    known = tables()
    fields, identity, attachments, credentials = repl.call(
        "describe its identity", _DESCRIBE % (tuple(sorted(known.secrets)), known.attachments)
    )
    return Held(fields, identity, attachments, tuple(credentials))


def keeps_credential(held: Held, identity: Identity, *, replace: bool) -> bool:
    """Whether the unit stays the device that its credential is for.

    Raises CredentialHeldError when it does not, holds one, and `replace` is not given.
    """
    same = held.fields is not None and all(
        held.fields.get(name) == identity.fields.get(name) for name in _WHO
    )
    if same or not held.credentials or replace:
        return same
    raise CredentialHeldError(
        f"the unit holds a credential that its cloud issued, and {identity.origin or 'this'} "
        "would make it another device; nothing was written",
        next_step="If the unit shall really become another device: --replace-identity. The old "
        "device's registration stays in the cloud until it is removed there.",
    )


def _refused(answer: object) -> DeviceError:
    number = abs(answer) if isinstance(answer, int) else 0
    name, next_step = _ESP_ERR.get(number, ("an unexpected error", "Flash the board again."))
    return DeviceError(
        f"the board's NVS refused the identity: {name} ({number:#06x}); the old one stands",
        next_step=next_step,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
