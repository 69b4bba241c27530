"""`imprint factory` from the shell: a factory is made, stations and accounts come and go."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factorylab
import pytest
from click.testing import CliRunner
from factorylab import serving
from imprint_tools.cli.factory import factory as factory_commands
from imprint_tools.factory import config as configuration
from imprint_tools.localcloud.azure.cloud import AzureCloud

WIFI_PASSWORD = "canary of the Wi-Fi"  # noqa: S105  made up to be looked for


class Shop:
    """A factory's folder, made by `imprint factory init`, and what its commands said."""

    def __init__(self, place: Path, cloud: AzureCloud) -> None:
        self.folder = place / "factory"
        self.said = ""
        authority = factorylab.make_authority(place)
        dps = factorylab.service(place / "dps", cloud)
        hub = factorylab.hub_service(place / "hub", cloud, cloud.config.hub_hosts[0])
        assert dps.address
        self.run(
            "init", self.folder, "--authority", authority, "--id-scope", cloud.config.id_scope,
            "--root-ca", cloud.ca_pem, "--dps", dps.connection, "--hub", hub.connection,
            "--service-ca", cloud.ca_pem, "--service-address", configuration.join(dps.address),
            "--listen", "127.0.0.1:0", folder=False,
        )  # fmt: skip

    def run(self, *arguments: str | Path, status: int = 0, folder: bool = True) -> Any:
        """The JSON that it prints."""
        more = ["--folder", self.folder] if folder else []
        done = subprocess.run(  # noqa: S603  our own command
            [Path(sys.executable).with_name("imprint"), "factory", *arguments, *more, "--json"],
            capture_output=True, text=True, timeout=factorylab.WAIT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        self.said += done.stderr + ("" if '"token"' in done.stdout else done.stdout)
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureCloud]:
    with AzureCloud(tmp_path_factory.mktemp("azure")) as up:
        yield up


@pytest.fixture
def shop(tmp_path: Path, cloud: AzureCloud) -> Shop:
    return Shop(tmp_path, cloud)


def test_from_nothing_to_an_identity(shop: Shop, cloud: AzureCloud, tmp_path: Path) -> None:
    """init, station add, enrol; the token is told once, and no secret otherwise."""
    token = shop.run("station", "add", "line-1", "--organisation", "acme")["token"]
    token_file, fields = tmp_path / "token", tmp_path / "fields.toml"
    token_file.write_text(token + "\n")
    fields.write_text(f'wifi_ssid = "bench"\nwifi_password = "{WIFI_PASSWORD}"\n')
    config = configuration.load(shop.folder)
    with serving(config) as factory:
        answer = shop.run(
            "enrol", tmp_path / "unit", "--server", f"https://localhost:{factory.port}",
            "--ca", shop.folder / "server_ca.pem", "--token", token_file, "--fields", fields,
            folder=False,
        )  # fmt: skip
        assert factory.ledger.get(answer["id"]).state == "enrolled"
        shop.run("assign", "other", answer["id"])
        other = factory.ledger.organisation("other")
        assert factory.ledger.find(answer["id"], other)
    assert WIFI_PASSWORD in Path(answer["identity"]).read_text()
    key = (tmp_path / "unit/client_key.pem").read_text().splitlines()[1]
    service = cloud.service_key.reveal().decode()
    for secret in (token, WIFI_PASSWORD, key, service):
        assert secret not in shop.said
        for file in shop.folder.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_a_ledgers_password_on_the_command_line(shop: Shop, tmp_path: Path) -> None:
    """Refused, and not repeated; nothing of the folder is for others."""
    config = configuration.load(shop.folder)
    again: list[str | Path] = [
        "init", tmp_path / "again", "--authority", config.authority, "--id-scope", "0ne1",
        "--root-ca", config.root_ca, "--dps", config.dps.connection,
    ]  # fmt: skip
    done = CliRunner().invoke(
        factory_commands,
        [*map(str, again), "--ledger", "postgresql://imprint:canary-pw@db/ledger"],
    )
    assert done.exit_code == 2 and "PGPASSFILE" in done.output and "canary-pw" not in done.output
    assert not (tmp_path / "again").exists()
    assert (shop.folder / configuration.FILE).stat().st_mode & 0o077 == 0


def test_stations_and_accounts(shop: Shop, tmp_path: Path) -> None:
    """Added, listed, revoked, closed; what is there already is told."""
    shop.run("station", "add", "line-1", "--organisation", "acme")
    assert shop.run("station", "add", "line-1", "--organisation", "acme", status=52)["error"]
    shop.run("station", "revoke", "line-1")
    (station,) = shop.run("station", "list")
    assert (station["name"], station["organisation"]) == ("line-1", "acme")
    assert station["revoked"] and "token" not in str(station)
    password = tmp_path / "password"
    password.write_text("correct horse battery\n")
    account = ("ann", "--organisation", "acme", "--password", password)
    shop.run("account", "add", *account)
    shop.run("account", "password", "ann", "--password", password)
    assert shop.run("account", "token", "ann")["token"].startswith("imp_")
    shop.run("account", "close", "ann")
    (found,) = shop.run("account", "list")
    assert found["closed"] and "hash" not in str(found)
    assert shop.run("account", "token", "bob", status=52)["error"]["code"] == "ledger-refused"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("id_scope", "idscope", "idscope is missing or unknown"),
        ("listen = ", "listen = 7 #", "not TOML, or a value"),
        ('"127.0.0.1:0"', '"127.0.0.1"', "not TOML, or a value"),
        ("[dps]", "[dsp]", "dsp is missing or unknown"),
        ("connection =", "conection =", "conection is missing or unknown"),
        ("[dps]", "[dps", "not TOML"),
    ],
)
def test_a_wrong_configuration(shop: Shop, old: str, new: str, problem: str) -> None:
    """Told by what is wrong in it."""
    path = shop.folder / configuration.FILE
    path.write_text(path.read_text().replace(old, new, 1))
    assert problem in shop.run("station", "list", status=52)["error"]["message"]


def test_a_connection_string_that_others_may_read(shop: Shop) -> None:
    """Refused, with the command that mends it."""
    config = configuration.load(shop.folder)
    config.dps.connection.chmod(0o644)
    with pytest.raises(Exception, match="may be read by others") as caught:
        config.dps.dps()
    assert "chmod 600" in caught.value.next_step  # type: ignore[attr-defined]
