"""EnOS's REST API: signatures by the documents' example, requests, answers, each refusal."""

import json
import unittest

from firmware_support import raises, vectors
from imprint.clouds import enos_rest
from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.identity import build
from imprint.secret import Secret

_NOW = 1572574909697  # 2019-11-01 02:21:49 GMT
_DATE = "Fri, 01 Nov 2019 02:21:49 GMT"


def _identity():
    return build({
        "journey": "enos-gateway",
        "product_key": "gwPK",
        "device_key": "gwDK",
        "secure_mode": 2,
        "device_secret": "x",
        "host": "mqtt.example",
        "access_key": "5acb82e7-a11e-4300-9164-c8b20b638e8b",
        "access_secret": "1d0b6e2f-7c3a-4d5e-9f10-0123456789ab",
        "org_id": "o15000000000001",
    })  # fmt: skip


def _answer(body, status=200, headers=None):
    return status, headers or {}, json.dumps(body).encode()


class TestSignatures(unittest.TestCase):
    def test_encryption(self):
        """A token is asked for with the digest of key, time and secret."""
        for case in vectors("enos")["encryption"]:
            method, path, headers, body = enos_rest.token_request(_identity(), case["timestamp"])
            self.assertEqual(("POST", "/apim-token-service/v2.0/token/get"), (method, path))
            self.assertEqual("application/json", headers["Content-Type"])
            expected = {
                "appKey": case["access_key"],
                "encryption": case["encryption"],
                "timestamp": case["timestamp"],
            }
            self.assertEqual(expected, json.loads(body))

    def test_calls(self):
        """The documents' own example, and one with a body as we send them."""
        for case in vectors("enos")["signature"]:
            actual = enos_rest.signature(
                Secret(case["token"]), case["query"], case["body"].encode(), case["timestamp"],
                Secret(case["secret"]),
            )  # fmt: skip
            self.assertEqual(case["signature"], actual)

    def test_signed(self):
        """A call names its organisation, is signed as it is sent, and shows no secret."""
        call = ("GET", "/x", {"action": "get", "deviceKey": "a@b/c é"}, b"")
        method, path, headers, body = enos_rest.signed(_identity(), Secret("tok"), call, _NOW)
        self.assertEqual(("GET", b""), (method, body))
        expected = "/x?action=get&deviceKey=a@b%2Fc%20%C3%A9&orgId=o15000000000001"
        self.assertEqual(expected, path)
        self.assertEqual(("tok", str(_NOW)), (
            headers["apim-accesstoken"], headers["apim-timestamp"],
        ))  # fmt: skip
        self.assertEqual(64, len(headers["apim-signature"]))
        self.assertFalse("Content-Type" in headers)


class TestToken(unittest.TestCase):
    def test_token(self):
        """A token and its life; without one that makes sense, the documented one."""
        for expire, life in ((7200, 7200), (60, 60), (None, 7200), (-1, 7200)):
            data = {"accessToken": "tok", "expire": expire}
            token, life_s = enos_rest.token(_answer({"status": 0, "data": data}))
            self.assertEqual((b"tok", life), (token.reveal(), life_s))

    def test_refused(self):
        """Each status of the token service has its error."""
        for status, kind, code in (
            (1002, SetupError, 440), (1003, SetupError, 440), (1001, WeatherError, 443),
            (1004, SetupError, 444), (1005, WeatherError, 443), (1203, WeatherError, 446),
        ):  # fmt: skip
            with raises(kind, code) as caught:
                enos_rest.token(_answer({"status": status, "msg": "said", "data": None}))
            self.assertEqual((status, "said"), (caught.exception.number, caught.exception.detail))

    def test_malformed(self):
        """What is no token is not used as one."""
        words = ("", 5, "a ", "a\nHost: b", "a b", "t\u00f6", "a" * 513)
        for data in [None, {}] + [{"accessToken": word} for word in words]:
            with raises(ProtocolError, 445):
                enos_rest.token(_answer({"status": 0, "data": data}))
        for answer in ((200, {}, b"<html>"), _answer([]), _answer({}), _answer({"status": False})):
            with raises(ProtocolError, 445):
                enos_rest.token(answer)


class TestAnswers(unittest.TestCase):
    def test_refusals(self):
        """Each code of the API has its error; an HTTP status counts where there is no code."""
        for code, kind, ours in (
            (401, WeatherError, 446), (403, SetupError, 442), (429, WeatherError, 443),
            (497, SetupError, 440), (498, SetupError, 442), (500, WeatherError, 443),
            (503, WeatherError, 443), (11404, SetupError, 448), (11702, SetupError, 447),
            (11714, SetupError, 444), (11721, SetupError, 444), (11739, SetupError, 449),
            (11833, SetupError, 444), (99400, SetupError, 444), (99500, WeatherError, 443),
        ):  # fmt: skip
            with raises(kind, ours) as caught:
                enos_rest.data(_answer({"code": code, "msg": "said"}))
            self.assertEqual((code, "said"), (caught.exception.number, caught.exception.detail))
        with raises(WeatherError, 443) as caught:
            enos_rest.data((502, {}, b"<html><body>502 Bad Gateway</body></html>"))
        self.assertEqual(502, caught.exception.number)
        with raises(WeatherError, 446):
            enos_rest.data(_answer({}, 401))

    def test_skew(self):
        """A refused signature is the clock's fault where the server's date says so."""
        late = _answer({}, headers={"date": "Fri, 01 Nov 2019 03:21:49 GMT"})
        refused = enos_rest.refusal(1003, "")
        error = enos_rest.skewed(refused, late, _NOW)
        self.assertEqual((441, 1003), (error.code, error.number))
        self.assertEqual("ours is -3600 s ahead", error.detail)
        for date in (_DATE, "", "yesterday", "Fri, 01 Xxx 2019 03:21:49 GMT", "a b c d e GMT"):
            said = _answer({}, headers={"date": date})
            self.assertTrue(enos_rest.skewed(refused, said, _NOW) is refused)
        other = enos_rest.refusal(11404, "")
        self.assertTrue(enos_rest.skewed(other, late, _NOW) is other)


class TestCalls(unittest.TestCase):
    def test_create(self):
        """One device is created, several in a batch; each brings what is asked for."""
        unit = _identity()
        method, path, query, body = enos_rest.device_create(unit, [("pk", "d1")], "+08:00")
        self.assertEqual(("POST", "/connect-service/v2.1/devices"), (method, path))
        entry = {
            "productKey": "pk", "deviceKey": "d1", "timezone": "+08:00",
            "deviceName": {"defaultValue": "d1"},
        }  # fmt: skip
        self.assertEqual(({"action": "create"}, entry), (query, json.loads(body)))
        _, _, query, body = enos_rest.device_create(unit, [("pk", "d1"), ("pk", "d2")], "+08:00")
        self.assertEqual("batchCreate", query["action"])
        self.assertEqual(entry, json.loads(body)["deviceList"][0])

    def test_created(self):
        """A batch that is half accepted: whoever is in has a secret, whoever is not a code."""
        good = {"productKey": "pk", "deviceKey": "d1", "deviceSecret": "s1", "assetId": "a"}
        actual = enos_rest.devices_created([
            {"code": 0, "data": good},
            {"code": 11702, "msg": "exists", "data": None},
        ])  # fmt: skip
        self.assertEqual([("pk", "d1", "s1", 0), (None, None, "", 11702)], actual)
        self.assertEqual([("pk", "d1", "s1", 0)], enos_rest.devices_created(good))
        with raises(ProtocolError, 445):
            enos_rest.devices_created([5])

    def test_certificates(self):
        """Apply, renew and revoke name the edge in the query."""
        unit = _identity()
        names = {"productKey": "gwPK", "deviceKey": "gwDK"}
        for call, action, body in (
            (enos_rest.certificate_apply(unit, "CSR", 30), "apply",
             {"csr": "CSR", "validDay": 30, "issueAuthority": "ECC"}),
            (enos_rest.certificate_renew(unit, "1f", "CSR"), "renew",
             {"certSn": "1f", "csr": "CSR", "issueAuthority": "ECC"}),
            (enos_rest.certificate_revoke(unit, "1f", 4), "revoke", {"certSn": "1f", "reason": 4}),
        ):  # fmt: skip
            query = dict(names)
            query["action"] = action
            self.assertEqual("/connect-service/v2.0/certificates", call[1])
            self.assertEqual((query, body), (call[2], json.loads(call[3])))
        odd = {"productKey": [], "deviceKey": {}, "deviceSecret": "a b"}
        self.assertEqual([(None, None, "", 0)], enos_rest.devices_created(odd))
        for data in (None, [], {}, odd, {"deviceSecret": "s" * 129}):
            self.assertEqual("", enos_rest.device_secret(data))
        self.assertEqual("s1", enos_rest.device_secret({"deviceSecret": "s1"}))
        self.assertEqual(("PEM", "7"), enos_rest.certificate_issued({"cert": "PEM", "certSN": 7}))
        with raises(ProtocolError, 445):
            enos_rest.certificate_issued({"cert": 5})

    def test_device_and_topology(self):
        """A device is asked for by its names; sub-devices are put below this edge."""
        unit = _identity()
        query = {"action": "get", "productKey": "p", "deviceKey": "d"}
        self.assertEqual(
            ("GET", "/connect-service/v2.1/devices", query, b""),
            enos_rest.device_get(unit, "p", "d"),
        )
        _, path, query, body = enos_rest.topology_add(unit, [("p", "d")])
        self.assertEqual("/connect-service/v2.1/device-topos", path)
        self.assertEqual({"action": "addSubDevice"}, query)
        expected = {
            "gateway": {"productKey": "gwPK", "deviceKey": "gwDK"},
            "subDevices": [{"productKey": "p", "deviceKey": "d"}],
        }
        self.assertEqual(expected, json.loads(body))


if __name__ == "__main__":
    unittest.main()
