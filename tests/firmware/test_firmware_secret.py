"""A secret shows its fingerprint and nothing else."""

import unittest

from imprint.secret import Secret

# printf canary-7f3 | sha256sum
_FINGERPRINT = "<Secret sha256:895c260f>"


class TestSecret(unittest.TestCase):
    def test_only_the_fingerprint_shows(self):
        """repr, str, % and {} all give the fingerprint."""
        secret = Secret("canary-7f3")
        for text in (repr(secret), str(secret), "%s" % secret, "%r" % secret, f"{secret}"):
            self.assertEqual(_FINGERPRINT, text)
        self.assertEqual("[" + _FINGERPRINT + "]", str([secret]))

    def test_reveal(self):
        """reveal() gives the bytes, whether text or bytes were kept."""
        self.assertEqual(b"canary-7f3", Secret("canary-7f3").reveal())
        self.assertEqual(b"\x00\xff", Secret(bytearray(b"\x00\xff")).reveal())

    def test_nothing_is_concatenated_by_accident(self):
        """It is neither text nor bytes."""
        with self.assertRaises(TypeError):
            "psk=" + Secret("canary-7f3")
        with self.assertRaises(TypeError):
            b"psk=" + Secret("canary-7f3")
