"""How the local Aliyun is set up, and which CONNACK code each of its refusals has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imprint_tools.localcloud import pki
from imprint_tools.localcloud.aliyun import topics as aliyun_topics
from imprint_tools.localcloud.broker import (
    BAD_USERNAME_OR_PASSWORD,
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
)
from imprint_tools.localcloud.link import Limits
from imprint_tools.secret import Secret

REFUSALS: Mapping[str, int] = {
    # Documented for registration (132111): a parameter missing or malformed, or plain TCP.
    "client-id-malformed": IDENTIFIER_REJECTED,
    "auth-type-unknown": IDENTIFIER_REJECTED,
    "secure-mode-wrong": IDENTIFIER_REJECTED,
    "parameter-missing": IDENTIFIER_REJECTED,
    "sign-method-unknown": IDENTIFIER_REJECTED,
    "plain-tcp": IDENTIFIER_REJECTED,
    # Documented: not authenticated, check username and password.
    "username-malformed": BAD_USERNAME_OR_PASSWORD,
    "signature-wrong": BAD_USERNAME_OR_PASSWORD,
    # The C SDK's header: below 30 s surfaces as 2. The documents refuse above 1200 s as well.
    "keepalive-outside": IDENTIFIER_REJECTED,
    # Inferred.
    "device-name-invalid": IDENTIFIER_REJECTED,
    "instance-wrong": BAD_USERNAME_OR_PASSWORD,
    "product-unknown": BAD_USERNAME_OR_PASSWORD,
    "device-unknown": BAD_USERNAME_OR_PASSWORD,
    "registration-off": BAD_USERNAME_OR_PASSWORD,
    "already-activated": BAD_USERNAME_OR_PASSWORD,
    "client-ids-exhausted": BAD_USERNAME_OR_PASSWORD,
    "token-wrong": BAD_USERNAME_OR_PASSWORD,
    "client-id-unknown": NOT_AUTHORIZED,
    "device-disabled": NOT_AUTHORIZED,
}
"""Reason: CONNACK code. Documents 132111 (registration) and 148610 (login); where they are silent
the code is the likeliest one, and a device must not build on it."""


@dataclass(frozen=True)
class ProductConfig:
    """A product that must be there. Without a secret it keeps its own, or gets a new one."""

    key: str
    secret: Secret | None = None
    dynamic_registration: bool = True
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class AliyunConfig:
    """How the local platform is set up.

    `instance_id`: where set, another one in a clientId is refused.
    `registration_close_s`: how long a registration's connection may stay after the push.
    `uplinks_per_s`: messages of QoS 0 and of QoS 1 that a device may send in a second before they
    are dropped without a word (the limits page of 2019); None for no limit.
    `push_qos`, `reply_qos`: not documented, so both must work for a device.
    `certificate`: one of pki.VARIANTS. `plain_tcp`: may a device log in without TLS?
    """

    products: tuple[ProductConfig, ...] = ()
    region: str = "cn-shanghai"
    instance_id: str | None = None
    plain_tcp: bool = False
    registration_close_s: float = 15.0
    push_qos: int = 0
    reply_qos: int = 0
    uplinks_per_s: tuple[int, int] | None = (30, 10)
    user_topics: Mapping[str, str] = field(default_factory=lambda: aliyun_topics.USER_TOPICS)
    refusals: Mapping[str, int] = field(default_factory=dict)
    certificate: str = pki.GOOD
    key_type: str = "ec"
    limits: Limits = field(default_factory=Limits)
