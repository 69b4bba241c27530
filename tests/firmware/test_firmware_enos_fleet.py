"""What an EnOS edge asks for its sub-devices, and in which order. The cloud is a list of what was
asked; the same over a real connection is in tests/journeys."""

import json
import unittest

from firmware_support import MemoryFolder, raises
from imprint import port
from imprint.clouds import enos_gateway
from imprint.drivers import simulated
from imprint.errors import WeatherError
from imprint.identity import build
from imprint.net import enos_fleet

_LIST = b"!sim simulated power:5000:400\nb-1 sim 1 Secret1\nb-2 sim 2 Secret2\nc-1 sim 3\n"
_EDGE = {
    "journey": "enos-gateway",
    "product_key": "edgePK",
    "device_key": "edge",
    "secure_mode": 2,
    "device_secret": "Secret0",
    "host": "mqtt.example",
    "port": 18883,
    "wifi_ssid": "bench",
    "subdevice_registration": "mqtt",
    "subdevice_product_key": "subPK",
    "subdevices_sha256": "its hash was compared before",
}


class Unit:
    """What of the unit a fleet uses."""

    def __init__(self):
        self.store = {"subdevices": _LIST}
        self.fed = 0

    def feed(self):
        self.fed += 1


class Cloud:
    """A session whose cloud knows who is bound."""

    def __init__(self, bound=()):
        self.identity = build(_EDGE)
        self.cloud = enos_gateway
        self.bound = set(bound)
        self.asked = []  # (tail, device keys)
        self.odd = None  # what stands before the first name of a reply
        self.busy = ""  # the request that is told to come later, once
        self.described = {}  # device key: what its driver says of it
        self.absent = ()  # who may not be taken out of the topology, since he is not there

    def can_wait(self, error):
        return error.code == 528

    def describe(self, say, name):
        self.described[name[1]] = say("attributes")

    def ask(self, tail, params):
        said = json.loads(params)
        if tail == "thing/topo/delete" and [e for e in said if e["deviceKey"] in self.absent]:
            self.asked.append((tail, "refused"))
            return 740, "", None
        if isinstance(said, dict):
            said = said.get("subDevices", [said])
        keys = [entry["deviceKey"] for entry in said]
        self.asked.append((tail, keys))
        if tail == self.busy:
            self.busy = ""
            return 429, "", None
        if tail == "thing/device/register":
            return 200, "", [self._device(key, "Made1") for key in keys]
        if tail == "thing/topo/delete":
            self.bound.difference_update(keys)
            return 200, "", None
        if tail == "combine/logout":
            return 200, "", None
        if tail == "thing/topo/add":
            self.bound.update(keys)
            return 200, "", None
        done = [self._device(key, None) for key in keys if key in self.bound]
        data = {"loginedSubDevices": ([self.odd] if self.odd else []) + done}
        return (200 if len(done) == len(keys) else 740), "", data

    def _device(self, key, secret):
        return {"productKey": "subPK", "deviceKey": key, "deviceSecret": secret}


class Silent:
    """A driver of slaves that do not answer; each costs three seconds."""

    clock = 0

    def poll(self, address):
        Silent.clock += 3000
        raise WeatherError(250, "slave %d" % address)


class Talking:
    """A driver with something to say; an event at address 2."""

    def poll(self, address):
        return {"power": address}

    def attributes(self, address):
        return {"serial": address}

    def event(self, address):
        return ("alarm", {"level": 3}) if address == 2 else None


class TestFleet(unittest.TestCase):
    def setUp(self):
        self.folder = MemoryFolder()
        self.store, self.ticks, self.emit = enos_fleet.FolderStore, port.ticks_ms, port.emit
        enos_fleet.FolderStore = lambda path: self.folder
        port.emit = lambda *args, **more: None
        self.unit = Unit()

    def tearDown(self):
        enos_fleet.FolderStore, port.ticks_ms, port.emit = self.store, self.ticks, self.emit

    def _online(self, cloud):
        fleet = enos_fleet.Fleet(cloud, self.unit)
        fleet.rise()
        while fleet.step():
            pass
        return fleet

    def test_nobody_logs_in_unbound(self):
        """Created, bound, logged in: one request each, and no login that must be refused."""
        cloud = Cloud()
        self._online(cloud)
        everybody = ["b-1", "b-2", "c-1"]
        self.assertEqual(
            [
                ("thing/device/register", ["c-1"]),
                ("thing/topo/add", everybody),
                ("combine/login/batch", everybody),
            ],
            cloud.asked,
        )

    def test_bound_once(self):
        """After a restart the login is all; after one that came too early all are bound again."""
        self._online(Cloud())
        cloud = Cloud(["b-1", "b-2", "c-1"])
        self._online(cloud)
        self.assertEqual(["combine/login/batch"], [tail for tail, _ in cloud.asked])
        for torn in (b"", b"\0\0"):
            self.folder.content["bound"] = torn
            cloud = Cloud()
            self._online(cloud)
            self.assertEqual(
                ["thing/topo/add", "combine/login/batch"], [tail for tail, _ in cloud.asked]
            )

    def test_another_list(self):
        """Who is new in the list is bound, too."""
        self._online(Cloud())
        self.unit.store["subdevices"] = _LIST + b"b-3 sim 4 Secret3\n"
        cloud = Cloud(["b-1", "b-2", "c-1"])
        self._online(cloud)
        self.assertEqual(["b-1", "b-2", "c-1", "b-3"], cloud.asked[-1][1])
        self.assertEqual(2, len(cloud.asked))

    def test_left_the_list(self):
        """Who is in the list no more is taken out of the topology, and what was issued to it
        goes; whoever was out already is no obstacle, and the next start asks nobody again."""
        self._online(Cloud())
        issued = [name for name in self.folder.content if b"Made1" in self.folder.content[name]]
        self.unit.store["subdevices"] = _LIST[: _LIST.index(b"b-1")] + b"d-1 sim 4 Secret4\n"
        cloud = Cloud(["b-1", "b-2", "c-1"])
        cloud.absent = ("b-2",)
        self._online(cloud)
        self.assertEqual({"d-1"}, cloud.bound - {"b-2"})
        delete = "thing/topo/delete"
        self.assertEqual(
            [(delete, "refused"), (delete, ["b-1"]), (delete, "refused"), (delete, ["c-1"])],
            cloud.asked[:4],
        )
        self.assertEqual(1, len(issued))
        self.assertFalse(issued[0] in self.folder.content)
        cloud = Cloud(["d-1"])
        self._online(cloud)
        self.assertEqual([("combine/login", ["d-1"])], cloud.asked)

    def test_left_the_list_at_a_bad_time(self):
        """What the cloud has not acknowledged is asked for again at the next start."""

        def down(tail, params):
            raise WeatherError(304)

        self._online(Cloud())
        self.unit.store["subdevices"] = _LIST[: _LIST.index(b"c-1")]
        cloud = Cloud()
        cloud.ask = down
        with raises(WeatherError, 304):
            self._online(cloud)
        cloud = Cloud(["b-1", "b-2", "c-1"])
        self._online(cloud)
        self.assertEqual(("thing/topo/delete", ["c-1"]), cloud.asked[0])

    def test_left_the_list_while_the_cloud_is_busy(self):
        """It is asked again later, for all at once: not at once, for each by itself."""
        self._online(Cloud())
        self.unit.store["subdevices"] = _LIST[: _LIST.index(b"b-1")] + b"d-1 sim 4 Secret4\n"
        cloud = Cloud(["b-1", "b-2", "c-1"])
        cloud.busy = "thing/topo/delete"
        self._online(cloud)
        deletions = [keys for tail, keys in cloud.asked if tail == "thing/topo/delete"]
        self.assertEqual([["b-1", "b-2", "c-1"]], deletions)

    def test_lost(self):
        """Who is silent in two rounds is logged out, and online again once it has answered."""
        cloud = Cloud()
        fleet = self._online(cloud)
        answers, driver = fleet.drivers.made.get("sim"), Silent()
        for left in (3, 3, 0):
            self.assertEqual(left, fleet.table.count(enos_fleet.s.ONLINE))
            fleet.drivers.made["sim"] = driver
            fleet.next_round()
            self.assertEqual([], fleet.entries(2560, True))
            while fleet.step():
                pass
        self.assertEqual(
            [("combine/logout", [key]) for key in ("b-1", "b-2", "c-1")], cloud.asked[-3:]
        )
        fleet.drivers.made["sim"] = answers
        fleet.next_round()
        self.assertEqual([], fleet.entries(2560, True))  # not before it is online
        while fleet.step():
            pass
        self.assertEqual(("combine/login/batch", ["b-1", "b-2", "c-1"]), cloud.asked[-1])
        fleet.next_round()
        self.assertEqual(3, len(fleet.entries(2560, True)))

    def test_said_by_a_driver(self):
        """A driver's attributes are asked for at each login, its events with the values; what it
        has no method for is refused."""
        cloud = Cloud()
        fleet = enos_fleet.Fleet(cloud, self.unit)
        fleet.drivers.made["sim"] = Talking()
        fleet.rise()
        while fleet.step():
            pass
        expected = {"b-1": {"serial": 1}, "b-2": {"serial": 2}, "c-1": {"serial": 3}}
        self.assertEqual(expected, cloud.described)
        fleet.next_round()
        found = fleet.entries(2560, True)
        events, rest = enos_gateway.happened(b"\n".join(found))
        self.assertEqual(4, len(found))
        self.assertEqual(3, len(enos_gateway.parts(rest)))
        self.assertEqual((("subPK", "b-2"), "thing/event/alarm/post"), events[0][:2])
        self.assertEqual({"level": 3}, json.loads(events[0][2])["events"])
        with self.assertRaises(KeyError):
            fleet.command(("subPK", "b-1"), "set", {})

    def test_unbound_meanwhile(self):
        """Who was taken out of the topology is put there again, once, and logged in."""
        self._online(Cloud())
        cloud = Cloud(["b-1", "c-1"])
        self._online(cloud)
        self.assertEqual(
            [
                ("combine/login/batch", ["b-1", "b-2", "c-1"]),
                ("thing/topo/add", ["b-2"]),
                ("combine/login", ["b-2"]),
            ],
            cloud.asked,
        )

    def _later(self, busy):
        # (who is online while the cloud defers that request, all requests until then)
        clock = [0]
        port.ticks_ms = lambda: clock[0]
        cloud = Cloud()
        cloud.busy = busy
        fleet = self._online(cloud)
        online = fleet.table.count(enos_fleet.s.ONLINE)
        asked = list(cloud.asked)
        clock[0] = 29_999
        self.assertFalse(fleet.step())
        clock[0] = 30_000
        while fleet.step():
            pass
        self.assertEqual(3, fleet.table.count(enos_fleet.s.ONLINE))
        return online, [tail for tail, _ in asked]

    def test_creation_deferred(self):
        """Who has to wait for a request that the cloud defers keeps nobody else waiting."""
        tails = ["thing/device/register", "thing/topo/add", "combine/login/batch"]
        self.assertEqual((2, tails), self._later(tails[0]))

    def test_binding_deferred(self):
        """Nobody logs in unbound, and a cloud that is busy is not asked for each by itself."""
        tails = ["thing/device/register", "thing/topo/add"]
        self.assertEqual((0, tails), self._later(tails[1]))

    def test_login_deferred(self):
        tails = ["thing/device/register", "thing/topo/add", "combine/login/batch"]
        self.assertEqual((0, tails), self._later(tails[2]))

    def test_no_room_for_the_mark(self):
        """A full file system costs the next start a request, and nobody's session."""
        self.folder.room = 1
        fleet = self._online(Cloud())
        self.assertEqual(3, fleet.table.count(enos_fleet.s.ONLINE))

    def test_odd_names(self):
        """A reply whose names are no names breaks nothing."""
        for odd in ({"productKey": [], "deviceKey": {}}, {"productKey": 1}, {}, 7):
            cloud = Cloud()
            cloud.odd = odd
            self.assertEqual(3, self._online(cloud).table.count(enos_fleet.s.ONLINE))

    def test_silent_bus(self):
        """Many silent slaves do not keep the edge from its connection."""
        fleet = self._online(Cloud())
        Silent.clock = 0
        port.ticks_ms = lambda: Silent.clock
        fleet.drivers.made["sim"] = Silent()
        fleet.next_round()
        self.assertEqual([], fleet.entries(2560, True))
        self.assertFalse(fleet.round_done)
        self.assertEqual(6000, Silent.clock)
        self.assertEqual([], fleet.entries(2560, True))
        self.assertTrue(fleet.round_done)
        fleet.drivers.made["sim"] = simulated.Driver(["power:5000:400"], {}, self.unit.feed)
        fleet.next_round()
        self.assertEqual(3, len(fleet.entries(2560, True)))


if __name__ == "__main__":
    unittest.main()
