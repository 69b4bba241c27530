"""The virtual chip: boot, console, interrupts, resets, watchdog, storage, pins and UARTs."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from imprint_tools.nvs import NvsPartition
from imprint_tools.virtual.machine import ResetCause
from virtual_chip import MAC, NVS, VFS, Raised, VirtualChip

FREE_AT_MAIN = 56_000  # of 64 kB; 63,264 in a bare unix port
HANG = "print('hangs')\nwhile True:\n    pass\n"


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[VirtualChip]:
    with VirtualChip(tmp_path, {}) as chip:
        yield chip.start()


# Boot


def test_boot_runs_boot_then_main_then_the_repl(tmp_path: Path) -> None:
    """boot.py and main.py share a namespace, which the REPL has too."""
    files = {"boot.py": "a = 1\nprint('boot')\n", "main.py": "b = a + 1\nprint('main')\n"}
    with VirtualChip(tmp_path, files) as chip:
        chip.start()
        assert chip.expect(b">>> ").startswith(b"boot\r\nmain\r\nMicroPython v1.")
        chip.feed(b"a, b, __name__\r")
        chip.expect(b"(1, 2, '__main__')\r\n>>> ")


def test_the_heap_is_nearly_all_the_programs(tmp_path: Path) -> None:
    """What the virtual chip itself keeps on a 64 kB heap is small, also after a soft reset."""
    main = "import gc\ngc.collect()\nprint('free', gc.mem_free())\n"
    with VirtualChip(tmp_path, {"main.py": main}) as chip:
        chip.start()
        for _ in range(2):
            chip.expect(b"free ")
            assert int(chip.expect(b"\r\n")) > FREE_AT_MAIN
            chip.expect(b">>> ")
            chip.feed(b"\x04")


def test_an_exception_in_main_is_printed_as_on_the_board(tmp_path: Path) -> None:
    """The traceback begins with the program's own line, and the REPL follows."""
    with VirtualChip(tmp_path, {"main.py": "def f():\n    1 / 0\nf()\n"}) as chip:
        chip.start()
        assert chip.expect(b"MicroPython v") == (
            b"Traceback (most recent call last):\r\n"
            b'  File "main.py", line 3, in <module>\r\n'
            b'  File "main.py", line 2, in f\r\n'
            b"ZeroDivisionError: divide by zero\r\n"
            b"MicroPython v"
        )


def test_a_blank_partition_is_formatted(tmp_path: Path) -> None:
    """A first boot makes the file system; the next one finds what was written."""
    with VirtualChip(tmp_path) as chip:
        chip.start()
        chip.expect(b"Performing initial setup")
        assert chip.execute("import os; print(os.listdir('/'))") == "['rom', 'boot.py']"
        chip.execute("open('kept', 'w').close()")
        chip.start(ResetCause.HARD)
        assert "kept" in chip.execute("import os; print(os.listdir('/'))")


def test_a_corrupt_file_system_is_left_alone(tmp_path: Path) -> None:
    """Data that is no file system is not formatted; it is said again and again until Ctrl-C."""
    with VirtualChip(tmp_path) as chip:
        chip.flash.write(VFS.offset, b"\0" * 64)
        before = chip.flash.ops
        chip.start()
        chip.expect(b"The file system seems corrupted")
        chip.feed(b"\x03")
        chip.expect(b">>> ")
        assert chip.execute("print(1 + 1)") == "2"
        assert chip.flash.ops == before


def test_64_bit(tmp_path: Path) -> None:
    """The 64-bit MicroPython runs in the same chip."""
    with VirtualChip(tmp_path, {}, arch="amd64") as chip:
        chip.start()
        assert chip.execute("import sys; print(sys.maxsize > 1 << 32)") == "True"


def test_the_program_sees_only_the_chip(chip: VirtualChip) -> None:
    """The host's files cannot be reached, and the module path is the board's."""
    assert chip.execute("import os; print(os.listdir('/'))") == "['rom']"
    assert chip.execute("import sys; print(sys.platform, sys.argv)") == "esp32 []"
    with pytest.raises(Raised, match="ENOENT"):
        chip.execute("open('/etc/passwd')")


# Console


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (b"6 * 7\r", b"42\r\n>>> "),
        (b"xx\x7f\x08'ok'\r", b"'ok'\r\n>>> "),
        (b"for i in (1, 2):\r  print(i)\r\r", b"1\r\n2\r\n>>> "),
        (b"(3 +\r4)\r", b"7\r\n>>> "),
        (b"'''a\rb'''\r", b"'a\\nb'\r\n>>> "),
        (b"nonsense\r", b"NameError: name 'nonsense' isn't defined\r\n>>> "),
        (b"half\x03", b"\r\n>>> "),
        (b"\x05x = 5\rprint(x)\r\x04", b"5\r\n>>> "),
        (b"\x02", b'Type "help()" for more information.\r\n>>> '),
    ],
    ids=["value", "backspace", "block", "bracket", "string", "error", "ctrl-c", "paste", "ctrl-b"],
)
def test_friendly_repl(chip: VirtualChip, typed: bytes, shown: bytes) -> None:
    """What a person types at the prompt does what it does on a board."""
    chip.expect(b">>> ")
    chip.feed(typed)
    chip.expect(shown)


def test_raw_repl_on_the_wire(chip: VirtualChip) -> None:
    """The bytes of the raw REPL and of raw paste, literally."""
    chip.expect(b">>> ")
    chip.feed(b"\x01print(1)\x041/0\x04")
    assert chip.expect(b"divide by zero\r\n\x04>") == (
        b"\r\nraw REPL; CTRL-B to exit\r\n>OK1\r\n\x04\x04>OK\x04"
        b"Traceback (most recent call last):\r\n"
        b'  File "<stdin>", line 1, in <module>\r\n'
        b"ZeroDivisionError: divide by zero\r\n\x04>"
    )
    chip.feed(b"\x05A\x01print(2)\x04")
    assert chip.expect(b"\x04>") == b"R\x01\x80\x00\x01\x042\r\n\x04\x04>"
    chip.feed(b"\x05A\x01print(3)\x03")
    assert chip.expect(b"KeyboardInterrupt: \r\n\x04>").startswith(b"R\x01\x80\x00\x01\x04\x04")
    chip.feed(b"print(4)\x03\x04")
    assert chip.expect(b"MPY: soft reboot\r\n") == b"OK\r\nMPY: soft reboot\r\n"
    assert chip.expect(b">") == b"raw REPL; CTRL-B to exit\r\n>"


def test_a_large_raw_paste_keeps_to_its_window(chip: VirtualChip) -> None:
    """After each 128 bytes the chip asks for more."""
    chip.expect(b">>> ")
    chip.feed(b"\x01\x05A\x01" + b"#" * 1000 + b"\x04")
    assert chip.expect(b"\x04\x04>").count(b"\x01") == 1 + 1 + 1000 // 128


def test_print_is_text_and_buffer_is_bytes(chip: VirtualChip) -> None:
    """print and sys.stdout end lines in CR LF; sys.stdout.buffer sends what it is given."""
    chip.expect(b">>> ")
    chip.feed(
        b"\x01import sys\nprint('a')\nsys.stdout.buffer.write(bytes(range(9, 14)))\n"
        b"sys.stdout.write('b\\n')\nprint('c', file=sys.stdout)\n\x04"
    )
    assert chip.expect(b"\x04\x04>").endswith(b"OKa\r\n\t\n\x0b\x0c\rb\r\nc\r\n\x04\x04>")


def test_a_program_reads_its_console(chip: VirtualChip) -> None:
    """sys.stdin blocks for bytes and can be polled."""
    chip.expect(b">>> ")
    chip.feed(
        b"\x01import select, sys\np = select.poll()\np.register(sys.stdin, select.POLLIN)\n"
        b"print('ready')\nassert p.poll(5000)\nprint(sys.stdin.read(3), p.poll(0))\x04"
    )
    chip.expect(b"ready\r\n")
    chip.feed(b"xyz")
    chip.expect(b"xyz []\r\n")


# Ctrl-C


@pytest.mark.parametrize(
    "main",
    [
        HANG,
        "import time\nprint('hangs')\ntime.sleep(1000)\n",
        "import sys\nprint('hangs')\nsys.stdin.read(1)\n",
        "print('hangs')\nwhile True:\n    open('f', 'w').write('x' * 500)\n",
    ],
    ids=["loop", "sleep", "read", "flash"],
)
def test_ctrl_c_interrupts_whatever_runs(tmp_path: Path, main: str) -> None:
    """A loop, a system call, and writing to flash, which stays sound; twice is as good as once."""
    with VirtualChip(tmp_path, {"main.py": main}) as chip:
        chip.start()
        chip.expect(b"hangs")
        chip.feed(b"\x03\x03\x03")
        assert b"KeyboardInterrupt" in chip.expect(b">>> ")
        assert (
            chip.execute("with open('g', 'w') as f: f.write('y')\nprint(open('g').read())") == "y"
        )
        assert chip.resets == []


def test_ctrl_c_in_a_garbage_collection_gives_the_prompt(tmp_path: Path) -> None:
    """It may cost the program's variables, as a soft reset does; the chip is not reset."""
    main = "import gc\nprint('hangs')\nwhile True:\n    gc.collect()\n"
    with VirtualChip(tmp_path, {"main.py": main}) as chip:
        chip.start()
        for _ in range(5):
            chip.expect(b"hangs")
            chip.feed(b"\x03")
            chip.expect(b">>> ")
            assert chip.execute("print('calm')") == "calm"
            chip.feed(b"\x02\x04")
        assert chip.resets == []


def test_a_file_that_nobody_closed_is_written(chip: VirtualChip) -> None:
    """By the garbage collector, while nothing can be allocated."""
    program = (
        "import gc, os\nf = open('g', 'w')\nf.write('x' * 500)\nf = None\ngc.collect()\n"
        "print(os.stat('g')[6])"
    )
    assert chip.execute(program) == "500"


def test_each_program_gets_its_ctrl_c(chip: VirtualChip) -> None:
    """However soon one follows the other; one that comes twice is not kept for the next."""
    chip.expect(b">>> ")
    chip.feed(b"\x01")
    for _ in range(3):
        chip.feed(HANG.encode() + b"\x04")
        chip.expect(b"hangs")
        chip.feed(b"\x03\x03")
        chip.expect(b"KeyboardInterrupt: \r\n\x04>")
    assert chip.execute("print('calm')") == "calm"


def test_a_program_may_live_on_after_ctrl_c(chip: VirtualChip) -> None:
    """One that catches KeyboardInterrupt can be interrupted again."""
    chip.expect(b">>> ")
    chip.feed(
        b"\x01import time\nfor i in range(2):\n try:\n  print('hangs')\n  time.sleep(1000)\n"
        b" except KeyboardInterrupt:\n  print('caught', i)\n\x04"
    )
    for i in range(2):
        chip.expect(b"hangs")
        chip.feed(b"\x03")
        chip.expect(b"caught %d" % i)


def test_ctrl_c_before_the_first_program_is_kept_for_it(tmp_path: Path) -> None:
    """A tool that interrupts right after a reset is not too early."""
    with VirtualChip(tmp_path, {"main.py": HANG}) as chip:
        chip.start()
        chip.feed(b"\x03")
        assert b"KeyboardInterrupt" in chip.expect(b">>> ")


def test_kbd_intr_lets_ctrl_c_through(chip: VirtualChip) -> None:
    """micropython.kbd_intr(-1) makes 3 a byte like any other, until the program ends."""
    chip.expect(b">>> ")
    chip.feed(
        b"\x01import micropython, sys\nmicropython.kbd_intr(-1)\nprint('ready')\n"
        b"print(sys.stdin.buffer.read(3))\x04"
    )
    chip.expect(b"ready\r\n")
    chip.feed(b"a\x03b")
    chip.expect(b"b'a\\x03b'\r\n")
    chip.feed(HANG.encode() + b"\x04")
    chip.expect(b"hangs")
    chip.feed(b"\x03")
    chip.expect(b"KeyboardInterrupt")


# Resets


def test_reset_causes(chip: VirtualChip) -> None:
    """Each way to reset the chip is told to the program that starts then."""
    cause = "import machine; print(machine.reset_cause())"
    chip.expect(b">>> ")
    assert chip.execute(cause) == "1"
    for call, expected in (
        (b"machine.reset()", ResetCause.HARD),
        (b"machine.deepsleep(1500)", ResetCause.DEEPSLEEP),
        (b"machine.soft_reset()", ResetCause.SOFT),
        (b"import sys; sys.exit()", ResetCause.SOFT),
    ):
        chip.feed(b"\x02import machine\r")
        chip.feed(call + b"\r")
        chip.expect(b"information.\r\n>>> ")
        chip.expect(b"information.\r\n>>> ")
        assert chip.execute(cause) == str(int(expected))
    assert chip.resets == [(ResetCause.HARD, 0.0), (ResetCause.DEEPSLEEP, 1.5)]


def test_the_watchdog_bites(tmp_path: Path) -> None:
    """A program that stops feeding it is reset, and told WDT_RESET at the next start."""
    main = (
        "import machine, time\n"
        "print('cause', machine.reset_cause())\n"
        "if machine.reset_cause() != machine.WDT_RESET:\n"
        "    wdt = machine.WDT(timeout=150)\n"
        "    for _ in range(4):\n"
        "        time.sleep_ms(60)\n"
        "        wdt.feed()\n"
        "    print('fed')\n"
        "    while True:\n"
        "        pass\n"
    )
    with VirtualChip(tmp_path, {"main.py": main}) as chip:
        chip.start()
        assert b"task_wdt" not in chip.expect(b"fed")
        chip.expect(b"cause 3\r\n")
        assert chip.resets == [(ResetCause.WDT, 0.0)]


def test_clock_and_rtc_memory_survive_all_but_power_on(chip: VirtualChip) -> None:
    """At power-on it is 2000-01-01; what is set then is lost with the power alone."""
    read = "import machine, time; r = machine.RTC(); print(r.memory(), time.gmtime()[:3])"
    assert chip.execute(read) == "b'' (2000, 1, 1)"
    chip.execute("r.memory(b'kept'); r.datetime((2026, 5, 17, 0, 12, 30, 0, 0))")
    assert chip.execute("print(r.datetime()[:5])") == "(2026, 5, 17, 6, 12)"
    chip.start(ResetCause.HARD)
    assert chip.execute(read) == "b'kept' (2026, 5, 17)"
    assert chip.execute("print(time.gmtime(0)[0], time.mktime(time.gmtime(86400)))") == (
        "2000 86400"
    )
    chip.start(ResetCause.PWRON)
    assert chip.execute(read) == "b'' (2000, 1, 1)"
    with pytest.raises(Raised, match="not a date"):
        chip.execute("r.datetime((2026, 13, 1, 0, 0, 0, 0, 0))")


def test_a_crash_of_micropython_is_a_reset(chip: VirtualChip) -> None:
    """Where MicroPython itself dies, the chip says so and starts again."""
    chip.expect(b">>> ")
    chip.feed(b"import uctypes; uctypes.bytearray_at(0, 1)[0] = 1\r")
    chip.expect(b"Guru Meditation Error")
    chip.expect(b">>> ")
    assert [cause for cause, _ in chip.resets] == [ResetCause.HARD]


def test_no_process_is_left(chip: VirtualChip) -> None:
    """A stopped chip has no process, not even a zombie."""
    pid = chip.machine.pid
    assert pid is not None
    chip.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_chip_dies_with_its_host(tmp_path: Path) -> None:
    """Not even a killed host leaves MicroPython behind, busy as it may be."""
    script = (
        "import pathlib, sys\nsys.path.insert(0, sys.argv[1])\n"
        "from virtual_chip import VirtualChip\n"
        f"chip = VirtualChip(pathlib.Path(sys.argv[2]), {{'main.py': {HANG!r}}}).start()\n"
        "chip.expect(b'hangs')\nprint(chip.machine.pid, flush=True)\nsys.stdin.read()\n"
    )
    tests = str(Path(__file__).parent.parent)
    with subprocess.Popen(  # noqa: S603  this interpreter, no shell
        [sys.executable, "-c", script, tests, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as host:
        assert host.stdout is not None
        guest = os.pidfd_open(int(host.stdout.readline()))
        try:
            host.kill()
            assert select.select([guest], [], [], 5)[0]
        finally:
            os.close(guest)


# Flash


def test_a_power_cut_ends_the_chip_at_once(chip: VirtualChip) -> None:
    """The flash operation that has no power any more is the last thing a program does."""
    chip.expect(b">>> ")
    chip.flash.order_power_cut(3, torn=True)
    chip.feed(b"f = open('f', 'w'); f.write('x' * 3000); f.close()\r")
    assert chip.power_lost.wait(10)
    assert chip.machine.pid is None
    chip.flash.power_on()
    chip.start()
    assert chip.execute("import os; print('alive', 'f' in os.listdir())").startswith("alive")


def test_nvs_is_esp_idfs(chip: VirtualChip) -> None:
    """What the program stores is in ESP-IDF's format, survives a reset, and errors are its own."""
    chip.execute(
        "from esp32 import NVS\nn = NVS('imprint')\n"
        "n.set_i32('count', -7)\nn.set_blob('blob', b'\\x00secret')\nn.commit()"
    )
    chip.start(ResetCause.HARD)
    assert (
        chip.execute(
            "from esp32 import NVS\nn = NVS('imprint')\nb = bytearray(16)\n"
            "print(n.get_i32('count'), n.get_blob('blob', b), b[:8])"
        )
        == "-7 7 bytearray(b'\\x00secret\\x00')"
    )
    for code, number in (
        ("n.get_i32('none')", "-4354, 'ESP_ERR_NVS_NOT_FOUND'"),
        ("n.get_blob('blob', bytearray(3))", "-4364, 'ESP_ERR_NVS_INVALID_LENGTH'"),
        ("n.erase_key('none')", "-4354, 'ESP_ERR_NVS_NOT_FOUND'"),
        ("n.set_i32('a key that is too long', 1)", "'ESP_ERR_NVS_"),
    ):
        with pytest.raises(Raised, match=re.escape(number)):
            chip.execute(code)
    chip.execute("n.erase_key('count')")
    chip.stop()
    stored = NvsPartition(chip.flash.region(NVS.offset, NVS.size)).entries()
    assert [(e.namespace, e.key, e.value) for e in stored] == [("imprint", "blob", b"\0secret")]


def test_partitions(chip: VirtualChip) -> None:
    """esp32.Partition shows the table and reads, erases and writes blocks."""
    assert chip.execute(
        "from esp32 import Partition as P\n"
        "print([p.info() for p in P.find(P.TYPE_DATA)])\n"
        "p = P('factory')\nb = bytearray(4096)\np.readblocks(1, b)\nprint(b[0], p.ioctl(4, 0))\n"
        "p.writeblocks(1, bytes(4096))\np.writeblocks(1, b'\\x55' * 4096)\n"
        "p.readblocks(1, b, 10)\nprint(b[0])"
    ) == (
        "[(1, 2, 36864, 24576, 'nvs', False), (1, 129, 524288, 524288, 'vfs', False)]\n255 16\n85"
    )
    with pytest.raises(Raised, match="OSError"):
        chip.execute("P('none')")


# Pins and UARTs


def test_pins(chip: VirtualChip) -> None:
    """The bench sees what a program drives, and sets what it reads."""
    chip.machine.pins[0] = 1
    assert (
        chip.execute(
            "from machine import Pin\nled = Pin(2, Pin.OUT, value=1)\n"
            "print(led(), Pin(0, Pin.IN).value(), Pin(4, Pin.IN, Pin.PULL_UP).value())\nled.off()"
        )
        == "1 1 1"
    )
    assert chip.machine.pins[2] == 0
    with pytest.raises(Raised, match="invalid pin"):
        chip.execute("Pin(99)")


def test_a_uart_is_a_stream(tmp_path: Path) -> None:
    """read, readinto, readline, any, write and poll on UART 1, and its time-outs."""
    with VirtualChip(tmp_path, {}) as chip:
        modem = chip.machine.uart(1)
        chip.start()
        program = (
            "import machine, select\nu = machine.UART(1, 115200, timeout=20)\n"
            "print(u.any(), u.read(), u.read(3), u.write(b'AT\\r\\n'))"
        )
        assert chip.execute(program) == "0 None None 4"
        assert select.select([modem], [], [], 5)[0]
        assert modem.recv(64) == b"AT\r\n"
        modem.sendall(b"one\r\ntwo")
        assert (
            chip.execute(
                "p = select.poll()\np.register(u, select.POLLIN)\nb = bytearray(2)\n"
                "print(len(p.poll(1000)), u.any(), u.readline(), u.readinto(b), b, u.read())\n"
                "print(p.poll(0))"
            )
            == "1 8 b'one\\r\\n' 2 bytearray(b'tw') b'o'\n[]"
        )
        assert chip.execute("v = machine.UART(2); print(v.any(), v.write(b'x'), v.read())") == (
            "0 1 None"
        )
        with pytest.raises(Raised, match="does not exist"):
            chip.execute("machine.UART(3)")


def test_unique_id_is_the_mac(chip: VirtualChip) -> None:
    """machine.unique_id() and the station's MAC are the chip's."""
    assert chip.execute("import machine; print(machine.unique_id().hex())") == MAC.hex()
    mac = chip.execute("import network; print(network.WLAN(network.STA_IF).config('mac').hex())")
    assert mac == MAC.hex()
