"""The modem families, by the name that an identity gives in `modem`.

Each is two files: NAME.py for a running session, NAME_setup.py for the way there. The latter's
modules may be dropped from the memory when it has been gone.
"""

NAMES = ("nrf91", "bg95", "sequans", "sara", "udp")


def load(name: str):
    """The dialect of that family; imports that one only. KeyError: there is none."""
    if name not in NAMES:
        raise KeyError(name)
    return __import__("imprint.modem.dialects." + name, None, None, ("Dialect",)).Dialect()


def setup(dialect):
    """The dialogues that come before a session with the modem that `dialect` talks to."""
    name = "imprint.modem.dialects." + dialect.NAME + "_setup"
    return __import__(name, None, None, ("Setup",)).Setup(dialect)
