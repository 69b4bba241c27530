"""The Device Provisioning Service's rules: whom it knows, and which hub a device gets.

Its two doors are `dps_mqtt` for devices and `dps_rest` for a factory.
"""

from __future__ import annotations

import datetime
import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from imprint_tools.localcloud.azure import certificates, sas
from imprint_tools.localcloud.azure.config import AzureConfig
from imprint_tools.localcloud.azure.data import SAS, SELF_SIGNED, AzureData, Device, Registration
from imprint_tools.localcloud.azure.enrolment import SYMMETRIC, X509, Enrolment
from imprint_tools.localcloud.azure.error import (
    ALLOCATION_FAILED,
    CERTIFICATE_OR_SAS_WRONG,
    HUB_UNAUTHORISED,
    NO_HUB,
    NOT_ENROLLED,
    ServiceError,
)
from imprint_tools.localcloud.azure.hub import Hub
from imprint_tools.localcloud.azure.twin import read_initial
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

_SWITCHES_ON = {"updateHubAssignment": True, "migrateDeviceData": True}


@dataclass(frozen=True)
class Evidence:
    """Who a device says it is, and what it shows for that: a token, or certificates."""

    registration_id: str
    token: sas.Token | None
    chain: tuple[x509.Certificate, ...]


class Dps:
    """Runs in the cloud's loop."""

    def __init__(
        self, data: AzureData, config: AzureConfig, hubs: Mapping[str, Hub], log: EventLog
    ) -> None:
        self.data = data
        self.config = config
        self.log = log
        self._hubs = hubs

    # -- who is it ------------------------------------------------------------------------------

    def attest(self, evidence: Evidence) -> Enrolment:
        """The enrolment that the evidence satisfies: a device's own, else the nearest group.

        Refuses "not-enrolled", "certificate-…" and "sas-…".
        """
        enrolment = self.data.enrolments.get(evidence.registration_id.casefold())
        if enrolment is None:
            return self._attest_group(evidence)
        if enrolment.kind == SYMMETRIC:
            self._check_token(evidence, enrolment.keys)
        elif not evidence.chain:
            raise Refusal("certificate-missing")
        else:
            stored = [certificates.sha256(known) for known in enrolment.loaded()]
            if not certificates.has_thumbprint(evidence.chain[0], stored):
                raise Refusal("certificate-wrong")
            certificates.check_dates(evidence.chain[0], _now())
        return enrolment

    def _attest_group(self, evidence: Evidence) -> Enrolment:
        if evidence.chain:
            return self._attest_authority(evidence)
        groups = [group for group in self.data.groups.values() if group.kind == SYMMETRIC]
        if not groups:
            raise Refusal("not-enrolled")
        for group in groups:
            keys = tuple(sas.derive(key, evidence.registration_id) for key in group.keys)
            try:
                self._check_token(evidence, keys)
            except Refusal as refusal:
                if refusal.reason != "sas-signature-wrong":
                    raise
            else:
                return group
        raise Refusal("sas-signature-wrong")

    def _attest_authority(self, evidence: Evidence) -> Enrolment:
        uploaded = self.data.certificate_authorities()
        anchors = {
            name: group.loaded()
            + [c for n in group.ca_names.values() for c in uploaded.get(n, [])]
            for name, group in self.data.groups.items()
            if group.kind == X509
        }
        nearest = certificates.nearest_authority(evidence.chain, anchors, _now())
        if nearest is None:
            raise Refusal("not-enrolled")
        name = certificates.common_name(evidence.chain[0])
        if name.casefold() != evidence.registration_id.casefold():
            raise Refusal("certificate-name-wrong")
        return self.data.groups[nearest]

    def _check_token(self, evidence: Evidence, keys: tuple[Secret, ...]) -> None:
        if evidence.token is None:
            raise Refusal("sas-missing")
        if evidence.token.policy not in (None, "registration"):
            raise Refusal("sas-policy-wrong")
        resource = f"{self.config.id_scope}/registrations/{evidence.registration_id}"
        sas.check(evidence.token, resource, keys, time.time(), self.config.sas_grace_s)

    # -- registration ---------------------------------------------------------------------------

    def register(self, evidence: Evidence) -> Registration:
        """Give a device its hub and its identity there: "assigned", "failed" or "disabled".

        Raises ServiceError for one that is not let in.
        """
        name = evidence.registration_id
        try:
            enrolment = self.attest(evidence)
        except Refusal as refusal:
            self.log.add("registration-refused", registration_id=name, reason=refusal.reason)
            raise refused(refusal.reason) from None
        known = self.data.registrations.get(name.casefold())
        entry = Registration(name, "disabled")
        if known is not None:
            entry.created, entry.hub, entry.device_id = known.created, known.hub, known.device_id
        entry.attestation = enrolment.kind
        entry.operation_id = f"4.{uuid.uuid4().hex[:16]}.{uuid.uuid4()}"
        if enrolment.enabled:
            entry.group = enrolment.name if enrolment.group else None
            try:
                self._assign(entry, enrolment, evidence, known)
            except ServiceError as error:
                entry.status, entry.error = "failed", (error.code, error.message)
        self.data.registrations[name.casefold()] = entry
        self.data.changed()
        self.log.add(
            "registration",
            registration_id=name,
            status=entry.status,
            hub=entry.hub,
            substatus=entry.substatus,
            group=entry.group,
            error=entry.error and entry.error[0],
        )
        return entry

    def poll(self, registration_id: str, operation_id: str) -> Registration:
        """What became of a registration. Raises ServiceError when there was none of that id."""
        entry = self.data.registrations.get(registration_id.casefold())
        if entry is None or entry.operation_id != operation_id:
            raise ServiceError(NOT_ENROLLED, "operation not found")
        return entry

    def _assign(
        self,
        entry: Registration,
        enrolment: Enrolment,
        evidence: Evidence,
        known: Registration | None,
    ) -> None:
        body = enrolment.body
        switches = body.get("reprovisionPolicy", _SWITCHES_ON)
        before = self._hubs.get(known.hub or "") if known is not None else None
        hub = self._allocate(entry.registration_id, body)
        if before is not None and not switches["updateHubAssignment"]:
            hub = before
        name = evidence.registration_id if enrolment.group else body.get("deviceId")
        entry.device_id = name or enrolment.name
        entry.status, entry.hub = "assigned", hub.host
        kept = hub.devices.get(entry.device_id)
        entry.substatus = "initialAssignment"
        if before is not None and before is not hub:
            moved = before.devices.get(entry.device_id)
            if moved is not None and switches["migrateDeviceData"]:
                entry.substatus = "deviceDataMigrated"
                kept = hub.add(moved)
            else:
                entry.substatus = "deviceDataReset"
                kept = None
            before.remove(entry.device_id)
        elif before is hub and kept is None:
            entry.substatus = "reprovisionedToInitialAssignment"
        if kept is None:
            twin = read_initial(body.get("initialTwin", {}))
            kept = hub.add(Device(entry.device_id, twin=twin))
            kept.edge = bool(body.get("capabilities", {}).get("iotEdge"))
        self._credit(kept, enrolment, evidence)

    def _credit(self, device: Device, enrolment: Enrolment, evidence: Evidence) -> None:
        """The hub takes from the device what the provisioning took."""
        if evidence.chain and enrolment.kind == X509:
            device.auth = SELF_SIGNED
            device.thumbprints = (certificates.sha256(evidence.chain[0]),)
            return
        device.auth, device.keys = SAS, enrolment.keys
        if enrolment.group:
            name = evidence.registration_id
            device.keys = tuple(sas.derive(key, name) for key in enrolment.keys)

    def _allocate(self, registration_id: str, body: Mapping[str, Any]) -> Hub:
        """The hub by the enrolment's policy, else the service's. Raises ServiceError."""
        wanted = body.get("iotHubs") or list(self._hubs)
        if fixed := body.get("iotHubHostName"):
            wanted = [fixed]
        hubs = [self._hubs[host] for host in wanted if host in self._hubs]
        if not wanted:
            raise ServiceError(NO_HUB, "no hub is linked")
        if not hubs:
            raise ServiceError(HUB_UNAUTHORISED, "the hub named is not linked")
        policy = body.get("allocationPolicy") or self.config.allocation
        if policy == "custom":
            raise ServiceError(ALLOCATION_FAILED, "custom allocation is not offered here")
        static = self.config.static_hub
        if policy == "static" and static is not None and not fixed and not body.get("iotHubs"):
            return next((hub for hub in hubs if static in (hub.name, hub.host)), hubs[0])
        if policy == "hashed":
            digest = hashlib.sha256(registration_id.casefold().encode()).digest()
            return hubs[int.from_bytes(digest[:4]) % len(hubs)]
        # static names one, and by latency the first is the nearest: all are on this machine.
        return hubs[0]


def refused(reason: str) -> ServiceError:
    """What a device is told in place of a reason."""
    if reason == "not-enrolled":
        return ServiceError(NOT_ENROLLED, "the registration id is not enrolled")
    return ServiceError(CERTIFICATE_OR_SAS_WRONG, "Unauthorized")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
