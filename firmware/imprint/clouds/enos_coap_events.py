"""EnOS over CoAP: events and attributes, which go before a report, a line each. Pure."""

from micropython import const

from imprint import canonical
from imprint.clouds.enos_coap import post, with_time

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from imprint.identity import Identity

_EVENTS_MAX = const(8)  # with one report
_NAME_MAX = const(64)  # bytes of an identifier: WHOLE_MAX counts with that


def attributes(values: dict) -> bytes:
    """The line of attributes; b"" for none."""
    return canonical.dumps({"attributes": values}) + b"\n" if values else b""


def events(happened: "Callable[[], tuple | None]", time_ms: int | None) -> bytes:
    """The lines of what `happened`: (identifier, fields), one at a time.

    Their time and errors are those of measurepoints; an identifier that no path can have in it is
    a ValueError here, since it would be one whenever the line is sent.
    """
    lines = b""
    for _ in range(_EVENTS_MAX):
        event = happened()
        if not event:
            break
        name, fields = event
        if "/" in name or not 1 <= len(name.encode()) <= _NAME_MAX:
            raise ValueError("event " + name)
        found = with_time({"event": name, "fields": fields}, time_ms)
        lines += canonical.dumps(found) + b"\n"
    return lines


def message(identity: "Identity", msg_id: int, line: bytes) -> tuple:
    """(code, segments, payload) of such a line."""
    found = canonical.loads(line, len(line))
    if "attributes" in found:
        return post(identity, msg_id, ("attribute", "update"), found)
    params = with_time({"events": found["fields"]}, found.get("time"))
    return post(identity, msg_id, ("event", found["event"], "post"), params)
