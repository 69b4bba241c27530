"""What a modem tells of SIM and signal, and its power saving; by TS 27.007. Pure.

`setup` is the family's (common_setup.py). All but `psm` and `granted` is for applications.
"""

from micropython import const

from imprint.modem.dialects.common import fields, number, word
from imprint.modem.engine import Command, Wait

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.modem.dialects.common_setup import Setup
    from imprint.modem.engine import Talk


def iccid(setup: "Setup") -> "Talk":
    """The SIM's number, 18 to 20 digits."""
    return (yield from setup.ask_digits(setup.ICCID, 18, 20))


def signal() -> "Talk":
    """(RSRP in dBm, RSRQ in dB), each None where the modem does not know."""
    words = fields((yield Command(b"AT+CESQ", prefix=b"+CESQ:"))[0])
    rsrq = number(words, 4)
    rsrp = number(words, 5)
    return (
        None if rsrp is None or rsrp > 97 else rsrp - 141,
        None if rsrq is None or rsrq > 34 else rsrq / 2 - 20,
    )


def psm(setup: "Setup", tau: int, active: int) -> "Talk":
    """Ask for power saving: periodic TAU and active time in seconds, rounded up to what can
    be coded. Returns (tau_s, active_s) that the network has granted so far, or None.

    The network answers with its next update: look again with `granted`.
    """
    yield from setup.watch_registration()
    yield Command(b'AT+CPSMS=1,,,"%s","%s"' % (tau_bits(tau), active_bits(active)))
    return (yield from granted(setup))


def granted(setup: "Setup") -> "Talk":
    """(tau_s, active_s) that the network has granted, or None."""
    state = yield from setup.registration()
    active, tau = active_s(state[2]), tau_s(state[3])
    return None if active is None or tau is None else (tau, active)


def edrx(setup: "Setup", bits: bytes, act: int = 5) -> "Talk":
    """Ask for extended DRX of that cycle (4 bits, TS 24.008 10.5.5.32; 5 is NB-IoT, 4 LTE-M).
    Returns the bits that the network granted, or None if it has not said so yet."""
    yield Command(setup.EDRX + b'=2,%d,"%s"' % (act, bits))
    line = yield Wait(1000, b"+CEDRXP:")
    return word(fields(line), 2) or None if line else None


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
