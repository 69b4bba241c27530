"""A root CA into a store and out of it, by the system's own update-ca-certificates."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from imprint_tools import certificates, trust_store
from imprint_tools.certificates import Purpose
from imprint_tools.errors import TrustAnchorError
from imprint_tools.trust_store import Store
from test_cli import imprint

DAY = datetime.timedelta(days=1)
TOOL = shutil.which("update-ca-certificates", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
with_tool = pytest.mark.skipif(TOOL is None, reason="neither Debian nor Ubuntu")


def root(
    name: str = "Plant root (test)", *, begin: int = -1, end: int = 30, ca: bool = True
) -> x509.Certificate:
    key, now = certificates.new_key("ec"), certificates.utc_now()
    return certificates.build(
        name, key.public_key(), None, key, now + begin * DAY, now + end * DAY,
        Purpose(authority=ca),
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(certificates.pem(root()))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of its own, with one root of the distribution in it."""
    folders = {name: tmp_path / name for name in ("share", "local", "etc", "hooks")}
    for folder in folders.values():
        folder.mkdir()
    (folders["share"] / "vendor.crt").write_bytes(certificates.pem(root("Vendor")))
    (tmp_path / "conf").write_text("vendor.crt\n")
    arguments = (
        "--certsconf", str(tmp_path / "conf"), "--certsdir", str(folders["share"]),
        "--localcertsdir", str(folders["local"]), "--etccertsdir", str(folders["etc"]),
        "--hooksdir", str(folders["hooks"]),
    )  # fmt: skip
    return Store(folders["local"], folders["etc"] / "ca-certificates.crt", arguments)


def trusted(store: Store) -> set[str]:
    """Whom OpenSSL trusts by the store's bundle."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=store.bundle)
    return {
        dict(pair[0] for pair in one["subject"])["commonName"] for one in context.get_ca_certs()
    }


@with_tool
def test_in_and_out(file: Path, store: Store) -> None:
    """Installed, installed again, removed, removed again; the distribution's root stays."""
    what = trust_store.plan(file, store=store)
    assert [step.split()[0] for step in what.steps] == ["write", "run"]
    assert not what.target.exists()
    trust_store.carry_out(what, file, store=store)
    assert trusted(store) == {"Vendor", "Plant root (test)"}
    assert what.target.stat().st_mode & 0o777 == 0o644
    assert trust_store.plan(file, store=store).steps == ()

    back = trust_store.plan(file, remove=True, store=store)
    assert [step.split()[0] for step in back.steps] == ["remove", "run"]
    trust_store.carry_out(back, file, store=store)
    assert trusted(store) == {"Vendor"}
    assert not any(store.local.iterdir())
    assert trust_store.plan(file, remove=True, store=store).steps == ()


@with_tool
def test_two_roots_of_one_name_are_two(tmp_path: Path, store: Store) -> None:
    """A root that was made anew does not take the place of the old one."""
    for number in range(2):
        path = tmp_path / f"{number}.pem"
        path.write_bytes(certificates.pem(root()))
        trust_store.carry_out(trust_store.plan(path, store=store), path, store=store)
    assert len(list(store.local.iterdir())) == 2


@with_tool
def test_what_fails_is_undone(file: Path, store: Store) -> None:
    """A folder of the store that is not there: the tool fails, and our file is gone again."""
    shutil.rmtree(store.bundle.parent)
    with pytest.raises(TrustAnchorError, match="update-ca-certificates failed"):
        trust_store.carry_out(trust_store.plan(file, store=store), file, store=store)
    assert not any(store.local.iterdir())


@with_tool
def test_without_rights_it_says_the_command(
    file: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole command, to be copied, with this program's own path."""
    what = trust_store.plan(file, store=store)
    monkeypatch.setattr(trust_store.os, "access", lambda *_: False)
    with pytest.raises(TrustAnchorError, match="root only") as caught:
        trust_store.carry_out(what, file, store=store)
    assert caught.value.next_step.startswith("sudo /")
    assert caught.value.next_step.endswith(f"/imprint ca install {file}")


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (root(ca=False), "is no CA's certificate"),
        (root(begin=-3, end=-1), "ended on"),
        (root(begin=1), "begins on"),
    ],
)
def test_what_is_no_root_is_refused(
    file: Path, store: Store, certificate: x509.Certificate, words: str
) -> None:
    """Nothing is written."""
    file.write_bytes(certificates.pem(certificate))
    with pytest.raises(TrustAnchorError, match=words):
        trust_store.plan(file, store=store)


def test_an_intermediate_or_two_certificates_are_refused(file: Path, store: Store) -> None:
    """OpenSSL takes a root only, and the store one a file."""
    key, now = certificates.new_key("ec"), certificates.utc_now()
    own = root("Above")
    below = certificates.build(
        "Below", key.public_key(), own, key, now - DAY, now + DAY, Purpose(authority=True)
    )
    for chain, words in (((below,), "is no root"), ((own, below), "holds 2 certificates")):
        file.write_bytes(certificates.pem(*chain))
        with pytest.raises(TrustAnchorError, match=words):
            trust_store.plan(file, store=store)


def test_another_kind_of_machine_is_told(
    file: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the tool is missing the message says what to do."""
    monkeypatch.setattr(trust_store.shutil, "which", lambda *_, **__: None)
    with pytest.raises(TrustAnchorError, match="neither Debian nor Ubuntu"):
        trust_store.plan(file, store=store)


@with_tool
def test_a_dry_run_says_and_does_nothing(file: Path) -> None:
    """The real store's paths; nothing is written there."""
    before = subprocess.run(
        ["ls", "-la", "/usr/local/share/ca-certificates"],  # noqa: S607
        capture_output=True, check=False,
    ).stdout  # fmt: skip
    done = imprint("ca", "install", file, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would write /usr/local/share/ca-certificates/imprint-Plant-root-test-" in done.stderr
    assert "would run /" in done.stderr
    found = json.loads(imprint("ca", "install", file, "--dry-run", "--json").stdout)
    assert found["done"] is False and len(found["steps"]) == 2
    after = subprocess.run(
        ["ls", "-la", "/usr/local/share/ca-certificates"],  # noqa: S607
        capture_output=True, check=False,
    ).stdout  # fmt: skip
    assert after == before


def test_a_unit_is_no_root(tmp_path: Path) -> None:
    """Exit status 16, with a next step."""
    path = tmp_path / "unit.pem"
    path.write_bytes(certificates.pem(root(ca=False)))
    done = imprint("ca", "install", path)
    assert done.returncode == 16
    assert "next: " in done.stderr
