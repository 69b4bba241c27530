"""What a modem's refusal means: +CME ERROR, +CMS ERROR, ERROR as errors of ours. Pure.

Numbers and texts are those of TS 27.007 section 9.2 and TS 27.005 section 3.2.5; a modem says one
or the other, by AT+CMEE=1 or 2. Imported only when something was refused.
"""

from micropython import const

from imprint.errors import ImprintError, SetupError, WeatherError

# errors.py
_MODEM_REFUSED = const(223)
_SIM_MISSING = const(225)
_SIM_PIN = const(226)
_NETWORK_NOT_FOUND = const(230)
_REGISTRATION_DENIED = const(231)
_DATA_REFUSED = const(232)

# CMS numbers (27.005) that say what a CME number says.
_OF_CMS = {302: 3, 303: 4, 310: 10, 311: 11, 313: 13, 314: 14, 315: 15, 316: 12, 331: 30, 332: 31}

# In one piece, for a small heap: each text stands after its number, and before a line's end.
_TEXTS = (
    b"3 operation not allowed\n4 operation not supported\n10 sim not inserted\n"
    b"11 sim pin required\n12 sim puk required\n13 sim failure\n14 sim busy\n15 sim wrong\n"
    b"16 incorrect password\n20 memory full\n22 not found\n30 no network service\n"
    b"31 network timeout\n50 incorrect parameters\n100 unknown\n148 unspecified gprs error\n"
)


def number(line: bytes) -> "int | None":
    """The CME number of a final that says no; None if it has none (ERROR, a text not listed)."""
    _, _, value = line.partition(b":")
    value = value.strip().lower()
    if value.isdigit() and len(value) < 6:
        code = int(value)
        return _OF_CMS.get(code, code) if line.startswith(b"+CMS") else code
    end = _TEXTS.find(b" " + value + b"\n")
    return int(_TEXTS[_TEXTS.rfind(b"\n", 0, end) + 1 : end]) if end >= 0 else None


def error(line: bytes, command: str) -> ImprintError:
    """The error for the final `line` of `command`, a name without its arguments."""
    code = number(line)
    if code in (10, 13, 15):
        return SetupError(_SIM_MISSING, command, code)
    if code in (5, 11, 12, 16, 17, 18):
        return SetupError(_SIM_PIN, command, code)
    if code in (30, 31):  # no network service, network timeout
        return WeatherError(_NETWORK_NOT_FOUND, command, code)
    if code in (32, 103, 106, 107, 111, 112, 113):  # emergency only; illegal or not allowed here
        return WeatherError(_REGISTRATION_DENIED, command, code)
    if code in (132, 133, 134, 148, 149):  # the service, or its authentication
        return WeatherError(_DATA_REFUSED, command, code)
    return WeatherError(_MODEM_REFUSED, command, code)
