"""An identity into a running board: real MicroPython, real NVS pages, mpremote's transport."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from imprint_tools import flash, inject, nvs, verify
from imprint_tools.errors import DeviceError, ImprintError, PortError, VerifyError
from imprint_tools.flash import Segment
from imprint_tools.identities import Identity
from imprint_tools.inject import CredentialHeldError, Held
from imprint_tools.repl import Repl
from imprint_tools.secret import Secret
from imprint_tools.virtual.board import Board
from mpremote.transport import TransportError, TransportExecError
from test_flash import CANARY, MIB, NVS, identity, merged

WHOLE = {"identity", "root_ca"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A virtual board on which MicroPython runs; tests leave its NVS as they like."""
    folder = tmp_path_factory.mktemp("boards") / "running"
    with Board(folder, chip="esp32") as board:
        segments = flash.read_firmware(merged(), "esp32", 4 * MIB).segments
        flash.flash(board.url, "esp32", segments, flash_size=4 * MIB)
        board.expect(b">>> ", 30)
        yield board


@pytest.fixture
def board(running: Board) -> Board:
    """The same, with blank NVS, at its prompt."""
    _put_nvs(running, b"\xff" * NVS.size)
    return running


def _put_nvs(board: Board, image: bytes) -> None:
    segment = Segment("nvs", NVS.offset, image)
    flash.flash(board.url, "esp32", [segment], flash_size=4 * MIB)
    board.expect(b">>> ", 30)


def _blobs(board: Board) -> dict[str, bytes]:
    image = (board.folder / "flash.bin").read_bytes()[NVS.offset : NVS.end]
    entries = nvs.NvsPartition(nvs.BytesRegion(image)).entries()
    return {e.key: e.value for e in entries if isinstance(e.value, bytes)}


def _inject(
    board: Board, unit: Identity, silence_s: float = 10, **options: Any
) -> inject.Injection:
    with Repl(board.url, silence_s=silence_s) as repl:
        return inject.inject(repl, unit, **options)


@pytest.mark.parametrize("door", ["url", "port"])
def test_a_blank_unit_gets_its_identity(board: Board, door: str) -> None:
    """Both blobs are in NVS, byte by byte, whichever door was used; the second time no write."""
    unit = identity(ca=os.urandom(1800))
    with Repl(getattr(board, door)) as repl:
        assert inject.inject(repl, unit) == inject.Injection(True, False)
        operations = board.flash.ops
        assert inject.inject(repl, unit) == inject.Injection(False, False)
        assert board.flash.ops == operations
    assert _blobs(board) == inject.blobs(unit)


def test_the_board_restarts(board: Board) -> None:
    """After an injection the unit starts with its identity, without a hand on it."""
    with Repl(board.url) as repl:
        inject.inject(repl, identity())
        repl.restart()
    board.expect(b"ets Jul", 10)
    board.expect(b">>> ", 30)


def test_the_same_device_keeps_its_credential(board: Board) -> None:
    """A new Wi-Fi password or root CA is no reason to register again."""
    _inject(board, identity())
    _hold_credential(board)
    changed = identity(secret="D" * 20, ca=b"another root")
    assert _inject(board, changed) == inject.Injection(True, True)
    assert _blobs(board) == {**inject.blobs(changed), "cred_a": b"issued"}


def test_another_device_is_refused_while_a_credential_is_held(board: Board) -> None:
    """Nothing is written, unless the operator says so; then the old credential goes."""
    _inject(board, identity())
    _hold_credential(board)
    before = _blobs(board)
    with pytest.raises(CredentialHeldError):
        _inject(board, identity("unit-2"))
    assert _blobs(board) == before
    _inject(board, identity("unit-2"), replace=True)
    assert _blobs(board) == inject.blobs(identity("unit-2"))


def test_a_journey_without_a_root(board: Board) -> None:
    """On a blank unit one blob is written; over another journey's identity, its root goes."""
    unit = replace(identity(), blobs={})
    assert _inject(board, unit) == inject.Injection(True, False)
    assert _blobs(board) == inject.blobs(unit) and list(inject.blobs(unit)) == ["identity"]
    _inject(board, identity("unit-2"))
    assert WHOLE == set(_blobs(board))
    assert _inject(board, unit) == inject.Injection(True, False)
    assert _inject(board, unit) == inject.Injection(False, False)
    assert _blobs(board) == inject.blobs(unit)


def _hold_credential(board: Board) -> None:
    with Repl(board.url) as repl:
        repl.run(
            "hold a credential",
            "import esp32\nn = esp32.NVS('imprint')\nn.set_blob('cred_a', b'issued')\nn.commit()",
        )


def test_a_full_nvs_leaves_the_old_identity_whole(board: Board) -> None:
    """The error is ESP-IDF's, with a next step; the old root is back in its place."""
    old = identity()
    region = nvs.BytesRegion(NVS.size)
    part = nvs.NvsPartition(region)
    for key, value in inject.blobs(old).items():
        part.set_blob("imprint", key, value)
    with pytest.raises(nvs.NvsFull):
        for number in range(999):
            part.set_blob("other", f"key{number}", bytes(300))
    _put_nvs(board, region.image())
    with pytest.raises(DeviceError, match="ESP_ERR_NVS_NOT_ENOUGH_SPACE") as caught:
        _inject(board, identity(secret="B" * 60, ca=b"b" * 60))
    assert "imprint flash" in caught.value.next_step
    found = _blobs(board)
    assert {key: found[key] for key in WHOLE} == inject.blobs(old)


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("torn", [False, True])
def test_a_power_cut_leaves_the_old_identity_or_the_new(
    board: Board, torn: bool, step: int
) -> None:
    """At every flash operation of an injection under the same root: one of the two, whole."""
    old, new = identity(), identity(secret="C" * 24)
    region = nvs.BytesRegion(NVS.size)
    part = nvs.NvsPartition(region)
    for key, value in inject.blobs(old).items():
        part.set_blob("imprint", key, value)
    _put_nvs(board, region.image())
    operations = board.flash.ops
    _inject(board, new)
    needed = board.flash.ops - operations
    assert needed > 0
    for after in range(1, needed + 1, step):
        _put_nvs(board, region.image())
        board.cut(after, torn=torn)
        with pytest.raises(ImprintError):
            _inject(board, new, silence_s=0.3)
        assert _blobs(board) in (inject.blobs(old), inject.blobs(new))
        board.power_on()
        board.expect(b">>> ", 30)


def test_no_secret_is_left_anywhere(
    board: Board,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not in an argument list, a temporary file, the console's log, or what is printed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    forms = [
        CANARY.encode(),
        CANARY.encode().hex().encode(),
        base64.b64encode(CANARY.encode())[3:-4],
    ]
    with Repl(board.url) as repl:
        result = inject.inject(repl, identity())
        held = inject.describe(repl)
        report = verify.running(repl, {}, identity())
        arguments = b"".join(
            path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _mine(path)
        )
    printed = capfd.readouterr()
    shown = f"{result!r}{held!r}{report!r}{printed.out}{printed.err}".encode()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for form in forms:
        for place in (arguments, shown, kept, board.console.text()):
            assert form not in place
    assert CANARY.encode() in (board.folder / "flash.bin").read_bytes()


def _mine(path: Path) -> bool:
    return path.stat().st_uid == os.getuid()


# --- What mpremote may say, and may not --------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        TransportError(f"could not exec command (response: b'{CANARY}')"),
        TransportExecError(b"", f'File "<stdin>"\nValueError: {CANARY}'),
        TransportExecError(b"", CANARY),
        OSError(5, CANARY),
    ],
)
def test_what_the_board_sent_back_is_not_passed_on(
    board: Board, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A board that echoes puts the secret into mpremote's exception; ours are not chained."""

    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    with Repl(board.url) as repl:
        monkeypatch.setattr(repl._transport, "exec_raw", fail)
        with pytest.raises((DeviceError, PortError)) as caught:
            inject.inject(repl, identity())
    assert CANARY not in f"{caught.value} {caught.value.next_step}"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_board_without_micropython(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing answers: a DeviceError that says what to do, and nothing printed."""
    with Board(tmp_path / "blank", chip="esp32") as blank:
        with pytest.raises(DeviceError, match="did not enter its raw REPL") as caught:
            Repl(blank.url).__enter__()
        assert "imprint flash" in caught.value.next_step
    assert capfd.readouterr().out == ""


def test_code_that_raises_is_named_by_kind(board: Board) -> None:
    """The exception's kind is told, its text is not; what is no literal is no answer."""
    with Repl(board.url) as repl:
        with pytest.raises(DeviceError, match="could not divide: ZeroDivisionError"):
            repl.run("divide", "1 / 0")
        with pytest.raises(DeviceError, match="gave no sense"):
            repl.call("speak", "print('no literal')")
        assert repl.call("add", "print(1 + 1)") == 2


# --- Verification ------------------------------------------------------------------------------


def test_a_running_board_is_verified(board: Board) -> None:
    """Files by SHA-256, code that does not belong, the identity field by field."""
    with Repl(board.url) as repl:
        inject.inject(repl, identity())
        boot = repl.run("read", "print(open('/boot.py').read(), end='')").replace(b"\r\n", b"\n")
        files = {"/boot.py": hashlib.sha256(boot).hexdigest()}
        good = verify.running(repl, files, identity())
        good.require()
        assert good.identity is not None
        digest = hashlib.sha256(CANARY.encode()).hexdigest()
        assert good.identity["product_secret"] == f"sha256:{digest[:8]}"

        repl.run("add code", "f = open('/ssl.py', 'w')\nf.close()")
        bad = verify.running(repl, {"/boot.py": "0" * 64, "/main.py": "1" * 64}, identity("b"))
        repl.run("remove it", "import os\nos.remove('/ssl.py')")
    assert {check.name for check in bad.mismatches} == {
        "/boot.py", "/main.py", "/ssl.py", "identity", "identity.device_name",
    }  # fmt: skip
    with pytest.raises(VerifyError) as caught:
        bad.require()
    for words in ("/main.py: missing", "/ssl.py: does not belong", "device_name: unit-1"):
        assert words in str(caught.value)


def test_a_flash_is_verified(board: Board) -> None:
    """Segments by MD5, and the nvs partition read entry by entry."""
    unit = identity()
    segments = flash.read_firmware(merged(), "esp32", 4 * MIB).segments
    _put_nvs(board, flash.with_identity(b"\xff" * NVS.size, unit))
    verify.flashed(board.url, "esp32", segments, nvs_partition=NVS, identity=unit).require()
    other = [*segments, Segment("vfs", 0x200000, b"other")]
    found = verify.flashed(
        board.url, "esp32", other, nvs_partition=NVS, identity=identity("unit-2")
    )
    assert {check.name for check in found.mismatches} == {
        "vfs", "identity", "identity.device_name",
    }  # fmt: skip


def test_a_damaged_root_is_found() -> None:
    """The identity names the root's hash; another root beside it is a mismatch."""
    held = Held({"root_ca_sha256": "a" * 64}, "b" * 64, {"root_ca": "c" * 64}, ())
    checks = verify._identity_checks(held, None)
    assert [check.name for check in checks if not check.ok] == ["root_ca"]


def test_an_identity_is_a_secret() -> None:
    """What goes to the board is wrapped until it goes."""
    assert isinstance(identity().entries()["identity"], Secret)
