"""nRF91's two applications: what is said and how answers are read, as wire literals."""

import unittest

from firmware_support import raises
from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.modem import dialects
from imprint.secret import Secret
from modem_script import ERROR, IDENTITY, KEY, KEY_HEX, OK, info, play


class TestNrf91(unittest.TestCase):
    def setUp(self):
        self.dialect = dialects.load("nrf91")
        self.setup = dialects.setup(self.dialect)
        self.dialer = dialects.dialer(self.dialect)

    def play(self, talk, *script):
        return play(talk, script, self.dialect)

    def serial_modem(self):
        script = (
            (b"AT#XSMVER", info(b'#XSMVER: "v2.0.0","3.4.0"')),
            (b"AT+CGMM", info(b"nRF9151-LACA")),
        )
        return self.play(self.setup.identify(), *script)

    def classic(self):
        script = (
            (b"AT#XSMVER", ERROR),
            (b"AT#XSLMVER", info(b'#XSLMVER: "2.9.0","2.9.0-lib"')),
            (b"AT+CGMM", info(b"nRF9160-SICA")),
        )
        return self.play(self.setup.identify(), *script)

    def test_identify(self):
        """Told apart by their version; CR LF until it is known, then what each wants."""
        self.assertEqual(b"\r\n", self.dialect.eol)
        self.assertTrue(self.serial_modem().startswith("nRF9151-LACA"))
        self.assertEqual(b"\r", self.dialect.eol)
        self.assertTrue(self.classic().startswith("nRF9160-SICA"))
        self.assertEqual(b"\r\n", self.dialect.eol)
        with raises(SetupError, 224):
            script = ((b"AT#XSMVER", ERROR), (b"AT#XSLMVER", ERROR))
            self.play(self.setup.identify(), *script)

    def test_what_is_no_text(self):
        """Bytes that are no ASCII do no harm in a name, nor in the list of what is stored."""
        script = (
            (b"AT#XSMVER", info(b'#XSMVER: "v2\xff"')),
            (b"AT+CGMM", info(b"nRF\x80")),
        )
        self.assertEqual('nRF? #XSMVER: "v2?"', self.play(self.setup.identify(), *script))
        listed = info(b'%CMNG: 7,3,"\xff\xff"\r\n%CMNG: 7,4,"\x80"')
        marker = self.play(
            self.dialer.provision_psk(7, IDENTITY, KEY),
            (b"AT%CMNG=1,7", listed),
            (b"AT+CFUN=4", OK),
            *[(b"AT%%CMNG=3,7,%d" % kind, OK) for kind in (4, 3)],
            (b'AT%CMNG=0,7,4,"PK,DK,2,3600"', OK),
            (b'AT%CMNG=0,7,3,"' + KEY_HEX + b'"', OK),
            (b"AT%CMNG=1,7", listed),
        )
        talk = self.dialer.provision_psk(7, IDENTITY, KEY, marker)
        self.assertEqual(marker, self.play(talk, (b"AT%CMNG=1,7", listed)))

    def test_provision(self):
        """Radio off, old ones deleted, written; not again while marker and list agree."""
        listed = info(b'%CMNG: 7,3,"' + b"A1" * 32 + b'"\r\n%CMNG: 7,4,"' + b"B2" * 32 + b'"')
        marker = self.play(
            self.dialer.provision_psk(7, IDENTITY, KEY),
            (b"AT%CMNG=1,7", OK),
            (b"AT+CFUN=4", OK),
            (b"AT%CMNG=3,7,4", b"\r\n+CME ERROR: 513\r\n"),
            (b"AT%CMNG=3,7,3", OK),
            (b'AT%CMNG=0,7,4,"PK,DK,2,3600"', OK),
            (b'AT%CMNG=0,7,3,"' + KEY_HEX + b'"', OK),
            (b"AT%CMNG=1,7", listed),
        )
        talk = self.dialer.provision_psk(7, IDENTITY, KEY, marker)
        self.assertEqual(marker, self.play(talk, (b"AT%CMNG=1,7", listed)))
        for other in (Secret(b"another"), KEY):
            talk = self.dialer.provision_psk(7, IDENTITY, other, marker)
            gone = OK if other is KEY else listed
            with raises(SetupError, 228) as caught:
                self.play(
                    talk,
                    (b"AT%CMNG=1,7", gone),
                    (b"AT+CFUN=4", OK),
                    (b"AT%CMNG=3,7,4", b"\r\n+CME ERROR: 514\r\n"),
                )
            self.assertEqual(514, caught.exception.number)

    def test_dtls(self):
        """The sheet's sequence; options that are refused are done without."""
        self.serial_modem()
        handle = self.play(
            self.dialer.open_dtls("h", 5684, 7),
            (b"AT#XSSOCKET=1,2,0,7,0", info(b"#XSSOCKET: 1,2,273")),
            (b"AT#XSSOCKETOPT=1,1,18,123", OK),
            (b"AT#XSSOCKETOPT=1,1,14,2", ERROR),
            (b"AT#XSSOCKETOPT=1,1,12,1", OK),
            (b"AT#XRECVCFG=1,1,1", OK),
            (b'AT#XCONNECT=1,"h",5684', info(b"#XCONNECT: 1,1")),
        )
        self.assertEqual(1, handle)
        self.play(
            self.dialect.send(1, b"\x00\xffOK"),
            (b'AT#XSEND=1,1,0,"00ff4f4b"', info(b"#XSEND: 1,0,4")),
        )
        for answer in (b"\r\n#XSEND: 1,0,0\r\n" + ERROR, ERROR):
            with raises(WeatherError, 223):
                self.play(self.dialect.send(1, b"x"), (b'AT#XSEND=1,1,0,"78"', answer))
        for answer in (info(b"#XSEND: 1,0,0"), OK):
            with raises(ProtocolError, 222):
                self.play(self.dialect.send(1, b"x"), (b'AT#XSEND=1,1,0,"78"', answer))
        self.play(self.dialect.close(1), (b"AT#XCLOSE=1", ERROR))

    def test_no_session(self):
        """ERROR to the dial: 229, and the socket is closed."""
        self.serial_modem()
        with raises(WeatherError, 229):
            self.play(
                self.dialer.open_udp("h", 1),
                (b"AT#XSOCKET=1,2,0", info(b"#XSOCKET: 2,2,17")),
                (b"AT#XRECVCFG=2,1,1", OK),
                (b'AT#XCONNECT=2,"h",1', ERROR),
                (b"AT#XCLOSE=2", info(b"#XCLOSE: 2,0")),
            )

    def test_datagrams(self):
        """They come as URCs with counted hexadecimal; each goes to its handle."""
        self.assertEqual(8, self.dialect.raw_after(b"#XRECV: 1,1,4"))
        self.assertEqual(0, self.dialect.raw_after(b"#XRECV: x"))
        self.assertEqual(("data", 1, 2), self.dialect.parse_urc(b"#XRECV: 1,1,2", b"OK"))
        self.assertEqual(("data", 2, 1), self.dialect.parse_urc(b"#XRECV: 2,1,1", b"\x00"))
        self.assertIsNone(self.dialect.parse_urc(b"#XRECV: x,1,2", b"OK"))
        self.assertEqual(b"\x00", self.play(self.dialect.receive(2, 100)))
        self.assertEqual(b"O", self.play(self.dialect.receive(1, 1)))
        self.assertIsNone(self.play(self.dialect.receive(1, 100)))
        for _ in range(20):
            self.dialect.parse_urc(b"#XRECV: 1,1,2", b"OK")
        self.assertEqual(("reboot",), self.dialect.parse_urc(b"Ready"))
        self.assertIsNone(self.play(self.dialect.receive(1, 100)))

    def test_classic(self):
        """The proxy: data mode out, raw URCs in; later builds' words and older ones' silence."""
        self.classic()
        line = b'AT#XUDPCLI=1,"h",5684,7,0,0,0'
        answer = info(b'#XUDPCLI: 0,"connected"')
        self.assertEqual(0, self.play(self.dialer.open_dtls("h", 5684, 7), (line, answer)))
        for entry, leave in ((OK, b"\r\n#XDATAMODE: 0\r\n"), (b"", OK)):
            self.play(
                self.dialect.send(0, b"\x00\x01"),
                (b"AT#XUDPSEND", entry),
                (b"\x00\x01", b""),
                (b"+++", leave),
            )
        self.assertEqual(3, self.dialect.raw_after(b'#XUDPDATA: 3,"1.2.3.4",5684'))
        self.assertEqual(("data", 0, 3), self.dialect.parse_urc(b"#XUDPDATA: 3", b"a\r\n"))
        self.assertEqual(b"a\r\n", self.play(self.dialect.receive(0, 100)))
        urc = b'#XUDPCLI: 0,"not connected"'
        self.assertEqual(("closed", 0), self.dialect.parse_urc(urc))
        with raises(SetupError, 224):
            self.play(self.dialect.send(0, b"a+++b"))
        with raises(WeatherError, 229):
            answer = b'\r\n#XUDPCLI: -134,"not connected"\r\n' + ERROR
            self.play(self.dialer.open_dtls("h", 5684, 7), (line, answer))
