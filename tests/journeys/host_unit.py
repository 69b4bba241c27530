"""The firmware's application on CPython, as a process: `host_unit.py FOLDER`.

Of the folder, `flash` is the file system's root and `nvs.json` the namespace `imprint`. What a
board has and CPython has not is here or in the shims; nothing of the firmware is replaced.
"""

import gc
import json
import sys
from pathlib import Path

import esp32


def run(folder: Path) -> None:
    root, nvs = folder / "flash", folder / "nvs.json"
    root.mkdir(exist_ok=True)
    _load(nvs)
    esp32.NVS.commit = lambda _self: _save(nvs)
    gc.mem_alloc = gc.mem_free = lambda: 0
    gc.threshold = lambda _bytes: None
    sys.path.insert(0, str(root))
    from imprint import app, port

    listdir = port.listdir
    port.listdir = lambda name: listdir(str(root) if name == "/" else name)
    app._OUTBOX = str(root / "outbox")
    app.run()


def _load(nvs: Path) -> None:
    for key, value in json.loads(nvs.read_text()).items():
        esp32._PARTITION["imprint", key] = bytes.fromhex(value)


def _save(nvs: Path) -> None:
    content = {key: value.hex() for (_, key), value in esp32._PARTITION.items()}
    staged = nvs.with_suffix(".new")
    staged.write_text(json.dumps(content))
    staged.replace(nvs)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
