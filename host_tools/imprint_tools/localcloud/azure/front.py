"""The MQTT door for devices, of a hub and of a gateway alike: who may enter and say what.

Topics and statuses are those of the vendor's documents; behind the door stands an `Upstream`.
Runs in the endpoint's loop.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from imprint_tools.localcloud import jsonobject, packets
from imprint_tools.localcloud.azure import certificates, names, sas
from imprint_tools.localcloud.azure.config import AzureConfig
from imprint_tools.localcloud.azure.data import AUTHORITY, SAS, SELF_SIGNED, Device, Message
from imprint_tools.localcloud.azure.error import ServiceError, inferred
from imprint_tools.localcloud.azure.faults import AzureFaults
from imprint_tools.localcloud.azure.hub import Upstream
from imprint_tools.localcloud.broker import ACCEPTED, Broker, Verdict
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.link import Link
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

MESSAGE_MAX = 256 * 1024
"""Bytes of payload and properties of one message."""


class Door(Protocol):
    """What differs between a hub's door and a gateway's."""

    @property
    def upstream(self) -> Upstream:
        """Who takes what devices say."""
        ...

    @property
    def grace_s(self) -> float:
        """How long past its expiry a token holds."""
        ...

    def device(self, device_id: str) -> Device:
        """Refuses "device-unknown"."""
        ...

    def check_host(self, host: str) -> None:
        """Refuses "host-wrong" for a user name's host."""
        ...

    def resources(self, device_id: str) -> Sequence[str]:
        """What a token may be for."""
        ...

    def authorities(self) -> dict[str, list[x509.Certificate]]:
        """The CAs that certificates of devices may lead to."""
        ...


@dataclass
class _Member:
    """A device's connection."""

    user: names.HubUser
    will: tuple[str, bytes] | None


class Front:
    """The `Cloud` that a Broker asks, and a `Downlink`."""

    def __init__(
        self, name: str, door: Door, config: AzureConfig, log: EventLog, faults: AzureFaults
    ) -> None:
        self.name = name
        self.broker = Broker(self, log, faults, config.limits)
        self._door = door
        self._config = config
        self._faults = faults
        self._members: dict[int, _Member] = {}

    # -- Downlink ------------------------------------------------------------------------------

    def send(
        self, device_id: str, topic: str, payload: bytes, on_acknowledged: Callable[[], None]
    ) -> bool:
        link = self.broker.link(device_id)
        granted = None if link is None else link.session.granted(topic)
        if link is None or granted is None:
            return False
        if topic.startswith("$iothub/twin/PATCH/") and self._faults.take("garbage_desired"):
            payload = payload[: len(payload) // 2]
        if self._faults.take("cut_message"):
            data = packets.publish(topic, payload)
            link.send(data[: len(data) // 2])
            link.close("fault cut_message")
            return True
        link.publish(topic, payload, min(granted, 1), on_acknowledged=on_acknowledged)
        if granted == 0:
            on_acknowledged()
        return True

    def disconnect(self, device_id: str, reason: str) -> None:
        if (link := self.broker.link(device_id)) is not None:
            link.close(reason)

    # -- broker.Cloud --------------------------------------------------------------------------

    def authenticate(self, link: Link, connect: packets.Connect) -> Verdict:
        link.event(
            "connect",
            at=self.name,
            client_id=connect.client_id,
            username=connect.username,
            password=connect.password.fingerprint if connect.password.reveal() else None,
            certificates=[certificates.common_name(one) for one in link.chain],
            keepalive_s=connect.keepalive_s,
            clean_session=connect.clean_session,
        )
        try:
            user, expiry = self._admit(link, connect)
        except Refusal as refusal:
            code = self._config.connack(refusal.reason)
            link.event("refused", at=self.name, code=code, reason=refusal.reason)
            return Verdict(code)
        self._members[link.number] = _Member(user, connect.will)
        if expiry is not None:
            # Azure has no way to give a new token on the same connection: it is cut.
            left_s = expiry + self._door.grace_s - time.time()
            link.close_after(max(left_s, 0.0), "token expired")
        link.event("login", at=self.name, device_id=user.device_id, expiry=expiry)
        return Verdict(ACCEPTED, user.client_id)

    def on_connected(self, link: Link) -> None:
        device_id = self._members[link.number].user.device_id
        self._door.upstream.connected(device_id, self)
        self._door.upstream.ready_for_messages(device_id)

    def on_publish(self, link: Link, message: packets.Publish) -> None:
        member = self._members[link.number]
        try:
            action = names.parse_hub_topic(message.topic, member.user)
            if len(message.payload) + len(message.topic) > MESSAGE_MAX:
                raise Refusal("message-too-large")
        except Refusal as refusal:
            # The hub closes the connection: MQTT 3.1.1 has no word for it.
            link.event("publish-refused", at=self.name, topic=message.topic, reason=refusal.reason)
            link.close(refusal.reason)
            return
        link.event(
            "publish",
            at=self.name,
            topic=message.topic,
            qos=message.qos,
            dup=message.dup,
            bytes=len(message.payload),
        )
        match action:
            case names.Telemetry():
                bag = action.properties | ({"mqtt-retain": "true"} if message.retain else {})
                self._take_telemetry(member.user, bag, message.payload)
            case names.TwinGet():
                self._answer_twin(link, member.user, action)
            case names.ReportedPatch():
                self._answer_reported(link, member.user, action, message.payload)
            case names.MethodAnswer():
                self._door.upstream.method_answered(
                    member.user.device_id, action.rid, action.status, message.payload
                )

    def on_subscribe(self, link: Link, topic_filter: str, qos: int) -> int:
        user = self._members[link.number].user
        if not names.may_subscribe(topic_filter, user):
            return packets.SUBSCRIPTION_REFUSED
        granted = min(qos, 1)
        if topic_filter == names.c2d_topic(user) + "#":
            # After the SUBACK, which clients wait for.
            link.soon(lambda: self._door.upstream.ready_for_messages(user.device_id))
        return granted

    def on_closed(self, link: Link) -> None:
        member = self._members.pop(link.number, None)
        if member is None:
            return
        device_id = member.user.device_id
        # What was not acknowledged is the hub's to send again.
        link.session.inflight.clear()
        link.session.told.clear()
        if self.broker.link(device_id) is None:
            self._door.upstream.disconnected(device_id, self)
        if member.will is not None and link.closing != "DISCONNECT":
            self._take_will(member)

    # -- who may come in -----------------------------------------------------------------------

    def _admit(self, link: Link, connect: packets.Connect) -> tuple[names.HubUser, int | None]:
        """Who it is, and when its token expires. Raises Refusal."""
        user = names.parse_hub_username(connect.username)
        self._door.check_host(user.host)
        if connect.client_id != user.client_id:
            raise Refusal("client-id-wrong")
        if user.module_id is not None:
            raise Refusal("module-unknown")
        device = self._door.device(user.device_id)
        expiry = None
        # A password counts even where a certificate was sent.
        if connect.password.reveal():
            expiry = self._check_token(device, connect.password)
        elif link.chain:
            self._check_certificate(device, link.chain)
        else:
            raise Refusal("credentials-missing")
        if not device.enabled:
            raise Refusal("device-disabled")
        if connect.will is not None:
            action = names.parse_hub_topic(connect.will[0], user)
            if not isinstance(action, names.Telemetry):
                raise Refusal("will-topic-wrong")
        return user, expiry

    def _check_token(self, device: Device, password: Secret) -> int:
        if device.auth != SAS:
            raise Refusal("certificate-missing")
        token = sas.parse(password.reveal().decode("utf-8", "replace"))
        resources = self._door.resources(device.device_id)
        wanted = [name for name in resources if _covers(token, name)]
        resource = wanted[0] if wanted else resources[0]
        sas.check(token, resource, device.keys, time.time(), self._door.grace_s)
        return token.expiry

    def _check_certificate(self, device: Device, chain: Sequence[x509.Certificate]) -> None:
        now = datetime.datetime.now(datetime.UTC)
        if device.auth == SELF_SIGNED:
            if not certificates.has_thumbprint(chain[0], device.thumbprints):
                raise Refusal("certificate-wrong")
            certificates.check_dates(chain[0], now)
            return
        if device.auth != AUTHORITY:
            raise Refusal("sas-missing")
        if certificates.common_name(chain[0]) != device.device_id:
            raise Refusal("certificate-name-wrong")
        if certificates.nearest_authority(chain, self._door.authorities(), now) is None:
            raise Refusal("certificate-wrong")

    # -- what a device says --------------------------------------------------------------------

    def _take_telemetry(
        self, user: names.HubUser, bag: dict[str, str | None], payload: bytes
    ) -> None:
        message = Message(user.device_id, bag, payload, time.time())
        self._door.upstream.telemetry(message)

    def _take_will(self, member: _Member) -> None:
        topic, payload = member.will or ("", b"")
        action = names.parse_hub_topic(topic, member.user)
        if isinstance(action, names.Telemetry):
            bag = action.properties | {"iothub-MessageType": "Will"}
            self._take_telemetry(member.user, bag, payload)

    def _answer_twin(self, link: Link, user: names.HubUser, action: names.TwinGet) -> None:
        try:
            self._check_trouble()
            body = jsonobject.dump(self._door.upstream.twin(user.device_id))
        except ServiceError as error:
            self._reply(link, error.status, action.rid, body=jsonobject.dump(error.body()))
            return
        if self._faults.take("garbage_twin"):
            body = body[: len(body) // 2]
        self._reply(link, 200, action.rid, body=body)

    def _answer_reported(
        self, link: Link, user: names.HubUser, action: names.ReportedPatch, payload: bytes
    ) -> None:
        try:
            self._check_trouble()
            patch = jsonobject.load(payload)
            version = self._door.upstream.patch_reported(user.device_id, patch)
        except ServiceError as error:
            self._reply(link, error.status, action.rid, body=jsonobject.dump(error.body()))
        except (ValueError, Refusal) as problem:
            reason = problem.reason if isinstance(problem, Refusal) else "not a JSON object"
            link.event("reported-refused", device_id=user.device_id, reason=reason)
            body = jsonobject.dump(ServiceError(inferred(400), reason).body())
            self._reply(link, 400, action.rid, body=body)
        else:
            self._reply(link, 204, action.rid, version=version)

    def _check_trouble(self) -> None:
        if self._faults.twin:
            trouble = self._faults.twin.popleft()
            raise ServiceError(trouble.code, "told to answer so")

    def _reply(
        self, link: Link, status: int, rid: str, *, version: int | None = None, body: bytes = b""
    ) -> None:
        lost = self._faults.take("no_reply")
        link.event("twin-answer", at=self.name, status=status, rid=rid, replied=not lost)
        topic = names.twin_answer_topic(status, rid, version)
        granted = link.session.granted(topic)
        if not lost and granted is not None:
            link.publish(topic, body, min(granted, 1))


def _covers(token: sas.Token, resource: str) -> bool:
    given = token.resource.casefold()
    return resource.casefold() == given or resource.casefold().startswith(given + "/")
