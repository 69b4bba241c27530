"""kill -9 of the factory server, at moments of chance, while a tray of stations enrols units."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import factorylab
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from imprint_tools.factory import config as configuration
from imprint_tools.factory.client import Enrolled, StationClient
from imprint_tools.factory.people import People
from imprint_tools.issuer import Authority
from imprint_tools.ledger import ENROLLED, open_ledger
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig

STATIONS = 4


class Server:
    """`imprint factory serve` as a process, killed and started again."""

    def __init__(self, folder: Path, passphrase: Path) -> None:
        self._command = [
            Path(sys.executable).with_name("imprint"), "factory", "serve", "--json",
            "--folder", folder, "--passphrase", passphrase,
        ]  # fmt: skip
        self._log = (folder / "server.log").open("ab")
        self.start()

    def start(self) -> None:
        """Returns when it listens."""
        self._process = subprocess.Popen(  # noqa: S603  our own command
            self._command, stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline() + self._process.stdout.readline()
        assert said.startswith(b"{"), said

    def kill(self, how: int = signal.SIGKILL) -> int:
        os.kill(self._process.pid, how)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.wait(factorylab.WAIT_S)

    def close(self) -> None:
        self._log.close()


@pytest.mark.parametrize(
    ("kills", "units"), [(4, 16), pytest.param(60, 250, marks=pytest.mark.slow)]
)
def test_no_unit_is_lost_or_doubled(tmp_path: Path, kills: int, units: int) -> None:
    """Every unit that a station was told of is in DPS, disabled, with that station's key, once;
    DPS, the ledger and the authority know no other."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  no secret
    # As many requests as the DPS likes: what is tested is the kill.
    with AzureCloud(tmp_path / "azure", AzureConfig(operations_per_min=None)) as cloud:
        authority = factorylab.make_authority(tmp_path)
        folder = tmp_path / "factory"
        config = factorylab.make_config(folder, cloud, authority)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        configuration.write(dataclasses.replace(config, listen=("127.0.0.1", port)))
        (tmp_path / "passphrase").write_bytes(factorylab.PASSPHRASE.reveal())
        ledger = open_ledger(config.ledger)
        token = People(ledger).add_station("line-1", "acme")
        server = Server(folder, tmp_path / "passphrase")
        made: list[Enrolled] = []
        left = list(range(units))

        def work() -> None:
            ca = folder / configuration.SERVER_CA
            with StationClient(f"https://localhost:{port}", ca, token) as station:
                while left:
                    place = tmp_path / f"unit-{left.pop()}"
                    made.append(station.enrol(place, {"wifi_ssid": "bench"}))

        threads = [threading.Thread(target=work) for _ in range(STATIONS)]
        for thread in threads:
            thread.start()
        for _ in range(kills):
            threads[0].join(chance.uniform(0.02, 0.8))  # until then, or until all is done
            server.kill()
            server.start()
        for thread in threads:
            thread.join(120)
        assert server.kill(signal.SIGTERM) == 0
        server.close()
        assert len(made) == units
        ids = {one.id for one in made}
        assert len(ids) == units and ledger.counts() == {ENROLLED: units}
        dps = config.dps.dps()
        stored = {entry["registrationId"]: entry for entry in dps.query()}
        dps.close()
        assert stored.keys() == ids
        for one in made:
            pem = (one.identity.parent / "client_cert.pem").read_bytes()
            leaf = x509.load_pem_x509_certificates(pem)[0]
            entry = stored[one.id]
            primary = entry["attestation"]["x509"]["clientCertificates"]["primary"]
            found = primary["info"]["sha256Thumbprint"].upper()
            assert found == leaf.fingerprint(hashes.SHA256()).hex().upper()
            assert entry["provisioningStatus"] == "disabled"
        with Authority.open(authority, factorylab.PASSPHRASE) as opened:
            devices = [entry for entry in opened.entries() if entry.kind == "device"]
            assert {entry.name for entry in devices} == ids
        ledger.close()
        assert "Traceback" not in (folder / "server.log").read_text()


def test_serve_says_where_and_keeps_json_pure(tmp_path: Path) -> None:
    """One JSON document on stdout: URL, port, CA."""
    with AzureCloud(tmp_path / "azure") as cloud:
        folder = tmp_path / "factory"
        config = factorylab.make_config(folder, cloud, factorylab.make_authority(tmp_path))
        configuration.write(config)
        (tmp_path / "passphrase").write_bytes(factorylab.PASSPHRASE.reveal())
        process = subprocess.Popen(  # noqa: S603  our own command
            [Path(sys.executable).with_name("imprint"), "factory", "serve", "--json", "--folder",
             folder, "--passphrase", tmp_path / "passphrase"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline() == b"Ctrl-C ends it\n"
        process.send_signal(signal.SIGINT)
        out, _err = process.communicate(timeout=factorylab.WAIT_S)
        document = json.loads(out)
        assert document["url"] == f"https://localhost:{document['port']}"
        assert process.returncode == 0
