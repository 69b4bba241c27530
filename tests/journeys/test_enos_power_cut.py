"""Pull the plug at every flash operation of an edge's first boot: whatever was issued until then
is kept or had again, and all its sub-devices are online at the next power-on.

Three edges: one applies for a certificate, activates itself and creates over REST; one has its
secret and creates over MQTT; one activates, with their product's secret, those who are there. All
have a sub-device whose secret is burned, too. `make test` tries a sample, `make test-all` every
operation, whole and torn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from edge_bench import GATEWAY_DK, GATEWAY_PK, SUB_PK, EdgeBench, listed
from imprint_tools.virtual.devkit import State

_ISSUED = ("dyn-1", "dyn-2")
_BURNED = "static-1"
WAYS = ("certificate", "secret", "product")
_SAMPLE = 4
_BOOT_S = 60.0


class EdgeFirstBoot:
    """One edge that is made new again and again; `way` is one of WAYS."""

    def __init__(self, bench: EdgeBench, way: str) -> None:
        self.bench = bench
        self._way = way
        secret = bench.cloud.create_device(SUB_PK, _BURNED).reveal().decode()
        bench.list["subdevices"] = [
            *listed(*_ISSUED),
            {"device_key": _BURNED, "table": "sim", "address": 9, "device_secret": secret},
        ]
        bench.identity = bench.make_identity(**self._burned())
        self.renew()
        before = bench.board.flash.ops
        bench.board.power_on()
        bench.all_online(3)
        bench.reported()
        self.operations = range(1, bench.board.flash.ops - before + 1)

    def _burned(self) -> dict[str, Any]:
        cloud = self.bench.cloud
        if self._way == "secret":
            return {"subdevice_registration": "mqtt"}
        if self._way == "product":
            self.bench.create(*_ISSUED, bound=True)
            secret = cloud.product_secret(SUB_PK).reveal().decode()
            return {"subdevice_registration": "none", "subdevice_product_secret": secret}
        cloud.require_certificate(GATEWAY_PK)
        secret = cloud.product_secret(GATEWAY_PK).reveal().decode()
        return {
            "secure_mode": 3,
            "device_secret": None,
            "product_secret": secret,
            "certificate": "apply",
        }

    def renew(self) -> None:
        """An edge that has just been burned, and a cloud that has issued nothing to it."""
        cloud = self.bench.cloud
        self.bench.burn(self.bench.identity)
        for device in cloud.devices():
            if device["device_key"] not in _ISSUED:
                continue
            if self._way == "product":
                cloud.reset_activation(SUB_PK, device["device_key"])
            else:
                cloud.delete_device(SUB_PK, device["device_key"])
        cloud.reset_activation(GATEWAY_PK, GATEWAY_DK)

    def asked(self) -> int:
        """How often the cloud was asked to issue something, or to look it up."""
        issuing = ("api", "activated", "registered")
        return sum(len(self.bench.events(kind)) for kind in issuing)

    def cut_at(self, number: int, *, torn: bool) -> None:
        """Cut the power at that operation of a first boot, then require what was promised."""
        bench = self.bench
        self.renew()
        bench.board.cut(number, torn=torn)
        bench.board.power_on()
        try:
            bench.board.wait_for(State.OFF, _BOOT_S)
            bench.board.power_on()
            bench.all_online(3)
            bench.reported()
            asked = self.asked()
            bench.power_cycle()
            bench.all_online(3)
            assert self.asked() == asked, "what it has been given is kept"
        except (AssertionError, TimeoutError) as error:
            error.add_note(f"power cut at operation {number} of {len(self.operations)}, {torn=}")
            raise


@pytest.fixture(scope="module", params=WAYS)
def first_boot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, firmware: bytes
) -> Iterator[EdgeFirstBoot]:
    """Shared: a boot takes seconds, and nothing of one edge is left in the next."""
    with EdgeBench(tmp_path_factory.mktemp("edge-cuts"), firmware) as bench:
        yield EdgeFirstBoot(bench, request.param)


def test_a_first_boot_may_end_anywhere(first_boot: EdgeFirstBoot) -> None:
    """A cut at operations spread over all of it, whole and torn in turns."""
    count = len(first_boot.operations)
    assert 4 < count < 200
    for turn in range(_SAMPLE):
        first_boot.cut_at(1 + turn * (count - 2) // (_SAMPLE - 1), torn=turn % 2 == 1)


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True])
def test_every_operation(first_boot: EdgeFirstBoot, torn: bool) -> None:
    """The same at every operation, both whole and torn."""
    for number in first_boot.operations:
        first_boot.cut_at(number, torn=torn)
