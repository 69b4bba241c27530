"""The modem families, one file each, by the name that an identity gives in `modem`."""

NAMES = ("nrf91", "bg95", "sequans", "sara", "udp")


def load(name: str):
    """The dialect of that family; imports that one only. KeyError: there is none."""
    if name not in NAMES:
        raise KeyError(name)
    return __import__("imprint.modem.dialects." + name, None, None, ("Dialect",)).Dialect()
