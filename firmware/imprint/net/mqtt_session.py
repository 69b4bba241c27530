"""Sessions of a journey over MQTT and verified TLS, on Wi-Fi.

A journey's cloud module names one of these in SESSION, and `app` knows nothing else of how its
unit comes to the cloud. All have

    NEEDS_CLOCK           whether the date must be known before a session
    join()                bring the link up
    fits(record)          whether a login can be tried with what the vault holds
    register() -> record  get a credential; no session is left open
    login(record)
    period_ms             between two reports
    report(id, values) -> payload
    send(id, payload, again) -> None, or the error for a report that was refused
    poll(timeout_ms)      take in what comes, and act on it
    close()

and raise `imprint.errors`. `unit` is what they may use of the unit: `store`, `feed()` the
watchdog's, `free()` to let go of modules that have done their part, and the application's
`read()`, `apply(params)` and `hear(payload)`.
"""

import os

from micropython import const

from imprint import port
from imprint.errors import ImprintError, WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity
    from imprint.links.wifi import Wifi
    from imprint.net.mqtt import Client
    from imprint.wire.mqtt import ConnectRequest

_NET_MS = const(15_000)  # connecting, and each read and write
_REPLY_MS = const(15_000)  # from PUBACK to the cloud's own reply
_TODO_MAX = const(8)  # downlinks not yet acted on

# errors.py
_LINK_LOST = const(204)
_CONNECTION_LOST = const(304)
_PEER_CLOSED = const(320)
_REGISTRATION_UNANSWERED = const(405)
_REPORT_UNANSWERED = const(604)


class Session:
    NEEDS_CLOCK = True  # certificates have dates

    def __init__(self, identity: "Identity", cloud: "Any", unit: "Any") -> None:
        """`cloud` is the journey's module. Raises SetupError: the root CA is no certificate."""
        from imprint.net import tls

        self.period_ms = identity.interval_s * 1000
        self._identity = identity
        self._cloud = cloud
        self._unit = unit
        self._tls = tls.context(unit.store.get("root_ca") or b"")
        self._link: "Wifi | None" = None
        self._client: "Client | None" = None  # the connection
        self._todo: "list[tuple]" = []  # downlinks, taken in while something else was waited for
        self._reply: "tuple | None" = None  # (id, code, message) of the cloud's reply last read

    def join(self) -> None:
        if self._link is None:
            from imprint.links.wifi import Wifi

            burned = self._identity
            self._link = Wifi(burned.wifi_ssid, burned.wifi_password, self._unit.feed)
        self._link.up()

    def fits(self, record: "dict | None") -> bool:
        return not self._cloud.needs_registration(self._identity, record)

    def register(self) -> dict:
        self._unit.free()
        # By its name: it leaves the memory with this step.
        name = self._cloud.__name__ + "_registration"
        registrar = __import__(name, None, None, ("answer",))
        burned = self._identity
        self._connect(registrar.request(burned, os.urandom), registrar)
        deadline = port.ticks_add(port.ticks_ms(), registrar.WAIT_MS)
        record = None
        while record is None:
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                raise WeatherError(_REGISTRATION_UNANSWERED)
            try:
                self._client.poll(min(left_ms, 1000))
            except ImprintError as error:
                if error.code in (_PEER_CLOSED, _CONNECTION_LOST):
                    raise WeatherError(_REGISTRATION_UNANSWERED)
                raise
            self._unit.feed()
            while self._todo and record is None:
                record = registrar.answer(burned, *self._todo.pop(0))
        self.close()
        return record

    def login(self, record: "dict | None") -> None:
        cloud, burned = self._cloud, self._identity
        self._connect(cloud.login(burned, record), cloud)
        for topic, qos in cloud.subscriptions(burned):
            self._unit.feed()
            self._client.subscribe(topic, qos)

    def report(self, number: int, values: dict) -> bytes:
        at_ms = port.unix_ms()
        params = {name: {"value": values[name], "time": at_ms} for name in values}
        return self._cloud.report(number, params)

    def send(self, number: int, payload: bytes, again: bool) -> "ImprintError | None":
        """`again` sets DUP: it was sent before, in this session or an earlier one."""
        topic = self._cloud.report_topic(self._identity)
        self._reply = None
        self._client.publish(topic, payload, qos=1, pid=number % 65535 + 1, again=again)
        deadline = port.ticks_add(port.ticks_ms(), _REPLY_MS)
        while True:
            self._obey()
            if self._reply and self._reply[0] == number:
                return self._cloud.report_refused(self._reply[1], self._reply[2])
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                raise WeatherError(_REPORT_UNANSWERED)
            self._unit.feed()
            self._client.poll(min(left_ms, 1000))

    def poll(self, timeout_ms: int) -> None:
        self._obey()
        self._client.poll(timeout_ms)
        if not self._link.is_up():
            raise WeatherError(_LINK_LOST)

    def close(self) -> None:
        if self._client:
            self._client.close()
            self._client = None

    def _connect(self, request: "ConnectRequest", peer: "Any") -> None:
        # `peer`: the module that knows what a refusal means.
        self._unit.free()  # the request is signed: all room for the connection
        from umqtt.simple import MQTTException

        from imprint.net.mqtt import Client

        del self._todo[:]
        self._client = Client(request, self._tls, self._take, _NET_MS)
        try:
            self._client.connect()
        except MQTTException as error:
            raise peer.refused(self._identity, error.args[0])

    def _take(self, topic: bytes, payload: bytes) -> None:
        # Called in the middle of other exchanges: note it down, act later.
        if len(self._todo) < _TODO_MAX:
            self._todo.append((topic, payload))
        else:
            port.emit("overrun")

    def _obey(self) -> None:
        while self._todo:
            message = self._cloud.downlink(self._identity, *self._todo.pop(0))
            kind = message[0]
            if kind == "reply":
                self._reply = message[1:]
            elif kind == "set":
                code = 200
                try:
                    self._unit.apply(message[2])
                except (ValueError, TypeError, KeyError):  # odd parameters
                    code = 400
                port.emit("set", id=message[1], code=code)
                topic, payload = self._cloud.set_reply(self._identity, message[1], code)
                self._client.publish(topic, payload)
            elif kind == "user":
                port.emit("user", bytes=len(message[2]))
                answer = self._unit.hear(message[2])
                if answer:
                    topic, payload = self._cloud.user_update(self._identity, answer)
                    self._client.publish(topic, payload, qos=1)
