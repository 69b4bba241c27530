"""Canaries: distinctive secrets through a whole journey, and then looked for everywhere.

Every command is a process of its own, as at a bench, with one folder for everything that it may
write: state, cache, home, temporary files. Afterwards the secrets may lie in the file that brought
them, in the unit's NVS and in the cloud's own data base, and nowhere else, in whatever spelling.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest
from imprint_tools import boards, paths

PRODUCT_SECRET = "CanaryProductSecret0123456789aBc"  # noqa: S105  made up to be found
WIFI_PASSWORD = "canary Wi-Fi (password)"  # noqa: S105  likewise
WRONG_SECRET = "canary-with-characters-that-are-refused!"  # noqa: S105  likewise

_KIND = boards.load("esp32-generic")
_COMMAND_S = 120.0
_S = TypeVar("_S", str, bytes)
_SAMPLE_S = 0.002


class Workshop:
    """One folder, in which every command runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: dict[str, bytes] = {}
        """What each command printed, on stdout and stderr."""
        self.secrets: list[str] = []
        """All that may appear nowhere, once the journey has been."""
        for name in ("home", "state", "tmp"):
            (folder / name).mkdir()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "IMPRINT_STATE": str(folder / "state"),
            # Shared, so that nothing is fetched again; no secret's way leads there.
            "IMPRINT_CACHE": str(paths.cache_dir()),
            "IMPRINT_WIFI_PASSWORD": WIFI_PASSWORD,
        }

    def run(self, *arguments: str | Path, status: int = 0) -> bytes:
        """Run `imprint` and require its exit status; its stdout."""
        done = subprocess.run(  # noqa: S603  our own command
            [Path(sys.executable).with_name("imprint"), *arguments],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_S,
            check=False,
        )
        self.said[" ".join(map(str, arguments))] = done.stdout + done.stderr
        assert done.returncode == status, done.stderr.decode()
        return done.stdout

    def start(self, *arguments: str, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start `imprint` and let it run."""
        return subprocess.Popen(  # noqa: S603  our own command
            [Path(sys.executable).with_name("imprint"), *arguments],
            cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip

    def file(self, name: str, text: str) -> Path:
        """A file that only its owner reads, as a file with secrets should be."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path


@contextmanager
def watched_command_lines() -> Iterator[set[bytes]]:
    """Collect the command lines of all processes of this machine, again and again."""
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_SAMPLE_S):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(entry.read_bytes())
                except OSError:
                    continue  # it has ended

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def spellings(secret: str | bytes) -> Iterable[bytes]:
    """The secret as it is, in hex, reversed, and as a part of longer Base64."""
    plain = secret.encode() if isinstance(secret, str) else secret
    yield plain
    yield plain.hex().encode()
    yield plain[::-1]
    for shift in range(3):
        # Without the characters at both ends, which depend on what stands before and after.
        yield base64.b64encode(b"\0" * shift + plain)[shift + 2 : -4]


def found_in(data: bytes, secrets: Iterable[_S]) -> list[_S]:
    """Which secrets `data` gives away."""
    return [secret for secret in secrets if any(form in data for form in spellings(secret))]


def journey(shop: Workshop) -> list[str]:
    """Flash, inject, first boot, report, verify, monitor, and what fails; all the secrets."""
    state = shop.folder / "state"
    config = shop.file(
        "cloud.toml", f'[[product]]\nkey = "a1CanaryKey"\nsecret = "{PRODUCT_SECRET}"\n'
    )
    shop.run("cloud", "up", "aliyun", "--config", config, "--json")
    shop.run("board", "up", "unit", "--cloud", "aliyun", "--json")
    port = "virtual://unit"
    fields = (
        'journey = "aliyun"\nproduct_key = "a1CanaryKey"\nregistration = "regnwl"\n'
        f'root_ca = "{state}/clouds/aliyun/root_ca.pem"\ninterval_s = 1\n'
        f'wifi_ssid = "imprint"\nwifi_password = "{WIFI_PASSWORD}"\n'
    )
    good = shop.file("identity.toml", f'{fields}product_secret = "{PRODUCT_SECRET}"\n')
    bad = shop.file("refused.toml", f'{fields}product_secret = "{WRONG_SECRET}"\n')
    torn = shop.file("torn.toml", f'{fields}product_secret = "{PRODUCT_SECRET}\n')
    board = ("--board", _KIND.name)
    shop.run("flash", "--port", port, *board, "--json")
    for refused in (bad, torn):
        shop.run("inject", "--port", port, "--identity", refused, "--json", status=10)
        shop.run("inject", "--port", port, "--identity", refused, status=10)
    shop.run("inject", "--port", port, "--identity", good)
    shop.run("monitor", "--port", port, "--until", "reported.acked", "--json")
    shop.run("inject", "--port", port, "--identity", good, "--json")
    shop.run("monitor", "--port", port, "--until", "reported.acked")
    shop.run("verify", "--port", port, *board, "--identity", good)
    shop.run("verify", "--port", port, *board, "--identity", good, "--json")
    shop.run("verify", "--port", port, *board, "--identity", good, "--flash", "--json")
    shop.run("flash", "--port", port, *board, "--identity", good, "--json")
    shop.run("cloud", "devices", "--json")
    shop.run("cloud", "events")
    shop.run("board", "list", "--json")
    shop.run("board", "down", "unit")
    shop.run("inject", "--port", port, "--identity", good, status=20)
    shop.run("cloud", "down", "aliyun")
    known = json.loads((state / "clouds/aliyun/devices.json").read_bytes())
    clients = known["products"][0]["devices"][0]["clients"]
    assert len(clients) == 1, "the unit has registered, once"
    return [PRODUCT_SECRET, WIFI_PASSWORD, WRONG_SECRET, clients[0]["token"]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A workshop in which nothing has happened yet."""
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="module")
def command_lines(shop: Workshop) -> set[bytes]:
    """The journey has been; the command lines of all processes meanwhile."""
    with watched_command_lines() as seen:
        shop.secrets = journey(shop)
    return seen


def test_a_canary_is_found_however_it_is_spelled() -> None:
    """The search itself works: plain, in hex, and anywhere within Base64."""
    secret = PRODUCT_SECRET.encode()
    for shift in range(3):
        longer = base64.b64encode(b"x" * shift + secret + b"more")
        assert found_in(b"..." + longer, [PRODUCT_SECRET])
    assert found_in(b"0a" + secret.hex().encode(), [PRODUCT_SECRET])
    assert not found_in(b"Canary", [PRODUCT_SECRET])


def test_no_output_shows_a_secret(shop: Workshop, command_lines: set[bytes]) -> None:
    """Neither results nor errors, neither for people nor as JSON."""
    assert len(shop.said) > 15
    for command, output in shop.said.items():
        assert not found_in(output, shop.secrets), command


def test_no_command_line_shows_a_secret(shop: Workshop, command_lines: set[bytes]) -> None:
    """Not of imprint, nor of any process that it starts, MicroPython's included."""
    assert any(b"inject" in line for line in command_lines)
    assert any(b"heapsize" in line for line in command_lines), "MicroPython was seen"
    assert not any(found_in(line, shop.secrets) for line in command_lines)


def test_no_file_holds_a_secret_out_of_place(shop: Workshop, command_lines: set[bytes]) -> None:
    """Console log, event file, process logs, state and temporary files are all looked through."""
    cloud = shop.folder / "state/clouds/aliyun"
    places = {
        shop.folder / name for name in ("identity.toml", "refused.toml", "torn.toml", "cloud.toml")
    } | {cloud / "identity.toml", cloud / "devices.json"}
    looked: set[str] = set()
    for path in shop.folder.rglob("*"):
        if not path.is_file():
            continue
        looked.add(path.name)
        data = path.read_bytes()
        if path.name == "flash.bin":
            nvs = data[_KIND.nvs.offset : _KIND.nvs.end]
            assert PRODUCT_SECRET.encode() in nvs, "the canary lives where it belongs"
            data = data[: _KIND.nvs.offset] + data[_KIND.nvs.end :]
        if path in places:
            assert path.stat().st_mode & 0o077 == 0, f"{path} may be read by others"
        else:
            assert not found_in(data, shop.secrets), path
    assert {"console.log", "events.jsonl", "cloud.log", "flash.bin"} <= looked
    assert not list((shop.folder / "tmp").iterdir()), "no temporary file was left"


_EDGES = """\
[[product]]
key = "edges"
kind = "gateway"
certificate = true
[[product]]
key = "meters"
devices = ["meter-1"]
"""
_BEHIND = """\
[tables.sim]
driver = "simulated"
points = ["power:5000:400"]
[[subdevices]]
device_key = "made-1"
table = "sim"
address = 1
[[subdevices]]
device_key = "meter-1"
table = "sim"
address = 2
device_secret = "{}"
"""
_EC_KEY = re.compile(rb"\x30\x77\x02\x01\x01\x04\x20(.{32})", re.DOTALL)  # RFC 5915, P-256


def edge_journey(shop: Workshop) -> list[bytes]:
    """An edge that activates itself, applies for its certificate and creates a sub-device."""
    cloud = shop.folder / "state/clouds/enos"
    shop.run("cloud", "up", "enos", "--config", shop.file("enos.toml", _EDGES), "--json")
    known = json.loads((cloud / "devices.json").read_bytes())
    meter = secrets_in(known)["meters", "meter-1"]
    shop.file("list.toml", _BEHIND.format(meter))
    shop.file("torn.toml", _BEHIND.format(meter + '"\nmore = "'))
    fields = (cloud / "identity-gateway.toml").read_text() + (
        f'wifi_password = "{WIFI_PASSWORD}"\nsubdevice_registration = "rest"\n'
        'interval_s = 1\ncertificate = "apply"\n'
    )
    good = shop.file("identity.toml", fields + 'subdevices = "list.toml"\n')
    bad = shop.file("refused.toml", fields + 'subdevices = "torn.toml"\n')
    port = "virtual://unit"
    shop.run("board", "up", "unit", "--cloud", "enos", "--heap", "128k", "--json")
    shop.run("flash", "--port", port, "--board", _KIND.name, "--json")
    shop.run("inject", "--port", port, "--identity", bad, status=10)
    shop.run("inject", "--port", port, "--identity", good)
    shop.run("monitor", "--port", port, "--until", "reported.acked", "--json")
    shop.run("inject", "--port", port, "--identity", good, "--json")
    shop.run("monitor", "--port", port, "--until", "reported.acked")
    shop.run("verify", "--port", port, "--board", _KIND.name, "--identity", good)
    shop.run("cloud", "devices", "--cloud", "enos", "--json")
    shop.run("cloud", "events", "--cloud", "enos")
    shop.run("board", "down", "unit")
    shop.run("cloud", "down", "enos")
    known = json.loads((cloud / "devices.json").read_bytes())
    issued = secrets_in(known)
    assert {("meters", "made-1"), ("", "edge"), ("edges", "gateway-3")} <= set(issued)
    return [secret.encode() for secret in (*issued.values(), WIFI_PASSWORD)]


def secrets_in(known: Any) -> dict[tuple[str, str], str]:
    """All secrets of an EnOS's data base: of applications, products and devices."""
    found = {("", a["name"]): a["secret"] for a in known["applications"]}
    for product in known["products"]:
        found[product["key"], ""] = product["secret"]
        found |= {(product["key"], d["key"]): d["secret"] for d in product["devices"]}
    return found


def test_an_edge_gives_nothing_away(tmp_path: Path) -> None:
    """The service account, the edge's and its sub-devices' secrets, and the private key that was
    made at injection are in nobody's output, command line or file but their own."""
    shop = Workshop(tmp_path)
    with watched_command_lines() as lines:
        secrets = edge_journey(shop)
    flash = (shop.folder / "state/boards/unit/flash.bin").read_bytes()
    nvs = flash[_KIND.nvs.offset : _KIND.nvs.end]
    keys = {match[1] for match in _EC_KEY.finditer(nvs)}
    assert len(keys) == 1, "one key, kept when the identity was injected again"
    for command, output in shop.said.items():
        assert not found_in(output, [*secrets, *keys]), command
    assert not any(found_in(line, [*secrets, *keys]) for line in lines)
    cloud = shop.folder / "state/clouds/enos"
    places = {shop.folder / f"{n}.toml" for n in ("identity", "refused", "list", "torn")} | {
        *cloud.glob("identity*.toml"),
        cloud / "devices.json",
    }
    for path in (path for path in shop.folder.rglob("*") if path.is_file()):
        data, wanted = path.read_bytes(), [*secrets, *keys]
        if path.name == "flash.bin":
            # The unit has all of its own; a sub-device's that was issued is in the file system.
            data, wanted = data[: _KIND.nvs.offset] + data[_KIND.nvs.end :], [*keys]
        elif path in places:
            assert path.stat().st_mode & 0o077 == 0, f"{path} may be read by others"
            wanted = [*keys]
        assert not found_in(data, wanted), path
