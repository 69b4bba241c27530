"""The auto-reset circuit of a dev kit: what DTR and RTS do to EN and IO0. Pure."""

from __future__ import annotations

from enum import Enum


class Edge(Enum):
    """What a change of the lines does to the chip."""

    NONE = "nothing"
    HOLD = "EN is low: held in reset"
    CHARGE = "EN rises slowly and IO0 is not low yet"
    RUN = "out of reset with IO0 high: boot from flash"
    DOWNLOAD = "out of reset with IO0 low: serial loader"


class ResetCircuit:
    """EN and IO0 as DTR and RTS drive them through two transistors.

    RTS alone pulls EN low, DTR alone pulls IO0 low; both or neither leave both pins high. Hosts
    that cannot set both lines at once pass through "both" on the way from reset to download:
    there the capacitor at EN still holds the chip in reset, and IO0 is sampled when it is
    charged. Source: Espressif's ESP32-DevKitC schematic and esptool's "Boot Mode Selection".
    """

    # An RFC 2217 client takes 50 to 150 ms from one line to the other, so the capacitor is large
    CHARGE_S = 0.3

    def __init__(self) -> None:
        self._held = False
        self._charging = False

    def set(self, *, dtr: bool, rts: bool) -> Edge:
        """The lines are now so (True = asserted). After CHARGE, call `charged` in CHARGE_S."""
        if rts and not dtr:
            was_held, self._held, self._charging = self._held, True, False
            return Edge.NONE if was_held else Edge.HOLD
        in_reset = self._held or self._charging
        if not in_reset:
            return Edge.NONE
        if rts and dtr:
            started = self._held
            self._held, self._charging = False, True
            return Edge.CHARGE if started else Edge.NONE
        self._held = self._charging = False
        return Edge.DOWNLOAD if dtr else Edge.RUN

    def charged(self) -> Edge:
        """CHARGE_S have passed: EN is high. NONE when the lines decided before."""
        if not self._charging:
            return Edge.NONE
        self._charging = False
        return Edge.RUN
