"""What the local Azure can be told to do wrong, so that a device's answer to it can be tested."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from imprint_tools.localcloud.faults import Faults


@dataclass(frozen=True)
class Trouble:
    """An answer in place of the right one: a six-digit code, and what it asks to wait."""

    code: int
    retry_after_s: int | None = None


@dataclass
class AzureFaults(Faults):
    """Those of every MQTT endpoint, and Azure's own."""

    provisioning: deque[Trouble] = field(default_factory=deque)
    """Answers to the next requests of devices to the provisioning service."""
    service: deque[Trouble] = field(default_factory=deque)
    """Answers to the next requests to the provisioning service's REST."""
    twin: deque[Trouble] = field(default_factory=deque)
    """Answers to the next twin requests of devices."""
    register_drop: int = 0
    """The connection is lost in place of the answer to a registration; what it did stays."""
    garbage_twin: int = 0
    """The twin that a device gets is half of one: not JSON."""
    garbage_desired: int = 0
    """A desired patch is half of one."""
    cut_message: int = 0
    """Half of a message to a device, then the connection is closed."""
