"""The SIM, the cell, and what the modem's radio makes of them: registration, PSM, eDRX.

Encodings by TS 27.007 and TS 24.008 (10.5.7.3, 10.5.7.4a, 10.5.5.32).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from imprint_tools.virtual.modem.clock import Clock, Timer

OFF, FULL, FLIGHT = 0, 1, 4
"""Functionality levels of +CFUN."""

IDLE, HOME, SEARCHING, DENIED, UNKNOWN, ROAMING = range(6)
"""Registration states of +CEREG."""

CAT_M1, NB_IOT = 7, 9
"""Access technologies of +CEREG."""

BANDS = (1, 2, 3, 4, 5, 8, 12, 13, 17, 18, 19, 20, 25, 26, 28, 66, 71, 85)
"""What the modems can do, all alike."""
ALL_BANDS = sum(1 << (band - 1) for band in BANDS)
"""The same as a mask: bit 0 is band 1."""

SIM_MISSING, SIM_PIN, SIM_PUK, SIM_BUSY, WRONG_PASSWORD = 10, 11, 12, 14, 16
"""CME errors of the SIM."""

_DEACTIVATED = "11100000"
_T3412_UNITS_S = (600, 3600, 36000, 2, 30, 60, 1_152_000)
_T3324_UNITS_S = {0: 2, 1: 60, 2: 360}
_PIN_TRIES = 3


class Coverage(Enum):
    """What the network does when the modem comes."""

    HOME = "home"
    ROAMING = "roaming"
    SEARCHING = "searching"
    """The scan does not end."""
    NONE = "none"
    """Nothing was found; the scan has ended."""
    DENIED = "denied"
    """The subscriber is refused: EMM cause 8."""
    BARRED = "barred"
    """The cell is no place for this subscriber: EMM cause 15, no suitable cells."""


_CAUSES = {Coverage.DENIED: 8, Coverage.BARRED: 15}
_FOUND = {Coverage.HOME: HOME, Coverage.ROAMING: ROAMING}
_ENDS = {
    **_FOUND,
    Coverage.SEARCHING: SEARCHING,
    Coverage.NONE: IDLE,
    Coverage.DENIED: DENIED,
    Coverage.BARRED: DENIED,
}


@dataclass
class Sim:
    """The card. `pin` None: none is asked for."""

    present: bool = True
    pin: str | None = None
    iccid: str = "89882390000123456789"
    imsi: str = "901288000012345"
    busy_s: float = 0.0
    """For so long after power-up it answers CME 14."""


@dataclass
class Cell:
    """The network at this place. Changes count from the next attempt on; see Radio.retry."""

    coverage: Coverage = Coverage.HOME
    act: int = NB_IOT
    band: int = 20
    attach_s: float = 1.0
    """From CFUN=1 to the end of the search."""
    apn: str | None = None
    """The only APN that gets a data connection; None: any."""
    address: str = "10.64.0.2"
    operator: str = "90128"
    tac: str = "1A2B"
    ci: str = "0012BEEF"
    rsrp: int = 45
    """As +CESQ has it: dBm + 141; 255 unknown."""
    rsrq: int = 20
    psm: bool = True
    """Power saving is granted as asked for, unless the next two say otherwise."""
    active_time: str | None = None
    """T3324 granted instead, 8 bits."""
    periodic_tau: str | None = None
    """T3412 extended granted instead, 8 bits."""
    edrx: str | None = None
    """eDRX granted instead of what was asked for, 4 bits."""
    idle_after_s: float = 1.0
    """Without traffic for so long the radio connection is let go; then T3324 starts."""


class Radio:
    """Registration and power saving of one modem.

    `on_registration()` is called after each change of `stat`; `on_sleep(asleep)` when the modem
    enters or leaves power saving mode.
    """

    def __init__(self, sim: Sim, cell: Cell, clock: Clock) -> None:
        self.sim = sim
        self.cell = cell
        self.functionality = OFF
        self.stat = IDLE
        self.cause: int | None = None
        self.apn = ""
        self.psm_wanted: tuple[str, str] | None = None
        """(periodic TAU, active time) as asked for; None: off."""
        self.edrx_wanted: str | None = None
        self.bands: dict[int, int] = {}
        """Masks of the bands that are searched, by access technology; one that is absent: all."""
        self.asleep = False
        self.on_registration: Callable[[], None] = lambda: None
        self.on_sleep: Callable[[bool], None] = lambda _asleep: None
        self._clock = clock
        self._pin_ok = False
        self._pin_tries = _PIN_TRIES
        self._powered_at = 0.0
        self._search: Timer | None = None
        self._idle: Timer | None = None

    # -- SIM ------------------------------------------------------------------------------------

    def power_on(self, functionality: int) -> None:
        """As after a reset: the SIM asks for its PIN again."""
        self._pin_ok = self.sim.pin is None
        self._powered_at = self._clock.now()
        self.asleep = False
        self.functionality = OFF
        self._settle(IDLE)
        self.set_functionality(functionality)

    def sim_trouble(self) -> int | None:
        """The CME number with which the SIM answers now, None when it is ready."""
        if not self.sim.present:
            return SIM_MISSING
        if self._clock.now() - self._powered_at < self.sim.busy_s:
            return SIM_BUSY
        if not self._pin_ok:
            return SIM_PIN if self._pin_tries else SIM_PUK
        return None

    def enter_pin(self, pin: str) -> bool:
        """Whether it was right. Three wrong ones lock the card."""
        if not self._pin_tries:
            return False
        if pin != self.sim.pin:
            self._pin_tries -= 1
            return False
        self._pin_ok, self._pin_tries = True, _PIN_TRIES
        if self.functionality == FULL:
            self.retry()
        return True

    # -- registration ---------------------------------------------------------------------------

    @property
    def registered(self) -> bool:
        return self.stat in (HOME, ROAMING)

    @property
    def connected(self) -> bool:
        """There is a data connection: registered, with an APN that the network takes."""
        return self.registered and self.cell.apn in (None, self.apn)

    def set_functionality(self, level: int) -> None:
        """+CFUN: 0 and 4 leave the network."""
        before, self.functionality = self.functionality, level
        if level != FULL:
            self._wake()
            self._settle(IDLE)
        elif before != FULL:
            self.retry()

    def retry(self) -> None:
        """Look for the network anew, as the modem does when something has changed."""
        if self.functionality != FULL:
            return
        trouble = self.sim_trouble()
        if trouble == SIM_BUSY:
            self._settle(IDLE)
            self._search = self._clock.call_later(self.sim.busy_s, self.retry)
        elif trouble is not None:
            self._settle(IDLE)
        else:
            self._settle(SEARCHING)
            self._search = self._clock.call_later(self.cell.attach_s, self._found)

    def lose(self) -> None:
        """Out of coverage, and looking for it."""
        if self.registered:
            self._wake()
            self.retry()

    def _found(self) -> None:
        searched = self.bands.get(self.cell.act, ALL_BANDS)
        heard = searched >> (self.cell.band - 1) & 1
        coverage = self.cell.coverage if heard else Coverage.NONE
        self.cause = _CAUSES.get(coverage)
        self._settle(_ENDS[coverage])
        self.traffic()

    def _settle(self, stat: int) -> None:
        if self._search:
            self._search.cancel()
            self._search = None
        if stat != DENIED:
            self.cause = None
        if stat != self.stat:
            self.stat = stat
            self.on_registration()

    def describe(self, level: int) -> str:
        """What +CEREG tells at that level (1 to 5), from `<stat>` on."""
        parts = [str(self.stat)]
        if level >= 2:
            known = self.registered or self.stat == DENIED
            parts += [f'"{self.cell.tac}"', f'"{self.cell.ci}"'] if known else ["", ""]
            parts.append(str(self.cell.act) if known else "")
        if level in (3, 5):
            parts += ["0", str(self.cause)] if self.cause is not None else ["", ""]
        if level >= 4:
            if level == 4:
                parts += ["", ""]
            active, tau = self.granted_psm or (_DEACTIVATED, _DEACTIVATED)
            parts += [f'"{active}"', f'"{tau}"'] if self.registered else ["", ""]
        return ",".join(parts).rstrip(",")

    # -- power saving ---------------------------------------------------------------------------

    @property
    def granted_psm(self) -> tuple[str, str] | None:
        """(active time, periodic TAU) in the network's words; None: no power saving."""
        if not (self.registered and self.psm_wanted and self.cell.psm):
            return None
        tau, active = self.psm_wanted
        return self.cell.active_time or active, self.cell.periodic_tau or tau

    @property
    def granted_edrx(self) -> str | None:
        """The eDRX cycle, 4 bits."""
        if not (self.registered and self.edrx_wanted):
            return None
        return self.cell.edrx or self.edrx_wanted

    def traffic(self) -> None:
        """Something is sent or received: the timers of power saving start anew."""
        self._wake()
        granted = self.granted_psm
        active_s = timer_s(granted[0], _T3324_UNITS_S) if granted else None
        if active_s is not None:
            self._idle = self._clock.call_later(self.cell.idle_after_s + active_s, self._doze)

    def _doze(self) -> None:
        self.asleep = True
        self.on_sleep(True)

    def _wake(self) -> None:
        if self._idle:
            self._idle.cancel()
            self._idle = None
        if self.asleep:
            self.asleep = False
            self.on_sleep(False)


def timer_s(bits: str, units: dict[int, int]) -> float | None:
    """Seconds of a GPRS timer; None when it is deactivated."""
    unit = units.get(int(bits[:3], 2))
    return None if unit is None else unit * int(bits[3:], 2)


def periodic_tau_s(bits: str) -> float | None:
    """Seconds of T3412 extended."""
    return timer_s(bits, dict(enumerate(_T3412_UNITS_S)))
