"""A cellular modem on a UART: attached within a bounded time, or the reason why not.

`/modem.json`, which the image of a kit brings (boards/), says how the modem is wired, in the
keywords of `machine.UART`: {"id": 1, "baudrate": 115200, "tx": 32, "rx": 33, ...}; beside them
`power_key`, a pin that presses the key while it is high, and `reset`, which resets while it is
low. Without that file it is UART 1 with the port's own pins. The identity says which family it is.

Power saving is asked for where the modem keeps its sockets in it, and where the unit reports
seldom enough for it to save anything; the other families would have to be switched on by their
power key, and to make a new session, for each report.

The way to a session is in cellular_setup.py, which may leave the memory when it has been gone.
"""

from micropython import const

from imprint.errors import ImprintError, WeatherError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity
    from imprint.modem.datagram import DatagramSocket
    from imprint.secret import Secret

# errors.py
_MODEM_REBOOTED = const(227)
_DATA_LOST = const(233)


class Cellular:
    def __init__(self, identity: "Identity", unit: "Any") -> None:
        """`unit` has `store`, `feed` and `free`, as in net/mqtt_session.py."""
        self._free = unit.free
        self.identity = identity
        self.store = unit.store
        self.fault: "ImprintError | None" = None  # what ended the link, once it did
        self.kept = False  # the PSK in the modem is one that an earlier start has written
        self.doubted = False  # the modem's store was written anew though it seemed right
        self.sleeps = False  # power saving was asked for
        self.modem = _setup().connect(identity, unit.feed)
        self.modem.listener = self._hear

    def start(self) -> str:
        """Get in step with the modem, whatever it was doing; its IMEI. Raises WeatherError: it is
        silent; SetupError: it is not of the burned family."""
        return _setup().start(self)

    def up(self) -> None:
        """Attach; returns with a data connection. Raises SetupError for the SIM, WeatherError: no
        network in a quarter of an hour, denied or barred, no data connection."""
        _setup().up(self)

    def provide(self, psk_identity: bytes, key: "Secret") -> None:
        """Put the PSK into the modem, if it is not there already. Raises SetupError: it does not
        take it."""
        _setup().provide(self, psk_identity, key)

    def open(self, host: str, number: int) -> "DatagramSocket":
        """A DTLS session with the PSK that was provided. Raises WeatherError: no session."""
        return _setup().dial(self, host, number)

    def save_power(self, period_ms: int) -> None:
        """Let the modem sleep between reports `period_ms` apart, if that is to any good."""
        _setup().save_power(self, period_ms)

    def release(self) -> None:
        """Let go of what was needed on a part of the way to a session."""
        name = self.identity.modem
        parts = ("common_setup", "common_dial", name + "_setup", name + "_dial", "status", "band")
        self._free("links.cellular_setup modem.dialects." + " modem.dialects.".join(parts))

    def check(self) -> None:
        """Take in what the modem said. Raises WeatherError: the link is gone."""
        self.modem.poll(0)
        if self.fault:
            raise self.fault

    def wake(self) -> None:
        """To be called before the first command after a pause."""
        if self.sleeps:
            self.modem.engine.distrust()

    def _hear(self, event: tuple) -> None:
        # From the modem, what concerns no socket.
        if event[0] == "reboot":
            self.fault = WeatherError(_MODEM_REBOOTED)
        elif event[0] == "pdp_lost":
            self.fault = self.fault or WeatherError(_DATA_LOST)


def _setup() -> "Any":
    from imprint.links import cellular_setup

    return cellular_setup
