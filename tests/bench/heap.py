"""The smallest heap with which a unit gets online, on 32-bit MicroPython."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from pathlib import Path

from imprint_tools import image
from imprint_tools.virtual.board import Board
from lab import KIND, PASSWORD, SSID, Lab, NotOnlineError, first_report, flash_of
from measure import Figure, Row, Section

_KIB = 1024
_LOWEST_KIB, _HIGHEST_KIB = 8, 128
_ROOMY = "128k"
_BOOT_S = 15.0

_EMPTY_MAIN = b"import gc\ngc.collect()\nprint('heap', gc.mem_alloc(), gc.mem_free())\n"

# What a project without imprint does at the least: join, log in with a signature that somebody
# computed, post once, wait for the reply. No registration, no verified server, nothing kept.
_PLAIN_MAIN = """\
import network, ssl, sys, time
sys.modules["ussl"] = ssl  # umqtt.simple 1.3.4 has the old name
from umqtt.simple import MQTTClient
wlan = network.WLAN(network.STA_IF)
wlan.active(True)
wlan.connect({ssid!r}, {password!r})
while not wlan.isconnected():
    time.sleep_ms(50)
client = MQTTClient({client_id!r}, {host!r}, 8883, {user!r}, {signature!r}, 60,
                    True, {{"server_hostname": {host!r}}})
client.set_callback(lambda topic, message: print("replied"))
client.connect()
client.subscribe({reply!r})
client.publish({topic!r}, {payload!r})
client.wait_msg()
"""


def measure(lab: Lab) -> Section:
    """A first boot, a second one, and a bare umqtt.simple script beside them."""
    folder = lab.folder / "heap"
    runs = 1 if lab.quick else 3
    guest = guest_bytes(folder)
    plain = plain_script(lab)

    def first(kib: int) -> bool:
        return all(_gets_online(folder, lab, lab.unit(), kib) for _ in range(runs))

    registered = _registered(folder, lab)

    def first_from_source(kib: int) -> bool:
        return all(
            _gets_online(folder, lab, lab.unit(lab.firmware_source), kib) for _ in range(runs)
        )

    def second(kib: int) -> bool:
        return all(_gets_online(folder, lab, registered, kib) for _ in range(runs))

    def bare(kib: int) -> bool:
        return all(_replied(folder, lab, plain, kib) for _ in range(runs))

    boot = _bytes(smallest(first))
    from_source = _bytes(smallest(first_from_source))
    again = _bytes(smallest(second))
    script = _bytes(smallest(bare))
    who = "umqtt.simple script"
    return Section(
        "Heap (-X heapsize of 32-bit MicroPython, in steps of 1 KiB)",
        f"The smallest with which {runs} of {runs} boots got their first report acknowledged, by "
        "bisection. The guest's own share is of the virtual board: on an ESP32 that is C and "
        "frozen code; it was seen at the start of an empty main.py, after a collection. The "
        "script logs in with a signature computed elsewhere, posts once and reads the reply, and "
        "does not verify the server.",
        (
            Row("first boot: register, log in, report", "B", boot, script, who,
                f"<= {64 * _KIB:,}; {40 * _KIB:,}"),
            Row("second boot: log in, report", "B", again, script, who),
            Row("first boot, compiled on the host", "B", boot, from_source,
                "the same, copied as source"),
            Row("of each, the virtual board's own", "B", Figure.of([guest])),
        ),
    )  # fmt: skip


def smallest(fits: Callable[[int], bool]) -> int:
    """The smallest heap in KiB that fits. Raises NotOnlineError when none up to 128 does."""
    low, high = _LOWEST_KIB, _HIGHEST_KIB
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    if high == _HIGHEST_KIB and not fits(high):
        raise NotOnlineError(f"a heap of {high} KiB is not enough")
    return high


def guest_bytes(folder: Path) -> int:
    """Heap that is in use when an empty main.py starts."""
    files = {"boot.py": b"", "main.py": _EMPTY_MAIN}
    content = flash_of(image.pack_vfs(files, KIND.vfs.size))
    with _board(folder, content, heap="64k") as board:
        printed = board.expect(b">>> ", _BOOT_S)
    found = re.search(rb"heap (\d+) \d+", printed)
    assert found, "the board did not run main.py"
    return int(found[1])


def plain_script(lab: Lab) -> bytes:
    """A flash with a main.py as people write it, for a device that the cloud knows."""
    product, name = lab.product_key, lab.new_name()
    secret = lab.cloud.create_device(product, name).reveal()
    signed = f"clientId{name}deviceName{name}productKey{product}"
    topic = f"/sys/{product}/{name}/thing/event/property/post"
    main = _PLAIN_MAIN.format(
        ssid=SSID,
        password=PASSWORD,
        client_id=f"{name}|securemode=2,signmethod=hmacsha256|",
        host=f"{product}.iot-as-mqtt.{lab.cloud.config.region}.aliyuncs.com",
        user=f"{name}&{product}",
        signature=hmac.new(secret, signed.encode(), hashlib.sha256).hexdigest(),
        reply=topic + "_reply",
        topic=topic,
        payload=json.dumps({"id": "1", "version": "1.0", "params": {"temperature": 21.5},
                            "method": "thing.event.property.post"}),
    )  # fmt: skip
    files = {"boot.py": b"", "main.py": main.encode()}
    return flash_of(image.pack_vfs(files, KIND.vfs.size))


def _registered(folder: Path, lab: Lab) -> bytes:
    """The flash of a unit after its first boot."""
    with _board(folder, lab.unit(), heap=_ROOMY, lab=lab) as board:
        first_report(board, _BOOT_S)
        board.power_off()
        return board.flash.path.read_bytes()


def _gets_online(folder: Path, lab: Lab, content: bytes, kib: int) -> bool:
    with _board(folder, content, heap=f"{kib}k", lab=lab) as board:
        try:
            first_report(board, _BOOT_S)
        except NotOnlineError:
            return False
    return True


def _replied(folder: Path, lab: Lab, content: bytes, kib: int) -> bool:
    """Whether the plain script gets to the reply before it ends, well or badly."""
    with _board(folder, content, heap=f"{kib}k", lab=lab) as board:
        try:
            while True:
                line = board.expect(b"\n", _BOOT_S)
                if line.strip() == b"replied":
                    return True
                if b"Error" in line:
                    return False
        except TimeoutError:
            return False


def _board(folder: Path, content: bytes, *, heap: str, lab: Lab | None = None) -> Board:
    """A board with that flash; it boots when it is entered."""
    folder.mkdir(exist_ok=True)
    (folder / "flash.bin").write_bytes(content)
    return Board(folder, doors=(), access_point=lab.air() if lab else None, heap=heap)


def _bytes(kib: int) -> Figure:
    return Figure.of([kib * _KIB])
