"""What the local Azure knows: enrolments, registrations, device identities and their twins."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from imprint_tools.localcloud.azure import certificates
from imprint_tools.localcloud.azure.enrolment import Enrolment, new_etag, new_key
from imprint_tools.localcloud.azure.error import utc_text
from imprint_tools.localcloud.azure.twin import Twin
from imprint_tools.localcloud.datafile import DataFile, random_text
from imprint_tools.secret import Secret

SAS, SELF_SIGNED, AUTHORITY = "sas", "selfSigned", "certificateAuthority"


@dataclass
class C2dMessage:
    """A message to a device that has not acknowledged it. `body` is base64."""

    id: str
    properties: dict[str, str]
    body: str

    @property
    def payload(self) -> bytes:
        return base64.b64decode(self.body)


@dataclass(frozen=True)
class Message:
    """Telemetry. `at`: when it was taken, seconds since 1970; `via`: the gateways it passed."""

    device_id: str
    properties: Mapping[str, str | None]
    payload: bytes
    at: float
    via: tuple[str, ...] = ()

    def stored(self) -> dict[str, Any]:
        return vars(self) | {
            "properties": dict(self.properties),
            "payload": base64.b64encode(self.payload).decode(),
        }

    @classmethod
    def restored(cls, entry: dict[str, Any]) -> Message:
        payload = base64.b64decode(entry["payload"])
        return cls(**entry | {"payload": payload, "via": tuple(entry["via"])})


@dataclass
class Device:
    """An identity at a hub. `auth`: SAS, SELF_SIGNED (by thumbprint) or AUTHORITY. `parent`: the
    gateway in whose scope it lies. `edge`: it is a gateway itself."""

    device_id: str
    auth: str = SAS
    keys: tuple[Secret, ...] = field(default_factory=lambda: (new_key(), new_key()))
    thumbprints: tuple[str, ...] = ()
    enabled: bool = True
    edge: bool = False
    parent: str | None = None
    etag: str = field(default_factory=lambda: random_text(16))
    generation: str = field(default_factory=lambda: random_text(18))
    twin: Twin = field(default_factory=Twin)
    c2d: list[C2dMessage] = field(default_factory=list)
    last_seen: float | None = None

    def stored(self) -> dict[str, Any]:
        return vars(self) | {
            "keys": [key.reveal().decode() for key in self.keys],
            "twin": asdict(self.twin),
            "c2d": [asdict(message) for message in self.c2d],
        }

    @classmethod
    def restored(cls, entry: dict[str, Any]) -> Device:
        return cls(**entry | {
            "keys": tuple(Secret(key) for key in entry["keys"]),
            "thumbprints": tuple(entry["thumbprints"]),
            "twin": Twin(**entry["twin"]),
            "c2d": [C2dMessage(**message) for message in entry["c2d"]],
        })  # fmt: skip


@dataclass
class Registration:
    """What became of a device that registered. `status` is the vendor's: assigned, failed or
    disabled. `hub` and `device_id` outlive a refusal: a device keeps its hub. `error`: of a failed
    one, code and message."""

    registration_id: str
    status: str
    operation_id: str = ""
    hub: str | None = None
    device_id: str | None = None
    substatus: str | None = None
    group: str | None = None
    attestation: str = "symmetricKey"
    error: tuple[int, str] | None = None
    created: str = field(default_factory=utc_text)
    updated: str = field(default_factory=utc_text)
    etag: str = field(default_factory=new_etag)

    def shown(self) -> dict[str, Any]:
        """As a device and the service see it."""
        assigned = self.status == "assigned"
        document: dict[str, Any] = {
            "registrationId": self.registration_id,
            "createdDateTimeUtc": self.created,
            "assignedHub": self.hub if assigned else None,
            "deviceId": self.device_id if assigned else None,
            "status": self.status,
            "substatus": self.substatus if assigned else None,
            "lastUpdatedDateTimeUtc": self.updated,
            "etag": self.etag,
        }
        if self.error is not None:
            document |= {"errorCode": self.error[0], "errorMessage": self.error[1]}
        return {key: value for key, value in document.items() if value is not None}


class AzureData(DataFile):
    """Not thread-safe: one loop owns it. Registration ids are keys without regard to case;
    `stores` are the gateways' disks."""

    LOSS = "be enrolled again"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.policy_keys: dict[str, Secret] = {}
        self.enrolments: dict[str, Enrolment] = {}
        self.groups: dict[str, Enrolment] = {}
        self.registrations: dict[str, Registration] = {}
        self.authorities: dict[str, str] = {}
        self.devices: dict[str, dict[str, Device]] = {}
        self.stores: dict[str, deque[Message]] = {}

    def policy_key(self, host: str) -> Secret:
        """The key that a service's clients sign with; made when first asked for."""
        if host not in self.policy_keys:
            self.policy_keys[host] = new_key()
            self.changed()
        return self.policy_keys[host]

    def certificate_authorities(self) -> dict[str, list[x509.Certificate]]:
        """The CAs that were uploaded, by name."""
        return {name: [certificates.load(text)] for name, text in self.authorities.items()}

    def hub_devices(self, host: str) -> dict[str, Device]:
        return self.devices.setdefault(host, {})

    def _read(self, document: dict[str, Any]) -> None:
        self.policy_keys = {host: Secret(key) for host, key in document["policy_keys"].items()}
        self.enrolments = _enrolments(document["enrolments"])
        self.groups = _enrolments(document["groups"])
        found = [Registration(**entry) for entry in document["registrations"]]
        self.registrations = {entry.registration_id.casefold(): entry for entry in found}
        self.authorities = dict(document["authorities"])
        self.devices = {
            host: {entry["device_id"]: Device.restored(entry) for entry in entries}
            for host, entries in document["devices"].items()
        }
        self.stores = {
            name: deque(map(Message.restored, entries))
            for name, entries in document["stores"].items()
        }

    def _written(self) -> dict[str, Any]:
        return {
            "policy_keys": {host: key.reveal().decode() for host, key in self.policy_keys.items()},
            "enrolments": [entry.stored() for entry in self.enrolments.values()],
            "groups": [entry.stored() for entry in self.groups.values()],
            "registrations": [asdict(entry) for entry in self.registrations.values()],
            "authorities": self.authorities,
            "devices": {
                host: [device.stored() for device in devices.values()]
                for host, devices in self.devices.items()
            },
            "stores": {
                name: [message.stored() for message in store]
                for name, store in self.stores.items()
            },
        }


def _enrolments(entries: Iterable[Mapping[str, Any]]) -> dict[str, Enrolment]:
    found = [Enrolment.restored(dict(entry)) for entry in entries]
    return {entry.name.casefold(): entry for entry in found}
