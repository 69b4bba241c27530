"""EnOS over MQTT: what is said and how the answer is read, by the vendor's SDKs and documents."""

import json
import unittest

from firmware_support import raises, vectors
from imprint.clouds import enos_gateway, enos_mqtt
from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.identity import build

_PK = "KV315idW"
_DK = "tPbZGCdmaE"
_RECORD = {"product_key": _PK, "device_key": _DK, "device_secret": "M3yy874uGY8INjEGddTR"}
_INFO = {"assetId": "a", "productKey": _PK, "deviceKey": _DK, "deviceSecret": "issued1"}
_ACTIVATION = b"/ext/session/KV315idW/tPbZGCdmaE/thing/activate/info"


def _identity(**changes):
    values = {
        "journey": "enos-gateway",
        "product_key": _PK,
        "device_key": _DK,
        "secure_mode": 2,
        "device_secret": "M3yy874uGY8INjEGddTR",
        "host": "mqtt.example",
    }
    values.update(changes)
    return build(values)


def _dynamic():
    return _identity(secure_mode=3, device_secret=None, product_secret="PrOdSeCrEt01")


def _push(params, msg_id="1"):
    return json.dumps({"id": msg_id, "method": "thing.activate.info", "params": params}).encode()


class TestSign(unittest.TestCase):
    def test_vectors(self):
        """Every signature that the vendor's SDKs print, in upper case, by all three digests."""
        known = vectors("enos")
        for case in known["login"] + known["subdevice"]:
            names = (case["client_id"], case["product_key"], case["device_key"])
            actual = enos_mqtt.sign(
                *names, case["timestamp"], case["secret"].encode(), case["method"]
            )
            self.assertEqual(case["sign"].upper(), actual)

    def test_connects(self):
        """The password of every CONNECT that the vendor's Python SDK makes."""
        for case in vectors("enos")["connect"]:
            client_id, words, _ = case["client_id"].split("|")
            words = dict([word.split("=") for word in words.split(",")])
            device_key, _, product_key = case["username"].partition("&")
            method = words["signmethod"][4:]  # without "hmac", which it is not
            actual = enos_mqtt.sign(
                client_id, product_key, device_key, words["timestamp"],
                case["secret"].encode(), method,
            )  # fmt: skip
            self.assertEqual(case["password"].upper(), actual)


class TestLogin(unittest.TestCase):
    def test_static(self):
        """Mode 2: client id, user name and password as the vendor has them, digits in capitals."""
        request = enos_mqtt.login(_identity(), None, 1548753362502)
        expected = b"tPbZGCdmaE|securemode=2,signmethod=sha256,timestamp=1548753362502|"
        self.assertEqual(expected, request.client_id)
        self.assertEqual(b"tPbZGCdmaE&KV315idW", request.username)
        expected = b"0CF3017A9BF41C66219DA4BFFE7A2D3E842BBC5A089F77FE93148957E314F5FF"
        self.assertEqual(expected, request.password.reveal())
        self.assertEqual(("mqtt.example", 18883, True), (
            request.host, request.port, request.clean_session,
        ))  # fmt: skip
        self.assertTrue(60 <= request.keepalive_s <= 300)

    def test_dynamic(self):
        """Mode 3 signs with the product's secret, until this very device was issued its own."""
        unit = _dynamic()
        request = enos_mqtt.login(unit, None, 1548753362502)
        self.assertIn(b"securemode=3", request.client_id)
        expected = b"691033B29AE7D9B5D76242CBC0C053EE8665D155FFCFB4683764C873A9E3C730"
        self.assertEqual(expected, request.password.reveal())
        request = enos_mqtt.login(unit, _RECORD, 1548753362502)
        self.assertIn(b"securemode=2", request.client_id)
        self.assertEqual(
            b"0CF3017A9BF41C66219DA4BFFE7A2D3E842BBC5A089F77FE93148957E314F5FF",
            request.password.reveal(),
        )
        other = dict(_RECORD)
        other["device_key"] = "another"
        self.assertTrue(enos_mqtt.needs_activation(unit, other))
        self.assertFalse(enos_mqtt.needs_activation(_identity(), None))

    def test_refused(self):
        """Each CONNACK has its error; 5 says first what is likeliest."""
        cases = ((1, SetupError, 501), (2, SetupError, 501), (4, SetupError, 502))
        for connack, kind, code in cases + ((3, WeatherError, 503), (9, SetupError, 502)):
            error = enos_mqtt.refused(connack, False)
            self.assertEqual((kind, code, connack), (type(error), error.code, error.number))
        self.assertEqual(510, enos_mqtt.refused(5, False).code)
        self.assertEqual(511, enos_mqtt.refused(5, True).code)


class TestActivation(unittest.TestCase):
    def test_pushed(self):
        """The pushed secret is a record for the vault; the reply echoes the id."""
        record, topic, reply = enos_mqtt.activation(_dynamic(), _ACTIVATION, _push(_INFO, "77"))
        expected = {"product_key": _PK, "device_key": _DK, "device_secret": "issued1"}
        self.assertEqual(expected, record)
        self.assertEqual(_ACTIVATION + b"_reply", topic)
        expected = {"id": "77", "code": 200, "data": {}, "message": ""}
        self.assertEqual(expected, json.loads(reply))
        self.assertTrue(enos_mqtt.activation(_dynamic(), b"/sys/a/b/c", _push(_INFO)) is None)

    def test_damaged(self):
        """What is no activation is asked for again."""
        whole = _push(_INFO)
        for payload in (b"", whole[:-20], b"[]", _push(None), _push({"productKey": _PK})):
            try:
                enos_mqtt.activation(_dynamic(), _ACTIVATION, payload)
            except (ProtocolError, SetupError) as error:
                self.assertIn(error.code, (412, 413))
            else:
                self.fail(payload)
        for secret in ("", "a b", "x" * 129, 5, None):
            info = dict(_INFO)
            info["deviceSecret"] = secret
            with raises(ProtocolError, 412):
                enos_mqtt.activation(_dynamic(), _ACTIVATION, _push(info))

    def test_foreign(self):
        """Another device's secret is not taken."""
        for name in ("productKey", "deviceKey"):
            info = dict(_INFO)
            info[name] = "other"
            with raises(SetupError, 413):
                enos_mqtt.activation(_dynamic(), _ACTIVATION, _push(info))


class TestRequests(unittest.TestCase):
    def _sent(self, made):
        tail, params = made
        sent = json.loads(enos_mqtt.request(7, tail, params))
        self.assertEqual(("7", "1.1"), (sent["id"], sent["version"]))
        self.assertEqual(tail.replace("/", "."), sent["method"])
        return tail, sent["params"]

    def test_post(self):
        """A report is what the vendor's Python SDK sends."""
        expected = vectors("enos")["post"]
        entry = enos_gateway.entry(None, {"temp": 1.02}, 1548753362502)
        self.assertEqual(expected, json.loads(enos_mqtt.request(1, enos_gateway.POST, entry)))

    def test_all(self):
        """Events, attributes and tags are each at their topic."""
        cases = (
            (enos_mqtt.event("alarm", {"level": 2}, 5),
             "thing/event/alarm/post", {"events": {"level": 2}, "time": 5}),
            (enos_mqtt.attributes({"a": 1}), "thing/attribute/update", {"attributes": {"a": 1}}),
            (enos_mqtt.tags({"k": "v"}), "thing/tag/update", [{"tagKey": "k", "tagValue": "v"}]),
        )  # fmt: skip
        for made, tail, params in cases:
            self.assertEqual((tail, params), self._sent(made))

    def test_topics(self):
        """Topics name the product first."""
        unit = _identity()
        self.assertEqual(b"/sys/KV315idW/tPbZGCdmaE/a/b", enos_mqtt.topic(unit, "a/b"))
        self.assertEqual(b"/ext/session/KV315idW/tPbZGCdmaE/x", enos_mqtt.session_topic(unit, "x"))


class TestDownlink(unittest.TestCase):
    def _read(self, tail, params, session=False):
        head = b"/ext/session" if session else b"/sys"
        payload = json.dumps({"id": "3", "params": params}).encode()
        return enos_mqtt.downlink(head + b"/p/d/" + tail, payload)

    def test_commands(self):
        """Set, get and services, of this unit and of its sub-devices alike."""
        service = b"thing/service/"
        self.assertEqual(
            ("set", "p", "d", "3", {"a": 1}), self._read(service + b"measurepoint/set", {"a": 1})
        )
        self.assertEqual(
            ("get", "p", "d", "3", ["a"]), self._read(service + b"measurepoint/get", ["a"])
        )
        self.assertEqual(("service", "p", "d", "3", {}, "boot"), self._read(service + b"boot", {}))
        self.assertEqual(("malformed", "3"), self._read(service + b"boot", 5))
        self.assertEqual(("malformed", "3"), self._read(service + b"measurepoint/set", []))
        self.assertEqual(("other", "3"), self._read(b"ota/device/upgrade", {}))

    def test_states(self):
        """Enable, disable and delete, of sub-devices in a list, of the unit by its topic."""
        params = [{"productKey": "sp", "deviceKey": "sd"}, 5]
        self.assertEqual(
            ("state", "3", "disable", [("sp", "sd")]),
            self._read(b"combine/disable", params, session=True),
        )
        self.assertEqual(("state", "3", "delete", [("p", "d")]), self._read(b"thing/delete", {}))
        self.assertEqual(("malformed", "3"), self._read(b"combine/enable", {}, session=True))

    def test_replies(self):
        """A reply names the request's topic and id; one that is damaged is none."""
        payload = b'{"id":"9","code":742,"message":"no","data":[1]}'
        self.assertEqual(
            ("reply", "combine/login", "9", 742, "no", [1]),
            enos_mqtt.downlink(b"/ext/session/p/d/combine/login_reply", payload),
        )
        for damaged in (b"", payload[:-5], b"[]", b'{"id":"9","code":"742"}', b"\xff"):
            self.assertEqual(
                ("none",), enos_mqtt.downlink(b"/sys/p/d/thing/topo/add_reply", damaged)
            )

    def test_garbage(self):
        """Whatever comes, it ends no session."""
        self.assertEqual(("malformed", ""), enos_mqtt.downlink(b"/sys/p/d/thing/service/x", b"{"))
        for topic in (b"", b"/", b"/sys/p/d", b"\xff/sys", b"/sys/p", b"/other/p/d/e"):
            self.assertEqual(("none",), enos_mqtt.downlink(topic, b"{}"))

    def test_report_refused(self):
        """Reply codes: accepted, of the device, of the moment, of the report."""
        self.assertTrue(enos_mqtt.report_refused(200, "") is None)
        for code, kind, ours in (
            (705, SetupError, 603), (723, SetupError, 603), (429, WeatherError, 602),
            (500, WeatherError, 602), (1220, SetupError, 601), (460, SetupError, 601),
        ):  # fmt: skip
            error = enos_mqtt.report_refused(code, "said")
            self.assertEqual((kind, ours, code), (type(error), error.code, error.number))


if __name__ == "__main__":
    unittest.main()
