"""The activation portal's pages: log in, find the unit, take it into service and out of it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from starlette.responses import JSONResponse, RedirectResponse, Response

from imprint_tools import labels
from imprint_tools import ledger as state
from imprint_tools.factory import twin
from imprint_tools.factory.activation import POLICIES, Activation, Progress, Settings
from imprint_tools.factory.api import WANTED, change, own_unit, position
from imprint_tools.factory.enroller import Enroller
from imprint_tools.factory.people import SESSION_LIFE_S, People
from imprint_tools.factory.web import (
    SESSION_COOKIE,
    Call,
    Pages,
    View,
    drop_session_cookie,
    login_cookie,
    network_of,
    session_cookie,
)
from imprint_tools.ledger import PAGE, STATES, Ledger, Unit, checked_id
from imprint_tools.secret import Secret

_LOGINS, _GUESSES, _LOGINS_SPAN_S = 10, 50, 300
_CHANGES, _PICTURES, _MINUTE_S = 60, 120, 60
_COUNTS_S = 2.0
_SPARE_ROWS = 3
_TYPES = ("text", "number", "yes/no")


class Portal:
    """The views."""

    def __init__(
        self,
        ledger: Ledger,
        people: People,
        activation: Activation,
        enroller: Enroller,
        pages: Pages,
    ) -> None:
        self._ledger, self._people, self._activation = ledger, people, activation
        self._enroller, self._pages = enroller, pages
        self._counted: dict[int, tuple[float, dict[str, int]]] = {}

    # --- Log in and out --------------------------------------------------------------------------

    def login_form(self, call: Call, *, failed: bool = False) -> Response:
        """The form, with a token of its own."""
        token = secrets.token_urlsafe(24)
        page = self._pages.render(
            call, "login.html", 401 if failed else 200, failed=failed, csrf=token
        )
        login_cookie(page, token)
        return page

    def login(self, call: Call) -> Response:
        """Name and password."""
        self._pages.check_login_token(call)
        name = call.text("name")[:64]
        # Counted before, since many may be under way at once; what goes well is taken back. The
        # wider limit is a name's, so that not anybody may lock anybody out.
        tries = (("login from", network_of(call.address), _LOGINS), ("login as", name, _GUESSES))
        for what, key, most in tries:
            self._pages.limits.count(what, key, most, _LOGINS_SPAN_S)
        account = self._people.login(name, Secret(call.text("password")))
        if account is None:
            self._ledger.note(name, "login refused", address=call.address)
            return self.login_form(call, failed=True)
        for what, key, _ in tries:
            self._pages.limits.take_back(what, key)
        token, _ = self._people.open_session(account)
        self._ledger.note(
            account.name, "login", organisation_id=account.organisation_id, address=call.address
        )
        answer = RedirectResponse("/", 303)
        session_cookie(answer, token, SESSION_LIFE_S)
        return answer

    def logout(self, call: Call) -> Response:
        """Close the session."""
        self._people.close_session(call.request.cookies.get(SESSION_COOKIE, ""))
        answer = RedirectResponse("/login", 303)
        drop_session_cookie(answer)
        return answer

    # --- Find ------------------------------------------------------------------------------------

    def units(self, call: Call) -> Response:
        """The organisation's units, a page at a time; a whole GUID leads to its unit."""
        query = call.request.query_params
        text, wanted = query.get("find", "").strip().lower()[:64], query.get("state", "")
        try:
            unit = self._ledger.find(checked_id(text), call.account.organisation_id)
        except ValueError:
            unit = None
        if unit:
            return RedirectResponse(f"/units/{unit.id}", 303)
        page = self._ledger.page(
            call.account.organisation_id,
            prefix=text,
            state=wanted if wanted in STATES else "",
            before=position(query.get("before", "")),
        )
        last = page[PAGE - 1] if len(page) > PAGE else None
        return self._pages.render(
            call, "units.html", units=page[:PAGE], find=text, state=wanted,
            counts=self._counts(call.account.organisation_id), states=STATES,
            more=f"{last.created}.{last.id}" if last else "", trouble=self._enroller.trouble,
        )  # fmt: skip

    def _counts(self, organisation_id: int) -> dict[str, int]:
        """How many units are in each state, at most _COUNTS_S ago: they are counted one by one."""
        counted, found = self._counted.get(organisation_id, (float("-inf"), {}))
        if time.monotonic() - counted > _COUNTS_S:
            found = self._ledger.counts(organisation_id)
            self._counted[organisation_id] = time.monotonic(), found
        return found

    def scan_form(self, call: Call) -> Response:
        """Camera, or a picture."""
        return self._pages.render(call, "scan.html", problem="")

    def scan(self, call: Call) -> Response:
        """A picture of a label: to its unit. The camera asks for JSON, a form for a page."""
        self._pages.limits.count("picture", call.account.name, _PICTURES, _MINUTE_S)
        found = [text for text in labels.read(call.picture) if _guid(text)]
        unit = next(
            (u for t in found if (u := self._ledger.find(_guid(t), call.account.organisation_id))),
            None,
        )
        if "application/json" in call.request.headers.get("accept", ""):
            return JSONResponse({"unit": unit.id if unit else None, "seen": bool(found)})
        if unit:
            return RedirectResponse(f"/units/{unit.id}", 303)
        problem = "This unit is not one of yours." if found else "No label was found in it."
        return self._pages.render(call, "scan.html", 422, problem=problem)

    # --- One unit --------------------------------------------------------------------------------

    def unit(self, call: Call) -> Response:
        """Everything about it."""
        unit = self._own(call)
        progress = self._progress(unit)
        return self._pages.render(
            call, "unit.html", unit=self._own(call), progress=progress,
            steps=_steps(unit, progress), settings=_pretty(Settings.of(unit)),
            trail=self._ledger.trail(call.account.organisation_id, unit_id=unit.id, limit=20),
            waiting=bool(unit.wanted) or (unit.state == state.ACTIVE and not unit.first_seen),
        )  # fmt: skip

    def label(self, call: Call) -> Response:
        """The unit's QR label: its GUID, no more."""
        unit = self._own(call)
        if call.request.path_params["kind"] == "png":
            return Response(labels.png(unit.id), media_type="image/png")
        return Response(labels.svg(unit.id), media_type="image/svg+xml")

    def activate_form(self, call: Call) -> Response:
        """Tags and desired properties, as fields or as JSON."""
        unit = self._own(call)
        settings = Settings.of(unit)
        flat = _is_flat(settings.tags) and _is_flat(settings.desired)
        raw = call.request.query_params.get("raw") == "1" or not flat
        return self._activation_page(call, unit, settings, raw=raw)

    def activate(self, call: Call) -> Response:
        """Check what was entered; if it holds, do it."""
        unit = self._own(call)
        self._pages.limits.count("change", call.account.name, _CHANGES, _MINUTE_S)
        raw = call.text("raw") == "1"
        try:
            settings = self._activation.check(_entered(call, raw=raw))
        except twin.TwinError as error:
            return self._activation_page(
                call, unit, Settings.of(unit), raw=raw, problem=str(error), entered=call
            )
        return self._change(call, unit, state.ACTIVE, settings)

    def changing(self, action: str) -> View:
        """Disable, enable, decommission."""

        def change_it(call: Call) -> Response:
            unit = self._own(call)
            self._pages.limits.count("change", call.account.name, _CHANGES, _MINUTE_S)
            begins = call.text("confirm").strip().lower()
            if action == "decommission" and begins != unit.id[:8]:
                return self._pages.render(
                    call, "decommission.html", 422, unit=unit,
                    problem="This is not how its GUID begins.",
                )  # fmt: skip
            return self._change(call, unit, WANTED[action], None)

        return change_it

    def decommission_form(self, call: Call) -> Response:
        """Ask again, for there is no way back."""
        return self._pages.render(call, "decommission.html", unit=self._own(call), problem="")

    def trail(self, call: Call) -> Response:
        """Who did what in the organisation."""
        return self._pages.render(
            call, "trail.html", trail=self._ledger.trail(call.account.organisation_id)
        )

    def _change(self, call: Call, unit: Unit, wanted: str, settings: Settings | None) -> Response:
        change(self._ledger, self._activation, unit, wanted, settings, call.account, call.address)
        return RedirectResponse(f"/units/{unit.id}", 303)

    def _own(self, call: Call) -> Unit:
        return own_unit(self._ledger, call.account, call.request.path_params["unit_id"])

    def _progress(self, unit: Unit) -> Progress:
        if unit.state in (state.ACTIVE, state.DISABLED):
            return self._activation.progress(unit)
        return Progress(hub=unit.hub)

    def _activation_page(
        self,
        call: Call,
        unit: Unit,
        settings: Settings,
        *,
        raw: bool,
        problem: str = "",
        entered: Call | None = None,
    ) -> Response:
        values: dict[str, Any] = {
            "tags": _rows(settings.tags), "desired": _rows(settings.desired),
            "json": _pretty(settings), "placement": _placement(settings),
        }  # fmt: skip
        if entered:
            values = {
                "tags": _entered_rows(entered, "tag"), "json": entered.text("json"),
                "desired": _entered_rows(entered, "desired"),
                "placement": entered.text("placement"),
            }  # fmt: skip
        return self._pages.render(
            call, "activate.html", 422 if problem else 200, unit=unit, raw=raw, problem=problem,
            hubs=self._activation.hub_names, policies=POLICIES, types=_TYPES, **values,
        )  # fmt: skip


Rows = list[tuple[str, str, str]]
"""Name, type, value, each as it stands in the form."""


def _entered(call: Call, *, raw: bool) -> Settings:
    """What a form holds. Raises TwinError."""
    if raw:
        tags, desired = twin.parse(call.text("json"))
    else:
        tags = _parsed(_entered_rows(call, "tag"), "tags")
        desired = _parsed(_entered_rows(call, "desired"), "desired")
    kind, _, name = call.text("placement").partition(":")
    if kind not in ("", "hub", "policy"):
        raise twin.TwinError("the place is a hub or a policy")
    return Settings(tags, desired, name if kind == "hub" else "", name if kind == "policy" else "")


def _entered_rows(call: Call, what: str) -> Rows:
    columns = (call.texts(f"{what}_{part}") for part in ("name", "type", "value"))
    return [(n.strip(), t, v) for n, t, v in zip_longest(*columns, fillvalue="")]


def _parsed(rows: Rows, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind, text in rows:
        if not name and not text.strip():
            continue  # one of the spare rows
        if not name:
            raise twin.TwinError(f"{where}: the value {text[:40]!r} has no name")
        if name in found:
            raise twin.TwinError(f"{where}: {name[:40]!r} stands twice")
        found[name] = _value(kind, text, f"{where}.{name[:40]}")
    return found


def _value(kind: str, text: str, path: str) -> Any:
    if kind == "yes/no":
        if text.strip().lower() not in ("yes", "no", "true", "false"):
            raise twin.TwinError(f"{path} is neither yes nor no")
        return text.strip().lower() in ("yes", "true")
    if kind == "number":
        try:
            number = json.loads(text)
        except (ValueError, RecursionError):
            number = None
        if type(number) not in (int, float) or number in (float("inf"), float("-inf")):
            raise twin.TwinError(f"{path} is no number") from None
        return number
    return text


def _rows(document: Mapping[str, Any]) -> Rows:
    if not _is_flat(document):
        return []
    found = [(name, *_typed(value)) for name, value in document.items()]
    return found + [("", "text", "")] * _SPARE_ROWS


def _typed(value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        return "yes/no", "yes" if value else "no"
    return ("text", value) if isinstance(value, str) else ("number", json.dumps(value))


def _is_flat(document: Mapping[str, Any]) -> bool:
    return all(isinstance(v, str | int | float) for v in document.values())


def _placement(settings: Settings) -> str:
    if settings.hub:
        return f"hub:{settings.hub}"
    return f"policy:{settings.policy}" if settings.policy else ""


def _pretty(settings: Settings) -> str:
    return json.dumps(twin.document(settings.tags, settings.desired), indent=2, ensure_ascii=False)


def _guid(text: str) -> str:
    """The GUID that a label holds; empty for another code."""
    try:
        return checked_id(text)
    except ValueError:
        return ""


def _steps(unit: Unit, progress: Progress) -> list[tuple[str, str, str]]:
    """The unit's way as (what, "done" | "now" | "open", detail)."""
    assigned = bool(progress.hub)
    alive = bool(unit.first_seen or progress.last_active)
    ways = [
        ("Certificate issued", bool(unit.issued), ""),
        ("Enrolled", bool(unit.enrolled), ""),
        ("Activated", bool(unit.activated), ""),
        ("Registered at first power-on", assigned, progress.hub),
        ("First sign of life at its hub", alive, progress.last_active[:19].replace("T", " ")),
    ]
    found, now_taken = [], False
    for what, done, detail in ways:
        word = "done" if done else ("open" if now_taken else "now")
        now_taken = now_taken or not done
        found.append((what, word, detail))
    return found
