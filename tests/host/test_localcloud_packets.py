"""MQTT packets, read from wire literals and cut everywhere."""

from __future__ import annotations

import asyncio

import pytest
from imprint_tools.localcloud import packets
from imprint_tools.secret import Secret

CONNECT = b"\x10\x17\x00\x04MQTT\x04\xc2\x00\x3c" + b"\x00\x03cid" + b"\x00\x02me" + b"\x00\x02pw"
READINGS = [
    ("connect", CONNECT, packets.Connect("cid", "me", Secret("pw"), 60, True, 25)),
    ("publish-0", b"\x30\x06\x00\x01thi!", packets.Publish("t", b"hi!", 0, None)),
    ("publish-1", b"\x32\x07\x00\x01t\x00\x09ok", packets.Publish("t", b"ok", 1, 9)),
    ("publish-1-dup", b"\x3a\x05\x00\x01t\x00\x09", packets.Publish("t", b"", 1, 9, True)),
    ("puback", b"\x40\x02\x00\x09", packets.Puback(9)),
    ("subscribe", b"\x82\x08\x00\x07\x00\x03a/#\x01", packets.Subscribe(7, (("a/#", 1),))),
    ("unsubscribe", b"\xa2\x05\x00\x07\x00\x01a", packets.Unsubscribe(7, ("a",))),
    ("pingreq", b"\xc0\x00", packets.Pingreq()),
    ("disconnect", b"\xe0\x00", packets.Disconnect()),
]
MALFORMED = [
    ("no packet type", b"\x00\x00"),
    ("a server's packet", b"\x20\x02\x00\x00"),
    ("QoS 2's PUBREL", b"\x62\x02\x00\x01"),
    ("PUBLISH of QoS 3", b"\x36\x07\x00\x01t\x00\x09ok"),
    ("PUBLISH of QoS 1 with identifier 0", b"\x32\x05\x00\x01t\x00\x00"),
    ("PUBLISH without a topic", b"\x30\x02\x00\x00"),
    ("PUBLISH to a wildcard", b"\x30\x03\x00\x01#"),
    ("PUBLISH whose topic is longer than it", b"\x30\x03\x00\x09t"),
    ("a topic that is not UTF-8", b"\x30\x03\x00\x01\xff"),
    ("a topic with U+0000", b"\x30\x03\x00\x01\x00"),
    ("SUBSCRIBE with the wrong flags", b"\x80\x08\x00\x07\x00\x03a/#\x01"),
    ("SUBSCRIBE for nothing", b"\x82\x02\x00\x07"),
    ("SUBSCRIBE of QoS 3", b"\x82\x06\x00\x07\x00\x01a\x03"),
    ("SUBSCRIBE cut in a filter", b"\x82\x05\x00\x07\x00\x03a"),
    ("UNSUBSCRIBE for nothing", b"\xa2\x02\x00\x07"),
    ("PINGREQ with a body", b"\xc0\x01x"),
    ("CONNECT without its name", b"\x10\x02\x00\x00"),
    ("CONNECT cut before the password", CONNECT[:1] + b"\x13" + CONNECT[2:-4]),
    ("CONNECT with a tail", CONNECT[:1] + b"\x18" + CONNECT[2:] + b"x"),
    ("CONNECT with the reserved flag", CONNECT.replace(b"\xc2", b"\xc3")),
    ("CONNECT with a password and no user", CONNECT.replace(b"\xc2", b"\x42")),
    ("CONNECT with a stray will QoS", CONNECT.replace(b"\xc2", b"\xca")),
]


def read(data: bytes, packet_max: int = 1000) -> packets.Packet:
    async def run() -> packets.Packet:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return packets.decode(await packets.read_frame(reader, packet_max))

    return asyncio.run(run())


@pytest.mark.parametrize(("name", "wire", "expected"), READINGS, ids=[r[0] for r in READINGS])
def test_a_packet_is_read(name: str, wire: bytes, expected: packets.Packet) -> None:
    """Each packet that a client may send, from its bytes."""
    assert read(wire) == expected


@pytest.mark.parametrize(("name", "wire", "expected"), READINGS, ids=[r[0] for r in READINGS])
def test_a_packet_cut_anywhere_is_incomplete(
    name: str, wire: bytes, expected: packets.Packet
) -> None:
    """A connection that ends in a packet is told from one that ends between two."""
    for end in range(len(wire)):
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            read(wire[:end])
        assert bool(caught.value.partial) is (end > 0)


@pytest.mark.parametrize(("name", "wire"), MALFORMED, ids=[m[0] for m in MALFORMED])
def test_a_malformed_packet_is_refused(name: str, wire: bytes) -> None:
    """What MQTT 3.1.1 forbids is one kind of error, whatever amqtt makes of it."""
    with pytest.raises(packets.MalformedPacketError):
        read(wire)


def test_a_packet_beyond_the_limit_is_refused_before_it_is_read() -> None:
    """The length alone is enough, so nothing of it is kept."""
    with pytest.raises(packets.MalformedPacketError, match="1001 bytes, 1000"):
        read(b"\x30\xe9\x07")
    with pytest.raises(packets.MalformedPacketError, match="four bytes"):
        read(b"\x30\x80\x80\x80\x80\x01")


def test_another_protocol_level_is_told_from_a_malformed_packet() -> None:
    """MQTT 5 deserves a CONNACK 1; 3.1 is taken as the platform does."""
    with pytest.raises(packets.ProtocolLevelError):
        read(CONNECT.replace(b"MQTT\x04", b"MQTT\x05"))
    old = CONNECT[:1] + b"\x19" + CONNECT[2:].replace(b"\x00\x04MQTT\x04", b"\x00\x06MQIsdp\x03")
    assert isinstance(read(old), packets.Connect)


def test_an_empty_client_identifier_stays_empty() -> None:
    """amqtt would invent one, and a cloud would then refuse a name that nobody sent."""
    wire = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
    assert read(wire) == packets.Connect("", "", Secret(""), 60, True, 14)


def test_answers_are_what_the_standard_says() -> None:
    """The server's packets, byte by byte."""
    assert packets.connack(4) == b"\x20\x02\x00\x04"
    assert packets.connack(0, session_present=True) == b"\x20\x02\x01\x00"
    assert packets.puback(258) == b"\x40\x02\x01\x02"
    assert packets.suback(7, [1, 0x80]) == b"\x90\x04\x00\x07\x01\x80"
    assert packets.unsuback(7) == b"\xb0\x02\x00\x07"
    assert packets.pingresp() == b"\xd0\x00"
    assert packets.publish("t", b"hi") == b"\x30\x05\x00\x01thi"
    assert packets.publish("t", b"", qos=1, packet_id=9, dup=True) == b"\x3a\x05\x00\x01t\x00\x09"


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True), ("a/b", "a/bc", False), ("a/+", "a/b", True), ("a/+", "a", False),
        ("a/+", "a/b/c", False), ("a/#", "a/b/c", True), ("a/#", "a", True), ("#", "x/y", True),
        ("+/b", "a/b", True), ("+/b", "/a/b", False), ("/+/b", "/a/b", True),
    ],
)  # fmt: skip
def test_filters_match_as_the_standard_says(topic_filter: str, topic: str, expected: bool) -> None:
    """MQTT 3.1.1, 4.7."""
    assert packets.matches(topic_filter, topic) is expected


@pytest.mark.parametrize("text", ["", "a#", "a/#/b", "a+", "+a/b", "##"])
def test_an_impossible_filter_is_recognised(text: str) -> None:
    """A wildcard is alone in its level, and # in the last one."""
    assert not packets.valid_filter(text)
