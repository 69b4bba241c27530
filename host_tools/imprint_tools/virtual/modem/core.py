"""The AT interpreter and the commands that all families share (TS 27.007).

A family is a subclass with its own commands, each a coroutine marked by `@at("+NAME")`. It
returns for OK, or returns the final itself; CommandError ends in ERROR or +CME ERROR.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from imprint_tools.secret import Secret
from imprint_tools.virtual.modem.air import Air
from imprint_tools.virtual.modem.cellular import ALL_BANDS, FLIGHT, FULL, OFF, Radio
from imprint_tools.virtual.modem.clock import Clock, sleep
from imprint_tools.virtual.modem.dtls import PSK_CCM_8, SUITES, Dtls
from imprint_tools.virtual.modem.grammar import (
    BAD_PARAMETER,
    Command,
    CommandError,
    Kind,
    commands,
)
from imprint_tools.virtual.modem.quirks import Quirks
from imprint_tools.virtual.modem.sockets import Socket
from imprint_tools.virtual.modem.terminal import Terminal

_log = logging.getLogger(__name__)
_Handler = Callable[[Any, Command], Awaitable[str | None]]
_F = TypeVar("_F", bound=_Handler)

OK, ERROR = "OK", "ERROR"
NOT_ALLOWED, NOT_FOUND, NO_NETWORK = 3, 22, 30
_CME_TEXTS = {
    3: "operation not allowed",
    4: "operation not supported",
    10: "SIM not inserted",
    11: "SIM PIN required",
    12: "SIM PUK required",
    13: "SIM failure",
    14: "SIM busy",
    16: "incorrect password",
    22: "not found",
    30: "no network service",
    50: "Incorrect parameters",
    100: "unknown",
    148: "unspecified GPRS error",
}
_LOG = 10_000  # command lines
_UPDATE_S = 0.02
"""The network's answer to a wish."""
_PIN = re.compile(r"AT\+CPIN=", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,255}")


class Reboot(Exception):
    """The command makes the modem start anew."""


@dataclass
class Parts:
    """What a modem is made of; the bench builds it."""

    radio: Radio
    air: Air
    clock: Clock
    quirks: Quirks
    write: Callable[[bytes], None]
    imei: str
    retransmit_s: tuple[float, float] = (1.0, 60.0)
    """DTLS: the handshake's first and longest wait before it sends again (host's clock)."""
    boot_s: float = 0.5
    nvm: dict[str, Any] = field(default_factory=dict)
    """What the modem keeps without power; a family's own keys and values."""


def at(*names: str) -> Callable[[_F], _F]:
    """Mark a method as the handler of these commands."""

    def mark(handler: _F) -> _F:
        handler.at_names = names  # type: ignore[attr-defined]  # read back by __init_subclass__
        return handler

    return mark


class Core:
    """One modem. All methods run in its event loop."""

    FAMILY: ClassVar[str]
    BOOT: ClassVar[tuple[str, ...]] = ()
    """The unsolicited lines that tell of a start."""
    MODEL: ClassVar[tuple[str, str, str]]
    """Manufacturer, model, revision."""
    ECHO: ClassVar[bool] = True
    LINE_END: ClassVar[bytes] = b"\r"
    HOLDS_URCS: ClassVar[bool] = False
    JOINS: ClassVar[bool] = True
    """Several commands may stand in a line, basic ones too."""
    STARTS_AT: ClassVar[int] = FULL
    """The level of +CFUN after power-up."""
    CID: ClassVar[int] = 1
    """The default bearer's context."""
    SLEEPS_OFF: ClassVar[bool] = False
    """Power saving mode ends in a start: sockets are lost."""
    SOCKETS: ClassVar[int] = 8
    CCM_8: ClassVar[bool] = True
    """TLS_PSK_WITH_AES_128_CCM_8 is known, where `Quirks.ccm_8` does not say otherwise."""
    SECRETS: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    """Command lines of which only the name may be told."""
    _handlers: ClassVar[dict[str, _Handler]] = {}

    def __init_subclass__(cls) -> None:
        handlers: dict[str, _Handler] = {}
        for base in reversed(cls.__mro__):
            for handler in vars(base).values():
                for name in getattr(handler, "at_names", ()):
                    handlers[name] = handler
        cls._handlers = handlers

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.radio, self.air, self.clock = parts.radio, parts.air, parts.clock
        self.quirks = parts.quirks
        self.nvm = parts.nvm
        self.terminal = Terminal(
            parts.write,
            self.clock,
            self.quirks,
            holds_urcs=self.HOLDS_URCS,
            line_end=self.LINE_END,
        )
        self.sockets: dict[int, Socket] = {}
        self.log: deque[str] = deque(maxlen=_LOG)
        """The command lines that came, secrets left out."""
        self.starts = 0
        self.on_command: Callable[[str], None] = lambda _line: None
        self._reboot_at = 0
        self._reboot_after = False
        self._serving: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._asleep = False
        self._ready = False
        self.radio.on_registration = self._registration
        self.radio.on_sleep = self._sleep
        self.air.on_traffic = self.radio.traffic
        self._defaults()

    # -- life -----------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Start, or start anew: all but NVM is lost."""
        self.power_off()
        self._defaults()
        self._serving = asyncio.get_running_loop().create_task(self._serve())

    def power_off(self) -> None:
        """Pull the plug."""
        if self._serving:
            self._serving.cancel()
            self._serving = None
        self._ready = False
        for task in self._background:
            task.cancel()
        self._drop_sockets()
        self.terminal.reset()
        self._asleep = False

    def feed(self, data: bytes) -> None:
        """Bytes from the host."""
        if self._asleep:
            data = data[self.quirks.lost_wake_bytes :] if not self.SLEEPS_OFF else b""
            self.wake()
        if self._ready:  # a booting modem hears nothing
            self.terminal.feed(data)

    def wake(self) -> None:
        """What the power key, RTS or a byte on the UART does to a sleeping modem."""
        if not self._asleep:
            return
        self._asleep = False
        if self.SLEEPS_OFF:
            self.power_on()
        else:
            self.radio.traffic()

    def order_reboot(self, at_command: int, *, after: bool) -> None:
        """Start anew at the n-th command from now: before it is done, or after, unanswered."""
        self._reboot_at, self._reboot_after = at_command, after

    def _defaults(self) -> None:
        """Everything as after power-up. Families add theirs."""
        self._cmee = 0
        self._creg = 0
        self._cgerep = 0
        self._contexts: dict[int, tuple[str, str]] = {}
        self._dns_tried = self._connect_tried = False

    async def _serve(self) -> None:
        self.starts += 1
        await sleep(self.clock, self.parts.boot_s)
        self._ready = True
        self.terminal.echo = self.ECHO
        self.radio.power_on(self.STARTS_AT)
        for urc in self.BOOT:
            self.terminal.urc(urc)
        while True:
            line = await self.terminal.next_line()
            try:
                await self._run(line.decode("latin-1"))
            except Reboot:
                asyncio.get_running_loop().call_soon(self.power_on)
                return
            self.terminal.done()

    async def _run(self, line: str) -> None:
        shown = self._shown(line)
        self.log.append(shown)
        self.on_command(shown)
        self._reboot_at -= 1
        if self._reboot_at == 0 and not self._reboot_after:
            raise Reboot
        final = await self._finals(line)
        if self._reboot_at == 0:
            raise Reboot
        if final:
            self.terminal.final(final)

    async def _finals(self, line: str) -> str:
        """The final of the whole line: the first that is not OK."""
        try:
            todo = commands(line)
            if not self.JOINS and (len(todo) > 1 or not _plain(todo[0])):
                raise CommandError
            for command in todo:
                final = await self._one(command)
                if final is not None:
                    return final
        except CommandError as error:
            return self._error(error.number)
        except Reboot:
            raise
        except Exception:
            _log.exception("a command of the virtual modem failed")
            return ERROR
        return OK

    async def _one(self, command: Command) -> str | None:
        handler = self._handlers.get(command.name)
        if (number := self.quirks.refused.pop(command.name, None)) is not None:
            raise CommandError(number)
        if handler is None:
            raise CommandError
        try:
            return await handler(self, command)
        finally:
            await sleep(self.clock, self.quirks.slow.get(command.name, 0))

    def _error(self, number: int | None) -> str:
        if number is None or not self._cmee:
            return ERROR
        text = _CME_TEXTS.get(number, str(number)) if self._cmee == 2 else str(number)
        return f"+CME ERROR: {text}"

    def _shown(self, line: str) -> str:
        if self.SECRETS.match(line) or _PIN.match(line):
            return re.split("[=]", line)[0] + "=<not shown>"
        return line

    # -- for families ---------------------------------------------------------------------------

    def info(self, text: str) -> None:
        """A response line."""
        self.terminal.line(text)

    def urc(self, text: str, data: bytes = b"") -> None:
        if self._ready:
            self.terminal.urc(text, data)

    async def payload(self, prompt: bytes, wanted: int | bytes) -> bytes:
        """Prompt for raw bytes."""
        self.terminal.prompt(prompt)
        return await self.terminal.payload(wanted)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with it after the command's final; a start ends it."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def socket(self, handle: int) -> Socket:
        """Raises CommandError: there is none."""
        if handle not in self.sockets:
            raise CommandError(BAD_PARAMETER)
        return self.sockets[handle]

    def new_handle(self) -> int:
        """The lowest free one. Raises CommandError: all are taken."""
        free = set(range(self.SOCKETS)) - self.sockets.keys()
        if not free:
            raise CommandError(NOT_ALLOWED)
        return min(free)

    def knows(self, suite: int) -> bool:
        """Whether the modem has that cipher suite."""
        ccm_8 = self.CCM_8 if self.quirks.ccm_8 is None else self.quirks.ccm_8
        return suite in SUITES and (ccm_8 or suite != PSK_CCM_8)

    def bands(self, mask: int) -> int:
        """Bit 0 is band 1. Raises CommandError: it holds no band that the modem has."""
        if not mask & ALL_BANDS:
            raise CommandError(BAD_PARAMETER)
        return mask

    def dtls(self, identity: str, key: Secret, suites: list[int]) -> Dtls:
        """A session to be. Raises CommandError: a key or suite that cannot be."""
        suites = [suite for suite in suites if self.knows(suite)]
        if not suites:
            raise CommandError(BAD_PARAMETER)
        try:
            return Dtls(identity, key, suites, retransmit_s=self.parts.retransmit_s)
        except ValueError:
            raise CommandError(BAD_PARAMETER) from None

    async def dial(self, sock: Socket, host: str, port: int, timeout_s: float) -> bool:
        """Connect; False: no data connection, no such name, or no handshake in time."""
        if not (self.radio.connected and _HOST.fullmatch(host) and 0 < port < 65536):
            return False
        address = self.air.resolve(host)
        if address is None:
            return False
        if sock.dtls and self.quirks.connect_fails_first and not self._connect_tried:
            self._connect_tried = True
            return False
        return await sock.connect(address, port, timeout_s)

    def _drop_sockets(self) -> None:
        for sock in self.sockets.values():
            sock.drop()
        self.sockets.clear()

    # -- what the radio tells -------------------------------------------------------------------

    def _registration(self) -> None:
        self._tell_registration()
        self.air.up = self.radio.connected
        if not self.radio.connected:
            self.bearer_lost()

    def _tell_registration(self) -> None:
        if self._creg:
            self.urc(f"+CEREG: {self.radio.describe(self._creg)}")

    def bearer_lost(self) -> None:
        """The data connection is gone. Families tell of it and drop what it carried."""
        self._drop_sockets()

    def _sleep(self, asleep: bool) -> None:
        self.air.reachable = not asleep
        self._asleep = asleep
        if asleep and self.SLEEPS_OFF:
            self._slept_off()

    def _slept_off(self) -> None:
        self.power_off()
        self._asleep = True

    # -- commands -------------------------------------------------------------------------------

    @at("")
    async def _attention(self, _command: Command) -> None:
        return

    @at("E", "E0", "E1")
    async def _echo(self, command: Command) -> None:
        if not self.quirks.echo_lost:
            self.terminal.echo = command.name == "E1"

    @at("I", "+CGMM")
    async def _model(self, _command: Command) -> None:
        self.info(self.MODEL[1])

    @at("+CGMI")
    async def _manufacturer(self, _command: Command) -> None:
        self.info(self.MODEL[0])

    @at("+CGMR")
    async def _revision(self, _command: Command) -> None:
        self.info(self.MODEL[2])

    @at("+CGSN")
    async def _imei(self, command: Command) -> None:
        if command.kind is Kind.SET and command.number(0) == 1:
            self.info(f'+CGSN: "{self.parts.imei}"')
        else:
            self.info(self.parts.imei)

    @at("+CIMI")
    async def _imsi(self, _command: Command) -> None:
        self._need_sim()
        self.info(self.radio.sim.imsi)

    @at("+CMEE")
    async def _errors(self, command: Command) -> None:
        self._cmee = self._setting(command, "+CMEE", self._cmee, 2)

    @at("&C0", "&C1", "&D0", "&D1", "&D2")
    async def _accepted(self, _command: Command) -> None:
        """Settings of lines that are not there."""

    @at("+CFUN")
    async def _functionality(self, command: Command) -> None:
        if command.kind is Kind.READ:
            self.info(f"+CFUN: {self.radio.functionality}")
        elif command.kind is Kind.SET:
            level = command.number(0)
            if level in (15, 16):
                self.terminal.final(OK)
                raise Reboot
            if level not in (OFF, FULL, FLIGHT):
                raise CommandError(BAD_PARAMETER)
            if command.number(1, 0):
                self.terminal.final(OK)
                raise Reboot
            self.radio.apn = self._contexts.get(self.CID, ("", ""))[1]
            self.radio.set_functionality(level)

    @at("+CPIN")
    async def _pin(self, command: Command) -> None:
        trouble = self.radio.sim_trouble()
        if command.kind is Kind.SET:
            if trouble != 11:
                raise CommandError(trouble or NOT_ALLOWED)
            if not self.radio.enter_pin(command.word(0)):
                raise CommandError(16)
        elif trouble in (None, 11, 12):
            self.info("+CPIN: " + {None: "READY", 11: "SIM PIN", 12: "SIM PUK"}[trouble])
        else:
            raise CommandError(trouble)

    @at("+CEREG")
    async def _registration_state(self, command: Command) -> None:
        if command.kind is Kind.READ:
            self.info(f"+CEREG: {self._creg},{self.radio.describe(max(self._creg, 1))}")
        else:
            self._creg = self._setting(command, "+CEREG", self._creg, 5)

    @at("+COPS")
    async def _operator(self, command: Command) -> None:
        if command.kind is Kind.READ:
            known = f',2,"{self.radio.cell.operator}",{self.radio.cell.act}'
            self.info("+COPS: 0" + (known if self.radio.registered else ""))
        elif command.kind is Kind.SET:
            self._need_sim()
            mode = command.number(0)
            if mode == 2:
                self.radio.set_functionality(self.radio.functionality)
            elif mode not in (0, 1, 3):
                raise CommandError(BAD_PARAMETER)

    @at("+CGATT")
    async def _attached(self, command: Command) -> None:
        if command.kind is Kind.READ:
            self.info(f"+CGATT: {int(self.radio.registered)}")
        elif command.kind is Kind.SET and command.number(0) and not self.radio.registered:
            raise CommandError(NO_NETWORK)

    @at("+CGDCONT")
    async def _context(self, command: Command) -> None:
        if command.kind is Kind.READ:
            for cid, (kind, apn) in sorted(self._contexts.items()):
                self.info(f'+CGDCONT: {cid},"{kind}","{apn}","",0,0')
        elif command.kind is Kind.SET:
            kind = command.text(1)
            if kind not in ("IP", "IPV6", "IPV4V6", "Non-IP"):
                raise CommandError(BAD_PARAMETER)
            cid = command.number(0)
            self._contexts[cid] = (kind, command.text(2, ""))
            if cid == self.CID:
                self.radio.apn = command.text(2, "")
                self.air.up = self.radio.connected

    @at("+CGPADDR")
    async def _address(self, command: Command) -> None:
        cid = command.number(0, self.CID)
        address = f',"{self.radio.cell.address}"' if self.radio.connected else ""
        self.info(f"+CGPADDR: {cid}{address}")

    @at("+CGACT")
    async def _activated(self, command: Command) -> None:
        if command.kind is Kind.READ:
            self.info(f"+CGACT: {self.CID},{int(self.radio.connected)}")
        elif command.number(0) and not self.radio.connected:
            raise CommandError(148)

    @at("+CGEREP")
    async def _packet_events(self, command: Command) -> None:
        self._cgerep = self._setting(command, "+CGEREP", self._cgerep, 2)

    @at("+CSQ")
    async def _signal(self, _command: Command) -> None:
        cell = self.radio.cell
        known = self.radio.registered and cell.rsrp != 255
        self.info(f"+CSQ: {min(31, max(0, (cell.rsrp - 8) // 2)) if known else 99},99")

    @at("+CESQ")
    async def _extended_signal(self, _command: Command) -> None:
        cell = self.radio.cell
        rsrq, rsrp = (cell.rsrq, cell.rsrp) if self.radio.registered else (255, 255)
        self.info(f"+CESQ: 99,99,255,255,{rsrq},{rsrp}")

    @at("+CPSMS")
    async def _power_saving(self, command: Command) -> None:
        if command.kind is Kind.READ:
            tau, active = self.radio.psm_wanted or ("", "")
            wanted = f',,,"{tau}","{active}"' if tau else ""
            self.info(f"+CPSMS: {int(bool(self.radio.psm_wanted))}{wanted}")
        elif command.kind is Kind.SET:
            mode = command.number(0)
            if mode == 1:
                self.radio.psm_wanted = (
                    _bits(command.text(3, "00000001"), 8),
                    _bits(command.text(4, "00000001"), 8),
                )
            elif mode in (0, 2):
                self.radio.psm_wanted = None
            else:
                raise CommandError(BAD_PARAMETER)
            self._regranted()

    @at("+CEDRXS")
    async def _edrx(self, command: Command) -> None:
        if command.kind is Kind.READ:
            if self.radio.edrx_wanted:
                self.info(f'+CEDRXS: {self._edrx_act},"{self.radio.edrx_wanted}"')
        elif command.kind is Kind.SET:
            mode = command.number(0)
            if mode in (1, 2):
                if command.number(1) != self._edrx_act:
                    return
                self.radio.edrx_wanted = _bits(command.text(2, "0010"), 4)
                if mode == 2 and (granted := self.radio.granted_edrx):
                    wanted = self.radio.edrx_wanted
                    text = f'+CEDRXP: {self._edrx_act},"{wanted}","{granted}","0001"'
                    self.clock.call_later(_UPDATE_S, lambda: self.urc(text))
            elif mode in (0, 3):
                self.radio.edrx_wanted = None
            else:
                raise CommandError(BAD_PARAMETER)

    @at("+CEDRXRDP")
    async def _edrx_granted(self, _command: Command) -> None:
        granted = self.radio.granted_edrx
        rest = f',"{self.radio.edrx_wanted}","{granted}","0001"' if granted else ""
        self.info(f"+CEDRXRDP: {self._edrx_act if granted else 0}{rest}")

    @property
    def _edrx_act(self) -> int:
        """+CEDRXS counts otherwise than +CEREG: 4 is LTE-M, 5 NB-IoT."""
        return 5 if self.radio.cell.act == 9 else 4

    def _regranted(self) -> None:
        """A new wish goes out with a tracking area update; its answer comes as a URC."""
        if self.radio.registered:
            self.radio.traffic()
            if self._creg >= 4:
                self.clock.call_later(_UPDATE_S, self._tell_registration)

    def _need_sim(self) -> None:
        if (trouble := self.radio.sim_trouble()) is not None:
            raise CommandError(trouble)

    def _setting(self, command: Command, name: str, now: int, top: int) -> int:
        """A setting from 0 to `top`: answered when read, its new value when set."""
        if command.kind is Kind.SET:
            value = command.number(0)
            if not 0 <= value <= top:
                raise CommandError(BAD_PARAMETER)
            return value
        if command.kind is Kind.TEST:
            self.info(f"{name}: ({','.join(map(str, range(top + 1)))})")
        else:
            self.info(f"{name}: {now}")
        return now


def _plain(command: Command) -> bool:
    """What a family that joins no commands takes: AT, ATE0, ATE1 and extended ones."""
    return command.name in ("", "E0", "E1") or not command.name[0].isalpha()


def _bits(text: str, count: int) -> str:
    if not re.fullmatch(f"[01]{{{count}}}", text):
        raise CommandError(BAD_PARAMETER)
    return text
