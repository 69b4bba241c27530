"""Obeying what the cloud has kept for this unit; see coap_session.py. Loaded while one waits."""

from micropython import const

from imprint import port

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.net.coap_session import Session

_GET = const(1)  # wire/coap/codes.py

# EnOS's codes of a command's reply
_OK = const(200)
_UNHANDLED = const(1101)
_FAILED = const(1102)
_MALFORMED = const(1200)


def obey(session: "Session", cloud: "Any", segments: list, payload: "bytes | None") -> None:
    """Fetch the command of that path, unless `payload` is it already, carry it out and reply.

    `cloud` is the cloud's module of commands. Raises what Session.request raises.
    """
    session.command = None
    if payload is None:
        response = session.request(_GET, segments)
        if response.code >> 5 != 2:
            return  # it was withdrawn
        payload = response.payload
        session.command = None  # the reply's response names the next one, or this one again
    wanted = cloud.parse_command(segments, payload)
    kind, number = wanted[:2]
    code, data = _UNHANDLED, None
    if kind == "malformed":
        code = _MALFORMED
    elif kind == "set":
        code = _OK
        try:
            session.unit.apply(wanted[2])
        except (ValueError, TypeError, KeyError):  # odd parameters
            code = _FAILED
    elif kind == "get":
        code = _OK
        values = session.unit.read()
        data = {name: values[name] for name in wanted[2] if name in values}
    port.emit("set" if kind == "set" else "command", id=number, code=code)
    session.request(*cloud.command_reply(segments, number, code, data))
