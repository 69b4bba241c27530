"""What outlives a call to EnOS's API."""

import unittest

from imprint import port
from imprint.net import enos_api


class TestAccount(unittest.TestCase):
    def setUp(self):
        self.unix_ms = port.unix_ms

    def tearDown(self):
        port.unix_ms = self.unix_ms

    def test_time(self):
        """Never the same twice, whether the clock stands, goes on, or was set back."""
        port.unix_ms = lambda: 1_700_000_000_000
        account = enos_api.Account()
        told = [account.time_ms() for _ in range(3)]
        self.assertEqual([told[0], told[0] + 1, told[0] + 2], told)
        self.assertTrue(0 <= told[0] - port.unix_ms() < 1000)
        port.unix_ms = lambda: 1_600_000_000_000
        self.assertTrue(account.time_ms() < 1_600_000_001_000)

    def test_reset(self):
        """Another start in the same second tells another time, as a rule."""
        port.unix_ms = lambda: 1_700_000_000_000
        self.assertTrue(len({enos_api.Account().time_ms() for _ in range(20)}) > 10)


if __name__ == "__main__":
    unittest.main()
