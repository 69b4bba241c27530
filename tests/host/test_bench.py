"""The bench measures and writes what its readers expect. Its slow sections are run by hand."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the cheap sections print and write."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, ROOT / "tests/bench/run.py", "--quick", "--json", file,
         "--only", "sizes", "--only", "nvs", "--only", "issuing"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())


def test_the_document_says_how_it_was_made(run: tuple[str, dict[str, Any]]) -> None:
    """Class of machine, versions, whether it was a quick run; nothing failed."""
    _, document = run
    assert " cores, " in document["machine"]
    assert {"python", "micropython", "mpremote", "esptool"} <= set(document["versions"])
    assert document["quick"] is True
    assert document["failed"] == []
    assert set(document["sections"]) == {"sizes", "nvs", "issuing"}


def test_each_row_has_both_figures_and_their_ratio(run: tuple[str, dict[str, Any]]) -> None:
    """Median, spread and number of runs of each; the ratio is the other's to imprint's."""
    _, document = run
    for section in document["sections"].values():
        assert section["title"] and section["counted"]
        for row in section["rows"]:
            for figure in filter(None, (row["imprint"], row["today"])):
                assert 0 < figure["min"] <= figure["median"] <= figure["max"]
                assert figure["runs"] >= 1
            if row["today"]:
                assert row["against"]
                assert row["ratio"] == row["today"]["median"] / row["imprint"]["median"]


def test_the_modules_add_up(run: tuple[str, dict[str, Any]]) -> None:
    """The journey's modules are those of a unit with Wi-Fi and Aliyun, and no other's."""
    _, document = run
    sizes = document["sections"]["sizes"]
    modules = sizes["details"]["modules"]
    assert sizes["rows"][0]["imprint"]["median"] == sum(modules.values())
    assert {"imprint/app.mpy", "imprint/vault.mpy", "imprint/clouds/aliyun.mpy"} <= set(modules)
    assert not [path for path in modules if path.startswith("imprint/modem/")]
    assert {"imprint/net/coap_session.mpy", "imprint/modem/engine.mpy"} <= set(
        sizes["details"]["enos-coap"]
    )
    assert {"nrf91", "bg95", "sequans", "sara", "udp"} <= {
        Path(path).stem for path in sizes["details"]["dialects"]
    }


def test_the_table_has_every_row(run: tuple[str, dict[str, Any]]) -> None:
    """Plain text, where nobody looks at a terminal: no colour, no line drawing."""
    printed, document = run
    assert printed.isascii()
    for section in document["sections"].values():
        assert section["title"] in printed
        for row in section["rows"]:
            assert row["what"] in printed


def test_the_least_of_dtls_is_what_the_rfcs_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked by hand from the RFCs' formats: an identity of 18 bytes, a cookie of 20, and the
    activation's GET of 62 bytes."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/bench"))
    minimum = importlib.import_module("dtls_minimum")
    suites = (minimum.CCM_8, minimum.CBC_SHA256)
    ccm, cbc = (minimum.handshake(suite, 18, minimum.BARE[suite]) for suite in suites)
    assert (ccm.up, ccm.down) == ((69, 89, 112), (48, 88, 67))
    assert (cbc.up, cbc.down) == ((69, 89, 152), (48, 88, 107))
    # Three suites more, 36 bytes of extensions and 11 or 15 in answer, cookie and session id of 32
    ccm, cbc = (minimum.handshake(suite, 18, minimum.MBED_TLS[suite]) for suite in suites)
    assert (ccm.up, ccm.down) == ((111, 143, 112), (60, 131, 67))
    assert (cbc.up, cbc.down) == ((111, 143, 152), (60, 135, 107))
    path = ["topic", "ext", "session", "8" * 8, "1" * 10, "thing", "activate", "info"]
    assert minimum.coap(path, 0) == 62
    assert minimum.coap(["m" * 12, "p" * 13], 5) == 4 + 13 + 15 + 6
    assert minimum.exchange(minimum.CCM_8, path, 0, 0).up == (91,)
    assert minimum.exchange(minimum.CBC_SHA256, path, 0, 0).up == (125,)
    assert minimum.goodbye(minimum.CCM_8).up == (31,)
