"""A cellular modem on a UART: attached within a bounded time, or the reason why not.

`/modem.json`, which the image of a kit brings (boards/), says how the modem is wired, in the
keywords of `machine.UART`: {"id": 1, "baudrate": 115200, "tx": 32, "rx": 33, ...}; beside them
`power_key`, a pin that presses the key while it is high, and `reset`, which resets while it is
low. Without that file it is UART 1 with the port's own pins. The identity says which family it is.

Power saving is asked for where the modem keeps its sockets in it, and where the unit reports
seldom enough for it to save anything; the other families would have to be switched on by their
power key, and to make a new session, for each report.
"""

import json

import machine
from micropython import const

from imprint import port
from imprint.errors import ImprintError, WeatherError
from imprint.modem import dialects
from imprint.modem.engine import Engine
from imprint.modem.uart import ModemUart

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity
    from imprint.modem.datagram import DatagramSocket
    from imprint.secret import Secret

_SUITES = {"psk-aes128-ccm-8": 0xC0A8, "psk-aes128-cbc-sha256": 0x00AE}

_WIRING = "/modem.json"
_PRESS_MS = const(1000)  # BG95: 500 to 1,000; SARA-R5: 1,000 to 2,000
_RESET_MS = const(200)
_RECEIVE_BUFFER = const(2048)  # bytes: 170 ms at 115,200 baud

# Where the PSK goes: a security tag of the nRF91, an SSL context or security profile of the
# others, which have 0 or 1 to 4 in common. The nRF91's own examples leave 1 to the user, too.
_TAG = const(1)
_MARKER = "psk"  # key in the store: what was provisioned; tells nothing about the PSK

_PSM_LEAST_MS = const(120_000)  # between two reports; below, entering and leaving costs more
_PSM_ACTIVE_S = const(6)  # nobody calls us: just enough for an answer that comes late

# errors.py
_MODEM_SILENT = const(220)
_MODEM_REBOOTED = const(227)
_SESSION_REFUSED = const(229)
_DATA_LOST = const(233)


class Cellular:
    def __init__(self, identity: "Identity", unit: "Any") -> None:
        """`unit` has `store` and `feed`, as in net/mqtt_session.py."""
        # Modules that are needed on the way to a session only.
        names = ("common_setup", identity.modem + "_setup", "status")
        self.passing = ["modem.dialects." + name for name in names]
        self._identity = identity
        self._store = unit.store
        self._dialect = dialects.load(identity.modem)
        self._dialect.rat = identity.rat
        if identity.suite:
            self._dialect.suite = _SUITES[identity.suite]
        engine = Engine(self._dialect)
        wiring = {"id": 1, "baudrate": 115200}
        try:
            with open(_WIRING) as file:
                wiring = json.load(file)
        except OSError:
            pass  # the pins are the port's own
        self._power_key = wiring.pop("power_key", None)
        self._reset = wiring.pop("reset", None)
        uart = machine.UART(rxbuf=_RECEIVE_BUFFER, timeout=0, **wiring)
        self._modem = ModemUart(uart, engine, self._dialect, unit.feed)
        self._modem.listener = self._hear
        self._fault: "ImprintError | None" = None  # what ended the link, once it did
        self._kept = False  # the PSK is one that an earlier start has written
        self._doubted = False  # the modem's store was written anew though it seemed right
        self._sleeps = False  # power saving was asked for

    def start(self) -> str:
        """Get in step with the modem, whatever it was doing; its IMEI. Raises WeatherError: it is
        silent; SetupError: it is not of the burned family."""
        run, setup = self._modem.run, dialects.setup(self._dialect)
        self._modem.engine.distrust()
        try:
            name = run(setup.power_up())
        except ImprintError as error:
            if error.code != _MODEM_SILENT or not self._rouse():
                raise
            name = run(setup.power_up())
        port.emit("modem", name=name)
        self._fault = None
        return run(setup.imei())

    def up(self) -> None:
        """Attach; returns with a data connection. Raises SetupError for the SIM, WeatherError: no
        network in a quarter of an hour, denied or barred, no data connection."""
        burned = self._identity
        setup = dialects.setup(self._dialect)
        stat = self._modem.run(setup.attach(burned.apn or "", burned.sim_pin))
        port.emit("attached", stat=stat)

    def check(self) -> None:
        """Take in what the modem said. Raises WeatherError: the link is gone."""
        self._modem.poll(0)
        if self._fault:
            raise self._fault

    def provide(self, psk_identity: bytes, key: "Secret") -> None:
        """Put the PSK into the modem, if it is not there already. Raises SetupError: it does not
        take it."""
        stored = self._store.get(_MARKER)
        marker = stored.decode() if stored else None
        setup = dialects.setup(self._dialect)
        written = self._modem.run(setup.provision_psk(_TAG, psk_identity, key, marker))
        if written != marker:
            if written:
                self._store.set(_MARKER, written.encode())
            else:
                self._store.erase(_MARKER)  # of another family, which was exchanged for this
            self._store.commit()
        if not written or written != marker:
            self.up()  # some write with the radio off
        self._kept = written is not None and written == marker

    def open(self, host: str, number: int) -> "DatagramSocket":
        """A DTLS session with the PSK that was provided. Raises WeatherError: no session."""
        from imprint.modem.datagram import DatagramSocket

        try:
            return DatagramSocket(self._modem, host, number, _TAG)
        except ImprintError as error:
            if error.code == _SESSION_REFUSED and self._kept and not self._doubted:
                # Perhaps it is another modem than the one that was written. Once: it is flash.
                self._doubted = True
                self._store.erase(_MARKER)
                self._store.commit()
            raise

    def save_power(self, period_ms: int) -> None:
        """Let the modem sleep between reports `period_ms` apart, if that is to any good."""
        if not self._dialect.PSM_SLEEP_KEEPS_SESSION or period_ms < _PSM_LEAST_MS:
            return
        from imprint.modem.dialects import status

        setup = dialects.setup(self._dialect)
        # Twice: the report itself is an update, so that the modem never wakes for one alone.
        granted = self._modem.run(status.psm(setup, period_ms // 500, _PSM_ACTIVE_S))
        self._sleeps = True
        port.emit("psm", granted=granted)

    def wake(self) -> None:
        """To be called before the first command after a pause."""
        if self._sleeps:
            self._modem.engine.distrust()

    def _hear(self, event: tuple) -> None:
        # From the modem, what concerns no socket.
        if event[0] == "reboot":
            self._fault = WeatherError(_MODEM_REBOOTED)
        elif event[0] == "pdp_lost":
            self._fault = self._fault or WeatherError(_DATA_LOST)

    def _rouse(self) -> bool:
        # As a person would; whether there is anything to be pressed.
        if self._power_key is not None:
            _pulse(self._power_key, 1, _PRESS_MS)
        elif self._reset is not None:
            _pulse(self._reset, 0, _RESET_MS)
        else:
            return False
        return True


def _pulse(number: int, level: int, width_ms: int) -> None:
    pin = machine.Pin(number, machine.Pin.OUT, value=level)
    port.sleep_ms(width_ms)
    pin(not level)
