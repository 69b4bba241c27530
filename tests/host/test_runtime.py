"""The host's MicroPython: found, started, installed, and refused with a reason.

APT and the package index are stood in for by programs and servers of the test's own, so nothing
here needs the network once `make setup` has been done.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from imprint_tools import debian, runtime, umqtt
from imprint_tools.errors import FetchError, RuntimeMissingError

IMPRINT = Path(sys.executable).with_name("imprint")

APT_GET = """\
#!/bin/sh
# Stands in for apt-get: answers from the files of its own folder, and notes how it was called.
here=$(dirname "$0")
echo "$@" >> "$here/calls"
case "$*" in
*indextargets*--no-release-info*) cat "$here/configured" ;;
*indextargets*) cat "$here/known" ;;
*" download "*) cp "$2" "$here/used.conf"; cp "$here"/*.deb . ;;
*" update") cat "$here/update-errors" >&2; test ! -s "$here/update-errors" ;;
esac
"""
SAYS_VERSION = "#!/bin/sh\necho {version}\n"


def run(command: list[str], **environment: str) -> str:
    """stdout of a program that must succeed."""
    return subprocess.run(  # noqa: S603 - ours, or the test's own
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def program(path: Path, text: str) -> Path:
    """An executable script at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; returns where runtimes will be."""
    monkeypatch.setenv("IMPRINT_CACHE", str(tmp_path / "a cache"))
    return tmp_path / "a cache" / "runtime"


@pytest.fixture
def no_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one empty folder, which is returned."""
    folder = tmp_path / "empty-path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake apt-get before all else on PATH, on a machine of Debian; its folder."""
    folder = tmp_path / "fake-apt"
    program(folder / "apt-get", APT_GET)
    (folder / "known").write_text("http://mirror.test/debian/\tDebian/Debian\n")
    (folder / "configured").write_text("")
    (folder / "update-errors").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv(debian.MIRROR_VARIABLE, raising=False)
    return folder


@pytest.fixture
def packages(apt: Path, tmp_path: Path) -> Path:
    """Gives the fake apt-get a package whose MicroPython says that it is 1.26.1."""
    tree = tmp_path / "micropython"
    program(tree / "usr/bin/micropython", "not started directly")
    program(tree / "usr/lib/i386-linux-gnu/ld-linux.so.2", "#!/bin/sh\necho 1.26.1\n")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: micropython\nVersion: 1.26.1-1\nArchitecture: i386\n"
        "Maintainer: Nobody <nobody@example.invalid>\nDescription: stand-in\n"
    )
    package = apt / "micropython_1.26.1-1_i386.deb"
    run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)])
    return package


# --- what is installed ---


@pytest.mark.parametrize(("arch", "maxsize"), [("i386", 2**31 - 1), ("amd64", 2**63 - 1)])
def test_the_runtime_has_the_word_size_of_its_architecture(arch: str, maxsize: int) -> None:
    """i386 is MicroPython with an ESP32's word size, amd64 the 64-bit one; both run here."""
    found = runtime.find(arch)
    said = run(found.argv("-c", "import sys; print(sys.implementation.version[:3], sys.maxsize)"))
    version = ", ".join(found.version.split("."))
    assert said == f"({version}) {maxsize}\n"


def test_the_heap_is_of_the_size_asked_for() -> None:
    """`heap` bounds MicroPython's heap, so that memory tests are honest."""
    code = "import gc; print(gc.mem_alloc() + gc.mem_free())"
    assert 60_000 < int(run(runtime.find().argv("-c", code, heap="64k"))) <= 64 * 1024


@pytest.mark.parametrize("arch", runtime.ARCHES)
def test_the_clock_can_be_set_by_the_preloaded_library(arch: str, tmp_path: Path) -> None:
    """libfaketime of the same architecture makes MicroPython's clock follow a file."""
    found = runtime.find(arch)
    assert found.faketime is not None
    stamp = tmp_path / "stamp"
    stamp.write_text("2000-01-01 00:00:10")
    command = found.argv("-c", "import time; print(time.gmtime()[:3])", preload=[found.faketime])
    assert run(command, FAKETIME_TIMESTAMP_FILE=str(stamp), TZ="UTC") == "(2000, 1, 1)\n"


def test_an_installed_runtime_is_found_without_starting_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The warm path only looks at folders, so callers need not keep what it returns."""
    runtime.find()

    def forbidden(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", forbidden)
    assert runtime.find().arch == "i386"
    assert runtime.umqtt_dir().is_dir()


def test_umqtt_simple_runs_on_the_runtime() -> None:
    """umqtt_dir() on sys.path gives MicroPython the MQTT client that ESP32 builds carry."""
    code = "from umqtt.simple import MQTTClient; print(MQTTClient.__name__)"
    assert run(runtime.find().argv("-c", code), MICROPYPATH=str(runtime.umqtt_dir())) == (
        "MQTTClient\n"
    )


# --- installing ---


def test_an_install_unpacks_and_records_what_apt_brought(cache: Path, packages: Path) -> None:
    """The folder is named after MicroPython's own version, and nothing else is left over."""
    found = runtime.find("i386")
    assert (found.arch, found.version) == ("i386", "1.26.1")
    assert found.packages() == {"micropython": "1.26.1-1"}
    assert sorted(p.name for p in cache.iterdir()) == [".lock", "i386-1.26.1"]


def test_apt_runs_under_a_configuration_of_its_own(cache: Path, packages: Path, apt: Path) -> None:
    """Lists, cache, status and trusted keys are its own; unsigned archives are not accepted."""
    runtime.find("i386")
    dump = run(["apt-config", "--config-file", str(apt / "used.conf"), "dump"])
    settings = dict(line.lower().rstrip(";").split(" ", 1) for line in dump.splitlines())
    for name in ("state::lists", "state::status", "cache", "etc::sourcelist", "etc::trustedparts"):
        assert str(cache).lower() in settings[f"dir::{name}"]
    assert settings["acquire::allowinsecurerepositories"] == '"false"'
    assert settings["apt::get::allowunauthenticated"] == '"false"'
    assert not any(name.startswith("apt::update::post-invoke::") for name in settings)


def test_two_installs_at_once_are_one(cache: Path, packages: Path, apt: Path) -> None:
    """The second waits for the first, then uses what it finds."""
    command = [str(IMPRINT), "runtime", "run", "--arch", "i386"]
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(run, [command, command]))
    assert said == ["1.26.1\n", "1.26.1\n"]
    assert (apt / "calls").read_text().count("download") == 1


def test_an_interrupted_install_heals(cache: Path, packages: Path) -> None:
    """What a killed installation left is removed; half a runtime is never taken for one."""
    (cache / ".staging-dead/i386-unknown/usr/bin").mkdir(parents=True)
    (cache / "i386-1.26.1").mkdir()
    assert runtime.find("i386").version == "1.26.1"
    assert sorted(p.name for p in cache.iterdir()) == [".lock", "i386-1.26.1"]


def test_the_newest_installed_runtime_is_taken(cache: Path) -> None:
    """Versions compare as numbers, so 1.100.0 is newer than 1.26.1."""
    for version in ("1.26.1", "1.100.0", "1.27.0"):
        program(cache / f"i386-{version}/usr/bin/micropython", "")
    assert runtime.find("i386").version == "1.100.0"


def test_a_failing_download_says_what_apt_said(cache: Path, apt: Path) -> None:
    """FetchError carries APT's own last words, and nothing half done stays."""
    (apt / "update-errors").write_text("W: GPG error\nE: The repository is not signed.\n")
    with pytest.raises(FetchError, match="The repository is not signed"):
        runtime.find("i386")
    assert [p.name for p in cache.iterdir()] == [".lock"]


def test_a_program_that_this_machine_cannot_run_is_not_installed(
    cache: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without 32-bit support is found out at once, and named."""
    monkeypatch.setattr(runtime, "_PROBE_TIMEOUT_S", 0)
    with pytest.raises(RuntimeMissingError, match="does not run as MicroPython"):
        runtime.find("i386")
    assert [p.name for p in cache.iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_named(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error tells which variable chooses another folder."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("IMPRINT_CACHE", str(tmp_path / "file"))
    with pytest.raises(RuntimeMissingError, match="cannot be written") as raised:
        runtime.find("i386")
    assert "IMPRINT_CACHE" in raised.value.next_step


# --- the mirror ---


@pytest.mark.parametrize(
    ("known", "configured", "mirror"),
    [
        (
            "http://m.test/debian-security/\tDebian/Debian-Security\n"
            "http://m.test/proxy/deb/\tDebian/Debian\n",
            "",
            "http://m.test/proxy/deb",
        ),
        (
            "http://m.test/node/\tNode/Node\n",
            "http://m.test/debian-security/\tbookworm-security\n"
            "http://m.test/debian/\tbookworm-security\n"
            "http://n.test/debian/\tbookworm\n",
            "http://n.test/debian",
        ),
        ("", "mirror+file:/etc/m/debian.list/\ttrixie\n", "mirror+file:/etc/m/debian.list"),
        ("cdrom:[Debian]/\tDebian/Debian\nfile:/m/debian/\tDebian/Debian\n", "", "file:/m/debian"),
    ],
    ids=["by-origin", "lists-never-fetched", "mirror-list", "not-a-cdrom"],
)
def test_the_mirror_is_the_machines_own(
    apt: Path, known: str, configured: str, mirror: str
) -> None:
    """A Debian archive among APT's sources, never a -security one; fetched lists not needed."""
    (apt / "known").write_text(known)
    (apt / "configured").write_text(configured)
    assert debian.mirror() == mirror


def test_a_machine_that_is_not_debians_needs_the_mirror_named(
    apt: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Ubuntu the error names the variable, and the variable is obeyed."""
    (apt / "known").write_text("http://m.test/ubuntu/\tUbuntu/Ubuntu\n")
    (apt / "configured").write_text("http://m.test/ubuntu/\tnoble\n")
    with pytest.raises(RuntimeMissingError, match="no Debian archive") as raised:
        runtime.find("i386")
    assert debian.MIRROR_VARIABLE in raised.value.next_step
    monkeypatch.setenv(debian.MIRROR_VARIABLE, "http://d.test/debian/")
    assert debian.mirror() == "http://d.test/debian"


# --- the micropython on PATH ---


def test_without_apt_or_micropython_the_error_says_what_to_install(
    cache: Path, no_tools: Path
) -> None:
    """Both ways out are named: APT's packages, or a micropython on PATH."""
    with pytest.raises(RuntimeMissingError, match=r"apt-get and dpkg-deb not found") as raised:
        runtime.find("i386")
    assert "packages apt and dpkg" in raised.value.next_step
    assert "1.24" in raised.value.next_step
    assert not cache.exists()


def test_without_apt_the_micropython_on_path_stands_in(cache: Path, no_tools: Path) -> None:
    """It is started as it is, and has no clock to set."""
    own = program(no_tools / "micropython", SAYS_VERSION.format(version="1.24.0"))
    found = runtime.find("i386")
    assert (found.arch, found.version, found.faketime) == ("path", "1.24.0", None)
    assert found.argv("main.py", heap="96k") == [str(own), "-X", "heapsize=96k", "main.py"]
    assert found.packages() == {}
    with pytest.raises(RuntimeMissingError, match="preload"):
        found.argv("main.py", preload=[Path("library.so")])


def test_a_machine_that_is_not_a_pc_uses_the_micropython_on_path(
    cache: Path, no_tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's packages for PCs are not even fetched there."""
    program(no_tools / "micropython", SAYS_VERSION.format(version="1.25.1"))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert runtime.find("i386").arch == "path"


@pytest.mark.parametrize("version", ["1.23.0", "Python 3.11", ""])
def test_a_program_on_path_that_will_not_do_is_refused(no_tools: Path, version: str) -> None:
    """Too old, or no MicroPython at all."""
    program(no_tools / "micropython", SAYS_VERSION.format(version=version))
    with pytest.raises(RuntimeMissingError, match=r"older than 1\.24|does not run as"):
        runtime.find("path")


def test_nothing_is_fetched_when_installing_is_not_wanted(cache: Path, apt: Path) -> None:
    """`install=False` raises, and names the command that would install."""
    with pytest.raises(RuntimeMissingError) as raised:
        runtime.find("amd64", install=False)
    assert "imprint runtime install" in raised.value.next_step
    with pytest.raises(RuntimeMissingError):
        runtime.umqtt_dir(install=False)
    assert not cache.exists()


# --- umqtt.simple from the package index ---


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Tests keep stderr for failures."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package index on loopback that pip is set to use; its folder for the project's files."""
    project = tmp_path / "index/simple/micropython-umqtt-simple"
    project.mkdir(parents=True)
    handler = partial(_Quiet, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://operator:hunter2@127.0.0.1:{server.server_port}/simple/"
        monkeypatch.setenv("PIP_INDEX_URL", url)
        yield project
        server.shutdown()
        thread.join()


def publish(index: Path, members: dict[str, bytes]) -> str:
    """Put an sdist with `members` on the index; return its sha256."""
    name = f"{umqtt.PROJECT}-{umqtt.VERSION}.tar.gz"
    with tarfile.open(index / name, "w:gz") as archive:
        for path, content in members.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (index / "index.html").write_text(f'<!DOCTYPE html><a href="{name}">{name}</a>')
    return hashlib.sha256((index / name).read_bytes()).hexdigest()


def test_umqtt_comes_from_the_index_that_pip_uses(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only umqtt/simple.py is taken; a name that climbs out of the archive is never written."""
    members = {"../../evil.py": b"evil", "u-1.3.4/setup.py": b"", "u-1.3.4/umqtt/simple.py": b"#"}
    monkeypatch.setattr(umqtt, "SHA256", publish(index, members))
    folder = runtime.umqtt_dir()
    assert [p for p in folder.rglob("*") if p.is_file()] == [folder / "umqtt/simple.py"]
    assert not list(cache.parent.rglob("evil.py"))


def test_an_sdist_of_another_hash_is_refused(cache: Path, index: Path) -> None:
    """Whatever the index says of the file, the hash pinned in the code decides."""
    publish(index, {"u-1.3.4/umqtt/simple.py": b"import os"})
    with pytest.raises(FetchError, match="not the pinned"):
        runtime.umqtt_dir()
    assert [p.name for p in cache.iterdir()] == [".lock"]


def test_an_index_without_the_sdist_is_named_by_kind_only(cache: Path, index: Path) -> None:
    """The index's URL may hold a password, so no error repeats it."""
    shutil.rmtree(index)
    with pytest.raises(FetchError, match="NoSuchProjectError") as raised:
        runtime.umqtt_dir()
    assert "hunter2" not in str(raised.value) + raised.value.next_step


# --- the command ---


def test_show_puts_the_installed_beside_the_tested() -> None:
    """Newer point releases are accepted; `show` tells what the tests last passed with."""
    runtime.install()
    shown = json.loads(run([str(IMPRINT), "runtime", "show", "--json"]))
    assert shown["tested"] == runtime.tested()
    assert [each["arch"] for each in shown["installed"]][:2] == list(runtime.ARCHES)
    for each in shown["installed"][:2]:
        assert set(each["packages"]) == set(shown["tested"]["packages"])
    assert shown["umqtt.simple"] == shown["tested"]["umqtt.simple"] == umqtt.VERSION
    assert "i386" in run([str(IMPRINT), "runtime", "show"]).splitlines()[0]


def test_run_becomes_micropython(tmp_path: Path) -> None:
    """Arguments after `--` are MicroPython's, its output and exit status the command's."""
    script = tmp_path / "main.py"
    script.write_text("import sys; print(sys.argv[1:], sys.maxsize); sys.exit(7)")
    command = [str(IMPRINT), "runtime", "run", "--heap", "64k", "--", str(script), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)  # noqa: S603 - ours
    assert (done.stdout, done.returncode) == (f"['--json'] {2**31 - 1}\n", 7)


def test_path_prints_the_folder() -> None:
    """`imprint runtime path` is for scripts: one line, no installing."""
    assert run([str(IMPRINT), "runtime", "path"]) == f"{runtime.find().root}\n"


def test_a_missing_runtime_is_exit_status_30(tmp_path: Path, no_tools: Path) -> None:
    """The command reports the error as every command does."""
    done = subprocess.run(  # noqa: S603 - ours
        [str(IMPRINT), "runtime", "path", "--json"],
        env={**os.environ, "IMPRINT_CACHE": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 30
    assert json.loads(done.stdout)["error"]["code"] == "runtime-missing"


def test_make_without_a_target_lists_the_targets() -> None:
    """Every target a person may name has its line of help."""
    folder = Path(__file__).parents[2]
    listing = run(["make", "--no-print-directory", "-C", str(folder)])
    listed = {line.split()[0] for line in listing.splitlines()}
    assert {"setup", "demo", "test", "test-all", "flash", "bench", "lint", "docs"} <= listed
