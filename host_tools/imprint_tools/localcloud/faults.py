"""What a local cloud can be told to do wrong, so that a device's answer to it can be tested.

Every number counts down: `faults.unavailable = 3` spoils the next three logins and no more.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

FOREVER = 1 << 62

_LOCK = threading.Lock()


class Countdowns:
    """Faults that count down; a dataclass of them derives from this."""

    def take(self, name: str) -> bool:
        """Is it time for that fault? Counts it down."""
        with _LOCK:
            left: int = getattr(self, name)
            if left > 0:
                setattr(self, name, left - 1)
            return left > 0


@dataclass
class Faults(Countdowns):
    """Counters of misbehaviour to come; set them at run time, from any thread."""

    no_answer: int = 0
    """A CONNECT is read and never answered."""
    garbage_connack: int = 0
    """Bytes that are not MQTT come in place of the CONNACK."""
    short_connack: int = 0
    """A CONNACK that says it is one byte long, and is."""
    cut_connack: int = 0
    """Three of the CONNACK's four bytes, then the connection is closed."""
    unavailable: int = 0
    """CONNACK 3, whatever was asked."""
    drop_before_push: int = 0
    """A registration is granted and kept, and the connection lost before the device is told."""
    drop_after_push: int = 0
    """The connection is lost as soon as the registration's push has been written."""
    cut_push: int = 0
    """Half of the registration's push, then the connection is closed."""
    garbage_push: int = 0
    """The registration's push is not JSON."""
    no_puback: int = 0
    """A publish of QoS 1 is taken and not acknowledged."""
    no_reply: int = 0
    """A request of the application's layer is taken and not replied to."""
    drop_on_publish: int = 0
    """The connection is lost in place of taking a publish."""
    delay_s: float = 0.0
    """Seconds that pass before each CONNACK."""
