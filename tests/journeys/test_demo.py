"""The demo as a person and as a script have it: what it prints, how it ends, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from imprint_tools import demo
from imprint_tools.journey import FAILED
from imprint_tools.recorder import Watcher

_DEMO_S = 120.0


def command(tmp: Path, *arguments: str) -> subprocess.Popen[str]:
    """`imprint demo`, whose temporary files go to `tmp`."""
    return subprocess.Popen(  # noqa: S603  our own command
        [Path(sys.executable).with_name("imprint"), "demo", *arguments],
        env=os.environ | {"TMPDIR": str(tmp), "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_json_is_one_object_with_what_was_promised(tmp_path: Path) -> None:
    """Under --json stdout is one object; the timeline goes to stderr, the page to its file."""
    tmp, page = tmp_path / "tmp", tmp_path / "journey.html"
    tmp.mkdir()
    with command(tmp, "--json", "--reports", "2", "--report", str(page)) as process:
        out, timeline = process.communicate(timeout=_DEMO_S)
    assert process.returncode == 0, timeline
    result = json.loads(out)
    assert result["journey"] == "aliyun"
    assert result["outcome"] == "acknowledged"
    assert result["registrations"] == 1
    assert result["reports"] == 2
    assert all(step["ok"] and step["seconds"] >= 0 for step in result["steps"])
    names = [step["name"] for step in result["steps"]]
    assert names[-1] == "report" and {"flash", "inject identity", "register"} <= set(names)
    for key in ("bytes_up", "bytes_down", "heap_peak_bytes", "mpy_bytes"):
        assert result[key] > 1000
    assert "ONLINE" in timeline
    assert "</html>" in page.read_text()
    assert not list(tmp.iterdir()), "nothing is left"


def test_enos_over_a_modem_as_json(tmp_path: Path) -> None:
    """The other journey gives the same object, with the datagrams that its network counted; the
    page has a lifeline for the modem and none for an access point."""
    tmp, page = tmp_path / "tmp", tmp_path / "journey.html"
    tmp.mkdir()
    arguments = ("--journey", "enos-coap", "--modem", "nrf91", "--json", "--reports", "1")
    with command(tmp, *arguments, "--report", str(page)) as process:
        out, timeline = process.communicate(timeout=_DEMO_S)
    assert process.returncode == 0, timeline
    result = json.loads(out)
    assert (result["journey"], result["outcome"]) == ("enos-coap", "acknowledged")
    assert (result["registrations"], result["reports"]) == (1, 1)
    # Two sessions of three flights each way, the first one's goodbye, activation, report.
    assert (result["datagrams_up"], result["datagrams_down"]) == (9, 8)
    for key in ("bytes_up", "bytes_down", "heap_peak_bytes", "mpy_bytes"):
        assert result[key] > 500
    assert "modem → cloud" in timeline and "board → modem" in timeline
    shown = page.read_text()
    assert "in 9 datagrams" in shown
    assert ">modem</text>" in shown and "access point" not in shown
    assert not list(tmp.iterdir()), "nothing is left"


def test_an_edge_with_its_certificate(tmp_path: Path) -> None:
    """Static and dynamic sub-devices on a Modbus line, all online before a report counts; the edge
    has applied for its certificate."""
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    arguments = ("--journey", "enos-gateway", "--subdevices", "6", "--certificate", "--json")
    with command(tmp, *arguments, "--reports", "2") as process:
        out, timeline = process.communicate(timeout=_DEMO_S)
    assert process.returncode == 0, timeline
    result = json.loads(out)
    assert (result["journey"], result["outcome"]) == ("enos-gateway", "acknowledged")
    assert result["registrations"] == 6, "sub-devices that were online"
    assert "REST apply: 0" in timeline and "CONNECT, certificate and secret" in timeline
    assert "7 devices, 20 points recorded" in timeline
    assert not list(tmp.iterdir()), "nothing is left"


def test_azure_with_factory_and_portal() -> None:
    """The unit is enrolled disabled by the factory server, knocks, is activated over the portal's
    API, and its twin has what was entered there."""
    result = demo.run(demo.Plan(journey="azure-dps", reports=2))
    assert result.ok, result.failure
    assert result.registrations == 1
    texts = [message.text for message in result.messages]
    assert next(t for t in texts if t.startswith("DPS")) == "DPS: 200 disabled"
    assert any("activated" in text for text in texts)
    assert any("twin: reported {'limit': 28.0}" in text for text in texts)


def test_azure_through_a_gateway_whose_power_fails() -> None:
    """What is reported while the gateway is away waits, and arrives when it is back."""
    result = demo.run(demo.Plan(journey="azure-edge", reports=4))
    assert result.ok, result.failure
    texts = [message.text for message in result.messages]
    assert any("fails" in text for text in texts)
    assert any(not step.ok for step in result.steps), "the unit noticed"
    ways = [text for text in texts if text.startswith("telemetry")]
    assert all(text.startswith("telemetry via edge.plant.example: ") for text in ways)


@pytest.mark.parametrize(
    ("modem", "secure_mode", "loss", "activations"),
    [("bg95", 2, 0, 0), ("gm02s", 3, 20, 1), ("sara-r5", 2, 20, 0)],
)
def test_every_modem_and_loss(modem: str, secure_mode: int, loss: float, activations: int) -> None:
    """As a library it is one call, for each kit with a modem, both secure modes, lossy air."""
    plan = demo.Plan(
        journey="enos-coap", modem=modem, secure_mode=secure_mode, loss=loss, reports=1
    )
    result = demo.run(plan)
    assert result.ok, result.failure
    assert result.registrations == activations


def test_an_option_of_the_other_journey_is_refused(tmp_path: Path) -> None:
    """What has no meaning on a journey is a mistake, which is said before anything starts."""
    with command(tmp_path, "--journey", "enos-coap", "--chip", "esp32") as process:
        _, errors = process.communicate(timeout=_DEMO_S)
    assert process.returncode == 2
    assert "--chip" in errors and "enos-coap" in errors


@pytest.mark.parametrize(
    ("chip", "registration", "registrations"),
    [("esp32s3", "register", 1), ("esp32c3", "none", 0)],
)
def test_every_chip_and_registration(chip: str, registration: str, registrations: int) -> None:
    """As a library it is one call, for each chip and each kind of registration."""
    result = demo.run(demo.Plan(chip=chip, registration=registration, reports=1))
    assert result.ok, result.failure
    assert result.registrations == registrations


def test_an_impatient_demo_fails_and_says_so() -> None:
    """What goes wrong is in the result, with the step that it went wrong in, and a next step."""
    result = demo.run(demo.Plan(reports=1000, patience_s=2))
    assert result.outcome == FAILED and not result.ok
    assert not result.steps[-1].ok
    assert result.document()["failure"] and result.document()["next_step"]


def test_failure_is_exit_status_41_and_still_one_object(tmp_path: Path) -> None:
    """A heap in which nothing runs: the journey fails, and --json says so in its one object."""
    with command(tmp_path, "--json", "--heap", "24k") as process:
        out, errors = process.communicate(timeout=_DEMO_S)
    assert process.returncode == 41, errors
    result = json.loads(out)
    assert result["outcome"] == "failed" and result["failure"]
    assert "journey-failed" in errors
    assert not list(tmp_path.iterdir()), "nothing is left"


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """Interrupted in the middle, it takes down board and cloud and removes its folder."""
    with command(tmp_path, "--reports", "1000") as process:
        assert process.stdout
        for line in process.stdout:
            if "● REGISTER" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_DEMO_S)
    assert process.returncode != 0
    assert not list(tmp_path.iterdir())


def test_what_is_kept_is_named_also_after_ctrl_c(tmp_path: Path) -> None:
    """`--keep` names its folder before anything is in it, on stderr."""
    with command(tmp_path, "--keep", "--json") as process:
        assert process.stderr
        named = process.stderr.readline().split("kept: ")[1].strip()
        for line in process.stderr:
            if "start board" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_DEMO_S)
    assert process.returncode == 130
    assert [str(path) for path in tmp_path.iterdir()] == [named]


def test_who_looks_on_sees_it_in_order() -> None:
    """The watcher of a journey is told of each step and state as it happens."""
    seen: list[str] = []

    class Ears(Watcher):
        def step_began(self, name: str) -> None:
            seen.append(name)

        def entered(self, state: str, at_s: float) -> None:
            seen.append(state)

    result = demo.run(demo.Plan(reports=1), watcher=Ears())
    assert [name for name in seen if name == name.upper()] == [s.state for s in result.states]
    assert seen.index("register") < seen.index("REGISTER") < seen.index("log in")
