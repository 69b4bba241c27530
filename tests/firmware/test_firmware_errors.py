"""The error tree keeps its promises; test_architecture.py compares the codes."""

import unittest

from imprint import errors


class TestErrors(unittest.TestCase):
    def test_retry(self):
        """What a person must mend is not retried; the peer's lies and the weather are."""
        for kind, retry in (
            (errors.ImprintError, False),
            (errors.SetupError, False),
            (errors.ProtocolError, True),
            (errors.WeatherError, True),
        ):
            with self.subTest(kind.__name__):
                self.assertEqual(retry, kind(1).retry)

    def test_code_detail_and_number(self):
        """Detail and number are optional, and the detail is what the error prints."""
        bare = errors.WeatherError(204)
        self.assertEqual((204, "", None), (bare.code, bare.detail, bare.number))
        full = errors.SetupError(502, "by the broker", 5)
        self.assertEqual((502, "by the broker", 5), (full.code, full.detail, full.number))
        self.assertEqual("by the broker", str(full))

    def test_caught_by_its_root(self):
        """An error is caught as its kind and as ImprintError."""
        for kind in (errors.ProtocolError, errors.ImprintError):
            with self.assertRaises(kind):
                raise errors.ProtocolError(320, "in CONNACK", 104)
