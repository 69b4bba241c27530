"""package.json: what `mip` installs, as a list of the files of firmware/imprint.

    python tests/mip_index.py            write it
    python tests/mip_index.py --check    exit 1 if it is not what would be written

The addresses are relative to package.json (MicroPython 1.25 and mpremote of the same time know
such), so that a fork or a branch installs itself. `umqtt.simple` is not named: it is frozen into
every official ESP32 build.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / "package.json"


def index() -> str:
    """The text of package.json."""
    package = ROOT / "firmware/imprint"
    files = sorted(path.relative_to(package.parent) for path in package.rglob("*.py"))
    version = re.search(r'__version__ = "(.+)"', (package / "__init__.py").read_text())
    content = {
        "urls": [[str(file), f"firmware/{file}"] for file in files],
        "deps": [],
        "version": version[1] if version else "latest",
    }
    return json.dumps(content, indent=2) + "\n"


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        if INDEX.is_file() and INDEX.read_text() == index():
            return 0
        print("package.json is out of date: python tests/mip_index.py", file=sys.stderr)
        return 1
    INDEX.write_text(index())
    return 0


if __name__ == "__main__":
    sys.exit(main())
