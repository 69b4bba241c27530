"""SARA-R5 and SARA-R4: what the dialect says and how it reads the answers, as wire literals."""

import unittest

from firmware_support import raises
from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.modem import dialects
from imprint.secret import Secret
from modem_script import ERROR, IDENTITY, KEY, KEY_HEX, OK, info, play

_PRINT = b"7b1f1c4bde2f6f6a"


class TestSara(unittest.TestCase):
    def setUp(self):
        self.dialect = dialects.load("sara")
        self.setup = dialects.setup(self.dialect)
        self.dialer = dialects.dialer(self.dialect)

    def play(self, talk, *script):
        return play(talk, script, self.dialect)

    def model(self, name):
        script = ((b"AT+CGMM", info(name)), (b"AT+CGMR", info(b"03.15")))
        self.play(self.setup.identify(), *script)

    def profile(self, suite):
        return (
            (b"AT+USECPRF=0", OK),
            (b"AT+USECPRF=0,0,0", OK),
            (b"AT+USECPRF=0,1,3", OK),
            (b"AT+USECPRF=0,2," + suite, OK),
            (b"AT+USECPRF=0,11,0", ERROR),
        )

    def test_provision(self):
        """Each module's way to write the suite; the key as hexadecimal; no marker, since RAM."""
        for model, suite, words in (
            (b"SARA-R510S", 0xC0A8, b'100,"C0","A8",0'),
            (b"SARA-R422", 0xC0A8, b'99,"C0","A8"'),
            (b"SARA-R410M-02B", 0x00AE, b"12"),
        ):
            self.model(model)
            self.dialect.suite = suite
            self.assertIsNone(self.play(
                self.dialer.provision_psk(0, IDENTITY, KEY),
                *self.profile(words),
                (b'AT+USECPRF=0,8,"' + KEY_HEX + b'",1', OK),
                (b'AT+USECPRF=0,9,"' + IDENTITY + b'"', OK),
            ))  # fmt: skip

    def test_a_key_as_text(self):
        """Where hexadecimal is refused: a printable key goes, another is error 228."""
        self.model(b"SARA-R510S")
        hex_key = b"".join([b"%02x" % byte for byte in _PRINT])
        self.play(
            self.dialer.provision_psk(0, IDENTITY, Secret(_PRINT)),
            *self.profile(b'100,"C0","A8",0'),
            (b'AT+USECPRF=0,8,"' + hex_key + b'",1', ERROR),
            (b'AT+USECPRF=0,8,"' + _PRINT + b'"', OK),
            (b'AT+USECPRF=0,9,"' + IDENTITY + b'"', OK),
        )
        with raises(SetupError, 228):
            self.play(
                self.dialer.provision_psk(0, IDENTITY, KEY),
                *self.profile(b'100,"C0","A8",0'),
                (b'AT+USECPRF=0,8,"' + KEY_HEX + b'",1', ERROR),
            )

    def test_a_suite_that_it_has_not(self):
        """SARA-R410M has no CCM_8: error 224, not a session with another suite."""
        self.model(b"SARA-R410M-02B")
        with raises(SetupError, 224):
            self.play(self.dialer.provision_psk(0, IDENTITY, KEY), *self.profile(b"")[:3])

    def test_dtls(self):
        """Resolved, secured, connected; a name comes with the URC's prefix or as a URC."""
        rest = (
            (b"AT+USOCR=17", info(b"+USOCR: 3")),
            (b"AT+USOSEC=3,1,0", OK),
            (b'AT+USOCO=3,"192.0.2.7",5684', OK),
        )
        for answer in (
            ((b'AT+UDNSRN=0,"h"', info(b'+UDNSRN: "192.0.2.7"')),),
            ((b'AT+UDNSRN=0,"h"', info(b'+UUDNSRN: 0,"192.0.2.7"')),),
            ((b'AT+UDNSRN=0,"h"', OK), (99, b'\r\n+UUDNSRN: 0,"192.0.2.7"\r\n')),
            ((b'AT+UDNSRN=0,"h"', ERROR), (b'AT+UDNSRN=0,"h"', info(b'+UDNSRN: "192.0.2.7"'))),
        ):
            self.assertEqual(3, self.play(self.dialer.open_dtls("h", 5684, 0), *answer, *rest))
        self.assertEqual(3, self.play(self.dialer.open_dtls("192.0.2.7", 5684, 0), *rest))

    def test_no_session(self):
        """Error 229 with the number of +USOER; dialled once."""
        with raises(WeatherError, 229) as caught:
            self.play(
                self.dialer.open_udp("192.0.2.7", 5684),
                (b"AT+USOCR=17", info(b"+USOCR: 3")),
                (b'AT+USOCO=3,"192.0.2.7",5684', ERROR),
                (b"AT+USOER", info(b"+USOER: 11")),
                (b"AT+USOCL=3", ERROR),
            )
        self.assertEqual(11, caught.exception.number)
        with raises(WeatherError, 229):
            lookup = (b'AT+UDNSRN=0,"h"', ERROR)
            self.play(self.dialer.open_udp("h", 1), lookup, lookup, lookup)

    def test_datagrams(self):
        """Hexadecimal both ways; OK without +USOWR is "not sent"."""
        line = b'AT+USOWR=3,3,"4f4b0d"'
        self.play(self.dialect.send(3, b"OK\r"), (line, info(b"+USOWR: 3,3")))
        with raises(ProtocolError, 222):
            self.play(self.dialect.send(3, b"OK\r"), (line, OK))
        script = (b"AT+USORD=3,512", info(b'+USORD: 3,3,"4F4B0D"'))
        self.assertEqual(b"OK\r", self.play(self.dialect.receive(3, 100), script))
        for answer in (info(b'+USORD: 3,0,""'), info(b"+USORD: 3,0"), ERROR):
            script = (b"AT+USORD=3,512", answer)
            self.assertIsNone(self.play(self.dialect.receive(3, 100), script))
        with raises(ProtocolError, 222):
            script = (b"AT+USORD=3,512", info(b'+USORD: 3,3,"4F4B0"'))
            self.play(self.dialect.receive(3, 100), script)
        for urc, event in (
            (b"+UUSORD: 3,20", ("data", 3, 20)),
            (b"+UUSORF: 3,20", ("data", 3, 20)),
            (b"+UUSOCL: 3", ("closed", 3)),
            (b"+UUPSDD: 0", ("pdp_lost",)),
            (b"+UUSORD:", None),
        ):
            self.assertEqual(event, self.dialect.parse_urc(urc))
