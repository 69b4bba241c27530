"""The rules of EnOS's IoT hub behind its MQTT endpoint: who may log in and say what.

Runs in the endpoint's loop. What a gateway may do for others is in `gateway`; the console,
the ports and the thread are in `enos`.

    /ext/session/{PK}/{DK}/thing/activate/info      pushed in mode 3: the device's secret
    /ext/session/{PK}/{DK}/combine/...              sub-devices' sessions, both ways
    /sys/{PK}/{DK}/thing/...                        reports, registration, topology; commands down
    /sys/{subPK}/{subDK}/thing/...                  the same for a sub-device, by its gateway

Every request is answered at its topic and `_reply`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imprint_tools.localcloud import packets
from imprint_tools.localcloud.broker import ACCEPTED, Broker, Verdict
from imprint_tools.localcloud.enos import gateway as enos_gateway
from imprint_tools.localcloud.enos import login as enos_login
from imprint_tools.localcloud.enos import messages, topics
from imprint_tools.localcloud.enos import reports as enos_reports
from imprint_tools.localcloud.enos.certificates import CertificateService
from imprint_tools.localcloud.enos.codes import MEANINGS
from imprint_tools.localcloud.enos.config import EnosConfig
from imprint_tools.localcloud.enos.devicelog import DeviceLog
from imprint_tools.localcloud.enos.faults import EnosFaults
from imprint_tools.localcloud.enos.gateway import Answer, Gateways
from imprint_tools.localcloud.enos.limits import ConnectCounter
from imprint_tools.localcloud.enos.records import Name
from imprint_tools.localcloud.enos.registry import EnosRegistry
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.link import Limits, Link
from imprint_tools.localcloud.refusal import Refusal

ACTIVATION = "thing/activate/info"

_BATCHES = {
    "thing/measurepoint/post/batch": False,
    "thing/measurepoint/resume/batch": True,
}
"""Topic: are its points late ones?"""
_ENVELOPE_MAX = 4 * 1024
"""Bytes of topic and header beside a message of the greatest size."""


@dataclass
class _Member(enos_gateway.Session):
    """A connection that has logged in. `activating`: in mode 3, to be told its secret."""

    activating: bool = False


class EnosMqtt:
    """The `Cloud` that a Broker asks."""

    def __init__(
        self,
        registry: EnosRegistry,
        certificates: CertificateService,
        config: EnosConfig,
        log: EventLog,
        faults: EnosFaults,
        clock: Callable[[], float],
    ) -> None:
        limits = Limits(packet_max=config.limits.message_max + _ENVELOPE_MAX)
        self.broker = Broker(self, log, faults, limits)
        self.device_log = DeviceLog()
        self._registry = registry
        self._certificates = certificates
        self._config = config
        self._faults = faults
        self._clock = clock
        self._counter = ConnectCounter(config.limits.connects)
        self._gateways = Gateways(registry, config, faults, self.code)
        self._members: dict[int, _Member] = {}
        self._current: dict[Name, _Member] = {}

    def code(self, reason: str) -> int:
        """A reason's number."""
        return self._config.inferred.codes.get(reason, MEANINGS[reason].code)

    # -- the console's side --------------------------------------------------------------------

    def online(self, name: Name) -> bool:
        return self._link_of(name) is not None

    def push_commands(self, name: Name) -> bool:
        """Send a device the commands that wait for it; False where it is not here."""
        link = self._link_of(name)
        if link is None:
            return False
        for command in self._registry.device(*name).commands:
            if not command.fetched:
                command.fetched = True
                payload = messages.request(command.id, command.topic, command.params)
                self._push(link, topics.system(name, command.topic), payload)
        self._registry.changed()
        return True

    def tell_state(self, name: Name, change: str) -> None:
        """Tell a device, or the gateway of a sub-device, of "enable", "disable" or "delete"; who
        is disabled or deleted is offline then."""
        gateway = self._registry.device(*name).gateway
        message_id = self._registry.next_id()
        if gateway is not None:
            member = self._current.get(gateway)
            if (link := self._link(gateway)) is not None and member is not None:
                topic = f"combine/{change}"
                params = [{"productKey": name[0], "deviceKey": name[1]}]
                payload = messages.request(message_id, topic, params)
                self._push(link, topics.session(gateway, topic), payload)
                if change != "enable":
                    self._gateways.leave(member, name, change)
        elif (link := self._link(name)) is not None:
            topic = f"thing/{change}"
            payload = messages.request(message_id, topic, {})
            self._push(link, topics.system(name, topic), payload)
            if change != "enable":
                link.close(f"device {change}d")

    def leave(self, name: Name, reason: str) -> None:
        """A sub-device goes offline, if it was online."""
        gateway = self._registry.device(*name).gateway
        member = self._current.get(gateway) if gateway is not None else None
        if member is not None:
            self._gateways.leave(member, name, reason)

    def drop(self, name: Name) -> bool:
        """Lose a device's connection, as a network does; False where there is none."""
        link = self._link(name)
        if link is not None:
            link.abort("dropped by the console")
        return link is not None

    def drop_all(self) -> None:
        """Lose every connection and what was kept for it, as a broker that starts anew."""
        for name in list(self._current):
            self.drop(name)
            self.broker.forget(_session(name))

    def _link(self, name: Name) -> Link | None:
        return self.broker.link(_session(name))

    def _link_of(self, name: Name) -> Link | None:
        """The connection by which a device is online: its own, or its gateway's."""
        own = self._current.get(name)
        if own is not None:
            return None if own.activating else self._link(name)
        try:
            gateway = self._registry.device(*name).gateway
        except Refusal:
            return None
        member = self._current.get(gateway) if gateway is not None else None
        if member is None or name not in member.online:
            return None
        return self._link(member.name)

    def _push(self, link: Link, topic: str, payload: bytes) -> None:
        """Send what the hub sends unasked, whether the client has subscribed to it or not."""
        link.publish(topic, payload, self._config.inferred.command_qos)

    # -- broker.Cloud --------------------------------------------------------------------------

    def authenticate(self, link: Link, connect: packets.Connect) -> Verdict:
        link.event(
            "connect",
            client_id=connect.client_id,
            username=connect.username,
            password=connect.password.fingerprint,
            keepalive_s=connect.keepalive_s,
            clean_session=connect.clean_session,
        )
        name: Name | None = None
        try:
            login = enos_login.parse(connect.client_id, connect.username)
            name = (login.product_key, login.device_key)
            member = self._admit(link, connect, login)
        except Refusal as refusal:
            meaning = MEANINGS[refusal.reason]
            connack = self._config.inferred.connack.get(refusal.reason, meaning.connack)
            code = self.code(refusal.reason)
            link.event("refused", code=code, connack=connack, reason=refusal.reason)
            if name is not None:
                self.device_log.add(name, "login", code, meaning.text)
            return Verdict(connack)
        self._members[link.number] = member
        older = self._current.get(name)
        self._current[name] = member
        if older is not None:
            for subdevice in list(older.online):
                self._gateways.leave(older, subdevice, "another session of the gateway")
        return Verdict(ACCEPTED, _session(name))

    def on_connected(self, link: Link) -> None:
        member = self._members[link.number]
        if not member.activating:
            link.event("online", **_keys(member.name))
            self._push_anew(member.name)
            return
        if self._faults.take("drop_before_push"):
            link.abort("fault drop_before_push")
            return
        topic = topics.session(member.name, ACTIVATION)
        payload = self._activation(link, member)
        if self._faults.take("garbage_push"):
            payload = payload[: len(payload) // 2]
        if self._faults.take("cut_push"):
            data = packets.publish(topic, payload)
            link.send(data[: len(data) // 2])
            link.close("fault cut_push")
            return
        self._push(link, topic, payload)
        if self._faults.take("drop_after_push"):
            link.abort("fault drop_after_push")

    def on_publish(self, link: Link, message: packets.Publish) -> None:
        member = self._members[link.number]
        topic = topics.parse(message.topic)
        refused = self._refuse_publish(member, topic, message)
        details = {"topic": message.topic, "qos": message.qos, "bytes": len(message.payload)}
        if topic is None or refused is not None:
            # MQTT 3.1.1 knows no refusal of a message, and none is documented.
            link.event("publish-refused", reason=refused or "topic-unknown", **details)
            return
        member.device.last_seen = time.time()
        self._registry.changed()
        link.event("publish", **details)
        if topic.tail.endswith(topics.REPLY):
            self._take_reply(link, topic, message.payload)
        else:
            self._answer(link, member, topic, message)

    def on_subscribe(self, link: Link, topic_filter: str, qos: int) -> int:
        member = self._members[link.number]
        topic = topics.parse(topic_filter)
        if topic is None or not self._speaks_for(member, topic.name):
            return packets.SUBSCRIPTION_REFUSED
        return min(qos, 1)

    def on_closed(self, link: Link) -> None:
        member = self._members.pop(link.number, None)
        if member is None:
            return
        for subdevice in list(member.online):
            self._gateways.leave(member, subdevice, "its gateway is offline")
        if self._current.get(member.name) is member:
            del self._current[member.name]
            member.device.last_seen = time.time()
            self._registry.changed()
            if not member.activating:
                link.event("offline", **_keys(member.name), reason=link.closing)

    # -- who may come in ------------------------------------------------------------------------

    def _admit(self, link: Link, connect: packets.Connect, login: enos_login.Login) -> _Member:
        name = (login.product_key, login.device_key)
        device = self._registry.device(*name)
        if not self._counter.allow(name, self._clock()):
            raise Refusal("too-frequent")
        product = self._registry.product(login.product_key)
        activating = login.secure_mode == enos_login.DYNAMIC
        secret = product.secret if activating else device.secret
        if not login.signed_by(secret, connect.password):
            raise Refusal("signature-wrong")
        self._check_time(login.timestamp)
        least, most = self._config.limits.keepalive_s
        if not least <= connect.keepalive_s <= most:
            raise Refusal("keepalive-outside")
        if device.mirror:
            raise Refusal("device-mirror")
        if not device.enabled:
            raise Refusal("device-disabled")
        if device.gateway is not None:
            raise Refusal("subdevice-direct")
        self._certificates.check(name, product, link.chain)
        if link.secure and not link.chain and not self._config.inferred.tls_without_certificate:
            raise Refusal("certificate-missing")
        if activating:
            self._registry.may_activate(*name)
        else:
            device.activated = True
        device.last_seen = time.time()
        self._registry.changed()
        link.event("login", **_keys(name), secure_mode=int(login.secure_mode), tls=link.secure)

        def tell(kind: str, **details: Any) -> None:
            link.event(kind, **details)
            if kind == "subdevice-refused":
                who = (details["product_key"], details["device_key"])
                text = MEANINGS[details["reason"]].text
                self.device_log.add(who, "sub-device login", details["code"], text)

        return _Member(name, device, tell, activating=activating)

    def _check_time(self, timestamp: str) -> None:
        window_s = self._config.inferred.timestamp_window_s
        if window_s is None:
            return
        try:
            told_s = float(timestamp) / 1000
        except ValueError:
            raise Refusal("timestamp-outside") from None
        if not abs(told_s - time.time()) <= window_s:
            raise Refusal("timestamp-outside")

    def _activation(self, link: Link, member: _Member) -> bytes:
        device = member.device
        device.activations += 1
        if self._config.inferred.activated_by == "answer":
            device.activated = True
        self._registry.changed()
        link.event("activated", **_keys(member.name), issued=device.secret.fingerprint)
        other = "0" if self._faults.take("other_device") else ""
        params = {
            "assetId": device.asset_id,
            "productKey": member.name[0],
            "deviceKey": member.name[1] + other,
            "deviceSecret": device.secret.reveal().decode(),
        }
        return messages.request(self._registry.next_id(), ACTIVATION, params)

    # -- what a device says ---------------------------------------------------------------------

    def _speaks_for(self, member: _Member, name: Name) -> bool:
        """Is that the client itself or one in its topology?"""
        if name == member.name:
            return True
        try:
            return self._registry.device(*name).gateway == member.name
        except Refusal:
            return False

    def _refuse_publish(
        self, member: _Member, topic: topics.Topic | None, message: packets.Publish
    ) -> str | None:
        if len(message.payload) > self._config.limits.message_max:
            return "message-too-big"
        if topic is None:
            return "topic-unknown"
        if member.activating and (topic.session, topic.tail) != (True, ACTIVATION + topics.REPLY):
            return "activation-connection"
        if topic.session and topic.name != member.name:
            return "other-device"
        return None

    def _answer(
        self, link: Link, member: _Member, topic: topics.Topic, message: packets.Publish
    ) -> None:
        """Do what a request asks for, and reply."""
        message_id = ""
        details: dict[str, Any] = {}
        before = set(member.online)
        try:
            try:
                envelope = messages.parse_request(message.payload)
            except ValueError:
                raise Refusal("payload-unreadable") from None
            message_id = envelope.id
            answer = self._do(member, topic, envelope, details)
        except messages.FormatError:
            answer = self._refusal("format")
        except Refusal as refusal:
            answer = self._refusal(refusal.reason)
            details["reason"] = refusal.reason
        if answer is None:
            link.event("publish-refused", reason="topic-unknown", topic=message.topic)
            return
        if self._faults.take("no_reply"):
            link.event("fault", name="no_reply", topic=message.topic)
            details["replied"] = False
        else:
            self._reply(link, message.topic, message_id, answer)
        link.event(
            "report" if topic.tail.startswith("thing/") else "session-request",
            **_keys(topic.name),
            topic=topic.tail,
            id=message_id,
            code=answer.code,
            bytes=len(message.payload),
            **details,
        )
        for name in sorted(member.online.keys() - before):
            self._push_anew(name)

    def _push_anew(self, name: Name) -> None:
        """Send one that has come online what waits for it."""
        for command in self._registry.device(*name).commands:
            command.fetched = False  # it was not replied to, so it may never have arrived
        self.push_commands(name)

    def _do(
        self,
        member: _Member,
        topic: topics.Topic,
        envelope: messages.Envelope,
        details: dict[str, Any],
    ) -> Answer | None:
        """The reply to a request; None where nothing is known of its topic."""
        now_ms = int(time.time() * 1000)
        table: Mapping[str, enos_gateway.Operation] = (
            self._gateways.session if topic.session else self._gateways.system
        )
        if topic.name == member.name and topic.tail in table:
            return table[topic.tail](member, envelope.params)
        if topic.session:
            return None
        if topic.name == member.name and topic.tail in _BATCHES:
            late = _BATCHES[topic.tail]
            count = self._gateways.post_batch(member, envelope, now_ms, late=late)
            details.update(points=count, entries=len(envelope.params))
            return Answer()
        use = enos_reports.use(topic.tail)
        if use is None:
            return None
        device = self._gateways.speaker(member, topic.name)
        data = use(device, envelope.params, now_ms)
        device.last_seen = time.time()
        return Answer(data)

    def _refusal(self, reason: str) -> Answer:
        return Answer(None, self.code(reason), MEANINGS[reason].text)

    def _reply(self, link: Link, topic: str, message_id: str, answer: Answer) -> None:
        if self._faults.take("other_id"):
            message_id += "0"
        payload = messages.reply(message_id, answer.code, answer.data, answer.message)
        if self._faults.take("half_reply"):
            payload = payload[: len(payload) // 2]
        topic += topics.REPLY
        if link.session.wants(topic) or not self._config.inferred.replies_to_subscribers:
            link.publish(topic, payload, self._config.inferred.reply_qos)
        else:
            link.event("reply-dropped", topic=topic)

    def _take_reply(self, link: Link, topic: topics.Topic, payload: bytes) -> None:
        """A device's reply, to a command or to what was pushed about a session."""
        tail = topic.tail.removesuffix(topics.REPLY)
        keys = _keys(topic.name)
        try:
            message_id, code, data = messages.parse_reply(payload)
        except ValueError as error:
            link.event("command-reply", **keys, id=None, topic=tail, code=None, detail=str(error))
            return
        known = False
        if not topic.session and self._speaks_for(self._members[link.number], topic.name):
            commands = self._registry.device(*topic.name).commands
            for command in list(commands):
                if (command.id, command.topic) == (message_id, tail):
                    commands.remove(command)
                    known = True
            self._registry.changed()
        link.event(
            "command-reply", **keys, id=message_id, topic=tail, code=code, data=data, known=known
        )


def _session(name: Name) -> str:
    return f"{name[0]}/{name[1]}"


def _keys(name: Name) -> dict[str, str]:
    return {"product_key": name[0], "device_key": name[1]}
