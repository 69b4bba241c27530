"""The whole way through the portal, as a person with a real browser goes it, with a real unit.

`IMPRINT_SCREENSHOTS=FOLDER` keeps pictures of its pages.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factorylab
import pytest
from chromium import Browser, Page
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from factorylab import PASSWORD, Lab
from imprint_tools import boards, identities, image, labels
from imprint_tools.factory.client import Enrolled, StationClient
from imprint_tools.localcloud.azure.cloud import AzureConfig
from imprint_tools.paths import firmware_dir
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.network import AccessPoint
from PIL import Image

WIFI = {"wifi_ssid": "bench", "wifi_password": "correct horse"}
FIRST_POWER_S = 60.0
WIDTH, HEIGHT = 640, 480  # of the camera
MARK = "north <b>hall</b>"


class Shots:
    """Pictures of pages, where somebody asked for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.environ.get("IMPRINT_SCREENSHOTS", folder))
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, page: Page, name: str) -> None:
        page.screenshot(self.folder / f"{name}.png")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    azure = AzureConfig(operations_per_min=None, polls_per_10_s=None)
    with factorylab.lab(tmp_path / "lab", azure) as running:
        yield running


def enrol(lab: Lab, folder: Path) -> Enrolled:
    with StationClient(lab.url, lab.ca, lab.station) as station:
        return station.enrol(folder, {**WIFI, "interval_s": 1})


def key_pin(server: Path) -> str:
    """The hash of the server's public key, which is all that the browser trusts."""
    public = x509.load_pem_x509_certificate(server.read_bytes()).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def video(path: Path, unit_id: str) -> Path:
    """What a camera sees: the label on a grey table, a little small."""
    frame = Image.new("L", (WIDTH, HEIGHT), 130)
    with Image.open(io.BytesIO(labels.png(unit_id, 6))) as label:
        frame.paste(label.convert("L"), (180, 120))
    chroma = bytes([128]) * (WIDTH * HEIGHT // 2)
    head = f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F10:1 Ip A1:1 C420jpeg\n".encode()
    path.write_bytes(head + (b"FRAME\n" + frame.tobytes() + chroma) * 3)
    return path


def at(page: Page) -> str:
    return str(page.evaluate("location.pathname"))


def test_the_whole_way(lab: Lab, tmp_path: Path) -> None:
    """Log in, scan, activate; the unit registers and speaks, and the page shows it; disable,
    enable, decommission. No page breaks its own policy, and none says anything to the console."""
    first, second = enrol(lab, tmp_path / "unit-1"), enrol(lab, tmp_path / "unit-2")
    shot = Shots(tmp_path)
    pin = key_pin(lab.ca.with_name("server.pem"))
    with Browser(tmp_path, pin, video(tmp_path / "camera.y4m", first.id)) as browser:
        page = browser.page()
        log_in(page, lab, shot)
        find(page, lab, first, shot)
        scan(page, lab, first, second, tmp_path, shot)
        activate(page, lab, first, shot)
        come_alive(page, lab, first, shot)
        take_out_of_service(page, lab, first, shot)
        assert browser.complaints == []
        without_scripts_on_a_phone(browser, lab, second, shot)


def log_in(page: Page, lab: Lab, shot: Shots) -> None:
    page.goto(lab.url)
    assert at(page) == "/login"
    shot(page, "login")
    for password, where in (("a wrong password", "/login"), (PASSWORD.reveal().decode(), "/")):
        page.type("#name", "ann")
        page.type("#password", password)
        with page.leaving():
            page.click("main button")
        assert at(page) == where
    assert page.evaluate("document.cookie") == ""  # out of reach of scripts


def find(page: Page, lab: Lab, unit: Enrolled, shot: Shots) -> None:
    assert page.evaluate("document.querySelectorAll('.units li').length") == 2
    shot(page, "units")
    page.type("#find", unit.id[:9])
    with page.leaving():
        page.click(".find button")
    assert page.evaluate("document.querySelectorAll('.units li').length") == 1
    page.type("#find", unit.id.upper())
    with page.leaving():
        page.click(".find button")
    assert at(page) == f"/units/{unit.id}" and "enrolled" in page.text()


def scan(
    page: Page, lab: Lab, first: Enrolled, second: Enrolled, folder: Path, shot: Shots
) -> None:
    picture = folder / "label.png"
    picture.write_bytes(labels.png(second.id))
    with page.leaving():
        page.click("header nav a:nth-child(2)")
    page.attach("#picture", picture)
    with page.leaving():
        page.click("main form button")
    assert at(page) == f"/units/{second.id}"
    page.goto(f"{lab.url}/scan")
    shot(page, "scan")
    page.click("#camera-start")
    page.wait_for(f"location.pathname === '/units/{first.id}'")


def activate(page: Page, lab: Lab, unit: Enrolled, shot: Shots) -> None:
    page.goto(f"{lab.url}/units/{unit.id}")
    with page.leaving():
        page.click("section.actions a.button")
    page.type("[name=tag_name]", "a.b")
    page.type("[name=tag_value]", MARK)
    with page.leaving():
        page.click("main form button")
    assert "no dot" in page.text(".problem")
    page.type("[name=tag_name]", "site")
    page.type(".entry:last-child [name=desired_name]", "interval_s")
    # A row that was begun brings the next one.
    rows = "document.querySelectorAll('[name=desired_name]').length"
    assert page.evaluate(rows) == 4
    page.choose("fieldset:nth-of-type(2) .entry:nth-child(3) select", "number")
    page.type("fieldset:nth-of-type(2) .entry:nth-child(3) [name=desired_value]", "5")
    page.choose("#placement", "hub:imprint-hub.azure-devices.net")
    shot(page, "activate")
    with page.leaving():
        page.click("main form button")
    assert at(page) == f"/units/{unit.id}"
    assert MARK in page.text("pre") and "enrolment enabled" in page.text()
    assert "Registered at first power-on" in page.text("[aria-current=step]")


def come_alive(page: Page, lab: Lab, unit: Enrolled, shot: Shots) -> None:
    """A blank board gets firmware and identity, and its first power."""
    page.evaluate("window.loadedOnce = true")
    with powered(lab, unit):
        lab.cloud.event_log.wait("telemetry", timeout_s=FIRST_POWER_S, device_id=unit.id)
        page.wait_for("document.querySelectorAll('.steps .done').length === 5")
        assert "Connected" in page.text("dl")
        assert page.evaluate("window.loadedOnce")  # the page was not loaded again
        shot(page, "unit")
    twin = lab.cloud.twin(unit.id)
    assert twin["tags"] == {"site": MARK} and twin["desired"]["interval_s"] == 5


@contextlib.contextmanager
def powered(lab: Lab, unit: Enrolled) -> Iterator[None]:
    """A virtual board that runs 32-bit MicroPython with 96 kB, and reaches the cloud by Wi-Fi."""
    kind = boards.load("esp32-generic")
    vfs = image.build_vfs(kind, firmware_dir())
    segments = image.layout(kind, firmware=image.virtual_firmware(kind), vfs=vfs)
    entries = identities.load_one(unit.identity).entries()
    air = AccessPoint(WIFI["wifi_ssid"], WIFI["wifi_password"], lab.cloud.endpoints)
    place = unit.identity.parent / "board"
    with Board(place, doors=(), access_point=air, heap="96k") as board:
        board.power_off()
        with board.flash.path.open("r+b") as flash:
            flash.write(image.merge(segments).ljust(kind.flash_size, b"\xff"))
            flash.seek(kind.nvs.offset)
            flash.write(image.build_nvs(entries, kind.nvs.size))
        board.power_on()
        yield


def take_out_of_service(page: Page, lab: Lab, unit: Enrolled, shot: Shots) -> None:
    for action, state in (("disable", "disabled"), ("enable", "active")):
        with page.leaving():
            page.click(f"form[action$='/{action}'] button")
        assert page.text("#live .state") == state
    hub = lab.cloud.devices
    assert any(one["device_id"] == unit.id for one in hub())
    with page.leaving():
        page.click("a.danger")
    page.type("#confirm", unit.id[:8])
    shot(page, "decommission")
    with page.leaving():
        page.click("main form button")
    assert page.text("#live .state") == "decommissioned"
    assert not any(one["device_id"] == unit.id for one in hub())
    page.goto(f"{lab.url}/trail")
    assert "certificate revoked" in page.text()
    shot(page, "trail")


def without_scripts_on_a_phone(browser: Browser, lab: Lab, unit: Enrolled, shot: Shots) -> None:
    """JSON by hand; each page fits the screen, and each field has a name."""
    page = browser.page(390, 844, phone=True)
    page.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    page.without_scripts()
    for path in ("/", "/scan", "/trail", f"/units/{unit.id}", f"/units/{unit.id}/activate",
                 f"/units/{unit.id}/decommission", "/nowhere"):  # fmt: skip
        page.goto(lab.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert page.evaluate(_NAMELESS) == 0, path
    page.goto(f"{lab.url}/units/{unit.id}/activate")
    shot(page, "phone-activate")
    with page.leaving():
        page.click("main form p a")
    page.type("#json", '{"tags": {"place": {"hall": 1}}, "properties": {"desired": {}}}')
    with page.leaving():
        page.click("main form button")
    assert page.text("#live .state") == "active"
    shot(page, "phone-unit")
    with page.leaving():
        page.click(".who button")
    assert at(page) == "/login"
    page.goto(f"{lab.url}/units/{unit.id}")
    assert at(page) == "/login"


_NAMELESS = """
[...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a, img")]
  .filter(e => !((e.labels && e.labels.length) || e.getAttribute("aria-label") || e.innerText
                 || e.hasAttribute("alt") || e.querySelector("img[alt]"))).length
"""


def test_hostile_values_are_text(lab: Lab, tmp_path: Path) -> None:
    """What others wrote runs nowhere: not from the twin, nor from the trail."""
    unit = enrol(lab, tmp_path / "unit")
    hostile = "</script><img src=x onerror=\"document.title='taken'\"><script>alert(1)</script>"
    body: dict[str, Any] = {"tags": {hostile.replace(".", ""): hostile}}
    with lab.client(lab.account) as program:
        refused = program.post(f"/api/v1/units/{unit.id}/activate", json=body)
        assert refused.status_code == 422  # a key with blanks
        body = {"tags": {"<script>alert(1)</script>": hostile}, "desired": {}}
        assert program.post(f"/api/v1/units/{unit.id}/activate", json=body).is_success
    with Browser(tmp_path, key_pin(lab.ca.with_name("server.pem"))) as browser:
        page = browser.page()
        log_in(page, lab, Shots(tmp_path / "shots"))
        for path in (f"/units/{unit.id}", f"/units/{unit.id}/activate", "/trail"):
            page.goto(lab.url + path)
            assert page.evaluate("document.scripts.length") == 1
            assert "imprint" in str(page.evaluate("document.title"))
        assert browser.complaints == []
