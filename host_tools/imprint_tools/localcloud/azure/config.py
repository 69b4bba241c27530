"""How the local Azure is set up, and which of its refusals a CONNACK tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imprint_tools.localcloud import pki
from imprint_tools.localcloud.broker import BAD_USERNAME_OR_PASSWORD, NOT_AUTHORIZED
from imprint_tools.localcloud.link import Limits

GLOBAL_DPS_HOST = "global.azure-devices-provisioning.net"
POLICIES = ("hashed", "geoLatency", "static", "custom")

REFUSALS: Mapping[str, int] = {
    # Reported for DPS: a bad certificate, or a client identifier that is not the registration id.
    "certificate-wrong": NOT_AUTHORIZED,
    "client-id-wrong": NOT_AUTHORIZED,
    # Inferred.
    "username-malformed": BAD_USERNAME_OR_PASSWORD,
}
"""Reason: CONNACK code; every other reason is NOT_AUTHORIZED, as the vendor's SDKs expect."""


@dataclass(frozen=True)
class GatewayConfig:
    """A gateway at that host name; `parent` is the host name of the one that it stands behind."""

    host: str
    parent: str | None = None

    @property
    def device_id(self) -> str:
        """Its own identity at the hub."""
        return self.host.split(".", 1)[0]


@dataclass(frozen=True)
class AzureConfig:
    """How the local Azure is set up.

    Provisioning:
    `retry_after_s`: what a 202 asks for; None leaves it out, and the vendor's SDKs wait 2 s.
    `polls`: how often a poll is answered with 202 before the assignment.
    `disabled_after_poll`: is "disabled" the answer to a poll, not to the registration? Not known
    of the real one, so both must work for a device.
    `sas_refused_at`, `certificate_refused_at`: "register" (401002) or "connect" (CONNACK 5).
    `registrations_per_min`, `polls_per_10_s` (a device's), `operations_per_min` (the service's):
    the documented throttles; None for none. `throttle_retry_after_s`: what a 429 asks for.
    `get_returns_certificate`: does GET of an enrolment return the certificate, or its `info`
    alone? `info_keeps_certificate`: does a PUT of such `info` keep the certificate that is stored?
    `put_overwrites`: does a PUT without If-Match overwrite? None of the three is documented.

    Hubs:
    `hubs` are linked to the provisioning service; `allocation` and `static_hub` are its defaults.
    `sas_grace_s`: how long past its expiry a token holds. The real hub is reported to allow some
    minutes; none is the stricter test of a device. `gateway_grace_s`: the gateway's, from its
    source. `gateways` stand before the first hub; `scope_refresh_s`: how old their list of
    children may grow; `gateway_clients_max`: how many may be connected; `store_max` messages for
    `store_life_s` are what they keep while the way up is cut.

    `certificate`: one of pki.VARIANTS.
    """

    id_scope: str = "0ne00123456"
    dps: str = "imprint-dps"
    hubs: tuple[str, ...] = ("imprint-hub",)
    allocation: str = "hashed"
    static_hub: str | None = None
    retry_after_s: int | None = 3
    polls: int = 0
    disabled_after_poll: bool = False
    sas_refused_at: str = "register"
    certificate_refused_at: str = "connect"
    registrations_per_min: int | None = 1000
    operations_per_min: int | None = 1000
    polls_per_10_s: int | None = 5
    throttle_retry_after_s: int | None = 5
    get_returns_certificate: bool = False
    info_keeps_certificate: bool = True
    put_overwrites: bool = True
    sas_grace_s: float = 0.0
    gateway_grace_s: float = 300.0
    gateways: tuple[GatewayConfig, ...] = ()
    scope_refresh_s: float = 3600.0
    gateway_clients_max: int = 100
    store_max: int = 10_000
    store_life_s: float = 7200.0
    refusals: Mapping[str, int] = field(default_factory=dict)
    certificate: str = pki.GOOD
    key_type: str = "ec"
    limits: Limits = field(default_factory=lambda: Limits(keepalive_max_s=1767.0))

    @property
    def dps_host(self) -> str:
        return f"{self.dps}.azure-devices-provisioning.net"

    @property
    def hub_hosts(self) -> tuple[str, ...]:
        return tuple(f"{name}.azure-devices.net" for name in self.hubs)

    def connack(self, reason: str) -> int:
        return {**REFUSALS, **self.refusals}.get(reason, NOT_AUTHORIZED)
