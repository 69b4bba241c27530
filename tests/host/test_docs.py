"""What docs/ has from the code is what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import tls_servers
from imprint_tools.chain_check import CAUSES

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_errors_is_current() -> None:
    """Every exit status and every code of the board has its row; `make docs` writes them."""
    page = runpy.run_path(str(DOCS / "generate.py"))["errors_page"]()
    assert (DOCS / "errors.md").read_text(encoding="utf-8") == page


def test_the_diagram_is_current() -> None:
    """README's picture has an arrow for every line of the onboarding table, as it is now."""
    docs = runpy.run_path(str(DOCS / "generate.py"))
    assert "    CLOCK --> REGISTER: missing\n" in docs["readme"]()
    assert (DOCS.parent / "README.md").read_text(encoding="utf-8") == docs["readme"]()


def test_the_matrix_of_bad_servers_is_what_is_tested() -> None:
    """docs/certificates.md has the code and the exit status of each server that is tried."""
    page = (DOCS / "certificates.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| (\d+) \| ([\d, ]+) \|$", page, re.MULTILINE)
    shown = {(int(code), int(status)) for code, causes in rows for status in causes.split(",")}
    tried = {(code, CAUSES[cause].exit_status) for code, cause in tls_servers.VERDICTS.values()}
    assert shown == tried
