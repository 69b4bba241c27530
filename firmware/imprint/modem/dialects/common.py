"""What every family says alike: 3GPP's commands (TS 27.007), and how a dialect is made. Pure.

A dialect's methods that talk are generators for an `Engine`: they yield Commands and return the
result. A family overrides what it says otherwise, and adds its sockets:

    provision_psk(tag, identity, key: Secret, marker) -> marker, None: it has to be repeated
                                                          after each power_up
    open_dtls(host, port, tag) -> handle        open_udp(host, port) -> handle
    send(handle, data)    receive(handle, limit) -> bytes or None    close(handle)

`parse_urc(line, data)` tells what a URC means:

    ("data", handle, n)    something waits for `receive`; n bytes, or None: not said
    ("closed", handle)     the modem or the peer ended it
    ("registration", stat)    +CEREG's: 1 home, 5 roaming, else not registered
    ("edrx", bits)         the network granted another cycle
    ("psm", tau_s, active_s)    it granted other timers
    ("reboot",)            the modem started anew: all handles are invalid
    ("pdp_lost",)          the data connection is gone
    None                   nothing that we use

A marker says what was provisioned, so that it is not written at every boot (the stores are flash
in the modem): keep what provision_psk returns, give it back the next time. If a session is then
refused, give None once: the modem may have been exchanged.
"""

import binascii
import hashlib

from micropython import const

from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.modem.engine import Command, Wait
from imprint.secret import Secret

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.engine import Talk

# IANA's TLS cipher suites (RFC 6655, RFC 5487).
PSK_AES128_CCM_8 = const(0xC0A8)
PSK_AES128_CBC_SHA256 = const(0x00AE)

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


class Common:
    """State and commands that all families share; `suite` only counts where the host may pick."""

    NAME = "?"
    BUFFER = 1600  # bytes: the longest line or counted run that the modem sends us
    PAYLOAD_MAX = 1024  # bytes of a datagram that `send` takes
    SEND_GAP_MS = 20  # between a final and the next command
    PROMPT_GAP_MS = 0  # between a prompt and the payload
    BOOT: "tuple[bytes, ...]" = ()  # whole lines
    URCS: "tuple[bytes, ...]" = (b"+CEREG:", b"+CEDRXP:", b"+CGEV:")  # beginnings
    EDRX = b"AT+CEDRXS"
    CID = 1  # of the PDP context
    PSM_SLEEP_KEEPS_SESSION = False

    def __init__(self, suite: int = PSK_AES128_CCM_8) -> None:
        self.suite = suite
        self.rat = "nb-iot"  # or "lte-m"
        self.eol = b"\r"

    # --- what the engine asks

    def raw_after(self, line: bytes) -> int:
        """Bytes that follow `line` uncut; 0: it is followed by lines."""
        return 0

    def parse_urc(self, line: bytes, data: "bytes | None" = None) -> "tuple | None":
        """What a URC, with the counted run that followed it, means; see above."""
        if line in self.BOOT:
            return ("reboot",)
        if line.startswith(b"+CEREG:"):
            stat = number(fields(line), 0)
            return None if stat is None else ("registration", stat)
        if line.startswith(b"+CEDRXP:"):
            words = fields(line)
            return ("edrx", words[2]) if len(words) > 2 else None
        if line.startswith(b"+CGEV:") and (b"DEACT" in line or b"DETACH" in line):
            return ("pdp_lost",)
        return None

    # --- power and names

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

    def maybe(self, command: Command) -> "Talk":
        """The answer, or None if the modem refused; for what can be done without."""
        try:
            return (yield command)
        except WeatherError as error:
            if error.code != 223:
                raise
            return None

    def ask_digits(self, line: bytes, least: int, most: int) -> "Talk":
        """The number of `least` to `most` digits that the command tells."""
        return digits((yield Command(line, least=1)), least, most, line.decode())

    def identify(self) -> "Talk":
        """Model and firmware version as text."""
        model = yield Command(b"AT+CGMM", least=1)
        version = yield Command(b"AT+CGMR", least=1)
        return b" ".join((model[0], version[0])).decode()

    def imei(self) -> "Talk":
        """15 digits."""
        return (yield from self.ask_digits(b"AT+CGSN=1", 15, 15))

    def iccid(self) -> "Talk":
        """The SIM's number, 18 to 20 digits."""
        return (yield from self.ask_digits(b"AT+CCID", 18, 20))

    def signal(self) -> "Talk":
        """(RSRP in dBm, RSRQ in dB), each None where the modem does not know."""
        words = fields((yield Command(b"AT+CESQ", prefix=b"+CESQ:"))[0])
        rsrq = number(words, 4)
        rsrp = number(words, 5)
        return (
            None if rsrp is None or rsrp > 97 else rsrp - 141,
            None if rsrq is None or rsrq > 34 else rsrq / 2 - 20,
        )

    # --- registration

    def attach(
        self, apn: str, pin: "Secret | None" = None, timeout_ms: int = _ATTACH_MS
    ) -> "Talk":
        """Register and get a data connection; returns +CEREG's <stat>, 1 home or 5 roaming.

        A modem that is registered with that APN already keeps its registration. Raises SetupError
        for the SIM, WeatherError: no network in `timeout_ms`, denied, no data connection.
        """
        yield from self._unlock(pin)
        quoted = b'"' + apn.encode() + b'"'
        contexts = yield Command(b"AT+CGDCONT?", prefix=b"+CGDCONT: %d," % self.CID, least=0)
        state = yield from self.registration()
        if state[0] not in (_HOME, _ROAMING) or not contexts or quoted not in contexts[0]:
            yield Command(b"AT+CFUN=%d" % self.radio_off(), _CFUN_MS)
            yield from self.before_radio(quoted)
            yield Command(b"AT+CFUN=1", _CFUN_MS)
            yield from self._watch_registration()
            state = yield from self._wait_registered(timeout_ms)
        yield from self.bring_up(quoted)
        return state[0]

    def registration(self) -> "Talk":
        """(stat, reject cause, active time in s, periodic TAU in s); None where not said."""
        lines = yield Command(b"AT+CEREG?", prefix=b"+CEREG:", fits=_answers_cereg)
        words = fields(lines[0])
        stat = number(words, 1)
        if stat is None:
            raise ProtocolError(_MODEM_GARBAGE, "AT+CEREG")
        return stat, number(words, 6), active_s(word(words, 7)), tau_s(word(words, 8))

    def radio_off(self) -> int:
        """+CFUN's level without radio: 4, since 0 writes flash and kills sockets."""
        return 4

    def before_radio(self, apn: bytes) -> "Talk":
        """What is set while the radio is off; `apn` in quotes."""
        yield Command(b'AT+CGDCONT=%d,"IP",%s' % (self.CID, apn))

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
            raise SetupError(_SIM_PIN, lines[0][7:].decode())
        yield Command(Secret(b'AT+CPIN="%s"' % pin.reveal()))

    def _watch_registration(self) -> "Talk":
        for level in (5, 2, 1):  # 5 brings causes and granted timers
            if (yield from self.maybe(Command(b"AT+CEREG=%d" % level))) is not None:
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

    # --- power saving

    def psm(self, tau: int, active: int) -> "Talk":
        """Ask for power saving: periodic TAU and active time in seconds, rounded up to what can
        be coded. Returns (tau_s, active_s) that the network has granted so far, or None.

        The network answers with its next update: look again with `registration`.
        """
        yield from self._watch_registration()
        yield Command(b'AT+CPSMS=1,,,"%s","%s"' % (tau_bits(tau), active_bits(active)))
        return (yield from self.granted())

    def granted(self) -> "Talk":
        """(tau_s, active_s) that the network has granted, or None."""
        state = yield from self.registration()
        return None if state[2] is None or state[3] is None else (state[3], state[2])

    def edrx(self, bits: bytes, act: int = 5) -> "Talk":
        """Ask for extended DRX of that cycle (4 bits, TS 24.008 10.5.5.32; 5 is NB-IoT, 4 LTE-M).
        Returns the bits that the network granted, or None if it has not said so yet."""
        yield Command(self.EDRX + b'=2,%d,"%s"' % (act, bits))
        line = yield Wait(1000, b"+CEDRXP:")
        return word(fields(line), 2) or None if line else None


# --- reading answers


def fields(line: bytes) -> list:
    """`+X: 1,"a,b",2` -> [b"1", b"a,b", b"2"]."""
    text = line.partition(b":")[2]
    words = []
    start = 0
    quoted = False
    for index in range(len(text) + 1):
        if index == len(text) or (text[index] == 0x2C and not quoted):
            words.append(text[start:index].strip().strip(b'"'))
            start = index + 1
        elif text[index] == 0x22:
            quoted = not quoted
    return words


def word(words: list, index: int) -> bytes:
    """The field, empty if it is missing."""
    return words[index] if index < len(words) else b""


def number(words: list, index: int) -> "int | None":
    """The field as a number of up to 9 digits, None if it is none."""
    text = word(words, index)
    negative = text[:1] == b"-"
    if negative:
        text = text[1:]
    if not text.isdigit() or len(text) > 9:
        return None
    return -int(text) if negative else int(text)


def length(words: list, index: int) -> int:
    """The field as the length of what follows; 0 if it is none."""
    return max(0, number(words, index) or 0)


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


def fingerprint(identity: bytes, key: Secret) -> str:
    """Of what is provisioned, for markers; tells nothing about the key."""
    digest = hashlib.sha256(identity + b"\0" + key.reveal()).digest()
    return binascii.hexlify(digest[:8]).decode()


# --- TS 24.008: GPRS timer 3 (10.5.7.4a), GPRS timer (10.5.7.3); the 3 leading bits are the unit

_TAU_UNITS_S = (600, 3600, 36000, 2, 30, 60, 1152000)
_ACTIVE_UNITS_S = (2, 60, 360)


def tau_bits(seconds: int) -> bytes:
    """T3412 extended, the least that is not below `seconds`."""
    return _timer_bits(seconds, _TAU_UNITS_S)


def active_bits(seconds: int) -> bytes:
    """T3324, the least that is not below `seconds`."""
    return _timer_bits(seconds, _ACTIVE_UNITS_S)


def tau_s(bits: bytes) -> "int | None":
    """Seconds of T3412 extended; None: switched off or not said."""
    return _timer_s(bits, _TAU_UNITS_S)


def active_s(bits: bytes) -> "int | None":
    """Seconds of T3324; None: switched off or not said."""
    return _timer_s(bits, _ACTIVE_UNITS_S)


def _timer_bits(seconds: int, units: tuple) -> bytes:
    best = None
    for index in range(len(units)):
        count = -(-seconds // units[index])
        if count < 32 and (best is None or count * units[index] < best[0]):
            best = (count * units[index], index << 5 | count)
    if best is None:
        raise ValueError(seconds)
    return b"".join([b"1" if best[1] >> bit & 1 else b"0" for bit in range(7, -1, -1)])


def _timer_s(bits: bytes, units: tuple) -> "int | None":
    value = 0
    for bit in bits:
        value = value << 1 | (bit == 0x31)
    if len(bits) != 8 or value >> 5 >= len(units):
        return None
    return (value & 31) * units[value >> 5]
