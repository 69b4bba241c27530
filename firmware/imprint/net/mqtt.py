"""MQTT 3.1.1 over verified TLS: `umqtt.simple` with its faults closed.

It is frozen into every official ESP32 build, so it costs no flash; what it does on the wire is
right. What it lacks is doubt: it waits for ever, it checks what the broker sends by `assert`, and
its keepalive never pings. Here every wait has an end, every packet is checked, whatever version
(1.3.4 to 1.8.0) lies beneath. Source: OASIS MQTT 3.1.1.
"""

from micropython import const
from umqtt.simple import MQTTClient, MQTTException

from imprint import port
from imprint.errors import ProtocolError, SetupError
from imprint.net.stream import Stream

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from tls import SSLContext

    from imprint.wire.mqtt import ConnectRequest

# Bytes; a larger downlink is drained, acknowledged and dropped. A topic of Azure has a message's
# properties in it.
_TOPIC_MAX = const(1024)
_PAYLOAD_MAX = const(4096)
_DRAIN_MAX = const(262_144)  # bytes; no broker of ours sends more, so it is none

# MQTT 3.1.1, 2.2.1: packet type and flags
_CONNACK = const(0x20)
_PUBLISH = const(0x30)
_PUBACK = const(0x40)
_SUBACK = const(0x90)
_PINGRESP = const(0xD0)

# errors.py
_PEER_GARBAGE = const(321)
_PEER_SILENT = const(322)
_SUBSCRIPTION_REFUSED = const(504)


class Client(MQTTClient):
    """One connection. `on_message(topic: bytes, payload: bytes)` is called for each downlink,
    from `poll` or while an acknowledgement is waited for, and must not publish. What it returns
    False for is not acknowledged."""

    def __init__(
        self,
        request: "ConnectRequest",
        context: "SSLContext",
        on_message: "Callable[[bytes, bytes], bool | None]",
        timeout_ms: int,
    ) -> None:
        super().__init__(
            request.client_id,
            request.host,
            request.port,
            request.username,
            request.password.reveal() if request.password else None,
            request.keepalive_s,
        )
        self._context = context
        self._clean_session = request.clean_session
        self._timeout_ms = timeout_ms
        self._pinged_at: "int | None" = None  # ticks of a PINGREQ that is not answered yet
        self._acked: "int | None" = None  # packet id of the PUBACK or SUBACK last read
        self._granted = 0  # return code of the SUBACK last read
        self.dropped = 0  # downlinks larger than we have room for
        self.set_callback(on_message)

    def connect(self) -> bool:  # type: ignore[override]  # all of it is in the request
        """Connect and log in; True if the broker kept our session. Raises what `Stream` raises,
        ProtocolError, and MQTTException with the CONNACK's code, as umqtt.simple does."""
        self.sock = Stream(self.server, self.port, self._context, self._timeout_ms)
        body = bytearray(b"\x00\x04MQTT\x04\xc0")
        body[7] |= self._clean_session << 1
        fields = [self.client_id, self.user, self.pswd]
        if self.pswd is None:
            body[7] &= 0xBF
            fields.pop()
        body += self.keepalive.to_bytes(2, "big")
        for field in fields:
            data = field.encode() if isinstance(field, str) else field
            body += len(data).to_bytes(2, "big") + data
        self._send(b"\x10", body)
        self.pswd = None  # not needed again: a new login is a new Client
        head = self.sock.read(4)
        if head[0] != _CONNACK or head[1] != 2 or head[2] > 1:
            raise ProtocolError(_PEER_GARBAGE, "CONNACK")
        if head[3]:
            raise MQTTException(head[3])
        return bool(head[2])

    def publish(self, topic, msg, retain=False, qos=0, pid=None, again=False) -> None:
        """Publish; at QoS 1 return when it is acknowledged (PUBACK).

        For a repetition after a reconnect give the same `pid` and `again=True`, which sets DUP
        (3.3.1.1). Raises ProtocolError when no PUBACK comes.
        """
        body = bytearray(len(topic).to_bytes(2, "big"))
        body += topic
        if qos:
            if pid is None:
                pid = self._next_pid()
            body += pid.to_bytes(2, "big")
        body += msg
        self._send(bytes([_PUBLISH | again << 3 | qos << 1 | retain]), body)
        if qos:
            self._await(_PUBACK, pid)

    def subscribe(self, topic, qos=0) -> None:
        """Subscribe to one topic filter; raises SetupError when the broker refuses it."""
        pid = self._next_pid()
        body = pid.to_bytes(2, "big") + len(topic).to_bytes(2, "big") + topic + bytes([qos])
        self._send(b"\x82", body)
        self._await(_SUBACK, pid)
        if self._granted > 2:
            raise SetupError(_SUBSCRIPTION_REFUSED, topic.decode(), self._granted)

    def poll(self, timeout_ms: int) -> bool:
        """Take in one packet if one comes within `timeout_ms`, and keep the session alive.

        True if there was one. Raises ProtocolError when a ping was not answered in time.
        """
        now = port.ticks_ms()
        if self._pinged_at is not None:
            if port.ticks_diff(now, self._pinged_at) > self._timeout_ms:
                raise ProtocolError(_PEER_SILENT, "PINGRESP")
        elif port.ticks_diff(now, self.sock.sent_at) > self.keepalive * 750:
            self.ping()
            self._pinged_at = now
        if not self.sock.wait(timeout_ms):
            return False
        self.wait_msg()
        return True

    def wait_msg(self) -> int:
        """Read one packet and act on it; its type. Bounded by the stream's timeout."""
        op = self.sock.read(1)[0]
        size = self._read_length()
        kind = op & 0xF0
        if kind == _PUBLISH:
            self._read_publish(op, size)
        elif op == _PUBACK and size == 2:
            self._acked = int.from_bytes(self.sock.read(2), "big")
        elif op == _SUBACK and size == 3:
            answer = self.sock.read(3)
            self._acked = answer[0] << 8 | answer[1]
            self._granted = answer[2]
        elif op == _PINGRESP and size == 0:
            self._pinged_at = None
        else:
            raise ProtocolError(_PEER_GARBAGE, "packet %02x of %d bytes" % (op, size))
        return kind

    def check_msg(self) -> "int | None":
        """The packet's type if one had arrived already, else None."""
        return self.wait_msg() if self.sock.wait(0) else None

    def close(self) -> None:
        """End the connection without a word: the session at the broker goes on as it was."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def _read_length(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):  # 2.2.3: four bytes at most
            digit = self.sock.read(1)[0]
            value |= (digit & 0x7F) << shift
            if not digit & 0x80:
                return value
        raise ProtocolError(_PEER_GARBAGE, "remaining length")

    def _read_publish(self, op: int, size: int) -> None:
        qos = op >> 1 & 3
        overhead = 4 if qos else 2
        topic_size = int.from_bytes(self.sock.read(2), "big") if size >= 2 else 0
        if qos > 1 or not topic_size or not topic_size + overhead <= size <= _DRAIN_MAX:
            raise ProtocolError(_PEER_GARBAGE, "PUBLISH")
        left = size - topic_size - overhead
        fits = topic_size <= _TOPIC_MAX and left <= _PAYLOAD_MAX
        topic = b""
        if fits:
            topic = bytes(self.sock.read(topic_size))
        else:
            self._drain(topic_size)
        pid = self.sock.read(2) if qos else None
        taken = True
        if fits:
            taken = self.cb(topic, bytes(self.sock.read(left)))
        else:
            self.dropped += 1
            self._drain(left)
        # What was not taken in comes again with the next connection.
        if pid and taken is not False:
            self.sock.write(b"\x40\x02" + pid)

    def _drain(self, left: int) -> None:
        scratch = memoryview(bytearray(128))
        while left:
            part = scratch[: min(left, 128)]
            self.sock.readinto(part)
            left -= len(part)

    def _await(self, kind: int, pid: int) -> None:
        self._acked = None
        deadline = port.ticks_add(port.ticks_ms(), self._timeout_ms)
        while self._acked != pid:
            if self.wait_msg() == kind and self._acked != pid:
                self._acked = None  # of an earlier message: late, and no longer waited for
            if self._acked != pid and port.ticks_diff(deadline, port.ticks_ms()) <= 0:
                raise ProtocolError(_PEER_SILENT, "acknowledgement")

    def _next_pid(self) -> int:
        self.pid = self.pid % 65535 + 1  # 2.3.1: never 0
        return self.pid

    def _send(self, head: bytes, body) -> None:
        # One write for head and body: one TLS record (29 bytes of overhead) and not many.
        size = len(body)
        packet = bytearray(head)
        while size > 0x7F:
            packet.append(size & 0x7F | 0x80)
            size >>= 7
        packet.append(size)
        packet += body
        self.sock.write(packet)
