"""BG95: what the dialect says and how it reads the answers, as wire literals."""

import unittest

from firmware_support import raises
from imprint.errors import SetupError, WeatherError
from imprint.modem import dialects
from modem_script import ERROR, IDENTITY, KEY, KEY_HEX, OK, info, play


class TestBg95(unittest.TestCase):
    def setUp(self):
        self.dialect = dialects.load("bg95")
        self.setup = dialects.setup(self.dialect)
        self.dialer = dialects.dialer(self.dialect)

    def play(self, talk, *script):
        return play(talk, script, self.dialect)

    def test_provision(self):
        """A file named by the context, `identity&key`; kept while marker and size agree."""
        marker = self.play(
            self.dialer.provision_psk(2, IDENTITY, KEY),
            (b"AT+QSSLCFG=?", info(b'+QSSLCFG: "ciphersuite",(0-5)')),
            (b'AT+QFDEL="2_server.psk"', b"\r\n+CME ERROR: 405\r\n"),
            (b'AT+QFUPL="2_server.psk",45,60', b"\r\nCONNECT\r\n"),
            (IDENTITY + b"&" + KEY_HEX, info(b"+QFUPL: 45,1f2e")),
        )
        for size, writes in ((b"45", False), (b"44", True)):
            script = [
                (b"AT+QSSLCFG=?", ERROR),
                (b'AT+QFLST="2_server.psk"', info(b'+QFLST: "2_server.psk",' + size)),
            ]
            if writes:
                script += [
                    (b'AT+QFDEL="2_server.psk"', OK),
                    (b'AT+QFUPL="2_server.psk",45,60', b"\r\nCONNECT\r\n"),
                    (IDENTITY + b"&" + KEY_HEX, info(b"+QFUPL: 45,1f2e")),
                ]
            talk = self.dialer.provision_psk(2, IDENTITY, KEY, marker)
            self.assertEqual(marker, self.play(talk, *script))

    def test_provision_refused(self):
        """By the store, or half written: error 228."""
        for answer in (b"\r\n+CME ERROR: 410\r\n", info(b"+QFUPL: 12,0")):
            with raises(SetupError, 228):
                self.play(
                    self.dialer.provision_psk(2, IDENTITY, KEY),
                    (b"AT+QSSLCFG=?", ERROR),
                    (b'AT+QFDEL="2_server.psk"', OK),
                    (b'AT+QFUPL="2_server.psk",45,60', b"\r\nCONNECT\r\n"),
                    (IDENTITY + b"&" + KEY_HEX, answer),
                )

    def test_provision_where_psk_is_a_setting(self):
        """EG25's way, if the modem lists it."""
        talk = self.dialer.provision_psk(2, IDENTITY, KEY)
        self.assertIsNone(self.play(
            talk,
            (b"AT+QSSLCFG=?", info(b'+QSSLCFG: "psk",(0-5)')),
            (b'AT+QSSLCFG="psk",2,"' + IDENTITY + b'","' + KEY_HEX + b'"', OK),
        ))  # fmt: skip

    def test_dtls(self):
        """The context's settings, the dial, its result as a URC."""
        self.dialect.suite = 0x00AE  # PSK-AES128-CBC-SHA256
        script = (
            (b'AT+QSSLCFG="ciphersuite",2,0X00AE', OK),
            (b'AT+QSSLCFG="dtlsversion",2,1', OK),
            (b'AT+QSSLCFG="dtls",2,1', OK),
            (b'AT+QSSLCFG="seclevel",2,0', OK),
            (b'AT+QSSLCFG="negotiatetime",2,120', OK),
            (b'AT+QSSLOPEN=1,2,2,"h",5684,0', OK),
        )
        opened = (4000, b"\r\n+QSSLOPEN: 2,0\r\n")
        self.assertEqual(2, self.play(self.dialer.open_dtls("h", 5684, 2), *script, opened))
        with raises(WeatherError, 229) as caught:
            failed = (4000, b"\r\n+QSSLOPEN: 2,566\r\n")
            close = (b"AT+QSSLCLOSE=2", OK)
            self.play(self.dialer.open_dtls("h", 5684, 2), *script, failed, close)
        self.assertEqual(566, caught.exception.number)

    def test_datagrams(self):
        """Counted both ways; nothing waits is None; a failed send is an error, once."""
        self.play(
            self.dialect.send(2, b"OK\r\n\x1a"),
            (b"AT+QSSLSEND=2,5", b"\r\n> "),
            (b"OK\r\n\x1a", b"\r\nSEND OK\r\n"),
        )
        with raises(WeatherError, 223):
            self.play(
                self.dialect.send(2, b"x"),
                (b"AT+QSSLSEND=2,1", b"\r\n> "),
                (b"x", b"\r\nSEND FAIL\r\n"),
            )
        answer = b"\r\n+QSSLRECV: 4\r\nOK\r\n" + OK
        script = (b"AT+QSSLRECV=2,1280", answer)
        self.assertEqual(b"OK\r\n", self.play(self.dialect.receive(2, 100), script))
        empty = (b"AT+QSSLRECV=2,1280", info(b"+QSSLRECV: 0"))
        self.assertIsNone(self.play(self.dialect.receive(2, 100), empty))

    def test_urcs(self):
        """Each by its meaning, and none for what is mutilated."""
        for line, event in (
            (b'+QSSLURC: "recv",2', ("data", 2, None)),
            (b'+QSSLURC: "closed",2', ("closed", 2)),
            (b'+QIURC: "recv",0', ("data", 6, None)),
            (b'+QIURC: "pdpdeact",1', ("pdp_lost",)),
            (b"+QPSMTIMER: 3600,20", ("psm", 3600, 20)),
            (b"RDY", ("reboot",)),
            (b"APP RDY", ("reboot",)),
            (b"+CEREG: 1", ("registration", 1)),
            (b'+QSSLURC: "recv"', None),
            (b"+QSSLURC:", None),
            (b"+CEREG:", None),
        ):
            self.assertEqual(event, self.dialect.parse_urc(line))
