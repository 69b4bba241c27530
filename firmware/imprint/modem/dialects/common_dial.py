"""From an attached modem to a session, which each family does in its own way. Pure.

    provision_psk(tag, identity, key: Secret, marker) -> marker, None: it has to be repeated
                                                          after each power_up
    open_dtls(host, port, tag) -> handle        open_udp(host, port) -> handle

A marker says what was provisioned, so that it is not written at every boot (the stores are flash
in the modem): keep what provision_psk returns, give it back the next time. If a session is then
refused, give None once: the modem may have been exchanged.
"""

import binascii
import hashlib

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.secret import Secret


class Dialer:
    """Of the modem that `dialect` talks to."""

    def __init__(self, dialect: "Any") -> None:
        self.dialect = dialect


def fingerprint(identity: bytes, key: "Secret") -> str:
    """Of what is provisioned, for markers; tells nothing about the key."""
    digest = hashlib.sha256(identity + b"\0" + key.reveal()).digest()
    return binascii.hexlify(digest[:8]).decode()
