"""The whole way with the tools that a person has: esptool and mpremote as own processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from imprint_tools import image
from imprint_tools.paths import firmware_dir
from journey_bench import KIND, PASSWORD, SSID, JourneyBench

_TOOL_S = 60.0


def tool(name: str, *arguments: str | Path) -> str:
    """Run a tool of this environment to success; what it printed."""
    done = subprocess.run(  # noqa: S603  installed tools, own arguments
        [Path(sys.executable).with_name(name), *arguments],
        capture_output=True,
        text=True,
        timeout=_TOOL_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.interop
def test_esptool_flashes_and_mpremote_looks_and_it_reports(tmp_path: Path) -> None:
    """A blank board: esptool writes the image, imprint the identity, mpremote reads and resets."""
    blank = b"\xff" * KIND.flash_size
    with JourneyBench(tmp_path, blank, doors=("pty",)) as bench:
        bench.burn(None)
        bench.board.power_on()
        port = bench.board.port
        segments = image.layout(
            KIND,
            firmware=image.virtual_firmware(KIND),
            vfs=image.build_vfs(KIND, firmware_dir()),
        )
        whole = tmp_path / "whole.bin"
        whole.write_bytes(image.merge(segments, KIND.bootloader_offset))
        shown = tool(
            "esptool", "--port", port, "--baud", "921600",
            "write-flash", hex(KIND.bootloader_offset), whole,
        )  # fmt: skip
        assert "Hash of data verified" in shown
        bench.halted_with(101)

        identity = tmp_path / "identity.toml"
        identity.touch(mode=0o600)
        secret = bench.cloud.product_secret(bench.product_key).reveal().decode()
        identity.write_text(
            f'journey = "aliyun"\nproduct_key = "{bench.product_key}"\n'
            f'product_secret = "{secret}"\nregistration = "regnwl"\n'
            f'root_ca = "{bench.cloud.ca_pem.resolve()}"\n'
            f'wifi_ssid = "{SSID}"\nwifi_password = "{PASSWORD}"\ninterval_s = 1\n'
        )
        tool("imprint", "inject", "--port", port, "--identity", identity)
        bench.online()

        listed = tool("mpremote", "connect", port, "fs", "ls", ":imprint")
        assert "app.mpy" in listed
        tool("mpremote", "connect", port, "reset")
        bench.online()
        assert bench.registrations() == 1
