"""Packages of Debian unpacked into a folder, without root and without touching the machine's APT.

APT runs under a configuration of its own: own sources list, lists, cache and an empty status
file. What stays the machine's is how it reaches the world (proxies, credentials, time-outs) and
which mirror it uses. APT itself checks the archive's signatures, against the keyring of the
package debian-archive-keyring, and each package's hash against the signed lists.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from imprint_tools.errors import FetchError, RuntimeMissingError

MIRROR_VARIABLE = "IMPRINT_DEBIAN_MIRROR"
"""Environment variable with the URL of a Debian archive; wins over the machine's own sources."""

_TOOLS = ("apt-get", "dpkg-deb")
_KEYRING_PACKAGE = "debian-archive-keyring"
_KEYRINGS = tuple(
    Path("usr/share/keyrings", _KEYRING_PACKAGE + suffix) for suffix in (".gpg", ".pgp")
)

_QUERY_TIMEOUT_S = 60
_FETCH_TIMEOUT_S = 900  # 10 MB of lists and 6 MB of packages, on a slow line

_CONFIG = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::State "{folder}/state";
Dir::State::Lists "{folder}/state/lists";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
"""
_OWN_SOURCES = """\
#clear APT::Architectures;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Update::Error-Mode "any";
Dir::Etc::SourceList "{folder}/debian.sources";
Dir::Etc::SourceParts "{folder}/no-parts";
Dir::Etc::Trusted "{folder}/no-trusted";
Dir::Etc::TrustedParts "{folder}/trusted";
Dir::Etc::Preferences "{folder}/no-preferences";
Dir::Etc::PreferencesParts "{folder}/no-parts";
"""
_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: {suite}
Components: main
Architectures: {arch}
Targets: Packages
"""


def missing_tools() -> list[str]:
    """Those of the programs needed here that are not on PATH."""
    return [tool for tool in _TOOLS if shutil.which(tool) is None]


def fetch(
    packages: Sequence[str],
    arch: str,
    suite: str,
    folder: Path,
    *,
    dependencies: bool = False,
) -> list[Path]:
    """Download `packages` of `suite` for `arch` into `folder`; return the .deb files.

    With `dependencies`, all that they depend on, too. `folder` must be empty and is the caller's
    to remove. Raises RuntimeMissingError when the machine has no APT or no Debian mirror,
    FetchError when APT fails.
    """
    if missing := missing_tools():
        raise RuntimeMissingError(
            f"{' and '.join(missing)} not found on PATH",
            next_step="install the packages apt and dpkg (Debian, Ubuntu)",
        )
    own = folder / "debian"
    sources = _SOURCES.format(mirror=mirror(), suite=suite, arch=arch)
    # The only keys that this APT knows. Not by Signed-By: it takes no path with a space in it.
    (own / "trusted").mkdir(parents=True)
    shutil.copy(_keyring(folder / "keyring"), own / "trusted/debian.gpg")
    (own / "debian.sources").write_text(sources)
    config = (_CONFIG + _OWN_SOURCES).format(folder=own, arch=arch)
    return _download(packages, own, config, dependencies=dependencies)


def unpack(package: Path, folder: Path) -> None:
    """Unpack one .deb into `folder`; none of the package's scripts run."""
    _run("dpkg-deb", "--extract", str(package), str(folder))


def mirror() -> str:
    """The URL of a Debian archive: `$IMPRINT_DEBIAN_MIRROR`, else one of the machine's own APT."""
    if uri := os.environ.get(MIRROR_VARIABLE):
        return uri.rstrip("/")
    # Origin and label are known once the machine has fetched its lists. A fresh container has
    # none; then the sources' own words must do: path ".../debian", suite not a -security one.
    known = _targets("$(ORIGIN)/$(LABEL)", "--release-info")
    guessed = _targets("$(RELEASE)", "--no-release-info")
    candidates = [uri for uri, origin in known if origin == "Debian/Debian"]
    candidates += [
        uri
        for uri, release in guessed
        if re.search(r"/debian(\.list)?$", uri) and not release.endswith("-security")
    ]
    for uri in candidates:
        if not uri.startswith("cdrom:"):
            return uri
    raise RuntimeMissingError(
        "the machine's APT has no Debian archive among its sources (it is not Debian's)",
        next_step=f"set {MIRROR_VARIABLE} to the URL of a Debian mirror: the folder with dists/",
    )


def _targets(field: str, *options: str) -> list[tuple[str, str]]:
    """(archive URI, `field`) of each package list that the machine's APT is set up for."""
    lines = _run(
        "apt-get", "indextargets", *options, "--format", f"$(REPO_URI)\t{field}",
        "Created-By: Packages",
    ).splitlines()  # fmt: skip
    pairs = (line.split("\t", 1) for line in lines if "\t" in line)
    return [(uri.rstrip("/"), value) for uri, value in pairs]


def _keyring(folder: Path, root: Path = Path("/")) -> Path:
    """Debian's public keys: the machine's copy, else fetched through the machine's own APT."""
    for keyring in _KEYRINGS:
        if (root / keyring).is_file():
            return root / keyring
    # Ubuntu carries the package too, so its authenticity is that of the machine's own archive.
    folder.mkdir()
    (package,) = _download([_KEYRING_PACKAGE], folder, _CONFIG.format(folder=folder))
    unpack(package, folder / "unpacked")
    return next(folder / "unpacked" / k for k in _KEYRINGS if (folder / "unpacked" / k).is_file())


def _download(
    packages: Sequence[str], folder: Path, config: str, *, dependencies: bool = False
) -> list[Path]:
    """Run APT with `config` and all its state in `folder`: update the lists, then download."""
    for name in ("state/lists/partial", "cache/archives/partial", "log", "no-parts", "packages"):
        (folder / name).mkdir(parents=True)
    (folder / "state/status").touch()
    (folder / "apt.conf").write_text(config)
    apt = ("apt-get", "--config-file", str(folder / "apt.conf"), "--quiet")
    _run(*apt, "update", timeout_s=_FETCH_TIMEOUT_S)
    if not dependencies:
        _run(*apt, "download", *packages, cwd=folder / "packages", timeout_s=_FETCH_TIMEOUT_S)
        return sorted((folder / "packages").glob("*.deb"))
    # Nothing counts as installed here, so that "install" means the whole closure.
    _run(
        *apt, "--no-install-recommends", "--download-only", "--yes", "install", *packages,
        timeout_s=_FETCH_TIMEOUT_S,
    )  # fmt: skip
    return sorted((folder / "cache/archives").glob("*.deb"))


def _run(*command: str, cwd: Path | None = None, timeout_s: int = _QUERY_TIMEOUT_S) -> str:
    """Run an APT tool; return its stdout. Raises FetchError with the tool's own last words."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"{command[0]} did not end within {timeout_s} s",
            next_step="check the network and the mirror, then run it again",
        ) from error
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if line[:2] in ("E:", "W:")]
        raise FetchError(
            f"{command[0]} failed: " + ("\n  ".join(words[-6:]) or done.stderr[-500:]),
            next_step="check the network and the mirror; if a key is missing, "
            f"update the package {_KEYRING_PACKAGE}",
        )
    return done.stdout
