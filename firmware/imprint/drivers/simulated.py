"""A driver without a device: for demos, and for a gateway whose bus is not wired yet. Pure.

A point is `name:middle:span`. Its value goes round slowly about the middle, at each poll one step
further, each address at a place of its own; what was set stays.
"""

from micropython import const

from imprint.errors import SetupError

_STEPS = const(16)
_SUBDEVICES_WRONG = const(106)  # errors.py


class Driver:
    def __init__(self, points, bus, feed) -> None:
        self._points: list = []
        self._held: dict = {}  # what was set: (address, name) -> value
        self._turn = 0
        for point in points:
            try:
                name, middle, span = point.split(":")
                self._points.append((name, float(middle), float(span)))
            except ValueError:
                raise SetupError(_SUBDEVICES_WRONG, point)

    def poll(self, address: int) -> dict:
        self._turn += 1
        values = {}
        for name, middle, span in self._points:
            step = abs((self._turn + address) % (2 * _STEPS) - _STEPS) / _STEPS - 0.5
            values[name] = self._held.get((address, name), round(middle + span * step, 3))
        return values

    def command(self, address: int, name: str, params: dict) -> dict:
        if name != "set":
            raise KeyError(name)
        for point in params:
            if point not in [known[0] for known in self._points]:
                raise ValueError(point)
        for point, value in params.items():
            self._held[(address, point)] = value
        return {}
