"""A headless Chromium: the one on PATH, or Debian's in the cache folder; driven through pipes.

The protocol is DevTools' own, JSON with a NUL after each message, over two inherited pipes: no
port is opened, and nothing but this process can speak to the browser. It is the real thing: clicks
are mouse events where the element is, text is typed into what has the focus.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imprint_tools import debian
from imprint_tools.paths import cache_dir

SUITE = "bookworm"  # built against the oldest libc that is still looked after
PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")
# The machine's own libc loads the rest; drawing is done in software, without drivers.
_LEFT_OUT = ("libc6_", "libllvm", "libgl1-mesa-dri_", "libz3-")
_PROGRAM = "usr/lib/chromium/chromium-headless-shell"
_LIBRARIES = (
    "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio", "lib/x86_64-linux-gnu",
)  # fmt: skip
_FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{root}/usr/share/fonts</dir><cachedir>{root}/fontcache</cachedir></fontconfig>
"""
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
    "--proxy-server=direct://",
)  # fmt: skip

# The browser expects its pipes as descriptors 3 and 4; those that it gets them from lie beyond.
_START = """import os, sys
os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"""
_FREE = 10

WAIT_S = 20.0
_CHUNK = 1 << 16


def find() -> tuple[list[str], dict[str, str]]:
    """The command that starts it, and its environment; fetched first if there is none."""
    for name in ("chromium", "chromium-headless-shell"):
        if program := shutil.which(name):
            return [program], dict(os.environ)
    root = cache_dir() / f"chromium-{SUITE}"
    if not (root / _PROGRAM).is_file():
        _install(root)
    libraries = ":".join(str(root / one) for one in _LIBRARIES)
    fonts = {"FONTCONFIG_FILE": str(root / "fonts.conf")}
    return [str(root / _PROGRAM)], {**os.environ, "LD_LIBRARY_PATH": libraries, **fonts}


def _install(root: Path) -> None:
    """Whole or not at all, by one process at a time."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / ".chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (root / _PROGRAM).is_file():
            return
        with tempfile.TemporaryDirectory(dir=root.parent) as name:
            staging = Path(name)
            (staging / "archives").mkdir()
            found = debian.fetch(PACKAGES, "amd64", SUITE, staging / "archives", dependencies=True)
            for package in found:
                if not package.name.startswith(_LEFT_OUT):
                    debian.unpack(package, staging / "root")
            (staging / "root/fonts.conf").write_text(_FONTS.format(root=root))
            (staging / "root").rename(root)


class Browser:
    """One process with a profile of its own, for as long as the block lasts.

    `trusted_spki` is the base64 SHA-256 of the public key of the only authority beyond the
    usual ones whose certificates it takes. `camera` is a .y4m file that its camera shows.
    """

    def __init__(self, folder: Path, trusted_spki: str, camera: Path | None = None) -> None:
        command, environment = find()
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        flags = [*_FLAGS, f"--ignore-certificate-errors-spki-list={trusted_spki}",
                 f"--user-data-dir={folder / 'profile'}"]  # fmt: skip
        if camera:
            flags += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                      f"--use-file-for-fake-video-capture={camera}"]  # fmt: skip
        self._log = (folder / "chromium.log").open("ab")
        inherited = [fcntl.fcntl(fd, fcntl.F_DUPFD, _FREE) for fd in (to_child, from_child)]
        self._process = subprocess.Popen(  # noqa: S603  our own words
            [sys.executable, "-c", _START, *map(str, inherited), *command, *flags, "about:blank"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment,
            pass_fds=inherited,
        )  # fmt: skip
        for descriptor in (to_child, from_child, *inherited):
            os.close(descriptor)
        self._number = 0
        self._rest = b""
        self._events: deque[dict[str, Any]] = deque(maxlen=1000)
        self.complaints: list[str] = []
        """What pages said to the console: broken policies, errors of scripts."""

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(WAIT_S)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._write)
            os.close(self._read)
            self._log.close()

    def page(self, width: int = 1100, height: int = 900, *, phone: bool = False) -> Page:
        """A new page of that size, in CSS pixels."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        page.call("Page.enable")
        page.call("Runtime.enable")
        page.call("Log.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        return page

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command and its result. Raises AssertionError with the browser's own words."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def event(self, name: str, session: str) -> dict[str, Any]:
        """The next event of that name; what came before it is over."""
        while True:
            found = self._events.popleft() if self._events else self._receive()
            if found.get("method") == name and found.get("sessionId") == session:
                parameters: dict[str, Any] = found["params"]
                return parameters

    def forget_events(self) -> None:
        self._events.clear()

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S
        while b"\0" not in self._rest:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._read], [], [], left)[0], "no word from it"
            data = os.read(self._read, _CHUNK)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        thrown = found.get("method") == "Runtime.exceptionThrown"
        entry = found.get("params", {}).get("entry", {})
        # "network" are answers of 400 and above, which are asked for; and who types sooner than a
        # person could before `autofocus` comes is told so, as information.
        heard = entry.get("source", "network") != "network" and entry.get("level") != "info"
        if thrown or heard:
            self.complaints.append(json.dumps(found["params"]))
        return found


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def goto(self, url: str) -> None:
        """Load an address, to its end."""
        with self.leaving():
            found = self.call("Page.navigate", url=url)
            assert "errorText" not in found, found["errorText"]

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """What is done in the block leads to another page: wait until that is there."""
        self._browser.forget_events()
        yield
        self._browser.event("Page.loadEventFired", self._session)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until it holds: looked at after each frame that the page draws."""
        deadline = time.monotonic() + WAIT_S
        while not self._holds(expression):
            assert time.monotonic() < deadline, f"it never came: {expression}"
            time.sleep(0.05)

    def _holds(self, expression: str) -> bool:
        try:
            return bool(self.evaluate(expression))
        except AssertionError:  # the page is just being left
            return False

    def text(self, selector: str = "main") -> str:
        """What a person reads there."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of it."""
        where = self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            " return {x: b.x + b.width / 2, y: b.y + b.height / 2}; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)

    def type(self, selector: str, text: str) -> None:
        """Into a field, in place of what is in it."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """One of a list."""
        self.evaluate(
            f"(e => {{ e.value = {json.dumps(value)}; "
            "e.dispatchEvent(new Event('change', {bubbles: true})); })"
            f"(document.querySelector({json.dumps(selector)}))"
        )

    def attach(self, selector: str, file: Path) -> None:
        """A file, as a person picks it."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def without_scripts(self, off: bool = True) -> None:
        """As a browser that has JavaScript turned off."""
        self.call("Emulation.setScriptExecutionDisabled", value=off)

    def screenshot(self, path: Path) -> None:
        """The whole page, as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
