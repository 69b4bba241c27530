"""mip packages in a board's image: from folders, an index and repositories, on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from imprint_tools import fetch, image, packages
from imprint_tools.cli.image import image as command
from imprint_tools.errors import FetchError, ImageError

SOURCE = b"def answer():\n    return 42\n"


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def manifest(**content: Any) -> bytes:
    return json.dumps({"version": "1.0", **content}).encode()


# --- Local -------------------------------------------------------------------------------------


def test_a_module(tmp_path: Path) -> None:
    """A .py file becomes a compiled module below /lib, under its own name in tracebacks."""
    write(tmp_path, {"oven.py": SOURCE})
    files = packages.collect([str(tmp_path / "oven.py")])
    assert list(files) == ["lib/oven.mpy"]
    assert files["lib/oven.mpy"] == image.compile_mpy(SOURCE, "lib/oven.py")


def test_a_plain_package(tmp_path: Path) -> None:
    """A folder with an __init__.py is taken whole, but for caches and hidden files."""
    folder = write(
        tmp_path / "oven",
        {
            "__init__.py": b"",
            "sub/heat.py": SOURCE,
            "table.bin": b"\0\1",
            ".git/config": b"",
            "__pycache__/heat.pyc": b"",
        },
    )
    files = packages.collect([str(folder)])
    assert list(files) == ["lib/oven/__init__.mpy", "lib/oven/sub/heat.mpy", "lib/oven/table.bin"]
    assert files["lib/oven/table.bin"] == b"\0\1"


@pytest.mark.parametrize("prefix", ["", "github:org/oven/"])
def test_a_folder_with_a_package_json(tmp_path: Path, prefix: str) -> None:
    """Just what package.json names, where it says; an address in its own repository is a file
    of the checkout."""
    folder = write(
        tmp_path,
        {
            "package.json": manifest(urls=[["oven/__init__.py", prefix + "src/oven.py"]]),
            "src/oven.py": SOURCE,
            "setup.py": b"",
        },
    )
    assert list(packages.collect([str(folder)])) == ["lib/oven/__init__.mpy"]


def test_the_order_does_not_matter(tmp_path: Path) -> None:
    """The same packages in another order, or one twice, give the same files in the same order."""
    specs = [str(write(tmp_path, {f"{name}.py": SOURCE}) / f"{name}.py") for name in "ba"]
    first = packages.collect(specs)
    assert list(first.items()) == list(packages.collect([*reversed(specs), specs[0]]).items())


@pytest.mark.parametrize(
    ("files", "spec", "reason"),
    [
        ({}, "./nowhere", "no such file or folder"),
        ({"readme": b""}, "", "neither a package.json nor an __init__"),
        ({"x.py": b"def f(:\n"}, "x.py", r"lib/x\.py does not compile"),
        ({"main.py": b""}, "main.py", "stand in for a file of the firmware"),
        ({"boot.mpy": b""}, "boot.mpy", "stand in for a file of the firmware"),
        ({"imprint/__init__.py": b""}, "imprint", "stand in for a file of the firmware"),
        ({"package.json": b"[]"}, "", "not as mip has them"),
        ({"package.json": b"{"}, "", "not as mip has them"),
        ({"package.json": manifest(urls=[["a.py"]])}, "", "not as mip has them"),
        ({"package.json": manifest(urls=[["a.py", 7]])}, "", "not as mip has them"),
        ({"package.json": manifest(urls=[["a.py", "a.py"]])}, "", "not in the folder"),
        ({"package.json": manifest(urls=[["a.py", "../a.py"]])}, "", "not in the folder"),
        ({"package.json": manifest(urls=[["a.py", "https://x/a.py"]])}, "", "has no version"),
        (
            {"package.json": manifest(urls=[["../main.py", "a.py"]]), "a.py": b""},
            "",
            "no place below",
        ),
        ({"package.json": manifest(urls=[["/a.py", "a.py"]]), "a.py": b""}, "", "no place below"),
        ({"package.json": manifest(deps=[["umqtt.simple", "latest"]])}, "", "is not pinned"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, bytes],
    spec: str,
    reason: str,
) -> None:
    """Not there, not a package, not to be compiled, on top of the firmware, outside of /lib."""
    write(tmp_path / "p", files)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=reason):
        packages.collect([spec if spec.startswith("./n") else f"./p/{spec}"])


def test_two_packages_with_one_file(tmp_path: Path) -> None:
    """The same file twice is one; two different ones are a mistake."""
    write(tmp_path, {"a/x.py": SOURCE, "b/x.py": b"pass"})
    with pytest.raises(ImageError, match=r"lib/x\.mpy is in another package as well"):
        packages.collect([str(tmp_path / "a/x.py"), str(tmp_path / "b/x.py")])


# --- From a network ----------------------------------------------------------------------------


@pytest.fixture
def index() -> Iterator[tuple[str, dict[str, bytes]]]:
    """An index's address, and what it has by path."""
    content: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if (body := content.get(self.path)) is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """The test says what matters."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/pi/v2", content
        httpd.shutdown()
        thread.join()


def offer(content: dict[str, bytes], name: str, data: bytes, **more: Any) -> str:
    """Put a package of one file, NAME.py, into an index; the path of that file."""
    digest = hashlib.sha256(data).hexdigest()[:8]
    content[f"/pi/v2/package/py/{name}/1.0.json"] = manifest(
        hashes=[[f"{name}.py", digest]], **more
    )
    place = f"/pi/v2/file/{digest[:2]}/{digest}"
    content[place] = data
    return place


def test_an_index(index: tuple[str, dict[str, bytes]]) -> None:
    """NAME@VERSION comes with its dependencies, also where they go in a circle."""
    url, content = index
    offer(content, "oven", SOURCE, deps=[["heat", "1.0"]])
    offer(content, "heat", b"x = 1\n", deps=[["oven", "1.0"]])
    files = packages.collect(["oven@1.0"], url)
    assert list(files) == ["lib/heat.mpy", "lib/oven.mpy"]


def test_a_file_that_was_changed(index: tuple[str, dict[str, bytes]]) -> None:
    """What does not have the hash that the index names does not get onto a board."""
    url, content = index
    content[offer(content, "oven", SOURCE)] = b"import evil\n"
    with pytest.raises(ImageError, match=r"oven@1\.0: oven\.py is not the file"):
        packages.collect(["oven@1.0"], url)


def test_a_version_that_is_not_there(index: tuple[str, dict[str, bytes]]) -> None:
    """A network's error names the package and says what to do."""
    with pytest.raises(FetchError, match=r"oven@9: .*") as caught:
        packages.collect(["oven@9"], index[0])
    assert "give the folder" in caught.value.next_step


@pytest.mark.parametrize(
    "spec", ["oven", "oven@", "oven@latest", "github:org/oven", "github:org/oven@main"]
)
def test_what_is_not_pinned(spec: str) -> None:
    """Without a version, nothing is fetched."""
    with pytest.raises(ImageError, match="is not pinned to a version"):
        packages.collect([spec], "http://127.0.0.1:1")


def test_an_address_is_not_a_version() -> None:
    """What an address gives can be another thing tomorrow."""
    with pytest.raises(ImageError, match="an address has no version"):
        packages.collect(["https://example.org/oven.py"])
    with pytest.raises(ImageError, match="names no repository"):
        packages.collect(["github:oven@1"])


def test_a_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """package.json and its files come from the named version, relative or in full."""
    raw = "https://raw.githubusercontent.com/org/oven/v1"
    there = {
        f"{raw}/package.json": manifest(
            urls=[["oven/__init__.py", "src/a.py"], ["oven/b.py", "github:org/oven/src/b.py"]]
        ),
        f"{raw}/src/a.py": SOURCE,
        f"{raw}/src/b.py": SOURCE,
    }
    monkeypatch.setattr(fetch, "get", lambda url, bytes_max: there[url])
    files = packages.collect(["github:org/oven@v1", "github:org/oven/src/b.py@v1"])
    assert list(files) == ["lib/b.mpy", "lib/oven/__init__.mpy", "lib/oven/b.mpy"]


def test_a_dependency_must_be_pinned(index: tuple[str, dict[str, bytes]]) -> None:
    """A package that takes whatever is newest cannot be built twice."""
    url, content = index
    offer(content, "oven", SOURCE, deps=[["heat", "latest"]])
    with pytest.raises(ImageError, match="heat@latest is not pinned"):
        packages.collect(["oven@1.0"], url)


# --- The command -------------------------------------------------------------------------------


def test_image_build(tmp_path: Path) -> None:
    """--with-package puts it into the file system; the same twice."""
    write(tmp_path, {"oven.py": SOURCE, "heat/__init__.py": b"x = 1\n"})
    made = []
    for out in ("one", "two"):
        arguments = ["build", "--board", "esp32-generic", "-o", str(tmp_path / out)]
        for name in ("oven.py", "heat"):
            arguments += ["--with-package", str(tmp_path / name)]
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        made.append((tmp_path / out / "vfs.bin").read_bytes())
    assert made[0] == made[1]
    assert {"lib/oven.mpy", "lib/heat/__init__.mpy", "main.py"} <= set(image.unpack_vfs(made[0]))
