"""The portal for programs: the same units, the same rules, JSON.

    GET  /api/v1/units?state=&prefix=&before=     a page of units, newest first
    GET  /api/v1/units/{id}                       one, with its progress
    POST /api/v1/units/{id}/activate              {"tags", "desired", "hub" | "policy"}
    POST /api/v1/units/{id}/disable|enable|decommission

With `Authorization: Bearer` and an account's token (imprint factory account token).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.exceptions import HTTPException

from imprint_tools import ledger as state
from imprint_tools.errors import ImprintError
from imprint_tools.factory.activation import Activation, Settings
from imprint_tools.factory.people import Account
from imprint_tools.factory.web import Call
from imprint_tools.ledger import PAGE, Ledger, Unit

WANTED = {
    "activate": state.ACTIVE,
    "enable": state.ACTIVE,
    "disable": state.DISABLED,
    "decommission": state.DECOMMISSIONED,
}


class Api:
    """The views."""

    def __init__(self, ledger: Ledger, activation: Activation) -> None:
        self._ledger, self._activation = ledger, activation

    def units(self, account: Account, call: Call) -> dict[str, Any]:
        """A page of the organisation's units; `next` leads to the page after it."""
        query = call.request.query_params
        page = self._ledger.page(
            account.organisation_id,
            prefix=query.get("prefix", "").lower(),
            state=query.get("state", ""),
            before=position(query.get("before", "")),
        )
        found: dict[str, Any] = {"units": [shown(unit) for unit in page[:PAGE]]}
        if len(page) > PAGE:
            found["next"] = f"{page[PAGE - 1].created}.{page[PAGE - 1].id}"
        return found

    def unit(self, account: Account, call: Call) -> dict[str, Any]:
        """One unit."""
        unit = self._own(account, call)
        progress = self._activation.progress(unit) if unit.state == state.ACTIVE else None
        found = shown(self._own(account, call))
        return found | {"progress": asdict(progress) if progress else None}

    def change(self, account: Account, call: Call) -> dict[str, Any]:
        """Activate, disable, enable, decommission."""
        action = call.request.path_params["action"]
        if action not in WANTED:
            raise HTTPException(404, "there is no such action")
        unit = self._own(account, call)
        settings = None
        if action == "activate":
            settings = self._activation.check(_settings(call.json))
        elif call.json:
            raise HTTPException(422, f"{action} takes no body")
        unit, done = change(
            self._ledger, self._activation, unit, WANTED[action], settings, account, call.address
        )
        return shown(unit) | {"done": done}

    def _own(self, account: Account, call: Call) -> Unit:
        return own_unit(self._ledger, account, call.request.path_params["unit_id"])


def change(
    ledger: Ledger,
    activation: Activation,
    unit: Unit,
    wanted: str,
    settings: Settings | None,
    account: Account,
    address: str,
) -> tuple[Unit, list[str]]:
    """Take a unit somewhere, and leave a line in the trail of what was asked and what came."""
    outcome = "a bug"
    try:
        unit, done = activation.go(unit, wanted, settings)
        outcome = "; ".join(done)
        return unit, done
    except ImprintError as error:
        outcome = f"not done: {error}"
        raise
    finally:
        ledger.note(
            account.name, f"to be {wanted}", organisation_id=account.organisation_id,
            unit_id=unit.id, address=address, detail=outcome,
        )  # fmt: skip


def own_unit(ledger: Ledger, account: Account, unit_id: str) -> Unit:
    """The unit, if it is the account's organisation's; to anybody else it does not exist."""
    unit = ledger.find(unit_id.lower(), account.organisation_id)
    if unit is None:
        raise HTTPException(404, "There is no such unit.")
    return unit


def shown(unit: Unit) -> dict[str, Any]:
    """A unit in JSON."""
    inside = ("station_id", "request_key", "organisation_id")
    found = {name: value for name, value in asdict(unit).items() if name not in inside}
    found["settings"] = {n: value for n, value in unit.settings.items() if n != "named"}
    return found


def position(text: str) -> tuple[int, str] | None:
    """Where a page begins, as `next` says it; None for the first."""
    created, dot, unit_id = text.partition(".")
    return (int(created), unit_id) if dot and created.isdecimal() and len(created) < 16 else None


def _settings(body: Any) -> Settings:
    known = {"tags", "desired", "hub", "policy"}
    if not isinstance(body, dict) or not body.keys() <= known:
        raise HTTPException(422, f"the body is an object of {', '.join(sorted(known))}")
    hub, policy = body.get("hub", ""), body.get("policy", "")
    if not isinstance(hub, str) or not isinstance(policy, str):
        raise HTTPException(422, "hub and policy are text")
    return Settings(body.get("tags", {}), body.get("desired", {}), hub, policy)
