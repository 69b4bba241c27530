"""What was burned is checked before anything is done with it."""

import json
import unittest

from firmware_support import raises, vectors
from imprint import identity
from imprint.errors import SetupError

_UNIT_ID = b"\x24\x0a\xc4\x00\x01\x0f"


def _nothing(_name):
    return None


class TestParse(unittest.TestCase):
    def setUp(self):
        self.vectors = vectors("identities")
        self.root = self.vectors["root_ca_sha256"]

    def blob(self, change):
        values = dict(self.vectors["base"])
        for name in change:
            if change[name] is None:
                del values[name]
            else:
                values[name] = change[name]
        return json.dumps(values).encode()

    def parse(self, change):
        return identity.parse(self.blob(change), self.digest, _UNIT_ID)

    def digest(self, name):
        return self.root if name == "root_ca" else None

    def test_rules(self):
        """Each rule by example: accepted, or refused with the field and the rule."""
        for case in self.vectors["cases"]:
            with self.subTest(case["name"]):
                try:
                    self.parse(case["change"])
                    actual = None
                except SetupError as error:
                    self.assertEqual(103, error.code)
                    actual = error.detail
                self.assertEqual(case["error"], actual)

    def test_no_value_in_an_error(self):
        """An error never holds the value, which may be a secret in the wrong field."""
        for case in self.vectors["cases"]:
            for value in case["change"].values():
                if case["error"] and isinstance(value, str) and len(value) > 3:
                    self.assertNotIn(value, case["error"])

    def test_defaults(self):
        """What is absent has its documented default, or None."""
        unit = self.parse({})
        self.assertEqual("cn-shanghai", unit.region)
        self.assertEqual(8883, unit.port)
        self.assertEqual("hmacsha256", unit.sign_method)
        self.assertEqual(2, unit.secure_mode)
        self.assertEqual("pool.ntp.org", unit.ntp_host)
        self.assertEqual(60, unit.interval_s)
        for name in ("host", "instance_id", "client_id", "wifi_password", "device_secret"):
            self.assertIsNone(getattr(unit, name))

    def test_device_name_of_the_chip(self):
        """Without a burned name, it is the chip's MAC as 12 lower-case hex digits."""
        self.assertEqual("240ac400010f", self.parse({}).device_name)
        self.assertEqual("unit7", self.parse({"device_name": "unit7"}).device_name)

    def test_secrets_are_secrets(self):
        """Secret fields are wrapped, so that no print of the identity shows them."""
        unit = self.parse({"wifi_password": "correct horse"})
        self.assertEqual(b"ProductSecret01", unit.product_secret.reveal())
        self.assertEqual(b"correct horse", unit.wifi_password.reveal())
        for name in identity.rules("aliyun")[1]:
            text = str(getattr(unit, name))
            self.assertNotIn("ProductSecret01", text)
            self.assertNotIn("correct horse", text)

    def test_a_newer_field_is_ignored(self):
        """A field that this firmware does not know is no attribute, and no error."""
        self.assertFalse(hasattr(self.parse({"colour": "blue"}), "colour"))

    def test_missing(self):
        """No blob at all is told apart from a bad one."""
        with raises(SetupError, 101):
            identity.parse(None, self.digest, _UNIT_ID)

    def test_damaged(self):
        """A blob that is no JSON object, torn or too long is damaged."""
        whole = self.blob({})
        for blob in (b"", b"\xff" * 40, b"[]", whole[:-1], whole + b"x", b" " * 4000 + whole):
            with raises(SetupError, 102):
                identity.parse(blob, self.digest, _UNIT_ID)

    def test_another_root(self):
        """A root CA that is absent, or not the one that is named, is a damaged identity."""
        for root in (None, "0" * 64):
            with raises(SetupError, 102):
                identity.parse(self.blob({}), lambda _name: root, _UNIT_ID)

    def test_half_a_surrogate(self):
        """JSON can spell half a character, for which CPython has no UTF-8: no other exception."""
        blob = self.blob({}).replace(b'"bench"', b'"' + b"\\ud800" * 11 + b'"')
        with raises(SetupError, 103):
            identity.parse(blob, self.digest, _UNIT_ID)


class TestEnos(unittest.TestCase):
    """The same rules for the journey `enos-coap`, where they are others."""

    def setUp(self):
        self.vectors = vectors("identities")["enos-coap"]

    def parse(self, change):
        values = dict(self.vectors["base"])
        values.update(change)
        for name in change:
            if change[name] is None:
                del values[name]
        return identity.parse(json.dumps(values).encode(), _nothing, _UNIT_ID)

    def test_rules(self):
        """Each rule by example: accepted, or refused with the field and the rule."""
        for case in self.vectors["cases"]:
            with self.subTest(case["name"]):
                try:
                    self.parse(case["change"])
                    actual = None
                except SetupError as error:
                    self.assertEqual(103, error.code)
                    actual = error.detail
                self.assertEqual(case["error"], actual)

    def test_defaults(self):
        """This journey's defaults; and no root CA, since the server knows the key or does not."""
        unit = self.parse({})
        self.assertEqual((5684, 3600, 900), (unit.port, unit.lifetime_s, unit.interval_s))
        self.assertEqual("nb-iot", unit.rat)
        for name in ("apn", "band", "device_secret", "sim_pin", "wifi_ssid"):
            self.assertIsNone(getattr(unit, name))
        self.assertFalse(hasattr(unit, "root_ca_sha256"))

    def test_secrets_are_secrets(self):
        """The SIM's PIN is one of them."""
        unit = self.parse({"sim_pin": "4711"})
        self.assertEqual(b"4711", unit.sim_pin.reveal())
        self.assertEqual(b"abcdefg", unit.product_secret.reveal())
        self.assertNotIn("4711", str(unit.sim_pin))


class TestAttachments(unittest.TestCase):
    """Blobs beside the identity: each is the one that is named, or the identity is damaged."""

    def parse(self, held, **change):
        values = {
            "journey": "azure-dps",
            "id_scope": "0ne00000001",
            "registration_id": "unit-7",
            "attestation": "x509",
            "root_ca_sha256": "0" * 64,
            "client_cert_sha256": "1" * 64,
            "client_key_sha256": "2" * 64,
            "wifi_ssid": "bench",
        }
        values.update(change)
        return identity.parse(json.dumps(values).encode(), held.get, _UNIT_ID)

    def test_all_are_there(self):
        """Certificate and key beside the root."""
        held = {"root_ca": "0" * 64, "client_cert": "1" * 64, "client_key": "2" * 64}
        self.assertEqual("unit-7", self.parse(held).registration_id)

    def test_one_is_another(self):
        """Each is compared, and the error names it."""
        for name in ("root_ca", "client_cert", "client_key"):
            held = {"root_ca": "0" * 64, "client_cert": "1" * 64, "client_key": "2" * 64}
            held[name] = "f" * 64
            try:
                self.parse(held)
                self.fail(name)
            except SetupError as error:
                self.assertEqual((102, name), (error.code, error.detail.split(" ")[0]))

    def test_what_is_not_named_is_not_asked_for(self):
        """A unit with a symmetric key has no certificate."""
        held = {"root_ca": "0" * 64}
        values = {"journey": "azure-dps", "id_scope": "0ne1", "registration_id": "a",
                  "attestation": "symmetric-key", "symmetric_key": "c2VjcmV0", "wifi_ssid": "b",
                  "root_ca_sha256": "0" * 64}  # fmt: skip
        unit = identity.parse(json.dumps(values).encode(), held.get, _UNIT_ID)
        self.assertEqual(b"c2VjcmV0", unit.symmetric_key.reveal())


class TestTables(unittest.TestCase):
    """The host's tools take these tables for the truth."""

    def test_every_name_is_known(self):
        """A journey shares what there is, and requires and needs what it has."""
        for journey in identity.JOURNEYS:
            module, fields = identity.rules(journey)
            for name in module.SHARES:
                self.assertIn(name, identity.SHARED)
            for name in module.REQUIRED:
                self.assertIn(name, fields)
            for name, value in module.NEEDS:
                self.assertIn(value, fields[name][1])
                for needed in module.NEEDS[name, value]:
                    self.assertIn(needed, fields)

    def test_every_row_is_whole(self):
        """Each field is of a kind that exists, and its default keeps its own rule."""
        for journey in identity.JOURNEYS:
            fields = identity.rules(journey)[1]
            for name in fields:
                self.assertEqual(5, len(fields[name]))
                self.assertIn(fields[name][0], identity.KINDS)
                if fields[name][4] is not None:
                    identity._check(fields[name], name, fields[name][4])
