"""The rules of Alibaba Cloud's IoT Platform behind an MQTT endpoint: who may enter and say what.

Runs in the endpoint's loop. The console and the threads are in `aliyun`.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imprint_tools.localcloud import jsonobject, packets
from imprint_tools.localcloud.aliyun import alink, auth, topics
from imprint_tools.localcloud.aliyun.config import REFUSALS, AliyunConfig
from imprint_tools.localcloud.aliyun.registry import Device, Registry
from imprint_tools.localcloud.broker import ACCEPTED, Broker, Verdict
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.faults import Faults
from imprint_tools.localcloud.link import Link
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

_KEEPALIVE_S = (30, 1200)
_SUBSCRIPTIONS_MAX = 100
_PAYLOAD_MAX = 256 * 1024


@dataclass(frozen=True)
class _Registering:
    """A connection that registers: what is pushed to it, (topic, payload)."""

    push: tuple[str, bytes]


@dataclass(frozen=True)
class _LoggedIn:
    """A device's connection. `recent`: times of its last uplinks, of QoS 0 and of QoS 1."""

    product_key: str
    device: Device
    auto: tuple[str, ...]
    recent: tuple[deque[float], deque[float]] = field(default_factory=lambda: (deque(), deque()))

    @property
    def session(self) -> str:
        return f"{self.product_key}/{self.device.name}"


_Member = _Registering | _LoggedIn


class Platform:
    """The `Cloud` that a Broker asks."""

    def __init__(
        self, registry: Registry, config: AliyunConfig, log: EventLog, faults: Faults
    ) -> None:
        self.broker = Broker(self, log, faults, config.limits)
        self._registry = registry
        self._config = config
        self._faults = faults
        self._refusals = {**REFUSALS, **config.refusals}
        self._members: dict[int, _Member] = {}
        self._message_id = 0

    def online(self, product_key: str, device_name: str) -> bool:
        return self.broker.link(f"{product_key}/{device_name}") is not None

    def set_properties(
        self, product_key: str, device_name: str, params: Mapping[str, Any], qos: int
    ) -> tuple[str, str]:
        """Send thing.service.property.set: (message id, what became of it)."""
        self._message_id += 1
        message_id = str(self._message_id)
        payload = alink.request(message_id, "thing.service.property.set", params)
        topic = topics.system(product_key, device_name) + "thing/service/property/set"
        return message_id, self.deliver(product_key, device_name, topic, payload, qos)

    def deliver(
        self, product_key: str, device_name: str, topic: str, payload: bytes, qos: int
    ) -> str:
        """Send to a device if it subscribed: "sent", "queued", "dropped". Refuses unknown ones."""
        self._registry.device(product_key, device_name)
        return self.broker.deliver(f"{product_key}/{device_name}", topic, payload, qos)

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
        try:
            member = self._admit(link, connect)
        except Refusal as refusal:
            code = self._refusals[refusal.reason]
            link.event("refused", code=code, reason=refusal.reason)
            return Verdict(code)
        self._members[link.number] = member
        if isinstance(member, _Registering):
            return Verdict(ACCEPTED)
        return Verdict(ACCEPTED, member.session, member.auto)

    def on_connected(self, link: Link) -> None:
        member = self._members[link.number]
        if isinstance(member, _LoggedIn):
            return
        link.close_after(self._config.registration_close_s, "registration is over")
        if self._faults.take("drop_before_push"):
            link.abort("fault drop_before_push")
            return
        topic, payload = member.push
        if self._faults.take("garbage_push"):
            payload = payload[: len(payload) // 2]
        if self._faults.take("cut_push"):
            data = packets.publish(topic, payload)
            link.send(data[: len(data) // 2])
            link.close("fault cut_push")
            return
        link.publish(topic, payload, self._config.push_qos)
        if self._faults.take("drop_after_push"):
            link.abort("fault drop_after_push")

    def on_publish(self, link: Link, message: packets.Publish) -> None:
        member = self._members[link.number]
        details = {"topic": message.topic, "qos": message.qos, "bytes": len(message.payload)}
        if isinstance(member, _Registering):
            link.event("publish-refused", reason="registration-connection", **details)
            return
        if (refused := self._refuse_publish(member, message)) is not None:
            # Not documented for MQTT 3.1.1, which knows no refusal: as silent as throttling.
            link.event("publish-refused", reason=refused, **details)
            return
        if self._throttled(member, message.qos):
            link.event("throttled", **details)
            return
        link.event("publish", **details)
        own = topics.system(member.product_key, member.device.name)
        if message.topic.startswith(own):
            self._take_system(link, member, message.topic.removeprefix(own), message)

    def on_subscribe(self, link: Link, topic_filter: str, qos: int) -> int:
        member = self._members[link.number]
        filters = link.session.filters
        if isinstance(member, _Registering):
            return packets.SUBSCRIPTION_REFUSED
        if len(filters) >= _SUBSCRIPTIONS_MAX and topic_filter not in filters:
            return packets.SUBSCRIPTION_REFUSED
        own = (member.product_key, member.device.name)
        if not topics.may_subscribe(topic_filter, *own, self._config.user_topics):
            return packets.SUBSCRIPTION_REFUSED
        return min(qos, 1)

    def on_closed(self, link: Link) -> None:
        member = self._members.pop(link.number, None)
        if isinstance(member, _LoggedIn):
            member.device.last_seen = time.time()
            self._registry.save()

    # -- who may come in ------------------------------------------------------------------------

    def _admit(self, link: Link, connect: packets.Connect) -> _Member:
        """Decide on a CONNECT. Raises Refusal; a registration has been granted when it returns."""
        client = auth.parse_client_id(connect.client_id)
        device_name, product_key = auth.parse_username(connect.username)
        expected = self._config.instance_id
        if expected is not None and client.pairs.get("instanceId", expected) != expected:
            raise Refusal("instance-wrong")
        if client.auth in auth.REGISTRATIONS:
            if not link.secure:
                raise Refusal("plain-tcp")
            push = self._register(link, client, device_name, product_key, connect.password)
            return _Registering(push)
        if not link.secure and not self._config.plain_tcp:
            raise Refusal("plain-tcp")
        if not _KEEPALIVE_S[0] <= connect.keepalive_s <= _KEEPALIVE_S[1]:
            raise Refusal("keepalive-outside")
        device = self._registry.device(product_key, device_name)
        if client.auth == auth.CONNWL:
            _check_token(device, client, connect.password)
        else:
            if client.pairs.get("securemode") != ("2" if link.secure else "3"):
                raise Refusal("secure-mode-wrong")
            auth.check_login(client, device_name, product_key, device.secret, connect.password)
        if not device.enabled:
            raise Refusal("device-disabled")
        self._registry.logged_in(device)
        device.last_seen = time.time()
        link.event("login", product_key=product_key, device_name=device_name, auth=client.auth)
        # `_ss=1`: the SDKs that send it get their system topics without a SUBSCRIBE.
        own = topics.system(product_key, device_name)
        auto = (own + "#",) if client.pairs.get("_ss") == "1" else ()
        return _LoggedIn(product_key, device, auto)

    def _register(
        self,
        link: Link,
        client: auth.ClientId,
        device_name: str,
        product_key: str,
        password: Secret,
    ) -> tuple[str, bytes]:
        """Grant a registration: (topic, payload) of the push. Keys in the order of the samples."""
        product = self._registry.product(product_key)
        auth.check_registration(client, device_name, product_key, product.secret, password)
        if not auth.valid_device_name(device_name):
            raise Refusal("device-name-invalid")
        names = {"productKey": product_key, "deviceName": device_name}
        issued: Secret
        if client.auth == auth.REGNWL:
            granted = self._registry.register_unlisted(product_key, device_name, time.time())
            issued = granted.token
            document = {"clientId": granted.client_id, **names, "deviceToken": _text(issued)}
        else:
            issued = self._registry.register(product_key, device_name).secret
            document = {"deviceSecret": _text(issued), **names}
        link.event(
            "registered",
            product_key=product_key,
            device_name=device_name,
            auth=client.auth,
            issued=issued.fingerprint,
        )
        return f"/ext/{client.auth}", jsonobject.dump(document)

    # -- what a device says ---------------------------------------------------------------------

    def _refuse_publish(self, member: _LoggedIn, message: packets.Publish) -> str | None:
        if len(message.payload) > _PAYLOAD_MAX:
            return "payload-too-big"
        own = (member.product_key, member.device.name)
        if not topics.may_publish(message.topic, *own, self._config.user_topics):
            return "topic-not-allowed"
        return None

    def _throttled(self, member: _LoggedIn, qos: int) -> bool:
        if self._config.uplinks_per_s is None:
            return False
        recent, now = member.recent[qos], asyncio.get_running_loop().time()
        while recent and recent[0] <= now - 1.0:
            recent.popleft()
        if len(recent) >= self._config.uplinks_per_s[qos]:
            return True
        recent.append(now)
        return False

    def _take_system(
        self, link: Link, member: _LoggedIn, name: str, message: packets.Publish
    ) -> None:
        if name == "thing/service/property/set_reply":
            self._take_set_reply(link, message.payload)
        elif name == "thing/event/property/post":
            self._answer(link, member, message, name, self._store_points)
        elif name in ("thing/deviceinfo/update", "thing/deviceinfo/delete") or (
            name.startswith("thing/event/") and name.endswith("/post")
        ):
            self._answer(link, member, message, name, None)

    def _answer(
        self,
        link: Link,
        member: _LoggedIn,
        message: packets.Publish,
        name: str,
        use: Callable[[Device, alink.Request], list[str]] | None,
    ) -> None:
        """Read a request, use it, and reply with the code that it deserves."""
        code, names, wanted = alink.OK, [], True
        try:
            request = alink.parse_request(message.payload, name.replace("/", "."))
            message_id, wanted = request.message_id, request.wants_reply
            if not member.device.enabled:
                code = alink.DEVICE_DISABLED
            elif use is not None:
                names = use(member.device, request)
        except alink.AlinkError as error:
            code, message_id = error.code, error.message_id
        lost = wanted and self._faults.take("no_reply")
        link.event("report", topic=name, id=message_id, code=code, names=names, replied=not lost)
        if wanted and not lost:
            topic = f"{message.topic}_reply"
            payload = alink.reply(message_id, code)
            self.deliver(
                member.product_key, member.device.name, topic, payload, self._config.reply_qos
            )

    def _store_points(self, device: Device, request: alink.Request) -> list[str]:
        found = alink.points(request, int(time.time() * 1000))
        device.points.update(found)
        device.last_seen = time.time()
        return sorted(found)

    def _take_set_reply(self, link: Link, payload: bytes) -> None:
        try:
            message_id, code = alink.parse_reply(payload)
        except alink.AlinkError as error:
            link.event("set-reply", id=None, code=None, detail=str(error))
            return
        link.event("set-reply", id=message_id, code=code)


def _check_token(device: Device, client: auth.ClientId, password: Secret) -> None:
    """A token login: nothing is signed, and it may come over TLS or plain TCP alike."""
    if client.pairs.get("securemode") != "-2":
        raise Refusal("secure-mode-wrong")
    tokens = {entry.client_id: entry.token for entry in device.clients}
    if client.cid not in tokens:
        raise Refusal("client-id-unknown")
    if not hmac.compare_digest(tokens[client.cid].reveal(), password.reveal()):
        raise Refusal("token-wrong")


def _text(secret: Secret) -> str:
    return secret.reveal().decode()
