"""Azure IoT Hub: what is said and how the answer is read, by the vendor's vectors and our own."""

import unittest

from firmware_support import raises, vectors
from imprint.clouds import azure_edge, azure_hub, azure_sas
from imprint.errors import SetupError, WeatherError
from imprint.identity import build
from imprint.secret import Secret
from imprint.wire import percent

_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
_HUB = "contoso-hub.azure-devices.net"
_NOW = 1893452400  # an hour before the vectors' expiry


def _endpoint(device_id="dev-0001", key=_KEY, **more):
    return azure_hub.Endpoint(_HUB, device_id, key and Secret(key), **more)


class TestTokens(unittest.TestCase):
    def test_vendor_vectors(self):
        """Every token of the vendor's SDK, with and without a policy, byte by byte."""
        for case in vectors("azure")["tokens"]:
            with self.subTest(case["id"]):
                made = azure_sas.token(
                    case["resource"], Secret(case["key"]), case["expires_s"], case["policy"]
                )
                self.assertEqual(case["token"].encode(), made.reveal())

    def test_no_key_shows(self):
        """A token shows itself only as a fingerprint: it is as good as the key for its time."""
        self.assertNotIn("sig", repr(azure_sas.token("r", Secret(_KEY), 1)))

    def test_key_that_is_none(self):
        """What is not 16 to 64 bytes in base64 is refused, and the refusal does not show it."""
        for key in ("", "secret", "AAEC", _KEY[:-1], _KEY + "=", "!" + _KEY, _KEY[:-4] + "\n" * 4,
                    "A" * 88):  # fmt: skip
            with self.subTest(key):
                with raises(SetupError, 103) as caught:
                    azure_sas.unpack(Secret(key))
                self.assertNotIn(key or "nothing", caught.exception.detail)


class TestLogin(unittest.TestCase):
    def test_by_key(self):
        """Straight to a hub: host, client id, user name and token are all its own."""
        request = azure_hub.login(_endpoint(), 8883, _NOW, 3600)
        expected = [case["token"] for case in vectors("azure")["tokens"] if case["id"] == "C1"]
        self.assertEqual(expected[0].encode(), request.password.reveal())
        self.assertEqual(
            (_HUB, 8883, b"dev-0001"), (request.host, request.port, request.client_id)
        )
        self.assertEqual(
            b"contoso-hub.azure-devices.net/dev-0001/"
            b"?api-version=2021-04-12&DeviceClientType=imprint",
            request.username,
        )
        self.assertFalse(request.clean_session)
        self.assertTrue(60 <= request.keepalive_s <= 600)

    def test_by_certificate(self):
        """With a certificate there is no password at all, as the vendor's SDKs do."""
        self.assertIsNone(azure_hub.login(_endpoint(key=None), 8883, _NOW, 3600).password)

    def test_through_a_gateway(self):
        """A gateway is dialled, and its name verified; all else remains the hub's."""
        direct = azure_hub.login(_endpoint(), 8883, _NOW, 3600)
        there = azure_hub.login(_endpoint(gateway="gw.example"), 8883, _NOW, 3600)
        self.assertEqual("gw.example", there.host)
        self.assertEqual(direct.username, there.username)
        self.assertEqual(direct.password.reveal(), there.password.reveal())

    def test_of_a_module(self):
        """A module's client id has both names, its token the longer path."""
        request = azure_hub.login(_endpoint(module_id="mod1"), 8883, _NOW, 3600)
        expected = [case["token"] for case in vectors("azure")["tokens"] if case["id"] == "C2"]
        self.assertEqual(expected[0].encode(), request.password.reveal())
        self.assertEqual(b"dev-0001/mod1", request.client_id)
        self.assertTrue(request.username.startswith(_HUB.encode() + b"/dev-0001/mod1/?"))

    def test_renewal(self):
        """A token is renewed at 4/5 of its life, within what a board's clock can count."""
        self.assertEqual(2880, azure_hub.renew_after_s(_endpoint(), 3600))
        self.assertEqual(48, azure_hub.renew_after_s(_endpoint(), 60))
        self.assertIsNone(azure_hub.renew_after_s(_endpoint(key=None), 3600))
        longest = azure_hub.renew_after_s(_endpoint(), 31536000)
        self.assertTrue(86400 < longest < 0x1FFFFFFF // 1000)

    def test_refusals(self):
        """A hub that does not let us in may do so later, or another may."""
        for connack, kind, code in (
            (1, SetupError, 501),
            (2, SetupError, 501),
            (3, WeatherError, 503),
            (4, WeatherError, 507),
            (5, WeatherError, 507),
            (77, WeatherError, 507),
        ):
            error = azure_hub.refused(None, connack)
            self.assertIs(kind, type(error))
            self.assertEqual((code, connack), (error.code, error.number))


class TestTopics(unittest.TestCase):
    def test_telemetry_vectors(self):
        """The vendor's SDK and we give the same properties the same form."""
        for case in vectors("azure")["telemetry"]:
            with self.subTest(case["id"]):
                point = _endpoint(case["device_id"], module_id=case.get("module_id"))
                topic = azure_hub.telemetry_topic(point, azure_hub.bag(case["properties"]))
                begin, _, bag = topic.rpartition(b"/")
                expected, _, theirs = case["topic"].encode().rpartition(b"/")
                self.assertEqual(expected, begin)
                self.assertEqual(sorted(theirs.split(b"&")), sorted(bag.split(b"&")))

    def test_subscriptions(self):
        """Not more than the five that are allowed; messages alone are kept for us."""
        topics = azure_hub.subscriptions(_endpoint())
        self.assertEqual(
            (
                (b"$iothub/twin/res/#", 0),
                (b"$iothub/twin/PATCH/properties/desired/#", 0),
                (b"$iothub/methods/POST/#", 0),
                (b"devices/dev-0001/messages/devicebound/#", 1),
            ),
            topics,
        )
        self.assertEqual(topics[:3], azure_hub.subscriptions(_endpoint(module_id="m")))

    def test_requests(self):
        """The topics of twin and method, as the vendor's SDK has them."""
        self.assertEqual(b"$iothub/twin/GET/?$rid=5", azure_hub.twin_get(5))
        self.assertEqual(
            b"$iothub/twin/PATCH/properties/reported/?$rid=6", azure_hub.twin_report(6)
        )
        self.assertEqual(b"$iothub/methods/res/200/?$rid=3", azure_hub.method_reply(b"3", 200))

    def test_quote_and_back(self):
        """Whatever was encoded comes back."""
        for text in ("", "a b&c=d%", "\u043a\u043b\u044e\u0447", "~-._", "+/#?"):
            self.assertEqual(text, percent.unquote(percent.quote(text).encode()))


class TestDownlink(unittest.TestCase):
    def check(self, expected, topic, payload=b""):
        self.assertEqual(expected, azure_hub.downlink(_endpoint(), topic, payload))

    def test_twin_replies(self):
        """A reply has its request's id and a status; the order of its pairs is not ours."""
        self.check(("twin", 5, 200, b"{}"), b"$iothub/twin/res/200/?$rid=5", b"{}")
        self.check(("twin", 6, 204, b""), b"$iothub/twin/res/204/?$rid=6&$version=9")
        self.check(("twin", 6, 429, b""), b"$iothub/twin/res/429/?$version=9&$rid=6")

    def test_desired(self):
        """A change has a version and names; a null is a name that was deleted."""
        self.check(
            ("desired", 7, {"lamp": 1, "old": None}),
            b"$iothub/twin/PATCH/properties/desired/?$version=7",
            b'{"lamp":1,"old":null,"$version":7}',
        )

    def test_unusable(self):
        """What is not JSON, not an object, or has no version is told of, and is no change."""
        topic = b"$iothub/twin/PATCH/properties/desired/?$version=7"
        for payload in (b"", b"{", b"[]", b"{" + b" " * 4096 + b"}"):
            self.check(("unusable", "not a JSON object"), topic, payload)
        for payload in (b"{}", b'{"$version":"7"}', b'{"$version":true}'):
            self.check(("unusable", "no $version"), topic, payload)

    def test_whole_twin(self):
        """Of a whole twin only what is desired counts."""
        self.assertEqual(
            ("desired", 3, {"lamp": 1}),
            azure_hub.twin(b'{"desired":{"lamp":1,"$version":3},"reported":{"$version":1}}'),
        )
        for payload in (b"{}", b'{"desired":[]}', b'{"desired":null}'):
            self.assertEqual(("unusable", "no desired properties"), azure_hub.twin(payload))
        self.assertEqual(("unusable", "not a JSON object"), azure_hub.twin(b"null"))

    def test_method(self):
        """A method has a name, and an id that goes back as it came."""
        self.check(
            ("method", "blink it", b"a%2Fb", b"[1]"),
            b"$iothub/methods/POST/blink%20it/?$rid=a%2Fb",
            b"[1]",
        )

    def test_message(self):
        """A message from the cloud is known by its id, in either spelling."""
        begin = b"devices/dev-0001/messages/devicebound/"
        self.check(("message", "id 1", b"hi"), begin + b"%24.to=x&%24.mid=id%201", b"hi")
        self.check(("message", "7", b"hi"), begin + b"$.mid=7&k=&flag", b"hi")
        self.check(("message", "", b"hi"), begin, b"hi")

    def test_other(self):
        """What is for another device, or not as documented, is passed by."""
        for topic in (
            b"",
            b"devices/dev-0002/messages/devicebound/",
            b"$iothub/twin/res/",
            b"$iothub/twin/res/x/?$rid=1",
            b"$iothub/twin/res/200/?$rid=x",
            b"$iothub/twin/res/200/",
            b"$iothub/methods/POST/m/",
            b"$iothub/methods/POST/%ff/?$rid=1",
            b"$iothub/methods/POST/%zz/?$rid=1",
            b"$iothub/methods/POST/%-1/?$rid=1",
            b"devices/dev-0001/messages/devicebound/%24.mid=%ff",
        ):
            self.check(("other", topic), topic)


_STRING = "HostName=%s;DeviceId=dev-0001;" % _HUB


def _burned(text, **more):
    values = {"journey": "azure-edge", "connection_string": text}
    values.update(more)
    return build(values)


class TestConnectionString(unittest.TestCase):
    def test_by_key(self):
        """A key's "=" at its end belongs to it."""
        text = _STRING + "SharedAccessKey=" + _KEY + ";GatewayHostName=gw.example"
        found = azure_edge.endpoint(_burned(text), None)
        self.assertEqual(
            (_HUB, "gw.example", "dev-0001"), (found.hub, found.host, found.client_id)
        )
        self.assertEqual(_KEY.encode(), found.key.reveal())
        self.assertEqual("devices/dev-0001", found.path)

    def test_order_is_free(self):
        """The pairs may stand in any order, and a gateway's name may be left out."""
        text = "SharedAccessKey=" + _KEY + ";DeviceId=d;HostName=h;ModuleId=m"
        found = azure_edge.endpoint(_burned(text), None)
        self.assertEqual(("h", "h", "d/m"), (found.hub, found.host, found.client_id))
        self.assertEqual("devices/d/modules/m", found.path)

    def test_by_certificate(self):
        """x509=true wants certificate and key beside the identity."""
        both = {"client_cert_sha256": "0" * 64, "client_key_sha256": "0" * 64}
        self.assertIsNone(azure_edge.endpoint(_burned(_STRING + "x509=true", **both), None).key)
        with raises(SetupError, 103):
            azure_edge.endpoint(_burned(_STRING + "x509=true"), None)

    def test_refused(self):
        """Each way to be wrong is told apart, and no value is shown."""
        key = "SharedAccessKey=" + _KEY
        for text, detail in (
            ("", "has a part that is not key=value"),
            (_STRING + key + ";", "has a part that is not key=value"),
            (_STRING + ";" + key, "has a part that is not key=value"),
            (_STRING + "Colour=red;" + key, "has a key that is not known"),
            ("Hostname=h;DeviceId=d;" + key, "has a key that is not known"),
            ("HostName=h;DeviceID=d;" + key, "has a key that is not known"),
            ("HostName=h; DeviceId=d;" + key, "has a key that is not known"),
            (_STRING + "DeviceId=e;" + key, "has DeviceId twice"),
            ("HostName=;DeviceId=d;" + key, "has HostName without a value"),
            ("DeviceId=d;" + key, "has no HostName"),
            ("HostName=h;" + key, "has no DeviceId"),
            ("HostName=h h;DeviceId=d;" + key, "has a HostName that cannot be"),
            ("HostName=h;DeviceId=d/e;" + key, "has a DeviceId that cannot be"),
            (_STRING + "SharedAccessKeyName=n;" + key, "has SharedAccessKeyName, not a device's"),
            (_STRING + "SharedAccessSignature=s", "has SharedAccessSignature, not a device's"),
            (_STRING[:-1], "has not one of SharedAccessKey and x509"),
            (_STRING + "x509=true;" + key, "has not one of SharedAccessKey and x509"),
            (_STRING + "x509=false", "has x509 other than true"),
            (_STRING + "ModuleId=m;x509=true", "is a module's, which takes no x509"),
        ):  # fmt: skip
            with self.subTest(text):
                with raises(SetupError, 103) as caught:
                    azure_edge.endpoint(_burned(text), None)
                self.assertEqual("connection_string " + detail, caught.exception.detail)

    def test_key_that_is_none(self):
        """A key is looked at when it is read, not at the first login."""
        with raises(SetupError, 103):
            azure_edge.endpoint(_burned(_STRING + "SharedAccessKey=c2hvcnQ="), None)
