"""Canaries through a factory: authority, server, station, portal, and two units for Azure.

As in test_secrets.py each command is a process of its own in one folder, and afterwards the
secrets lie where they belong and nowhere else.
"""

from __future__ import annotations

import json
import signal
import ssl
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from test_secrets import WIFI_PASSWORD, Workshop, found_in, watched_command_lines

PASSPHRASE = "CanaryPassphraseOfTheLine"  # noqa: S105  made up to be found
PASSWORD = "canary horse battery"  # noqa: S105  likewise
WRONG_TOKEN = "imp_1_CanaryOfATokenThatNobodyHas"  # noqa: S105  likewise
WRONG_KEY = "CanaryKeyThatIsNotBase64!"  # a connection string's, refused
_KEY_LINE = 1  # of a PEM file: the first within it
_WAIT_S = 60.0
PORT = "virtual://unit"


class Factory:
    """A workshop with a local Azure and a factory's folder; where each secret belongs."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.cloud = shop.folder / "state/clouds/azure"
        self.places = {self.cloud / "devices.json"}
        self.told: list[str] = []
        """Commands whose business it is to print a secret, once."""

    def secret_file(self, name: str, text: str) -> Path:
        path = self.shop.file(name, text)
        self.places.add(path)
        self.shop.secrets.append(text)
        return path

    def token(self, *command: str) -> Path:
        """What `station add` and `account token` tell, in a file."""
        text = json.loads(self.shop.run("factory", *command, "--folder", "factory", "--json"))
        self.told.append(" ".join(("factory", *command)))
        return self.secret_file(f"token-{command[-1]}", text["token"])

    def set_up(self) -> None:
        """Authorities, the cloud, the factory's folder, an account."""
        run = self.shop.run
        phrase = self.secret_file("passphrase", PASSPHRASE)
        run("ca", "root", "root", "--name", "Canary root", "--passphrase", phrase)
        run("ca", "intermediate", "line", "--issuer", "root", "--name", "Canary line",
            "--passphrase", phrase, "--issuer-passphrase", phrase, "--json")  # fmt: skip
        run("ca", "show", "line", "--json")
        up = json.loads(run("cloud", "up", "azure", "--json"))
        rest = next(e["target"][1] for e in up["endpoints"] if e["port"] == 443)
        connections = sorted(self.cloud.glob("*.connection"))
        for path in connections:
            self.places.add(path)
            self.shop.secrets.append(path.read_text().partition("SharedAccessKey=")[2])
        assert len(connections) == 2
        dps, hub = sorted(connections, key=lambda path: path.name != "dps.connection")
        run("factory", "init", "factory", "--authority", "line", "--id-scope", "0ne00123456",
            "--root-ca", up["ca"], "--dps", dps, "--hub", hub, "--service-ca", up["ca"],
            "--service-address", f"127.0.0.1:{rest}", "--listen", "127.0.0.1:0")  # fmt: skip
        password = self.secret_file("password", PASSWORD)
        short = self.shop.file("short", PASSWORD[:11])
        account = ("factory", "account", "add", "--folder", "factory", "--organisation", "acme")
        run(*account, "--password", short, "ann", status=52)
        run(*account, "--password", password, "ann")

    @contextmanager
    def serving(self) -> Iterator[dict[str, str]]:
        """`imprint factory serve`, until it is told to end."""
        command = [
            "factory",
            "serve",
            "--folder",
            "factory",
            "--passphrase",
            "passphrase",
            "--json",
        ]
        log = (self.shop.folder / "serve.log").open("wb")
        server = self.shop.start(*command, stderr=log)
        try:
            assert server.stdout is not None
            said = b""
            while not said.endswith(b"}\n"):
                line = server.stdout.readline()
                assert line, "it has ended"
                said += line
            yield json.loads(said)
        finally:
            server.send_signal(signal.SIGTERM)
            rest, _ = server.communicate(timeout=_WAIT_S)
            log.close()
            self.shop.said["factory serve"] = said + rest


def activate(server: dict[str, str], ca: Path, token: Path, unit_id: str) -> None:
    """By REST, and what is refused."""
    context = ssl.create_default_context(cafile=ca)
    with httpx.Client(base_url=server["url"], verify=context, trust_env=False) as client:
        for text, status in ((WRONG_TOKEN, 401), (token.read_text(), 200)):
            answer = client.post(
                f"/api/v1/units/{unit_id}/activate",
                json={"tags": {"hall": 1}},
                headers={"Authorization": f"Bearer {text}"},
            )
            assert answer.status_code == status, answer.text
        for password, status in ((PASSWORD + "?", 401), (PASSWORD, 303)):
            page = client.get("/login")
            csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
            form = {"name": "ann", "csrf": csrf, "password": password}
            assert client.post("/login", data=form).status_code == status


def journey(shop: Workshop) -> Factory:
    """A unit from its station to its first report; then one by a connection string."""
    made = Factory(shop)
    run = shop.run
    made.set_up()
    station = made.token("station", "add", "--organisation", "acme", "line-1")
    account = made.token("account", "token", "ann")
    wrong = made.secret_file("wrong-token", WRONG_TOKEN)
    fields = made.secret_file("fields.toml", WIFI_PASSWORD)
    fields.write_text(
        f'wifi_ssid = "imprint"\nwifi_password = "{WIFI_PASSWORD}"\ninterval_s = 1\n'
    )
    run("board", "up", "unit", "--cloud", "azure", "--json")
    with made.serving() as server:
        enrol = ("factory", "enrol", "--server", server["url"], "--ca", server["ca"])
        run(*enrol, "--token", wrong, "refused", status=53)
        run(*enrol, "--token", station, "--fields", fields, "unit-1", "--json")
        unit = shop.folder / "unit-1"
        made.places |= {unit / "client_key.pem", unit / "identity.toml"}
        shop.secrets.append((unit / "client_key.pem").read_text().splitlines()[_KEY_LINE])
        run("flash", "--port", PORT, "--board", "esp32-generic", "--virtual")
        run("inject", "--port", PORT, "--identity", unit / "identity.toml")
        run("monitor", "--port", PORT, "--until", "disabled", "--json")
        unit_id = tomllib.loads((unit / "identity.toml").read_text())["registration_id"]
        activate(server, shop.folder / server["ca"], account, unit_id)
        run("monitor", "--port", PORT, "--until", "reported.acked")
    first = made.cloud / "identity-3.toml"
    made.places |= {first, made.cloud / "identity.toml"}
    text = tomllib.loads(first.read_text())["connection_string"]
    key = text.partition("SharedAccessKey=")[2].partition(";")[0]
    shop.secrets += [key, WRONG_KEY]
    behind = shop.file("behind.toml", f'{first.read_text()}wifi_password = "{WIFI_PASSWORD}"\n')
    odd = shop.file("odd.toml", "")
    made.places |= {behind, odd}
    odd.write_text(behind.read_text().replace(key, WRONG_KEY))
    run("inject", "--port", PORT, "--identity", odd, "--json", status=10)
    run("inject", "--port", PORT, "--identity", behind, status=10)  # it is another device already
    run("inject", "--port", PORT, "--identity", behind, "--replace-identity", "--json")
    run("monitor", "--port", PORT, "--until", "reported.acked", "--json")
    run("verify", "--port", PORT, "--board", "esp32-generic", "--identity", behind, "--json")
    run("cloud", "devices", "--cloud", "azure", "--json")
    run("cloud", "events", "--cloud", "azure")
    run("board", "down", "unit")
    run("cloud", "down", "azure")
    return made


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="module")
def command_lines(shop: Workshop) -> tuple[Factory, set[bytes]]:
    """The journey has been."""
    with watched_command_lines() as seen:
        made = journey(shop)
    return made, seen


def test_no_output_shows_a_secret(
    shop: Workshop, command_lines: tuple[Factory, set[bytes]]
) -> None:
    """But for the two commands that tell a token, which tell no other."""
    made, _ = command_lines
    assert len(shop.secrets) == 11 and len(shop.said) > 20
    for command, output in shop.said.items():
        told = [one for one in made.told if command.startswith(one)]
        assert len(found_in(output, shop.secrets)) == len(told), command


def test_no_command_line_shows_a_secret(
    shop: Workshop, command_lines: tuple[Factory, set[bytes]]
) -> None:
    _, seen = command_lines
    assert any(b"serve" in line for line in seen)
    assert not any(found_in(line, shop.secrets) for line in seen)


def test_no_file_holds_a_secret_out_of_place(
    shop: Workshop, command_lines: tuple[Factory, set[bytes]]
) -> None:
    """Ledger, authority, logs, events and temporary files are looked through."""
    made, _ = command_lines
    looked: set[str] = set()
    for path in shop.folder.rglob("*"):
        if not path.is_file():
            continue
        looked.add(path.name)
        if path in made.places:
            assert path.stat().st_mode & 0o077 == 0, f"{path} may be read by others"
        elif path.name != "flash.bin":  # test_secrets.py looks into one
            assert not found_in(path.read_bytes(), shop.secrets), path
    assert {"ledger.db", "issued.sqlite3", "console.log", "events.jsonl", "serve.log"} <= looked
    assert not list((shop.folder / "tmp").iterdir()), "no temporary file was left"
