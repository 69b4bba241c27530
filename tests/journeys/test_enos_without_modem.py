"""The EnOS journey without a modem: DTLS by the chip itself, here by Mbed TLS under CPython.

No MicroPython at hand has DTLS with pre-shared keys, so the firmware's application runs on
CPython, whole, as a process of its own; the local EnOS is the one of the other journeys.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from enos_bench import DEVICE, of_product
from imprint_tools import identities
from imprint_tools.localcloud.dtls import PSK_CBC_SHA256, PSK_CCM_8, Suite
from imprint_tools.localcloud.enos import auth as enos_auth
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig
from imprint_tools.paths import firmware_dir
from imprint_tools.secret import Secret
from journey_bench import UnitBench

SHIMS = Path(identities.__file__).parent / "shims" / "cpython"

APPLICATION = """
state = {"lamp": 0}
def read():
    return state
def apply(params):
    state["lamp"] = params["lamp"]
"""


class HostBoard:
    """What a bench needs of a board; its power is the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Nothing to make ready."""

    def stop(self) -> None:
        self.power_off()

    def power_on(self) -> None:
        path = os.pathsep.join(map(str, (firmware_dir(), SHIMS)))
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and script
            [sys.executable, Path(__file__).with_name("host_unit.py"), self.folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def power_off(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def expect(self, _newline: bytes, timeout_s: float) -> bytes:
        """The next line of the console. Raises TimeoutError."""
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None

    def _read(self, console: Any) -> None:
        with console:
            for line in console:
                self._lines.put(line)


class HostBench(UnitBench):
    """A unit that is a process, and the local EnOS at loopback; `burned` as of EnosBench."""

    cloud: EnosCloud

    def __init__(self, folder: Path, config: EnosConfig | None = None, **burned: Any) -> None:
        self.cloud = EnosCloud(folder / "cloud", config)
        self.cloud.start()
        self.product_key = self.cloud.create_product()
        self.secret = self.cloud.create_device(self.product_key, DEVICE)
        self._folder = folder / "unit"
        (self._folder / "flash").mkdir(parents=True)
        super().__init__(b"", HostBoard(self._folder))  # type: ignore[arg-type]  # as far as used
        raw = (
            of_product(self.cloud, self.product_key)
            | {
                "host": "127.0.0.1",
                "port": self.cloud.port,
                "modem": "none",
                "wifi_ssid": "bench",
            }
            | burned
        )
        present = {name: value for name, value in raw.items() if value is not None}
        self.identity = identities.check(present, origin="the test", folder=self.cloud.folder)

    def burn(self, identity: identities.Identity | None) -> None:
        assert identity is not None
        entries = {
            key: (value.reveal() if isinstance(value, Secret) else value).hex()
            for key, value in identity.entries().items()
        }
        (self._folder / "nvs.json").write_text(json.dumps(entries))

    def entries(self) -> dict[str, bytes]:
        stored = json.loads((self._folder / "nvs.json").read_text())
        return {key: bytes.fromhex(value) for key, value in stored.items()}

    def install(self, application: str) -> None:
        (self._folder / "flash" / "application.py").write_text(application)

    def waiting(self) -> int:
        """How many reports wait in flash."""
        return len(list(self._folder.glob("flash/outbox/*")))

    def keeps_its_secrets(self) -> None:
        """Require that the console has shown none."""
        shown = "\n".join(map(str, self.items))
        for secret in (self.cloud.product_secret(self.product_key), self.secret):
            for text in (secret.reveal(), enos_auth.psk(secret).reveal().hex().encode()):
                assert text.decode() not in shown


MakeBench = Callable[..., HostBench]


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    with ExitStack() as stack:

        def make(**options: Any) -> HostBench:
            return stack.enter_context(HostBench(tmp_path, **options))

        yield make


@pytest.mark.parametrize("suite", [PSK_CCM_8, PSK_CBC_SHA256], ids=["ccm-8", "cbc-sha256"])
def test_mode_3_activates_and_reports(make_bench: MakeBench, suite: Suite) -> None:
    """Product's secret, activation, own secret in the vault, a session with that, an acknowledged
    report; the next power-on activates no more."""
    bench = make_bench(config=EnosConfig(suites=(suite,)))
    bench.board.power_on()
    bench.wait("registered")
    bench.online()
    logins = bench.events("login")
    assert [login["secure_mode"] for login in logins] == [3, 2]
    assert {login["suite"] for login in logins} == {suite.name}
    kept = bench.entries()
    assert "cred_a" in kept
    bench.power_cycle()
    bench.wait("state", s="CONNECT")
    bench.online()
    (shown,) = bench.cloud.devices()
    assert (shown["activations"], shown["online"]) == (1, True)
    assert bench.entries() == kept
    bench.keeps_its_secrets()


def test_a_command_is_fetched_obeyed_and_answered(make_bench: MakeBench) -> None:
    """What the cloud kept for the unit is named in a response (option 2100)."""
    bench = make_bench()
    bench.install(APPLICATION)
    bench.board.power_on()
    bench.online()
    number = bench.cloud.set_measurepoints(bench.product_key, DEVICE, {"lamp": 1})
    assert bench.cloud.event_log.wait("command-reply", id=number, timeout_s=10)["code"] == 200
    bench.wait("set", code=200)
    bench.reported()
    (shown,) = bench.cloud.devices()
    assert shown["measurepoints"]["lamp"]["value"] == 1


def test_a_session_that_died_is_healed(make_bench: MakeBench) -> None:
    """A path that swallows everything is found by CoAP's timeout; the report that was under way
    is kept in flash, and arrives by the next session."""
    bench = make_bench()
    bench.board.power_on()
    bench.online()
    bench.cloud.faults.deaf = 1_000_000
    bench.error(330, timeout_s=60)
    bench.wait("wait")
    assert bench.waiting() >= 1  # in the pause there may come others
    bench.cloud.faults.deaf = 0
    bench.wait("session", n=3, timeout_s=60)
    bench.online(timeout_s=60)
    bench.wait("reported", kept=0, timeout_s=60)
    assert bench.waiting() == 0


def test_a_wrong_secret_is_retried(make_bench: MakeBench) -> None:
    """The handshake is refused in bounded time, again and again; what is burned stays, and what
    was to be reported waits."""
    bench = make_bench(secure_mode=2, product_secret=None, device_secret="wrong")  # noqa: S106
    burned = bench.entries()
    bench.board.power_on()
    for _ in range(2):
        event = bench.wait("error", timeout_s=70)
        assert event.data["code"] in (302, 313)
        bench.wait("wait")
    assert burned.items() <= bench.entries().items()
    assert bench.waiting() >= 1
    assert not bench.events("login")


def test_no_suite_in_common(make_bench: MakeBench) -> None:
    """A server with neither of the two suites is an error, in bounded time."""
    bench = make_bench()
    bench.cloud.faults.no_suite = 1000
    bench.board.power_on()
    event = bench.wait("error", timeout_s=70)
    assert event.data["code"] in (302, 313)
    bench.wait("wait")
