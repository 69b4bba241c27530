"""How fast the AT engine reads on 32-bit MicroPython, beside a line of 921,600 baud."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path

from cell_lab import UART, flash_with
from imprint_tools.virtual.board import Board
from lab import Lab
from measure import Figure, Row, Section

_LINE_RATE = 921_600 // 10  # bytes a second: a start bit, eight, a stop bit
_LINE_S = 1.0  # so long a run takes at that rate
_HEAP = "128k"
_PATIENCE_S = 30.0
_PACE_S = 0.002

_DATAGRAM = b"\r\n#XRECV: 0,1,512\r\n" + b"5A" * 512 + b"\r\n"
_LINE = b'\r\n+CEREG: 5,"1A2B","0012BEEF",9\r\n'
_STREAMS = {"datagrams of 512 B as hexadecimal": _DATAGRAM, "short lines": _LINE}

# The pump and the engine as the unit has them; what an event leads to is left out.
_MAIN = """\
import gc, machine, time
from imprint.modem.engine import Engine
from imprint.modem.uart import ModemUart
from imprint.modem.dialects.nrf91 import Dialect

class Told:
    def __init__(self):
        self.count = 0
        self.began = self.ended = 0
    def notify(self, event):
        self.ended = time.ticks_us()
        if not self.count:
            self.began = self.ended
        self.count += 1

told = Told()
dialect = Dialect()
engine = Engine(dialect)
modem = ModemUart(machine.UART(1, timeout=0), engine, dialect, lambda: None)
modem.attach(0, told)
modem.listener = told.notify
gc.collect()
print("ready")
while told.count < {count} and modem.poll(5000):
    pass
print("told", told.count, time.ticks_diff(told.ended, told.began), engine.lost + engine.strays)
"""


def measure(lab: Lab) -> Section:
    """As fast as it goes, and at the rate of the line."""
    folder = lab.folder / "at"
    folder.mkdir()
    runs = 1 if lab.quick else 3
    rows = []
    for name, unit in _STREAMS.items():
        for way, rate in (("no faster than it reads", None), ("at the line's rate", _LINE_RATE)):
            speeds = [_speed(folder, unit, rate) for _ in range(runs)]
            rows.append(
                Row(f"{name}, {way}", "B/s", Figure.of(speeds), Figure.of([_LINE_RATE]),
                    "921,600 baud", f">= {_LINE_RATE:,}" if rate is None else "")
            )  # fmt: skip
    return Section(
        "The AT engine, bytes a second on 32-bit MicroPython",
        "From the first event told to the last, through machine.UART, pump, engine and the "
        "nRF91's dialect; no event was lost. A ratio below 1 is faster than the line. The "
        "processor is this machine's; an ESP32 is many times slower, and was not measured.",
        tuple(rows),
    )


def _speed(folder: Path, unit: bytes, rate: int | None) -> float:
    """Bytes a second. Raises RuntimeError: not all of them were told of."""
    count = max(2, int(_LINE_RATE * _LINE_S) // len(unit))
    main = _MAIN.format(count=count).encode()
    (folder / "flash.bin").write_bytes(flash_with(main))
    board = Board(folder, doors=(), heap=_HEAP)
    line = board.uarts.far_end(UART).dup()
    with line, board:
        board.expect(b"ready", _PATIENCE_S)
        sender = threading.Thread(target=_send, args=(line, unit * count, rate))
        sender.start()
        said = board.expect(b">>> ", _PATIENCE_S)
        sender.join()
    found = re.search(rb"told (\d+) (\d+) (\d+)", said)
    if found is None or (int(found[1]), int(found[3])) != (count, 0):
        raise RuntimeError(f"the engine did not tell of all {count}: {said!r}")
    return (count - 1) * len(unit) / (int(found[2]) / 1e6)


def _send(line: socket.socket, data: bytes, rate: int | None) -> None:
    """All of it; with a rate, as a line of that rate would."""
    line.setblocking(True)
    line.settimeout(_PATIENCE_S)
    if rate is None:
        line.sendall(data)
        return
    began, sent = time.monotonic(), 0
    while sent < len(data):
        due = min(len(data), int((time.monotonic() - began) * rate))
        line.sendall(data[sent:due])
        sent = due
        time.sleep(_PACE_S)
