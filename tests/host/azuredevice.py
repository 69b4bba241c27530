"""A device of the local Azure that is nothing but bytes: what no SDK would say, it can."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from azurerest import token
from imprint_tools.localcloud.azure import pki as azure_pki
from imprint_tools.localcloud.azure.cloud import AzureCloud
from rawmqtt import RawClient

DPS_HOST = "global.azure-devices-provisioning.net"
HUB_HOST = "imprint-hub.azure-devices.net"
DPS_ANSWERS = "$dps/registrations/res/#"


class DpsDevice(RawClient):
    """A connection to the provisioning service."""

    def __init__(
        self, cloud: AzureCloud, name: str, certificate: tuple[Path, Path] | None = None
    ) -> None:
        super().__init__(cloud, host=DPS_HOST, certificate=certificate)
        self.name = name
        self.scope = cloud.config.id_scope

    def enter(self, key: str | None = None, *, subscribe: bool = True, **options: Any) -> int:
        """CONNECT with a token made of the key, or with none; the CONNACK's code."""
        resource = f"{self.scope}/registrations/{self.name}"
        password = None if key is None else token(resource, key, policy="registration")
        username = f"{resource}/api-version=2019-03-31&ClientVersion=imprint"
        code = self.connect(self.name, username, options.pop("password", password), **options)
        if code == 0 and subscribe:
            assert self.subscribe(DPS_ANSWERS) == b"\x01"
        return code

    def ask(self, topic: str, payload: bytes) -> tuple[str, Any]:
        """Publish with QoS 1; the answer's topic below `res/`, and its JSON."""
        self.publish(topic, payload, packet_id=5)
        assert self.packet() == (0x40, b"\x00\x05")
        answer, document = self.json()
        return answer.removeprefix("$dps/registrations/res/"), document

    def register(self, rid: str = "1", payload: bytes | None = None) -> tuple[str, Any]:
        body = json.dumps({"registrationId": self.name}).encode() if payload is None else payload
        return self.ask(f"$dps/registrations/PUT/iotdps-register/?$rid={rid}", body)

    def poll(self, operation_id: str, rid: str = "2") -> tuple[str, Any]:
        begin = "$dps/registrations/GET/iotdps-get-operationstatus/"
        return self.ask(f"{begin}?$rid={rid}&operationId={operation_id}", b" ")

    def provision(self) -> tuple[str, Any]:
        """Register and poll until there is another answer than 202."""
        topic, document = self.register()
        while topic.startswith("202/"):
            topic, document = self.poll(document["operationId"])
        return topic, document


class HubDevice(RawClient):
    """A connection to a hub, or to a gateway before it."""

    def __init__(
        self,
        cloud: AzureCloud,
        device_id: str,
        *,
        hub: str = HUB_HOST,
        host: str | None = None,
        certificate: tuple[Path, Path] | None = None,
        ca: Path | None = None,
    ) -> None:
        super().__init__(cloud, host=host or hub, certificate=certificate, ca=ca)
        self.device_id = device_id
        self.hub = hub
        self._packet_id = 10

    def enter(self, key: str | None = None, **options: Any) -> int:
        """CONNECT with a token made of the key, or with none; the CONNACK's code."""
        username = options.pop("username", f"{self.hub}/{self.device_id}/?api-version=2021-04-12")
        resource = options.pop("resource", f"{self.hub}/devices/{self.device_id}")
        expiry = options.pop("expiry", None)
        password = None if key is None else token(resource, key, expiry=expiry)
        password = options.pop("password", password)
        client_id = options.pop("client_id", self.device_id)
        return self.connect(client_id, username, password, **options)

    def tell(self, payload: bytes, bag: str = "") -> bool:
        """Telemetry with QoS 1: was it acknowledged?"""
        self._packet_id += 1
        topic = f"devices/{self.device_id}/messages/events/{bag}"
        self.publish(topic, payload, packet_id=self._packet_id)
        return self.packet() == (0x40, struct.pack(">H", self._packet_id))

    def twin(self, rid: str = "1") -> tuple[str, bytes]:
        """Ask for the twin with QoS 0; the answer's topic below `res/`, and its payload."""
        return self._twin("$iothub/twin/GET/?$rid=" + rid, b"")

    def report(self, payload: bytes, rid: str = "2") -> tuple[str, bytes]:
        return self._twin(f"$iothub/twin/PATCH/properties/reported/?$rid={rid}", payload)

    def _twin(self, topic: str, payload: bytes) -> tuple[str, bytes]:
        self.publish(topic, payload)
        answer, found, packet_id = self.message()
        if packet_id:
            self.acknowledge(packet_id)
        return answer.removeprefix("$iothub/twin/res/"), found

    def acknowledge(self, packet_id: int) -> None:
        self.send(b"\x40\x02" + struct.pack(">H", packet_id))


def files(folder: Path, issued: azure_pki.Issued) -> tuple[Path, Path]:
    """A certificate with what is above it, and its key."""
    name = f"{issued.certificate.serial_number:x}"
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(issued.chain_pem)
    key.write_bytes(issued.key_pem.reveal())
    return chain, key


def by_certificate(issued: azure_pki.Issued, *, group: bool = False) -> dict[str, Any]:
    """An enrolment's attestation."""
    field = "signingCertificates" if group else "clientCertificates"
    pem = azure_pki.certificates.pem(issued.certificate).decode()
    return {"type": "x509", "x509": {field: {"primary": {"certificate": pem}}}}
