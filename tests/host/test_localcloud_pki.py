"""The private authority, and servers that a client must refuse: OpenSSL is the judge."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from imprint_tools import certificates
from imprint_tools.localcloud import pki

NAMES = ["*.iot-as-mqtt.cn-shanghai.aliyuncs.com", "*.mqtt.iothub.aliyuncs.com"]
HOSTS = ["a1b2.iot-as-mqtt.cn-shanghai.aliyuncs.com", "iot-060a0bgd.mqtt.iothub.aliyuncs.com"]


def shake(files: pki.ServerFiles, host: str) -> None:
    """A TLS handshake in memory, verified as a careful client does. Raises ssl.SSLError."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.chain, files.key)
    client_context = ssl.create_default_context(cafile=str(files.root_ca))
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(10)
        far.settimeout(10)

        def serve() -> None:
            try:
                server_context.wrap_socket(far, server_side=True).close()
            except OSError:
                pass  # the client refused, which is what some tests are about

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            client_context.wrap_socket(near, server_hostname=host).close()
        finally:
            near.close()
            thread.join(10)


@pytest.mark.parametrize("key_type", ["ec", "rsa"])
def test_a_verifying_client_accepts_both_shapes_of_host_name(
    tmp_path: Path, key_type: str
) -> None:
    """One certificate serves the product's and the instance's host name."""
    files = pki.provide(tmp_path, NAMES, key_type=key_type)
    for host in HOSTS:
        shake(files, host)


@pytest.mark.parametrize(
    ("variant", "complaint"),
    [
        ("expired", "certificate has expired"),
        ("not-yet-valid", "not yet valid"),
        ("ca-expired", "certificate has expired"),
        ("wrong-name", "[Hh]ostname mismatch"),
        ("name-in-cn-only", "[Hh]ostname mismatch"),
        ("other-ca", "unable to get local issuer|self.signed certificate in"),
        ("self-signed", "self.signed certificate"),
    ],
)
def test_a_verifying_client_refuses_each_bad_server_for_its_own_reason(
    tmp_path: Path, variant: str, complaint: str
) -> None:
    """Each variant is wrong in one way only."""
    with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
        shake(pki.provide(tmp_path, NAMES, variant=variant), HOSTS[0])


def test_every_variant_is_tried() -> None:
    """The table above and the module agree."""
    tried = test_a_verifying_client_refuses_each_bad_server_for_its_own_reason
    marks = [m for m in tried.pytestmark if m.name == "parametrize"]
    assert {case[0] for case in marks[0].args[1]} | {pki.GOOD} == set(pki.VARIANTS)


def test_a_folder_is_used_again(tmp_path: Path) -> None:
    """The next start serves the same certificate, and devices keep their trust anchor."""
    first = pki.provide(tmp_path, NAMES)
    chain = first.chain.read_bytes()
    again = pki.provide(tmp_path, NAMES)
    assert again == first
    assert again.chain.read_bytes() == chain


def test_other_names_get_another_certificate_of_the_same_authority(tmp_path: Path) -> None:
    """A new region does not change what devices trust."""
    first = pki.provide(tmp_path, NAMES)
    chain = first.chain.read_bytes()
    again = pki.provide(tmp_path, ["*.iot-as-mqtt.us-west-1.aliyuncs.com"])
    assert again.root_ca_der == first.root_ca_der
    assert again.chain.read_bytes() != chain
    shake(again, "a1b2.iot-as-mqtt.us-west-1.aliyuncs.com")


def test_the_server_is_renewed_a_month_before_its_end(tmp_path: Path) -> None:
    """The authority stays, the server's certificate is new and valid for another year."""
    first = pki.provide(tmp_path, NAMES)
    chain = first.chain.read_bytes()
    later = certificates.utc_now() + datetime.timedelta(days=340)
    again = pki.provide(tmp_path, NAMES, clock=lambda: later)
    assert again.root_ca_der == first.root_ca_der
    assert again.chain.read_bytes() != chain
    renewed = x509.load_pem_x509_certificate(again.chain.read_bytes())
    assert renewed.not_valid_after_utc > later + datetime.timedelta(days=300)


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    """0600 from the first byte on."""
    pki.provide(tmp_path, NAMES)
    keys = list(tmp_path.rglob("*.key"))
    assert len(keys) == 2
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_a_damaged_server_key_is_made_anew(tmp_path: Path) -> None:
    """A file cut short by a full disk does not keep a cloud from starting."""
    first = pki.provide(tmp_path, NAMES)
    first.key.write_bytes(first.key.read_bytes()[:50])
    shake(pki.provide(tmp_path, NAMES), HOSTS[0])


def test_an_unknown_variant_or_key_type_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    """Both are spelt out in code, never by a user."""
    with pytest.raises(ValueError, match="variant 'x'"):
        pki.provide(tmp_path, NAMES, variant="x")
    with pytest.raises(ValueError, match="key type 'x'"):
        pki.provide(tmp_path, NAMES, key_type="x")
