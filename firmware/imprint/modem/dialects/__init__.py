"""The modem families, by the name that an identity gives in `modem`.

Each is three files, so that a small heap holds one at a time: NAME_setup.py up to an attached
modem, NAME_dial.py up to a session, NAME.py for what is said in it.
"""

NAMES = ("nrf91", "bg95", "sequans", "sara", "udp")


def load(name: str):
    """The dialect of that family; imports that one only. KeyError: there is none."""
    if name not in NAMES:
        raise KeyError(name)
    return __import__("imprint.modem.dialects." + name, None, None, ("Dialect",)).Dialect()


def setup(dialect):
    """The dialogues from power-on to an attached modem, for the one that `dialect` talks to."""
    return _part(dialect, "_setup").Setup(dialect)


def dialer(dialect):
    """Those that lead from there to a session."""
    return _part(dialect, "_dial").Dialer(dialect)


def _part(dialect, end):
    return __import__("imprint.modem.dialects." + dialect.NAME + end, None, None, ("*",))
