"""Files that are made from others are what would be made now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent


def test_mip_index() -> None:
    """package.json lists the firmware's files as they are."""
    script = [sys.executable, TESTS / "mip_index.py", "--check"]
    done = subprocess.run(script, timeout=60)  # noqa: S603 - our own script
    assert done.returncode == 0


def test_onboarding_diagram() -> None:
    """The diagram has an arrow for every line of the table."""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, TESTS / "draw_onboarding.py"],
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> IDENTITY"]
    assert "    CLOCK --> REGISTER: missing" in lines
    assert "    WAIT --> LINK: elapsed" in lines
