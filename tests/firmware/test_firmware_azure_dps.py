"""Azure's provisioning service: what is asked, and what each of its answers means."""

import json
import unittest

from firmware_support import raises, vectors
from imprint.clouds import azure_dps, azure_dps_registration
from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.identity import build

_SCOPE = "0ne00123456"
_RID = "pico-e66118604b4a2d29"
_KEY = "CnUCxzqY857uL8LwtJsPQKTUOHDNvs26hp1y6Qin3Cw="
_NOW = 1893452400  # an hour before the vectors' expiry
_RECORD = {"hub": "h.azure-devices.net", "device_id": "dev1", "registration_id": _RID, "id_scope": _SCOPE}  # noqa: E501  # fmt: skip


def _identity(**changes):
    values = {
        "journey": "azure-dps",
        "id_scope": _SCOPE,
        "registration_id": _RID,
        "attestation": "symmetric-key",
        "symmetric_key": _KEY,
    }
    values.update(changes)
    return build(values)


def _answer(status, body, query="?$rid=7", number=7):
    topic = "$dps/registrations/res/%s/%s" % (status, query)
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return azure_dps_registration.answer(_identity(), number, topic.encode(), payload)


def _assigned(**changes):
    state = {"assignedHub": "h.azure-devices.net", "deviceId": "dev1", "status": "assigned"}
    state.update(changes)
    return {"operationId": "5.o", "status": "assigned", "registrationState": state}


class TestRequest(unittest.TestCase):
    def test_by_key(self):
        """The vendor's own token with the policy's name; no "?" before the api-version."""
        request = azure_dps_registration.request(_identity(), _NOW)
        expected = [case["token"] for case in vectors("azure")["tokens"] if case["id"] == "B1n"]
        self.assertEqual(expected[0].encode(), request.password.reveal())
        self.assertEqual("global.azure-devices-provisioning.net", request.host)
        self.assertEqual(_RID.encode(), request.client_id)
        self.assertEqual(
            b"0ne00123456/registrations/pico-e66118604b4a2d29/"
            b"api-version=2019-03-31&ClientVersion=imprint",
            request.username,
        )
        self.assertTrue(request.clean_session)

    def test_by_certificate(self):
        """With X.509 nothing is signed; a service of one's own has its own host."""
        unit = _identity(attestation="x509", symmetric_key=None, host="own.example", port=443)
        request = azure_dps_registration.request(unit, _NOW)
        self.assertIsNone(request.password)
        self.assertEqual(("own.example", 443), (request.host, request.port))

    def test_questions(self):
        """A registration, and a look at one whose id needs encoding."""
        self.assertEqual(
            (
                b"$dps/registrations/PUT/iotdps-register/?$rid=1",
                b'{"registrationId":"pico-e66118604b4a2d29"}',
            ),
            azure_dps_registration.question(_identity(), 1),
        )
        topic, _ = azure_dps_registration.question(_identity(), 2, "5.a b&c")
        self.assertEqual(
            b"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=5.a%20b%26c",
            topic,
        )

    def test_refused(self):
        """CONNACK 4 and 5 are about our proof, 1 and 2 about what we say, 3 passes."""
        for connack, kind, code in (
            (1, SetupError, 422),
            (2, SetupError, 422),
            (3, WeatherError, 423),
            (4, SetupError, 420),
            (5, SetupError, 420),
        ):
            error = azure_dps_registration.refused(_identity(), connack)
            self.assertIs(kind, type(error))
            self.assertEqual((code, connack), (error.code, error.number))


class TestAnswer(unittest.TestCase):
    def test_assigned(self):
        """The hub, and the device id that DPS gives, which need not be the registration id."""
        self.assertEqual(("assigned", _RECORD), _answer(200, _assigned()))

    def test_assigning(self):
        """202 says how long to wait, in either form of its body; two seconds where it does not."""
        body = {"operationId": "5.o", "status": "assigning"}
        self.assertEqual(("again", 3, "5.o"), _answer(202, body, "?$rid=7&retry-after=3"))
        self.assertEqual(("again", 2, "5.o"), _answer(202, body))
        body["registrationState"] = {"registrationId": _RID, "status": "assigning"}
        self.assertEqual(("again", 9, "5.o"), _answer(202, body, "?Retry-After=9&$rid=7"))
        for odd in ("", "0", "-1", "soon", "9" * 40):
            self.assertEqual(("again", 2, "5.o"), _answer(202, body, "?$rid=7&retry-after=" + odd))
        self.assertEqual(86400, _answer(202, body, "?$rid=7&retry-after=99999999")[1])

    def test_disabled(self):
        """A disabled enrolment is an answer, at once or after a poll; never an error."""
        body = {
            "operationId": "",
            "status": "disabled",
            "registrationState": {"status": "disabled"},
        }
        self.assertEqual(("disabled",), _answer(200, body))
        self.assertEqual(("disabled",), _answer(200, {"status": "disabled"}))

    def test_failed(self):
        """200 with "failed" is no hub, with the service's reason."""
        state = {"status": "failed", "errorCode": 400207, "errorMessage": "webhook"}
        body = {"operationId": "5.o", "status": "failed", "registrationState": state}
        with raises(WeatherError, 425) as caught:
            _answer(200, body)
        self.assertEqual((400207, "webhook"), (caught.exception.number, caught.exception.detail))

    def test_throttled(self):
        """429 and the service's own faults: the same question again, when it says."""
        error = {"errorCode": 429001, "message": "slow down"}
        self.assertEqual(("again", 8, None), _answer(429, error, "?$rid=7&retry-after=8"))
        self.assertEqual(("again", 2, None), _answer(429, b""))
        self.assertEqual(("again", 2, None), _answer(503, b"<html>"))

    def test_refusals(self):
        """Each status has its error, with the service's six digits where it gives them."""
        for status, digits, kind, code in (
            (400, 400001, SetupError, 422),
            (401, 401002, SetupError, 420),
            (403, 403001, SetupError, 420),
            (404, 404201, SetupError, 421),
            (409, 409203, WeatherError, 423),
            (412, 412001, SetupError, 422),
            (415, 415001, SetupError, 422),
        ):
            with raises(kind, code) as caught:
                _answer(status, {"errorCode": digits, "message": "m", "trackingId": "t"})
            self.assertEqual((digits, "m"), (caught.exception.number, caught.exception.detail))
            with raises(kind, code) as caught:
                _answer(status, b"")
            self.assertEqual((status, ""), (caught.exception.number, caught.exception.detail))

    def test_not_the_answer(self):
        """Another topic, another request's id, or none."""
        for query in ("?$rid=8", "?", "", "?$rid=", "?retry-after=7"):
            self.assertIsNone(_answer(200, _assigned(), query))
        self.assertIsNone(
            azure_dps_registration.answer(_identity(), 7, b"$iothub/twin/res/200/?$rid=7", b"{}")
        )

    def test_malformed(self):
        """What is not documented is refused, and what is wrong is named."""
        for body, detail in (
            (b"", "not a JSON object"),
            (b"[]", "not a JSON object"),
            (b"{" + b" " * 4096 + b"}", "not a JSON object"),
            ({}, "status"),
            ({"status": 1}, "status"),
            ({"status": "assigning"}, "operationId"),
            ({"status": "assigning", "operationId": ""}, "operationId"),
            ({"status": "assigning", "operationId": "x" * 257}, "operationId"),
            ({"status": "assigned"}, "assignedHub"),
            (_assigned(assignedHub=None), "assignedHub"),
            (_assigned(assignedHub="a/b"), "assignedHub"),
            (_assigned(assignedHub=""), "assignedHub"),
            (_assigned(deviceId=7), "deviceId"),
            (_assigned(deviceId="a/b"), "deviceId"),
            (_assigned(deviceId="a#"), "deviceId"),
            (_assigned(deviceId="a b"), "deviceId"),
            (_assigned(deviceId="x" * 129), "deviceId"),
            (_assigned(deviceId="\u00e4"), "deviceId"),
        ):
            with self.subTest(body):
                with raises(ProtocolError, 426) as caught:
                    _answer(200, body)
                self.assertEqual(detail, caught.exception.detail)
        with raises(ProtocolError, 426):
            _answer("teapot", {})


class TestEndpoint(unittest.TestCase):
    def test_from_the_record(self):
        """The hub and the device id of the record, with the identity's own proof."""
        found = azure_dps.endpoint(_identity(), _RECORD)
        self.assertEqual(("h.azure-devices.net", "dev1"), (found.host, found.client_id))
        self.assertEqual(_KEY.encode(), found.key.reveal())
        unit = _identity(attestation="x509", symmetric_key=None)
        self.assertIsNone(azure_dps.endpoint(unit, _RECORD).key)

    def test_of_another_identity(self):
        """Without a record, or with another identity's, DPS has to be asked."""
        self.assertIsNone(azure_dps.endpoint(_identity(), None))
        self.assertIsNone(azure_dps.endpoint(_identity(), {}))
        self.assertIsNone(azure_dps.endpoint(_identity(id_scope="0neOther"), _RECORD))
        self.assertIsNone(azure_dps.endpoint(_identity(registration_id="other"), _RECORD))
