"""Sessions of a journey over MQTT and verified TLS, on Wi-Fi.

A journey's cloud module names one of these in SESSION, and `app` knows nothing else of how its
unit comes to the cloud. All have

    NEEDS_CLOCK           whether the date must be known before a session
    join()                bring the link up
    fits(record)          whether a login can be tried with what the vault holds
    register() -> record  get a credential; no session is left open. None: the cloud knows this
                          unit and does not want it yet
    login(record)
    period_ms             from the report just made to the next
    report(id, values) -> payload, empty where there is nothing to report
    send(id, payload, again) -> None, or the error for a report that was refused
    poll(timeout_ms)      take in what comes, and act on it
    rest_ms()             how long the cloud wants to be left alone before the next session
    close()

and raise `imprint.errors`. `unit` is what they may use of the unit: `store`, `feed()` the
watchdog's, `free()` to let go of modules that have done their part, `keep(record)` to store a
credential before `register` returns it, and the application's `read()`, `apply(params)`,
`hear(payload)`, `method(name, payload)` and `properties(values)`; the rest of it is in the module
`application`, None where there is none.
"""

from micropython import const

from imprint import port
from imprint.errors import ImprintError, WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from imprint.identity import Identity
    from imprint.links.wifi import Wifi
    from imprint.net.mqtt import Client
    from imprint.wire.mqtt import ConnectRequest

_NET_MS = const(15_000)  # connecting, and each read and write
_TODO_MAX = const(8)  # downlinks not yet acted on

# errors.py
_LINK_LOST = const(204)
_CONNECTION_LOST = const(304)
_PEER_CLOSED = const(320)
_REGISTRATION_UNANSWERED = const(405)


class MqttSession:
    """What these journeys have in common: link, TLS, one connection, downlinks to act on.

    A journey's own class makes a Session of it.
    """

    NEEDS_CLOCK = True  # certificates have dates

    def __init__(self, identity: "Identity", cloud: "Any", unit: "Any") -> None:
        """`cloud` is the journey's module. Raises SetupError: the root CA is no certificate, or
        our own certificate and its key cannot be used."""
        from imprint.net import tls

        self.period_ms = identity.interval_s * 1000
        self.identity = identity
        self.cloud = cloud
        self.unit = unit
        store = unit.store
        self._tls = tls.context(
            store.get("root_ca") or b"", store.get("client_cert"), store.get("client_key")
        )
        self._link: "Wifi | None" = None
        self.client: "Client | None" = None  # the connection
        self.todo: "list[tuple]" = []  # downlinks, taken in while something else was waited for

    def join(self) -> None:
        if self._link is None:
            from imprint.links.wifi import Wifi

            burned = self.identity
            self._link = Wifi(burned.wifi_ssid, burned.wifi_password, self.unit.feed)
        self._link.up()

    def poll(self, timeout_ms: int) -> None:
        self.obey()
        self.client.poll(timeout_ms)
        if not self._link.is_up():
            raise WeatherError(_LINK_LOST)

    def rest_ms(self) -> int:
        return 0

    def close(self) -> None:
        if self.client:
            self.client.close()
            self.client = None

    def obey(self) -> None:
        """Act on every downlink in `todo`; the journey's own."""
        del self.todo[:]

    def connect(self, request: "ConnectRequest", peer: "Any") -> None:
        """Log in as `request` says; `peer` is the module that knows what a refusal means.

        Raises what net.mqtt's Client.connect raises, and what `peer.refused` makes of a CONNACK.
        """
        self.unit.free()  # the request is signed: all room for the connection
        from umqtt.simple import MQTTException

        from imprint.net.mqtt import Client

        del self.todo[:]
        self.client = Client(request, self._tls, self._take, _NET_MS)
        try:
            self.client.connect()
        except MQTTException as error:
            raise peer.refused(self.identity, error.args[0])

    def credential(self, wait_ms: int, read: "Callable[..., Any]") -> "Any":
        """What `read(identity, topic, payload)` makes of the first downlink that it knows.

        Raises WeatherError: none came within `wait_ms`, or the cloud hung up instead.
        """
        deadline = port.ticks_add(port.ticks_ms(), wait_ms)
        found = None
        while found is None:
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                raise WeatherError(_REGISTRATION_UNANSWERED)
            try:
                self.client.poll(min(left_ms, 1000))
            except ImprintError as error:
                if error.code in (_PEER_CLOSED, _CONNECTION_LOST):
                    raise WeatherError(_REGISTRATION_UNANSWERED)
                raise
            self.unit.feed()
            while self.todo and found is None:
                found = read(self.identity, *self.todo.pop(0))
        return found

    def _take(self, topic: bytes, payload: bytes) -> bool:
        # Called in the middle of other exchanges: note it down, act later.
        if len(self.todo) >= _TODO_MAX:
            port.emit("overrun")
            return False
        self.todo.append((topic, payload))
        return True
