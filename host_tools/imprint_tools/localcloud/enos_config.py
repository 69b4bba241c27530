"""How the local EnOS is set up, and what is inferred where the vendor's documents are silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from imprint_tools.localcloud import coap_server, dtls
from imprint_tools.localcloud.dtls import PSK_CBC_SHA256, PSK_CCM_8, Suite
from imprint_tools.secret import Secret


@dataclass(frozen=True)
class EnosProduct:
    """A product that must be there, with devices. Without a secret it keeps its own, or gets a
    new one."""

    key: str
    secret: Secret | None = None
    dynamic_activation: bool = True
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inferred:
    """What is not documented; a device must not build on it.

    `activation_refused_at`: is a device that may not activate refused its handshake, or answered
    4.03 in it? `activated_by`: may a device activate again until its first login with its own
    secret, or only until the answer to its activation was sent? (Documented is that it may not
    "again".) `after_lifetime`: an offline device's request gets 4.01, or no answer at all.
    `content_format`: named in answers with JSON (50), or not. `activation_code`, `fetch_code`: of
    an activation's answer and of a fetched command.
    """

    activation_refused_at: Literal["handshake", "request"] = "request"
    activated_by: Literal["login", "answer"] = "login"
    after_lifetime: Literal["unauthorized", "silence"] = "unauthorized"
    content_format: int | None = None
    activation_code: int = coap_server.CONTENT
    fetch_code: int = coap_server.CONTENT


@dataclass(frozen=True)
class EnosConfig:
    """How the local platform is set up.

    `hostname`: the environment's domain; the CoAP host is `coap-` and this. `device_port`: the
    port that devices name; which one it is is not documented, 5684 is RFC 7252's. `port`: where it
    listens on loopback, 0 for a free one. `command_in_option`: a waiting command comes whole in
    option 2102, as without DTLS, and need not be fetched. `session_kept_s`: how long a session is
    remembered after its device went offline.
    """

    products: tuple[EnosProduct, ...] = ()
    hostname: str = "cn5.envisioniot.com"
    device_port: int = 5684
    port: int = 0
    suites: tuple[Suite, ...] = (PSK_CCM_8, PSK_CBC_SHA256)
    command_in_option: bool = False
    session_kept_s: float = 3600.0
    inferred: Inferred = field(default_factory=Inferred)
    dtls: dtls.Limits = field(default_factory=dtls.Limits)
    coap: coap_server.Limits = field(default_factory=coap_server.Limits)

    @property
    def host(self) -> str:
        return f"coap-{self.hostname}"
