"""One LTE band: each family's words for it, read first and said only where it is another."""

import unittest

from firmware_support import raises
from imprint.errors import SetupError, WeatherError
from imprint.modem import dialects
from modem_script import ERROR, OK, info, play

RADIO_OFF = (b"AT+CFUN=4", OK)

# Family, technology, band; the question; answers that will do; those that will not; the command.
FORMS = (
    (
        "nrf91",
        "nb-iot",
        4,
        b"AT%XBANDLOCK?",
        (b'%XBANDLOCK: "","' + b"0" * 84 + b'1000"', b'%XBANDLOCK: "1000",""'),
        (b'%XBANDLOCK: "",""', b'%XBANDLOCK: "","1001"', b"%XBANDLOCK: x"),
        b'AT%XBANDLOCK=2,"1000"',
    ),
    (
        "bg95",
        "nb-iot",
        20,
        b'AT+QCFG="band"',
        (b'+QCFG: "band",0xf,0x1,0x80000', b'+QCFG: "band",0x0,0x80000,0x00080000'),
        (b'+QCFG: "band",0xf,0x80000,0x80084', b'+QCFG: "band"'),
        b'AT+QCFG="band",0,0,80000',
    ),
    (
        "bg95",
        "lte-m",
        85,
        b'AT+QCFG="band"',
        (b'+QCFG: "band",0xf,0x1000000000000000000000,0x1',),
        (b'+QCFG: "band",0xf,0x0,0x1000000000000000000000',),
        b'AT+QCFG="band",0,1000000000000000000000,0',
    ),
    (
        "sara",
        "nb-iot",
        20,
        b"AT+UBANDMASK?",
        (b"+UBANDMASK: 0,168761503,1,524288", b"+UBANDMASK: 0,1,0,1,524288,0"),
        (
            b"+UBANDMASK: 0,524288,1,168761503",
            b"+UBANDMASK: 0,168761503,1,5242880",
            b"+UBANDMASK:",
        ),
        b"AT+UBANDMASK=1,524288",
    ),
    (
        "sara",
        "lte-m",
        71,
        b"AT+UBANDMASK?",
        (b"+UBANDMASK: 0,0,64,1,524288,0",),
        (b"+UBANDMASK: 0,0,0,1,0,64",),
        b"AT+UBANDMASK=0,0,64",
    ),
    (
        "sequans",
        "nb-iot",
        8,
        b"AT+SQNBANDSEL?",
        (
            b'+SQNBANDSEL: 0,standard,"1,2"\r\n+SQNBANDSEL: 1,standard,"8"',
            b'+SQNBANDSEL: 1,"standard","8"',
        ),
        (b'+SQNBANDSEL: 1,standard,"8,20"', b'+SQNBANDSEL: 0,standard,"8"', b'+SQNBANDSEL: 1,,""'),
        b'AT+SQNBANDSEL=1,"standard","8"',
    ),
)


class TestBand(unittest.TestCase):
    def talk(self, family, rat, band, *script):
        dialect = dialects.load(family)
        dialect.rat, dialect.band = rat, band
        setup = dialects.setup(dialect)
        restarts = []

        def restart():
            restarts.append(family)
            return
            yield

        setup.restart = restart
        from imprint.modem.dialects import band as bands

        play(bands.hold(setup), script, dialect)
        return bool(restarts)

    def test_it_is_held(self):
        """A modem that says so is told nothing."""
        for family, rat, band, ask, good, _bad, _line in FORMS:
            for answer in good:
                self.assertFalse(self.talk(family, rat, band, (ask, info(answer))))

    def test_it_is_another(self):
        """Otherwise it is told, with the radio off; some are started anew for it to count."""
        for family, rat, band, ask, _good, bad, line in FORMS:
            for answer in [info(text) for text in bad] + [OK, ERROR]:
                restarted = self.talk(family, rat, band, (ask, answer), RADIO_OFF, (line, OK))
                self.assertEqual(family in ("sara", "sequans"), restarted)

    def test_it_is_refused(self):
        """A band that the modem has not: its command is named."""
        for family, rat, band, ask, _good, _bad, line in FORMS:
            with raises(WeatherError, 223) as caught:
                self.talk(family, rat, band, (ask, OK), RADIO_OFF, (line, ERROR))
            self.assertEqual(line.split(b"=")[0].decode(), caught.exception.detail)

    def test_no_command_is_known(self):
        """For a modem without DTLS: error 224, before anything is said."""
        with raises(SetupError, 224):
            self.talk("udp", "nb-iot", 20)

    def test_attach(self):
        """A modem that is registered, but not held to the band, leaves the network for it."""
        dialect = dialects.load("bg95")
        dialect.band = 20
        script = (
            (b"AT+CPIN?", info(b"+CPIN: READY")),
            (b'AT+QCFG="band"', info(b'+QCFG: "band",0xf,0x1,0x1')),
            RADIO_OFF,
            (b'AT+QCFG="band",0,0,80000', OK),
            (b"AT+CGDCONT?", info(b'+CGDCONT: 1,"IP","iot"')),
            (b"AT+CEREG?", info(b"+CEREG: 5,0")),
            RADIO_OFF,
            (b'AT+QCFG="iotopmode",1', OK),
            (b'AT+QCFG="nwscanseq",03', OK),
            (b'AT+CGDCONT=1,"IP","iot"', OK),
            (b"AT+CFUN=1", OK),
            (b"AT+CEREG=5", OK),
            (b"AT+CEREG?", info(b'+CEREG: 5,1,"1A2B","0012BEEF",9')),
            (b"AT+QIACT?", info(b'+QIACT: 1,1,1,"10.0.0.1"')),
        )
        self.assertEqual(1, play(dialects.setup(dialect).attach("iot"), script, dialect))
