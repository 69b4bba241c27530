"""Delays between attempts: doubling, bounded, and not the same for everybody."""

import unittest

from imprint.backoff import Backoff


def _least(n):
    return b"\x00" * n


def _most(n):
    return b"\xff" * n


class TestBackoff(unittest.TestCase):
    def test_least(self):
        """Without luck the delay is half the span: it doubles up to the ceiling and stays."""
        backoff = Backoff(_least, 1000, 5000)
        self.assertEqual([500, 1000, 2000, 2500, 2500], [backoff.next_ms() for _ in range(5)])

    def test_most(self):
        """The span itself is the most, and the ceiling is never passed."""
        backoff = Backoff(_most, 1000, 5000)
        self.assertEqual([1000, 2000, 4000, 5000, 5000], [backoff.next_ms() for _ in range(5)])

    def test_chance_spreads(self):
        """Different random bytes give different delays."""
        draws = [b"\x00\x00\x00\x00", b"\x80\x00\x00\x00", b"\xc0\x00\x00\x00"]
        backoff = Backoff(lambda n: draws.pop(0), 8000, 8000)
        self.assertEqual([4000, 6000, 7000], [backoff.next_ms() for _ in range(3)])

    def test_retry_after(self):
        """What the peer asks for is the least, even above the ceiling, with jitter on top."""
        self.assertEqual(60000, Backoff(_least, 1000, 5000).next_ms(60000))
        self.assertEqual(60500, Backoff(_most, 1000, 5000).next_ms(60000))

    def test_shorter_retry_after(self):
        """A peer that asks for less than we would wait anyway changes nothing."""
        self.assertEqual(500, Backoff(_least, 1000, 5000).next_ms(100))

    def test_reset(self):
        """After a success it begins at the first delay again."""
        backoff = Backoff(_most, 1000, 5000)
        backoff.next_ms()
        backoff.next_ms()
        backoff.reset()
        self.assertEqual(1000, backoff.next_ms())
