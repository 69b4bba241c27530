"""`imprint cloud ... enos`: the local EnOS as a process, and its console from another one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from enosdevice import GET, POST, EnosDevice, envelope
from enosmqtt import PLAIN, login
from imprint_tools import endpoints, identities
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import control, daemon
from imprint_tools.localcloud.enos import service as enos_service
from imprint_tools.secret import Secret
from rawmqtt import RawClient

PK, DK = "MuGsF6W4", "15bBZlRknc"
COMMAND_S = 60


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cloud's folder in a state folder of the test's own; whatever is up goes down."""
    monkeypatch.setenv("IMPRINT_STATE", str(tmp_path))
    folder = daemon.folder("enos")
    yield folder
    if (folder / "cloud.json").exists():
        daemon.down("enos")


def imprint(*arguments: str, status: int = 0) -> str:
    """Run `imprint cloud ...`; its stdout."""
    done = subprocess.run(  # noqa: S603 - this interpreter, this package
        [sys.executable, "-c", "from imprint_tools.cli import main; main()", "cloud", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def as_json(*arguments: str, status: int = 0) -> Any:
    return json.loads(imprint(*arguments, "--json", status=status))


def unit(path: Path, port: int) -> EnosDevice:
    """A device with that identity file, in the session that the file asks for."""
    fields = identities.load_one(path).fields
    pk, dk, mode = fields["product_key"], fields["device_key"], fields["secure_mode"]
    secret = fields["device_secret" if mode == 2 else "product_secret"]
    return EnosDevice(port, f"{pk},{dk},{mode},3600", secret).handshake()


def test_a_cloud_goes_up_is_asked_and_goes_down(folder: Path) -> None:
    """The whole console, each command a process of its own."""
    up = as_json("up", "enos")
    state = endpoints.load(folder)
    assert (up["cloud"], up["pid"], up["ca"]) == ("enos", state.pid, str(state.ca))
    (endpoint,) = [e for e in up["endpoints"] if e["proto"] == "udp"]
    assert (endpoint["host"], endpoint["port"]) == ("coap-*", 5684)
    port = endpoint["target"][1]

    with unit(Path(up["identity"]), port) as device:
        fields = identities.load_one(Path(up["identity"])).fields
        pk, dk = fields["product_key"], fields["device_key"]
        answer = device.request(GET, f"/topic/ext/session/{pk}/{dk}/thing/activate/info")
        assert json.loads(answer.payload)["params"]["deviceKey"] == dk

    own = folder / "own.toml"
    imprint("add", pk, DK, "--identity", str(own), "--cloud", "enos")
    assert as_json("set", pk, DK, '{"relay": 1}', "--cloud", "enos") == {
        "id": "1", "fate": "queued",
    }  # fmt: skip
    assert as_json("invoke", pk, DK, "reboot")["id"] == "2"
    with unit(own, port) as device:
        path = f"/topic/sys/{pk}/{DK}/thing/measurepoint/post"
        answer = device.request(POST, path, envelope({"measurepoints": {"t": 1}}))
        command = answer.value(2100)
        assert command and command.endswith(b"thing/service/measurepoint/set")
        found = {entry["device_key"]: entry for entry in as_json("devices", "--cloud", "enos")}
        assert found[DK]["status"] == "online" and len(found[DK]["commands"]) == 2
        (session,) = [s for s in as_json("sessions") if s["device_key"] == DK]
        assert session["application"]["up_datagrams"] == 1
        assert f"{DK}: online" in imprint("devices")  # of the cloud that is up
        assert f"{DK}: mode 2" in imprint("sessions")

    assert as_json("product", "second", "--cloud", "enos") == {"product_key": "second"}
    imprint("registration", "second", "off", "--cloud", "enos")
    imprint("reset", pk, dk, "--cloud", "enos")
    imprint("add", "second", DK, "--identity", str(own), "--mode", "3", "--cloud", "enos")
    assert identities.load_one(own).fields["secure_mode"] == 3
    kinds = [
        json.loads(line)["kind"] for line in imprint("events", "--cloud", "enos").splitlines()
    ]
    assert kinds[0] == "cloud-up" and {"activated", "report", "command"} < set(kinds)
    assert as_json("down", "enos") == {"cloud": "enos", "up": False}
    assert (folder / "cloud.log").read_text() == ""


@pytest.mark.parametrize(("name", "mode"), [("identity.toml", 3), ("identity-2.toml", 2)])
def test_there_is_an_identity_for_each_secure_mode(folder: Path, name: str, mode: int) -> None:
    """For its owner's eyes alone, ready to inject; the next start writes the same."""
    daemon.up("enos")
    text = (folder / name).read_text()
    fields = identities.load_one(folder / name).fields
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert (fields["journey"], fields["secure_mode"]) == ("enos-coap", mode)
    assert fields["host"] == "coap-cn5.envisioniot.com"
    daemon.down("enos")
    daemon.up("enos")
    assert (folder / name).read_text() == text


@pytest.mark.parametrize(
    ("name", "mode"), [("identity-gateway.toml", 3), ("identity-gateway-2.toml", 2)]
)
def test_there_is_an_identity_for_a_gateway_of_each_mode(
    folder: Path, name: str, mode: int
) -> None:
    """With the service account that creates its sub-devices; the next start writes the same."""
    state = daemon.up("enos")
    text = (folder / name).read_text()
    fields = identities.load_one(folder / name).fields
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert (fields["journey"], fields["secure_mode"]) == ("enos-gateway", mode)
    hosts = {(e.host, e.port) for e in state.endpoints}
    assert (fields["host"], fields["port"]) in hosts
    assert (fields["api_host"], fields["api_port"]) in hosts
    assert {"access_key", "access_secret", "org_id", "subdevice_product_key"} < fields.keys()
    daemon.down("enos")
    daemon.up("enos")
    assert (folder / name).read_text() == text


def test_a_mistake_on_the_command_line_is_usage(folder: Path) -> None:
    """Exit status 2, before anything is started or asked."""
    imprint("set", PK, DK, "[1]", "--cloud", "enos", status=2)
    imprint("invoke", PK, DK, "reboot", "[1]", status=2)
    imprint("add", PK, DK, "--mode", "3", status=2)
    assert not folder.exists()


def test_a_config_file_names_products_and_switches(folder: Path, tmp_path: Path) -> None:
    """All of it is optional."""
    config = tmp_path / "config.toml"
    config.write_text(
        'hostname = "eu2.envisioniot.com"\ndevice_port = 5683\ncommand_in_option = true\n'
        f'[[product]]\nkey = "{PK}"\nsecret = "PrOdSeCrEt01"\ndynamic_activation = false\n'
        f'devices = ["{DK}"]\n[[product]]\nkey = "edges"\nkind = "gateway"\n'
    )
    state = daemon.up("enos", config=config)
    assert state.endpoints[0].port == 5683
    assert DK in {entry["device_key"] for entry in control.ask(folder, "devices")}
    fields = identities.load_one(folder / "identity.toml").fields
    assert (fields["host"], fields["port"]) == ("coap-eu2.envisioniot.com", 5683)
    assert fields["product_secret"].reveal() == b"PrOdSeCrEt01"
    gateway = identities.load_one(folder / "identity-gateway.toml").fields
    assert (gateway["product_key"], gateway["subdevice_product_key"]) == ("edges", PK)


@pytest.mark.parametrize(
    "text",
    [
        "not toml", "unknown = 1", "hostname = 1", "port = 70000", "port = true",
        "[product]\nkey = 'a'", "[[product]]\n", "[[product]]\nkey = 1",
        "[[product]]\nkey = 'a'\nsecret = 12345", "[[product]]\nkey = 'a'\nextra = 's3cr3t'",
        "[[product]]\nkey = 'a'\ndevices = [1]", "[[product]]\nkey = 'a'\ndevices = 'b'",
        "[[product]]\nkey = 'a'\ndynamic_activation = 'yes'", "connect_limits = 1",
        "[[product]]\nkey = 'a'\nkind = 'virtual'", "[[product]]\nkey = 'a'\ncertificate = 1",
    ],
)  # fmt: skip
def test_a_wrong_config_file_is_refused_without_being_quoted(tmp_path: Path, text: str) -> None:
    """It may hold secrets."""
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(BenchStateError) as caught:
        enos_service.load_config(config)
    assert str(config) in str(caught.value)
    assert "s3cr3t" not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"


def test_both_clouds_may_be_up(folder: Path) -> None:
    """Each in its folder, each with its own identity."""
    daemon.up("enos")
    daemon.up("aliyun")
    try:
        assert identities.load_one(daemon.folder("aliyun") / "identity.toml").fields[
            "journey"
        ] == ("aliyun")
        assert control.ask(folder, "devices")
    finally:
        daemon.down("aliyun")


def test_a_gateway_is_tried_from_the_console(folder: Path, tmp_path: Path) -> None:
    """A gateway's product that demands certificates, a sub-device bound and deleted, and what was
    refused."""
    config = tmp_path / "config.toml"
    config.write_text("connect_limits = false")
    imprint("up", "enos", "--config", str(config))
    assert as_json("product", "edges", "--gateway", "--cloud", "enos") == {"product_key": "edges"}
    imprint("product", "edges", "--gateway", "--cloud", "aliyun", status=2)
    imprint("product", "meters", "--cloud", "enos")
    imprint("certificate", "edges", "on", "--days", "90")
    imprint("certificate", "nobody", "on", status=40)
    own = folder / "own.toml"
    imprint("add", "edges", "edge-1", "--identity", str(own), "--cloud", "enos")
    imprint("add", "meters", "meter-1", "--cloud", "enos")
    imprint("bind", "meters", "meter-1", "edges", "edge-1")
    (meter,) = [d for d in as_json("devices", "--cloud", "enos") if d["product_key"] == "meters"]
    assert meter["gateway"] == ["edges", "edge-1"]

    fields = identities.load_one(own).fields
    secret = fields["device_secret"]
    assert fields["journey"] == "enos-gateway" and isinstance(secret, Secret)
    running: Any = endpoints.load(folder)  # it has what a client without TLS asks a cloud for

    def connack() -> int:
        with RawClient(running, port=PLAIN, tls=False, host=str(fields["host"])) as client:
            return client.connect(*login(("edges", "edge-1"), secret))

    assert connack() == 5
    (entry,) = as_json("log", "edges", "edge-1")
    assert (entry["what"], entry["code"]) == ("login", 746)
    imprint("certificate", "edges", "off")
    assert connack() == 0
    assert "746" in imprint("log", "edges", "edge-1")
    assert imprint("log", "meters", "meter-1") == "nothing was refused\n"
    imprint("log", "meters", "meter-l", status=40)  # "nothing was refused" would mislead
    imprint("delete", "meters", "meter-1")
    assert "meter-1" not in imprint("devices", "--cloud", "enos")
