"""What a session at a hub does with twin, methods, messages and time. The client is a list of what
was published; the same over a real connection is in tests/journeys."""

import json
import unittest

from firmware_support import raises
from imprint.clouds import azure_dps
from imprint.errors import WeatherError
from imprint.identity import build
from imprint.net import azure_session, tls

_RECORD = {"hub": "h", "device_id": "d", "registration_id": "d", "id_scope": "s"}
_TWIN = b"$iothub/twin/res/200/?$rid=%d"
_DESIRED = b"$iothub/twin/PATCH/properties/desired/?$version=%d"


class Unit:
    """The application, and what of the unit a session uses."""

    def __init__(self):
        self.store = {}
        self.values = {"lamp": 0, "n": 1}
        self.applied = []
        self.heard = []
        self.answer = None  # of apply

    def feed(self):
        pass

    def free(self):
        pass

    def read(self):
        return self.values

    def apply(self, params):
        self.applied.append(params)
        if params.get("lamp") == 7:
            raise ValueError
        self.values.update(params)
        return self.answer

    def method(self, name, value):
        if name != "echo":
            raise KeyError(name)
        return value * 2

    def hear(self, payload):
        self.heard.append(payload)
        return b"yes" if payload == b"well?" else None

    def properties(self, values):
        return {"odd": str(values["n"] % 2)}


class Client:
    dropped = 0

    def __init__(self):
        self.said = []

    def publish(self, topic, payload, qos=0, pid=None, again=False):
        self.said.append((topic, payload))

    def poll(self, timeout_ms):
        pass

    def subscribe(self, topic, qos):
        pass

    def close(self):
        pass


class Link:
    def is_up(self):
        return True


class Session(azure_session.Session):
    """One whose connection is in memory; `refusal` is what the next one meets."""

    refusal = None

    def connect(self, request, peer):
        if self.refusal:
            raise self.refusal
        del self.todo[:]
        self.logins = getattr(self, "logins", 0) + 1
        self.client = Client()

    def hear_of(self, topic, payload=b""):
        """A downlink comes and is acted on; what is said about it at the next look."""
        del self.client.said[:]
        self._take(topic, payload)
        self.obey()
        self.poll(0)
        return self.client.said


class TestSession(unittest.TestCase):
    def setUp(self):
        self._kept = (tls.context, azure_session.port.ticks_ms, azure_session.port.emit)
        self.now = 1000
        self.events = []
        tls.context = lambda *_: None
        azure_session.port.ticks_ms = lambda: self.now
        azure_session.port.emit = lambda event, **fields: self.events.append((event, fields))

    def tearDown(self):
        tls.context, azure_session.port.ticks_ms, azure_session.port.emit = self._kept

    def session(self, **changes):
        """One that has logged in, and has its twin, of version 4."""
        values = {
            "journey": "azure-dps",
            "id_scope": "s",
            "registration_id": "d",
            "attestation": "symmetric-key",
            "symmetric_key": "AAECAwQFBgcICQoLDA0ODw==",
        }
        values.update(changes)
        self.unit = Unit()
        session = Session(build(values), azure_dps, self.unit)
        session._link = Link()
        session.login(_RECORD)
        session.poll(0)
        self.assertEqual([(b"$iothub/twin/GET/?$rid=1", b"")], session.client.said)
        session.hear_of(_TWIN % 1, b'{"desired":{"$version":4},"reported":{"$version":1}}')
        return session

    def codes(self):
        return [fields["code"] for event, fields in self.events if event == "error"]

    def test_a_change_is_applied_and_reported(self):
        """The next version is applied; what the application then reads of it is reported."""
        session = self.session()
        said = session.hear_of(_DESIRED % 5, b'{"lamp":1,"$version":5}')
        self.assertEqual([{"lamp": 1}], self.unit.applied)
        self.assertEqual(
            [(b"$iothub/twin/PATCH/properties/reported/?$rid=2", b'{"lamp":1}')], said
        )

    def test_what_apply_returns_is_reported(self):
        """An application that knows better says so itself."""
        session = self.session()
        self.unit.answer = {"lamp": {"value": 1, "ac": 200, "av": 5}}
        said = session.hear_of(_DESIRED % 5, b'{"lamp":1,"$version":5}')
        self.assertEqual(self.unit.answer, json.loads(said[0][1]))

    def test_a_refusal_reports_nothing(self):
        """Values that the application does not take are told of on the console alone."""
        session = self.session()
        self.assertEqual([], session.hear_of(_DESIRED % 5, b'{"lamp":7,"$version":5}'))
        self.assertIn(("set", {"id": 5, "code": 400}), self.events)

    def test_a_version_twice(self):
        """A change that was acted on is not acted on again; the twin is asked, to be sure."""
        session = self.session()
        session.hear_of(_DESIRED % 5, b'{"lamp":1,"$version":5}')
        session.hear_of(_DESIRED % 5, b'{"lamp":1,"$version":5}')
        session.hear_of(_TWIN % 3, b'{"desired":{"lamp":1,"$version":5}}')
        self.assertEqual(1, len(self.unit.applied))

    def test_a_version_that_is_missing(self):
        """One was missed: the whole twin is asked for, and is what counts."""
        session = self.session()
        said = session.hear_of(_DESIRED % 7, b'{"lamp":1,"$version":7}')
        self.assertEqual([], self.unit.applied)
        self.assertEqual([(b"$iothub/twin/GET/?$rid=2", b"")], said)
        session.hear_of(_TWIN % 2, b'{"desired":{"lamp":1,"n":5,"$version":7}}')
        self.assertEqual([{"lamp": 1, "n": 5}], self.unit.applied)

    def test_a_late_reply(self):
        """The reply to an earlier question is not the twin."""
        session = self.session()
        session.hear_of(_DESIRED % 7, b'{"lamp":1,"$version":7}')
        session.hear_of(_TWIN % 1, b'{"desired":{"lamp":9,"$version":6}}')
        self.assertEqual([], self.unit.applied)

    def test_a_twin_that_does_not_come(self):
        """429 or no reply at all: asked again, half a minute later."""
        session = self.session()
        session.hear_of(_DESIRED % 9, b'{"lamp":1,"$version":9}')
        self.assertEqual([], session.hear_of(b"$iothub/twin/res/429/?$rid=2"))
        self.now += 30000
        session.poll(0)
        self.assertEqual([(b"$iothub/twin/GET/?$rid=3", b"")], session.client.said)

    def test_a_twin_that_is_too_large(self):
        """It is told of once, and not asked for again: it would be as large."""
        session = self.session()
        session.hear_of(_DESIRED % 9, b'{"lamp":1,"$version":9}')
        session.client.dropped += 1
        session.poll(0)
        session.poll(0)
        self.now += 60000
        session.poll(0)
        self.assertEqual([605], self.codes())
        self.assertEqual(1, len(session.client.said))

    def test_reported_again_and_refused(self):
        """429 is waited for, with the change in hand; 400 drops it and is told of."""
        session = self.session()
        session.hear_of(_DESIRED % 5, b'{"lamp":1,"$version":5}')
        self.assertEqual([], session.hear_of(b"$iothub/twin/res/429/?$rid=2"))
        self.now += 30000
        session.poll(0)
        self.assertEqual(
            [(b"$iothub/twin/PATCH/properties/reported/?$rid=3", b'{"lamp":1}')],
            session.client.said,
        )
        session.hear_of(b"$iothub/twin/res/400/?$rid=3")
        self.now += 60000
        session.poll(0)
        self.assertEqual([606], self.codes())
        self.assertEqual([], session.client.said)

    def test_reported_after_a_reconnect(self):
        """What the hub has not taken when the connection broke is sent in the next one."""
        session = self.session()
        session.hear_of(_DESIRED % 5, b'{"lamp":1,"$version":5}')
        session.login(_RECORD)
        session.poll(0)
        session.hear_of(_TWIN % 3, b'{"desired":{"lamp":1,"$version":5}}')
        self.assertEqual(1, len(self.unit.applied))
        self.assertEqual([b'{"lamp":1}'], [payload for _, payload in session.client.said])

    def test_methods(self):
        """Status and body by what the application does; a body without end is none."""
        session = self.session()
        for name, payload, status, answer in (
            (b"echo", b"[1]", 200, b"[1,1]"),
            (b"echo", b'"a"', 200, b'"aa"'),
            (b"echo", b" ", 400, b"null"),
            (b"echo", b"{", 400, b"null"),
            (b"other", b"1", 404, b"null"),
            (b"echo", b'"' + b"x" * 3000 + b'"', 500, b'"the answer is too large"'),
        ):
            said = session.hear_of(b"$iothub/methods/POST/" + name + b"/?$rid=q", payload)
            self.assertEqual([(b"$iothub/methods/res/%d/?$rid=q" % status, answer)], said)

    def test_messages(self):
        """What `hear` returns goes back, with the message's id to tell to which."""
        session = self.session()
        topic = b"devices/d/messages/devicebound/%24.mid=a%201"
        self.assertEqual([], session.hear_of(topic, b"so"))
        said = session.hear_of(topic, b"well?")
        self.assertEqual([(b"devices/d/messages/events/%24.cid=a%201", b"yes")], said)
        self.assertEqual([b"so", b"well?"], self.unit.heard)

    def test_a_message_outlives_its_connection(self):
        """It was acknowledged: the hub will not send it again. A method's caller is gone."""
        session = self.session()
        session._take(b"devices/d/messages/devicebound/", b"kept")
        session._take(b"$iothub/methods/POST/echo/?$rid=q", b"1")
        session.login(_RECORD)
        session.poll(0)
        self.assertEqual([b"kept"], self.unit.heard)
        self.assertEqual(
            [b"$iothub/twin/GET/?$rid=2"], [topic for topic, _ in session.client.said]
        )

    def test_a_report(self):
        """Values as JSON; id, kind and time of it beside the application's own properties."""
        session = self.session()
        payload = session.report(0x1A2B, {"n": 3})
        session.send(0x1A2B, payload, False)
        topic, body = session.client.said[-1]
        self.assertEqual(b'{"n":3}', body)
        begin = b"devices/d/messages/events/%24.ce=utf-8&%24.ct=application%2Fjson&%24.ctime=20"
        self.assertTrue(topic.startswith(begin))
        self.assertTrue(topic.endswith(b"Z&%24.mid=00001a2b&odd=1"))

    def test_renewal(self):
        """At 4/5 of its life the token is replaced, by a new connection."""
        session = self.session(sas_ttl_s=100)
        self.now += 79000
        session.poll(0)
        self.assertEqual(1, session.logins)
        self.now += 1000
        session.poll(0)
        self.assertEqual(2, session.logins)
        self.now += 80000
        session.poll(0)
        self.assertEqual(3, session.logins)

    def test_a_certificate_needs_no_renewal(self):
        """Without a token there is nothing that ends."""
        session = self.session(attestation="x509", symmetric_key=None)
        self.now += 400_000_000
        session.poll(0)
        self.assertEqual(1, session.logins)

    def test_a_hub_that_refuses(self):
        """DPS is asked before the next attempt, once; then the hub again."""
        session = self.session()
        session.refusal = WeatherError(507)
        with raises(WeatherError, 507):
            session.login(_RECORD)
        self.assertFalse(session.fits(_RECORD))
        session.refusal = WeatherError(302)  # DPS is away
        with raises(WeatherError, 302):
            session.register()
        self.assertTrue(session.fits(_RECORD))

    def test_a_hub_that_is_away(self):
        """A hub that is away for twenty minutes may not be ours any more."""
        session = self.session()
        session.refusal = WeatherError(302)
        for minutes, fits in ((0, True), (19, True), (2, False)):
            self.now += minutes * 60000
            with raises(WeatherError, 302):
                session.login(_RECORD)
            self.assertEqual(fits, session.fits(_RECORD))


if __name__ == "__main__":
    unittest.main()
