"""An edge with real Modbus frames on its UART: slaves that are well, and slaves that are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_bench import SUB_PK, EdgeBench
from imprint_tools.virtual.modbus import ModbusBus, Slave

POINTS = ["power:i:30775:s32", "limit:h:40915:u32", "temperature:i:30953:s16:0.1", "on:c:5:bit"]
TABLES = {"inv": {"driver": "modbus", "points": POINTS}}


def inverter(power: int) -> Slave:
    slave = Slave(coils={5: True})
    slave.put(30775, power, "s32")
    slave.put(40915, 10_000, "u32")
    slave.put(30953, -55, "s16")
    return slave


class Line(EdgeBench):
    """Three inverters, at 1 to 3."""

    def __init__(self, folder: Path, content: bytes) -> None:
        entries = [
            {"device_key": f"inv-{at}", "table": "inv", "address": at} for at in range(1, 4)
        ]
        bus = {"id": 1, "baudrate": 19200}
        super().__init__(folder, content, subdevices=entries, tables=TABLES, bus=bus)
        slaves = {at: inverter(at * 1000) for at in range(1, 4)}
        self.bus = ModbusBus(self.board.uarts.far_end(1), slaves)

    def latest(self, key: str) -> dict[str, Any]:
        """The values that the cloud has of a sub-device."""
        return {name: p["value"] for name, p in self.device(key)["measurepoints"].items()}

    def reports(self, count: int) -> None:
        for _ in range(count):
            self.reported()


@pytest.fixture
def line(tmp_path: Path, firmware: bytes) -> Iterator[Line]:
    with Line(tmp_path, firmware) as bench, bench.bus:
        yield bench


def test_measured(line: Line) -> None:
    """What the slaves' registers hold is what the cloud has, scaled and signed."""
    line.board.power_on()
    line.all_online(3)
    line.reports(3)
    for at in (1, 2, 3):
        expected = {"power": at * 1000, "limit": 10_000, "temperature": -5.5, "on": 1}
        assert line.latest(f"inv-{at}") == expected
    line.bus.slaves[2].put(30775, -7, "s32")
    line.reports(3)
    assert line.latest("inv-2")["power"] == -7


def test_commanded(line: Line) -> None:
    """The cloud sets a register and a coil of one slave; what cannot be set is said so."""
    line.board.power_on()
    line.all_online(3)
    number = line.cloud.set_measurepoints(SUB_PK, "inv-3", {"limit": 5000, "on": 0})
    line.cloud.event_log.wait("command-reply", id=number, code=200, timeout_s=20)
    slave = line.bus.slaves[3]
    assert (slave.registers[40916], slave.coils[5]) == (5000, False)
    number = line.cloud.set_measurepoints(SUB_PK, "inv-3", {"power": 1})
    line.cloud.event_log.wait("command-reply", id=number, code=1200, timeout_s=20)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"silent": True}, 250),
        ({"late_s": 1.2}, 250),
        ({"bad_crc": True}, 251),
        ({"noise": b"\xff\x00"}, 251),
        ({"exception": 2}, 252),
        ({"exception": 6}, 253),
    ],
    ids=str,
)
def test_bad_slave(line: Line, fault: dict[str, Any], code: int) -> None:
    """A slave that is silent, slow, garbled or exceptional is named once, and offline when it is
    so again; the others report, and so does this one when it is well."""
    for name, value in fault.items():
        setattr(line.bus.slaves[2], name, value)
    line.board.power_on()
    error = line.error(code)
    assert error.data["detail"].startswith("inv-2: slave 2")
    line.wait("subdevices", online=2)
    line.reports(2)
    assert line.online_keys() == {"inv-1", "inv-3"}
    assert line.latest("inv-1")["power"] == 1000 and line.latest("inv-3")["power"] == 3000
    assert not line.latest("inv-2")
    told = [i for i in line.items if getattr(i, "name", "") == "error"]
    assert len(told) == 1
    for name in fault:
        setattr(line.bus.slaves[2], name, getattr(Slave(), name))
    line.wait("subdevice", key="inv-2", to="answers")
    line.all_online(3)
    line.reports(3)
    assert line.latest("inv-2")["power"] == 2000
