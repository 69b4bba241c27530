"""Images: mounted by MicroPython itself, checked by esptool, the same bytes every time."""

from __future__ import annotations

import datetime as dt
import io
import json
import random
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from esp_idf_nvs_partition_gen import nvs_partition_gen as espressif
from esptool.bin_image import LoadFirmwareImage
from imprint_tools import boards, image, partitions, paths, runtime
from imprint_tools.boards import Board
from imprint_tools.cli.image import image as command
from imprint_tools.errors import FirmwareFileError, ImageError
from imprint_tools.nvs import BytesRegion, NvsPartition
from imprint_tools.secret import Secret
from imprint_tools.virtual import boot
from imprint_tools.virtual.chips import CHIPS
from imprint_tools.virtual.flash import Flash

CANARY = b"CANARYsecret0123456789"
ALL = boards.names()

# Mounts the image as a board does and says what it sees; then writes to it and formats another.
ON_THE_BOARD = """
import json, os, sys, vfs
class Flash:
    def __init__(self, path, blocks):
        self.file, self.blocks = open(path, "r+b"), blocks
    def readblocks(self, n, buf, off=0):
        self.file.seek(n * 4096 + off)
        self.file.readinto(buf)
    def writeblocks(self, n, buf, off=0):
        self.file.seek(n * 4096 + off)
        self.file.write(buf)
    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return 4096
        if op == 6:
            self.writeblocks(arg, b"\\xff" * 4096)
            return 0
        if op == 3:
            self.file.flush()
flash = Flash({path!r}, {blocks})
fs = vfs.VfsLfs2(flash)
vfs.mount(fs, "/flash")
def files(folder):
    for name, kind, *_ in sorted(os.ilistdir(folder)):
        path = folder + "/" + name
        if kind == 0x4000:
            yield from files(path)
        else:
            yield path, os.stat(path)[6]
seen = dict(files("/flash"))
sys.path[:] = ["/flash"]
from imprint import secret, sign
with open("/flash/imprint/written", "w") as file:
    file.write("by MicroPython")
vfs.umount("/flash")
flash.ioctl(3, 0)
blank = Flash({blank!r}, {blocks})
vfs.VfsLfs2.mkfs(blank)
blank.ioctl(3, 0)
print(json.dumps([seen, sign.__file__]))
"""


@pytest.fixture
def board() -> Board:
    return boards.load("esp32-generic")


def micropython(script: str) -> str:
    """What real MicroPython prints."""
    done = subprocess.run(  # noqa: S603  the runtime that we installed
        runtime.find("i386").argv("-c", script),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- The file system ---------------------------------------------------------------------------


@pytest.mark.interop
def test_micropython_mounts_the_file_system(board, tmp_path):
    """MicroPython sees every file, imports a compiled module, and what it writes is there."""
    made = image.build_vfs(board, paths.firmware_dir(), {"data/a.txt": b"x" * 5000})
    (tmp_path / "vfs.bin").write_bytes(made)
    (tmp_path / "blank.bin").write_bytes(b"\xff" * len(made))
    script = ON_THE_BOARD.format(
        path=str(tmp_path / "vfs.bin"),
        blank=str(tmp_path / "blank.bin"),
        blocks=len(made) // 4096,
    )
    seen, module = json.loads(micropython(script))
    files = image.unpack_vfs(made)
    assert seen == {f"/flash/{path}": len(data) for path, data in files.items()}
    assert module == "/flash/imprint/sign.mpy"
    after = image.unpack_vfs((tmp_path / "vfs.bin").read_bytes())
    assert after == files | {"imprint/written": b"by MicroPython"}
    # The parameters are MicroPython's own: an empty file system has the very bytes of its mkfs.
    assert image.pack_vfs({}, len(made)) == (tmp_path / "blank.bin").read_bytes()


def test_a_kit_knows_how_its_modem_is_wired():
    """The image of a board with a modem has `modem.json`; one of any other board has not."""
    kit = boards.load("esp32-nrf9151")
    files = image.unpack_vfs(image.build_vfs(kit, paths.firmware_dir()))
    assert json.loads(files["modem.json"]) == {
        "id": 1, "baudrate": 115200, "tx": 32, "rx": 33, "rts": 25, "cts": 26, "flow": 3,
        "reset": 27,
    }  # fmt: skip


def test_modules_are_compiled_and_the_entry_points_are_source(board):
    """boot.py and main.py as they are, all of `imprint` as .mpy, and nothing else."""
    files = image.unpack_vfs(image.build_vfs(board, paths.firmware_dir()))
    sources = (paths.firmware_dir() / "imprint").rglob("*.py")
    modules = {
        str(source.relative_to(paths.firmware_dir()).with_suffix(".mpy"))
        for source in sources
        if "import" in (text := source.read_text()) or "=" in text  # else it does nothing
    }
    assert set(files) == {"boot.py", "main.py"} | modules
    assert files["main.py"] == (paths.firmware_dir() / "main.py").read_bytes()
    assert files["imprint/app.mpy"][:2] == b"M\x06"  # .mpy version 6
    assert b"imprint.app" in files["imprint/app.mpy"]  # its name in tracebacks
    assert image.mpy_files(paths.firmware_dir()) == {name: files[name] for name in modules}


def test_the_same_files_give_the_same_bytes(board, tmp_path):
    """Not the order of a directory, nor times of files, nor where they lie, change the image."""
    original = paths.firmware_dir()
    copy = tmp_path / "elsewhere"
    files = [path for path in original.rglob("*.py")]
    random.Random(1).shuffle(files)  # noqa: S311  an order, not a secret
    for path in files:
        target = copy / path.relative_to(original)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (copy / "imprint" / "notes.txt").write_text("not shipped")
    assert image.build_vfs(board, copy) == image.build_vfs(board, original)


def test_files_that_do_not_fit_are_refused_with_numbers(board):
    """A file larger than the partition: how much, and how much there is."""
    with pytest.raises(ImageError, match=r"of \d{7} bytes do not fit .* of 2097152 bytes"):
        image.build_vfs(board, paths.firmware_dir(), {"big.bin": bytes(3_000_000)})


def test_an_extra_file_does_not_replace_the_firmware(board):
    """Two files of one name are a mistake."""
    with pytest.raises(ImageError, match=r"main\.py is a file of the firmware"):
        image.build_vfs(board, paths.firmware_dir(), {"main.py": b""})


def test_a_module_that_does_not_compile_is_named():
    """The compiler's own words, and the file."""
    with pytest.raises(ImageError, match=r"imprint/x\.py does not compile: SyntaxError"):
        image.compile_mpy(b"def f(:\n", "imprint/x.py")


def test_a_folder_without_firmware_is_refused(tmp_path):
    """The wrong folder is not an empty image."""
    with pytest.raises(ImageError, match="holds no package"):
        image.mpy_files(tmp_path)


@pytest.mark.parametrize("damaged", [b"\xff" * 65536, bytes(65536)])
def test_a_damaged_file_system_is_reported_and_not_formatted(damaged):
    """What cannot be mounted is an error, never an empty file system."""
    with pytest.raises(ImageError, match="cannot be read"):
        image.unpack_vfs(damaged)


# --- NVS ---------------------------------------------------------------------------------------


@pytest.mark.interop
def test_the_identity_image_is_espressifs(board):
    """The bytes are those of Espressif's generator, made without a file."""
    entries = {"root_ca": bytes(range(256)) * 4, "identity": Secret(CANARY)}
    out = io.BytesIO()
    with espressif.nvs_open(out, board.nvs.size - 4096, espressif.Page.VERSION2) as generator:
        espressif.write_entry(generator, "imprint", "namespace", "", "")
        generator.write_entry("root_ca", (bytes(range(256)) * 4).hex(), "hex2bin")
        generator.write_entry("identity", CANARY.hex(), "hex2bin")
    made = image.build_nvs(entries, board.nvs.size)
    assert made == out.getvalue()
    assert NvsPartition(BytesRegion(made)).get_blob("imprint", "identity") == CANARY


def test_an_identity_that_does_not_fit_is_refused_with_numbers():
    """The key, its size and the partition's size; not its bytes."""
    with pytest.raises(ImageError, match=r"root_ca .9000 bytes. .* 12288 bytes") as caught:
        image.build_nvs({"root_ca": CANARY.ljust(9000)}, 0x3000)
    assert CANARY.decode() not in str(caught.value)


# --- MicroPython itself ------------------------------------------------------------------------


@pytest.mark.interop
@pytest.mark.parametrize("name", ALL)
def test_the_stand_in_passes_every_check_of_a_real_one(name, tmp_path):
    """esptool, the virtual bootloader and our own check accept bootloader, table and app."""
    board = boards.load(name)
    data = image.virtual_firmware(board)
    firmware = image.inspect_firmware(data, board)
    assert list(firmware.partitions) == list(board.partitions)
    found = {segment.label: segment for segment in firmware.segments}
    assert found["bootloader"].offset == board.bootloader_offset
    assert found["factory"].offset == board.app.offset
    for label in ("bootloader", "factory"):
        loaded = LoadFirmwareImage(board.chip, found[label].data)
        assert loaded.checksum == loaded.calculate_checksum()
        assert loaded.stored_digest == loaded.calc_digest
    about = image.app_description(found["factory"].data)
    assert about == image.AppDescription("micropython", "virtual", "virtual")
    with Flash(tmp_path / "flash.bin", board.flash_size) as flash:
        flash.write(board.bootloader_offset, data)
        assert boot.load(flash, CHIPS[board.chip]) == list(board.partitions)


def damaged(data: bytes) -> bytes:
    return data[:0xF030] + b"?" + data[0xF031:]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: b"", "too short"),
        (lambda data: data[:-40], "cut short"),
        (damaged, "checksum does not match"),
        (lambda data: b"\x7fELF" + data[4:], "not an ESP32 image"),
        (lambda data: data[:0x7000] + b"\0" * 0x1000 + data[0x8000:], "partition table"),
        (lambda data: data[:0xF000].ljust(0x10000, b"\xff"), "no application"),
    ],
)
def test_a_wrong_firmware_file_is_refused(board, spoil, reason):
    """Empty, truncated, damaged, foreign, without a table, without an app."""
    with pytest.raises(FirmwareFileError, match=reason):
        image.inspect_firmware(spoil(image.virtual_firmware(board)), board)


def test_firmware_for_another_chip_is_refused():
    """The ESP32-C3's build is not one for the ESP32-S3, although both begin at 0."""
    other = image.virtual_firmware(boards.load("esp32c3-generic"))
    with pytest.raises(FirmwareFileError, match="ESP32-S3"):
        image.inspect_firmware(other, boards.load("esp32s3-generic"))


def test_firmware_with_another_layout_is_refused(tmp_path, board):
    """A build whose file system lies elsewhere: files would be written where it does not look."""
    text = (paths.boards_dir() / "esp32-generic.toml").read_text().replace("0x1F0000", "0x200000")
    other = tmp_path / "other.toml"
    other.write_text(text)
    data = image.virtual_firmware(boards.load(other))
    with pytest.raises(FirmwareFileError, match=r"vfs partition at 0x210000, .* at 0x200000"):
        image.inspect_firmware(data, board)


def test_what_is_no_app_describes_nothing():
    """Blank flash and short data have no description."""
    assert image.app_description(b"") is None
    assert image.app_description(b"\xff" * 4096) is None


# --- The whole ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_the_layout_puts_everything_in_its_place(name):
    """Bootloader, table, NVS, app and file system, by offset and without overlap."""
    board = boards.load(name)
    vfs = image.pack_vfs({"main.py": b"pass"}, board.vfs.size)
    nvs = image.build_nvs({"identity": b"{}"}, board.nvs.size)
    firmware = image.virtual_firmware(board)
    segments = image.layout(board, firmware=firmware, vfs=vfs, identity=nvs)
    places = {segment.label: segment.offset for segment in segments}
    assert places == {
        "bootloader": board.bootloader_offset, "partition-table": 0x8000, "nvs": 0x9000,
        "phy_init": 0xF000, "factory": 0x10000, "vfs": 0x200000,
    }  # fmt: skip
    whole = image.merge(segments)
    assert len(whole) == board.flash_size
    assert partitions.parse(whole[0x8000:0x9000]) == list(board.partitions)
    assert image.unpack_vfs(whole[0x200000:]) == {"main.py": b"pass"}


def test_an_image_of_another_size_than_its_partition_is_refused(board):
    """A file system made for another board does not pass."""
    with pytest.raises(ImageError, match="vfs image has 65536 bytes, and its partition 2097152"):
        image.layout(board, firmware=None, vfs=bytes(65536))


def test_segments_that_overlap_are_refused():
    """One file cannot hold two things in one place."""
    with pytest.raises(ImageError, match="b at 0x1000 overlaps"):
        image.merge([image.Segment("a", 0, bytes(0x1001)), image.Segment("b", 0x1000, b"x")])


# --- The command -------------------------------------------------------------------------------


@pytest.fixture
def identity_file(tmp_path) -> Path:
    """An identity with a canary in it, and its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's root")])
    now = dt.datetime.now(dt.UTC)
    root = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    path = tmp_path / "unit.json"
    path.write_text(
        json.dumps(
            {
                "journey": "aliyun",
                "product_key": "a1B2c3D4e5F",
                "product_secret": CANARY.decode(),
                "registration": "regnwl",
                "wifi_ssid": "bench",
                "wifi_password": "CANARYpassword",
                "root_ca": "root.pem",
            }
        )
    )
    return path


def run(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(command, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert b"CANARY" not in result.stdout_bytes + result.stderr_bytes
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def test_build_without_firmware_makes_the_file_system(tmp_path):
    """A folder, a file, its offset and its hash; twice the same."""
    first = run("build", "--board", "esp32-generic", "-o", tmp_path / "a")
    second = run("build", "--board", "esp32-generic", "-o", tmp_path / "b")
    assert first["segments"] == second["segments"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["vfs.bin"]
    shown = run("show", tmp_path / "a" / "vfs.bin")
    assert shown["kind"] == "vfs"
    assert "imprint/app.mpy" in [file["path"] for file in shown["files"]]


def test_build_with_an_identity_keeps_it_to_its_owner(tmp_path, identity_file):
    """The NVS image is for the owner's eyes; output and `show` have fingerprints only."""
    out = tmp_path / "out"
    answer = run("build", "--board", "esp32c3-generic", "--identity", identity_file, "-o", out)
    nvs = next(record for record in answer["segments"] if record["name"] == "nvs")
    assert "sha256" not in nvs and nvs["fingerprint"].startswith("sha256:")
    assert stat.S_IMODE((out / "nvs.bin").stat().st_mode) == 0o600
    shown = run("show", out / "nvs.bin")
    assert [(e["name"], e["kind"]) for e in shown["entries"]] == [
        ("imprint/identity", "blob"),
        ("imprint/root_ca", "blob"),
    ]
    # No other file holds a trace of it.
    for path in tmp_path.rglob("*"):
        if path.is_file() and path not in (identity_file, out / "nvs.bin"):
            assert b"CANARY" not in path.read_bytes()


def test_build_makes_one_file_of_the_whole_flash(tmp_path, identity_file):
    """NAME.bin with --virtual: everything at its place, and `show` finds all of it."""
    out = tmp_path / "flash.bin"
    run("build", "--board", "esp32s3-generic", "--virtual", "--identity", identity_file, "-o", out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    shown = run("show", out)
    found = {part["label"]: part for part in shown["partitions"]}
    assert shown["kind"] == "flash"
    assert found["factory"]["app"] == "micropython virtual"
    assert found["nvs"]["holds"]["kind"] == "nvs"
    assert found["vfs"]["holds"]["kind"] == "vfs"


def test_one_file_needs_micropython(tmp_path):
    """Without firmware there is nothing to flash at 0x0, and nothing is written."""
    arguments = ["build", "--board", "esp32-generic", "-o", str(tmp_path / "flash.bin")]
    with pytest.raises(ImageError, match="needs MicroPython"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_not_described(tmp_path):
    """A file that is none of ours: an error, not a guess."""
    path = tmp_path / "foreign.bin"
    path.write_bytes(b"#!/bin/sh\n".ljust(8192))
    with pytest.raises(ImageError, match="no file system, no NVS partition and no flash image"):
        CliRunner().invoke(command, ["show", str(path)], catch_exceptions=False)
