"""Which serial port a board is on, and how many bytes went through one."""

from __future__ import annotations

from dataclasses import dataclass

import serial  # type: ignore[import-untyped]
from serial.tools import list_ports  # type: ignore[import-untyped]

from imprint_tools.errors import PortError

# USB vendors of ESP boards: Espressif itself, and the makers of the bridges on dev kits.
_ESP_VENDORS = {0x303A: "Espressif", 0x10C4: "CP210x", 0x1A86: "CH34x", 0x0403: "FTDI"}


def find_port() -> str:
    """The one serial port that an ESP board may be on. Raises PortError for none or several."""
    found = [
        (info.device, _ESP_VENDORS[info.vid])
        for info in list_ports.comports()
        if info.vid in _ESP_VENDORS
    ]
    if len(found) == 1:
        return str(found[0][0])
    if not found:
        raise PortError(
            "no ESP board's serial port is present",
            next_step="Plug the board in, or name the port with --port.",
        )
    listed = ", ".join(f"{device} ({vendor})" for device, vendor in sorted(found))
    raise PortError(
        f"{len(found)} serial ports may be an ESP board: {listed}",
        next_step="Name one with --port.",
    )


@dataclass
class WireBytes:
    """Bytes that went through a port, both ways together."""

    total: int = 0


def count_bytes(port: serial.SerialBase) -> WireBytes:
    """Count from now on what `port` reads and writes."""
    counter = WireBytes()
    read, write = port.read, port.write

    def counted_read(size: int = 1) -> bytes:
        data: bytes = read(size)
        counter.total += len(data)
        return data

    def counted_write(data: bytes) -> int | None:
        counter.total += len(data)
        written: int | None = write(data)
        return written

    # On the instance, so that it works for every backend behind every URL.
    port.read, port.write = counted_read, counted_write
    return counter
