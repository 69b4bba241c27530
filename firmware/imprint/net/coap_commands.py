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
    code, data = _OK, None
    try:
        if kind == "set":
            session.unit.apply(wanted[2])
        elif kind == "get":
            values = session.unit.read()
            data = {name: values[name] for name in wanted[2] if name in values}
        elif kind == "service":
            data = session.unit.method(wanted[2], wanted[3])
        else:
            code = _MALFORMED if kind == "malformed" else _UNHANDLED
        reply = cloud.command_reply(segments, number, code, data)
    except (ValueError, TypeError, KeyError) as error:  # odd parameters, or an odd answer
        code = _FAILED
        if kind == "service":
            code = _UNHANDLED if isinstance(error, KeyError) else _MALFORMED
        reply = cloud.command_reply(segments, number, code)
    port.emit("set" if kind == "set" else "command", id=number, code=code)
    session.request(*reply)
