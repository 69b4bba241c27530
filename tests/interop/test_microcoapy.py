"""microCoAPy itself, from an image, on MicroPython, over our datagram socket.

A lane of its own: it is there when IMPRINT_MICROCOAPY names a folder that holds microCoAPy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from imprint_tools import packages, runtime
from run_on_micropython import ROOT, SHIMS, STAND_INS, TESTS

MICROCOAPY = os.environ.get("IMPRINT_MICROCOAPY")

# A name that never resolves (RFC 6761): microCoAPy then leaves it to the socket, as it has to on
# a unit whose only network is the modem.
SCRIPT = """
import sys
sys.path[:] = {path!r}
import microcoapy
import microcoapy_over_modem as example
from imprint.modem.engine import Engine
from imprint.modem.uart import ModemUart
from test_firmware_datagram import Family, Modem

class Cloud(Modem):
    # Answers each request with 2.05 and a reading.
    def write(self, data):
        count = super().write(data)
        while self.payloads:
            request = self.payloads.pop()
            length = request[0] & 15
            token = request[4 : 4 + length]
            reply = bytes((0x60 | length, 0x45)) + request[2:4] + token + b"\\xff21.5"
            text = b"\\r\\n+QSSLRECV: %d\\r\\n" % len(reply) + reply + b"\\r\\nOK\\r\\n"
            self.answer(b"AT+QSSLRECV=", text)
            self.out += b'\\r\\n+QSSLURC: "recv",1\\r\\n'
        return count

stream, dialect = Cloud(), Family()
modem = ModemUart(stream, Engine(dialect), dialect, stream.feed)
answer = example.get(modem, "coap.invalid", "oven/temperature", microcoapy.Coap(), 3000)
print("answer", bytes(answer or b""))
"""

if MICROCOAPY:

    @pytest.mark.interop
    def test_microcoapy(tmp_path: Path) -> None:
        """A GET by microCoAPy goes out by the modem, and it finds the answer."""
        for name, data in packages.collect([str(MICROCOAPY)]).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        for name in STAND_INS:
            shutil.copy(SHIMS / name, tmp_path)
        path = [tmp_path, tmp_path / "lib", ROOT / "firmware", ROOT / "examples"]
        path += [TESTS / "firmware", TESTS / "micropython", ".frozen"]
        script = SCRIPT.format(path=list(map(str, path)))
        done = subprocess.run(  # noqa: S603  the runtime that we installed
            runtime.find("i386").argv("-c", script, heap="256k"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "answer b'21.5'" in done.stdout, done.stdout + done.stderr
