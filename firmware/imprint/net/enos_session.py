"""Sessions of the journey of an EnOS edge: the interface is mqtt_session.py's.

One session is one MQTT connection, in which the edge speaks for its sub-devices (enos_fleet.py).
Before it comes what the API is for: the edge's certificate, and sub-devices to be created. The
cloud counts connects: more than four in two minutes, and it is deaf for five.
"""

import binascii

from micropython import const

from imprint import port
from imprint.errors import ImprintError, WeatherError
from imprint.net.mqtt_session import MqttSession

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity

_REPLY_MS = const(15_000)  # from PUBACK to the cloud's own reply
_BODY_MAX = const(2560)  # bytes of one report's entries
_EVENTS_MAX = const(8)  # of the edge's own in one report
_ACTIVATION_MS = const(15_000)
_LOOK_MS = const(3_600_000)  # between two looks at the certificate's dates

# EnOS's limits page: one connect a second, and four in two minutes.
_APART_MS = const(1_100)
_WINDOW_MS = const(125_000)
_CONNECTS = const(4)

# errors.py
_API_DEFERRED = const(443)
_CERTIFICATE_DUE = const(451)
_SUBDEVICE_DEFERRED = const(528)
_GATEWAY_UNANSWERED = const(533)
_DEVICE_DISABLED = const(603)


class Session(MqttSession):
    def __init__(self, identity: "Identity", cloud: "Any", unit: "Any") -> None:
        super().__init__(identity, cloud, unit)
        from imprint.net.enos_fleet import Fleet

        self._account: "Any" = None  # of the API: what outlives a call
        self.api_failed = False
        self._certificate: "dict | None" = None  # the record of the one in use
        self._looked_at = port.ticks_ms()
        self._connects: "list[int]" = []  # ticks of the last four
        self._reply: "tuple | None" = None  # the cloud's reply last read
        self._number = 0  # of our own requests
        self._first = 0  # reports before this one were made before this connection
        self._round_at = port.ticks_ms()
        self._more = False  # of the round is to be reported
        self.fleet = Fleet(self, unit)

    # --- Into the cloud

    def fits(self, record: "dict | None") -> bool:
        return not self.cloud.HUB.needs_activation(self.identity, record)

    def register(self) -> dict:
        self._certify()
        self._connect(None)
        record, topic, reply = self.credential(_ACTIVATION_MS, self.cloud.HUB.activation)
        self.unit.keep(record)  # before the cloud hears that we have it
        self.client.publish(topic, reply, qos=1)
        self.close()
        return record

    def login(self, record: "dict | None") -> None:
        self.fleet.rise()
        self._certify()
        self.fleet.create()
        self._connect(record)
        hub = self.cloud.HUB
        for topic in (hub.topic(self.identity, "thing/#"), hub.session_topic(self.identity, "#")):
            self.unit.feed()
            self.client.subscribe(topic, 1)
        self.describe(self._say)
        self._first = -1

    def rest_ms(self) -> int:
        """Until the oldest of four connects is out of the cloud's window."""
        if len(self._connects) < _CONNECTS:
            return 0
        return max(0, _WINDOW_MS - port.ticks_diff(port.ticks_ms(), self._connects[0]))

    def refused(self, _identity: "Identity", connack_code: int) -> ImprintError:
        """What a CONNACK means; called by `connect`."""
        certified = self.identity.certificate != "none"
        return self.cloud.HUB.refused(connack_code, certified)

    def _connect(self, record: "dict | None") -> None:
        if self._connects:
            gone_ms = port.ticks_diff(port.ticks_ms(), self._connects[-1])
            port.sleep_ms(max(0, _APART_MS - gone_ms))
            wait_ms = self.rest_ms()
            while wait_ms:  # an activation and a login may be one after the other
                self.unit.feed()
                port.sleep_ms(min(wait_ms, 1000))
                wait_ms = self.rest_ms()
        self._connects = self._connects[-_CONNECTS + 1 :] + [port.ticks_ms()]
        request = self.cloud.HUB.login(self.identity, record, port.unix_ms())
        self.connect(request, self)

    # --- The API

    def api(self) -> "_Api":
        """For a `with`: an Api, whose connection ends with it."""
        return _Api(self)

    def can_wait(self, error: ImprintError) -> bool:
        """Whether that passing fault leaves the MQTT connection as it is."""
        failed, self.api_failed = self.api_failed, False
        return failed or error.code in (_API_DEFERRED, _SUBDEVICE_DEFERRED)

    def _certify(self) -> None:
        # Have a certificate of our own, where one is to be applied for, good for a while longer.
        if self.identity.certificate != "apply":
            return
        from imprint.net import enos_certificate, tls

        record = enos_certificate.ensure(self)
        del enos_certificate  # else it would stay
        if record and record != self._certificate:
            store = self.unit.store
            self._certificate = record
            self.unit.free()
            self._tls = tls.context(
                store.get("root_ca") or b"",
                binascii.a2b_base64(record["cert"]),
                store.get("client_key"),
            )

    # --- Reports

    def report(self, number: int, values: dict) -> bytes:
        """Entries, a line each: the edge's own values, then sub-devices', as many as one message
        takes; the next report goes on where this one ended, without a pause."""
        fleet, parts = self.fleet, []
        if fleet.round_done:
            fleet.next_round()
            self._round_at = port.ticks_ms()
            parts.append(self.cloud.entry(None, values, port.unix_ms()))
            for _ in range(_EVENTS_MAX):
                event = self._say("event")
                if not event:
                    break
                parts.append(self.cloud.happening(None, event, port.unix_ms()))
        online = self.client is not None
        if self._first < 0 and online:
            self._first = number
        parts += fleet.entries(_BODY_MAX - sum([len(part) for part in parts]), online)
        self.period_ms = 0
        self._more = not fleet.round_done
        if not self._more:
            gone_ms = port.ticks_diff(port.ticks_ms(), self._round_at)
            self.period_ms = max(0, self.identity.interval_s * 1000 - gone_ms)
        return b"\n".join(parts)

    def send(self, number: int, payload: bytes, again: bool) -> "ImprintError | None":
        """`again` sets DUP: it was sent before, in this session or an earlier one."""
        cloud, late = self.cloud, self._first < 0 or number < self._first
        events, payload = cloud.happened(payload)
        for name, tail, params in events:
            self.unit.feed()
            while name[1] and self.fleet.step():  # it has to be online for that
                self.unit.feed()
            refusal = self._judged(name, *self.ask(tail, params, name=name)[:2])
            if refusal:
                return refusal
        if not payload:
            return None
        tail = cloud.RESUME if late else cloud.POST
        if b"\n" not in payload and cloud.of_whom(payload)[1] is None:
            code, text, _ = self.ask(tail, payload, b"", number, again)
            return cloud.HUB.report_refused(code, text)
        more = cloud.LATE if late else cloud.NOW
        tail += cloud.BATCH
        code, text, _ = self.ask(tail, cloud.params(payload), more, number, again)
        refusal = cloud.HUB.report_refused(code, text)
        if refusal is None or refusal.retry:
            return refusal
        # One of them spoils it for all: ask for each by itself.
        for part in cloud.parts(payload):
            self.unit.feed()
            code, text, _ = self.ask(tail, cloud.params(part), more)
            refusal = self._judged(cloud.of_whom(part), code, text)
            if refusal:
                return refusal
        return None

    def _judged(self, name: tuple, code: int, text: str) -> "ImprintError | None":
        # What was said to something of that name, (None, None) for our own: told, unless it ends
        # or delays the whole report, and is returned for that.
        own, at = name[1] is None, self.fleet.table.find(*name)
        if code == 200 or (not own and at < 0):
            return None
        if not own and code in (401, 723, 740, 705):
            self.fleet.refused(at, code, text)
            return None
        refusal = self.cloud.HUB.report_refused(code, text)
        if refusal.retry or (own and refusal.code == _DEVICE_DISABLED):
            return refusal
        port.emit_error(refusal if own else self.cloud.refusal(code, text, name[1]))
        return None

    def describe(self, say: "Any", name: tuple = (None, None)) -> None:
        """Post the attributes and tags that `say(what)` gives of us, or of that sub-device."""
        hub = self.cloud.HUB
        for what in ("attributes", "tags"):
            found = say(what)
            if found:
                tail, params = getattr(hub, what)(found)
                refusal = self._judged(name, *self.ask(tail, params, name=name)[:2])
                if refusal:  # it can wait for the next login
                    port.emit_error(refusal)

    def _say(self, what: str) -> "Any":
        method = getattr(self.unit.application, what, None)
        return method() if method else None

    def ask(
        self,
        tail: str,
        params: bytes,
        more: bytes = b"",
        number: "int | None" = None,
        again: bool = False,
        name: tuple = (None, None),
    ) -> tuple:
        """Send a request, of our own or for a sub-device, and wait for its reply: (code, message,
        data)."""
        hub = self.cloud.HUB
        if number is None:
            self._number += 1
            number = 1 << 24 | self._number  # above what the application's reports count
        wanted = str(number)
        make = hub.topic if tail.startswith("thing/") else hub.session_topic
        topic = make(self.identity, tail)
        if name[1]:
            topic = hub.topic(self.identity, tail, name)
            self.client.subscribe(topic + b"_reply", 1)
        payload = hub.request(number, tail, params, more)
        self._reply = None
        self.client.publish(topic, payload, qos=1, pid=number % 65535 + 1, again=again)
        deadline = port.ticks_add(port.ticks_ms(), _REPLY_MS)
        while True:
            self.obey()
            # A reply to another request, a late one as a rule, is not ours.
            if self._reply and self._reply[1:3] == (tail, wanted):
                return self._reply[3:]
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                raise WeatherError(_GATEWAY_UNANSWERED, tail)
            self.unit.feed()
            self.client.poll(min(left_ms, 1000))

    # --- While online

    def poll(self, timeout_ms: int) -> None:
        busy = self.fleet.step() or self._more
        self._more = False  # a report that has to wait lets the others of us rest
        super().poll(0 if busy else timeout_ms)
        if port.ticks_diff(port.ticks_ms(), self._looked_at) > _LOOK_MS:
            self._looked_at = port.ticks_ms()
            used = self._certificate
            if used and port.unix_ms() // 1000 >= used["due"]:
                self._certify()
                if self._certificate != used:
                    raise WeatherError(_CERTIFICATE_DUE)

    def obey(self) -> None:
        while self.todo:
            topic, payload = self.todo.pop(0)
            message = self.cloud.HUB.downlink(topic, payload)
            kind = message[0]
            if kind == "reply":
                self._reply = message
            elif kind == "state":
                for name in message[3]:
                    self.fleet.state(message[2], name)
                self._answer(topic, message[1], 200)
            elif kind in ("set", "get", "service"):
                code, data = self._do(message)
                port.emit(kind, id=message[3], key=message[2], code=code)
                self._answer(topic, message[3], code, data)
            elif kind == "malformed":
                self._answer(topic, message[1], 1200)
            elif kind == "other":
                self._answer(topic, message[1], 1101)

    def _do(self, message: tuple) -> tuple:
        # (code, data) of a command to the edge or to a sub-device.
        kind, name, params = message[0], message[1:3], message[4]
        own = name == (self.identity.product_key, self.identity.device_key)
        try:
            if kind == "get":
                values = self.unit.read() if own else self.fleet.values(name)
                if values is None:
                    return 1102, None
                return 200, {point: values[point] for point in params if point in values}
            if not own:
                verb = "set" if kind == "set" else message[5]
                return 200, self.fleet.command(name, verb, params)
            if kind == "service":
                return 200, self.unit.method(message[5], params)
            self.unit.apply(params)
        except KeyError:
            return 1101, None
        except (ValueError, TypeError):
            return 1200, None
        except ImprintError as error:
            port.emit_error(error)
            return 1102, None
        return 200, None

    def _answer(self, topic: bytes, msg_id: str, code: int, data: "dict | None" = None) -> None:
        self.client.publish(topic + b"_reply", self.cloud.HUB.answer(msg_id, code, data), qos=1)


class _Api:
    # The module is loaded for this and goes afterwards; the token stays.
    def __init__(self, session: "Session") -> None:
        self._session = session
        self._api: "Any" = None

    def __enter__(self) -> "Any":
        from imprint.net import enos_api

        session = self._session
        session.api_failed = False
        if session._account is None:
            session._account = enos_api.Account()
        rest = __import__(session.cloud.REST, None, None, ("data",))
        self._api = enos_api.Api(
            session.identity, rest, session._tls, session._account, session.unit.feed
        )
        return self._api

    def __exit__(self, kind: "Any", _error: "Any", _trace: "Any") -> None:
        self._session.api_failed = kind is not None
        self._api.close()
        self._api = None
        self._session.unit.free()
