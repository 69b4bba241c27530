"""Opening a serial port of any kind: a device, `rfc2217://`, `virtual://`, any pyserial URL.

Importing this module teaches pyserial, and so esptool and mpremote in this process, `virtual://`.
"""

from __future__ import annotations

import errno
import re

import serial  # type: ignore[import-untyped]  # pyserial has no types

from imprint_tools.errors import PortError

_HANDLERS = "imprint_tools.virtual.urlhandler"

if _HANDLERS not in serial.protocol_handler_packages:
    serial.protocol_handler_packages.append(_HANDLERS)


def open_port(port: str, baud: int = 115_200, *, timeout_s: float | None = None) -> serial.Serial:
    """Open `port` for this process alone. Raises PortError: absent, busy, forbidden."""
    try:
        return serial.serial_for_url(port, baud, timeout=timeout_s, exclusive=True)
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise port_error(port, error) from error


def port_error(port: str, error: Exception) -> PortError:
    """What pyserial or the system said about `port`, with the next step."""
    text = str(error)
    code = getattr(error, "errno", None)
    if code is None and (named := re.search(r"\[Errno (\d+)\]", text)):
        code = int(named[1])  # pyserial's RFC 2217 client keeps it in the text only
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ECONNREFUSED):
        return PortError(
            f"there is no port {port}",
            next_step="plug the board in and look at: python -m serial.tools.list_ports; "
            "a virtual one: imprint board list",
        )
    if code in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text:
        return PortError(
            f"the port {port} is busy: another program has it open",
            next_step="close that program (a monitor, mpremote, an IDE) and try again",
        )
    if code in (errno.EACCES, errno.EPERM):
        return PortError(
            f"the port {port} may not be opened by this user",
            next_step="add the user to the group that owns the device (dialout or uucp)",
        )
    return PortError(f"the port {port} cannot be used: {text}")
