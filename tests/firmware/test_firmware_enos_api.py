"""Tokens of EnOS's API: got once, renewed in time and after they were refused; and the time that
each call tells. What is signed is in test_firmware_enos_rest.py."""

import unittest

from firmware_support import raises
from imprint import port
from imprint.errors import WeatherError
from imprint.net import enos_api

_LIFE_S = 7200


class Rest:
    """Calls that are numbers, tokens that are their own; `expired` answers refuse the token."""

    ANSWER_MAX = 64

    def __init__(self, expired=0):
        self.expired = expired
        self.tokens = 0
        self.asked = []

    def token_request(self, identity, time_ms):
        return ("token",)

    def token(self, answer):
        self.tokens += 1
        return "token %d" % self.tokens, _LIFE_S

    def signed(self, identity, token, call, time_ms):
        return (token, call)

    def data(self, answer):
        if self.expired:
            self.expired -= 1
            raise WeatherError(446)
        return answer

    def skewed(self, error, answer, time_ms):
        return error

    def exchange(self, *request):
        self.asked.append(request)
        return request[-1]


class Identity:
    api_host = "api.example"
    api_port = 443


class TestTokens(unittest.TestCase):
    def setUp(self):
        self.ticks_ms = port.ticks_ms
        self.now = 0
        port.ticks_ms = lambda: self.now

    def tearDown(self):
        port.ticks_ms = self.ticks_ms

    def _api(self, rest, account=None):
        api = enos_api.Api(Identity(), rest, None, account or enos_api.Account(), None)
        api._http = rest
        return api

    def test_kept(self):
        """One token for all calls, of another Api as well, until its last tenth."""
        rest, account = Rest(), enos_api.Account()
        for now, tokens in ((0, 1), (1, 1), (_LIFE_S * 900 - 1, 1), (_LIFE_S * 900, 2)):
            self.now = now
            self.assertEqual("call", self._api(rest, account).call("call"))
            self.assertEqual(tokens, rest.tokens)

    def test_expired(self):
        """One that is refused is got anew, once; who is refused again waits."""
        rest = Rest(expired=1)
        self.assertEqual("call", self._api(rest).call("call"))
        self.assertEqual(
            [("token",), ("token 1", "call"), ("token",), ("token 2", "call")], rest.asked
        )
        rest = Rest(expired=2)
        with raises(WeatherError, 446):
            self._api(rest).call("call")
        self.assertEqual(2, rest.tokens)


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
