"""Sessions of the journeys to Azure IoT: the interface is mqtt_session.py's.

A report is acknowledged by PUBACK: the hub has it, or the gateway keeps it. It carries its number
as message id, the same at each repetition, so that whoever reads the hub can tell a duplicate.
"""

from micropython import const

from imprint import canonical, port
from imprint.errors import ImprintError, SetupError, WeatherError
from imprint.net.mqtt_session import MqttSession

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity

_TWIN_AGAIN_MS = const(30_000)  # until a request to the twin that got no reply is repeated
# A hub that does not answer at all for that long may not be ours any more (DPS best practice).
_FAILING_MS = const(1_200_000)
_PAUSE_MOST_S = const(60)  # a longer wait is no reason to keep a connection

# errors.py
_PROVISIONING_UNAVAILABLE = const(423)
_PROVISIONING_UNANSWERED = const(424)
_HUB_REFUSED = const(507)
_DOWNLINK_UNUSABLE = const(605)
_TWIN_REFUSED = const(606)


class Session(MqttSession):
    def __init__(self, identity: "Identity", cloud: "Any", unit: "Any") -> None:
        super().__init__(identity, cloud, unit)
        self._endpoint: "Any" = cloud.endpoint(identity, None)  # None: DPS has not said it
        self._record: "dict | None" = None  # what the endpoint came from
        self._rest_ms = 0  # what DPS asked to be left alone for
        self._doubted = False  # DPS is asked before the endpoint is tried again
        self._failing_since: "int | None" = None  # ticks of the first failure after a login
        self._renew_at: "int | None" = None  # ticks when the token is to be replaced
        self._rid = 0  # of the last request to the twin
        self._ask_rid = 0  # of the last one for the whole of it
        self._seen = -1  # version of the desired properties that were acted on
        self._ask_at: "int | None" = None  # ticks when the twin is to be asked for
        self._change: "dict" = {}  # reported properties that the hub has not taken yet
        self._change_at = 0  # ticks when they are to be sent
        self._change_rid = 0  # of the request that carries them; 0: none does
        self._unread = 0  # of client.dropped, how many were told of

    def fits(self, record: "dict | None") -> bool:
        return not self._doubted and self.cloud.endpoint(self.identity, record) is not None

    # -- registration (azure-dps) ---------------------------------------------------------------

    def register(self) -> "dict | None":
        self._doubted = False  # whatever comes of it: next is the hub again, if there is one
        self._failing_since = None
        self.unit.free()
        # By its name: it leaves the memory with this step.
        name = self.cloud.__name__ + "_registration"
        registrar = __import__(name, None, None, ("answer",))
        self.connect(registrar.request(self.identity, _now_s()), registrar)
        self.client.subscribe(registrar.ANSWERS, 1)
        operation = ""
        for number in range(1, registrar.QUESTIONS_MAX + 1):
            topic, payload = registrar.question(self.identity, number, operation)
            self.client.publish(topic, payload, qos=1)
            answer = self._answer(registrar, number)
            if answer[0] != "again":
                self.close()
                return answer[1] if answer[0] == "assigned" else None
            if answer[2] is not None:
                operation = answer[2]
            self._pause(answer[1])
        raise WeatherError(_PROVISIONING_UNANSWERED)

    def rest_ms(self) -> int:
        rest_ms, self._rest_ms = self._rest_ms, 0
        return rest_ms

    def _answer(self, registrar: "Any", number: int) -> tuple:
        deadline = port.ticks_add(port.ticks_ms(), registrar.WAIT_MS)
        while True:
            while self.todo:
                answer = registrar.answer(self.identity, number, *self.todo.pop(0))
                if answer:
                    return answer
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                raise WeatherError(_PROVISIONING_UNANSWERED)
            self.client.poll(min(left_ms, 1000))
            self.unit.feed()

    def _pause(self, seconds: int) -> None:
        if seconds > _PAUSE_MOST_S:
            self._rest_ms = seconds * 1000
            raise WeatherError(_PROVISIONING_UNAVAILABLE)
        until = port.ticks_add(port.ticks_ms(), seconds * 1000)
        while True:
            left_ms = port.ticks_diff(until, port.ticks_ms())
            if left_ms <= 0:
                return
            self.client.poll(min(left_ms, 1000))
            self.unit.feed()

    # -- session --------------------------------------------------------------------------------

    def login(self, record: "dict | None") -> None:
        self._record = record
        self._endpoint = self.cloud.endpoint(self.identity, record)
        try:
            self._open()
        except ImprintError as error:
            self._note_failure(error)
            raise
        self._failing_since = None

    def _open(self) -> None:
        hub, burned, endpoint = self.cloud.hub, self.identity, self._endpoint
        ttl_s = burned.sas_ttl_s
        self._renew_at = None
        # Acknowledged and not acted on: the hub will not send them again.
        held = [item for item in self.todo if b"/devicebound/" in item[0]]
        self.connect(hub.login(endpoint, burned.port, _now_s(), ttl_s), hub)
        self.todo += held
        for topic, qos in hub.subscriptions(endpoint):
            self.unit.feed()
            self.client.subscribe(topic, qos)
        now = port.ticks_ms()
        after_s = hub.renew_after_s(endpoint, ttl_s)
        if after_s is not None:
            self._renew_at = port.ticks_add(now, after_s * 1000)
        self._unread = 0
        self._change_rid = 0
        self._ask_at = self._change_at = now

    def _note_failure(self, error: ImprintError) -> None:
        # The endpoint was right once. When it refuses us, or is not there for long, DPS is asked
        # before the next attempt; only so often as the back-off between attempts allows.
        now = port.ticks_ms()
        if self._failing_since is None:
            self._failing_since = now
        failing_ms = port.ticks_diff(now, self._failing_since)
        if self._record and (error.code == _HUB_REFUSED or failing_ms > _FAILING_MS):
            self._doubted = True

    def report(self, number: int, values: dict) -> bytes:
        properties = dict(self.unit.properties(values))
        properties["$.mid"] = "%08x" % number
        properties["$.ct"] = "application/json"
        properties["$.ce"] = "utf-8"
        properties["$.ctime"] = port.utc()  # it may wait here or in a gateway
        return self.cloud.hub.bag(properties) + b"\n" + canonical.dumps(values)

    def send(self, number: int, payload: bytes, again: bool) -> "ImprintError | None":
        """`again` sets DUP: it was sent before, in this session or an earlier one."""
        bag, _, body = payload.partition(b"\n")
        topic = self.cloud.hub.telemetry_topic(self._endpoint, bag)
        self.client.publish(topic, body, qos=1, pid=number % 65535 + 1, again=again)
        return None

    def poll(self, timeout_ms: int) -> None:
        super().poll(timeout_ms)
        now = port.ticks_ms()
        if self._renew_at is not None and port.ticks_diff(now, self._renew_at) >= 0:
            self._renew()
        elif self._ask_at is not None and port.ticks_diff(now, self._ask_at) >= 0:
            self._ask_at = port.ticks_add(now, _TWIN_AGAIN_MS)
            self._rid += 1
            self._ask_rid = self._rid
            self.client.publish(self.cloud.hub.twin_get(self._rid), b"")
        elif self._change and port.ticks_diff(now, self._change_at) >= 0:
            self._tell_twin(now)
        if self.client.dropped != self._unread:
            self._unread = self.client.dropped
            self._ask_at = None  # it may have been the twin: asking again would not shrink it
            _tell(_DOWNLINK_UNUSABLE, "too large")

    def _renew(self) -> None:
        # Between two reports, so none is under way.
        self.obey()
        self.close()
        self.login(self._record)
        port.emit("renewed")

    # -- what the cloud wants -------------------------------------------------------------------

    def obey(self) -> None:
        while self.todo:
            message = self.cloud.hub.downlink(self._endpoint, *self.todo.pop(0))
            kind = message[0]
            if kind == "twin":
                self._hear_twin(*message[1:])
            elif kind == "desired" and self._ask_at is None and message[1] == self._seen + 1:
                self._take_desired(*message[1:])
            elif kind == "desired":
                self._ask_at = port.ticks_ms()  # one was missed: the whole of it
            elif kind == "method":
                self._run(*message[1:])
            elif kind == "message":
                self._hear(*message[1:])
            elif kind == "unusable":
                _tell(_DOWNLINK_UNUSABLE, message[1])

    def _hear_twin(self, rid: int, status: int, payload: bytes) -> None:
        if rid == self._change_rid:
            self._change_rid = 0
            if status == 429 or status >= 500:
                return  # sent again when it is due
            self._change = {}
            if status >= 300:
                _tell(_TWIN_REFUSED, "", status)
        elif rid == self._ask_rid and status == 200:
            self._ask_at = None
            found = self.cloud.hub.twin(payload)
            if found[0] == "desired":
                self._take_desired(*found[1:])
            else:
                _tell(_DOWNLINK_UNUSABLE, "twin: " + found[1])

    def _take_desired(self, version: int, params: dict) -> None:
        if version == self._seen:
            return
        self._seen = version
        if not params:
            return
        code = 200
        try:
            result = self.unit.apply(params)
            if result is None:
                values = self.unit.read()
                result = {name: values[name] for name in params if name in values}
            canonical.dumps(result)
            self._change.update(result)
            self._change_rid = 0  # the reply to an earlier one is not the reply to this
            self._change_at = port.ticks_ms()
        except (ValueError, TypeError, KeyError):  # odd parameters
            code = 400
        port.emit("set", id=version, code=code)

    def _tell_twin(self, now: int) -> None:
        self._rid += 1
        self._change_rid = self._rid
        self._change_at = port.ticks_add(now, _TWIN_AGAIN_MS)
        topic = self.cloud.hub.twin_report(self._rid)
        self.client.publish(topic, canonical.dumps(self._change))

    def _run(self, name: str, rid: bytes, payload: bytes) -> None:
        hub = self.cloud.hub
        status, answer = 200, b"null"
        try:
            value = canonical.value(payload, hub.REPLY_MAX) if payload.strip() else None
            answer = canonical.dumps(self.unit.method(name, value))
        except KeyError:
            status = 404
        except (ValueError, TypeError):
            status = 400
        if len(answer) > hub.REPLY_MAX:
            status, answer = 500, b'"the answer is too large"'
        port.emit("method", name=name, code=status)
        self.client.publish(hub.method_reply(rid, status), answer)

    def _hear(self, mid: str, payload: bytes) -> None:
        port.emit("user", bytes=len(payload))
        answer = self.unit.hear(payload)
        if answer:
            bag = self.cloud.hub.bag({"$.cid": mid})
            topic = self.cloud.hub.telemetry_topic(self._endpoint, bag)
            self.client.publish(topic, answer, qos=1)


def _now_s() -> int:
    return port.unix_ms() // 1000


def _tell(code: int, detail: str, number: "int | None" = None) -> None:
    port.emit_error(SetupError(code, detail, number))
