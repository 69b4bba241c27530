"""The issuer: its rules, its record, and OpenSSL as the judge of what it makes."""

from __future__ import annotations

import datetime
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from imprint_tools import certificates, issuer
from imprint_tools.errors import AuthorityError, IssueError
from imprint_tools.issuer import Authority, Issued
from imprint_tools.secret import Secret

PASSPHRASE = Secret("canary-passphrase-of-an-authority")
NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


class Clock:
    """A clock that a test turns by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(tmp_path: Path, clock: Clock) -> Iterator[Authority]:
    """An intermediate authority below a root."""
    with (
        Authority.create_root(tmp_path / "root", "Test root", PASSPHRASE, clock=clock) as root,
        root.create_intermediate(tmp_path / "line", "Test line", PASSPHRASE) as made,
    ):
        yield made


def request(
    name: str, key: issuer.PrivateKey | None = None, *, asks: x509.ExtensionType | None = None
) -> bytes:
    """A PKCS#10 request in DER, as a station makes it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if asks is not None:
        builder = builder.add_extension(asks, critical=True)
    signed = builder.sign(key or certificates.new_key("ec"), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def openssl_verify(folder: Path, issued: Issued, purpose: str, *more: str | Path) -> str:
    """What `openssl verify -x509_strict` says of a chain."""
    root, rest, leaf = folder / "r.pem", folder / "i.pem", folder / "l.pem"
    root.write_bytes(certificates.pem(issued.full_chain[-1]))
    rest.write_bytes(issued.chain_pem)
    leaf.write_bytes(issued.pem)
    at = str(int((issued.certificate.not_valid_before_utc + 2 * DAY).timestamp()))
    done = subprocess.run(  # noqa: S603
        ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", at,  # noqa: S607
         "-CAfile", root, "-untrusted", rest, *more, leaf],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("key_type", sorted(certificates.KEY_TYPES))
def test_openssl_accepts_every_chain(tmp_path: Path, key_type: str) -> None:
    """Device and server, EC and RSA, by RFC 5280's strict rules; each for its purpose only."""
    with (
        Authority.create_root(tmp_path / "r", "R", PASSPHRASE, key_type=key_type) as root,
        root.create_intermediate(tmp_path / "l", "L", PASSPHRASE, key_type=key_type) as made,
    ):
        device = made.issue_leaf(registration_id="unit-1", key_type=key_type)
        server = made.issue_server(names=["gw.local", "10.0.0.7"], key_type=key_type)
    assert openssl_verify(tmp_path, device, "sslclient").endswith("OK\n")
    assert "purpose" in openssl_verify(tmp_path, device, "sslserver")
    assert openssl_verify(tmp_path, server, "sslserver", "-verify_hostname", "gw.local").endswith(
        "OK\n"
    )
    assert openssl_verify(tmp_path, server, "sslserver", "-verify_ip", "10.0.0.7").endswith("OK\n")
    assert "purpose" in openssl_verify(tmp_path, server, "sslclient")


def test_a_device_certificate_says_what_it_is_for(line: Authority) -> None:
    """Subject, extensions and dates; a clock that is a day behind finds it valid."""
    made = line.issue_leaf(registration_id="unit-1", days=100).certificate
    assert made.subject.rfc4514_string() == "CN=unit-1"
    assert made.not_valid_before_utc == NOW - DAY
    assert made.not_valid_after_utc == NOW + 100 * DAY
    get = made.extensions.get_extension_for_class
    assert get(x509.BasicConstraints).value == x509.BasicConstraints(ca=False, path_length=None)
    assert get(x509.BasicConstraints).critical and get(x509.KeyUsage).critical
    assert get(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    usage = get(x509.KeyUsage).value
    assert usage.digital_signature and not usage.key_cert_sign
    above = line.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert get(x509.AuthorityKeyIdentifier).value.key_identifier == above.digest
    assert made.serial_number.bit_length() <= 159


def test_authorities_limit_what_stands_below_them(tmp_path: Path, line: Authority) -> None:
    """An intermediate that may sign leafs only makes no authority."""
    basic = line.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert basic == x509.BasicConstraints(ca=True, path_length=0)
    with pytest.raises(IssueError, match="0 authorities below"):
        line.create_intermediate(tmp_path / "deep", "Deep", PASSPHRASE)
    assert not (tmp_path / "deep").exists()


def test_a_request_gives_its_key_and_nothing_else(line: Authority) -> None:
    """A request that asks to be an authority gets a device's certificate."""
    key = certificates.new_key("ec")
    asks = x509.BasicConstraints(ca=True, path_length=None)
    made = line.issue_leaf(registration_id="unit-1", csr=request("unit-1", key, asks=asks))
    assert made.certificate.public_key() == key.public_key()
    assert made.key is None
    with pytest.raises(ValueError, match="made elsewhere"):
        _ = made.key_pem
    basic = made.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert basic.ca is False


def forged(name: str) -> bytes:
    """A request whose signature was made by another key than the one in it."""
    good = request(name)
    return good[:-8] + bytes(byte ^ 0xFF for byte in good[-8:])


@pytest.mark.parametrize(
    ("csr", "words"),
    [
        (forged("unit-1"), "not signed with its own key"),
        (request("unit-2"), "asks for the common name"),
        (request("UNIT-1"), "asks for the common name"),
        (b"", "no PKCS#10"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", "no PKCS#10"),
        (b"\x30" * 20_000, "more than 16384"),
        (request("unit-1", ec.generate_private_key(ec.SECP521R1())), "curve is secp521r1"),
        (request("unit-1", rsa.generate_private_key(65537, 1024)), "1024 bits"),  # noqa: S505
        (request("unit-1", rsa.generate_private_key(3, 2048)), "exponent is 3"),
    ],
)
def test_a_bad_request_is_refused(line: Authority, csr: bytes, words: str) -> None:
    """Each with its own reason, and nothing is issued."""
    with pytest.raises(IssueError, match=words):
        line.issue_leaf(registration_id="unit-1", csr=csr)
    assert line.entries() == []


def test_a_request_without_use_for_tls_is_refused(line: Authority) -> None:
    """Boards and clouds have no Ed25519."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "unit-1")])
    key = ed25519.Ed25519PrivateKey.generate()
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)
    with pytest.raises(IssueError, match="Ed25519"):
        line.issue_leaf(registration_id="unit-1", csr=csr.public_bytes(certificates.Encoding.DER))


@settings(max_examples=500)
@given(st.binary(max_size=600))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    """The parser of requests raises IssueError and nothing else."""
    with pytest.raises(IssueError):
        issuer._key_of_csr(data, "unit-1")


@settings(max_examples=500)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_damaged_request_is_refused(place: float, change: int) -> None:
    """Any one changed byte is found: by the parser or by the signature."""
    bad = bytearray(request("unit-1"))
    bad[int(place * len(bad))] ^= change
    with pytest.raises(IssueError):
        issuer._key_of_csr(bytes(bad), "unit-1")


@pytest.mark.parametrize("good", ["a", "A-1", "x" * 64, "00:1b.c5_6-", "7-"])
def test_registration_ids_that_dps_takes(good: str) -> None:
    """Letters, digits and - . _ : with a letter, digit or dash at the end; 64 at most."""
    issuer.check_registration_id(good)


@pytest.mark.parametrize(
    "bad", ["", "x" * 65, "a.", "a_", "a:", "..", "a/b", "a b", "a\n", "é", "a\n[v3]", "../a"]
)
def test_names_that_dps_does_not_take(line: Authority, bad: str) -> None:
    """Refused before a key is made."""
    with pytest.raises(IssueError, match="no registration id"):
        line.issue_leaf(registration_id=bad)
    assert line.entries() == []


@pytest.mark.parametrize(
    "bad", ["", "gw..local", "-gw.local", "gw.local.", "10.0.0.300", "*", "a.*.b", "g w", "x" * 64]
)
def test_server_names_are_checked(line: Authority, bad: str) -> None:
    """Host names by RFC 1123, a wildcard for one label, or addresses."""
    with pytest.raises(IssueError):
        line.issue_server(names=["gw.local", bad])


def test_a_leaf_never_outlives_its_issuer(line: Authority, clock: Clock) -> None:
    """Not on the day of making, and not years later."""
    line.issue_leaf(registration_id="unit-1")
    clock.now += datetime.timedelta(days=issuer.INTERMEDIATE_DAYS - 10)
    with pytest.raises(IssueError, match="end after the issuer's own certificate"):
        line.issue_leaf(registration_id="unit-2")
    last = line.issue_leaf(registration_id="unit-2", days=10)
    assert last.certificate.not_valid_after_utc == line.certificate.not_valid_after_utc
    for days in (0, -1, 10**9):
        with pytest.raises(IssueError):
            line.issue_leaf(registration_id="unit-3", days=days)


def test_a_machine_without_time_issues_nothing(line: Authority, clock: Clock) -> None:
    """A bench whose clock is at its epoch would sign what is over already."""
    clock.now = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    with pytest.raises(IssueError, match="it is 1970-01-01 on this machine"):
        line.issue_leaf(registration_id="unit-1")
    assert line.entries() == []


def test_a_damaged_record_is_said(tmp_path: Path, line: Authority) -> None:
    """Nothing is issued without a record."""
    for _ in range(20):
        line.issue_leaf(registration_id="unit-1", renew=True)
    line.close()
    file = tmp_path / "line/issued.sqlite3"
    file.write_bytes(file.read_bytes()[:4096] + bytes(file.stat().st_size - 4096))
    with Authority.open(tmp_path / "line", PASSPHRASE, clock=line._clock) as again:
        for use in (again.entries, again.crl, lambda: again.issue_leaf(registration_id="unit-2")):
            with pytest.raises(AuthorityError, match="record"):
                use()
    file.write_bytes(b"no database")
    with pytest.raises(AuthorityError, match="cannot be read"):
        Authority.open(tmp_path / "line", PASSPHRASE)


def test_an_id_has_one_live_key(line: Authority, clock: Clock) -> None:
    """The same key may ask again, another one only to renew, after a revocation, or too late."""
    first = request("unit-1")
    one = line.issue_leaf(registration_id="unit-1", csr=first, days=30)
    again = line.issue_leaf(registration_id="unit-1", csr=first, days=30)
    assert one.serial != again.serial
    with pytest.raises(IssueError, match="already, serial"):
        line.issue_leaf(registration_id="unit-1")
    line.issue_leaf(registration_id="unit-1", renew=True, days=30)
    with pytest.raises(IssueError, match="already, serial"):
        # DPS compares without case.
        line.issue_leaf(registration_id="UNIT-1")
    clock.now += 31 * DAY
    line.issue_leaf(registration_id="unit-1")


def test_a_key_belongs_to_one_id(line: Authority) -> None:
    """A cloned station, whose units all have the same key, is found at the second unit."""
    key = certificates.new_key("ec")
    line.issue_leaf(registration_id="unit-1", csr=request("unit-1", key))
    with pytest.raises(IssueError, match="the key of unit-2 is that of unit-1"):
        line.issue_leaf(registration_id="unit-2", csr=request("unit-2", key), renew=True)


def test_renewal_keeps_the_old_one_valid(line: Authority, clock: Clock) -> None:
    """For the same key or another; a revoked one has no successor."""
    old = line.issue_leaf(registration_id="unit-1", days=30)
    clock.now += 20 * DAY
    same = line.renew(old.serial, days=30)
    assert same.certificate.public_key() == old.certificate.public_key()
    other = line.renew(old.serial, csr=request("unit-1"), days=30)
    assert [entry.live(clock.now) for entry in line.entries("unit-1")] == [True] * 3
    line.revoke(other.serial, "superseded")
    with pytest.raises(IssueError, match="is revoked"):
        line.renew(other.serial)
    with pytest.raises(IssueError, match="issued no certificate"):
        line.renew("ab")


def test_openssl_reads_the_list_of_revoked_certificates(tmp_path: Path, line: Authority) -> None:
    """A revoked certificate fails with the list, the others do not; numbers grow."""
    good = line.issue_leaf(registration_id="unit-1")
    bad = line.issue_leaf(registration_id="unit-2")
    line.revoke(bad.serial, "key_compromise")
    first, second = line.crl(), line.crl()
    numbers = [
        crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for crl in (first, second)
    ]
    assert numbers == [1, 2]
    file = tmp_path / "crl.pem"
    file.write_bytes(second.public_bytes(serialization.Encoding.PEM))
    judge = ("-crl_check", "-CRLfile", file)
    assert openssl_verify(tmp_path, good, "sslclient", *judge).endswith("OK\n")
    assert "certificate revoked" in openssl_verify(tmp_path, bad, "sslclient", *judge)


def test_revocation_is_by_serial_and_reason(line: Authority, clock: Clock) -> None:
    """The first date stays; a serial may be written as openssl does, with colons."""
    made = line.issue_leaf(registration_id="unit-1")
    colons = ":".join(made.serial[i : i + 2] for i in range(0, 40, 2)).upper()
    line.revoke(colons)
    clock.now += DAY
    entry = line.revoke(made.serial, "key_compromise")
    assert (entry.revoked_at, entry.reason) == (NOW, "key_compromise")
    with pytest.raises(IssueError, match="not one of"):
        line.revoke(made.serial, "boredom")
    with pytest.raises(IssueError, match="issued no certificate"):
        line.revoke("00")


def test_keys_rest_encrypted_and_the_folder_is_private(tmp_path: Path, line: Authority) -> None:
    """OpenSSL opens the key with the passphrase and not with another; no unit's key is kept."""
    made = line.issue_leaf(registration_id="unit-1")
    key = tmp_path / "line/ca.key"
    assert key.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    for passphrase, status in ((PASSPHRASE.reveal(), 0), (b"wrong", 1)):
        done = subprocess.run(  # noqa: S603
            ["openssl", "pkey", "-in", key, "-passin", "stdin", "-noout"],  # noqa: S607
            input=passphrase, capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == status
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in key.parent.iterdir()}
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert modes["ca.key"] == modes["issued.sqlite3"] == 0o600
    scalar = made.key.private_numbers().private_value.to_bytes(32, "big")
    assert not any(scalar in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_what_opens_an_authority(tmp_path: Path, line: Authority) -> None:
    """Its passphrase; not another, not an empty one; and not a folder that holds half of it."""
    with Authority.open(tmp_path / "line", PASSPHRASE) as again:
        assert again.full_chain == line.full_chain
    for wrong in (Secret("wrong"), Secret("")):
        with pytest.raises(AuthorityError, match="passphrase does not open") as caught:
            Authority.open(tmp_path / "line", wrong)
        assert "wrong" not in str(caught.value)
    with pytest.raises(AuthorityError, match="no authority"):
        Authority.open(tmp_path / "none", PASSPHRASE)
    (tmp_path / "line/issued.sqlite3").rename(tmp_path / "gone")
    with pytest.raises(AuthorityError, match="cannot be read"):
        Authority.open(tmp_path / "line", PASSPHRASE)
    (tmp_path / "root/ca.pem").write_bytes(certificates.pem(line.certificate))
    with pytest.raises(AuthorityError, match="do not belong together"):
        Authority.open(tmp_path / "root", PASSPHRASE)


def test_a_passphrase_is_changed(tmp_path: Path, line: Authority) -> None:
    """The old one opens nothing any more; a short one changes nothing."""
    with pytest.raises(AuthorityError, match="fewer than 16"):
        line.change_passphrase(Secret("short"))
    Authority.open(tmp_path / "line", PASSPHRASE).close()
    line.change_passphrase(Secret("another passphrase"))
    with pytest.raises(AuthorityError, match="does not open"):
        Authority.open(tmp_path / "line", PASSPHRASE)
    with Authority.open(tmp_path / "line", Secret("another passphrase")) as again:
        again.issue_leaf(registration_id="unit-1")
    assert stat.S_IMODE((tmp_path / "line/ca.key").stat().st_mode) == 0o600


def test_an_authority_is_never_written_over(tmp_path: Path, line: Authority) -> None:
    """Nor is anything else that is in the folder; a short passphrase makes none."""
    with pytest.raises(AuthorityError, match="holds something"):
        Authority.create_root(tmp_path / "line", "Other", PASSPHRASE)
    with pytest.raises(AuthorityError, match="fewer than 16"):
        Authority.create_root(tmp_path / "new", "Other", Secret("short"))
    for name in ("", " x", "a\nb", "x" * 65):
        with pytest.raises(IssueError, match="is no name"):
            Authority.create_root(tmp_path / "new", name, PASSPHRASE)
    assert not (tmp_path / "new").exists()


def test_threads_and_a_second_process_share_it(tmp_path: Path, line: Authority) -> None:
    """Every certificate is in the record once; one id goes to one of those who race for it."""
    made: list[Issued] = []
    refused: list[IssueError] = []

    def work(number: int) -> None:
        with Authority.open(tmp_path / "line", PASSPHRASE, clock=line._clock) as own:
            for count in range(10):
                made.append(line.issue_leaf(registration_id=f"unit-{number}-{count}"))
                try:
                    made.append(own.issue_leaf(registration_id=f"raced-{count}"))
                except IssueError as error:
                    refused.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (50, 30)
    assert {one.serial for one in made} == {entry.serial for entry in line.entries()}


KILLED = """
import sys
from pathlib import Path
from imprint_tools.issuer import Authority
from imprint_tools.secret import Secret
with Authority.open(Path(sys.argv[1]), Secret(sys.stdin.readline())) as line:
    for number in range(100_000):
        print(line.issue_leaf(registration_id=f"killed-{number}").serial, flush=True)
"""


def test_a_kill_loses_no_certificate(tmp_path: Path) -> None:
    """Whatever a killed process gave away is in the record, which is whole."""
    folder = tmp_path / "root"
    Authority.create_root(folder, "R", PASSPHRASE).close()
    for enough in (1, 7, 40):
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", KILLED, folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdin and process.stdout
            process.stdin.write(PASSPHRASE.reveal().decode())
            process.stdin.close()
            given = [process.stdout.readline() for _ in range(enough)]
            process.send_signal(signal.SIGKILL)
            given += process.stdout.readlines()
        with Authority.open(folder, PASSPHRASE) as again:
            kept = {entry.serial for entry in again.entries()}
            for entry in again.entries():
                again.revoke(entry.serial)  # the next round issues the same names
        assert {line.strip() for line in given if line.endswith("\n")} <= kept
        with sqlite3.connect(folder / "issued.sqlite3") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()


def test_a_kill_while_an_authority_is_made_leaves_none(tmp_path: Path) -> None:
    """What a killed process left beside the folder is swept away by the next one."""
    staged = tmp_path / ".root.new"
    staged.mkdir()
    (staged / "ca.key").write_bytes(b"half")
    Authority.create_root(tmp_path / "root", "R", PASSPHRASE).close()
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_verification_certificate_carries_the_code(line: Authority) -> None:
    """A cloud's proof that we hold the authority's key: its code as common name, no use in TLS."""
    made = line.issue_verification("7A69A5D5E6D0A1F0B2C3D4E5F60718293A4B5C6D7E8F9012")
    assert certificates.common_names(made.certificate.subject)[0].startswith("7A69")
    made.certificate.verify_directly_issued_by(line.certificate)
    with pytest.raises(x509.ExtensionNotFound):
        made.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
