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
