"""Real MicroPython on the host: Debian's unix port, 32 and 64 bit, in the cache folder.

    cache_dir()/runtime/<arch>-<version>/         the unpacked packages, and packages.json
    cache_dir()/runtime/umqtt.simple-<version>/   umqtt/simple.py

A folder is filled elsewhere and renamed into place under a lock, so one that exists is whole.
The program is started through the dynamic loader that lies beside it, with its own libraries:
the machine may be older than the packages, and need not have 32-bit ones.
"""

from __future__ import annotations

import fcntl
import functools
import json
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from imprint_tools import debian, umqtt
from imprint_tools.errors import RuntimeMissingError
from imprint_tools.paths import cache_dir

ARCHES = ("i386", "amd64")

_SUITE = "trixie"
_PACKAGES = (
    "micropython", "libc6", "libffi8", "libmbedcrypto16", "libmbedtls21", "libmbedx509-7",
    "libfaketime",
)  # fmt: skip
_LIBRARIES = {"i386": "usr/lib/i386-linux-gnu", "amd64": "usr/lib/x86_64-linux-gnu"}
_LOADERS = {"i386": "ld-linux.so.2", "amd64": "ld-linux-x86-64.so.2"}
_CPUS = ("x86_64", "i386", "i486", "i586", "i686")
_OLDEST_ON_PATH = (1, 24)

_PROBE = "import sys; print('.'.join(str(n) for n in sys.implementation.version[:3]))"
_PROBE_TIMEOUT_S = 30
_LOCK_TIMEOUT_S = 1800  # longer than another process's whole installation may take
_LOCK_POLL_S = 0.1

_TESTED_FILE = Path(__file__).with_name("runtime_versions.json")
_INSTALL = "`imprint runtime install`"


@dataclass(frozen=True)
class Runtime:
    """One MicroPython: `arch` i386, amd64 or path (the one on PATH), `version` MicroPython's own.

    `faketime` is a libfaketime.so.1 to preload; the one on PATH has none. `root` is the folder
    of the unpacked packages; for path it is the program.
    """

    arch: str
    version: str
    faketime: Path | None
    root: Path

    def argv(self, *args: str, heap: str | None = None, preload: Sequence[Path] = ()) -> list[str]:
        """The whole command line for `args`; `heap` is a size as MicroPython writes it (`96k`).

        `preload` are shared objects of this architecture. Raises RuntimeMissingError where they
        cannot be loaded, with the MicroPython of PATH.
        """
        options = ["-X", f"heapsize={heap}"] if heap else []
        if self.arch == "path":
            if preload:
                raise RuntimeMissingError(
                    "the MicroPython on PATH cannot be given a library to preload",
                    next_step=f"{_INSTALL} on Debian or Ubuntu gets one that can",
                )
            return [str(self.root), *options, *args]
        libraries = self.root / _LIBRARIES[self.arch]
        loader = [str(libraries / _LOADERS[self.arch]), "--library-path", str(libraries)]
        if preload:
            loader += ["--preload", ":".join(str(library) for library in preload)]
        return [*loader, str(self.root / "usr/bin/micropython"), *options, *args]

    def packages(self) -> dict[str, str]:
        """Debian's version of each unpacked package; empty for path."""
        if self.arch == "path":
            return {}
        versions: dict[str, str] = json.loads((self.root / "packages.json").read_text())
        return versions


def find(arch: str = "i386", *, install: bool = True) -> Runtime:
    """The runtime of `arch`, installed first if it is missing, unless `install` is false.

    Where installing is impossible (no APT, not a PC) the MicroPython on PATH stands in. One that
    is installed is found in well under a millisecond. Raises RuntimeMissingError; FetchError
    when a download fails.
    """
    if arch == "path":
        return _on_path()
    if found := _installed(arch):
        return found
    if obstacle := _obstacle():
        return _stand_in(arch, obstacle)
    if not install:
        raise RuntimeMissingError(f"MicroPython for {arch} is not installed", next_step=_INSTALL)
    return _install(arch)


def install(
    arches: Sequence[str] = ARCHES, note: Callable[[str], None] = lambda _line: None
) -> list[Runtime]:
    """Install what is missing of `arches` and of umqtt.simple. `note` gets lines for a person."""
    runtimes = []
    for arch in arches:
        if _installed(arch) is None:
            obstacle = _obstacle()
            note(
                f"no MicroPython for {arch} can be installed here: {obstacle}"
                if obstacle
                else f"fetching MicroPython for {arch} from Debian {_SUITE}"
            )
        runtimes.append(find(arch))
    umqtt_dir()
    return list(dict.fromkeys(runtimes))


def umqtt_dir(*, install: bool = True) -> Path:
    """The folder for MicroPython's sys.path that holds umqtt.simple; fetched if it is missing.

    Raises RuntimeMissingError when it is and `install` is false, FetchError.
    """
    target = _base() / f"umqtt.simple-{umqtt.VERSION}"
    module = target / "umqtt/simple.py"
    if module.is_file():
        return target
    if not install:
        raise RuntimeMissingError("umqtt.simple is not installed", next_step=_INSTALL)
    with _staging() as staging:
        if not module.is_file():  # nor brought by another process, while this one waited
            fetched = staging / "fetched"
            fetched.mkdir()
            umqtt.fetch(fetched)
            _publish(fetched, target)
    return target


def tested() -> dict[str, Any]:
    """The versions that the whole test suite last passed with."""
    versions: dict[str, Any] = json.loads(_TESTED_FILE.read_text())
    return versions


def _base() -> Path:
    return cache_dir() / "runtime"


def _installed(arch: str) -> Runtime | None:
    """The newest in the cache. The folder's name tells the version: nothing need be started."""
    found = [
        _runtime(arch, root)
        for root in _base().glob(f"{arch}-*")
        if (root / "usr/bin/micropython").is_file()
    ]
    return max(found, key=lambda runtime: _numbers(runtime.version), default=None)


def _runtime(arch: str, root: Path) -> Runtime:
    faketime = root / _LIBRARIES[arch] / "faketime/libfaketime.so.1"
    return Runtime(arch, root.name.removeprefix(f"{arch}-"), faketime, root)


def _install(arch: str) -> Runtime:
    with _staging() as staging:
        if found := _installed(arch):  # by another process, while this one waited
            return found
        archives = staging / "archives"
        archives.mkdir()
        packages = debian.fetch(_PACKAGES, arch, _SUITE, archives)
        root = staging / f"{arch}-unknown"
        for package in packages:
            debian.unpack(package, root)
        versions = dict(package.name.split("_")[:2] for package in packages)
        (root / "packages.json").write_text(json.dumps(versions, indent=2, sort_keys=True))
        version = _version(_runtime(arch, root).argv("-c", _PROBE))
        target = _base() / f"{arch}-{version}"
        _publish(root, target)
        return _runtime(arch, target)


def _obstacle() -> str | None:
    """Why nothing can be installed on this machine, or None."""
    if platform.machine() not in _CPUS:
        return f"its programs are for PCs, and this machine is {platform.machine()}"
    if missing := debian.missing_tools():
        return f"{' and '.join(missing)} not found"
    return None


def _stand_in(arch: str, obstacle: str) -> Runtime:
    try:
        return _on_path()
    except RuntimeMissingError as missing:
        raise RuntimeMissingError(
            f"MicroPython for {arch} cannot be installed ({obstacle}), and {missing}",
            next_step="on Debian or Ubuntu install the packages apt and dpkg; elsewhere put a "
            "`micropython` of at least 1.24 on PATH",
        ) from None


def _on_path() -> Runtime:
    program = shutil.which("micropython")
    if program is None:
        raise RuntimeMissingError("there is no micropython on PATH", next_step=_INSTALL)
    version = _version_on_path(program)
    if _numbers(version) < _OLDEST_ON_PATH:
        raise RuntimeMissingError(
            f"the micropython on PATH is {version}, older than 1.24", next_step=_INSTALL
        )
    return Runtime("path", version, None, Path(program))


@functools.cache
def _version_on_path(program: str) -> str:
    return _version([program, "-c", _PROBE])


def _version(command: list[str]) -> str:
    """What the MicroPython that `command` starts says of itself; proves that it starts."""
    try:
        probe = subprocess.run(  # noqa: S603 - our own words, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=True,
        )
        version = probe.stdout.strip()
        _numbers(version)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise RuntimeMissingError(
            f"{command[0]} does not run as MicroPython on this machine ({type(error).__name__})",
            next_step="check that the kernel runs programs of that architecture",
        ) from error
    return version


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


@contextmanager
def _staging() -> Iterator[Path]:
    """An empty folder beside the installed ones, for one process at a time.

    Those of killed processes are removed. Each has a name of its own, since a program that such
    a process had started may still be writing to its folder.
    """
    try:
        _base().mkdir(parents=True, exist_ok=True)
        lock = (_base() / ".lock").open("w")
    except OSError as error:
        raise RuntimeMissingError(
            f"the cache folder {_base()} cannot be written: {error.strerror}",
            next_step="set IMPRINT_CACHE to a folder that can",
        ) from error
    with lock:
        _acquire(lock)
        for abandoned in _base().glob(".staging-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=_base()))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _acquire(lock: IO[str]) -> None:
    """Wait for the lock; the kernel frees it when its holder ends, however it ends."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeMissingError(
                    f"another process has held {lock.name} for {_LOCK_TIMEOUT_S} s",
                    next_step="end it (it is another installation), then run this again",
                ) from None
        time.sleep(_LOCK_POLL_S)


def _publish(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`; a damaged one in its place goes."""
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)
