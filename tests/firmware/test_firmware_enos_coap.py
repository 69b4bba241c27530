"""EnOS over CoAP: what is said and how the answer is read, by the documents and by our own."""

import binascii
import json
import unittest

from firmware_support import MemoryBlobs, raises, vectors
from imprint.clouds import enos_coap
from imprint.clouds import enos_coap_commands as commands
from imprint.clouds import enos_coap_events as events
from imprint.clouds import enos_coap_login as login
from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.identity import build
from imprint.net import coap_commands
from imprint.vault import Vault
from imprint.wire.coap.codes import GET, POST, SEND_MAX, URI_PATH
from imprint.wire.coap.message import Message
from imprint.wire.coap.params import nb_iot

_PK = "MuGsF6W4"
_DK = "15bBZlRknc"
_RECORD = {"product_key": _PK, "device_key": _DK, "device_secret": "M3yy874uGY8INjEGddTR"}
_INFO = {"assetId": "asset1", "productKey": _PK, "deviceKey": _DK, "deviceSecret": "issued1"}
_CONTENT = 0x45  # 2.05
_CHANGED = 0x44  # 2.04


def _identity(**changes):
    values = {
        "journey": "enos-coap",
        "product_key": _PK,
        "device_key": _DK,
        "device_key_source": "burned",
        "secure_mode": 3,
        "product_secret": "abcdefg",
    }
    values.update(changes)
    return build(values)


def _static(**changes):
    return _identity(secure_mode=2, device_secret="u2kWIr9eQXcIpXF18X4R", **changes)


def _each(waiting):
    return lambda: waiting.pop(0) if waiting else None


def _hex(secret):
    return binascii.hexlify(secret.reveal()).decode()


class TestDeviceKey(unittest.TestCase):
    def test_burned(self):
        """A burned key is the key, whichever modem is fitted."""
        self.assertEqual(_DK, login.device_key(_identity(), "490154203237518"))

    def test_imei(self):
        """Where the identity says so it is the IMEI, which may be burned as well."""
        for burned in (None, "490154203237518"):
            unit = _identity(device_key_source="imei", device_key=burned)
            self.assertEqual("490154203237518", login.device_key(unit, "490154203237518"))

    def test_no_modem(self):
        """A chip that does DTLS itself has no IMEI: for a person, not tried again."""
        with raises(SetupError, 103) as caught:
            login.device_key(_identity(device_key_source="imei", modem="none"), "")
        self.assertTrue(caught.exception.detail.startswith("device_key_source"))

    def test_another_modem(self):
        """A burned key that is not this modem's IMEI is an error that names both."""
        unit = _identity(device_key_source="imei", device_key="356938035643809")
        with raises(SetupError, 104) as caught:
            login.device_key(unit, "490154203237518")
        self.assertIn("356938035643809", caught.exception.detail)
        self.assertIn("490154203237518", caught.exception.detail)

    def test_no_imei(self):
        """Fifteen digits, of which the last checks the others; anything else was misread."""
        unit = _identity(device_key_source="imei", device_key=None)
        for case in vectors("enos_coap")["imei"]:
            with self.subTest(case["imei"]):
                if case["valid"]:
                    self.assertEqual(case["imei"], login.device_key(unit, case["imei"]))
                else:
                    with raises(ProtocolError, 105):
                        login.device_key(unit, case["imei"])


class TestHandshake(unittest.TestCase):
    def test_derivation(self):
        """Every vector of the PSK."""
        for case in vectors("enos_coap")["psk"]:
            with self.subTest(case["secret"]):
                self.assertEqual(case["psk"], _hex(login.derive_psk(case["secret"].encode())))

    def test_identity(self):
        """Every vector of the PSK identity."""
        for case in vectors("enos_coap")["identity"]:
            changes = dict(case)
            expected = changes.pop("psk_identity").encode()
            with self.subTest(str(expected)):
                unit = _identity(device_secret="s", **changes)
                self.assertEqual(expected, login.psk_identity(unit, None))

    def test_mode_3(self):
        """Before activation: the product's secret and mode 3. After it: the issued one, mode 2."""
        unit = _identity()
        self.assertEqual(b"MuGsF6W4,15bBZlRknc,3,3600", login.psk_identity(unit, None))
        self.assertEqual("f5b79b5fb0803061152a44f92b37e23c", _hex(login.psk_key(unit, None)))
        self.assertEqual(b"MuGsF6W4,15bBZlRknc,2,3600", login.psk_identity(unit, _RECORD))
        self.assertEqual("43e307fffce19a0176803de3445fe0e3", _hex(login.psk_key(unit, _RECORD)))

    def test_mode_2(self):
        """A burned secret is used, whatever an earlier identity of this board left behind."""
        for credential in (None, _RECORD):
            unit = _static()
            self.assertEqual(b"MuGsF6W4,15bBZlRknc,2,3600", login.psk_identity(unit, credential))
            self.assertEqual(
                "55ca0f1224140d8d9b7d238065ab2ff4", _hex(login.psk_key(unit, credential))
            )

    def test_no_key_in_print(self):
        """What is derived is as secret as what it is derived from."""
        self.assertNotIn("f5b79b5f", str(login.psk_key(_identity(), None)))

    def test_activation_needed(self):
        """By units that hold no secret of their own; one that is another's does not count."""
        unit = _identity()
        self.assertTrue(login.needs_activation(unit, None))
        self.assertTrue(login.needs_activation(unit, {}))
        self.assertFalse(login.needs_activation(unit, _RECORD))
        self.assertFalse(login.needs_activation(_static(), None))
        for name in ("product_key", "device_key"):
            foreign = dict(_RECORD)
            foreign[name] = "another"
            self.assertTrue(login.needs_activation(unit, foreign))
            self.assertEqual(
                "f5b79b5fb0803061152a44f92b37e23c", _hex(login.psk_key(unit, foreign))
            )


class TestActivation(unittest.TestCase):
    def answer(self, payload, code=_CONTENT):
        if isinstance(payload, dict):
            payload = json.dumps(payload).encode()
        return login.activation_answer(_identity(), code, payload)

    def test_request(self):
        """GET of the documented path."""
        self.assertEqual(
            (GET, ["topic", "ext", "session", _PK, _DK, "thing", "activate", "info"]),
            login.activation_request(_identity()),
        )

    def test_answered(self):
        """The four fields, wherever the envelope has them, make the record."""
        expected = {"product_key": _PK, "device_key": _DK, "device_secret": "issued1"}
        for payload in (
            _INFO,
            {"id": "1", "version": "1.0", "method": "thing.activate.info", "params": _INFO},
            {"id": "1", "code": 200, "message": "", "data": _INFO},
        ):
            with self.subTest(str(payload)):
                self.assertEqual(expected, self.answer(payload))
        self.assertEqual(expected, self.answer(_INFO, _CHANGED))

    def test_record_survives(self):
        """The vault takes the record, and with it the unit is activated."""
        vault = Vault(MemoryBlobs())
        vault.store(self.answer(_INFO))
        self.assertFalse(login.needs_activation(_identity(), vault.load()))

    def test_refused(self):
        """4.xx, and the codes of a reply, are a person's to mend."""
        for code, number in ((0x80, 400), (0x81, 401), (0x83, 403), (0x84, 404), (0x85, 405)):
            with raises(SetupError, 410) as caught:
                self.answer(b"", code)
            self.assertEqual(number, caught.exception.number)
        for number in (770, 771):
            with raises(SetupError, 410) as caught:
                self.answer({"id": "1", "code": number, "message": "not allowed"})
            self.assertEqual((number, "not allowed"),
                             (caught.exception.number, caught.exception.detail))  # fmt: skip

    def test_not_now(self):
        """5.xx passes, and so does 4.29; as the code of a reply, too."""
        for code, number in ((0xA0, 500), (0xA3, 503), (0x9D, 429)):
            with raises(WeatherError, 411) as caught:
                self.answer(b"", code)
            self.assertEqual(number, caught.exception.number)
        for number in (429, 500, 599):
            with raises(WeatherError, 411) as caught:
                self.answer({"id": "1", "code": number, "message": "busy"})
            self.assertEqual((number, "busy"),
                             (caught.exception.number, caught.exception.detail))  # fmt: skip

    def test_malformed(self):
        """Anything else than the documented answer is asked for again; no secret in the error."""
        whole = json.dumps(_INFO).encode()
        for cut in range(len(whole)):
            with raises(ProtocolError, 412):
                self.answer(whole[:cut])
        for change in (None, 7, "", "s" * 129, "with space", "caf\u00e9", "tab\t"):
            info = dict(_INFO)
            info["deviceSecret"] = change
            with self.subTest(str(change)), raises(ProtocolError, 412) as caught:
                self.answer(info)
            self.assertEqual("deviceSecret", caught.exception.detail)
        for code in ("770", None, True):
            with raises(ProtocolError, 412):
                self.answer({"code": code})
        with raises(ProtocolError, 412):
            self.answer({"pad": "p" * 1100, "params": _INFO})

    def test_foreign(self):
        """Another device's secret is not taken."""
        for name in ("productKey", "deviceKey"):
            for value in ("another", None):
                info = dict(_INFO)
                info[name] = value
                with raises(SetupError, 413):
                    self.answer(info)
        with raises(SetupError, 413):
            self.answer({})


class TestReports(unittest.TestCase):
    def test_measurepoints(self):
        """The vendor's vector, at the vendor's path."""
        case = vectors("enos_coap")["report"]
        code, segments, payload = enos_coap.measurepoints(
            _identity(), 1, case["measurepoints"], case["time"]
        )
        self.assertEqual(POST, code)
        self.assertEqual(["topic", "sys", _PK, _DK, "thing", "measurepoint", "post"], segments)
        self.assertEqual(case["payload"], json.loads(payload))

    def test_wire(self):
        """Byte by byte; without a time, the cloud's clock counts."""
        values = {"q": 2, "p": {"value": 1.0, "quality": 9}}
        self.assertEqual(
            b'{"id":"7","method":"thing.measurepoint.post",'
            b'"params":{"measurepoints":{"p":{"quality":9,"value":1.0},"q":2}},"version":"1.0"}',
            enos_coap.measurepoints(_identity(), 7, values)[2],
        )

    def test_event(self):
        """An event is a line, whatever its fields say. It has its name in path and method, and
        its time where there was a clock."""
        for time_ms, said in ((5, b',"time":5'), (None, b"")):
            waiting = [("alarm", {"level": 2, "why": "a\nb"})]
            line, end, rest = events.events(_each(waiting), time_ms).partition(b"\n")
            self.assertEqual((b"\n", b""), (end, rest))
            code, segments, payload = events.message(_identity(), 8, line)
            self.assertEqual(POST, code)
            self.assertEqual(
                ["topic", "sys", _PK, _DK, "thing", "event", "alarm", "post"], segments
            )
            self.assertEqual(
                b'{"id":"8","method":"thing.event.alarm.post",'
                b'"params":{"events":{"level":2,"why":"a\\nb"}' + said + b'},"version":"1.0"}',
                payload,
            )

    def test_events(self):
        """They come in their order, eight with one report, and the others with the next."""
        waiting = [("e%d" % at, {}) for at in range(10)]
        names = []
        for count in (8, 2, 0):
            lines = events.events(_each(waiting), None).split(b"\n")[:-1]
            self.assertEqual(count, len(lines))
            names += [events.message(_identity(), 1, line)[1][6] for line in lines]
        self.assertEqual(["e%d" % at for at in range(10)], names)

    def test_an_event_without_json(self):
        """What JSON has no form for is the application's mistake, as in a report."""
        for fields in ({"level": b"2"}, {"level": float("nan")}):
            waiting = _each([("alarm", fields)])
            with self.assertRaises((TypeError, ValueError)):
                events.events(waiting, None)

    def test_event_names(self):
        """A name that would make another path of an event's, or none, never gets into a line."""
        for name in ("a/b", "", "e" * 65):
            with self.assertRaises(ValueError):
                events.events(_each([(name, {})]), None)
        with self.assertRaises(TypeError):
            events.events(_each([(5, {})]), None)

    def test_attributes(self):
        """Attributes are updated; none are not."""
        self.assertEqual(b"", events.attributes({}))
        line, end, rest = events.attributes({"sn": "A\n1"}).partition(b"\n")
        self.assertEqual((b"\n", b""), (end, rest))
        _, segments, payload = events.message(_identity(), 9, line)
        self.assertEqual(["topic", "sys", _PK, _DK, "thing", "attribute", "update"], segments)
        self.assertEqual(
            b'{"id":"9","method":"thing.attribute.update",'
            b'"params":{"attributes":{"sn":"A\\n1"}},"version":"1.0"}',
            payload,
        )

    def test_fits(self):
        """With the longest names a report of WHOLE_MAX is a message of 1 KB at most."""
        unit = _identity(product_key="p" * 32, device_key="d" * 64)
        line = events.events(_each([("e" * 64, {})]), None)[:-1]
        code, segments, _ = events.message(unit, 1, line)
        message = Message(code, b"p" * enos_coap.WHOLE_MAX)
        message.token = b"tokentok"
        for segment in segments:
            message.add(URI_PATH, segment.encode())
        self.assertTrue(len(message.encode()) <= min(1024, SEND_MAX))
        self.assertTrue(16 << enos_coap.BLOCK_EXPONENT <= enos_coap.WHOLE_MAX)


class TestRefusals(unittest.TestCase):
    def test_accepted(self):
        """A success without a reply, with code 200, or with one that says nothing we know."""
        for payload in (b"", b'{"id":"1","code":200}', b"{}", b'{"code":"odd"}',
                        b'{"code":true}'):  # fmt: skip
            self.assertIsNone(enos_coap.report_refused(_CHANGED, payload, 1))

    def test_not_its_reply(self):
        """One that is cut off, no JSON, or of another message says nothing: 604, it is kept."""
        for payload in (
            b"not JSON", b'{"id":"1","code":2', b'{"id":"1","code":200', b"[]", b"\xff",
            b'{"id":"2","code":200}', b'{"id":2}', b'{"id":null,"code":460}',
        ):  # fmt: skip
            error = enos_coap.report_refused(_CHANGED, payload, 1)
            self.assertEqual((WeatherError, 604), (type(error), error.code))
            self.assertTrue(error.detail)

    def test_coap_codes(self):
        """The documented codes, each as what it means."""
        for code, kind, expected, number in (
            (0x80, SetupError, 601, 400),
            (0x81, WeatherError, 505, 401),
            (0x83, SetupError, 506, 403),
            (0x84, SetupError, 601, 404),
            (0x85, SetupError, 601, 405),
            (0x88, SetupError, 601, 408),
            (0x8D, SetupError, 601, 413),
            (0x9D, WeatherError, 602, 429),
            (0xA0, WeatherError, 602, 500),
            (0xA3, WeatherError, 602, 503),
        ):
            error = enos_coap.report_refused(code, b"", 1)
            self.assertEqual((kind, expected, number), (type(error), error.code, error.number))

    def test_reply_codes(self):
        """What 2.04 hides in its reply."""
        for number, kind, expected in (
            (1200, SetupError, 601),
            (1220, SetupError, 601),
            (460, SetupError, 601),
            (401, SetupError, 601),
            (723, SetupError, 603),
            (705, SetupError, 603),
            (429, WeatherError, 602),
            (500, WeatherError, 602),
        ):
            reply = b'{"id":"1","code":%d,"message":"why"}' % number
            error = enos_coap.report_refused(_CHANGED, reply, 1)
            self.assertEqual(
                (kind, expected, number, "why"),
                (type(error), error.code, error.number, error.detail),
            )

    def test_message(self):
        """The cloud's words are kept short, and only if they are words."""
        error = enos_coap.report_refused(
            _CHANGED, json.dumps({"code": 460, "message": "m" * 300}).encode(), 1
        )
        self.assertEqual("m" * 80, error.detail)
        self.assertEqual("", enos_coap.report_refused(_CHANGED, b'{"code":460}', 1).detail)


class TestLifetime(unittest.TestCase):
    def test_interval_is_shorter(self):
        """Reports that come often enough keep the device online by themselves."""
        unit = _identity(lifetime_s=3600, interval_s=900)
        self.assertEqual(900_000, login.report_due_ms(unit, 210_000))

    def test_lifetime_is_shorter(self):
        """Else one comes early: one message a lifetime, with time to be sent again."""
        unit = _identity(lifetime_s=3600, interval_s=86400)
        self.assertEqual(
            3_600_000 - 210_000,
            login.report_due_ms(unit, nb_iot().MAX_TRANSMIT_SPAN_MS),
        )

    def test_very_short(self):
        """A lifetime that leaves no time for all retransmissions leaves half for them."""
        unit = _identity(lifetime_s=30, interval_s=900)
        self.assertEqual(15_000, login.report_due_ms(unit, 210_000))


class TestCommands(unittest.TestCase):
    def pending(self, topic, payload=None):
        response = Message(_CHANGED)
        if topic is not None:
            response.add(2100, topic)
        if payload is not None:
            response.add(2102, payload)
        return enos_coap.command(_identity(), response)

    def test_none(self):
        """Most responses name no command."""
        self.assertIsNone(self.pending(None))
        self.assertIsNone(self.pending(None, b"{}"))

    def test_named(self):
        """Option 2100 names the path to GET; option 2102 has the payload already."""
        topic = b"/topic/sys/MuGsF6W4/15bBZlRknc/thing/service/measurepoint/set"
        segments = ["topic", "sys", _PK, _DK, "thing", "service", "measurepoint", "set"]
        self.assertEqual((segments, None), self.pending(topic))
        self.assertEqual((segments, b"{}"), self.pending(topic, b"{}"))

    def test_not_ours(self):
        """What is not below one of this unit's topics is no command."""
        own = b"/topic/sys/MuGsF6W4/15bBZlRknc/"
        for topic in (
            b"", b"/", b"\xff\xfe", b"topic/sys/MuGsF6W4/15bBZlRknc/thing/enable",
            b"/sys/MuGsF6W4/15bBZlRknc/thing/enable",
            b"/topic/sys/another/15bBZlRknc/thing/enable",
            b"/topic/sys/MuGsF6W4/another/thing/enable",
            own, own[:-1], own + b"/x", own + b"x/", own + b"a/" * 20 + b"b",
        ):  # fmt: skip
            self.assertIsNone(self.pending(topic))

    def parse(self, tail, params, msg_id="1"):
        segments = ["topic", "sys", _PK, _DK] + tail.split("/")
        message = {"id": msg_id, "version": "1.0", "params": params}
        return commands.parse_command(segments, json.dumps(message).encode())

    def test_kinds(self):
        """What the cloud wants."""
        for expected, tail, params in (
            (("set", "1", {"p": 2}), "thing/service/measurepoint/set", {"p": 2}),
            (("get", "1", ["p"]), "thing/service/measurepoint/get", ["p"]),
            (("service", "1", "open", {"a": 1}), "thing/service/open", {"a": 1}),
            (("other", "1"), "thing/enable", {}),
            (("other", "1"), "ota/device/upgrade", {}),
        ):
            self.assertEqual(expected, self.parse(tail, params))

    def test_malformed(self):
        """What cannot be parsed is said so, with the id as far as it is known."""
        for tail, params in (
            ("thing/service/measurepoint/set", []),
            ("thing/service/measurepoint/get", {}),
            ("thing/service/open", None),
            ("thing/service/a/b", {}),
            ("thing/service/measurepoint/other", {}),
        ):
            self.assertEqual(("malformed", "1"), self.parse(tail, params))
        segments = ["topic", "sys", _PK, _DK, "thing", "service", "open"]
        for payload in (b"", b"[]", b"\xff", b'{"id":"1"', b" " * 2049):
            self.assertEqual(("malformed", ""), commands.parse_command(segments, payload))

    def test_id(self):
        """An id goes back as it came, if it is one."""
        self.assertEqual("", self.parse("thing/service/open", {}, 7)[1])
        self.assertEqual("i" * 64, self.parse("thing/service/open", {}, "i" * 99)[1])

    def test_reply(self):
        """POST to the topic with `_reply`."""
        segments = ["topic", "sys", _PK, _DK, "thing", "service", "open"]
        code, path, payload = commands.command_reply(segments, "1")
        self.assertEqual((POST, segments[:-1] + ["open_reply"]), (code, path))
        self.assertEqual(b'{"code":200,"data":{},"id":"1","message":""}', payload)
        self.assertEqual("open", segments[-1])
        payload = commands.command_reply(segments, "2", 2001, {"a": 1.0}, "stuck")[2]
        self.assertEqual(b'{"code":2001,"data":{"a":1.0},"id":"2","message":"stuck"}', payload)


class Unit:
    """An application, and the session that it has."""

    def __init__(self):
        self.unit = self
        self.values = {"lamp": 1}
        self.command = None
        self.asked = []

    def apply(self, params):
        self.values["lamp"] = params["lamp"] + 0

    def read(self):
        return self.values

    def method(self, name, params):
        if name != "open":
            raise KeyError(name)
        return {"width": params["width"] + 0} if "bytes" not in params else b"no JSON"

    def request(self, code, segments, payload=b""):
        self.asked.append((code, segments, payload))
        return Message(_CONTENT, b"")


class TestObey(unittest.TestCase):
    def code_and_data(self, tail, params):
        """Of the reply to that command; there is just one, whatever the command is."""
        unit = Unit()
        segments = ["topic", "sys", _PK, _DK] + tail.split("/")
        payload = json.dumps({"id": "1", "params": params}).encode()
        coap_commands.obey(unit, commands, segments, payload)
        ((code, path, payload),) = unit.asked
        self.assertEqual((POST, tail.split("/")[-1] + "_reply"), (code, path[-1]))
        reply = json.loads(payload)
        self.assertEqual("1", reply["id"])
        return reply["code"], reply["data"]

    def test_done(self):
        """The application takes on values, tells them, and runs its services."""
        for tail, params, data in (
            ("thing/service/measurepoint/set", {"lamp": 0}, {}),
            ("thing/service/measurepoint/get", ["lamp", "other"], {"lamp": 1}),
            ("thing/service/open", {"width": 3}, {"width": 3}),
        ):
            self.assertEqual((200, data), self.code_and_data(tail, params))

    def test_not_done(self):
        """What it has not, cannot use or answers oddly has a code, and nothing is raised."""
        for tail, params, code in (
            ("thing/service/measurepoint/set", {}, 1102),
            ("thing/service/measurepoint/set", {"lamp": "on"}, 1102),
            ("thing/service/close", {}, 1101),
            ("thing/service/open", {"width": None}, 1200),
            ("thing/service/open", {"bytes": 1}, 1200),
            ("thing/service/open", [], 1200),
            ("thing/other", {}, 1101),
        ):
            self.assertEqual((code, {}), self.code_and_data(tail, params))

    def test_no_names(self):
        """What is no name of a value has none; whether that is an error depends on the runtime."""
        code, data = self.code_and_data("thing/service/measurepoint/get", [["lamp"], {}, None])
        self.assertTrue(code in (200, 1102))
        self.assertEqual({}, data)
