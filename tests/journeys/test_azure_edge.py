"""The journey through a transparent gateway: its chain and name, its outages, its scope."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from azure_bench import GATEWAY, UNIT, EdgeBench
from imprint_tools.endpoints import Endpoint
from imprint_tools.virtual.network import NTP_PORT

MakeBench = Callable[..., EdgeBench]

BOTH = pytest.mark.parametrize("attestation", ["x509", "symmetric-key"])


@BOTH
def test_a_unit_reports_through_its_gateway(make_edge_bench: MakeBench, attestation: str) -> None:
    """It dials the gateway alone, verifies it by its own root, and the hub has it all."""
    bench = make_edge_bench(attestation=attestation)
    bench.board.power_on()
    bench.online()
    told = bench.events("telemetry")[0]
    assert (told["device_id"], told["via"]) == (UNIT, [GATEWAY])
    assert {c.host for c in bench.air.connections if c.port == 8883} == {GATEWAY}
    bench.keeps_its_secrets()


def test_without_a_gateway_it_is_the_hub(make_edge_bench: MakeBench) -> None:
    """A connection string without GatewayHostName leads straight to the hub."""
    bench = make_edge_bench(attestation="symmetric-key")
    bench.burn(
        bench.make_identity(
            connection_string=bench.cloud.connection_string(UNIT).reveal().decode(),
            root_ca=str(bench.cloud.ca_pem.resolve()),
        )
    )
    bench.board.power_on()
    bench.online()
    assert bench.events("telemetry")[0]["via"] == []


def test_the_short_form_names_the_gateway_as_the_host(make_edge_bench: MakeBench) -> None:
    """HostName=GATEWAY without GatewayHostName does, too: name and signature are the gateway's."""
    bench = make_edge_bench(attestation="symmetric-key")
    key = bench.cloud.device_key(UNIT).reveal().decode()
    text = f"HostName={GATEWAY};DeviceId={UNIT};SharedAccessKey={key}"
    bench.burn(bench.make_identity(connection_string=text))
    bench.board.power_on()
    bench.online()
    assert bench.events("telemetry")[0]["via"] == [GATEWAY]


def test_another_root_is_refused(make_edge_bench: MakeBench) -> None:
    """The cloud's root is not the gateway's: the chain does not lead to what was burned."""
    bench = make_edge_bench(attestation="symmetric-key")
    bench.burn(bench.make_identity(root_ca=str(bench.cloud.ca_pem.resolve())))
    bench.board.power_on()
    bench.error(312)


def test_another_name_is_refused(make_edge_bench: MakeBench) -> None:
    """A gateway that goes by another name than its certificate's is none of ours."""
    bench = make_edge_bench(attestation="symmetric-key")
    other = "localhost.plant.example"
    bench.air.routes.append(Endpoint(other, 8883, bench.gateway.target))
    text = bench.cloud.connection_string(UNIT, gateway=other).reveal().decode()
    bench.burn(bench.make_identity(connection_string=text))
    bench.board.power_on()
    bench.error(311)


@BOTH
def test_a_gateway_that_is_away_costs_no_report(
    make_edge_bench: MakeBench, attestation: str
) -> None:
    """Its power fails in the middle: what is reported meanwhile waits in the unit, in order."""
    bench = make_edge_bench(attestation=attestation)
    bench.board.power_on()
    bench.online()
    bench.gateway.down()
    for _ in range(3):
        bench.wait("wait")
    bench.gateway.up()
    bench.online(timeout_s=60)
    last = [bench.reported() for _ in range(4)][-1]
    bench.lost_nothing(last)


def test_a_power_cut_in_an_outage_costs_no_report(make_edge_bench: MakeBench) -> None:
    """What waits in flash is sent after a restart, before anything new."""
    bench = make_edge_bench(attestation="symmetric-key")
    bench.board.power_on()
    bench.online()
    bench.gateway.down()
    for _ in range(4):
        bench.wait("wait")
    bench.board.power_off()
    waiting = bench.outbox()
    assert waiting
    bench.gateway.up()
    bench.board.power_on()
    bench.online()
    bench.until(lambda: all(bench.seen(f"{number:08x}") for number in waiting))
    mids = [event["properties"].get("$.mid") for event in bench.events("telemetry")]
    places = [mids.index(f"{number:08x}") for number in sorted(waiting)]
    assert places == sorted(places)


def test_the_gateways_way_up_is_its_own_affair(make_edge_bench: MakeBench) -> None:
    """Cut off from the hub the gateway takes reports and keeps them; the unit notices nothing."""
    bench = make_edge_bench(attestation="symmetric-key")
    bench.board.power_on()
    bench.online()
    bench.gateway.cut()
    number = int(bench.wait("reported", acked=True).data["id"])
    number = int(bench.wait("reported", acked=True).data["id"])
    assert bench.gateway.waiting > 0
    bench.gateway.mend()
    bench.until(lambda: bench.seen(f"{number:08x}") == 1)
    bench.lost_nothing(number, twice=False)


def test_a_device_outside_of_the_scope_keeps_trying(make_edge_bench: MakeBench) -> None:
    """A gateway that has not heard of the unit refuses it; once it has, the unit is let in. It
    might have been the clock: that is asked for anew."""
    bench = make_edge_bench(attestation="symmetric-key")
    bench.cloud.set_parent(UNIT, None)
    bench.gateway.refresh()
    bench.board.power_on()
    bench.error(507)
    bench.cloud.set_parent(UNIT, GATEWAY)
    bench.gateway.refresh()
    bench.online()
    assert sum(connection.port == NTP_PORT for connection in bench.air.connections) >= 2


def test_a_token_is_renewed_at_the_gateway(make_edge_bench: MakeBench) -> None:
    """As at the hub: a new connection before the token ends, and no report lost or doubled."""
    bench = make_edge_bench(attestation="symmetric-key", sas_ttl_s=15)
    bench.board.power_on()
    bench.online()
    bench.wait("renewed", timeout_s=30)
    bench.lost_nothing(bench.reported(), twice=False)


def test_nested_gateways(make_edge_bench: MakeBench) -> None:
    """A gateway behind a gateway: the unit knows only the nearest one."""
    bench = make_edge_bench(attestation="symmetric-key")
    lower = bench.cloud.gateway("lower.plant.example", parent=GATEWAY)
    bench.cloud.set_parent(UNIT, lower.host)
    lower.refresh()
    bench.air.routes.append(Endpoint(lower.host, 8883, lower.target))
    text = bench.cloud.connection_string(UNIT, gateway=lower.host).reveal().decode()
    bench.burn(bench.make_identity(connection_string=text, root_ca=str(lower.root_ca.resolve())))
    bench.board.power_on()
    bench.online()
    assert bench.events("telemetry")[0]["via"] == [lower.host, GATEWAY]
