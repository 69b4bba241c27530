"""The examples run: what they show is what the firmware has."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from imprint.modem.dialects import bg95

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Coap:
    """What the example uses of microCoAPy, at its custom-socket contract."""

    responseCallback: Any = None

    def setCustomSocket(self, sock: Any) -> None:
        self.sock = sock

    def get(self, host: str, port: int, path: str) -> None:
        assert self.sock.sendto(b"\x40\x01\x00\x01" + path.encode(), (host, port)) == 4 + len(path)

    def poll(self, _timeout_ms: int) -> None:
        self.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.sock.recvfrom(1500)
        self.sock.setblocking(True)
        data, sender = self.sock.recvfrom(1500)
        self.responseCallback(SimpleNamespace(payload=data[4:]), sender)


class Modem:
    """In the place of ModemUart: a session that echoes, after one look in vain."""

    def __init__(self) -> None:
        self.dialect = bg95.Dialect()
        self.looks = 0
        self.closed = False

    def run(self, talk: Any) -> Any:
        name = talk.gi_code.co_name
        talk.close()
        if name == "receive":
            self.looks += 1
            return b"\x60\x45\x00\x01hot" if self.looks > 1 else None
        self.closed = self.closed or name == "close"
        return 1

    def poll(self, _timeout_ms: int) -> bool:
        if self.looks == 1:
            self.socket.notify(("data", 1, None))
        return True

    def attach(self, _handle: int, socket: Any) -> None:
        self.socket = socket

    def detach(self, _handle: int) -> None:
        pass


def test_microcoapy_over_modem() -> None:
    """microCoAPy's calls on its custom socket are answered by ours as it expects them."""
    example = runpy.run_path(str(EXAMPLES / "microcoapy_over_modem.py"))
    modem = Modem()
    assert example["get"](modem, "coap.example.com", "oven", Coap()) == b"hot"
    assert modem.closed
