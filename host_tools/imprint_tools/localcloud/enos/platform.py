"""The rules of EnOS's IoT hub behind a CoAP port: who may log in and say what. Sans I/O.

A DTLS handshake is a login; every message after it keeps the device online for another Lifetime.
The console, the port and the thread are in `enos`.

    GET   /topic/ext/session/{PK}/{DK}/thing/activate/info     the device's secret, in mode 3
    POST  /topic/sys/{PK}/{DK}/thing/measurepoint/post         and what else `reports` has
    GET   /topic/sys/{PK}/{DK}/{command's topic}               a command, named by option 2100
    POST  /topic/sys/{PK}/{DK}/{command's topic}_reply         what became of it
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from imprint_tools.localcloud import coap_server as coap
from imprint_tools.localcloud import dtls
from imprint_tools.localcloud.coap_server import CoapServer, Request, Response
from imprint_tools.localcloud.enos import messages
from imprint_tools.localcloud.enos import reports as enos_reports
from imprint_tools.localcloud.enos.auth import DYNAMIC, STATIC, PskIdentity, parse_identity, psk
from imprint_tools.localcloud.enos.config import EnosConfig
from imprint_tools.localcloud.enos.faults import EnosFaults
from imprint_tools.localcloud.enos.records import Command, Device
from imprint_tools.localcloud.enos.registry import EnosRegistry
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

COMMAND_TOPIC, COMMAND_PAYLOAD = 2100, 2102
"""EnOS's elective options. 2101, a signature, belongs to its way without DTLS."""

_SESSION = ("topic", "ext", "session")
_SYSTEM = ("topic", "sys")
_ACTIVATION = ("thing", "activate", "info")
_REPLY = "_reply"
_LOGGED_MAX = 200
_FLUSH_S = 1.0

_REFUSALS = {
    "payload-malformed": coap.BAD_REQUEST,
    "session-expired": coap.UNAUTHORIZED,
    "other-device": coap.FORBIDDEN,
    "wrong-mode": coap.FORBIDDEN,
    "activation-off": coap.FORBIDDEN,
    "already-activated": coap.FORBIDDEN,
    "device-disabled": coap.FORBIDDEN,
    "device-unknown": coap.FORBIDDEN,
    "product-unknown": coap.FORBIDDEN,
    "path-unknown": coap.NOT_FOUND,
    "method-wrong": coap.METHOD_NOT_ALLOWED,
}
"""Reason: response code, by the vendor's table; which of them a reason has is inferred."""


@dataclass
class _Member:
    """A session that has logged in. `online`: its device counts as such; `expired`: nothing came
    for its lifetime."""

    session: dtls.Session
    who: PskIdentity
    device: Device
    server: CoapServer
    online: bool = True
    expired: bool = False

    @property
    def name(self) -> tuple[str, str]:
        return self.who.product_key, self.who.device_key


class EnosPlatform:
    """The hub. Whoever owns the port moves datagrams and calls `handle_timer`."""

    def __init__(
        self, registry: EnosRegistry, config: EnosConfig, log: EventLog, faults: EnosFaults
    ) -> None:
        self._registry = registry
        self._config = config
        self._log = log
        self._faults = faults
        self._dtls = dtls.DtlsServer(self._key, config.suites, config.dtls)
        self._members: dict[int, _Member] = {}
        self._current: dict[tuple[str, str], _Member] = {}
        self._flushed = 0.0

    # -- datagrams and time --------------------------------------------------------------------

    def receive(self, datagram: bytes, address: dtls.Address, now: float) -> None:
        """Take a datagram from the port."""
        if self._faults.take("deaf") or self._faults.reaches_one("drop_up_after"):
            self._log.add("fault", fault="datagram lost on its way up", bytes=len(datagram))
            return
        no_suite = self._faults.no_suite > 0
        self._dtls.suites = (dtls.PSK_GCM_SHA384,) if no_suite else self._config.suites
        self._dtls.receive(datagram, address, now)
        self._work(now)

    def to_send(self) -> tuple[bytes, dtls.Address] | None:
        """The next datagram to send and where to; None when there is none."""
        while (outgoing := self._dtls.to_send()) is not None:
            if not self._faults.reaches_one("drop_down_after"):
                return outgoing
            self._log.add("fault", fault="datagram lost on its way down", bytes=len(outgoing[0]))
        return None

    def handle_timer(self, now: float) -> None:
        """To be called a few times a second: repeats flights, ends lifetimes."""
        self._dtls.handle_timer(now)
        for member in list(self._members.values()):
            silence = now - member.session.heard
            if silence > member.who.lifetime_s and not member.expired:
                member.expired = True
                self._offline(member, "lifetime")
            if silence > member.who.lifetime_s + self._config.session_kept_s:
                self._dtls.close(member.session, "forgotten", tell=False)
        self._work(now)
        if not self._flushed <= now < self._flushed + _FLUSH_S:
            self._flushed = now
            self._registry.flush()

    def close(self) -> None:
        """End every session with a close_notify; what is to be sent is then to be had."""
        for session in self._dtls.sessions():
            self._dtls.close(session, "the cloud goes down")
        self._work(0.0)

    def _work(self, now: float) -> None:
        while (event := self._dtls.next_event()) is not None:
            match event:
                case dtls.Connected(session):
                    self._login(session)
                case dtls.Received(session, data):
                    self._received(session, data, now)
                case dtls.Ended(session, reason):
                    self._ended(session, reason)
                case dtls.Refused(address, identity, reason):
                    self._refused(address, identity, reason)

    # -- the console's side --------------------------------------------------------------------

    def online(self, product_key: str, device_key: str) -> bool:
        member = self._current.get((product_key, device_key))
        return member is not None and member.online

    def sessions(self) -> list[dict[str, Any]]:
        """Every session that there is, with its counts."""
        return [self._shown(member) for member in self._members.values()]

    def _shown(self, member: _Member) -> dict[str, Any]:
        session = member.session
        return {
            "session": session.number,
            "address": list(session.address),
            **_names(member.who),
            "secure_mode": member.who.secure_mode,
            "lifetime_s": member.who.lifetime_s,
            "suite": session.suite,
            "online": member.online,
            "handshake": asdict(session.handshake),
            "application": asdict(session.application),
            "repeated": member.server.repeated,
            "malformed": member.server.malformed,
        }

    # -- sessions ------------------------------------------------------------------------------

    def _key(self, text: str) -> Secret:
        """The PSK of an identity. Raises Refusal; a peer is told no more than that it failed."""
        who = parse_identity(text)
        device = self._registry.device(who.product_key, who.device_key)
        if not device.enabled:
            raise Refusal("device-disabled")
        if who.secure_mode == STATIC:
            return psk(device.secret)
        if self._config.inferred.activation_refused_at == "handshake":
            self._registry.may_activate(who.product_key, who.device_key)
        return psk(self._registry.product(who.product_key).secret)

    def _login(self, session: dtls.Session) -> None:
        who = parse_identity(session.identity)
        device = self._registry.device(who.product_key, who.device_key)

        def handle(request: Request) -> Response:
            return self._respond(member, request)

        server = CoapServer(handle, self._faults, self._config.coap)
        member = _Member(session, who, device, server)
        self._members[session.number] = member
        device.last_seen = time.time()
        if who.secure_mode == STATIC:
            device.activated = True
            for command in device.commands:
                command.fetched = False  # it was not replied to, so it may never have arrived
            self._registry.changed()
        else:
            member.online = self._may_activate(who)
        before = self._current.get(member.name)
        self._current[member.name] = member
        if before is not None:
            before.online = before.online and not member.online  # the device stays online
            self._dtls.close(before.session, "another session of the device", tell=False)
        self._log.add(
            "login",
            session.number,
            **_names(who),
            secure_mode=who.secure_mode,
            lifetime_s=who.lifetime_s,
            suite=session.suite,
            handshake=asdict(session.handshake),
        )
        if member.online:
            self._log.add("online", session.number, **_names(who))

    def _may_activate(self, who: PskIdentity) -> bool:
        try:
            self._registry.may_activate(who.product_key, who.device_key)
        except Refusal:
            return False
        return True

    def _received(self, session: dtls.Session, data: bytes, now: float) -> None:
        member = self._members.get(session.number)
        if member is None:
            return  # it ended while this message of its waited
        if member.expired and self._config.inferred.after_lifetime == "silence":
            return
        for answer in member.server.receive(data, now):
            self._dtls.send(session, answer)

    def _ended(self, session: dtls.Session, reason: str) -> None:
        member = self._members.pop(session.number, None)
        if member is None:
            return
        if self._current.get(member.name) is member:
            del self._current[member.name]
        self._offline(member, reason)
        self._log.add(
            "session-end",
            session.number,
            **_names(member.who),
            reason=reason,
            handshake=asdict(session.handshake),
            application=asdict(session.application),
        )

    def _offline(self, member: _Member, reason: str) -> None:
        if member.online:
            member.online = False
            self._registry.changed()
            self._log.add("offline", member.session.number, **_names(member.who), reason=reason)

    def _refused(self, address: dtls.Address, identity: str | None, reason: str) -> None:
        if reason == "no-common-suite":
            self._faults.take("no_suite")
        shown = None if identity is None else identity[:_LOGGED_MAX]
        self._log.add("handshake-refused", address=list(address), identity=shown, reason=reason)

    # -- requests ------------------------------------------------------------------------------

    def _respond(self, member: _Member, request: Request) -> Response:
        member.device.last_seen = time.time()
        self._registry.changed()
        try:
            if member.expired:
                raise Refusal("session-expired")
            if not self._registry.device(*member.name).enabled:
                raise Refusal("device-disabled")
            response = self._route(member, request)
        except Refusal as refusal:
            code = _REFUSALS[refusal.reason]
            path = "/".join(request.path)[:_LOGGED_MAX]
            self._event(member, "refused", path=path, code=_dotted(code), reason=refusal.reason)
            return Response(code)
        if response.payload and self._config.inferred.content_format is not None:
            number = self._config.inferred.content_format
            option = (coap.CONTENT_FORMAT, number.to_bytes((number.bit_length() + 7) // 8, "big"))
            response = Response(response.code, response.payload, (option,))
        return self._with_command(member, response)

    def _route(self, member: _Member, request: Request) -> Response:
        path = request.path
        if path[:3] == _SESSION and path[5:] == _ACTIVATION:
            _check_own(member, path[3:5])
            _check_method(request, coap.GET)
            return self._activate(member)
        if path[:2] != _SYSTEM or len(path) < 5:
            raise Refusal("path-unknown")
        _check_own(member, path[2:4])
        if member.who.secure_mode != STATIC:
            raise Refusal("wrong-mode")
        topic = "/".join(path[4:])
        if topic.endswith(_REPLY):
            _check_method(request, coap.POST)
            return self._take_reply(member, topic.removesuffix(_REPLY), request.payload)
        if any(command.topic == topic for command in member.device.commands):
            _check_method(request, coap.GET)
            return self._fetch(member, topic)
        use = enos_reports.use(topic)
        if use is None:
            raise Refusal("path-unknown")
        _check_method(request, coap.POST)
        return self._report(member, topic, request.payload, use)

    def _activate(self, member: _Member) -> Response:
        who, device = member.who, member.device
        if who.secure_mode != DYNAMIC:
            raise Refusal("wrong-mode")
        self._registry.may_activate(*member.name)
        device.activations += 1
        if self._config.inferred.activated_by == "answer":
            device.activated = True
        self._registry.changed()
        self._event(member, "activated", issued=device.secret.fingerprint)
        other = self._faults.take("other_device")
        params = {
            "assetId": device.asset_id,
            "productKey": who.product_key,
            "deviceKey": who.device_key + "0" if other else who.device_key,
            "deviceSecret": device.secret.reveal().decode(),
        }
        payload = messages.request(str(device.activations), "/".join(_ACTIVATION), params)
        return Response(self._config.inferred.activation_code, payload)

    def _report(
        self, member: _Member, topic: str, payload: bytes, use: enos_reports.Use
    ) -> Response:
        try:
            envelope = messages.parse_request(payload)
        except ValueError:
            raise Refusal("payload-malformed") from None
        code, data = messages.OK, None
        try:
            data = use(member.device, envelope.params, int(time.time() * 1000))
        except messages.FormatError:
            code = messages.FORMAT_ERROR
        self._event(member, "report", topic=topic, id=envelope.id, code=code, bytes=len(payload))
        other = self._faults.take("other_device")
        message_id = envelope.id + "0" if other else envelope.id
        return Response(coap.CHANGED, messages.reply(message_id, code, data))

    # -- commands ------------------------------------------------------------------------------

    def _with_command(self, member: _Member, response: Response) -> Response:
        """The response with the name of the command that waits, if one does."""
        if member.who.secure_mode != STATIC:
            return response
        command = next((c for c in member.device.commands if not c.fetched), None)
        if command is None:
            return response
        path = "/".join(("", *_SYSTEM, *member.name, command.topic))
        options = [*response.options, (COMMAND_TOPIC, path.encode())]
        if self._config.command_in_option:
            options.append((COMMAND_PAYLOAD, self._hand_out(member, command)))
        return Response(response.code, response.payload, tuple(options))

    def _fetch(self, member: _Member, topic: str) -> Response:
        """The oldest command of that topic that was not fetched, or the last that was."""
        of_topic = [c for c in member.device.commands if c.topic == topic]
        command = next((c for c in of_topic if not c.fetched), of_topic[-1])
        payload = self._hand_out(member, command)
        return Response(self._config.inferred.fetch_code, payload)

    def _hand_out(self, member: _Member, command: Command) -> bytes:
        command.fetched = True
        self._registry.changed()
        self._event(member, "command-fetched", id=command.id, topic=command.topic)
        return messages.request(command.id, command.topic, command.params)

    def _take_reply(self, member: _Member, topic: str, payload: bytes) -> Response:
        try:
            message_id, code, data = messages.parse_reply(payload)
        except ValueError:
            raise Refusal("payload-malformed") from None
        commands = member.device.commands
        known = next((c for c in commands if (c.id, c.topic) == (message_id, topic)), None)
        if known is not None:
            commands.remove(known)
            self._registry.changed()
        self._event(
            member,
            "command-reply",
            id=message_id,
            topic=topic,
            code=code,
            data=data,
            known=known is not None,
        )
        return Response(coap.CHANGED)

    def _event(self, member: _Member, kind: str, **details: Any) -> None:
        self._log.add(kind, member.session.number, **_names(member.who), **details)


def _names(who: PskIdentity) -> dict[str, str]:
    return {"product_key": who.product_key, "device_key": who.device_key}


def _check_own(member: _Member, names: tuple[str, ...]) -> None:
    if names != member.name:
        raise Refusal("other-device")


def _check_method(request: Request, method: int) -> None:
    if request.method != method:
        raise Refusal("method-wrong")


def _dotted(code: int) -> str:
    return f"{code >> 5}.{code & 31:02d}"
