"""HMAC and what is signed: RFC 2202, RFC 4231 and every vector of the vendor."""

import unittest
from binascii import hexlify, unhexlify

from firmware_support import vectors
from imprint import sign


class TestHmac(unittest.TestCase):
    def check(self, document):
        for case in vectors(document)["vectors"]:
            with self.subTest(case["id"]):
                digest = sign.hmac(case["method"], unhexlify(case["key"]), unhexlify(case["data"]))
                # One case of RFC 4231 is published truncated.
                actual = hexlify(digest).decode()[: len(case["digest"])]
                self.assertEqual(case["digest"], actual)

    def test_rfc_2202(self):
        """HMAC-MD5 and HMAC-SHA-1 give the digests of RFC 2202, long keys included."""
        self.check("rfc2202")

    def test_rfc_4231(self):
        """HMAC-SHA-256 gives the digests of RFC 4231, long keys included."""
        self.check("rfc4231")

    def test_key_of_one_block(self):
        """A key of exactly one block is used as it is, one byte more is hashed first."""
        import hashlib

        hashed = hashlib.sha256(b"k" * 65).digest()
        self.assertEqual(
            sign.hmac("hmacsha256", hashed, b"m"), sign.hmac("hmacsha256", b"k" * 65, b"m")
        )
        self.assertEqual(
            b"6411ef0a1a2b26701e4eac25e07d2702",
            hexlify(sign.hmac("hmacmd5", b"k" * 64, b"m")),
        )

    def test_the_key_is_left_alone(self):
        """The caller's key is not written to."""
        key = bytearray(b"secret")
        sign.hmac("hmacsha256", key, b"m")
        self.assertEqual(bytearray(b"secret"), key)

    def test_unknown_method(self):
        """A method that is not in the table is a KeyError, not another hash."""
        with self.assertRaises(KeyError):
            sign.hmac("hmacsha512", b"k", b"m")


class TestCanonical(unittest.TestCase):
    def test_names_are_sorted(self):
        """Names in order, name and value joined without anything between."""
        params = {"productKey": "pk", "clientId": "12345", "timestamp": "789", "deviceName": "d"}
        self.assertEqual(
            b"clientId12345deviceNamedproductKeypktimestamp789", sign.canonical(params)
        )

    def test_nothing(self):
        """No parameters, no text."""
        self.assertEqual(b"", sign.canonical({}))

    def test_vendor_vectors(self):
        """Every signed vector of the vendor: content and HMAC, whatever the case of the hex."""
        names = (
            ("clientId", "client_id"),
            ("deviceName", "device_name"),
            ("productKey", "product_key"),
            ("random", "random"),
            ("timestamp", "timestamp"),
        )
        for case in vectors("aliyun")["vectors"]:
            if "content" not in case:
                continue
            with self.subTest(case["id"]):
                secret = case.get("product_secret") or case["device_secret"]
                digest = hexlify(
                    sign.hmac(case["method"], secret.encode(), case["content"].encode())
                )
                self.assertEqual(case["password"].lower(), digest.decode())
                if "client_id" not in case:
                    continue  # V16, V17: the parts are not given, only the content
                params = {}
                for name, key in names:
                    if key in case:
                        params[name] = case[key].split("|")[0]
                if "random" in case:
                    del params["clientId"]  # registration does not sign it
                self.assertEqual(case["content"].encode(), sign.canonical(params))
                self.assertEqual(digest, sign.hex_hmac(case["method"], secret.encode(), params))
