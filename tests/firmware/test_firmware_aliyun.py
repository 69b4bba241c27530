"""Aliyun: what is said and how the answer is read, by the vendor's vectors and by our own."""

import json
import unittest

from firmware_support import raises, vectors
from imprint.clouds import aliyun, aliyun_registration
from imprint.errors import SetupError, WeatherError
from imprint.identity import build

_DN = "device1"
_PK = "al123456789"
_SYS = b"/sys/al123456789/device1/thing/"
_TOKEN = {
    "product_key": _PK,
    "device_name": _DN,
    "client_id": "CID0001",
    "device_token": "TOKEN0001",
}
_SECRET = {"product_key": _PK, "device_name": _DN, "device_secret": "secret"}


def _identity(**changes):
    values = {
        "journey": "aliyun",
        "product_key": _PK,
        "device_name": _DN,
        "registration": "regnwl",
        "product_secret": "h1nQFYPZS0mW2352",
    }
    values.update(changes)
    return build(values)


def _rand_of(number):
    return lambda n: number.to_bytes(n, "big")


def _parts(client_id):
    # ("cid", the extension's pairs in no order): the vendor's own code orders them differently.
    cid, extension, _ = client_id.split("|")
    return cid, set(extension.split(","))


class TestRegistration(unittest.TestCase):
    def test_vendor_vectors(self):
        """Client id, username and password of every registration vector."""
        for case in vectors("aliyun")["vectors"]:
            if case["kind"] not in ("regnwl", "register"):
                continue
            with self.subTest(case["id"]):
                cid, pairs = _parts(case["client_id"])
                changes = {
                    "client_id": cid,
                    "device_name": case["device_name"],
                    "registration": case["kind"],
                    "sign_method": case["method"],
                    "secure_mode": -2 if "securemode=-2" in pairs else 2,
                }
                if "instanceId=iot-060a0bgd" in pairs:
                    changes["instance_id"] = "iot-060a0bgd"
                unit = _identity(**changes)
                request = aliyun_registration.request(unit, _rand_of(int(case["random"])))
                self.assertEqual((cid, pairs), _parts(request.client_id.decode()))
                self.assertEqual(case["username"].encode(), request.username)
                self.assertEqual(case["password"].lower().encode(), request.password.reveal())

    def test_wire(self):
        """The documents' own order of the pairs, byte by byte (the seed's example)."""
        unit = _identity(client_id="device1", sign_method="hmacsha1")
        request = aliyun_registration.request(unit, _rand_of(123))
        self.assertEqual(
            b"device1|securemode=2,authType=regnwl,random=123,signmethod=hmacsha1|",
            request.client_id,
        )
        self.assertEqual(8883, request.port)
        self.assertTrue(request.clean_session)
        self.assertTrue(30 <= request.keepalive_s <= 1200)

    def test_client_id_by_default(self):
        """Without one burned it is made of the two names."""
        request = aliyun_registration.request(_identity(), _rand_of(1))
        self.assertEqual("al123456789.device1", _parts(request.client_id.decode())[0])

    def test_random_is_used(self):
        """Each registration has its own random number, from the source that is given."""
        asked = []

        def rand(n):
            asked.append(n)
            return b"\xff" * n

        request = aliyun_registration.request(_identity(), rand)
        self.assertIn(b"random=%d" % (256 ** asked[0] - 1), request.client_id)

    def test_hosts(self):
        """Old public instances by region, newer ones by instance, and a name that overrides."""
        for expected, changes in (
            ("al123456789.iot-as-mqtt.cn-shanghai.aliyuncs.com", {}),
            ("al123456789.iot-as-mqtt.us-west-1.aliyuncs.com", {"region": "us-west-1"}),
            ("iot-060a0bgd.mqtt.iothub.aliyuncs.com", {"instance_id": "iot-060a0bgd"}),
            ("broker.example", {"instance_id": "iot-060a0bgd", "host": "broker.example"}),
        ):
            unit = _identity(**changes)
            self.assertEqual(expected, aliyun.host(unit))
            self.assertEqual(expected, aliyun_registration.request(unit, _rand_of(1)).host)
            self.assertEqual(expected, aliyun.login(unit, _TOKEN).host)

    def test_needed(self):
        """Registration is for units that hold nothing; a burned triple never registers."""
        unit = _identity()
        self.assertTrue(aliyun.needs_registration(unit, None))
        self.assertTrue(aliyun.needs_registration(unit, {}))
        self.assertFalse(aliyun.needs_registration(unit, _TOKEN))
        self.assertFalse(aliyun.needs_registration(unit, _SECRET))
        triple = _identity(registration="none", device_secret="secret")
        self.assertFalse(aliyun.needs_registration(triple, None))

    def test_needed_for_a_new_identity(self):
        """A credential that was issued to another name or product is not held."""
        self.assertTrue(aliyun.needs_registration(_identity(device_name="other"), _TOKEN))
        self.assertTrue(aliyun.needs_registration(_identity(product_key="other"), _TOKEN))


def _push(**changes):
    answer = {"productKey": _PK, "deviceName": _DN}
    answer.update(changes)
    return json.dumps(answer).encode()


class TestRegistrationAnswer(unittest.TestCase):
    def test_token(self):
        """A token is a regnwl credential, on either of the two documented topics."""
        push = _push(clientId="CID0001", deviceToken="TOKEN0001")
        for topic in (b"/ext/regnwl", b"/ext/register"):
            self.assertEqual(_TOKEN, aliyun_registration.answer(_identity(), topic, push))

    def test_secret(self):
        """A secret is a register credential, on either topic."""
        push = _push(deviceSecret="secret")
        for topic in (b"/ext/regnwl", b"/ext/register"):
            self.assertEqual(_SECRET, aliyun_registration.answer(_identity(), topic, push))

    def test_another_topic(self):
        """What comes on another topic is not the answer."""
        push = _push(deviceSecret="secret")
        self.assertIsNone(aliyun_registration.answer(_identity(), b"/ext/ntp", push))

    def test_malformed(self):
        """Whatever is not documented is refused, and what is wrong is named."""
        for wire, detail in (
            (b"", "not a JSON object"),
            (b"[]", "not a JSON object"),
            (_push(deviceSecret="secret")[:-1], "not a JSON object"),
            (_push(deviceSecret="s" * 1024), "not a JSON object"),
            (_push(), "deviceSecret"),
            (_push(clientId="CID0001"), "deviceSecret"),
            (_push(deviceToken="TOKEN0001"), "clientId"),
            (_push(deviceSecret=""), "deviceSecret"),
            (_push(deviceSecret=7), "deviceSecret"),
            (_push(deviceSecret=None), "deviceSecret"),
            (_push(deviceSecret="s" * 129), "deviceSecret"),
            (_push(deviceSecret="two words"), "deviceSecret"),
            (_push(deviceSecret="del\x7f"), "deviceSecret"),
            (_push(clientId="a|b", deviceToken="TOKEN0001"), "clientId"),
            (_push(clientId="a,b", deviceToken="TOKEN0001"), "clientId"),
            (_push(clientId="CID0001", deviceToken="t\u00fc"), "deviceToken"),
        ):
            with self.subTest(wire):
                with raises(SetupError, 406) as caught:
                    aliyun_registration.answer(_identity(), b"/ext/regnwl", wire)
                self.assertEqual(detail, caught.exception.detail)

    def test_foreign(self):
        """A credential of another product or device is refused."""
        for changes in (
            {"productKey": "other"},
            {"deviceName": "other"},
            {"deviceName": None},
            {"productKey": [_PK]},
        ):
            push = _push(deviceSecret="secret", **changes)
            with raises(SetupError, 407):
                aliyun_registration.answer(_identity(), b"/ext/register", push)

    def test_longest(self):
        """The longest credential that is allowed is kept whole."""
        push = _push(clientId="c" * 128, deviceToken="t" * 128)
        record = aliyun_registration.answer(_identity(), b"/ext/regnwl", push)
        self.assertEqual("t" * 128, record["device_token"])


def _refused(step, connack):
    if step == "login":
        return aliyun.refused(_identity(), connack)
    return aliyun_registration.refused(_identity(registration=step), connack)


class TestRefused(unittest.TestCase):
    def test_connack(self):
        """Each step's CONNACK codes, with the number kept."""
        for step, connack, kind, code in (
            ("regnwl", 2, SetupError, 401),
            ("regnwl", 3, WeatherError, 404),
            ("regnwl", 4, SetupError, 402),
            ("regnwl", 5, SetupError, 402),
            ("register", 1, SetupError, 403),
            ("register", 2, SetupError, 401),
            ("register", 3, WeatherError, 404),
            ("register", 4, SetupError, 403),
            ("login", 1, SetupError, 501),
            ("login", 2, SetupError, 501),
            ("login", 3, WeatherError, 503),
            ("login", 4, SetupError, 502),
            ("login", 5, SetupError, 502),
            ("login", 77, SetupError, 502),
        ):
            with self.subTest((step, connack)):
                error = _refused(step, connack)
                self.assertIs(kind, type(error))
                self.assertEqual((code, connack), (error.code, error.number))

    def test_only_unavailable_is_retried(self):
        """CONNACK 3 passes; the others need a person, and are not repeated."""
        for step in ("regnwl", "register", "login"):
            retried = [code for code in range(1, 256) if _refused(step, code).retry]
            self.assertEqual([3], retried)


class TestLogin(unittest.TestCase):
    def test_token_vector(self):
        """V7: a push, and the token login that follows from it, byte by byte."""
        case = [c for c in vectors("aliyun")["vectors"] if c["id"] == "V7"][0]
        push = json.dumps(case["push"]).encode()
        record = aliyun_registration.answer(_identity(), b"/ext/regnwl", push)
        request = aliyun.login(_identity(), record)
        self.assertFalse(request.clean_session)
        self.assertEqual(case["client_id"].encode(), request.client_id)
        self.assertEqual(case["username"].encode(), request.username)
        self.assertEqual(case["password"].encode(), request.password.reveal())

    def test_signed_vector(self):
        """V12: what the vendor's C SDK signs, with its timestamp that needs no clock."""
        case = [c for c in vectors("aliyun")["vectors"] if c["id"] == "V12"][0]
        unit = _identity(
            registration="none",
            product_key=case["product_key"],
            device_name=case["device_name"],
            device_secret=case["device_secret"],
        )
        request = aliyun.login(unit, None)
        cid, pairs = _parts(request.client_id.decode())
        their_cid, their_pairs = _parts(case["client_id"])
        self.assertEqual(their_cid, cid)
        self.assertTrue(pairs < their_pairs)  # they add what is only informational
        self.assertEqual(case["username"].encode(), request.username)
        self.assertEqual(case["password"].lower().encode(), request.password.reveal())

    def test_issued_and_burned_secret_sign_alike(self):
        """A registered unit logs in exactly as one whose triple was burned."""
        burned = aliyun.login(_identity(registration="none", device_secret="secret"), None)
        issued = aliyun.login(_identity(registration="register"), _SECRET)
        self.assertEqual(burned.client_id, issued.client_id)
        self.assertEqual(burned.password.reveal(), issued.password.reveal())
        self.assertEqual(
            b"al123456789.device1|securemode=2,signmethod=hmacsha256,timestamp=2524608000000|",
            issued.client_id,
        )

    def test_burned_triple_wins(self):
        """A credential left in the vault is of no account once a triple is burned."""
        unit = _identity(registration="none", device_secret="secret")
        self.assertEqual(
            aliyun.login(unit, None).password.reveal(),
            aliyun.login(unit, _TOKEN).password.reveal(),
        )

    def test_methods(self):
        """All three methods sign; the hex is as long as the digest."""
        for method, size in (("hmacmd5", 32), ("hmacsha1", 40), ("hmacsha256", 64)):
            request = aliyun.login(_identity(sign_method=method), _SECRET)
            self.assertEqual(size, len(request.password.reveal()))
            self.assertIn(b"signmethod=" + method.encode() + b",", request.client_id)

    def test_no_secret_shows(self):
        """Nothing of a request but the password holds the secret, and that does not show it."""
        request = aliyun.login(_identity(), _TOKEN)
        shown = repr([request.host, request.client_id, request.username, request.password])
        self.assertNotIn("TOKEN0001", shown)


class TestReport(unittest.TestCase):
    def test_wire(self):
        """A property post, byte by byte: sorted names, decimals in floats."""
        payload = aliyun.report(7, {"temperature": 21.0, "power": 1})
        self.assertEqual(_SYS + b"event/property/post", aliyun.report_topic(_identity()))
        self.assertEqual(
            b'{"id":"7","method":"thing.event.property.post",'
            b'"params":{"power":1,"temperature":21.0},"version":"1.0"}',
            payload,
        )

    def test_no_form(self):
        """A value that the thing model has no form for never leaves the board."""
        with self.assertRaises(ValueError):
            aliyun.report(1, {"temperature": float("nan")})

    def test_reply_codes(self):
        """200 is no error; the others say whether to send again."""
        self.assertIsNone(aliyun.report_refused(200))
        for reply, kind, code in (
            (429, WeatherError, 602),
            (500, WeatherError, 602),
            (599, WeatherError, 602),
            (400, SetupError, 601),
            (460, SetupError, 601),
            (600, SetupError, 601),
            (5005, SetupError, 601),
            (6207, SetupError, 601),
            (6100, SetupError, 603),
            (6204, SetupError, 603),
        ):
            error = aliyun.report_refused(reply, "because")
            self.assertIs(kind, type(error))
            self.assertEqual((code, reply, "because"), (error.code, error.number, error.detail))

    def test_subscriptions(self):
        """Replies, and at QoS 1 property set and user topic; all within the platform's limits."""
        topics = aliyun.subscriptions(_identity())
        self.assertEqual(
            (
                (_SYS + b"event/property/post_reply", 0),
                (_SYS + b"service/property/set", 1),
                (b"/al123456789/device1/user/get", 1),
            ),
            topics,
        )
        longest = _identity(product_key="p" * 32, device_name="d" * 32)
        topics = [topic for topic, _ in aliyun.subscriptions(longest)]
        for topic in topics + [aliyun.set_reply(longest, "1")[0]]:
            self.assertTrue(len(topic) <= 128)
            self.assertTrue(topic.count(b"/") <= 7)

    def test_user_update(self):
        """The default custom topic carries the payload as it is."""
        self.assertEqual(
            (b"/al123456789/device1/user/update", b"\x00\xff"),
            aliyun.user_update(_identity(), b"\x00\xff"),
        )

    def test_set_reply(self):
        """The answer carries the same id."""
        self.assertEqual(
            (_SYS + b"service/property/set_reply", b'{"code":200,"data":{},"id":"42"}'),
            aliyun.set_reply(_identity(), "42"),
        )
        self.assertEqual(
            b'{"code":460,"data":{},"id":"4\\"2"}', aliyun.set_reply(_identity(), '4"2', 460)[1]
        )
