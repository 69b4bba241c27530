"""A virtual modem with a person at its terminal, for tests."""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import Any

from imprint_tools.endpoints import Endpoint
from imprint_tools.virtual.modem.bench import Modem
from imprint_tools.virtual.modem.cellular import Cell

HOST, PORT = "coap-cn5.example", 5684
IDENTITY, KEY = "MuGsF6W4,15bBZlRknc,2,3600", bytes.fromhex("000d0a3e2b43414e415259f07f22ff01")
"""The key holds NUL, CR, LF, `>`, `+`, a quote and bytes beyond ASCII."""
FINAL = re.compile(rb"\r\n(OK|ERROR|NO CARRIER|SEND OK|SEND FAIL|\+CM[ES] ERROR: .*?)\r\n")
TIMEOUT_S = 5.0


def modem(family: str, target: tuple[str, int] | None = None, **options: Any) -> Modem:
    """One that boots and attaches at once, with a way to `target` for HOST, and no echo server
    to wait for."""
    options.setdefault("boot_s", 0.0)
    options.setdefault("cell", Cell(attach_s=0.0))
    options.setdefault("retransmit_s", (0.1, 1.0))
    routes = [Endpoint("coap-*", PORT, target, "udp")] if target else []
    return Modem(family, routes=routes, **options)


class Terminal:
    """Types command lines and reads what comes, every wait bounded."""

    def __init__(self, modem: Modem) -> None:
        self.modem = modem
        self.end = modem.family.LINE_END
        self.unread = b""

    def __enter__(self) -> Terminal:
        self.modem.start()
        self._stream = self.modem.stream
        self._stream.setblocking(True)
        if self.modem.family.BOOT:
            self.expect(self.modem.family.BOOT[-1].encode() + b"\r\n")
        else:
            self.until_it_answers()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.modem.close()

    def until_it_answers(self) -> None:
        """For a module that says nothing when it has booted."""
        for _ in range(100):
            self.send(b"AT" + self.end)
            if b"OK\r\n" in self.read(0.1):
                return
        raise AssertionError("the modem does not answer")

    def send(self, data: bytes) -> None:
        self._stream.sendall(data)

    def read(self, quiet_s: float = 0.1) -> bytes:
        """All that comes until it is quiet for so long."""
        data, self.unread = self.unread, b""
        self._stream.settimeout(quiet_s)
        try:
            while more := self._stream.recv(4096):
                data += more
        except TimeoutError:
            pass
        return data

    def expect(self, needle: bytes | re.Pattern[bytes], timeout_s: float = TIMEOUT_S) -> bytes:
        """What came up to and with `needle`; what comes after it is for the next call."""
        pattern = re.compile(re.escape(needle)) if isinstance(needle, bytes) else needle
        deadline = time.monotonic() + timeout_s
        while not (match := pattern.search(self.unread)):
            self._stream.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                self.unread += self._stream.recv(4096)
            except TimeoutError:
                raise AssertionError(f"{pattern.pattern!r} not in {self.unread!r}") from None
        found, self.unread = self.unread[: match.end()], self.unread[match.end() :]
        return found

    def ask(self, line: str, timeout_s: float = TIMEOUT_S) -> list[str]:
        """Send a command line; the lines of its answer, its final last."""
        self.send(line.encode("latin-1") + self.end)
        return lines(self.expect(FINAL, timeout_s))

    def ok(self, line: str) -> list[str]:
        """As `ask`, and it must end in OK: the lines before that."""
        answer = self.ask(line)
        assert answer[-1] == "OK", (line.partition("=")[0], answer[-1])
        return [text for text in answer[:-1] if not text.startswith("AT")]

    def attach(self) -> None:
        """Full functionality, and wait for the registration."""
        self.ok("AT+CFUN=1")
        for _ in range(200):
            if self.ok("AT+CEREG?")[-1].split(",")[1] in ("1", "5"):
                return
        raise AssertionError("not registered")


def lines(data: bytes) -> list[str]:
    return [line for line in data.decode("latin-1").replace("\r", "\n").split("\n") if line]
