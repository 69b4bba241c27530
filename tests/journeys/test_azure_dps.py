"""The journey by way of Azure's provisioning service, and what goes wrong on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from azure_bench import AzureBench

MakeBench = Callable[..., AzureBench]


@pytest.mark.parametrize("attestation", ["x509", "symmetric-key"])
def test_a_unit_provisions_itself_and_reports(
    make_azure_bench: MakeBench, attestation: str
) -> None:
    """First power-on: DPS names the hub, and the first report is there."""
    bench = make_azure_bench(attestation=attestation)
    bench.board.power_on()
    bench.wait("registered")
    bench.online()
    assert bench.device()["online"]
    bench.keeps_its_secrets()
