"""An edge's requests for its sub-devices, and how it reads what the cloud says of each."""

import json
import unittest

from firmware_support import vectors
from imprint.clouds import enos_gateway
from imprint.errors import SetupError, WeatherError

_NAME = ("subPK001", "subDK001")
_NOW = 1548753362502


class TestRequests(unittest.TestCase):
    def test_signatures(self):
        """Login, batch and topology carry the signature of the vendor's SDKs, in upper case."""
        for case in vectors("enos")["subdevice"]:
            if case["method"] != "sha256" or case["timestamp"] != str(_NOW):
                continue
            secret, client_id = case["secret"].encode(), case["client_id"]
            entries = [(_NAME, secret, 2)]
            batch = json.loads(enos_gateway.login_batch(client_id, _NOW, entries))
            bound = json.loads(enos_gateway.topology_add(client_id, _NOW, [(_NAME, secret)]))
            alone = json.loads(enos_gateway.login(_NAME, client_id, secret, _NOW))
            for signed in (batch["subDevices"][0], bound[0], alone):
                self.assertEqual(case["sign"].upper(), signed["sign"])
                self.assertEqual(_NAME, (signed["productKey"], signed["deviceKey"]))
            for shared in (batch, bound[0], alone):
                self.assertEqual(client_id, shared["clientId"])
                self.assertEqual("sha256", shared["signMethod"])
                self.assertEqual(str(_NOW), shared["timestamp"])

    def test_modes(self):
        """Mode 3 is said, mode 2 is what goes without saying."""
        entries = [(_NAME, b"x", 3), (_NAME, b"x", 2)]
        batch = json.loads(enos_gateway.login_batch("c", _NOW, entries))
        self.assertEqual("3", batch["subDevices"][0]["secureMode"])
        self.assertFalse("secureMode" in batch["subDevices"][1])
        alone = json.loads(enos_gateway.login(_NAME, "c", b"x", _NOW, 3))
        self.assertEqual("3", alone["secureMode"])

    def test_register(self):
        """A registration has the fields that the documents ask for."""
        expected = vectors("enos")["register"]["params"][0]
        made = json.loads(enos_gateway.register([_NAME, ("p", "d")], "+08:00"))
        self.assertEqual(2, len(made))
        self.assertEqual({"defaultValue": "subDK001"}, made[0]["deviceName"])
        for name in ("productKey", "deviceKey", "timezone"):
            self.assertEqual(expected[name], made[0][name])

    def test_names(self):
        """Leaving the session or the topology takes names alone."""
        self.assertEqual(
            {"productKey": "subPK001", "deviceKey": "subDK001"},
            json.loads(enos_gateway.named(_NAME)),
        )
        self.assertEqual(2, len(json.loads(enos_gateway.topology_delete([_NAME, ("p", "d")]))))

    def test_share(self):
        """A request names as many as its reply has room for, and at least one."""
        self.assertEqual(0, enos_gateway.share([]))
        self.assertEqual(3, enos_gateway.share([20] * 3))
        self.assertTrue(20 <= enos_gateway.share([20] * 200) <= 30)
        self.assertTrue(enos_gateway.share([96] * 200) * (96 + 140) <= 4096)
        self.assertEqual(1, enos_gateway.share([9999]))


class TestReports(unittest.TestCase):
    def test_parts(self):
        """Entries are joined and parted again; text in a value does not part them."""
        own = enos_gateway.entry(None, {"a": 1}, 5)
        other = enos_gateway.entry(_NAME, {"note": "two\nlines"}, 6)
        body = b"\n".join([own, other])
        self.assertEqual([own, other], enos_gateway.parts(body))
        params = json.loads(enos_gateway.params(body))
        self.assertEqual({"measurepoints": {"a": 1}, "time": 5}, params[0])
        self.assertEqual("two\nlines", params[1]["measurepoints"]["note"])
        self.assertEqual(_NAME, enos_gateway.of_whom(other))
        self.assertEqual((None, None), enos_gateway.of_whom(own))
        for more in (enos_gateway.LATE, enos_gateway.NOW):
            json.loads(b'{"params":[]' + more + b"}")

    def test_event_names(self):
        """What would make another topic of an event's, or none, never gets into a report: the
        cloud would hang up at it, again and again."""
        self.assertTrue(enos_gateway.happening(None, ("door", {}), 5))
        for name in ("a/b", "a+", "#", "\0"):
            with self.assertRaises(ValueError):
                enos_gateway.happening(None, (name, {}), 5)


class TestReplies(unittest.TestCase):
    def test_logged_in(self):
        """Who is online and who is not, of a batch and of one; a secret where one was issued."""
        one = {"assetId": "a", "productKey": "p", "deviceKey": "d"}
        two = {"productKey": "p", "deviceKey": "e", "deviceSecret": "s"}
        self.assertEqual(([("p", "d", "")], []), enos_gateway.logged_in(one))
        nobody = [{"productKey": "p"}, {"productKey": [], "deviceKey": "d"}, 5]
        failed = [{"productKey": "p", "deviceKey": "f"}] + nobody
        data = {"loginedSubDevices": nobody + [one, two], "failedSubDevices": failed}
        self.assertEqual(
            ([("p", "d", ""), ("p", "e", "s")], [("p", "f")]), enos_gateway.logged_in(data)
        )
        self.assertEqual([("p", "e", "s")], enos_gateway.registered([two]))

    def test_malformed(self):
        """Nothing that comes is taken for a login or a secret that it is not."""
        for data in (None, 5, [], {}, {"loginedSubDevices": 5}, {"loginedSubDevices": [None]}):
            self.assertEqual(([], []), enos_gateway.logged_in(data))
        bad = {"productKey": "p", "deviceKey": "d", "deviceSecret": "two words"}
        self.assertEqual([("p", "d", "")], enos_gateway.registered([bad]))
        self.assertEqual([], enos_gateway.registered({"productKey": "p"}))

    def test_refusals(self):
        """Each code of the vendor's table has its error, with the sub-device's name."""
        for code, ours in (
            (401, 530), (705, 520), (719, 526), (723, 521), (740, 522), (741, 526), (742, 523),
            (745, 524), (746, 524), (770, 525), (771, 525), (791, 526), (1200, 527), (1220, 527),
            (11702, 529), (11739, 531), (99999, 527),
        ):  # fmt: skip
            error = enos_gateway.refusal(code, "said", "d1")
            self.assertEqual(
                (SetupError, ours, code, "d1: said"),
                (type(error), error.code, error.number, error.detail),
            )
        for code in (429, 500, 599):
            error = enos_gateway.refusal(code, "")
            self.assertEqual((WeatherError, 528, ""), (type(error), error.code, error.detail))


if __name__ == "__main__":
    unittest.main()
