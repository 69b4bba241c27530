"""How the local EnOS is set up, and what is inferred where the vendor's documents are silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from imprint_tools.localcloud import coap_server, dtls, pki
from imprint_tools.localcloud.dtls import PSK_CBC_SHA256, PSK_CCM_8, Suite
from imprint_tools.localcloud.enos.records import DEVICE
from imprint_tools.secret import Secret


@dataclass(frozen=True)
class EnosProduct:
    """A product that must be there, with devices. Without a secret it keeps its own, or gets a
    new one. `kind`: enos_records.GATEWAY or DEVICE. `certificate`: its devices log in with a
    certificate too. `organisation`: None for the first one."""

    key: str
    secret: Secret | None = None
    dynamic_activation: bool = True
    devices: tuple[str, ...] = ()
    kind: str = DEVICE
    certificate: bool = False
    organisation: str | None = None


@dataclass(frozen=True)
class Inferred:
    """What is not documented; a device must not build on it.

    CoAP. `activation_refused_at`: is a device that may not activate refused its handshake, or
    answered 4.03 in it? `after_lifetime`: an offline device's request gets 4.01, or no answer at
    all. `content_format`: named in answers with JSON (50), or not. `activation_code` and
    `fetch_code`: of an activation's answer and of a fetched command.

    Both. `activated_by`: may a device activate again until its first login with its own secret,
    or only until the answer to its activation was sent? (Documented is that it may not "again".)

    MQTT. `codes`, `connack`: by reason, in place of `codes`. `timestamp_window_s`: how far a
    login's timestamp may be from now, in ms as the text of a number; None does not look, as the
    real one seems to (the vendor's C SDK always sends the year 2050). `tls_without_certificate`:
    port 18883 takes a device whose product does not demand one. `replies_to_subscribers`: a reply
    goes to a client that has subscribed to it; commands and activation go to everybody.
    `command_qos`, `reply_qos`: of what the cloud sends. `register_binds`: thing/device/register
    puts the new ones into the gateway's topology.

    REST. `rest_codes`: by reason, in place of `api`. `api_window_s`: how far a request's
    timestamp may be from now. `remaining_expire`: a token asked for again comes with the seconds
    that are left to it, not with its whole life. `renewal_revokes`: the old certificate ends with
    its renewal.
    """

    activation_refused_at: Literal["handshake", "request"] = "request"
    activated_by: Literal["login", "answer"] = "login"
    after_lifetime: Literal["unauthorized", "silence"] = "unauthorized"
    content_format: int | None = None
    activation_code: int = coap_server.CONTENT
    fetch_code: int = coap_server.CONTENT
    codes: Mapping[str, int] = field(default_factory=dict)
    connack: Mapping[str, int] = field(default_factory=dict)
    timestamp_window_s: float | None = None
    tls_without_certificate: bool = True
    replies_to_subscribers: bool = True
    command_qos: int = 1
    reply_qos: int = 0
    register_binds: bool = False
    rest_codes: Mapping[str, int] = field(default_factory=dict)
    api_window_s: float | None = 900.0
    remaining_expire: bool = True
    renewal_revokes: bool = False


@dataclass(frozen=True)
class ConnectLimits:
    """How often one device may connect: more than `most` times in `window_s`, or twice within
    `apart_s`, and its next connects are refused, after `most` for `blocked_s`."""

    apart_s: float = 1.0
    most: int = 4
    window_s: float = 120.0
    blocked_s: float = 300.0


@dataclass(frozen=True)
class EnosLimits:
    """The vendor's limits page, edition 2.4.4. `connects`: None for no limit. `keepalive_s`: the
    page says 60 to 300, and the vendor's own C SDK begins with 30. `topology_max`: sub-devices of
    a gateway, online or not; a guess, as is `batch_max`. Sizes in bytes."""

    connects: ConnectLimits | None = field(default_factory=ConnectLimits)
    keepalive_s: tuple[int, int] = (30, 300)
    message_max: int = 512 * 1024
    body_max: int = 512 * 1024
    subdevices_online_max: int = 200
    register_max: int = 1000
    batch_max: int = 1000
    topology_max: int = 1000
    devices_per_product: int = 10_000


@dataclass(frozen=True)
class EnosConfig:
    """How the local platform is set up.

    `hostname`: the environment's domain; the hosts of CoAP, MQTT and REST are `coap-`, `mqtt-` and
    `apim-` and this. `device_port`: the port that devices name for CoAP; which one it is is not
    documented, 5684 is RFC 7252's. `port`, `mqtt_port`, `mqtts_port`, `api_port`: where it listens
    on loopback, 0 for a free one. `command_in_option`: a waiting command comes whole in option
    2102, as without DTLS, and need not be fetched. `session_kept_s`: how long a CoAP session is
    remembered after its device went offline. `token_s`: the life of an API token.
    `certificate_variant`: one of pki.VARIANTS, for the servers of MQTT and REST.
    """

    products: tuple[EnosProduct, ...] = ()
    hostname: str = "cn5.envisioniot.com"
    device_port: int = 5684
    port: int = 0
    mqtt_port: int = 0
    mqtts_port: int = 0
    api_port: int = 0
    suites: tuple[Suite, ...] = (PSK_CCM_8, PSK_CBC_SHA256)
    command_in_option: bool = False
    session_kept_s: float = 3600.0
    token_s: float = 7200.0
    certificate_variant: str = pki.GOOD
    inferred: Inferred = field(default_factory=Inferred)
    limits: EnosLimits = field(default_factory=EnosLimits)
    dtls: dtls.Limits = field(default_factory=dtls.Limits)
    coap: coap_server.Limits = field(default_factory=coap_server.Limits)

    @property
    def host(self) -> str:
        return f"coap-{self.hostname}"

    @property
    def mqtt_host(self) -> str:
        return f"mqtt-{self.hostname}"

    @property
    def api_host(self) -> str:
        return f"apim-{self.hostname}"
