"""`imprint ca`: a factory's year in commands, in words and in JSON; OpenSSL reads the files."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from imprint_tools import certificates, issuer_output
from imprint_tools.cli import ca as cli_ca
from imprint_tools.issuer import Authority
from imprint_tools.secret import Secret
from test_cli import imprint
from test_identities import CANARY
from test_issuer import request

PASSPHRASE = CANARY + "-of-an-authority"
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "IMPRINT_CA_PASSPHRASE": PASSPHRASE,
    "IMPRINT_CA_ISSUER_PASSPHRASE": PASSPHRASE,
}


def ca(folder: Path, *arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """What `imprint ca ... --json` prints, with the passphrases in the environment."""
    sources = [] if arguments[0] == "show" else ["--passphrase", "env"]
    done = imprint("ca", *arguments, *sources, "--json", cwd=folder, env=ENVIRONMENT)
    assert done.returncode == status, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the authorities `root` and `line`."""
    with Authority.create_root(tmp_path / "root", "Root", Secret(PASSPHRASE)) as root:
        root.create_intermediate(tmp_path / "line", "Line", Secret(PASSPHRASE)).close()
    return tmp_path


def test_a_factory_from_its_root_to_its_list_of_revoked_units(tmp_path: Path) -> None:
    """Each command once; OpenSSL verifies what they wrote."""
    root = ca(tmp_path, "root", "root", "--name", "Root")
    assert (root["name"], root["folder"]) == ("Root", "root")
    ca(
        tmp_path, "intermediate", "line", "--issuer", "root", "--name", "Line",
        "--issuer-passphrase", "env",
    )  # fmt: skip
    unit = ca(tmp_path, "leaf", "line", "unit-1", "-o", "out")
    assert unit["key_file"] == "out/unit-1.key"
    assert stat.S_IMODE((tmp_path / "out/unit-1.key").stat().st_mode) == 0o600
    ca(tmp_path, "server", "line", "gw.local", "10.0.0.7", "-o", "out")
    ca(tmp_path, "renew", "line", unit["serial"], "-o", "renewed.pem")
    assert ca(tmp_path, "revoke", "line", unit["serial"], "--reason", "superseded")["revoked_at"]
    assert ca(tmp_path, "crl", "line", "-o", "crl.pem")["revoked"] == 1
    ca(tmp_path, "verification", "line", "C0DE", "-o", "code.pem")

    shown = ca(tmp_path, "show", "line")
    assert [one["name"] for one in shown["chain"]] == ["Line", "Root"]
    assert [entry["kind"] for entry in shown["issued"]] == [
        "device", "server", "device", "verification",
    ]  # fmt: skip
    for file, verdict in (("renewed.pem", "OK"), ("out/unit-1.pem", "certificate revoked")):
        done = subprocess.run(  # noqa: S603
            ["openssl", "verify", "-x509_strict", "-crl_check", "-CRLfile", "crl.pem",  # noqa: S607
             "-CAfile", "root/ca.pem", "-untrusted", file, file],
            cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert verdict in done.stdout + done.stderr


def test_der_for_a_board(folder: Path) -> None:
    """The leaf alone and its key, as mbedTLS takes them; the key is the certificate's."""
    unit = ca(folder, "leaf", "line", "unit-1", "-o", "out", "--format", "der")
    certificate = x509.load_der_x509_certificate((folder / unit["certificate_file"]).read_bytes())
    key = load_der_private_key((folder / unit["key_file"]).read_bytes(), None)
    assert key.public_key() == certificate.public_key()


def test_a_request_from_openssl(folder: Path) -> None:
    """A station that has OpenSSL keeps its key to itself."""
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",  # noqa: S607
         "-nodes", "-keyout", "own.key", "-subj", "/CN=unit-1", "-out", "unit.csr"],
        cwd=folder, capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    unit = ca(folder, "leaf", "line", "unit-1", "-o", "out", "--csr", "unit.csr")
    assert unit["key_file"] is None
    assert [path.name for path in (folder / "out").iterdir()] == ["unit-1.pem"]


def test_a_key_that_a_killed_call_left_is_taken_up(folder: Path) -> None:
    """The second call gives it its certificate; the third finds both and stops."""
    with Authority.open(folder / "line", Secret(PASSPHRASE)) as line:
        first = issuer_output.leaf(line, "unit-1", folder / "out")
        before = first.key.read_bytes()
        first.certificate.unlink()
        again = issuer_output.leaf(line, "unit-1", folder / "out")
        assert again.key.read_bytes() == before
        assert again.issued.serial != first.issued.serial
    error = ca(folder, "leaf", "line", "unit-1", "-o", "out", status=14)["error"]
    assert "is there already" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["root", "line", "--name", "Other"], 15, "holds something already"),
        (["root", "new", "--name", ""], 14, "is no name"),
        (["leaf", "line", "a/b", "-o", "out"], 14, "no registration id"),
        (["leaf", "line", "unit-1", "-o", "out", "--days", "9999"], 14, "issuer's own"),
        (["leaf", "line", "unit-1", "-o", "out", "--csr", "other.csr"], 14, "common name"),
        (["server", "line", "g w", "-o", "out"], 14, "neither a host name"),
        (["renew", "line", "00", "-o", "x.pem"], 14, "issued no certificate"),
        (["leaf", "nothing", "unit-1", "-o", "out"], 2, "does not exist"),
        (["leaf", "line", "unit-1", "-o", "line/ca.pem"], 2, "is a file"),
        (["edge", "e", "--gateway", "gw", "--hostname", "gw.ca"], 14, "must differ"),
        (["edge", "e", "--gateway", "gw", "--hostname", "g w"], 14, "neither a host name"),
    ],
)
def test_a_refusal_has_a_status_and_leaves_no_certificate(
    folder: Path, arguments: list[str], status: int, words: str
) -> None:
    """And says what to do."""
    (folder / "other.csr").write_bytes(request("unit-9"))
    error = ca(folder, *arguments, status=status)["error"]
    assert words in error["message"]
    assert error["next_step"]
    assert not list(folder.glob("out/*.pem")) and not (folder / "e").exists()
    assert not list(folder.glob(".*"))


def test_where_a_passphrase_comes_from(folder: Path) -> None:
    """A file, with or without its last line's end; a wrong one, or none, is exit status 15."""
    (folder / "right").write_text(PASSPHRASE + "\n")
    (folder / "wrong").write_text("not the passphrase")
    for source, status in (("right", 0), ("wrong", 15), ("env", 15), ("absent", 2)):
        done = imprint(
            "ca", "crl", "line", "-o", "crl.pem", "--passphrase", source,
            cwd=folder, env={"PATH": ""},
        )  # fmt: skip
        assert done.returncode == status, (source, done.stderr)


def test_a_person_is_asked(tmp_path: Path) -> None:
    """Hidden, and twice for a new one; what was typed is not shown."""
    runner, options = CliRunner(), ["root", str(tmp_path / "root"), "--name", "Root"]
    twice = runner.invoke(cli_ca.ca, options, input=f"{PASSPHRASE}\n{PASSPHRASE}\n")
    assert twice.exit_code == 0, twice.output
    assert PASSPHRASE not in twice.output + twice.stderr
    Authority.open(tmp_path / "root", Secret(PASSPHRASE)).close()
    once = runner.invoke(
        cli_ca.ca, ["crl", str(tmp_path / "root"), "-o", str(tmp_path / "crl.pem")],
        input=f"{PASSPHRASE}\n",
    )  # fmt: skip
    assert once.exit_code == 0, once.output


def test_a_new_passphrase(folder: Path) -> None:
    """From now on the old one is wrong."""
    (folder / "new").write_text("canary of a second passphrase\n")
    ca(folder, "passphrase", "line", "--new-passphrase", "new")
    assert ca(folder, "crl", "line", "-o", "crl.pem", status=15)["error"]["next_step"]
    done = imprint("ca", "crl", "line", "-o", "crl.pem", "--passphrase", "new", cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("key_type", ["ec", "rsa"])
def test_the_hierarchy_of_a_gateway(folder: Path, key_type: str) -> None:
    """Root, intermediate, device CA, server: the chain file verifies for both names."""
    files = ca(
        folder, "edge", "edge", "--gateway", "gw-1", "--hostname", "gw.local", "--key", key_type
    )
    assert certificates.load((folder / files["server_chain"]).read_bytes())[1:] == (
        certificates.load((folder / files["device_ca_chain"]).read_bytes())
    )
    for name in ("gw.local", "edgeHub"):
        done = subprocess.run(  # noqa: S603
            ["openssl", "verify", "-x509_strict", "-purpose", "sslserver",  # noqa: S607
             "-verify_hostname", name, "-CAfile", files["root"],
             "-untrusted", files["server_chain"], files["server_chain"]],
            cwd=folder, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.stdout.endswith("OK\n"), done.stderr
    device_ca = certificates.load((folder / files["device_ca_chain"]).read_bytes())[0]
    assert device_ca.subject.rfc4514_string() == "CN=gw-1.ca"
    assert stat.S_IMODE((folder / files["device_ca_key"]).stat().st_mode) == 0o600
