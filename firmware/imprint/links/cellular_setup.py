"""The way to a session over a cellular modem; see cellular.py. `link` is its Cellular."""

import json

import machine
from micropython import const

from imprint import port
from imprint.errors import ImprintError
from imprint.modem import dialects
from imprint.modem.engine import Engine
from imprint.modem.uart import ModemUart

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from imprint.identity import Identity
    from imprint.links.cellular import Cellular
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
_SESSION_REFUSED = const(229)


def connect(identity: "Identity", feed: "Callable[[], None]") -> ModemUart:
    """The burned family's modem on the UART that it is wired to."""
    dialect = dialects.load(identity.modem)
    dialect.rat = identity.rat
    dialect.band = identity.band
    if identity.suite:
        dialect.suite = _SUITES[identity.suite]
    wiring = _wiring()
    for name in ("power_key", "reset"):
        wiring.pop(name, None)
    uart = machine.UART(rxbuf=_RECEIVE_BUFFER, timeout=0, **wiring)
    return ModemUart(uart, Engine(dialect), dialect, feed)


def start(link: "Cellular") -> str:
    run, setup = link.modem.run, dialects.setup(link.modem.dialect)
    link.modem.engine.distrust()
    try:
        name = run(setup.power_up())
    except ImprintError as error:
        if error.code != _MODEM_SILENT or not _rouse(_wiring()):
            raise
        name = run(setup.power_up())
    port.emit("modem", name=name)
    link.fault = None
    return run(setup.imei())


def up(link: "Cellular") -> None:
    burned = link.identity
    setup = dialects.setup(link.modem.dialect)
    stat = link.modem.run(setup.attach(burned.apn or "", burned.sim_pin))
    port.emit("attached", stat=stat)


def provide(link: "Cellular", psk_identity: bytes, key: "Secret") -> None:
    stored = link.store.get(_MARKER)
    marker = stored.decode() if stored else None
    dialer = dialects.dialer(link.modem.dialect)
    written = link.modem.run(dialer.provision_psk(_TAG, psk_identity, key, marker))
    del dialer
    if written != marker:
        if written:
            link.store.set(_MARKER, written.encode())
        else:
            link.store.erase(_MARKER)  # of another family, which was exchanged for this
        link.store.commit()
    if not written or written != marker:
        link.release()
        up(link)  # some write with the radio off
        link.release()
    link.kept = written is not None and written == marker


def dial(link: "Cellular", host: str, number: int) -> "DatagramSocket":
    from imprint.modem.datagram import DatagramSocket

    try:
        return DatagramSocket(link.modem, host, number, _TAG)
    except ImprintError as error:
        if error.code == _SESSION_REFUSED and link.kept and not link.doubted:
            # Perhaps it is another modem than the one that was written. Once: it is flash.
            link.doubted = True
            link.store.erase(_MARKER)
            link.store.commit()
        raise


def save_power(link: "Cellular", period_ms: int) -> None:
    dialect = link.modem.dialect
    if not dialect.PSM_SLEEP_KEEPS_SESSION or period_ms < _PSM_LEAST_MS:
        return
    from imprint.modem.dialects import status

    # Twice: the report itself is an update, so that the modem never wakes for one alone.
    talk = status.psm(dialects.setup(dialect), period_ms // 500, _PSM_ACTIVE_S)
    granted = link.modem.run(talk)
    link.sleeps = True
    port.emit("psm", granted=granted)


def _wiring() -> dict:
    try:
        with open(_WIRING) as file:
            return json.load(file)
    except OSError:
        return {"id": 1, "baudrate": 115200}  # the pins are the port's own


def _rouse(wiring: dict) -> bool:
    # As a person would; whether there is anything to be pressed.
    if "power_key" in wiring:
        _pulse(wiring["power_key"], 1, _PRESS_MS)
    elif "reset" in wiring:
        _pulse(wiring["reset"], 0, _RESET_MS)
    else:
        return False
    return True


def _pulse(number: int, level: int, width_ms: int) -> None:
    pin = machine.Pin(number, machine.Pin.OUT, value=level)
    port.sleep_ms(width_ms)
    pin(not level)
