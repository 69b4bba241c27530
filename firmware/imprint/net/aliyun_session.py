"""Sessions of the journey to Aliyun: the interface is mqtt_session.py's."""

import os

from micropython import const

from imprint import port
from imprint.errors import WeatherError
from imprint.net.mqtt_session import MqttSession

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.errors import ImprintError
    from imprint.identity import Identity

_REPLY_MS = const(15_000)  # from PUBACK to the cloud's own reply

# errors.py
_REPORT_UNANSWERED = const(604)


class Session(MqttSession):
    def __init__(self, identity: "Identity", cloud: "Any", unit: "Any") -> None:
        super().__init__(identity, cloud, unit)
        self._reply: "tuple | None" = None  # (id, code, message) of the cloud's reply last read

    def fits(self, record: "dict | None") -> bool:
        return not self.cloud.needs_registration(self.identity, record)

    def register(self) -> dict:
        self.unit.free()
        # By its name: it leaves the memory with this step.
        name = self.cloud.__name__ + "_registration"
        registrar = __import__(name, None, None, ("answer",))
        burned = self.identity
        self.connect(registrar.request(burned, os.urandom), registrar)
        record = self.credential(registrar.WAIT_MS, registrar.answer)
        self.close()
        return record

    def login(self, record: "dict | None") -> None:
        cloud, burned = self.cloud, self.identity
        self.connect(cloud.login(burned, record), cloud)
        for topic, qos in cloud.subscriptions(burned):
            self.unit.feed()
            self.client.subscribe(topic, qos)

    def report(self, number: int, values: dict) -> bytes:
        at_ms = port.unix_ms()
        params = {name: {"value": values[name], "time": at_ms} for name in values}
        return self.cloud.report(number, params)

    def send(self, number: int, payload: bytes, again: bool) -> "ImprintError | None":
        """`again` sets DUP: it was sent before, in this session or an earlier one."""
        topic = self.cloud.report_topic(self.identity)
        self._reply = None
        self.client.publish(topic, payload, qos=1, pid=number % 65535 + 1, again=again)
        deadline = port.ticks_add(port.ticks_ms(), _REPLY_MS)
        while True:
            self.obey()
            if self._reply and self._reply[0] == number:
                return self.cloud.report_refused(self._reply[1], self._reply[2])
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                raise WeatherError(_REPORT_UNANSWERED)
            self.unit.feed()
            self.client.poll(min(left_ms, 1000))

    def obey(self) -> None:
        while self.todo:
            message = self.cloud.downlink(self.identity, *self.todo.pop(0))
            kind = message[0]
            if kind == "reply":
                self._reply = message[1:]
            elif kind == "set":
                code = 200
                try:
                    self.unit.apply(message[2])
                except (ValueError, TypeError, KeyError):  # odd parameters
                    code = 400
                port.emit("set", id=message[1], code=code)
                topic, payload = self.cloud.set_reply(self.identity, message[1], code)
                self.client.publish(topic, payload)
            elif kind == "user":
                port.emit("user", bytes=len(message[2]))
                answer = self.unit.hear(message[2])
                if answer:
                    topic, payload = self.cloud.user_update(self.identity, answer)
                    self.client.publish(topic, payload, qos=1)
