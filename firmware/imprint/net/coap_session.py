"""Sessions of a journey over CoAP and DTLS with a pre-shared key; the interface is
mqtt_session.py's.

The handshake is the login. A session lasts until something breaks it: a request that nobody
answers (a NAT forgot us, the server restarted: no message tells), 4.01, a reboot of the modem, the
loss of the data connection. What led to a session is then gone through again from the link on.
"""

import os

from micropython import const

from imprint import port
from imprint.errors import ImprintError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity
    from imprint.net.coap_client import Client
    from imprint.wire.coap.message import Message

# Of a session; on the way to one there is no room for them.
_STACK = (
    "modem.datagram net.coap_client "
    "wire.coap.block wire.coap.exchange wire.coap.message wire.coap.params"
)

# Commands obeyed between two reports: a cloud that always has one more must not keep us from them.
_COMMANDS_MAX = const(8)

# errors.py
_SESSION_EXPIRED = const(505)
_REPORT_UNANSWERED = const(604)


class Session:
    NEEDS_CLOCK = False  # a pre-shared key has no date

    def __init__(self, identity: "Identity", cloud: "Any", unit: "Any") -> None:
        from imprint.wire.coap.params import nb_iot

        span_ms = nb_iot(identity.ack_timeout_s).MAX_TRANSMIT_SPAN_MS
        self._identity = identity
        self._cloud = cloud
        self.period_ms = self._part("_login").report_due_ms(identity, span_ms)
        self.unit = unit
        self._link: "Any" = None  # Cellular or DtlsLink
        self._client: "Client | None" = None  # the session
        self._handshakes = 0  # since power-on
        self._first = b""  # what is told before the next report
        self.command: "tuple | None" = None  # (segments, payload or None) of one that waits

    def join(self) -> None:
        if self._link is None:
            if self._identity.modem == "none":
                from imprint.net.dtls_link import DtlsLink

                self._link = DtlsLink(self._identity, self.unit)
            else:
                from imprint.links.cellular import Cellular

                self._link = Cellular(self._identity, self.unit)
        self.unit.free(_STACK)
        imei = self._link.start()
        self._identity.device_key = self._part("_login").device_key(self._identity, imei)
        self.unit.free()
        self._link.up()
        self._link.release()

    def fits(self, record: "dict | None") -> bool:
        return not self._part("_login").needs_activation(self._identity, record)

    def register(self) -> dict:
        request = self._part("_login").activation_request(self._identity)
        self._open(None)
        response = self._client.request(*request)
        self.close()
        self.unit.free(_STACK)
        login = self._part("_login")
        return login.activation_answer(self._identity, response.code, response.payload)

    def login(self, record: "dict | None") -> None:
        self._open(record, self.period_ms)
        told = getattr(self.unit.application, "attributes", None)
        self._first = self._part("_events").attributes(told()) if told else b""

    def report(self, number: int, values: dict) -> bytes:
        at_ms = port.unix_ms() if port.clock_is_set() else None  # else the cloud's clock counts
        payload = self._cloud.measurepoints(self._identity, number, values, at_ms)[2]
        happened = getattr(self.unit.application, "event", None)
        if happened:
            payload = self._part("_events").events(happened, at_ms) + payload
        return payload

    def send(self, number: int, payload: bytes, again: bool) -> "ImprintError | None":
        """A report, and first what has a line before it."""
        payload, self._first = self._first + payload, b""
        cloud = self._cloud
        while True:
            line, more, payload = payload.partition(b"\n")
            msg_id = len(payload) << 32 | number  # the report's own is its number
            if more:
                message = self._part("_events").message(self._identity, msg_id, line)
                self.unit.free()
            else:
                message = cloud.report_path(self._identity) + (line,)
            response = self.request(*message)
            refusal = cloud.report_refused(response.code, response.payload, msg_id)
            if refusal and refusal.code == _SESSION_EXPIRED:
                raise refusal
            if refusal and refusal.code == _REPORT_UNANSWERED and again:
                port.emit_error(refusal)
                refusal = None  # CoAP accepted it, twice; who says it so is not waited for
            if not more or (refusal and refusal.retry):
                return refusal
            if refusal:
                port.emit_error(refusal)
            self.poll(0)  # the next response may name another command

    def poll(self, timeout_ms: int) -> None:
        self._link.check()
        for _ in range(_COMMANDS_MAX):
            if self.command is None:
                break
            self.unit.feed()
            from imprint.net import coap_commands

            coap_commands.obey(self, self._part("_commands"), *self.command)
        self._client.poll(timeout_ms)

    def rest_ms(self) -> int:
        return 0

    def close(self) -> None:
        self.command = None
        if self._client:
            self._client.close()
            self._client = None

    def _open(self, record: "dict | None", period_ms: int = 0) -> None:
        # With what the vault holds, None to activate; `period_ms` between reports, if there are.
        cloud, burned, unit = self._cloud, self._identity, self.unit
        unit.free(_STACK)
        login = self._part("_login")
        psk_identity = login.psk_identity(burned, record)
        key = login.psk_key(burned, record)
        del login  # else it would stay
        unit.free()
        self._link.provide(psk_identity, key)
        host: "Any" = burned.host  # not None in this journey
        socket = self._link.open(host, burned.port)
        if period_ms:
            self._link.save_power(period_ms)
        self._link.release()
        from imprint.net.coap_client import Client
        from imprint.wire.coap.params import nb_iot

        self._client = Client(
            socket,
            None,  # the session knows its one peer
            nb_iot(burned.ack_timeout_s),
            os.urandom,
            unit.feed,
            cloud.WHOLE_MAX,
            cloud.BLOCK_EXPONENT,
        )
        self._handshakes += 1
        port.emit("session", n=self._handshakes)

    def request(self, code: int, segments: list, payload: bytes = b"") -> "Message":
        """The response, which may name a command that waits for us: `command`."""
        self._link.wake()
        response = self._client.request(code, segments, payload)
        self.command = self._cloud.command(self._identity, response)
        return response

    def _part(self, name: str) -> "Any":
        # Of the cloud's modules; not kept, since it leaves the memory when it has done its part.
        return __import__(self._cloud.__name__ + name, None, None, ("*",))
