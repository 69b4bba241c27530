"""EnOS over CoAP: posts of events and attributes, for applications. Pure."""

from micropython import const

from imprint.clouds.enos_coap import post, with_time

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.identity import Identity


def event(
    identity: "Identity", msg_id: int, event_id: str, fields: dict, time_ms: int | None = None
) -> tuple:
    """(code, segments, payload) of an event of the thing model."""
    params = with_time({"events": fields}, time_ms)
    return post(identity, msg_id, ("event", event_id, "post"), params)


def attributes(identity: "Identity", msg_id: int, values: dict) -> tuple:
    """The same of attributes."""
    return post(identity, msg_id, ("attribute", "update"), {"attributes": values})
