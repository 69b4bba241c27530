"""Azure by way of DPS with a certificate: time to the first report, and the smallest heap for it.

Beside it `azure-iot-device`, the vendor's SDK, doing the same: register, connect, send one message
and wait for its acknowledgement, at the same local Azure, through the same kind of relay.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heap import smallest
from imprint_tools import identities
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig
from imprint_tools.localcloud.azure.config import GLOBAL_DPS_HOST
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.network import AccessPoint
from lab import PASSWORD, SSID, Lab, NotOnlineError, first_report, with_nvs
from measure import Figure, Row, Section, alternate
from telemetry import Relay, Way

_DEVICE = Path(__file__).with_name("azure_sdk_device.py")
_HEAP = "96k"
_KIB = 1024
_PATIENCE_S = 30.0
_MQTT = 8883
# As long as the SDK waits before its first look, whatever it is told: neither waits longer.
_RETRY_AFTER_S = 2


class Bench:
    """A local Azure, and units for it that were never there before."""

    def __init__(self, lab: Lab, cloud: AzureCloud, folder: Path) -> None:
        self.cloud = cloud
        self.folder = folder
        self._firmware = lab.firmware
        self._made = 0

    def air(self) -> AccessPoint:
        return AccessPoint(SSID, PASSWORD, self.cloud.endpoints)

    def enrolled(self) -> tuple[str, dict[str, Any]]:
        """A new unit with a certificate of its own: its name, and its identity's fields."""
        self._made += 1
        name = f"bench-{self._made}"
        issued = azure_pki.self_signed(name)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(issued.chain_pem)
        key.touch(mode=0o600)
        key.write_bytes(issued.key_pem.reveal())
        leaf = {"primary": {"certificate": issued.chain_pem.decode()}}
        self.cloud.create_enrolment(
            name, attestation={"type": "x509", "x509": {"clientCertificates": leaf}}
        )
        return name, {
            "journey": "azure-dps",
            "id_scope": self.cloud.config.id_scope,
            "registration_id": name,
            "attestation": "x509",
            "client_cert": certificate.name,
            "client_key": key.name,
            "root_ca": str(self.cloud.ca_pem.resolve()),
            "wifi_ssid": SSID,
            "wifi_password": PASSWORD,
            "interval_s": 1,
        }

    def unit(self) -> bytes:
        """The flash of such a unit, before its first boot."""
        _, fields = self.enrolled()
        return with_nvs(
            self._firmware, identities.check(fields, origin="the bench", folder=self.folder)
        )

    @contextmanager
    def board(self, content: bytes, heap: str, air: AccessPoint | None = None) -> Iterator[Board]:
        """A board with that flash and without power."""
        path = self.folder / "flash.bin"
        path.unlink(missing_ok=True)
        with Board(
            self.folder, doors=(), access_point=air or self.air(), heap=heap
        ) as board:  # blank: nothing boots
            board.power_off()
            path.write_bytes(content)
            yield board


def measure(lab: Lab) -> Section:
    """Time in turns with the SDK, and the heap by bisection."""
    folder = lab.folder / "azure"
    folder.mkdir()
    config = AzureConfig(retry_after_s=_RETRY_AFTER_S)
    with AzureCloud(folder / "cloud", config) as cloud:
        bench = Bench(lab, cloud, folder)
        with Relay(bench.air()) as relay:
            ours, theirs = alternate(
                3 if lab.quick else 5, lambda: _unit(bench), lambda: _sdk(bench, relay)
            )
        rows = _heap(bench, 1 if lab.quick else 3)
    who = "azure-iot-device"

    def row(what: str, unit: str, field: str) -> Row:
        one, other = ([getattr(way, field) for way in ways] for ways in (ours, theirs))
        return Row(what, unit, Figure.of(one), Figure.of(other), who)

    return Section(
        "Azure by way of DPS, with X.509: power-on to the first acknowledged report",
        "From power-on (the process's start) to the PUBACK of the first report. Both register at "
        f"DPS, which asks to wait {_RETRY_AFTER_S} s before it assigns a hub; that wait is in "
        "the times. The unit's way has the start of 32-bit MicroPython, joining and setting the "
        "clock in it, the SDK's the start of CPython; the next two rows as in the section on "
        "Aliyun. Heap: the smallest with which every boot got its first report acknowledged, the "
        "virtual board's own share included, which an ESP32 does not have.",
        (
            row("from power-on", "s", "seconds"),
            row("without the start", "s", "without_start_s"),
            row("cloud alone: register, log in, report", "s", "cloud_s"),
            row("bytes to the cloud", "B", "up"),
            row("bytes from the cloud", "B", "down"),
            *rows,
        ),
    )


def _heap(bench: Bench, runs: int) -> tuple[Row, ...]:
    with bench.board(bench.unit(), "128k") as board:
        board.power_on()
        first_report(board, _PATIENCE_S)
        board.power_off()
        provisioned = board.flash.path.read_bytes()

    def first(kib: int) -> bool:
        return all(_gets_online(bench, bench.unit(), kib) for _ in range(runs))

    def second(kib: int) -> bool:
        return all(_gets_online(bench, provisioned, kib) for _ in range(runs))

    return (
        Row("heap, first boot: register, log in, report", "B",
            Figure.of([smallest(first) * _KIB]), aim=f"<= {96 * _KIB:,}"),
        Row("heap, second boot: log in, report", "B", Figure.of([smallest(second) * _KIB])),
    )  # fmt: skip


def _gets_online(bench: Bench, content: bytes, kib: int) -> bool:
    with bench.board(content, f"{kib}k") as board:
        board.power_on()
        try:
            first_report(board, _PATIENCE_S)
        except NotOnlineError:
            return False
    return True


def _unit(bench: Bench) -> Way:
    air, content = bench.air(), bench.unit()
    with bench.board(content, _HEAP, air) as board:
        began = time.perf_counter()
        board.power_on()
        moments = first_report(board, _PATIENCE_S)
        reported = moments["reported"]
        return Way(
            reported.at_s - began,
            (reported.board_ms - moments["boot"].board_ms) / 1000,
            (reported.board_ms - moments["state REGISTER"].board_ms) / 1000,
            air.bytes_up,
            air.bytes_down,
        )


def _sdk(bench: Bench, relay: Relay) -> Way:
    name, fields = bench.enrolled()
    hosts = (GLOBAL_DPS_HOST, *bench.cloud.config.hub_hosts)
    orders = {
        "host": GLOBAL_DPS_HOST,
        "ports": {host: relay.port(host, _MQTT) for host in hosts},
        "id_scope": fields["id_scope"],
        "name": name,
        "certificate": str(bench.folder / fields["client_cert"]),
        "key": str(bench.folder / fields["client_key"]),
        "ca": bench.cloud.ca_pem.read_text(),
    }
    up, down = relay.air.bytes_up, relay.air.bytes_down
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - this interpreter, the file beside
        [sys.executable, str(_DEVICE)],
        input=json.dumps(orders) + "\n",
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the vendor's SDK failed: {done.stderr}")
    moments: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    without_start_s = moments["reported"] - moments["imported"]
    return Way(
        moments["reported"] - began,
        without_start_s,
        without_start_s,
        relay.air.bytes_up - up,
        relay.air.bytes_down - down,
    )
