"""The activation portal by hand and by program: what it does, and whom it lets do it."""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import factorylab
import httpx
import pytest
from factorylab import PASSWORD, Lab
from imprint_tools import labels
from imprint_tools.factory.activation import Activation
from imprint_tools.factory.client import StationClient
from imprint_tools.factory.web import HEADERS, Limits
from imprint_tools.ledger import ACTIVE, DECOMMISSIONED, DISABLED, ENROLLED, Ledger, Unit, new_id
from imprint_tools.localcloud.azure.cloud import AzureConfig
from imprint_tools.localcloud.azure.faults import Trouble
from starlette.exceptions import HTTPException

XSS = "\"><script>alert(1)</script>'"
HUBS = AzureConfig(hubs=("one", "two"), operations_per_min=None)
ONE = "one.azure-devices.net"

Maker = Callable[[], str]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with factorylab.lab(tmp_path_factory.mktemp("lab"), HUBS) as running:
        running.factory.people.add_account("eve", "other", PASSWORD)
        yield running


@pytest.fixture
def make(lab: Lab, tmp_path: Path) -> Maker:
    """Enrols a unit of `acme` and returns its id."""
    made: list[str] = []

    def enrol() -> str:
        with StationClient(lab.url, lab.ca, lab.station) as station:
            unit = station.enrol(tmp_path / f"unit-{len(made)}", {"wifi_ssid": "bench"})
        made.append(unit.id)
        return unit.id

    return enrol


@pytest.fixture(scope="module")
def ann(lab: Lab) -> Iterator[Visitor]:
    with lab.client() as client:
        yield Visitor(client, "ann")


@pytest.fixture(scope="module")
def eve(lab: Lab) -> Iterator[Visitor]:
    """Of another organisation."""
    with lab.client() as client:
        yield Visitor(client, "eve")


class Visitor:
    """Somebody who is logged in, without JavaScript."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self.client = client
        answer = login(client, name, PASSWORD.reveal().decode())
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        self.csrf = field(client.get("/").text, "csrf")

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def post(self, path: str, **fields: Any) -> httpx.Response:
        return self.client.post(path, data={"csrf": self.csrf, **fields})

    def activate(self, unit_id: str, **fields: Any) -> httpx.Response:
        return self.post(f"/units/{unit_id}/activate", **fields)


def login(client: httpx.Client, name: str, password: str) -> httpx.Response:
    csrf = field(client.get("/login").text, "csrf")
    return client.post("/login", data={"name": name, "password": password, "csrf": csrf})


def field(page: str, name: str) -> str:
    found = re.search(f'name="{name}" value="([^"]+)"', page)
    assert found
    return found[1]


def enrolment(lab: Lab, unit_id: str) -> dict[str, Any] | None:
    dps = lab.factory.config.dps.dps()
    try:
        return dps.get(unit_id)
    finally:
        dps.close()


# --- Activation ----------------------------------------------------------------------------------


def test_a_form_activates_a_unit(lab: Lab, ann: Visitor, make: Maker) -> None:
    """Twin and hub as entered, the enrolment enabled, its certificate kept, the trail written."""
    unit_id = make()
    before = enrolment(lab, unit_id)
    answer = ann.activate(
        unit_id,
        tag_name=["site", "floor", "spare", ""],
        tag_type=["text", "number", "yes/no", "text"],
        tag_value=["north <hall>", "3", "no", ""],
        desired_name=["interval_s"], desired_type=["number"], desired_value=["5"],
        placement=f"hub:{ONE}",
    )  # fmt: skip
    assert (answer.status_code, answer.headers["location"]) == (303, f"/units/{unit_id}")
    stored = enrolment(lab, unit_id)
    assert before is not None and stored is not None
    assert stored["provisioningStatus"] == "enabled" and stored["iotHubHostName"] == ONE
    assert stored["initialTwin"] == {
        "tags": {"site": "north <hall>", "floor": 3, "spare": False},
        "properties": {"desired": {"interval_s": 5}},
    }
    assert stored["attestation"] == before["attestation"]
    page = ann.get(f"/units/{unit_id}").text
    assert "north &lt;hall&gt;" in page and "<hall>" not in page
    assert "initial twin set; enrolment enabled" in page
    assert lab.factory.ledger.get(unit_id).state == ACTIVE


def test_json_activates_a_unit(lab: Lab, ann: Visitor, make: Maker) -> None:
    """Nested documents go by JSON, and are shown as JSON again. A policy takes all hubs."""
    unit_id = make()
    text = '{"tags": {"a": {"b": [1, null]}}, "properties": {"desired": {}}}'
    assert ann.activate(unit_id, raw="1", json=text, placement="policy:hashed").status_code == 303
    stored = enrolment(lab, unit_id)
    assert stored is not None and stored["initialTwin"]["tags"] == {"a": {"b": [1, None]}}
    assert (stored["allocationPolicy"], len(stored["iotHubs"])) == ("hashed", 2)
    assert "<textarea" in ann.get(f"/units/{unit_id}/activate").text


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"raw": "1", "json": "{"}, "not JSON"),
        ({"raw": "1", "json": "[" * 60_000}, "nested|not JSON"),
        ({"raw": "1", "json": '{"tags": {"a.b": 1}}'}, "no dot"),
        ({"raw": "1", "json": '{"tags": "' + "x" * 70_000}, "longer"),
        ({"tag_name": ["a", "a"], "tag_type": ["text"] * 2, "tag_value": ["1", "2"]}, "twice"),
        ({"tag_name": ["a"], "tag_type": ["number"], "tag_value": ["1e999"]}, "no number"),
        ({"tag_name": ["a"], "tag_type": ["number"], "tag_value": ["[1]"]}, "no number"),
        ({"tag_name": ["a"], "tag_type": ["yes/no"], "tag_value": ["maybe"]}, "neither"),
        ({"tag_name": [""], "tag_type": ["text"], "tag_value": ["x"]}, "no name"),
        ({"placement": "hub:evil.example"}, "no hub"),
        ({"placement": "policy:custom"}, "policy is one of"),
        ({"placement": "x:y"}, "hub or a policy"),
        ({"raw": "1", "json": '{"tags": {"' + XSS.replace('"', '\\"') + '.": 1}}'}, "no dot"),
    ],
)
def test_what_is_wrong_is_told_and_kept(
    lab: Lab, ann: Visitor, make: Maker, fields: dict[str, Any], problem: str
) -> None:
    """422 with the reason; what was entered is still there, escaped; DPS was not asked."""
    unit_id = make()
    answer = ann.activate(unit_id, **fields)
    assert answer.status_code == 422
    assert re.search(problem, html.unescape(answer.text))
    assert "<script>alert" not in answer.text
    assert lab.factory.ledger.get(unit_id).state == ENROLLED
    stored = enrolment(lab, unit_id)
    assert stored is not None and stored["provisioningStatus"] == "disabled"


def test_disable_enable_decommission(lab: Lab, ann: Visitor, make: Maker) -> None:
    """There and back; and gone for good, certificate revoked, only after the GUID was typed."""
    unit_id = make()
    ann.activate(unit_id, tag_name=["site"], tag_type=["text"], tag_value=["north"])
    ann.post(f"/units/{unit_id}/disable")
    stored = enrolment(lab, unit_id)
    assert stored is not None and stored["provisioningStatus"] == "disabled"
    assert lab.factory.ledger.get(unit_id).state == DISABLED
    ann.post(f"/units/{unit_id}/enable")
    stored = enrolment(lab, unit_id)
    assert stored is not None and stored["provisioningStatus"] == "enabled"
    assert stored["initialTwin"]["tags"] == {"site": "north"}
    assert ann.post(f"/units/{unit_id}/decommission", confirm="no").status_code == 422
    assert ann.post(f"/units/{unit_id}/decommission").status_code == 422
    assert ann.post(f"/units/{unit_id}/decommission", confirm=unit_id[:8]).status_code == 303
    assert enrolment(lab, unit_id) is None
    unit = lab.factory.ledger.get(unit_id)
    assert unit.state == DECOMMISSIONED
    page = ann.post(f"/units/{unit_id}/enable")
    assert page.status_code == 409 and "cannot become" in page.text
    from imprint_tools.issuer import Authority

    with Authority.open(lab.factory.config.authority, factorylab.PASSPHRASE) as authority:
        assert authority.find(unit.serial).reason == "cessation_of_operation"


def test_what_is_taken_out_leaves_the_twin(lab: Lab, ann: Visitor, make: Maker) -> None:
    """A unit that has its hub: its twin is what was entered last, also after a change that the
    cloud did not get; what others wrote into it stays."""
    unit_id = make()
    lab.cloud.create_device(unit_id, hub="one")
    lab.factory.ledger.seen(unit_id, ONE, 0)
    hub = lab.factory.config.hub_services[0].hub()
    hub.patch_twin(unit_id, {"theirs": 1}, {})
    entered = [
        {"tags": {"site": "north", "place": {"hall": 1, "row": 2}}, "properties": {}},
        {"tags": {"lost": 1}, "properties": {"desired": {"rate": 5}}},
        {"tags": {"place": {"hall": 3}}, "properties": {"desired": {"on": True}}},
    ]
    for number, document in enumerate(entered):
        if number == 1:
            lab.cloud.faults.service.append(Trouble(429001, 100))
        answer = ann.activate(unit_id, raw="1", json=json.dumps(document))
        assert answer.status_code == (503 if number == 1 else 303)
    found = hub.twin(unit_id)
    hub.close()
    assert found is not None
    assert found["tags"] == {"place": {"hall": 3}, "theirs": 1}
    desired = {n: v for n, v in found["properties"]["desired"].items() if not n.startswith("$")}
    assert desired == {"on": True}
    with lab.client(lab.account) as program:
        shown = program.get(f"/api/v1/units/{unit_id}").json()["settings"]
    assert shown == {"tags": {"place": {"hall": 3}}, "desired": {"on": True},
                     "hub": "", "policy": ""}  # fmt: skip


def test_dps_is_away_for_a_while(
    lab: Lab, ann: Visitor, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says so, the wish stays, and the worker fulfils it; a refusal drops it."""
    unit_id = make()
    lab.cloud.faults.service.append(Trouble(429001, 100))
    answer = ann.activate(unit_id)
    assert answer.status_code == 503 and "status 429" in answer.text
    unit = lab.factory.ledger.get(unit_id)
    assert (unit.state, unit.wanted) == (ENROLLED, ACTIVE)
    assert "tried again by itself" in ann.get(f"/units/{unit_id}").text
    lab.factory.enroller.finish_undone()
    assert lab.factory.ledger.get(unit_id).state == ACTIVE
    lab.cloud.faults.service.append(Trouble(400004))
    assert ann.post(f"/units/{unit_id}/disable").status_code == 502
    unit = lab.factory.ledger.get(unit_id)
    assert (unit.state, unit.wanted) == (ACTIVE, "") and "400" in unit.problem


def test_one_unit_does_not_keep_the_others_waiting(
    lab: Lab, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody thought of happens to one; those after it are finished all the same."""
    first, second = make(), make()
    ledger = lab.factory.ledger
    for unit_id in (first, second):
        ledger.want(ledger.get(unit_id), ACTIVE, {})
    whole = Activation.carry_out

    def carry_out(self: Activation, unit: Unit) -> Any:
        if unit.id == first:
            raise ValueError("a fault of this one")
        return whole(self, unit)

    with monkeypatch.context() as patch:
        patch.setattr(Activation, "carry_out", carry_out)
        lab.factory.enroller.finish_undone()
    assert [ledger.get(one).state for one in (first, second)] == [ENROLLED, ACTIVE]
    lab.factory.enroller.finish_undone()
    assert ledger.get(first).state == ACTIVE


class KilledError(BaseException):
    """Stands for SIGKILL at a line."""


def test_a_kill_after_the_cloud_was_told(
    lab: Lab, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done in DPS and not noted is done again, to the same end."""
    unit_id = make()

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Ledger, "reached", killed)
        lab.factory.activation.go(lab.factory.ledger.get(unit_id), ACTIVE)
    stored = enrolment(lab, unit_id)
    assert stored is not None and stored["provisioningStatus"] == "enabled"
    assert lab.factory.ledger.get(unit_id).state == ENROLLED
    lab.factory.enroller.finish_undone()
    assert lab.factory.ledger.get(unit_id).state == ACTIVE


def test_a_hub_without_a_key_keeps_a_unit_from_being_decommissioned(
    lab: Lab, ann: Visitor, make: Maker
) -> None:
    """Told before anything is done: the enrolment is still there."""
    unit_id = make()
    assert ann.activate(unit_id).status_code == 303
    lab.factory.ledger.seen(unit_id, "unknown.azure-devices.net", 0)
    answer = ann.post(f"/units/{unit_id}/decommission", confirm=unit_id[:8])
    assert answer.status_code == 502 and "no key for the hub" in answer.text
    assert enrolment(lab, unit_id) is not None
    assert lab.factory.ledger.get(unit_id).state == ACTIVE


def test_somebody_else_changes_the_enrolment(
    lab: Lab, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The etag that no longer fits is read anew; a certificate that is not ours is left alone."""
    unit_id = make()
    dps = lab.factory.config.dps.dps()
    stale = dps.get(unit_id)
    assert stale is not None
    lab.factory.activation.go(lab.factory.ledger.get(unit_id), ACTIVE)
    answers = iter([stale])

    class Once:
        """Gives one answer that is out of date."""

        def __getattr__(self, name: str) -> Any:
            return getattr(dps, name)

        def get(self, registration_id: str) -> Any:
            return next(answers, None) or dps.get(registration_id)

    activation = Activation(lab.factory.ledger, Once(), {}, None)  # type: ignore[arg-type]
    activation.go(lab.factory.ledger.get(unit_id), DISABLED)
    stored = dps.get(unit_id)
    assert stored is not None and stored["provisioningStatus"] == "disabled"
    dps.close()


# --- Who may -------------------------------------------------------------------------------------


def test_anothers_units_do_not_exist(lab: Lab, ann: Visitor, eve: Visitor, make: Maker) -> None:
    """404 on every way in, the same as for an id that nobody has; nothing changes."""
    unit_id = make()
    label = labels.png(unit_id)
    for wanted in (unit_id, new_id()):
        for path in ("", "/activate", "/decommission", "/label.svg", "/label.png"):
            assert eve.get(f"/units/{wanted}{path}").status_code == 404
        for path in ("activate", "disable", "enable", "decommission"):
            answer = eve.post(f"/units/{wanted}/{path}", confirm=wanted[:8])
            assert answer.status_code == 404
        with lab.client(lab.factory.people.new_token("eve")) as program:
            assert program.get(f"/api/v1/units/{wanted}").status_code == 404
            assert program.post(f"/api/v1/units/{wanted}/activate", json={}).status_code == 404
    assert unit_id not in eve.get("/").text and unit_id not in eve.get("/trail").text
    assert eve.get(f"/?find={unit_id}").status_code == 200
    found = eve.client.post("/scan", data={"csrf": eve.csrf}, files={"picture": ("a", label)})
    assert found.status_code == 422 and "not one of yours" in found.text
    assert lab.factory.ledger.get(unit_id).state == ENROLLED
    assert ann.get(f"/units/{unit_id}").status_code == 200


PAGES = ("/", "/scan", "/trail", "/units/x", "/units/x/activate", "/units/x/label.svg")


def test_nobody_sees_a_page_without_login(lab: Lab) -> None:
    """Every page leads to the login; every change, too."""
    with lab.client() as client:
        for path in PAGES:
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login"), path
        assert client.post("/units/x/activate", data={"csrf": ""}).headers["location"] == "/login"


def test_a_form_without_its_token_is_refused(lab: Lab, ann: Visitor, make: Maker) -> None:
    """Missing, wrong, of another session, or sent by another site."""
    unit_id = make()
    path = f"/units/{unit_id}/activate"
    with lab.client() as other:
        theirs = Visitor(other, "ann").csrf
    for csrf in ("", "x", theirs, "é"):
        assert ann.client.post(path, data={"csrf": csrf}).status_code == 403
    assert ann.client.post(path).status_code == 403
    origin = {"Origin": "https://evil.example"}
    forged = ann.client.post(path, data={"csrf": ann.csrf}, headers=origin)
    assert forged.status_code == 403
    assert lab.factory.ledger.get(unit_id).state == ENROLLED
    assert ann.client.post("/login", data={"name": "ann", "password": "x"}).status_code == 403


@pytest.mark.parametrize("path", ["/login", "/units/x/activate"])
def test_a_form_in_a_codec_of_its_own(ann: Visitor, path: str) -> None:
    """One that makes halves of characters, which UTF-8 cannot hold, is refused."""
    part = '--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n\\ud800\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x; charset=unicode_escape"}
    assert ann.client.post(path, content=part.encode(), headers=kind).status_code == 400


def test_logging_out_ends_the_session(lab: Lab) -> None:
    """The cookie that somebody kept is worth nothing."""
    with lab.client() as client:
        visitor = Visitor(client, "ann")
        kept = {"Cookie": f"__Host-session={client.cookies['__Host-session']}"}
        assert visitor.post("/logout").headers["location"] == "/login"
    with lab.client() as thief:
        assert thief.get("/", headers=kept).headers["location"] == "/login"


def test_cookies_and_headers(lab: Lab, ann: Visitor) -> None:
    """Out of reach of scripts, of other sites and of plain HTTP; no inline script may run."""
    with lab.client() as client:
        answer = login(client, "ann", PASSWORD.reveal().decode())
    (cookie,) = (c for c in answer.headers.get_list("set-cookie") if "__Host-session=" in c)
    assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    for path in ("/", "/login", "/static/portal.js", "/nowhere", "/api/v1/units"):
        headers = ann.get(path).headers
        assert all(headers[name] == value for name, value in HEADERS.items()), path
        assert "server" not in headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    page = ann.get("/").text + ann.get("/scan").text
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|style=", page)


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    """After ten tries the eleventh waits, be the password right or wrong; so with tokens."""
    with factorylab.lab(tmp_path) as own, own.client() as client:
        answers = [login(client, "ann", f"wrong password {n}").status_code for n in range(11)]
        assert answers == [401] * 10 + [429]
        right = login(client, "ann", PASSWORD.reveal().decode())
        assert right.status_code == 429
        other = login(client, "bob", "wrong password")
        assert other.status_code == 429
        codes = [
            client.get("/api/v1/units", headers={"Authorization": "Bearer imp_1_x"}).status_code
            for _ in range(21)
        ]
        assert codes == [401] * 20 + [429]
        with own.client(own.account) as program:
            assert program.get("/api/v1/units").status_code == 200


def test_short_spans_make_no_long_one_forgotten() -> None:
    """However many others are counted: who has guessed ten times still waits."""
    now = [0.0]
    limits = Limits(clock=lambda: now[0])
    limits.count("login", "a", 1, 300)
    now[0] = 100
    for number in range(10_001):
        limits.count("api", str(number), 5, 10)
    with pytest.raises(HTTPException):
        limits.count("login", "a", 1, 300)


def test_tries_are_forgotten_with_time() -> None:
    """The limit is on a span, and says how long to wait."""
    now = [0.0]
    limits = Limits(clock=lambda: now[0])
    limits.count("x", "a", 2, 60)
    now[0] = 30
    limits.count("x", "a", 2, 60)
    with pytest.raises(HTTPException) as caught:
        limits.count("x", "a", 2, 60)
    assert (caught.value.headers or {})["Retry-After"] == "31"
    limits.count("x", "b", 2, 60)
    now[0] = 61
    limits.count("x", "a", 2, 60)


# --- Finding -------------------------------------------------------------------------------------


def test_units_are_found(ann: Visitor, make: Maker) -> None:
    """By the whole GUID in whatever case, by its beginning, by a picture of the label."""
    unit_id = make()
    for text in (unit_id, unit_id.upper(), f" {unit_id} "):
        answer = ann.client.get("/", params={"find": text})
        assert answer.headers["location"] == f"/units/{unit_id}"
    assert unit_id in ann.client.get("/", params={"find": unit_id[:10]}).text
    assert "No unit" in ann.client.get("/", params={"find": "zz"}).text
    hostile = ann.client.get("/", params={"find": XSS, "state": XSS, "before": XSS})
    assert hostile.status_code == 200 and "<script>alert" not in hostile.text
    picture = {"picture": ("label.png", labels.png(unit_id))}
    answer = ann.client.post("/scan", data={"csrf": ann.csrf}, files=picture)
    assert answer.headers["location"] == f"/units/{unit_id}"
    answer = ann.client.post(
        "/scan", data={"csrf": ann.csrf}, files=picture, headers={"Accept": "application/json"}
    )
    assert answer.json() == {"unit": unit_id, "seen": True}


@pytest.mark.parametrize(
    "picture",
    [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"GIF89a" + b"\0" * 50,
     labels.png("a")[:200], b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
)  # fmt: skip
def test_pictures_that_are_none(ann: Visitor, picture: bytes) -> None:
    """Told so, and not a bug."""
    answer = ann.client.post("/scan", data={"csrf": ann.csrf}, files={"picture": ("a", picture)})
    assert answer.status_code in (422, 500) and "no picture" in answer.text


def test_pictures_wait_for_their_turn(ann: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few at once, since each takes room; what does not come to its turn is told so."""
    monkeypatch.setattr(labels, "_TURN_S", 0.01)
    monkeypatch.setattr(labels, "_TURNS", threading.BoundedSemaphore(1))
    picture = {"picture": ("a.png", labels.png(new_id()), "image/png")}
    with labels._TURNS:
        answer = ann.client.post("/scan", data={"csrf": ann.csrf}, files=picture)
    assert answer.status_code == 422 and "too many pictures" in answer.text
    answer = ann.client.post("/scan", data={"csrf": ann.csrf}, files=picture)
    assert "not one of yours" in answer.text


def test_a_picture_bomb(ann: Visitor) -> None:
    """A small file of a picture without end is not unpacked; a large file is not read."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 99999))
    )
    answer = ann.client.post("/scan", data={"csrf": ann.csrf}, files={"picture": ("a", bomb)})
    assert answer.status_code == 422
    large = {"picture": ("a", b"x" * (13 << 20))}
    answer = ann.client.post("/scan", data={"csrf": ann.csrf}, files=large)
    assert answer.status_code == 413


# --- By program ----------------------------------------------------------------------------------


def test_the_rest_interface(lab: Lab, make: Maker) -> None:
    """The same by JSON."""
    unit_id = make()
    with lab.client(lab.account) as program:
        page = program.get("/api/v1/units", params={"prefix": unit_id[:13]}).json()
        assert [unit["id"] for unit in page["units"]] == [unit_id]
        body = {"tags": {"site": "north"}, "desired": {"n": 1}, "hub": ONE}
        answer = program.post(f"/api/v1/units/{unit_id}/activate", json=body)
        assert (answer.status_code, answer.json()["state"]) == (200, ACTIVE)
        assert answer.json()["done"] == ["initial twin set", "enrolment enabled"]
        one = program.get(f"/api/v1/units/{unit_id}").json()
        assert one["progress"]["registration"] == "" and one["settings"]["tags"] == body["tags"]
        for action, wanted in (("disable", DISABLED), ("enable", ACTIVE),
                               ("decommission", DECOMMISSIONED)):  # fmt: skip
            answer = program.post(f"/api/v1/units/{unit_id}/{action}")
            assert answer.json()["state"] == wanted
        assert program.post(f"/api/v1/units/{unit_id}/enable").status_code == 409


def test_a_number_beyond_all_bounds(lab: Lab, make: Maker) -> None:
    """Python reads 1e999 as what no JSON can say; it must not come as far as the ledger."""
    unit_id = make()
    with lab.client(lab.account) as program:
        answer = program.post(
            f"/api/v1/units/{unit_id}/activate", content=b'{"tags": {"a": 1e999}}'
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "twin-invalid")
        assert program.get("/api/v1/units", params={"prefix": unit_id}).status_code == 200
    ledger = lab.factory.ledger
    with pytest.raises(ValueError, match="JSON"):
        ledger.want(ledger.get(unit_id), ACTIVE, {"tags": {"a": float("inf")}})
    assert ledger.get(unit_id).wanted == ""


@pytest.mark.parametrize(
    "body",
    [[], "x", 7, {"x": 1}, {"tags": []}, {"desired": "x"}, {"tags": {"$a": 1}},
     {"hub": 7}, {"hub": "evil.example"}, {"policy": "custom"},
     {"hub": ONE, "policy": "hashed"}, {"desired": {"n": 1 << 60}}],
)  # fmt: skip
def test_wrong_bodies(lab: Lab, make: Maker, body: Any) -> None:
    """422 with the reason in JSON, and the unit as it was."""
    unit_id = make()
    with lab.client(lab.account) as program:
        answer = program.post(f"/api/v1/units/{unit_id}/activate", json=body)
    assert answer.status_code == 422 and answer.json()["error"]["message"]
    assert lab.factory.ledger.get(unit_id).state == ENROLLED


def test_paths_that_lead_nowhere(lab: Lab, ann: Visitor) -> None:
    """A page for a person, JSON for a program, and never a trace of the inside."""
    for path in ("/nowhere", "/units/../../etc/passwd", "/static/../server.py", "/static/nothing",
                 "/units/%00", "/units/" + "x" * 3000):  # fmt: skip
        answer = ann.get(path)
        assert answer.status_code == 404 and "Traceback" not in answer.text, path
    with lab.client(lab.account) as program:
        assert program.get("/api/v1/nowhere").json()["error"]["code"] == "http-404"
        assert program.post("/api/v1/units/x/explode", json={}).status_code == 404
