"""MQTT 3.1.1 as a server sees it: bytes to packets and answers to bytes. No I/O but `read_frame`.

The codec is amqtt's, behind one door, because it is lenient where a server that stands in for a
vendor's must not be: a string that is not UTF-8 becomes its repr, a CONNECT that stops early
merely lacks its password. Whatever it decodes is therefore encoded again, and a body that does
not come back as it was is malformed. That one comparison covers nearly every rule of length and
text; the fields that a CONNECT announces and does not bring are looked for on their own.

Invariant: any bytes give a packet, MalformedPacketError or ProtocolLevelError; nothing else.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

# amqtt is annotated but ships no py.typed, so its types end here.
from amqtt.adapters import BufferReader  # type: ignore[import-untyped]
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError  # type: ignore[import-untyped]
from amqtt.mqtt import packet as kinds  # type: ignore[import-untyped]
from amqtt.mqtt import packet_dict
from amqtt.mqtt.connack import ConnackPacket  # type: ignore[import-untyped]
from amqtt.mqtt.pingresp import PingRespPacket  # type: ignore[import-untyped]
from amqtt.mqtt.puback import PubackPacket  # type: ignore[import-untyped]
from amqtt.mqtt.publish import PublishPacket  # type: ignore[import-untyped]
from amqtt.mqtt.suback import SubackPacket  # type: ignore[import-untyped]
from amqtt.mqtt.unsuback import UnsubackPacket  # type: ignore[import-untyped]

from imprint_tools.secret import Secret

CONNECT: int = kinds.CONNECT

SUBSCRIPTION_REFUSED = 0x80
"""SUBACK return code "failure" (MQTT 3.1.1, 3.9.3)."""

_LENGTH_BYTES_MAX = 4
_CODEC_ERRORS = (
    AMQTTError, MQTTError, CodecError, NoDataError,
    ValueError, struct.error, IndexError, TypeError,
)  # fmt: skip
# Flag bits that MQTT 3.1.1 (table 2.2) fixes for what a client may send; PUBLISH has its own.
_FIXED_FLAGS = {
    kinds.CONNECT: 0, kinds.PUBACK: 0, kinds.SUBSCRIBE: 2, kinds.UNSUBSCRIBE: 2,
    kinds.PINGREQ: 0, kinds.DISCONNECT: 0,
}  # fmt: skip


class MalformedPacketError(Exception):
    """The peer sent what MQTT 3.1.1 does not allow, or more than this server takes."""


class ProtocolLevelError(Exception):
    """A CONNECT of a protocol level that is not offered; the answer is CONNACK 1."""


@dataclass(frozen=True)
class Frame:
    """One packet off the wire: its kind, flag bits, body, and size in bytes with the header."""

    kind: int
    flags: int
    body: bytes
    size: int


@dataclass(frozen=True)
class Connect:
    """`will`: topic and payload of what is said for a client that goes without a word."""

    client_id: str
    username: str
    password: Secret
    keepalive_s: int
    clean_session: bool
    size: int = 0
    will: tuple[str, bytes] | None = None


@dataclass(frozen=True)
class Publish:
    topic: str
    payload: bytes
    qos: int
    packet_id: int | None
    dup: bool = False
    retain: bool = False


@dataclass(frozen=True)
class Puback:
    packet_id: int


@dataclass(frozen=True)
class Subscribe:
    packet_id: int
    topics: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unsubscribe:
    packet_id: int
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Pingreq:
    pass


@dataclass(frozen=True)
class Disconnect:
    pass


Packet = Connect | Publish | Puback | Subscribe | Unsubscribe | Pingreq | Disconnect


async def read_frame(
    reader: asyncio.StreamReader, packet_max: int, *, kind: int | None = None
) -> Frame:
    """Read one packet of at most `packet_max` bytes of body, where told of that `kind` only.

    Raises MalformedPacketError as soon as the kind or the length is wrong, and
    asyncio.IncompleteReadError where the peer closes (with no bytes: between two packets).
    """
    first = (await reader.readexactly(1))[0]
    if kind is not None and first >> 4 != kind:
        raise MalformedPacketError(f"packet type {first >> 4} in place of {kind}")
    length = 0
    for place in range(_LENGTH_BYTES_MAX):
        try:
            digit = (await reader.readexactly(1))[0]
        except asyncio.IncompleteReadError as error:
            raise asyncio.IncompleteReadError(bytes([first]), None) from error
        length |= (digit & 0x7F) << (7 * place)
        if not digit & 0x80:
            break
    else:
        raise MalformedPacketError("remaining length of more than four bytes")
    if length > packet_max:
        raise MalformedPacketError(f"packet of {length} bytes, {packet_max} are taken")
    try:
        body = await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise asyncio.IncompleteReadError(bytes([first]) + error.partial, None) from error
    return Frame(first >> 4, first & 0x0F, body, 2 + place + length)


def decode(frame: Frame) -> Packet:
    """Turn a frame from a client into a packet.

    Raises MalformedPacketError, and ProtocolLevelError for a CONNECT that is not 3.1 or 3.1.1.
    """
    if frame.kind == kinds.PUBLISH:
        if frame.flags & 0x06 == 0x06:
            raise MalformedPacketError("PUBLISH of QoS 3")
    elif frame.kind not in _FIXED_FLAGS:
        raise MalformedPacketError(f"packet type {frame.kind} is not one that is taken here")
    elif frame.flags != _FIXED_FLAGS[frame.kind]:
        raise MalformedPacketError(f"packet type {frame.kind} with flags {frame.flags:#x}")
    if frame.kind == kinds.CONNECT:
        _check_level(frame.body)
    return _typed(frame, _amqtt_packet(frame))


def connack(code: int, *, session_present: bool = False) -> bytes:
    return bytes(ConnackPacket.build(int(session_present), code).to_bytes())


def publish(
    topic: str, payload: bytes, *, qos: int = 0, packet_id: int | None = None, dup: bool = False
) -> bytes:
    return bytes(PublishPacket.build(topic, payload, packet_id, dup, qos, False).to_bytes())


def puback(packet_id: int) -> bytes:
    return bytes(PubackPacket.build(packet_id).to_bytes())


def suback(packet_id: int, codes: Sequence[int]) -> bytes:
    return bytes(SubackPacket.build(packet_id, list(codes)).to_bytes())


def unsuback(packet_id: int) -> bytes:
    return bytes(UnsubackPacket.build(packet_id).to_bytes())


def pingresp() -> bytes:
    return bytes(PingRespPacket.build().to_bytes())


def valid_filter(text: str) -> bool:
    """Is that a topic filter (MQTT 3.1.1, 4.7): `#` last and alone, `+` alone in its level?"""
    levels = text.split("/")
    return bool(text) and all(
        level in ("+", "#") or not ("+" in level or "#" in level) for level in levels
    ) and "#" not in levels[:-1]  # fmt: skip


def matches(topic_filter: str, topic: str) -> bool:
    """Does a topic match a filter (MQTT 3.1.1, 4.7)?"""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        if len(levels) < len(wanted):
            return False
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        want in ("+", level) for want, level in zip(wanted, levels, strict=True)
    )


def _check_level(body: bytes) -> None:
    """Levels 4 (3.1.1) and 3 (3.1) are taken; MQTT 5, with its properties, cannot be read."""
    if body.startswith((b"\x00\x04MQTT\x04", b"\x00\x06MQIsdp\x03")):
        return
    if body.startswith((b"\x00\x04MQTT", b"\x00\x06MQIsdp")):
        raise ProtocolLevelError("neither MQTT 3.1 nor 3.1.1")
    raise MalformedPacketError("CONNECT without MQTT's protocol name")


def _amqtt_packet(frame: Frame) -> Any:
    header = kinds.MQTTFixedHeader(frame.kind, frame.flags, len(frame.body))
    header_bytes = header.to_bytes()
    try:
        packet = _finish(packet_dict[frame.kind].from_stream(BufferReader(frame.body), header))
        if frame.kind == kinds.CONNECT and packet.client_id_is_random:
            # An empty client identifier is legal; amqtt invents one in its place.
            packet.client_id = ""
        again = bytes(packet.to_bytes())
    except _CODEC_ERRORS:
        # No cause attached: amqtt's errors may quote the packet, and that may hold a password.
        raise MalformedPacketError(f"packet type {frame.kind} cannot be read") from None
    if again != header_bytes + frame.body:
        raise MalformedPacketError(f"packet type {frame.kind} is not what it says it holds")
    return packet


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that reads from memory, and so never waits, to its end."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a decoder that reads from memory waited")


def _typed(frame: Frame, packet: Any) -> Packet:
    match frame.kind:
        case kinds.CONNECT:
            return _connect(frame, packet)
        case kinds.PUBLISH:
            packet_id = packet.packet_id
            if packet.qos and not packet_id:
                raise MalformedPacketError("PUBLISH of QoS 1 with packet identifier 0")
            topic = _text(packet.topic_name)
            if not topic:
                raise MalformedPacketError("PUBLISH without a topic")
            return Publish(
                topic, packet.data, packet.qos, packet_id, packet.dup_flag, packet.retain_flag
            )
        case kinds.PUBACK:
            return Puback(packet.packet_id)
        case kinds.SUBSCRIBE:
            topics = tuple((_text(topic), qos) for topic, qos in packet.payload.topics)
            if (
                not topics
                or not packet.variable_header.packet_id
                or any(qos > 2 for _, qos in topics)
            ):
                raise MalformedPacketError("SUBSCRIBE without topics or with an impossible QoS")
            return Subscribe(packet.variable_header.packet_id, topics)
        case kinds.UNSUBSCRIBE:
            if not packet.payload.topics or not packet.variable_header.packet_id:
                raise MalformedPacketError("UNSUBSCRIBE without topics")
            return Unsubscribe(
                packet.variable_header.packet_id, tuple(map(_text, packet.payload.topics))
            )
        case kinds.PINGREQ:
            return Pingreq()
        case _:
            return Disconnect()


def _connect(frame: Frame, packet: Any) -> Connect:
    if packet.reserved_flag or (packet.password_flag and not packet.username_flag):
        raise MalformedPacketError("CONNECT with impossible flags")
    announced = (
        (packet.username_flag, packet.username),
        (packet.password_flag, packet.password),
        (packet.will_flag, packet.will_message),
    )
    if any(flag and value is None for flag, value in announced):
        raise MalformedPacketError("CONNECT without a field that it announces")
    stray = not packet.will_flag and (packet.will_qos or packet.will_retain_flag)
    if packet.will_qos == 3 or stray:
        raise MalformedPacketError("CONNECT with an impossible will")
    will = (_text(packet.will_topic), bytes(packet.will_message)) if packet.will_flag else None
    return Connect(
        client_id=_text(packet.client_id),
        username=_text(packet.username or ""),
        password=Secret(packet.password or ""),
        keepalive_s=packet.keep_alive,
        clean_session=packet.clean_session_flag,
        size=frame.size,
        will=will,
    )


def _text(value: str) -> str:
    if "\0" in value:
        raise MalformedPacketError("a string holds U+0000")
    return value
