"""EnOS's MQTT topics: whose they are, and who may use them. Pure.

/sys/{productKey}/{deviceKey}/{tail}           what a device says of itself, and is told
/ext/session/{productKey}/{deviceKey}/{tail}   about its session, and its sub-devices' ones
"""

from __future__ import annotations

from dataclasses import dataclass

from imprint_tools.localcloud.enos.records import Name

_SYS, _SESSION = "/sys/", "/ext/session/"
REPLY = "_reply"


@dataclass(frozen=True)
class Topic:
    """`session`: it begins with /ext/session."""

    session: bool
    name: Name
    tail: str


def parse(text: str) -> Topic | None:
    """Read a topic, or a topic filter with the wildcards only in its tail; None for others."""
    session = text.startswith(_SESSION)
    prefix = _SESSION if session else _SYS
    if not text.startswith(prefix):
        return None
    parts = text.removeprefix(prefix).split("/", 2)
    if len(parts) != 3 or not all(parts) or {"+", "#"} & set(parts[:2]):
        return None
    return Topic(session, (parts[0], parts[1]), parts[2])


def system(name: Name, tail: str) -> str:
    return f"{_SYS}{name[0]}/{name[1]}/{tail}"


def session(name: Name, tail: str) -> str:
    return f"{_SESSION}{name[0]}/{name[1]}/{tail}"
