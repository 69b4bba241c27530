"""Sub-devices of an EnOS edge, created: over REST, or by `thing/device/register`.

Once for each, so this leaves the memory when it has done its part.
"""

from micropython import const

from imprint import port
from imprint import subdevices as s

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.errors import ImprintError

_EXISTS = const(11702)


def create(fleet: "Any", chosen: "list[int]") -> None:
    """Have a secret of their own issued to those. Raises ImprintError for the request as a whole;
    what was said of one is told."""
    names = [fleet.table.name(at) for at in chosen]
    if fleet.identity.subdevice_registration == "mqtt":
        _register(fleet, chosen, names)
        return
    with fleet.session.api() as api:
        found = api.create(names)
    later = None
    for at, (secret, error) in zip(chosen, found):
        if error and error.retry:
            later = error
        else:
            _take(fleet, at, secret, error)
    if later:
        raise later


def _register(fleet: "Any", chosen: "list[int]", names: "list[tuple]") -> None:
    cloud = fleet.cloud
    params = cloud.register(names, fleet.identity.timezone)
    code, message, data = fleet.session.ask(cloud.REGISTER, params)
    if code == 200:
        secrets = {made[:2]: made[2] for made in cloud.registered(data)}
        for at, name in zip(chosen, names):
            secret = secrets.get(name, "")
            error = None if secret else cloud.refusal(code, "no secret in the reply", name[1])
            _take(fleet, at, secret, error)
    elif len(chosen) > 1:
        fleet.now(code, message)
        for at, name in zip(chosen, names):  # done whole or not at all: which of them is it?
            _register(fleet, [at], [name])
    else:
        error = cloud.refusal(code, message, names[0][1])
        if error.retry:
            raise error
        secret = ""
        if code == _EXISTS and fleet.identity.access_key:
            with fleet.session.api() as api:
                secret, error = api.secret(names[0])
        _take(fleet, chosen[0], secret, error)


def _take(fleet: "Any", at: int, secret: str, error: "ImprintError | None") -> None:
    # A secret that was issued counts once it is stored.
    if secret:
        fleet.keep(at, secret.encode())
    elif error:
        error.detail = error.detail or fleet.table.name(at)[1]
        port.emit_error(error)
        # One that exists may let itself be activated.
        known = error.number == _EXISTS and fleet.identity.subdevice_product_secret
        fleet.table.flags[at] |= s.RETRIED if known else s.REFUSED
