"""EnOS over CoAP: what a command wants, and what is answered. Pure."""

from micropython import const

from imprint import canonical

_POST = const(2)  # wire/coap/codes.py

_COMMAND_MAX = const(2048)  # bytes


def parse_command(segments: list, payload: bytes) -> tuple:
    """What the cloud wants, as one of

        ("set", id: str, params: dict)          measurepoints to values
        ("get", id: str, names: list)           reply with their values
        ("service", id: str, name: str, params) a service of the thing model
        ("other", id: str)                      reply 1101: nobody handles it
        ("malformed", id: str)                  reply 1200: it cannot be parsed

    Never raises.
    """
    msg_id = ""
    try:
        message = canonical.loads(payload, _COMMAND_MAX)
        if isinstance(message.get("id"), str):
            msg_id = message["id"][:64]
        params = message.get("params")
    except ValueError:
        return ("malformed", msg_id)
    tail = segments[4:]
    if tail[:2] != ["thing", "service"]:
        return ("other", msg_id)
    tail = tail[2:]
    if tail == ["measurepoint", "set"] and isinstance(params, dict):
        return ("set", msg_id, params)
    if tail == ["measurepoint", "get"] and isinstance(params, list):
        return ("get", msg_id, params)
    if len(tail) == 1 and isinstance(params, dict):
        return ("service", msg_id, tail[0], params)
    return ("malformed", msg_id)


def command_reply(
    segments: list, msg_id: str, code: int = 200, data: dict | None = None, message: str = ""
) -> tuple:
    """(code, segments, payload) that answers the command of those segments.

    Codes: 200, 1101 nobody handles it, 1102 the handler failed, 1200 not parsed, own from 2000.
    """
    payload = canonical.dumps({
        "code": code,
        "data": data or {},
        "id": msg_id,
        "message": message,
    })  # fmt: skip
    return _POST, segments[:-1] + [segments[-1] + "_reply"], payload
