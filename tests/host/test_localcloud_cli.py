"""`imprint cloud`: the local Aliyun as a process, and its console from another one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imprint_tools import endpoints, identities
from imprint_tools.errors import BenchStateError
from imprint_tools.localcloud import control, daemon
from imprint_tools.localcloud.aliyun import service as aliyun_service

PK, DN = "a1B2c3D4e5F", "press-07"
WAIT_S = 60


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cloud's folder in a state folder of the test's own; whatever is up goes down."""
    # A path longer than a unix socket's may be: a bench's home can lie anywhere.
    monkeypatch.setenv("IMPRINT_STATE", str(tmp_path / ("deep" * 20)))
    folder = daemon.folder("aliyun")
    yield folder
    if (folder / "cloud.json").exists():
        daemon.down("aliyun")


def imprint(*arguments: str, status: int = 0) -> str:
    """Run `imprint cloud ...`; its stdout."""
    done = subprocess.run(  # noqa: S603 - this interpreter, this package
        [sys.executable, "-c", "from imprint_tools.cli import main; main()", "cloud", *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def as_json(*arguments: str, status: int = 0) -> Any:
    return json.loads(imprint(*arguments, "--json", status=status))


def test_a_cloud_goes_up_is_asked_and_goes_down(folder: Path) -> None:
    """The whole console, each command a process of its own."""
    up = as_json("up", "aliyun")
    state = endpoints.load(folder)
    assert (up["cloud"], up["pid"]) == ("aliyun", state.pid)
    assert up["endpoints"][0]["target"][1] == state.endpoints[0].target[1]

    identity = identities.load_one(Path(up["identity"]))
    product_key = identity.fields["product_key"]
    assert identity.fields["registration"] == "regnwl"
    assert Path(up["identity"]).stat().st_mode & 0o777 == 0o600

    burned = folder / "press-07.toml"
    imprint("add", product_key, DN, "--identity", str(burned))
    assert identities.load_one(burned).fields["device_name"] == DN
    (device,) = as_json("devices")
    assert (device["device_name"], device["online"]) == (DN, False)
    assert as_json("set", product_key, DN, '{"relay": 1}')["fate"] == "dropped"
    imprint("reset", product_key, DN)
    imprint("forget", product_key, DN)
    imprint("registration", product_key, "off")
    assert DN in imprint("devices")
    kinds = [json.loads(line)["kind"] for line in imprint("events").splitlines()]
    assert kinds[0] == "cloud-up"
    assert kinds[-4:] == ["set", "reset-thing", "client-ids-deleted", "registration-switch"]

    assert as_json("up", status=40)["error"]["code"] == "bench-state"
    assert as_json("down") == {"cloud": "aliyun", "up": False}
    assert as_json("devices", status=40)["error"]["exit_status"] == 40
    assert (folder / "cloud.log").read_text() == ""


def test_a_mistake_on_the_command_line_is_usage(folder: Path, tmp_path: Path) -> None:
    """Exit status 2, before anything is started or asked."""
    config = tmp_path / "config.toml"
    config.write_text("")
    imprint("up", "nowhere", status=2)
    imprint("up", "--product", PK, "--config", str(config), status=2)
    imprint("set", PK, DN, "[1]", status=2)
    imprint("set", PK, DN, "{", status=2)
    assert not folder.exists()


def test_events_of_a_cloud_that_never_was(folder: Path) -> None:
    """A named error, not an empty answer."""
    imprint("events", status=40)


def test_a_product_of_a_file_keeps_its_secret(folder: Path, tmp_path: Path) -> None:
    """So that boards that are burned already find their product."""
    config = tmp_path / "products.toml"
    config.write_text(
        f'[[product]]\nkey = "{PK}"\nsecret = "h1nQFYPZS0mW2352"\ndevices = ["{DN}"]\n'
    )
    daemon.up("aliyun", config=config)
    (device,) = control.ask(folder, "devices")
    assert (device["product_key"], device["device_name"]) == (PK, DN)
    identity = identities.load_one(folder / "identity.toml")
    assert identity.fields["product_key"] == PK
    assert identity.fields["product_secret"].reveal() == b"h1nQFYPZS0mW2352"


@pytest.mark.parametrize(
    "text",
    [
        "not toml", "unknown = 1", "region = 1", "[product]\nkey = 'a'", "[[product]]\n",
        "[[product]]\nkey = 1", "[[product]]\nkey = 'a'\nsecret = 12345",
        "[[product]]\nkey = 'a'\nextra = 's3cr3t'", "[[product]]\nkey = 'a'\ndevices = [1]",
        "[[product]]\nkey = 'a'\ndynamic_registration = 'yes'",
    ],
)  # fmt: skip
def test_a_wrong_config_file_is_refused_without_being_quoted(tmp_path: Path, text: str) -> None:
    """It may hold secrets."""
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(BenchStateError) as caught:
        aliyun_service.load_config(config)
    assert str(config) in str(caught.value)
    assert "s3cr3t" not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"


def test_a_config_file_may_name_region_and_switches(tmp_path: Path) -> None:
    """All of it is optional."""
    config = tmp_path / "config.toml"
    config.write_text('region = "us-west-1"\nplain_tcp = true\n[[product]]\nkey = "a1"\n')
    loaded = aliyun_service.load_config(config)
    assert (loaded.region, loaded.plain_tcp, loaded.products[0].secret) == (
        "us-west-1",
        True,
        None,
    )


def test_a_cloud_that_cannot_start_says_why(folder: Path) -> None:
    """What went wrong in the background process is the foreground's error."""
    folder.mkdir(parents=True)
    (folder / "devices.json").write_text("[]")
    with pytest.raises(BenchStateError, match=r"devices\.json is damaged"):
        daemon.up("aliyun")
    assert not (folder / "cloud.json").exists()


def test_a_cloud_that_was_killed_can_go_up_again(folder: Path) -> None:
    """A dead process's files are in nobody's way."""
    os.kill(daemon.up("aliyun").pid, signal.SIGKILL)
    with pytest.raises(BenchStateError, match="had ended without a word"):
        daemon.down("aliyun")
    assert not (folder / "cloud.json").exists()
    daemon.up("aliyun")
    assert control.ask(folder, "devices") == []


def test_a_strange_request_is_answered_and_survived(folder: Path) -> None:
    """Whoever may open the socket may also make mistakes."""
    daemon.up("aliyun")
    with pytest.raises(BenchStateError, match="no such request"):
        control.ask(folder, "nonsense")
    with pytest.raises(BenchStateError, match="no such request"):
        control.ask(folder, "devices", extra=1)
    with pytest.raises(BenchStateError, match="product-unknown"):
        control.ask(folder, "registration", product_key="x", on=True)
    assert control.ask(folder, "devices") == []


def test_sigterm_ends_a_cloud_in_good_order(folder: Path) -> None:
    """As a service manager ends it: state written, cloud.json gone."""
    process = os.pidfd_open(daemon.up("aliyun").pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        assert daemon.select([process], [], [], WAIT_S)[0]
    finally:
        os.close(process)
    assert not (folder / "cloud.json").exists()
    last = (folder / "events.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["kind"] == "cloud-down"
