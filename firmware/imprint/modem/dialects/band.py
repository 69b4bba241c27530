"""How each family is told the one LTE band that an identity names. Pure.

Nothing of it was tried on a modem. It is read first, and only said when it is not so already:

    nrf91      %XBANDLOCK of Nordic's command reference; the mask that a reset of the modem forgets
    sara       +UBANDMASK of u-blox's SARA-R4 manual, which its ubxlib says to R5, too; kept in the
               modem, counts from its next start on
    bg95       +QCFG="band" as several drivers say it to BG95 and BG96; kept in the modem
    sequans    +SQNBANDSEL as Walter's driver reads it and others write it; kept in the modem.
               Whether it counts at once is not said: the modem is started anew

Where the modem keeps it, an identity that names no band any more does not take it back.
"""

from micropython import const

from imprint.errors import SetupError
from imprint.modem.dialects.common import fields, maybe, word
from imprint.modem.engine import Command

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.modem.engine import Talk

_CFUN_MS = const(60000)

_MODEM_UNSUPPORTED = const(224)  # errors.py


def hold(setup: "Any") -> "Talk":
    """See that the modem uses `dialect.band` alone; where that is new, the radio is off then.
    Raises SetupError: no command is known for the family."""
    dialect = setup.dialect
    forms = {"nrf91": _nrf91, "sara": _sara, "bg95": _bg95, "sequans": _sequans}
    if dialect.NAME not in forms:
        raise SetupError(_MODEM_UNSUPPORTED, "band: no command is known for this modem")
    ask, prefix, holds, line = forms[dialect.NAME](dialect.band, dialect.rat == "nb-iot")
    answer = yield from maybe(Command(ask, prefix=prefix, least=0))
    for told in answer or ():
        if holds(told):
            return
    yield Command(b"AT+CFUN=4", _CFUN_MS)
    yield Command(line)
    if dialect.NAME in ("sara", "sequans"):  # others take it with the radio off
        yield from setup.restart()


def _nrf91(band: int, _nb: bool) -> tuple:
    mask = b"1" + b"0" * (band - 1)

    def holds(told: bytes) -> bool:  # "<permanent>","<runtime>"; both count
        words = fields(told)
        return mask in (word(words, 0).lstrip(b"0"), word(words, 1).lstrip(b"0"))

    return b"AT%XBANDLOCK?", b"%XBANDLOCK:", holds, b'AT%%XBANDLOCK=2,"%s"' % mask


def _sara(band: int, nb: bool) -> tuple:
    # <RAT>,<bands 1 to 64>[,<65 to 128>]
    high = band > 64
    mask = (b"%d,0,%d" if high else b"%d,%d") % (nb, 1 << (band - 65 if high else band - 1))

    def holds(told: bytes) -> bool:  # one after the other, with or without the second number
        return b",%s," % mask in b",%s," % b",".join(fields(told))

    return b"AT+UBANDMASK?", b"+UBANDMASK:", holds, b"AT+UBANDMASK=" + mask


def _bg95(band: int, nb: bool) -> tuple:
    # <GSM>,<LTE-M>,<NB-IoT>, in hexadecimal; 0 leaves it as it is
    mask = b"%x" % (1 << (band - 1))

    def holds(told: bytes) -> bool:
        return word(fields(told), 3 if nb else 2).lower().lstrip(b"0x") == mask

    line = b'AT+QCFG="band",0,%s' % (b"0," + mask if nb else mask + b",0")
    return b'AT+QCFG="band"', b'+QCFG: "band"', holds, line


def _sequans(band: int, nb: bool) -> tuple:
    wanted = [b"%d" % nb, b"standard", b"%d" % band]  # a line a technology and operator
    return (
        b"AT+SQNBANDSEL?",
        b"+SQNBANDSEL:",
        lambda told: fields(told)[:3] == wanted,
        b'AT+SQNBANDSEL=%d,"standard","%d"' % (nb, band),
    )
