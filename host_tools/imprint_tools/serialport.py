"""Opening a serial port: any pyserial URL, and why it could not be opened.

Whoever talks to a board opens its port here, so that a port that is absent, busy or not allowed
is the same PortError everywhere.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

import serial  # type: ignore[import-untyped]
from serial.tools import list_ports  # type: ignore[import-untyped]

from imprint_tools.errors import PortError

# Where pyserial looks for `virtual://`: named, not imported, so that a real port needs no bench.
_URL_HANDLERS = "imprint_tools.virtual.urlhandler"
if _URL_HANDLERS not in serial.protocol_handler_packages:
    serial.protocol_handler_packages.append(_URL_HANDLERS)

# USB vendors of ESP boards: Espressif itself, and the makers of the bridges on dev kits.
_ESP_VENDORS = {0x303A: "Espressif", 0x10C4: "CP210x", 0x1A86: "CH34x", 0x0403: "FTDI"}

_WHY = {
    errno.ENOENT: ("there is no such port", "Plug the board in; check the cable carries data."),
    errno.ENXIO: ("there is no device behind it", "Plug the board in, or start the virtual one."),
    errno.EACCES: ("this user may not open it", "Join the group that owns it (often dialout)."),
    errno.EAGAIN: ("another program has it open", "Close the other program (a monitor?)."),
    errno.EBUSY: ("another program has it open", "Close the other program (a monitor?)."),
}


def open_port(url: str, *, baudrate: int = 115200, timeout_s: float = 10) -> serial.SerialBase:
    """Open `url` for this process alone. Reads wait `timeout_s` at most. Raises PortError."""
    try:
        return serial.serial_for_url(
            url, baudrate=baudrate, timeout=timeout_s, write_timeout=timeout_s, exclusive=True
        )
    except (OSError, ValueError) as error:
        raise port_error(url, error) from None


def port_error(url: str, error: Exception) -> PortError:
    """Our error for pyserial's, with the reason that the operating system gave."""
    number = getattr(error, "errno", None)
    why, next_step = _WHY.get(number or 0, (str(error), "Check the port and the cable."))
    return PortError(f"{url}: {why}", next_step=next_step)


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
