"""The provisioning service's MQTT door: registration by symmetric keys and by X.509.

Runs in the endpoint's loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imprint_tools.localcloud import jsonobject, packets
from imprint_tools.localcloud.azure import certificates, names, sas
from imprint_tools.localcloud.azure.data import Registration
from imprint_tools.localcloud.azure.dps import Dps, Evidence
from imprint_tools.localcloud.azure.error import ServiceError, inferred
from imprint_tools.localcloud.azure.faults import AzureFaults
from imprint_tools.localcloud.azure.rest import Throttle
from imprint_tools.localcloud.broker import ACCEPTED, Broker, Verdict
from imprint_tools.localcloud.link import Link
from imprint_tools.localcloud.refusal import Refusal

_NAME = "dps"
_PAYLOAD_MAX = 96 * 1024


@dataclass
class _Member:
    """A device's connection. `polls_left`: how often it will hear 202 again."""

    evidence: Evidence
    polls_left: int


class DpsFront:
    """The `Cloud` that a Broker asks."""

    def __init__(self, dps: Dps, faults: AzureFaults) -> None:
        self.broker = Broker(self, dps.log, faults, dps.config.limits)
        self._dps = dps
        self._config = dps.config
        self._faults = faults
        self._members: dict[int, _Member] = {}
        self._registrations = Throttle(self._config.registrations_per_min, 60.0)
        self._polls: dict[str, Throttle] = {}

    # -- broker.Cloud --------------------------------------------------------------------------

    def authenticate(self, link: Link, connect: packets.Connect) -> Verdict:
        link.event(
            "connect",
            at=_NAME,
            client_id=connect.client_id,
            username=connect.username,
            password=connect.password.fingerprint if connect.password.reveal() else None,
            certificates=[certificates.common_name(one) for one in link.chain],
            keepalive_s=connect.keepalive_s,
            clean_session=connect.clean_session,
        )
        try:
            evidence = self._admit(link, connect)
        except Refusal as refusal:
            code = self._config.connack(refusal.reason)
            link.event("refused", at=_NAME, code=code, reason=refusal.reason)
            return Verdict(code)
        self._members[link.number] = _Member(evidence, self._config.polls)
        # No session is kept here, whatever the client asks for.
        return Verdict(ACCEPTED)

    def on_connected(self, link: Link) -> None:
        """Nothing waits for a device here."""

    def on_subscribe(self, link: Link, topic_filter: str, qos: int) -> int:
        return min(qos, 1) if topic_filter == names.DPS_ANSWERS else packets.SUBSCRIPTION_REFUSED

    def on_publish(self, link: Link, message: packets.Publish) -> None:
        try:
            request = names.parse_dps_topic(message.topic)
            if len(message.payload) > _PAYLOAD_MAX:
                raise Refusal("message-too-large")
        except Refusal as refusal:
            link.event("publish-refused", at=_NAME, topic=message.topic, reason=refusal.reason)
            link.close(refusal.reason)
            return
        member = self._members[link.number]
        try:
            self._check_trouble()
            if isinstance(request, names.RegisterRequest):
                self._register(link, member, request, message.payload)
            else:
                self._poll(link, member, request)
        except ServiceError as error:
            self._reply(link, request.rid, error.status, error.body(), error.retry_after_s)

    def on_closed(self, link: Link) -> None:
        self._members.pop(link.number, None)

    # -- who may come in -----------------------------------------------------------------------

    def _admit(self, link: Link, connect: packets.Connect) -> Evidence:
        """What the device shows; where that is judged at once, Refusal is raised."""
        user = names.parse_dps_username(connect.username)
        if user.id_scope.casefold() != self._config.id_scope.casefold():
            raise Refusal("id-scope-unknown")
        if connect.client_id != user.registration_id:
            raise Refusal("client-id-wrong")
        token, text = None, connect.password.reveal()
        if text:
            token = sas.parse(text.decode("utf-8", "replace"))
        elif not link.chain:
            raise Refusal("credentials-missing")
        evidence = Evidence(user.registration_id, token, () if token else link.chain)
        at_once = self._config.sas_refused_at if token else self._config.certificate_refused_at
        if at_once == "connect":
            try:
                self._dps.attest(evidence)
            except Refusal as refusal:
                # That it is not enrolled is an answer to a registration in any case.
                if refusal.reason != "not-enrolled":
                    raise
        return evidence

    # -- requests ------------------------------------------------------------------------------

    def _check_trouble(self) -> None:
        if self._faults.provisioning:
            trouble = self._faults.provisioning.popleft()
            raise ServiceError(
                trouble.code, "told to answer so", retry_after_s=trouble.retry_after_s
            )

    def _register(
        self, link: Link, member: _Member, request: names.RegisterRequest, payload: bytes
    ) -> None:
        try:
            document = jsonobject.load(payload)
        except ValueError:
            raise ServiceError(inferred(400), "the body is no JSON object") from None
        if str(document.get("registrationId")).casefold() != (
            member.evidence.registration_id.casefold()
        ):
            raise ServiceError(inferred(400), "registrationId is not the one that connected")
        if not self._registrations.take():
            raise self._throttled()
        entry = self._dps.register(member.evidence)
        if self._faults.take("register_drop"):
            link.event("fault", name="register_drop")
            link.abort("fault register_drop")
        elif entry.status == "disabled" and not self._config.disabled_after_poll:
            self._reply(link, request.rid, 200, _result(entry))
        else:
            member.polls_left = self._config.polls
            self._assigning(link, request.rid, entry)

    def _poll(self, link: Link, member: _Member, request: names.StatusRequest) -> None:
        name = member.evidence.registration_id
        fresh = Throttle(self._config.polls_per_10_s, 10.0)
        if not self._polls.setdefault(name.casefold(), fresh).take():
            raise self._throttled()
        entry = self._dps.poll(name, request.operation_id)
        if member.polls_left > 0:
            member.polls_left -= 1
            self._assigning(link, request.rid, entry)
        else:
            self._reply(link, request.rid, 200, _result(entry))

    def _throttled(self) -> ServiceError:
        return ServiceError(
            inferred(429), "too many requests", retry_after_s=self._config.throttle_retry_after_s
        )

    def _assigning(self, link: Link, rid: str, entry: Registration) -> None:
        document = {
            "operationId": entry.operation_id,
            "status": "assigning",
            "registrationState": {
                "registrationId": entry.registration_id,
                "status": "assigning",
            },
        }
        self._reply(link, rid, 202, document, self._config.retry_after_s)

    def _reply(
        self,
        link: Link,
        rid: str,
        status: int,
        document: dict[str, Any],
        retry_after_s: int | None = None,
    ) -> None:
        lost = self._faults.take("no_reply")
        link.event(
            "provisioning-answer",
            status=status,
            code=document.get("errorCode"),
            body_status=document.get("status"),
            retry_after_s=retry_after_s,
            replied=not lost,
        )
        topic = names.dps_answer_topic(status, rid, retry_after_s)
        granted = link.session.granted(topic)
        if not lost and granted is not None:
            link.publish(topic, jsonobject.dump(document), min(granted, 1))


def _result(entry: Registration) -> dict[str, Any]:
    state = entry.shown()
    if entry.status == "assigned":
        group = {} if entry.group is None else {"enrollmentGroupId": entry.group}
        state[entry.attestation] = group
    return {
        "operationId": entry.operation_id if entry.status != "disabled" else "",
        "status": entry.status,
        "registrationState": state,
    }
