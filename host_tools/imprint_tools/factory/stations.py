"""What a station asks of the server: an id, a certificate for its key, and whether DPS has it.

    POST /api/v1/station/units                    {"request_key": ..., "id": optional} -> the unit
    PUT  /api/v1/station/units/{id}/certificate   {"csr": PEM}                         -> the unit
    GET  /api/v1/station/units/{id}                                                    -> the unit

Each may be repeated: the same request gets the same answer, whatever was killed in between. The
key stays at the station. A unit of another station is not there.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.exceptions import HTTPException

from imprint_tools import certificates
from imprint_tools import ledger as state
from imprint_tools.errors import IssueError
from imprint_tools.factory.enroller import Enroller
from imprint_tools.factory.people import Station
from imprint_tools.factory.web import Call
from imprint_tools.issuer import Authority
from imprint_tools.ledger import Issued, Ledger, Unit, checked_id

_REQUEST_KEY_LENGTH = range(16, 129)
_CSR_MAX = 16 << 10


class StationDesk:
    """The views; `root_ca` is the PEM that units trust."""

    def __init__(
        self, ledger: Ledger, authority: Authority, enroller: Enroller, id_scope: str, root_ca: str
    ) -> None:
        self._ledger, self._authority, self._enroller = ledger, authority, enroller
        self._shared = {"id_scope": id_scope, "root_ca": root_ca}

    def reserve(self, station: Station, call: Call) -> tuple[int, dict[str, Any]]:
        """An id for a new unit."""
        body = _object(call.json, {"request_key", "id"})
        key, wanted = body.get("request_key"), body.get("id", "")
        if not isinstance(key, str) or len(key) not in _REQUEST_KEY_LENGTH or not key.isascii():
            raise HTTPException(422, "request_key is 16 to 128 characters of ASCII")
        try:
            unit_id = checked_id(wanted) if wanted else ""
        except (ValueError, AttributeError):
            raise HTTPException(422, "id is no GUID") from None
        unit = self._ledger.reserve(station.id, station.organisation_id, key, unit_id)
        return 201, self._shown(unit)

    def certify(self, station: Station, call: Call) -> dict[str, Any]:
        """A certificate for the key that signed the request; the same one for the same key."""
        csr = _object(call.json, {"csr"}).get("csr")
        if not isinstance(csr, str) or not csr.isascii() or len(csr) > _CSR_MAX:
            raise HTTPException(422, "csr is a PKCS#10 in PEM")
        unit = self._own(station, call)
        if unit.state == state.RESERVED:
            issued = self._authority.issue_leaf(registration_id=unit.id, csr=csr.encode())
            unit = self._ledger.issue(
                unit.id,
                Issued(
                    issued.pem.decode(), issued.serial,
                    issued.certificate.fingerprint(SHA256()).hex().upper(),
                ),
            )  # fmt: skip
            self._ledger.note(
                f"station {station.name}", "issued", organisation_id=unit.organisation_id,
                unit_id=unit.id, address=call.address, detail=f"serial {unit.serial}",
            )  # fmt: skip
            self._enroller.wake()
        if not _same_key(unit.certificate, csr):
            raise IssueError(
                f"{unit.id} has its certificate, for another key",
                next_step="Take a new id for a new unit.",
            )
        return self._shown(unit)

    def look(self, station: Station, call: Call) -> dict[str, Any]:
        """How far the unit is."""
        return self._shown(self._own(station, call))

    def _own(self, station: Station, call: Call) -> Unit:
        unit = self._ledger.find(call.request.path_params["unit_id"])
        if unit is None or unit.station_id != station.id:
            raise HTTPException(404, "there is no such unit")
        return unit

    def _shown(self, unit: Unit) -> dict[str, Any]:
        found: dict[str, Any] = {"id": unit.id, "state": unit.state, "problem": unit.problem}
        if unit.certificate:
            issuers = certificates.pem(*self._authority.full_chain[:-1]).decode()
            found |= self._shared
            found |= {"chain": unit.certificate + issuers, "serial": unit.serial}
        return found


def _same_key(certificate: str, csr: str) -> bool:
    try:
        asked = certificates.load_csr(csr.encode()).public_key()
    except ValueError:
        raise IssueError("the request is no PKCS#10 in PEM") from None
    return x509.load_pem_x509_certificate(certificate.encode()).public_key() == asked


def _object(body: Any, known: set[str]) -> dict[str, Any]:
    if not isinstance(body, dict) or not body.keys() <= known:
        raise HTTPException(422, f"the body is an object of {', '.join(sorted(known))}")
    return body
