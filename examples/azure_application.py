"""An application for Azure: put it into the board's root as application.py.

It reports a temperature and a humidity (here made up: ask your sensor), flags a report that is too
hot, and lets the cloud set the limit. See docs/azure-dps.md.
"""

import os

limit = 30.0  # degrees Celsius


def read():
    """What is reported, and how the twin is told."""
    chance = os.urandom(2)
    return {
        "temperature": round(20 + chance[0] * 15 / 255, 1),
        "humidity": round(60 + chance[1] * 20 / 255, 1),
    }


def properties(values):
    """Text beside the report, by which the hub can route it."""
    return {"temperatureAlert": "true" if values["temperature"] > limit else "false"}


def apply(params):
    """The twin's desired properties, as they came or changed; what is returned is reported."""
    global limit
    if params.get("limit") is not None:
        limit = float(params["limit"])
    return {"limit": limit}


def method(name, value):
    """Direct methods. KeyError: there is none of that name."""
    if name != "echo":
        raise KeyError(name)
    return {"you said": value}


def hear(payload):
    """A message from the cloud; what is returned is sent back."""
    return b"heard " + payload
