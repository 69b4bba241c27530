"""The MQTT client against scripted brokers: what it says, and what it makes of any answer.

The stream is in memory; the same client over real TLS is in tests/journeys.
"""

import gc
import unittest

from firmware_support import raises
from imprint.errors import ProtocolError, SetupError
from imprint.net import mqtt
from imprint.secret import Secret
from imprint.wire.mqtt import ConnectRequest
from umqtt.simple import MQTTException

_CONNACK = b"\x20\x02\x00\x00"


class Script:
    """Stands where `net.stream.Stream` does: what the broker will say, and what it was told."""

    def __init__(self, answers):
        self._left = memoryview(answers)  # a slice of it copies nothing
        self.said = b""
        self.sent_at = 0
        self.closed = False

    def __call__(self, host, port, root_ca, timeout_ms):
        self.dialled = (host, port, root_ca)
        return self

    def write(self, data, length=None):
        self.said += bytes(data)
        self.sent_at = mqtt.port.ticks_ms()

    def read(self, length):
        if len(self._left) < length:
            raise ProtocolError(322 if not self._left else 320)  # silent, closed
        data, self._left = self._left[:length], self._left[length:]
        return bytearray(data)

    def readinto(self, view):
        view[:] = self.read(len(view))

    def wait(self, timeout_ms):
        return bool(self._left)

    def close(self):
        self.closed = True


def connected(answers, keepalive_s=60):
    """(client, script, messages) after CONNECT, with what was said so far forgotten."""
    messages = []
    script = Script(_CONNACK + answers)
    mqtt.Stream = script
    request = ConnectRequest("h", 8883, b"cid", b"user", Secret(b"pass"), keepalive_s)
    client = mqtt.Client(request, b"CA", lambda topic, data: messages.append((topic, data)), 3000)
    client.connect()
    script.hello, script.said = script.said, b""
    return client, script, messages


class TestConnect(unittest.TestCase):
    def test_packet(self):
        """CONNECT as MQTT 3.1.1 section 3.1 lays it out, in one write, to the host asked for."""
        _, script, _ = connected(b"")
        self.assertEqual(
            b"\x10\x1b\x00\x04MQTT\x04\xc2\x00\x3c\x00\x03cid\x00\x04user\x00\x04pass",
            script.hello,
        )
        self.assertEqual(("h", 8883, b"CA"), script.dialled)

    def test_session_kept(self):
        """connect() is True when the broker kept the session (3.2.2.2), and asks it to."""
        mqtt.Stream = script = Script(b"\x20\x02\x01\x00")
        request = ConnectRequest("h", 1, b"c", b"u", Secret(b"p"), 60, False)
        self.assertTrue(mqtt.Client(request, b"", print, 1).connect())
        self.assertEqual(0xC0, script.said[9])

    def test_no_password(self):
        """Who proves itself by a certificate sends no password, and no flag for one (3.1.2.9)."""
        mqtt.Stream = script = Script(_CONNACK)
        request = ConnectRequest("h", 1, b"cid", b"user", None, 60)
        mqtt.Client(request, b"", print, 1).connect()
        self.assertEqual(
            b"\x10\x15\x00\x04MQTT\x04\x82\x00\x3c\x00\x03cid\x00\x04user", script.said
        )

    def test_refused(self):
        """A CONNACK other than 0 raises umqtt.simple's own exception with the code."""
        mqtt.Stream = Script(b"\x20\x02\x00\x04")
        request = ConnectRequest("h", 1, b"c", b"u", Secret(b"p"), 60)
        try:
            mqtt.Client(request, b"", print, 1).connect()
        except MQTTException as error:
            self.assertEqual((4,), error.args)
        else:
            self.fail("was not refused")

    def test_bad_connack(self):
        """Anything else in the CONNACK's place is garbage, also with asserts compiled out."""
        for answer in (b"\0\0\0\0", b"\x20\x03\0\0", b"\x20\x02\x02\0", b"HTTP"):
            mqtt.Stream = Script(answer)
            request = ConnectRequest("h", 1, b"c", b"u", Secret(b"p"), 60)
            with raises(ProtocolError, 321):
                mqtt.Client(request, b"", print, 1).connect()

    def test_short_connack(self):
        """A broker that closes in the middle of the CONNACK closed, and was not silent."""
        mqtt.Stream = Script(b"\x20\x02")
        request = ConnectRequest("h", 1, b"c", b"u", Secret(b"p"), 60)
        with raises(ProtocolError, 320):
            mqtt.Client(request, b"", print, 1).connect()


class TestTaking(unittest.TestCase):
    def test_a_topic_that_is_too_long(self):
        """It is drained and acknowledged with its payload: one message must not end them all."""
        topic = b"t" * 1025
        packet = b"\x32" + b"\x8a\x08" + len(topic).to_bytes(2, "big") + topic + b"\x00\x09hello"
        self.assertEqual(1034, len(packet) - 3)
        client, script, messages = connected(packet + b"\x30\x05\x00\x01xab")
        client.wait_msg()
        client.wait_msg()
        self.assertEqual([(b"x", b"ab")], messages)
        self.assertEqual(b"\x40\x02\x00\x09", script.said)
        self.assertEqual(1, client.dropped)

    def test_what_is_not_taken_in(self):
        """It is not acknowledged, so that the broker sends it again."""
        client, script, _ = connected(b"\x32\x07\x00\x01x\x00\x09ab")
        client.set_callback(lambda topic, payload: False)
        client.wait_msg()
        self.assertEqual(b"", script.said)


class TestPublish(unittest.TestCase):
    def test_qos_0(self):
        """QoS 0 has no packet id and waits for nothing."""
        client, script, _ = connected(b"")
        client.publish(b"t", b"hello")
        self.assertEqual(b"\x30\x08\x00\x01thello", script.said)

    def test_qos_1(self):
        """QoS 1 returns at its PUBACK; what comes before it is dealt with."""
        client, script, messages = connected(b"\x30\x05\x00\x01xab\x40\x02\x12\x34")
        client.publish(b"t", b"hello", qos=1, pid=0x1234)
        self.assertEqual(b"\x32\x0a\x00\x01t\x12\x34hello", script.said)
        self.assertEqual([(b"x", b"ab")], messages)

    def test_again(self):
        """A repetition has the same packet id and DUP (3.3.1.1)."""
        client, script, _ = connected(b"\x40\x02\x12\x34")
        client.publish(b"t", b"hello", qos=1, pid=0x1234, again=True)
        self.assertEqual(b"\x3a\x0a\x00\x01t\x12\x34hello", script.said)

    def test_other_puback(self):
        """The acknowledgement of another message does not count."""
        client, _, _ = connected(b"\x40\x02\x00\x07")
        with raises(ProtocolError, 322):
            client.publish(b"t", b"m", qos=1, pid=8)

    def test_long(self):
        """The remaining length takes a second byte from 128 on (2.2.3)."""
        client, script, _ = connected(b"")
        client.publish(b"t", b"m" * 125)
        self.assertEqual(b"\x30\x80\x01\x00\x01t", script.said[:6])

    def test_packet_ids(self):
        """Own packet ids go from 1 to 65535 and never become 0."""
        client, script, _ = connected(b"\x40\x02\xff\xff\x40\x02\x00\x01")
        client.pid = 65534
        client.publish(b"t", b"", qos=1)
        client.publish(b"t", b"", qos=1)
        self.assertEqual(b"\x32\x05\x00\x01t\xff\xff\x32\x05\x00\x01t\x00\x01", script.said)


class TestSubscribe(unittest.TestCase):
    def test_granted(self):
        """SUBSCRIBE as section 3.8 lays it out."""
        client, script, _ = connected(b"\x90\x03\x00\x01\x00")
        client.subscribe(b"a/b")
        self.assertEqual(b"\x82\x08\x00\x01\x00\x03a/b\x00", script.said)

    def test_refused(self):
        """A SUBACK with 0x80 is a refusal that names the topic."""
        client, _, _ = connected(b"\x90\x03\x00\x01\x80")
        with raises(SetupError, 504):
            client.subscribe(b"a/b")


class TestTakeIn(unittest.TestCase):
    def test_qos_1_is_acknowledged(self):
        """A downlink of QoS 1 is handed over, then acknowledged with its packet id."""
        client, script, messages = connected(b"\x32\x06\x00\x01t\x00\x09m")
        self.assertTrue(client.poll(0))
        self.assertEqual([(b"t", b"m")], messages)
        self.assertEqual(b"\x40\x02\x00\x09", script.said)

    def test_nothing(self):
        """Nothing to read is no event and no error."""
        client, _, messages = connected(b"")
        self.assertFalse(client.poll(0))
        self.assertEqual(None, client.check_msg())
        self.assertEqual([], messages)

    def test_too_large(self):
        """A downlink that there is no room for is drained, acknowledged, dropped and counted."""
        gc.collect()  # for the test's own copies of it
        body = b"\x00\x01t\x00\x09" + b"m" * 4200
        size = bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
        client, script, messages = connected(b"\x32" + size + body + b"\x30\x04\x00\x01tm")
        client.poll(0)
        client.poll(0)
        self.assertEqual([(b"t", b"m")], messages)
        self.assertEqual(b"\x40\x02\x00\x09", script.said)
        self.assertEqual(1, client.dropped)

    def test_garbage(self):
        """What is no packet for a client is garbage: no loop, no other exception."""
        for packet in (
            b"\x00\x00",
            b"\x10\x00",
            b"\x30\x00",
            b"\x30\x02\x00\x00",
            b"\x30\x03\x00\x05t",
            b"\x34\x06\x00\x01t\x00\x01m",
            b"\x32\x03\x00\x01t",
            b"\x30\xff\xff\xff\xff\x01",
            b"\x40\x03\x00\x01\x00",
            b"\x90\x02\x00\x01",
            b"\xd0\x01\x00",
        ):
            client, _, messages = connected(packet)
            with raises(ProtocolError, 321):
                client.poll(0)
            self.assertEqual([], messages)

    def test_cut_anywhere(self):
        """A connection that ends inside a packet, wherever, is closed or silent, never garbage."""
        packet = b"\x32\x06\x00\x01t\x00\x09m"
        for cut in range(1, len(packet)):
            client, _, messages = connected(packet[:cut])
            with self.assertRaises(ProtocolError):
                client.poll(0)
            self.assertEqual([], messages)


class TestKeepalive(unittest.TestCase):
    def setUp(self):
        self._ticks_ms = mqtt.port.ticks_ms
        mqtt.port.ticks_ms = lambda: self.now
        self.now = 0

    def tearDown(self):
        mqtt.port.ticks_ms = self._ticks_ms

    def test_ping(self):
        """After three quarters of the keepalive without a word of ours it pings, not before."""
        client, script, _ = connected(b"", 100)
        self.now = 75000
        client.poll(0)
        self.assertEqual(b"", script.said)
        self.now = 75001
        client.poll(0)
        self.assertEqual(b"\xc0\x00", script.said)

    def test_answered(self):
        """A ping that is answered is forgotten."""
        client, script, _ = connected(b"\xd0\x00", 100)
        self.now = 75001
        client.poll(0)
        self.now = 90000
        client.poll(0)
        self.assertEqual(b"\xc0\x00", script.said)

    def test_unanswered(self):
        """A ping without an answer within the bound is a silent peer."""
        client, _, _ = connected(b"", 100)
        self.now = 75001
        client.poll(0)
        self.now += 3001
        with raises(ProtocolError, 322):
            client.poll(0)


if __name__ == "__main__":
    unittest.main()
