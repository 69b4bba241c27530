"""Taking units into service and out of it: what the ledger wants, done in DPS and in the hub.

Every step may be repeated: a unit's `wanted` stands in the ledger until all of them are done, and
`carry_out` does them again from the first one after a kill or a failure.

The enrolment is always written whole, with the certificate out of the ledger and with the etag
that was just read: DPS need not give a certificate back, and nobody's change in between is lost.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from imprint_tools import ledger as state
from imprint_tools.control.azure_dps import DpsClient, thumbprint_of, x509_enrolment
from imprint_tools.control.azure_hub import HubClient
from imprint_tools.errors import IssueError, ServiceError, ServiceUnavailableError
from imprint_tools.factory import twin
from imprint_tools.ledger import Ledger, Unit

POLICIES = ("hashed", "geoLatency", "static")
"""Allocation policies that need no code of one's own in the cloud."""

_ETAG_ATTEMPTS = 3
_LOCKS = 64


class Revoker(Protocol):
    """What an Authority does for a unit that is gone."""

    def revoke(self, serial: str, reason: str = ...) -> object: ...


@dataclass(frozen=True)
class Settings:
    """What a unit shall be activated with. Neither `hub` nor `policy`: DPS's own default.

    `named` are all the names that the unit's twin was ever given here (twin.named): of a twin that
    exists, those that are gone have to be taken away.
    """

    tags: Mapping[str, Any]
    desired: Mapping[str, Any]
    hub: str = ""
    policy: str = ""
    named: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, unit: Unit) -> Settings:
        """Those that the ledger has."""
        found = {"tags": {}, "desired": {}, **unit.settings}
        return cls(**found)

    def document(self) -> dict[str, Any]:
        """As the ledger keeps them."""
        return dict(vars(self))

    def after(self, before: Settings) -> Settings:
        """With what was named before."""
        then, now = (
            twin.named(one.named, {"tags": one.tags, "desired": one.desired})
            for one in (before, self)
        )
        return replace(self, named=twin.named(then, now))


@dataclass(frozen=True)
class Progress:
    """How far a unit has come with its cloud.

    `registration` is DPS's word (unassigned, assigned, disabled, failed ...; empty: none yet),
    `connection` the hub's (Connected, Disconnected; empty: not known). `last_active` is an ISO
    date or empty. `doubt` says what could not be found out.
    """

    registration: str = ""
    hub: str = ""
    connection: str = ""
    last_active: str = ""
    doubt: str = ""


class Activation:
    """Units of one ledger, one DPS and the hubs that we have keys for."""

    def __init__(
        self,
        ledger: Ledger,
        dps: DpsClient,
        hubs: Mapping[str, HubClient],
        revoker: Revoker,
        hub_names: tuple[str, ...] = (),
    ) -> None:
        self._ledger, self._dps, self._revoker = ledger, dps, revoker
        self._hubs = {name.lower(): hub for name, hub in hubs.items()}
        self.hub_names = tuple(dict.fromkeys([*hub_names, *self._hubs]))
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def check(self, settings: Settings) -> Settings:
        """The settings, if they can be. Raises TwinError."""
        twin.check(settings.tags, settings.desired)
        if settings.hub and settings.hub not in self.hub_names:
            raise twin.TwinError(f"there is no hub {settings.hub[:80]!r} here")
        if settings.policy and settings.policy not in POLICIES:
            raise twin.TwinError(f"the policy is one of {', '.join(POLICIES)}")
        if settings.hub and settings.policy:
            raise twin.TwinError("either a hub is chosen or a policy chooses it")
        if settings.policy and not self.hub_names:
            raise twin.TwinError("a policy chooses among hubs, and none is configured here")
        return settings

    def go(
        self, unit: Unit, wanted: str, settings: Settings | None = None
    ) -> tuple[Unit, list[str]]:
        """Write down where the unit shall go, and take it there: the unit, and what was done.

        Raises LedgerError (no way from where it is), ServiceError (the cloud refuses: nothing is
        wanted any more), ServiceUnavailableError (it is tried again by itself).
        """
        document = None
        if settings is not None:
            document = settings.after(Settings.of(unit)).document()
        return self.carry_out(self._ledger.want(unit, wanted, document))

    def carry_out(self, unit: Unit) -> tuple[Unit, list[str]]:
        """Do what is wanted of a unit; also again."""
        done: list[str] = []
        with self._locks[hash(unit.id) % _LOCKS]:
            unit = self._ledger.get(unit.id)
            try:
                if unit.wanted == state.ACTIVE:
                    self._activate(unit, done)
                elif unit.wanted == state.DISABLED:
                    self._write_enrolment(unit, enabled=False)
                    done.append("enrolment disabled")
                    self._switch_hub(unit, False, done)
                elif unit.wanted == state.DECOMMISSIONED:
                    self._decommission(unit, done)
                else:
                    return unit, done
            except ServiceUnavailableError as error:
                self._ledger.failed(unit.id, str(error), give_up=False)
                raise
            except ServiceError as error:
                self._ledger.failed(unit.id, str(error), give_up=True)
                raise
            return self._ledger.reached(unit), done

    def progress(self, unit: Unit) -> Progress:
        """Ask DPS and the hub how far the unit has come, and note it in the ledger."""
        try:
            record = self._dps.registration(unit.id) or {}
            found = Progress(
                registration=str(record.get("status", "")),
                hub=str(record.get("assignedHub") or ""),
            )
            if found.hub:
                found = self._hubs_word(unit, found)
        except (ServiceError, ServiceUnavailableError) as error:
            return Progress(hub=unit.hub, doubt=str(error))
        first = unit.first_seen or (_milliseconds(found.last_active) if found.last_active else 0)
        if (found.hub, first) != (unit.hub, unit.first_seen) and found.hub:
            self._ledger.seen(unit.id, found.hub, first)
        return found

    def _hubs_word(self, unit: Unit, found: Progress) -> Progress:
        hub = self._hubs.get(found.hub.lower())
        if hub is None:
            return replace(found, doubt=f"no key for the hub {found.hub} is configured here")
        identity = hub.device(unit.id)
        if identity is None:
            return replace(found, doubt=f"{found.hub} has no such device")
        active = str(identity.get("lastActivityTime") or "")
        return replace(
            found,
            connection=str(identity.get("connectionState") or ""),
            last_active="" if active.startswith("0001-") else active,  # the hub's "never"
        )

    def _activate(self, unit: Unit, done: list[str]) -> None:
        settings = Settings.of(unit)
        # A device that has been assigned already keeps its twin: there the hub has to be told.
        # First, so that a hub that refuses leaves the enrolment as it was.
        hub = self._switch_hub(unit, True, done)
        if hub:
            names = settings.named
            hub.patch_twin(
                unit.id,
                twin.change(names.get("tags", {}), settings.tags),
                twin.change(names.get("desired", {}), settings.desired),
            )
            done.append(f"twin changed in {hub.host}")
        self._write_enrolment(unit, enabled=True)
        done += ["initial twin set", "enrolment enabled"]

    def _decommission(self, unit: Unit, done: list[str]) -> None:
        assigned = self._assigned(unit)
        hub = self._hubs.get(assigned.lower())
        if assigned and hub is None:  # before anything is done that has no way back
            raise _no_key(assigned)
        self._dps.delete(unit.id)
        done.append("enrolment deleted")
        if hub is not None:
            hub.delete(unit.id)
            done.append(f"device deleted in {assigned}")
        self._dps.delete_registration(unit.id)
        try:
            self._revoker.revoke(unit.serial, "cessation_of_operation")
            done.append("certificate revoked")
        except IssueError as error:  # the authority is another one than it was then
            done.append(f"certificate not revoked: {error}")

    def _write_enrolment(self, unit: Unit, *, enabled: bool) -> None:
        settings = Settings.of(unit)
        fields: dict[str, Any] = {
            "initialTwin": twin.document(settings.tags, settings.desired),
            "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
        }
        if settings.hub:
            fields["iotHubHostName"] = settings.hub
        elif settings.policy:
            fields["allocationPolicy"] = settings.policy
            fields["iotHubs"] = list(self.hub_names)
        body = x509_enrolment(unit.id, unit.certificate, enabled=enabled, **fields)
        for attempt in range(1, _ETAG_ATTEMPTS + 1):
            stored = self._dps.get(unit.id)
            if stored is None:
                raise ServiceError(
                    "DPS has no enrolment of this unit any more",
                    next_step="Decommission the unit; somebody has deleted its enrolment.",
                )
            if (known := thumbprint_of(stored)) and known != unit.thumbprint:
                raise ServiceError("DPS has this id with another certificate: left as it is")
            try:
                self._dps.put(body, str(stored["etag"]))
                return
            except ServiceError as error:
                if error.status != 412 or attempt == _ETAG_ATTEMPTS:
                    raise

    def _switch_hub(self, unit: Unit, enabled: bool, done: list[str]) -> HubClient | None:
        """Enable or disable the device in the hub that it was assigned; None: in none."""
        assigned = self._assigned(unit)
        if not assigned:
            return None
        hub = self._hubs.get(assigned.lower())
        if hub is None:
            done.append(f"not changed: the device in {assigned}, for which no key is configured")
            return None
        if not hub.set_enabled(unit.id, enabled, "" if enabled else "disabled in the portal"):
            return None
        done.append(f"device {'enabled' if enabled else 'disabled'} in {assigned}")
        return hub

    def _assigned(self, unit: Unit) -> str:
        record = self._dps.registration(unit.id) or {}
        return str(record.get("assignedHub") or unit.hub)


def _no_key(hub: str) -> ServiceError:
    return ServiceError(
        f"no key for the hub {hub} is configured here, so the device in it cannot be deleted",
        next_step="Add the hub's connection string to factory.toml.",
    )


def _milliseconds(iso: str) -> int:
    """An ISO date of Azure's (seven decimals, no zone or Z: UTC) in ms since 1970; now if odd."""
    try:
        found = datetime.datetime.fromisoformat(iso[:19])
    except ValueError:
        found = datetime.datetime.now(datetime.UTC)
    return int(found.replace(tzinfo=datetime.UTC).timestamp() * 1000)
