"""What dialects say alike, and the one without DTLS: wire literals, by TS 27.007 and TS 24.008.

Each family has a file of its own; all of them against a whole virtual modem with real DTLS are in
tests/interop.
"""

import unittest

from firmware_support import raises
from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.modem import dialects
from imprint.modem.dialects import common, common_setup, status
from imprint.secret import Secret
from modem_script import ERROR, IDENTITY, KEY, OK, info, play


def plain():
    return common_setup.Setup(common.Common())


class TestCommon(unittest.TestCase):
    def test_timers(self):
        """TS 24.008's units: the least timer that is not shorter."""
        for seconds, bits in (
            (2, b"01100001"), (60, b"01111110"), (3600, b"00000110"), (3601, b"00000111"),
            (86400, b"00111000"), (11000000, b"11001010"),
        ):  # fmt: skip
            self.assertEqual(bits, status.tau_bits(seconds))
            self.assertTrue(status.tau_s(bits) >= seconds)
        for seconds, bits in (
            (0, b"00000000"),
            (20, b"00001010"),
            (90, b"00100010"),
            (3600, b"01001010"),
        ):
            self.assertEqual(bits, status.active_bits(seconds))
            self.assertTrue(status.active_s(bits) >= seconds)
        self.assertEqual((3600, 60), (status.tau_s(b"00100001"), status.active_s(b"00100001")))
        for bits in (b"11100000", b"", b"0010", b"111"):
            self.assertEqual((None, None), (status.tau_s(bits), status.active_s(bits)))
        with self.assertRaises(ValueError):
            status.tau_bits(100000000)

    def test_fields(self):
        """Commas within quotes separate nothing; what is missing is empty."""
        self.assertEqual([b"1", b"a,b", b"", b"2"], common.fields(b'+X: 1,"a,b",,2'))
        self.assertEqual([b""], common.fields(b"+X:"))
        words = common.fields(b"+X: 12,-3,x,1234567890")
        self.assertEqual(
            [12, -3, None, None, None], [common.number(words, index) for index in range(5)]
        )

    def test_names(self):
        """IMEI and ICCID in the forms that modems have; anything else is error 222."""
        setup = plain()
        for answer in (b'+CGSN: "352656100367872"', b"352656100367872"):
            self.assertEqual("352656100367872", play(setup.imei(), [(b"AT+CGSN=1", info(answer))]))
        for answer in (b"+CCID: 89882390000123456789", b"8988239000012345678F"):
            number = play(status.iccid(setup), [(b"AT+CCID", info(answer))])
            self.assertTrue(number.startswith("8988239000012345678"))
        for answer in (b"+CGSN: 12", b"ME UNKNOWN", b'+CGSN: "35265610036787X"'):
            with raises(ProtocolError, 222):
                play(setup.imei(), [(b"AT+CGSN=1", info(answer))])

    def test_what_is_no_text(self):
        """Bytes on the line that are no ASCII do no harm: in a name, in the state of the SIM."""
        script = ((b"AT+CGMM", info(b"BG95\xff\x80")), (b"AT+CGMR", info(b"R\xc3")))
        self.assertEqual("BG95?? R?", play(plain().identify(), script))
        with raises(SetupError, 226) as caught:
            self.attach((b"AT+CPIN?", info(b"+CPIN: PH-\xfe PIN")))
        self.assertEqual("PH-? PIN", caught.exception.detail)

    def test_signal(self):
        """+CESQ in dBm and dB; 255 is not known."""
        for answer, expected in (
            (b"+CESQ: 99,99,255,255,20,45", (-96, -10.0)),
            (b"+CESQ: 99,99,255,255,255,255", (None, None)),
        ):
            talk = status.signal()
            self.assertEqual(expected, play(talk, [(b"AT+CESQ", info(answer))]))

    def test_registration(self):
        """State, cause of a refusal, bits of granted timers, where the modem says them."""
        for answer, expected in (
            (b"+CEREG: 0,2", (2, None, b"", b"")),
            (b"+CEREG: 5,3,,,,0,15", (3, 15, b"", b"")),
            (
                b'+CEREG: 5,1,"1A2B","0012BEEF",9,,,"00001010","00000110"',
                (1, None, b"00001010", b"00000110"),
            ),
            (
                b'+CEREG: 5,5,"1A2B","0012BEEF",7,,,"11100000","11100000"',
                (5, None, b"11100000", b"11100000"),
            ),
        ):
            talk = plain().registration()
            self.assertEqual(expected, play(talk, [(b"AT+CEREG?", info(answer))]))
        with raises(ProtocolError, 222):
            play(plain().registration(), [(b"AT+CEREG?", info(b"+CEREG: x,y"))])

    def attach(self, *script, **options):
        return play(plain().attach("iot", **options), script)

    def test_attach(self):
        """From no network to a data connection; the radio is off while the APN is set."""
        self.assertEqual(5, self.attach(
            (b"AT+CPIN?", info(b"+CPIN: READY")),
            (b"AT+CGDCONT?", OK),
            (b"AT+CEREG?", info(b"+CEREG: 0,0")),
            (b"AT+CFUN=4", OK),
            (b'AT+CGDCONT=1,"IP","iot"', OK),
            (b"AT+CFUN=1", OK),
            (b"AT+CEREG=5", ERROR),
            (b"AT+CEREG=2", OK),
            (b"AT+CEREG?", info(b"+CEREG: 2,2")),
            (3000, b'\r\n+CEREG: 5,"1A2B","0012BEEF",9\r\n'),
            (b"AT+CEREG?", info(b'+CEREG: 2,5,"1A2B","0012BEEF",9')),
            (b"AT+CGATT?", info(b"+CGATT: 1")),
        ))  # fmt: skip

    def test_attach_when_attached(self):
        """A modem that is there already is left alone."""
        self.assertEqual(1, self.attach(
            (b"AT+CPIN?", info(b"+CPIN: READY")),
            (b"AT+CGDCONT?", info(b'+CGDCONT: 1,"IP","iot","10.0.0.1",0,0')),
            (b"AT+CEREG?", info(b'+CEREG: 5,1,"1A2B","0012BEEF",9')),
            (b"AT+CGATT?", info(b"+CGATT: 1")),
        ))  # fmt: skip

    def test_attach_in_vain(self):
        """Bounded: no network, or denied at every look, each with its reason."""
        begin = (
            (b"AT+CPIN?", info(b"+CPIN: READY")),
            (b"AT+CGDCONT?", OK),
            (b"AT+CEREG?", info(b"+CEREG: 0,0")),
            (b"AT+CFUN=4", OK),
            (b'AT+CGDCONT=1,"IP","iot"', OK),
            (b"AT+CFUN=1", OK),
            (b"AT+CEREG=5", OK),
        )
        searching = (b"AT+CEREG?", info(b"+CEREG: 5,2"))
        with raises(WeatherError, 230) as caught:
            self.attach(*begin, *[searching] * 4, timeout_ms=15000)
        self.assertEqual(2, caught.exception.number)
        denied = (b"AT+CEREG?", info(b"+CEREG: 5,3,,,,0,8"))
        with raises(WeatherError, 231) as caught:
            self.attach(*begin, *[denied] * 4)
        self.assertEqual(8, caught.exception.number)

    def test_attach_without_data(self):
        """Registered, but no data connection."""
        with raises(WeatherError, 232):
            self.attach(
                (b"AT+CPIN?", info(b"+CPIN: READY")),
                (b"AT+CGDCONT?", info(b'+CGDCONT: 1,"IP","iot"')),
                (b"AT+CEREG?", info(b'+CEREG: 5,1,"1A2B","0012BEEF",9')),
                (b"AT+CGATT?", info(b"+CGATT: 0")),
            )

    def test_sim(self):
        """Missing, busy for ever, locked; a PIN is given once and never in an error."""
        with raises(SetupError, 225):
            self.attach((b"AT+CPIN?", b"\r\n+CME ERROR: 10\r\n"))
        busy = (b"AT+CPIN?", b"\r\n+CME ERROR: 14\r\n")
        with raises(WeatherError, 223):
            self.attach(*[busy] * 10)
        for state in (b"+CPIN: SIM PIN", b"+CPIN: SIM PUK", b"+CPIN: SIM PIN2"):
            with raises(SetupError, 226):
                self.attach((b"AT+CPIN?", info(state)))
        with raises(SetupError, 226) as caught:
            self.attach(
                (b"AT+CPIN?", info(b"+CPIN: SIM PIN")),
                (b'AT+CPIN="4711"', b"\r\n+CME ERROR: 16\r\n"),
                pin=Secret("4711"),
            )
        self.assertEqual(("AT+CPIN", 16), (caught.exception.detail, caught.exception.number))

    def test_power_saving(self):
        """Asked for, and what was granted read back."""
        granted = info(b'+CEREG: 5,1,"1A2B","0012BEEF",9,,,"00000101","00100001"')
        talk = status.psm(plain(), 7200, 20)
        script = [
            (b"AT+CEREG=5", OK),
            (b'AT+CPSMS=1,,,"00001100","00001010"', OK),
            (b"AT+CEREG?", granted),
        ]
        self.assertEqual((3600, 10), play(talk, script))
        script = [(b'AT+CEDRXS=2,5,"0101"', OK), (5, b'\r\n+CEDRXP: 5,"0101","1001","0011"\r\n')]
        self.assertEqual(b"1001", play(status.edrx(plain(), b"0101"), script))
        self.assertIsNone(play(status.edrx(plain(), b"0101"), script[:1]))


class TestUdp(unittest.TestCase):
    def test_plain(self):
        """Opened, sent, announced, read; DTLS is refused before anything is said."""
        dialect = dialects.load("udp")
        with raises(SetupError, 224):
            play(dialects.dialer(dialect).open_dtls("h", 1, 1), (), dialect)
        with raises(SetupError, 224):
            play(dialects.dialer(dialect).provision_psk(1, IDENTITY, KEY), (), dialect)
        script = ((b'AT+NSOCR="DGRAM",17,0,1', info(b"2")),)
        talk = dialects.dialer(dialect).open_udp("192.0.2.7", 5683)
        self.assertEqual(2, play(talk, script, dialect))
        line = b"AT+NSOST=2,192.0.2.7,5683,2,4f4b"
        play(dialect.send(2, b"OK"), ((line, info(b"2,2")),), dialect)
        self.assertEqual(("data", 2, 3), dialect.parse_urc(b"+NSONMI: 2,3"))
        answer = info(b"2,192.0.2.7,5683,3,4f4b0d,0")
        script = ((b"AT+NSORF=2,512", answer),)
        self.assertEqual(b"OK\r", play(dialect.receive(2, 100), script, dialect))
        script = ((b"AT+NSORF=2,512", OK),)
        self.assertIsNone(play(dialect.receive(2, 100), script, dialect))


class TestRegistry(unittest.TestCase):
    def test_load(self):
        """Each by its name, which is its own word for itself; others are a KeyError."""
        for name in dialects.NAMES:
            self.assertEqual(name, dialects.load(name).NAME)
        for name in ("", "common", "../x", "nrf91_slm"):
            with self.assertRaises(KeyError):
                dialects.load(name)
