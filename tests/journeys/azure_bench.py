"""A unit, its access point and the local Azure: by way of DPS, or through a gateway."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imprint_tools import identities, image
from imprint_tools.identities import Identity
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.network import AccessPoint
from journey_bench import KIND, PASSWORD, SSID, UnitBench

UNIT = "3f2a9c1e-7d40-4a6b-9b0f-5c8e21d47a10"
GATEWAY = "edge.plant.example"
HEAP = "96k"

_LOOK_S = 0.02


class AzureBench(UnitBench):
    """`attestation` is how the unit proves itself to DPS: "x509" or "symmetric-key".

    Its enrolment is there and enabled unless `enrolled` is false. `burned` are fields of the
    identity that differ; None leaves one out.
    """

    cloud: AzureCloud

    def __init__(
        self,
        folder: Path,
        content: bytes,
        *,
        config: AzureConfig | None = None,
        attestation: str = "x509",
        enrolled: bool = True,
        **burned: Any,
    ) -> None:
        self.folder = folder
        self.attestation = attestation
        # A device with no grace is tested more strictly than the real hub would.
        self.cloud = AzureCloud(folder / "cloud", config or AzureConfig(retry_after_s=1))
        self.cloud.start()
        self.prepare(enrolled)
        self.air = AccessPoint(SSID, PASSWORD, self.cloud.endpoints)
        super().__init__(
            content, Board(folder / "unit", doors=(), access_point=self.air, heap=HEAP)
        )
        self.identity = self.make_identity(**burned)

    def prepare(self, enrolled: bool) -> None:
        """What the cloud has to know before the unit is made."""
        if self.attestation == "x509":
            self.certificate(UNIT)
        if enrolled:
            self.enrol()

    def certificate(self, name: str) -> None:
        """Files of a certificate of that name: unit.pem, unit.key."""
        issued = azure_pki.self_signed(name)
        (self.folder / "unit.pem").write_bytes(issued.chain_pem)
        (self.folder / "unit.key").write_bytes(issued.key_pem.reveal())

    def enrol(self, **body: Any) -> None:
        """Enrol the unit as it proves itself."""
        if self.attestation == "x509":
            leaf = {"primary": {"certificate": (self.folder / "unit.pem").read_text()}}
            body["attestation"] = {"type": "x509", "x509": {"clientCertificates": leaf}}
        self.cloud.create_enrolment(UNIT, **body)

    def make_identity(self, **burned: Any) -> Identity:
        """An identity for this cloud, valid by the firmware's own rules."""
        raw: dict[str, Any] = {
            "journey": "azure-dps",
            "id_scope": self.cloud.config.id_scope,
            "registration_id": UNIT,
            "attestation": self.attestation,
            "root_ca": str(self.cloud.ca_pem.resolve()),
        }
        if self.attestation == "x509":
            raw |= {"client_cert": "unit.pem", "client_key": "unit.key"}
        elif "group_key" not in burned:
            raw["symmetric_key"] = self.cloud.enrolment_key(UNIT).reveal().decode()
        return self.check(raw | burned)

    def check(self, raw: dict[str, Any]) -> Identity:
        raw = {"wifi_ssid": SSID, "wifi_password": PASSWORD, "interval_s": 1} | raw
        present = {name: value for name, value in raw.items() if value is not None}
        return identities.check(present, origin="the test", folder=self.folder)

    # -- what the cloud says ----------------------------------------------------------------------

    def seen(self, mid: str) -> int:
        """How often the hub has got the message of that id."""
        return sum(event["properties"].get("$.mid") == mid for event in self.events("telemetry"))

    def reported(self, *, timeout_s: float = 30.0) -> int:
        """Wait for an acknowledged report, which the hub must have; its id."""
        number = int(self.wait("reported", acked=True, timeout_s=timeout_s).data["id"])
        self.until(lambda: self.seen(f"{number:08x}") > 0)
        return number

    def until(self, there: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
        """Wait until the cloud shows it."""
        deadline = time.monotonic() + timeout_s
        while not there():
            assert time.monotonic() < deadline, f"it did not come\n{self.transcript()}"
            time.sleep(_LOOK_S)

    def device(self, name: str = UNIT) -> dict[str, Any]:
        """What the console of the cloud shows of the device."""
        return next(d for d in self.cloud.devices() if d["device_id"] == name)

    def registrations(self) -> int:
        """How often DPS has assigned a hub to the unit."""
        return sum(event["status"] == "assigned" for event in self.events("registration"))

    def outbox(self) -> set[int]:
        files = image.unpack_vfs(self.read()[KIND.vfs.offset : KIND.vfs.end])
        # CRC, whether it was sent, its number
        return {int.from_bytes(d[5:9]) for path, d in files.items() if path.startswith("outbox/")}

    def lost_nothing(self, last: int, *, twice: bool = True) -> None:
        """Require that the hub has every report up to that one, in order; `twice`: at least."""
        mids = [event["properties"].get("$.mid") for event in self.events("telemetry")]
        numbers = [int(mid, 16) for mid in mids if mid]
        firsts = list(dict.fromkeys(numbers))
        wanted = list(range(firsts[0], last + 1))
        assert firsts[: len(wanted)] == wanted, (firsts, last)
        assert twice or len(numbers) == len(firsts), numbers

    def keeps_its_secrets(self) -> None:
        """Require that the console has shown no key and no token."""
        shown = "\n".join(map(str, self.items))
        assert "SharedAccess" not in shown and "PRIVATE" not in shown
        for name in ("symmetric_key", "connection_string"):
            if name in self.identity.fields:
                value = self.identity.fields[name]
                assert value.reveal().decode() not in shown  # type: ignore[union-attr]


class EdgeBench(AzureBench):
    """A unit with a connection string, behind a gateway with a root of its own."""

    def prepare(self, enrolled: bool) -> None:
        self.gateway = self.cloud.gateway(GATEWAY)
        if self.attestation == "x509":
            self.certificate(UNIT)
        if enrolled:
            self.create()

    def create(self) -> None:
        thumbprint = None
        if self.attestation == "x509":
            from imprint_tools import certificates
            from imprint_tools.localcloud.azure.certificates import sha256

            thumbprint = sha256(certificates.load((self.folder / "unit.pem").read_bytes())[0])
        self.cloud.create_device(UNIT, thumbprint=thumbprint, gateway=GATEWAY)

    def make_identity(self, **burned: Any) -> Identity:
        raw: dict[str, Any] = {
            "journey": "azure-edge",
            "connection_string": self.cloud.connection_string(UNIT, gateway=GATEWAY)
            .reveal()
            .decode(),
            "root_ca": str(self.gateway.root_ca.resolve()),
        }
        if self.attestation == "x509":
            raw |= {"client_cert": "unit.pem", "client_key": "unit.key"}
        return self.check(raw | burned)
