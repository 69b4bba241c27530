"""Sequans: what the dialect says and how it reads the answers, as wire literals."""

import unittest

from firmware_support import raises
from imprint.errors import SetupError, WeatherError
from imprint.modem import dialects
from modem_script import ERROR, IDENTITY, KEY, KEY_HEX, OK, info, play


class TestSequans(unittest.TestCase):
    def setUp(self):
        self.dialect = dialects.load("sequans")
        self.setup = dialects.setup(self.dialect)
        self.dialer = dialects.dialer(self.dialect)

    def play(self, talk, *script):
        return play(talk, script, self.dialect)

    def test_provision(self):
        """The profile, in the line that was proven; with its marker nothing is said."""
        line = b'AT+SQNSPCFG=1,2,"0xAE",,,,,"' + KEY_HEX + b'","' + IDENTITY + b'"'
        marker = self.play(self.dialer.provision_psk(1, IDENTITY, KEY), (line, OK))
        self.assertEqual(marker, self.play(self.dialer.provision_psk(1, IDENTITY, KEY, marker)))
        with raises(SetupError, 228):
            self.play(self.dialer.provision_psk(1, IDENTITY, KEY), (line, ERROR))

    def test_dtls(self):
        """Dial with the profile; ERROR and NO CARRIER are no session."""
        script = (
            (b"AT+SQNSH=1", OK),
            (b"AT+SQNSSCFG=1,1,1", OK),
            (b"AT+SQNSCFG=1,1,300,0,600,50", OK),
            (b"AT+SQNSCFGEXT=1,1,0,0,0,0", OK),
        )
        dial = b'AT+SQNSD=1,1,5684,"h",0,0,1'
        self.assertEqual(1, self.play(self.dialer.open_dtls("h", 5684, 1), *script, (dial, OK)))
        for answer in (ERROR, b"\r\nNO CARRIER\r\n"):
            with raises(WeatherError, 229):
                close = (b"AT+SQNSH=1", OK)
                self.play(self.dialer.open_dtls("h", 5684, 1), *script, (dial, answer), close)

    def test_datagrams(self):
        """Counted both ways; ERROR to a read is that nothing waits."""
        self.play(
            self.dialect.send(1, b"\x1a\r"),
            (b"AT+SQNSSENDEXT=1,2", b"\r\n> "),
            (b"\x1a\r", OK),
        )
        answer = b"\r\n+SQNSRECV: 1,4\r\nOK\r\n" + OK
        script = (b"AT+SQNSRECV=1,1280", answer)
        self.assertEqual(b"OK\r\n", self.play(self.dialect.receive(1, 100), script))
        empty = (b"AT+SQNSRECV=1,1280", ERROR)
        self.assertIsNone(self.play(self.dialect.receive(1, 100), empty))
        for line, event in (
            (b"+SQNSRING: 1,20", ("data", 1, 20)),
            (b"+SQNSH: 1", ("closed", 1)),
            (b"+SYSSTART", ("reboot",)),
            (b"+SQNSRING:", None),
        ):
            self.assertEqual(event, self.dialect.parse_urc(line))

    def test_radio(self):
        """The right radio is left alone; another is set, which takes a reset."""
        ready = (b"AT+SQNMODEACTIVE?", info(b"+SQNMODEACTIVE: 2"))
        context = (b'AT+CGDCONT=1,"IP","iot"', OK)
        self.play(self.setup.before_radio(b'"iot"'), ready, context)
        self.dialect.rat = "lte-m"
        self.play(
            self.setup.before_radio(b'"iot"'),
            ready,
            (b"AT+SQNMODEACTIVE=1", OK),
            (b"AT^RESET", OK),
            (900, b"\r\n+SYSSTART\r\n"),
            (b"AT+CMEE?", info(b"+CMEE: 0")),
            (b"ATE0", OK),
            (b"AT+CMEE=1", OK),
            (b"AT+CGMM", info(b"GM02S")),
            (b"AT+CGMR", info(b"UE8.2")),
            *[(b"AT+SQNSH=%d" % handle, OK) for handle in range(1, 7)],
            (b"AT+CPIN?", info(b"+CPIN: READY")),
            (b"AT+CFUN=4", OK),
            context,
        )
