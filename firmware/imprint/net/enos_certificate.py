"""An EnOS edge's own certificate: applied for, kept, renewed when two thirds of its life are over.

Its vault has two slots, as the credential's has: a power cut leaves the old one or the new. The
key stays the same. Loaded when a session begins, and when the certificate is due.
"""

import binascii

from micropython import const

from imprint import port
from imprint.errors import ImprintError, SetupError
from imprint.vault import Vault
from imprint.wire import der

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_KEYS = ("cert_a", "cert_b")

_CLOCK_SKEWED = const(441)  # errors.py


def ensure(session: "Any") -> "dict | None":
    """The record of a certificate that is good for a while longer, its `due` among it; of one that
    is due and good yet, where there is no better one to be had. Raises ImprintError."""
    unit = session.unit
    vault = Vault(unit.store, _KEYS)
    try:
        held = vault.load()
    except SetupError as error:  # the vault is damaged: another one is applied for
        port.emit_error(error)
        held = None
    if held and not _is_ours(held, session.identity, unit.store):
        held = None
    now_s = port.unix_ms() // 1000
    record = held
    if held is None or now_s >= _due(held):
        good = held if held and now_s < held["last"] else None
        record = _issue(session, vault, good) or held
    if record:
        record["due"] = _due(record)
    return record


def _due(record: dict) -> int:
    return record["first"] + (record["last"] - record["first"]) * 2 // 3


def _is_ours(held: dict, burned: "Any", store: "Any") -> bool:
    # Not of an earlier identity of this board, whose key is gone.
    if (held["product_key"], held["device_key"]) != (burned.product_key, burned.device_key):
        return False
    try:
        request = store.get("client_csr") or b""
        return der.is_for(binascii.a2b_base64(held["cert"]), request)
    except (ValueError, IndexError):
        return False


def _issue(session: "Any", vault: Vault, held: "dict | None") -> "dict | None":
    # A new certificate, stored; None where the old one, which is good yet, has to do for now.
    try:
        with session.api() as api:
            record = api.certificate(session.unit.store.get("client_csr") or b"", held)
    except ImprintError as error:
        if not held or error.code == _CLOCK_SKEWED:
            raise
        _tell(session, error)
        return None
    vault.store(record)
    port.emit("certified", renewed=held is not None, last=record["last"])
    if held:
        # A power cut before this leaves the old one valid for the rest of its days.
        try:
            with session.api() as api:
                api.revoke(held)
        except ImprintError as error:
            _tell(session, error)
    return record


def _tell(session: "Any", error: ImprintError) -> None:
    session.api_failed = False  # it ends here
    port.emit_error(error)
