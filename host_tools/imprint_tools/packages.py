"""mip packages for a board's image: where their files come from, and which are taken.

    ./folder            with a package.json: what it names; with an __init__.py: that package
    ./module.py         that module
    name@1.2.3          of mip's index
    github:org/repo@v1  (gitlab:, codeberg:) the package.json there; also github:org/repo/x.py@v1

Everything goes below /lib. What comes from a network has a version, dependencies included, so
that the same command gives the same image next year; of mip's index each file is also held
against its hash. The format is mip's and so are the addresses (mpremote.mip); its downloader is
not used, which waits without end, asks a board, and believes what it gets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Final

from mpremote import mip  # type: ignore[import-untyped]

from imprint_tools import fetch, image
from imprint_tools.errors import FetchError, ImageError

INDEX: Final[str] = mip._PACKAGE_INDEX
_HOSTS: Final = ("codeberg:", "github:", "gitlab:")
_FLOATING: Final = ("", "latest", "HEAD", "main", "master")
_FIRMWARE: Final = ("boot", "imprint", "main")  # modules that no package may bring
_BYTES_MAX: Final = 1 << 20  # of one file; a board's file system has 2 MB
_PACKAGES_MAX: Final = 32  # with all dependencies


def collect(specs: Iterable[str], index: str = INDEX) -> dict[str, bytes]:
    """The files of the packages by their path on the board, modules compiled.

    Raises ImageError: a package without a version, one that is not there or not as mip has them,
    two with the same file, one that would stand in for the firmware. Raises FetchError: a network
    is needed and there is none.
    """
    gathering = _Gathering(index.rstrip("/"))
    for spec in specs:
        gathering.add(spec)
    return {f"lib/{name}": data for name, data in sorted(gathering.files.items())}


class _Gathering:
    def __init__(self, index: str) -> None:
        self.files: dict[str, bytes] = {}
        self._index = index
        self._seen: set[tuple[str, str]] = set()

    def add(self, spec: str) -> None:
        path = Path(spec).expanduser()
        if path.exists():
            self._add_local(spec, path)
        elif spec.startswith((".", "/", "~")):
            raise ImageError(f"{spec}: there is no such file or folder")
        else:
            name, _, version = spec.partition("@")
            self._add_named(name, version)

    def _add_local(self, spec: str, path: Path) -> None:
        path = path.resolve()
        try:
            if path.is_file():
                self._put(spec, path.name, path.read_bytes())
            elif (path / "package.json").is_file():
                self._add_manifest(spec, (path / "package.json").read_bytes(), path, "")
            elif (path / "__init__.py").is_file():
                for file in sorted(path.rglob("*")):
                    place = file.relative_to(path.parent)
                    if file.is_file() and not _is_left_out(place):
                        self._put(spec, place.as_posix(), file.read_bytes())
            else:
                raise ImageError(
                    f"{spec} has neither a package.json nor an __init__.py",
                    next_step="Name the folder of the package itself, or a .py file.",
                )
        except OSError as error:
            raise ImageError(f"{spec}: {error.filename}: {error.strerror}") from None

    def _add_named(self, name: str, version: str) -> None:
        """What lies somewhere in a network."""
        spec = f"{name}@{version}" if version else name
        if name.startswith(("http:", "https:")):
            raise ImageError(
                f"{spec}: an address has no version",
                next_step="Download it, and name the folder or file.",
            )
        if version in _FLOATING:
            raise ImageError(
                f"{spec} is not pinned to a version",
                next_step=f"Name a release: {name}@VERSION; or a local folder.",
            )
        if (name, version) in self._seen:
            return
        self._seen.add((name, version))
        if len(self._seen) > _PACKAGES_MAX:
            raise ImageError(f"{spec}: more than {_PACKAGES_MAX} packages with all dependencies")
        if not name.startswith(_HOSTS):
            # "py": as source, since everything is compiled by one compiler, which is ours.
            address = f"{self._index}/package/py/{name}/{version}.json"
            self._add_manifest(spec, _get(spec, address), None, version)
        elif name.count("/") == 0:
            raise ImageError(f"{spec} names no repository, as in github:org/repo@v1.0")
        elif name.endswith((".py", ".mpy")):
            data = _get(spec, mip._rewrite_url(name, version))
            self._put(spec, name.rpartition("/")[2], data)
        else:
            if not name.endswith(".json"):
                name = name.rstrip("/") + "/package.json"
            manifest = _get(spec, mip._rewrite_url(name, version))
            self._add_manifest(spec, manifest, name.rpartition("/")[0], version)

    def _add_manifest(self, spec: str, text: bytes, base: Path | str | None, version: str) -> None:
        """The files that a package.json names; `base` is where relative addresses begin."""
        try:
            content = json.loads(text)
            hashes = _pairs(content.get("hashes", []))
            urls = _pairs(content.get("urls", []))
            needed = _pairs(content.get("deps", []))
        except (ValueError, TypeError, AttributeError):
            raise ImageError(f"{spec}: its package.json is not as mip has them") from None
        for place, digest in hashes:
            data = _get(spec, f"{self._index}/file/{digest[:2]}/{digest}")
            if len(digest) < 8 or not hashlib.sha256(data).hexdigest().startswith(digest):
                raise ImageError(f"{spec}: {place} is not the file that the index names")
            self._put(spec, place, data)
        for place, url in urls:
            self._put(spec, place, _at(spec, url, base, version))
        for name, wanted in needed:
            self._add_named(name, wanted)

    def _put(self, spec: str, place: str, data: bytes) -> None:
        parts = PurePosixPath(place).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in place:
            raise ImageError(f"{spec}: {place!r} is no place below /lib")
        name = str(PurePosixPath(*parts))
        module = name.removesuffix(".py").removesuffix(".mpy")
        if module.split("/")[0] in _FIRMWARE:
            raise ImageError(f"{spec}: {place} would stand in for a file of the firmware")
        if name.endswith(".py"):
            data = image.compile_mpy(data, f"lib/{name}")
            name = f"{module}.mpy"
        if self.files.setdefault(name, data) != data:
            raise ImageError(f"{spec}: lib/{name} is in another package as well, and differs")


def _at(spec: str, url: str, base: Path | str | None, version: str) -> bytes:
    """The file that an entry of `urls` means."""
    if url.startswith(("http:", "https:")):
        raise ImageError(
            f"{spec}: {url} has no version",
            next_step="Download it into a folder, with a package.json that names it there.",
        )
    if isinstance(base, Path):
        # Many name their own repository in full: in a checkout of it the file is at hand.
        inside = url.split("/", 2)[-1] if url.startswith(_HOSTS) else url
        path = (base / inside).resolve()
        if path.is_relative_to(base) and path.is_file():
            return path.read_bytes()
        raise ImageError(f"{spec}: its package.json names {inside}, which is not in the folder")
    if not url.startswith(_HOSTS):
        if base is None:
            raise ImageError(f"{spec}: {url} is relative to nothing")
        url = f"{base}/{url}"
    return _get(spec, mip._rewrite_url(url, version))


def _get(spec: str, address: str) -> bytes:
    try:
        return fetch.get(address, bytes_max=_BYTES_MAX)
    except FetchError as error:
        raise FetchError(
            f"{spec}: {error}",
            next_step="Check name, version and network; or get it elsewhere and give the folder.",
        ) from None


def _pairs(value: Any) -> list[tuple[str, str]]:
    """[[text, text], ...], which is what each list of a package.json is. Raises as JSON does."""
    pairs = [(first, second) for first, second in value]
    if not all(isinstance(item, str) for pair in pairs for item in pair):
        raise TypeError
    return pairs


def _is_left_out(place: PurePosixPath | Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in place.parts)
