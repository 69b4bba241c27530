"""The worker beside the server: issued units into DPS, ten at a time, and what was left undone.

It works from the ledger alone, so it needs no order and no memory: after a kill it finds the units
that are still `issued` and creates their enrolments; those that DPS has already are compared by
certificate, and count as created if it is theirs.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from imprint_tools import ledger as state
from imprint_tools.control.azure_dps import (
    BULK_MAX,
    BulkError,
    DpsClient,
    thumbprint_of,
    x509_enrolment,
)
from imprint_tools.errors import ImprintError, ServiceError, ServiceUnavailableError
from imprint_tools.factory.activation import Activation
from imprint_tools.ledger import Ledger, Unit

_IDLE_S = 5.0  # without a word from the server it looks this often
_TROUBLE_S = 5.0  # how long it leaves a DPS alone that refuses or is down
_AT_ONCE = 4  # requests; what they are worth shows with the latency of a real network
_BAD_REQUEST = 400
_UNDONE_S = 30.0  # how often it looks for units that are not where they shall be

log = logging.getLogger("imprint.factory")


class Enroller:
    """A thread that lives from `start` to `stop`, which sets `stopped`: the event that `dps` waits
    with, so that it does not wait out a throttle then."""

    def __init__(
        self,
        ledger: Ledger,
        dps: DpsClient,
        activation: Activation,
        stopped: threading.Event | None = None,
    ) -> None:
        self._ledger, self._dps, self._activation = ledger, dps, activation
        self._thread = threading.Thread(target=self._run, name="enroller", daemon=True)
        self._something_new = threading.Event()
        self._stopped = stopped or threading.Event()
        self._next_undone = 0.0
        self.trouble = ""
        """Why DPS does not take enrolments at the moment; empty when it does."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let it finish what it is at, for a bounded time: a kill does no harm either."""
        self._stopped.set()
        self._something_new.set()
        self._thread.join(10)

    def wake(self) -> None:
        """There is a unit to enrol."""
        self._something_new.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._something_new.clear()
            try:
                busy = self.enrol_some()
                self.trouble = ""
                if time.monotonic() >= self._next_undone:
                    self.finish_undone()
                    self._next_undone = time.monotonic() + _UNDONE_S
            except ImprintError as error:
                if self._stopped.is_set():
                    return
                self.trouble = str(error)
                log.warning("enrolments wait: %s", error)
                self._stopped.wait(_TROUBLE_S)
            except Exception:  # the worker must outlive what nobody thought of
                log.exception("the enroller failed and goes on")
                self._stopped.wait(_TROUBLE_S)
            else:
                if not busy:
                    self._something_new.wait(_IDLE_S)

    def enrol_some(self) -> bool:
        """Create the enrolments of the oldest issued units; False if there were none.

        Raises ServiceError and ServiceUnavailableError when DPS takes none at all.
        """
        units = self._ledger.in_state(state.ISSUED, BULK_MAX * _AT_ONCE)
        batches = [units[n : n + BULK_MAX] for n in range(0, len(units), BULK_MAX)]
        # Several requests at once, for a far DPS would else not be asked as often as it allows.
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="enrolment") as pool:
            list(pool.map(self._enrol, batches))
        return bool(units)

    def _enrol(self, batch: list[Unit]) -> None:
        errors = {error.registration_id: error for error in self._create(batch)}
        taken = [unit.id for unit in batch if unit.id not in errors]
        taken += [u.id for u in batch if u.id in errors and self._is_ours(u, errors[u.id])]
        self._ledger.enrolled(taken)
        if not taken and all(self._ledger.get(unit.id).state == state.ISSUED for unit in batch):
            raise ServiceUnavailableError(f"DPS took none of {len(batch)} enrolments")

    def _create(self, batch: list[Unit]) -> list[BulkError]:
        """What could not be created. A request that is refused whole because of one in it is made
        again one by one, so that one does not keep the others out."""
        try:
            return self._dps.create(
                [x509_enrolment(unit.id, unit.certificate, enabled=False) for unit in batch]
            )
        except ServiceError as error:
            if error.status != _BAD_REQUEST:
                raise
            if len(batch) == 1:
                return [BulkError(batch[0].id, error.error_code or 400000, str(error))]
        return [error for unit in batch for error in self._create([unit])]

    def _is_ours(self, unit: Unit, error: BulkError) -> bool:
        """Whether an enrolment that could not be created is there, with this very certificate.

        If it is somebody else's, or DPS will never take it, the unit is refused.
        """
        if error.exists:
            stored = self._dps.get(unit.id)
            if stored is None:
                return False  # deleted just now: created at the next turn
            if thumbprint_of(stored) == unit.thumbprint:
                return True
            self._ledger.refuse(unit.id, "DPS has this id with another certificate")
        elif 400 <= error.error_code // 1000 < 429 and error.error_code // 1000 != 401:
            self._ledger.refuse(unit.id, f"DPS: {error.error_code} {error.message}")
        return False

    def finish_undone(self) -> None:
        """Take the units where they shall be, that were left on their way."""
        for unit in self._ledger.under_way():
            if self._stopped.is_set():
                return
            try:
                _, done = self._activation.carry_out(unit)
                self._ledger.note(
                    "factory server", f"{unit.wanted} (again)",
                    organisation_id=unit.organisation_id, unit_id=unit.id, detail="; ".join(done),
                )  # fmt: skip
            except ServiceError as error:
                log.warning("unit %s does not become %s: %s", unit.id, unit.wanted, error)
            except ServiceUnavailableError as error:
                log.warning("unit %s waits to become %s: %s", unit.id, unit.wanted, error)
                return
            except Exception:  # what is wrong with one must not keep the others waiting
                log.exception("unit %s is left as it is", unit.id)
