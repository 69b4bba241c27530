"""A whole journey on this machine: a blank virtual board, a local cloud, and all the real tools.

What happens is what happens with a real board: esptool (as a library) flashes it over its serial
line, mpremote's transport puts the identity into the NVS of the running board, and then it is on
its own. Only what is silicon or somebody's data centre stands in (see docs/). Everything lives in
a temporary folder and on loopback, and is gone afterwards, also after Ctrl-C.
"""

from __future__ import annotations

import ast
import re
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from imprint_tools import boards, flash, image, inject, runtime, syntax
from imprint_tools.demo_aliyun import AliyunWorld
from imprint_tools.demo_azure import AzureDpsWorld, AzureEdgeWorld
from imprint_tools.demo_enos import KITS, EnosWorld
from imprint_tools.demo_gateway import SUBDEVICES_MAX as SUBDEVICES_MAX
from imprint_tools.demo_gateway import GatewayWorld
from imprint_tools.demo_world import World
from imprint_tools.device_errors import DeviceErrorInfo
from imprint_tools.errors import ImprintError, JourneyFailedError
from imprint_tools.identities import Identity
from imprint_tools.journey import ACKNOWLEDGED, FAILED, JourneyResult, Party
from imprint_tools.monitor import Decoder, Event
from imprint_tools.paths import firmware_dir
from imprint_tools.ports import open_port
from imprint_tools.recorder import Recorder, Watcher
from imprint_tools.repl import Repl
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.network import AccessPoint

WORLDS: dict[str, type[World]] = {
    world.JOURNEY: world
    for world in (AliyunWorld, EnosWorld, GatewayWorld, AzureDpsWorld, AzureEdgeWorld)
}
"""What there is to travel in, by journey."""

CHIPS = ("esp32", "esp32s3", "esp32c3")
REGISTRATIONS = ("regnwl", "register", "none")
MODEMS = tuple(KITS)
SECURE_MODES = (2, 3)

_LISTEN_S = 0.05  # how long one look at the console waits: also the grain of the traffic chart

_BOOTS_MAX = 2  # the one that is meant, and one that somebody may explain

_RESET = "rst:0x"  # how the boot ROM begins to tell why it starts

# The type alone: what an exception says of itself is not ours to repeat.
_EXCEPTION = re.compile(r"\w*(Error|Exception)\b")

# What each state of the firmware is as a step of the journey.
_STEPS = {
    "IDENTITY": "read identity",
    "LINK": "join",
    "CLOCK": "set clock",
    "REGISTER": "register",
    "CONNECT": "log in",
    "ONLINE": "report",
}


@dataclass(frozen=True)
class Plan:
    """What to take on the journey. `heap` is MicroPython's with its suffix, as `64k`.

    `chip`, but where a modem decides on the kit. `registration` is for `aliyun`. `modem`, with
    which goes a kit, `secure_mode` and `loss` (of datagrams, in percent) are for `enos-coap`;
    `subdevices` and `certificate` (the edge applies for one) for `enos-gateway`. Each world's
    OPTIONS are those that it has a use for.
    """

    journey: str = AliyunWorld.JOURNEY
    chip: str = "esp32"
    registration: str = "regnwl"
    modem: str = "nrf91"
    secure_mode: int = 3
    loss: float = 0.0
    subdevices: int = 20
    certificate: bool = False
    heap: str | None = None
    """None: what the journey needs."""
    reports: int = 3
    patience_s: float = 90.0
    """From the board's start to the last acknowledged report."""


def run(
    plan: Plan | None = None, *, watcher: Watcher | None = None, folder: Path | None = None
) -> JourneyResult:
    """Take the journey once. What fails on the way is in the result, not raised.

    `folder` keeps flash, logs and the cloud's records; without it nothing is left.
    """
    plan = plan or Plan()
    recorder = Recorder(watcher or Watcher())
    kind = WORLDS[plan.journey]
    world = kind(recorder, **{name: getattr(plan, name) for name in kind.OPTIONS})
    journey = _Journey(plan, recorder, world)
    failure: ImprintError | None = None
    with ExitStack() as stack:
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="imprint-demo-")
            folder = Path(stack.enter_context(temporary))
        try:
            journey.travel(stack, folder)
        except ImprintError as error:
            recorder.end(str(error), ok=False)
            failure = error
        journey.look_back()
        recorder.close()  # what taking it all down looks like is no part of the journey
        return journey.result(failure)


class _Journey:
    """One run's parts. They are there from the step on that makes them."""

    def __init__(self, plan: Plan, recorder: Recorder, world: World) -> None:
        self.world = world
        self._heap = plan.heap or world.HEAP
        self._plan = plan
        self._recorder = recorder
        self._began = datetime.now().astimezone().isoformat(timespec="seconds")
        self._facts: dict[str, str] = {}
        self._up = False
        self._mpy_bytes = 0
        self._told: set[str] = set()
        self._last_error: DeviceErrorInfo | None = None
        self._boots = 0
        self._crash = ""

    def travel(self, stack: ExitStack, folder: Path) -> None:
        """Every step, in order. Raises ImprintError where it ends early."""
        world, step = self.world, self._recorder.step
        kind, heap = boards.load(world.kit), self._heap
        with step("find MicroPython") as detail:
            found = runtime.find("i386")
            detail.append(f"{found.version}, {found.arch}, heap {heap}")
        with step("start cloud"):
            world.start_cloud(stack, folder / "cloud")
        with step("start board") as detail:

            def make(*, access_point: AccessPoint | None = None) -> Board:
                return Board(
                    folder / "board",
                    chip=kind.chip,
                    flash_size=kind.flash_size,
                    doors=(),
                    access_point=access_point,
                    heap=heap,
                )

            board = world.start_board(stack, make)
            self._up = True
            detail.append("blank flash")
        self._facts = {
            "Board": f"{kind.title} (virtual), MAC {board.mac.hex(':')}",
            "Interpreter": f"MicroPython {found.version}, {found.arch}, heap {heap}",
        } | world.facts()
        with step("build images") as detail:
            self._mpy_bytes = mpy_bytes(world.modules)
            segments = image.layout(
                kind,
                firmware=image.virtual_firmware(kind),
                vfs=image.build_vfs(kind, firmware_dir(), world.files()),
            )
            detail.append(f"firmware of {self._mpy_bytes:,} B as .mpy")
        with step("flash") as detail:
            self._flash(board, kind, segments, detail)
        identity = world.identity(board.mac.hex())
        with step("inject identity") as detail:
            self._inject(board, identity, detail)
        self._watch(board)

    def _flash(
        self, board: Board, kind: boards.Board, segments: list[flash.Segment], detail: list[str]
    ) -> None:
        say, enter = self._recorder.say, self._recorder.enter
        enter("ROM")
        began = self._recorder.now()

        def progress(what: str, at: int, most: int) -> None:
            self._recorder.progress(f"{what} {100 * at // max(1, most)} %")

        done = flash.flash(
            board.url,
            kind.chip,
            segments,
            flash_size=kind.flash_size,
            baud=kind.flash_baud,
            progress=progress,
        )
        say(Party.BENCH, Party.BOARD, "esptool: compare, write", done.wire_bytes, at_s=began)
        for part in done.segments:
            if part.written:
                say(Party.BOARD, Party.BENCH, f"{part.label}: MD5 verified", part.written)
        detail.append(f"{done.written:,} B written and verified by esptool")

    def _inject(self, board: Board, identity: Identity, detail: list[str]) -> None:
        say = self._recorder.say
        with Repl(board.url) as repl:
            self._recorder.enter("REPL")
            say(Party.BENCH, Party.BOARD, "raw REPL: identity")
            inject.inject(repl, identity)
            say(Party.BOARD, Party.BENCH, "read back from NVS, compared")
        detail.append("read back from NVS and compared")

    def _watch(self, board: Board) -> None:
        """Switch the board off and on, and listen until it has done its work."""
        deadline = time.monotonic() + self._plan.patience_s
        port = open_port(board.url, timeout_s=_LISTEN_S)
        with port:
            self._recorder.say(Party.BENCH, Party.BOARD, "power off and on")
            self._recorder.begin("boot")
            self._recorder.enter("ROM")
            board.power_off()
            board.power_on()
            decoder = Decoder()
            while len(self._acknowledged()) < self._plan.reports:
                if time.monotonic() > deadline:
                    raise JourneyFailedError(
                        f"{len(self._acknowledged())} of {self._plan.reports} reports were "
                        f"acknowledged within {self._plan.patience_s:g} s",
                        next_step="Look at the last state and error of the board above.",
                    )
                for item in decoder.feed(port.read(max(1, port.in_waiting))):
                    if isinstance(item, Event):
                        self._take(item)
                    else:
                        self._read(item.line)
                self.look_back()
        self._recorder.end(f"{len(self._acknowledged())} reports acknowledged")

    def _read(self, line: str) -> None:
        """A line that is no event: look for crashes."""
        if raised := _EXCEPTION.match(line):
            self._crash = raised[0]
        elif line.startswith(_RESET):
            self._boots += 1
            if self._boots > _BOOTS_MAX:
                raise JourneyFailedError(
                    f"the board starts again and again: {self._crash or 'it does not say why'}",
                    next_step="Look at its console with --keep; a MemoryError wants more --heap.",
                )

    def _take(self, event: Event) -> None:
        state = str(event.data.get("s")) if event.name == "state" else ""
        if name := _STEPS.get(state):
            self._recorder.end()
            self._recorder.begin(name)
        self._recorder.take_console(event)
        if state == "HALT":
            raise self._halted()
        if event.name == "error":
            self._last_error = event.error
            self._recorder.end(event.error.name if event.error else "", ok=False)
        elif event.name == "disabled":
            self._recorder.end("the enrolment is disabled: it asks again")
        elif event.matches("reported.acked"):
            self._told.add(str(event.data.get("id")))
            self._recorder.progress(f"{len(self._told)} of {self._plan.reports}")

    def _halted(self) -> JourneyFailedError:
        info = self._last_error
        if info is None:
            return JourneyFailedError("the board halted and did not say why")
        return JourneyFailedError(
            f"the board halted with error {info.code} {info.name}: {info.cause}",
            next_step=info.next_step,
        )

    def look_back(self) -> None:
        """Note what cloud and network know by now."""
        if self._up:
            self.world.look_back()

    def _acknowledged(self) -> set[str]:
        """Reports of which both sides say so: the board got the reply, the cloud the points."""
        return self._told & self._recorder.acknowledged

    def result(self, failure: ImprintError | None) -> JourneyResult:
        """The whole record."""
        recorder = self._recorder
        heap = tuple(recorder.heap)
        tally = self.world.tally()
        return JourneyResult(
            journey=self.world.JOURNEY,
            outcome=FAILED if failure else ACKNOWLEDGED,
            began=self._began,
            network=self.world.NETWORK,
            facts=self._facts,
            steps=tuple(recorder.steps),
            messages=recorder.in_order(),
            states=recorder.states(),
            traffic=tuple(recorder.traffic),
            heap=heap,
            heap_limit_bytes=heap_bytes(self._heap),
            registrations=tally.registrations,
            reports=len(self._acknowledged()),
            bytes_up=tally.bytes_up,
            bytes_down=tally.bytes_down,
            datagrams_up=tally.datagrams_up,
            datagrams_down=tally.datagrams_down,
            heap_peak_bytes=max((sample.used for sample in heap), default=None),
            mpy_bytes=self._mpy_bytes,
            failure=str(failure) if failure else "",
            next_step=failure.next_step if failure else "",
        )


def mpy_bytes(patterns: tuple[str, ...]) -> int:
    """Bytes of .mpy that a board of one journey imports: the application, the modules of these
    patterns, and what they lead to. Those of other journeys lie in the file system, too, and are
    not counted.
    """
    root = firmware_dir()
    todo = [root / "imprint" / "app.py"]
    for pattern in patterns:
        todo += (root / "imprint").glob(pattern)
    found: set[str] = set()
    while todo:
        source = todo.pop()
        name = source.relative_to(root).with_suffix(".mpy").as_posix()
        if not source.is_file() or name in found:
            continue
        found.add(name)
        todo.append(source.with_name("__init__.py"))
        for node in ast.walk(syntax.parse(source.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = root.joinpath(*node.module.split("."))
                # `from package import module`, or a name out of a module
                todo += [module / f"{alias.name}.py" for alias in node.names]
                todo += [module.with_suffix(".py"), module / "__init__.py"]
    return sum(len(data) for name, data in image.mpy_files(root).items() if name in found)


def heap_bytes(text: str) -> int:
    """`64k` as MicroPython's -X heapsize reads it."""
    factor = {"k": 1 << 10, "m": 1 << 20}.get(text[-1:].lower(), 1)
    return int(text.rstrip("kKmM")) * factor
