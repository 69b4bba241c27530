"""From power-on to an attached modem: what every family says alike, by TS 27.007. Pure."""

from micropython import const

from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.modem.dialects.common import fields, maybe, number, word
from imprint.modem.engine import Command, Wait
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.modem.engine import Talk

# +CEREG's <stat>
_HOME = const(1)
_DENIED = const(3)
_ROAMING = const(5)

_ATTACH_MS = const(900000)  # a first NB-IoT scan takes 5 to 15 min
_POLL_MS = const(5000)  # a +CEREG URC may be lost; we look ourselves, too
_SIM_BUSY_MS = const(1000)  # between ten looks
_CFUN_MS = const(60000)

# errors.py
_MODEM_GARBAGE = const(222)
_SIM_PIN = const(226)
_NETWORK_NOT_FOUND = const(230)
_REGISTRATION_DENIED = const(231)
_DATA_REFUSED = const(232)


class Setup:
    """Of the modem that `dialect` talks to."""

    ICCID = b"AT+CCID"
    EDRX = b"AT+CEDRXS"
    _pin: "Secret | None" = None

    def __init__(self, dialect: "Any") -> None:
        self.dialect = dialect

    def power_up(self, keep_sockets: bool = False) -> "Talk":
        """Make a modem that has just booted, or was left in any state, ready; its name.

        Sockets that an earlier life of this board left open are closed, unless they are to be
        kept: the modem has few, and the host that knew of them is gone.
        """
        yield Command(b"ATE0")
        yield Command(b"AT+CMEE=1")
        name = yield from self.identify()
        if not keep_sockets:
            yield from self.close_all()
        return name

    def close_all(self) -> "Talk":
        """Close whatever sockets the modem may have open."""
        return
        yield  # a generator, as the families' are

    def ask_digits(self, line: bytes, least: int, most: int) -> "Talk":
        """The number of `least` to `most` digits that the command tells."""
        return digits((yield Command(line, least=1)), least, most, line.decode())

    def identify(self) -> "Talk":
        """Model and firmware version as text."""
        model = yield Command(b"AT+CGMM", least=1)
        version = yield Command(b"AT+CGMR", least=1)
        return printable(model[0] + b" " + version[0])

    def imei(self) -> "Talk":
        """15 digits."""
        return (yield from self.ask_digits(b"AT+CGSN=1", 15, 15))

    def attach(
        self, apn: str, pin: "Secret | None" = None, timeout_ms: int = _ATTACH_MS
    ) -> "Talk":
        """Register and get a data connection; returns +CEREG's <stat>, 1 home or 5 roaming.

        A modem that is registered with that APN already keeps its registration. Raises SetupError
        for the SIM, WeatherError: no network in `timeout_ms`, denied, no data connection.
        """
        self._pin = pin
        yield from self._unlock(pin)
        if self.dialect.band is not None:
            from imprint.modem.dialects import band

            yield from band.hold(self)
        quoted = b'"' + apn.encode() + b'"'
        prefix = b"+CGDCONT: %d," % self.dialect.CID
        contexts = yield Command(b"AT+CGDCONT?", prefix=prefix, least=0)
        state = yield from self.registration()
        if state[0] not in (_HOME, _ROAMING) or not contexts or quoted not in contexts[0]:
            yield Command(b"AT+CFUN=4", _CFUN_MS)  # 0 would write flash and kill sockets
            yield from self.before_radio(quoted)
            yield Command(b"AT+CFUN=1", _CFUN_MS)
            yield from self.watch_registration()
            state = yield from self._wait_registered(timeout_ms)
        yield from self.bring_up(quoted)
        return state[0]

    def registration(self) -> "Talk":
        """(stat, reject cause or None, bits of the active time, bits of the periodic TAU)."""
        lines = yield Command(b"AT+CEREG?", prefix=b"+CEREG:", fits=_answers_cereg)
        words = fields(lines[0])
        stat = number(words, 1)
        if stat is None:
            raise ProtocolError(_MODEM_GARBAGE, "AT+CEREG")
        return stat, number(words, 6), word(words, 7), word(words, 8)

    def before_radio(self, apn: bytes) -> "Talk":
        """What is set while the radio is off; `apn` in quotes."""
        yield Command(b'AT+CGDCONT=%d,"IP",%s' % (self.dialect.CID, apn))

    def restarted(self) -> "Talk":
        """What a modem that was started anew has forgotten; the radio stays off."""
        yield from self.power_up()
        yield from self._unlock(self._pin)
        yield Command(b"AT+CFUN=4", _CFUN_MS)

    def bring_up(self, apn: bytes) -> "Talk":
        """After registration: see that there is a data connection."""
        lines = yield Command(b"AT+CGATT?", prefix=b"+CGATT:")
        if number(fields(lines[0]), 0) != 1:
            raise WeatherError(_DATA_REFUSED)

    def _unlock(self, pin: "Secret | None") -> "Talk":
        for left in range(9, -1, -1):
            try:
                lines = yield Command(b"AT+CPIN?", prefix=b"+CPIN:")
                break
            except WeatherError as error:
                if error.number != 14 or not left:  # SIM busy, which passes
                    raise
            yield Wait(_SIM_BUSY_MS)
        if b"READY" in lines[0]:
            return
        if not pin or b"SIM PIN" not in lines[0] or b"PIN2" in lines[0]:
            raise SetupError(_SIM_PIN, printable(lines[0][7:]))
        yield Command(Secret(b'AT+CPIN="%s"' % pin.reveal()))

    def watch_registration(self) -> "Talk":
        """Have changes of the registration told."""
        for level in (5, 2, 1):  # 5 brings causes and granted timers
            if (yield from maybe(Command(b"AT+CEREG=%d" % level))) is not None:
                return

    def _wait_registered(self, timeout_ms: int) -> "Talk":
        left_ms = timeout_ms
        denied = 0
        while True:
            state = yield from self.registration()
            if state[0] in (_HOME, _ROAMING):
                return state
            # One refusal may be of one cell; the modem goes on looking for others.
            denied = denied + 1 if state[0] == _DENIED else 0
            if denied > 3:
                raise WeatherError(_REGISTRATION_DENIED, "", state[1])
            if left_ms <= 0:
                raise WeatherError(_NETWORK_NOT_FOUND, "", state[0])
            yield Wait(min(_POLL_MS, left_ms), b"+CEREG:")
            left_ms -= _POLL_MS


def printable(data: bytes) -> str:
    """What a modem said, for people: a byte that is no ASCII text is a `?`."""
    return "".join([chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in data])


def digits(lines: list, least: int, most: int, command: str) -> str:
    """The run of digits in an answer such as `+CGSN: "352656100367872"` or the digits alone."""
    for line in lines:
        text = fields(line)[0] if b":" in line else line.strip(b'"')
        text = text.rstrip(b"F")  # ICCIDs of 19 digits are padded so
        if text.isdigit() and least <= len(text) <= most:
            return text.decode()
    raise ProtocolError(_MODEM_GARBAGE, command)


def _answers_cereg(line: bytes) -> bool:
    # The answer is <n>,<stat>...; a URC is <stat>[,"tac"...]: its second field is no bare number.
    text = line.partition(b":")[2].split(b",")
    return len(text) > 1 and text[1].strip().isdigit()
