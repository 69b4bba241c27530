"""`imprint gateway check` against real servers, each wrong in one way: it names the way."""

from __future__ import annotations

import datetime
import functools
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import tls_servers
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from imprint_tools import certificates, chain_check, gateway_check
from imprint_tools.certificates import Purpose
from imprint_tools.errors import TrustAnchorError
from imprint_tools.gateway_check import Port
from imprint_tools.localcloud.azure.cloud import AzureCloud, AzureConfig, GatewayConfig
from test_cli import imprint
from tls_servers import HOST

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def look(server: tls_servers.Server, host: str = HOST, timeout_s: float = 10.0) -> Port:
    """What the check finds at the server, dialled as `host`."""
    [port] = gateway_check.check(
        host, [server.port], [server.anchor], address="127.0.0.1", timeout_s=timeout_s
    )
    return port


@pytest.mark.parametrize("kind", tls_servers.bad_servers())
def test_each_bad_server_has_its_own_cause(tmp_path: Path, kind: str) -> None:
    """One cause and no other, whatever is shown of the chain."""
    with tls_servers.serve(kind, tmp_path) as server:
        port = look(server)
    _, cause = tls_servers.VERDICTS[kind]
    assert [finding.cause for finding in port.findings] == [cause]
    shown = kind in tls_servers.CHAINS or kind == tls_servers.STOLEN
    alone = kind in ("self-signed", "missing-intermediate")
    assert len(port.chain) == (1 if alone else 2 if shown else 0)


def test_a_server_that_says_nothing_is_left(tmp_path: Path) -> None:
    """After the time that was given."""
    with tls_servers.serve(tls_servers.SILENT, tmp_path) as server:
        port = look(server, timeout_s=0.5)
    assert [finding.cause for finding in port.findings] == ["silent"]


def test_every_server_is_tried() -> None:
    """The table of verdicts has every server that there is, but the good ones and the silent."""
    every = {*tls_servers.CHAINS, *tls_servers.WITHOUT_TLS}
    assert every - set(tls_servers.VERDICTS) == {*tls_servers.GOOD, tls_servers.SILENT}


@pytest.mark.parametrize(
    ("kind", "host"),
    [*tls_servers.GOOD.items(), ("good", "GW.local"), (tls_servers.WANTS_CLIENT, HOST)],
)
def test_a_good_server_is_good(tmp_path: Path, kind: str, host: str) -> None:
    """EC, RSA, wildcard and address; one that demands a client certificate says so."""
    with tls_servers.serve(kind, tmp_path) as server:
        port = look(server, host)
    assert port.findings == ()
    assert (port.address, len(port.chain)) == ("127.0.0.1", 2)
    assert port.protocol.startswith("TLSv1.")
    assert port.wants_client is (kind == tls_servers.WANTS_CLIENT)


def test_a_server_with_two_faults_has_two_findings(tmp_path: Path) -> None:
    """The graver one first."""
    with tls_servers.serve("expired", tmp_path) as server:
        port = look(server, "other.example")
    assert [finding.cause for finding in port.findings] == ["expired", "wrong-name"]


def test_the_local_gateway_is_good_with_its_own_root_only(tmp_path: Path) -> None:
    """A chain of three on each port, as an IoT Edge gateway sends it; Azure's root is another."""
    host = "edge.example"
    with AzureCloud(tmp_path, AzureConfig(gateways=(GatewayConfig(host),))) as cloud:
        edge = cloud.known_gateway(host)
        numbers = {e.target[1] for e in cloud.endpoints if e.host == host}
        own, azures = map(chain_check.load_anchors, (edge.root_ca, cloud.ca_pem))
        for anchors, expected in ((own, []), (azures, ["other-ca"])):
            for port in gateway_check.check(host, sorted(numbers), anchors, address="127.0.0.1"):
                assert [finding.cause for finding in port.findings] == expected
                assert len(port.chain) == 3


@pytest.mark.parametrize(
    ("kind", "host", "status"),
    [
        (tls_servers.NO_CERTIFICATE, HOST, 67),
        ("other-ca", HOST, 70),
        ("good", "other.example", 75),
    ],
)
def test_what_openssl_s_client_calls_ok(tmp_path: Path, kind: str, host: str, status: int) -> None:
    """Its last line, or its exit status, says that all is well where nothing is."""
    with tls_servers.serve(kind, tmp_path) as server:
        (tmp_path / "ca.pem").write_bytes(certificates.pem(server.anchor))
        done = subprocess.run(  # noqa: S603
            ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}",  # noqa: S607
             "-servername", host, "-CAfile", tmp_path / "ca.pem"],
            input="", capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        port = look(server, host)
    said_ok = "Verify return code: 0 (ok)" in done.stdout or "Verification: OK" in done.stdout
    assert said_ok or done.returncode == 0
    assert port.findings[0].exit_status == status


def test_no_host_and_no_port() -> None:
    """A name without address, a port without listener, an address that says nothing."""
    anchor = tls_servers.CHAINS["good"]().anchor

    def cause(host: str, number: int, address: str | None = None) -> str:
        [port] = gateway_check.check(host, [number], [anchor], address=address, timeout_s=0.3)
        return port.findings[0].cause

    assert cause("gw.invalid", 8883) == "name-unresolved"
    assert cause("x" * 64 + ".example", 8883) == "name-unresolved"
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    assert cause(HOST, number, "127.0.0.1") == "refused"
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        number = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(2)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", number))
            began = time.monotonic()
            assert cause(HOST, number, "127.0.0.1") == "unreachable"
            assert time.monotonic() - began < 5
        finally:
            for sock in waiting:
                sock.close()


def test_openssl_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this check does not know to be wrong is still refused, in OpenSSL's words."""
    monkeypatch.setattr(chain_check, "judge", lambda *_: [])
    with tls_servers.serve("expired", tmp_path) as server:
        port = look(server)
    assert [(f.cause, f.about) for f in port.findings] == [
        ("refused-by-openssl", "certificate has expired")
    ]


def signed(name: str, above: tls_servers.Holder | None, purpose: Purpose) -> tls_servers.Holder:
    key = certificates.new_key("ec")
    issuer, signer = (above.certificate, above.key) if above else (None, key)
    made = certificates.build(
        name, key.public_key(), issuer, signer, NOW - DAY, NOW + DAY, purpose
    )
    return tls_servers.Holder(made, key)


def causes(
    sent: list[x509.Certificate], anchors: list[x509.Certificate], host: str = HOST
) -> list[str]:
    return [finding.cause for finding in chain_check.judge(sent, anchors, host, NOW)]


def test_a_path_that_is_too_long() -> None:
    """An authority that may have none below it, and has one."""
    root = signed("Root", None, Purpose(authority=True, path_length=0))
    middle = signed("Middle", root, Purpose(authority=True))
    leaf = signed(HOST, middle, Purpose(server=True, names=(HOST,)))
    chain = [leaf.certificate, middle.certificate]
    assert causes(chain, [root.certificate]) == ["not-an-authority"]


def test_authorities_that_sign_each_other_end_the_search() -> None:
    """A chain that goes round leads nowhere, and quickly."""
    one, two = (signed(name, None, Purpose(authority=True)) for name in ("One", "Two"))
    crossed = [
        certificates.build(
            name, below.key.public_key(), above.certificate, above.key, NOW - DAY, NOW + DAY,
            Purpose(authority=True),
        )
        for name, below, above in (("One", one, two), ("Two", two, one))
    ]  # fmt: skip
    leaf = signed(HOST, one, Purpose(server=True, names=(HOST,)))
    root = signed("Root", None, Purpose(authority=True))
    assert causes([leaf.certificate, *crossed], [root.certificate]) == ["other-ca"]


@pytest.mark.parametrize(
    ("names", "host", "good"),
    [
        (("gw.local",), "gw.local.", True),
        (("*.local",), "gw.local", False),  # a wildcard for a whole top-level domain
        (("*.gw.local",), "a.b.gw.local", False),
        (("*.gw.local",), "gw.local", False),
        (("10.0.0.7",), "10.0.0.7", True),
        (("10.0.0.7",), "10.0.0.8", False),
        (("::1",), "0:0:0:0:0:0:0:1", True),
        (("gw.local",), "10.0.0.7", False),
    ],
)
def test_names(names: tuple[str, ...], host: str, good: bool) -> None:
    """By RFC 6125: one label for a wildcard, addresses only as addresses."""
    root = signed("Root", None, Purpose(authority=True))
    leaf = signed("x", root, Purpose(server=True, names=names))
    assert causes([leaf.certificate], [root.certificate], host) == ["wrong-name"] * (not good)


@functools.cache
def shelf() -> list[x509.Certificate]:
    """Every certificate of the bad servers' chains, and their roots."""
    chains = [make() for make in tls_servers.CHAINS.values()]
    return list(dict.fromkeys(one for chain in chains for one in (*chain.sent, chain.anchor)))


@settings(max_examples=200)
@given(st.data())
def test_any_chain_is_judged(data: st.DataObject) -> None:
    """Certificates in any order, with any anchors: causes of the table, or none that is right."""
    some = st.lists(st.sampled_from(range(len(shelf()))), min_size=1, max_size=5)
    sent = [shelf()[number] for number in data.draw(some)]
    anchors = [shelf()[number] for number in data.draw(some)]
    found = chain_check.judge(sent, anchors, HOST, certificates.utc_now())
    assert {finding.cause for finding in found} <= chain_check.CAUSES.keys()
    if not found:
        assert chain_check.path(sent, anchors)[-1] in anchors
        assert HOST in chain_check.alternative_names(sent[0])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (rsa.generate_private_key(65537, 1024), "1024 bits"),  # noqa: S505
        (ec.generate_private_key(ec.SECP192R1()), "curve is secp192r1"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (ec.generate_private_key(ec.SECP521R1()), ""),
        (rsa.generate_private_key(3, 2048), ""),
    ],
)
def test_what_a_board_takes_of_keys(key: Any, words: str) -> None:
    """As mbedTLS by default."""
    assert words in chain_check._key_weakness(key.public_key())
    assert bool(chain_check._key_weakness(key.public_key())) is bool(words)


@given(st.binary(min_size=1, max_size=300))
def test_any_answer_is_a_finding(answer: bytes) -> None:
    """Whatever bytes come back for a ClientHello: one cause of the table, and no exception."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(answer)
        far.shutdown(socket.SHUT_WR)
        [finding] = gateway_check._Look(HOST).shake(near, 5.0)
    assert finding.cause in chain_check.CAUSES


def test_the_command_shows_chain_and_cause(tmp_path: Path) -> None:
    """Words or JSON; the exit status is the cause's, and a good server's 0."""
    ca = tmp_path / "ca.pem"
    for kind, status in (("good", 0), ("missing-intermediate", 71)):
        with tls_servers.serve(kind, tmp_path) as server:
            ca.write_bytes(certificates.pem(server.anchor))
            target = [f"{HOST}:{server.port}", "--ca", ca, "--address", "127.0.0.1"]
            words = imprint("gateway", "check", *target)
            found = imprint("gateway", "check", *target, "--json")
        assert (words.returncode, found.returncode) == (status, status), words.stderr
        assert "  0 gw.local, by CN=Test intermediate, " in words.stdout
        assert ("next: Configure the server with its full chain file" in words.stdout) == bool(
            status
        )
        report = json.loads(found.stdout)
        assert report["exit_status"] == status
        [port] = report["ports"]
        assert port["chain"][0]["names"] == [HOST]
        assert [f["exit_status"] for f in port["findings"]] == [status] * bool(status)


def test_without_a_port_all_three_are_looked_at(tmp_path: Path) -> None:
    """MQTT's comes first and gives the exit status."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certificates.pem(tls_servers.CHAINS["good"]().anchor))
    done = imprint("gateway", "check", "gw.invalid", "--ca", ca, "--json")
    assert done.returncode == 60
    assert [port["port"] for port in json.loads(done.stdout)["ports"]] == [8883, 443, 5671]


@pytest.mark.parametrize("target", ["", "host:0", "host:99999", "a:b", "http://x", "::1", "[::1"])
def test_a_target_is_host_and_port(tmp_path: Path, target: str) -> None:
    """Anything else is wrong usage."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    assert imprint("gateway", "check", target, "--ca", ca).returncode == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate"),
        (b"\x30\x82" + bytes(50), "no certificate"),
        (b"-----BEGIN PRIVATE KEY-----\n", "holds a private key"),
        (b"x" * (1 << 21), "larger than"),
        (certificates.pem(tls_servers.CHAINS["good"]().sent[0]), "is no CA's certificate"),
    ],
)
def test_a_file_that_holds_no_ca(tmp_path: Path, data: bytes, words: str) -> None:
    """Said before anything is dialled; exit status 16."""
    path = tmp_path / "ca.pem"
    path.write_bytes(data)
    with pytest.raises(TrustAnchorError, match=words):
        chain_check.load_anchors(path)
    assert imprint("gateway", "check", "gw.invalid", "--ca", path).returncode == 16


def test_exit_statuses_are_distinct() -> None:
    """One a cause, in the range that no error of the host tools has."""
    statuses = [cause.exit_status for cause in chain_check.CAUSES.values()]
    assert len(set(statuses)) == len(statuses)
    assert {60 <= status < 80 for status in statuses} == {True}
