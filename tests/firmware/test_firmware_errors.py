"""The error tree keeps its promises."""

import unittest

from imprint import errors


def _classes():
    found = []
    for name in dir(errors):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, errors.ImprintError):
            found.append(kind)
    return found


_ROOTS = (errors.ImprintError, errors.SetupError, errors.ProtocolError, errors.WeatherError)


class TestErrors(unittest.TestCase):
    def test_codes(self):
        """Each error has a code of its own, in a documented range; the roots have none."""
        codes = [kind.code for kind in _classes() if kind not in _ROOTS]
        self.assertEqual(len(codes), len(set(codes)))
        self.assertTrue(100 < min(codes) and max(codes) < 700)
        for root in _ROOTS:
            self.assertEqual(0, root.code)

    def test_retry(self):
        """What a person must mend is not retried; the weather is."""
        for kind in _classes():
            with self.subTest(kind.__name__):
                if issubclass(kind, errors.WeatherError):
                    self.assertTrue(kind.retry)
                if issubclass(kind, errors.SetupError):
                    self.assertFalse(kind.retry)

    def test_detail_and_number(self):
        """Both are optional, and the detail is what the error prints."""
        bare = errors.LinkLost()
        self.assertEqual(("", None), (bare.detail, bare.number))
        full = errors.LoginRefused("by the broker", 5)
        self.assertEqual(("by the broker", 5), (full.detail, full.number))
        self.assertEqual("by the broker", str(full))

    def test_caught_by_its_root(self):
        """An error is caught as itself, as its kind and as ImprintError."""
        for kind in (errors.PeerClosed, errors.ProtocolError, errors.ImprintError):
            with self.assertRaises(kind):
                raise errors.PeerClosed("in CONNACK", 104)
