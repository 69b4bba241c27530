"""Quectel BG95 and BG77. The pre-shared key is a file, `<ctx>_server.psk`, open to all."""

from __future__ import annotations

import re
from collections import deque
from functools import reduce
from typing import ClassVar

from imprint_tools.secret import Secret
from imprint_tools.virtual.modem.cellular import ALL_BANDS, CAT_M1, NB_IOT, periodic_tau_s, timer_s
from imprint_tools.virtual.modem.clock import sleep
from imprint_tools.virtual.modem.core import OK, Core, at
from imprint_tools.virtual.modem.dtls import PSK_CBC_SHA256, PSK_CCM_8, State
from imprint_tools.virtual.modem.grammar import BAD_PARAMETER, Command, CommandError, Kind
from imprint_tools.virtual.modem.sockets import Socket

_FILE_MISSING, _FILE_EXISTS = 405, 407
_CONTEXTS, _CLIENTS = range(6), range(12)
_SEND_LIMIT, _RECEIVE_LIMIT = 1460, 1500
_ALL_SUITES = 0xFFFF
_NETWORK_S = 150
_BUFFER, _DIRECT = 0, 1
_DNS_FAILED, _IN_USE, _CONNECT_FAILED, _NOT_UP = 565, 563, 566, 561
_TEXTS = {0: "operate successfully", 561: "open PDP context failed", 563: "socket identity has "
          "been used", 565: "DNS parse failed", 566: "socket connect failed"}  # fmt: skip
_SETTINGS = {
    "ciphersuite": 0xFFFF,
    "dtls": 0,
    "dtlsversion": 2,
    "negotiatetime": 300,
    "seclevel": 0,
    "sslversion": 4,
    "ignorelocaltime": 1,
    "sni": 0,
}
"""The numbers of QSSLCFG and their defaults."""


class Bg95(Core):
    """Buffer access mode and direct push mode; DTLS by QSSL, plain UDP by QI."""

    FAMILY = "bg95"
    MODEL = ("Quectel", "BG95-M3", "BG95M3LAR02A04")
    BOOT = ("RDY", "APP RDY")
    SLEEPS_OFF = True
    SECRETS: ClassVar[re.Pattern[str]] = re.compile(r'AT\+QSSLCFG="psk"', re.IGNORECASE)

    def _defaults(self) -> None:
        super()._defaults()
        self._ssl = {context: dict(_SETTINGS) for context in _CONTEXTS}
        self._active = False
        self._modes: dict[int, int] = {}
        self._announced: set[int] = set()
        self._error_number = 0
        self.radio.bands = self.nvm.setdefault("bands", {})

    @property
    def _files(self) -> dict[str, bytes]:
        found: dict[str, bytes] = self.nvm.setdefault("files", {})
        return found

    # -- files ----------------------------------------------------------------------------------

    @at("+QFLST")
    async def _list_files(self, command: Command) -> None:
        wanted = command.text(0, "*")
        found = [name for name in sorted(self._files) if wanted in ("*", name)]
        if not found and wanted != "*":
            raise CommandError(_FILE_MISSING)
        for name in found:
            self.info(f'+QFLST: "{name}",{len(self._files[name])}')

    @at("+QFDEL")
    async def _delete_file(self, command: Command) -> None:
        if self._files.pop(command.text(0), None) is None:
            raise CommandError(_FILE_MISSING)

    @at("+QFUPL")
    async def _upload_file(self, command: Command) -> None:
        name, size = command.text(0), command.number(1)
        if size <= 0 or not name:
            raise CommandError(BAD_PARAMETER)
        if name in self._files:
            raise CommandError(_FILE_EXISTS)
        self.terminal.final("CONNECT")
        data = self._files[name] = await self.terminal.payload(size)
        self.info(f"+QFUPL: {len(data)},{_checksum(data)}")

    @at("+QFDWL")
    async def _download_file(self, command: Command) -> None:
        data = self._files.get(command.text(0))
        if data is None:
            raise CommandError(_FILE_MISSING)
        self.terminal.final("CONNECT")
        self.terminal.raw(data)
        self.info(f"+QFDWL: {len(data)},{_checksum(data)}")

    # -- TLS contexts ---------------------------------------------------------------------------

    @at("+QSSLCFG")
    async def _configure_ssl(self, command: Command) -> None:
        if command.kind is Kind.TEST:
            for name in _SETTINGS:
                self.info(f'+QSSLCFG: "{name}",(0-5)')
            return
        name, context = command.text(0).lower(), command.number(1)
        if name not in _SETTINGS or context not in _CONTEXTS:
            raise CommandError(BAD_PARAMETER)
        if len(command.args) == 2:
            value = self._ssl[context][name]
            shown = f"0X{value:04X}" if name == "ciphersuite" else str(value)
            self.info(f'+QSSLCFG: "{name}",{context},{shown}')
            return
        if name == "ciphersuite":
            match = re.fullmatch(r"0[Xx]([0-9A-Fa-f]{4})", command.args[2])
            if not match:  # in quotes it is refused
                raise CommandError
            suite = int(match[1], 16)
            if suite != _ALL_SUITES and not self.knows(suite):
                raise CommandError(BAD_PARAMETER)
            self._ssl[context][name] = suite
        else:
            value = command.number(2)
            if name == "negotiatetime" and not 10 <= value <= 300:
                raise CommandError(BAD_PARAMETER)
            self._ssl[context][name] = value

    def _secure(self, sock: Socket, context: int) -> bool:
        settings = self._ssl[context]
        identity, mark, key = self._files.get(f"{context}_server.psk", b"").partition(b"&")
        try:
            raw = Secret(bytes.fromhex(key.decode("latin-1")))
        except ValueError:
            return False
        if not (mark and raw.reveal() and settings["dtls"] and settings["dtlsversion"]):
            return False
        suite = settings["ciphersuite"]
        suites = [PSK_CCM_8, PSK_CBC_SHA256] if suite == _ALL_SUITES else [suite]
        try:
            sock.dtls = self.dtls(identity.decode("latin-1"), raw, suites)
        except CommandError:
            return False
        return True

    # -- data connection ------------------------------------------------------------------------

    @at("+QICSGP")
    async def _context_profile(self, command: Command) -> None:
        command.number(0)
        self.radio.apn = command.text(2, "")
        self.air.up = self.radio.connected

    @at("+QIACT")
    async def _activate(self, command: Command) -> None:
        if command.kind is Kind.READ:
            if self._active:
                self.info(f'+QIACT: 1,1,1,"{self.radio.cell.address}"')
        elif not self.radio.connected or self._active:
            self._error_number = _NOT_UP
            raise CommandError
        else:
            self._active = True

    @at("+QIDEACT")
    async def _deactivate(self, _command: Command) -> None:
        self._active = False
        self._drop_sockets()

    def bearer_lost(self) -> None:
        super().bearer_lost()
        if self._active:
            self._active = False
            self.urc('+QIURC: "pdpdeact",1')

    @at("+QIGETERROR")
    async def _last_error(self, _command: Command) -> None:
        text = _TEXTS.get(self._error_number, "unknown")
        self.info(f"+QIGETERROR: {self._error_number},{text}")

    # -- sockets --------------------------------------------------------------------------------

    @at("+QSSLOPEN")
    async def _open_secure(self, command: Command) -> str | None:
        """`<pdp>,<ctx>,<client>,"<host>",<port>,<mode>`"""
        context, handle = command.number(1), command.number(2)
        if context not in _CONTEXTS:
            raise CommandError(BAD_PARAMETER)
        sock = self._new(command, handle, "QSSL", command.number(5, 0))
        limit_s = _NETWORK_S + self._ssl[context]["negotiatetime"]
        secure = self._secure(sock, context)
        return await self._opened(
            handle, secure, command.text(3), command.number(4), limit_s, "QSSL"
        )

    @at("+QIOPEN")
    async def _open_plain(self, command: Command) -> str | None:
        """`<pdp>,<id>,"UDP","<host>",<port>,<local port>,<mode>`"""
        handle = command.number(1)
        if command.text(2) != "UDP":
            raise CommandError(BAD_PARAMETER)
        self._new(command, handle, "QI", command.number(6, 0))
        return await self._opened(
            handle, True, command.text(3), command.number(4), _NETWORK_S, "QI"
        )

    def _new(self, command: Command, handle: int, api: str, mode: int) -> Socket:
        if handle not in _CLIENTS or command.number(0) != 1 or mode not in (_BUFFER, _DIRECT):
            raise CommandError(BAD_PARAMETER)
        if not self._active:
            self._error_number = _NOT_UP
            raise CommandError
        if handle in self.sockets:
            self._error_number = _IN_USE
            raise CommandError
        sock = self.sockets[handle] = Socket(self.air, self.clock)
        self._modes[handle] = mode
        sock.on_data = lambda _size: self._arrived(handle, api)
        sock.on_closed = lambda: self.urc(f'+{api}URC: "closed",{handle}')
        return sock

    async def _opened(
        self, handle: int, ready: bool, host: str, port: int, limit_s: float, api: str
    ) -> str | None:
        """OK comes first; how it went is told by a URC."""
        self.later(self._dialled(handle, ready, host, port, limit_s, api))
        return OK

    async def _dialled(
        self, handle: int, ready: bool, host: str, port: int, limit_s: float, api: str
    ) -> None:
        sock = self.sockets[handle]
        result = 0
        if self.air.resolve(host) is None:
            result = _DNS_FAILED
        elif not (ready and await self.dial(sock, host, port, limit_s)):
            result = _CONNECT_FAILED
        self._error_number = result
        if result and self.sockets.get(handle) is sock:
            self.sockets.pop(handle).drop()
        self.urc(f"+{api}OPEN: {handle},{result}")

    @at("+QSSLSEND", "+QISEND")
    async def _send(self, command: Command) -> str:
        handle, size = command.number(0), command.number(1)
        sock = self.sockets.get(handle)
        if sock is None or not 0 < size <= _SEND_LIMIT:
            raise CommandError
        data = await self.payload(b"> ", size)
        if not sock.connected:
            return "SEND FAIL"
        sock.send(data)
        return "SEND OK"

    @at("+QSSLRECV", "+QIRD")
    async def _receive(self, command: Command) -> None:
        handle, size = command.number(0), command.number(1, _RECEIVE_LIMIT)
        sock = self.sockets.get(handle)
        if sock is None or not 0 <= size <= _RECEIVE_LIMIT:
            raise CommandError
        if size == 0:
            self.info(f"{command.name}: {sock.queued},0,{sock.queued}")
            return
        data = _cut(sock.waiting, size)
        if not sock.waiting:
            self._announced.discard(handle)
        self.info(f"{command.name}: {len(data)}")
        self.terminal.raw(data)

    @at("+QSSLCLOSE", "+QICLOSE")
    async def _close(self, command: Command) -> None:
        sock = self.sockets.pop(command.number(0), None)
        self._announced.discard(command.number(0))
        if sock:
            sock.close()

    @at("+QSSLSTATE")
    async def _state(self, _command: Command) -> None:
        for handle, sock in sorted(self.sockets.items()):
            state = 2 if sock.dtls and sock.dtls.state is State.OPEN else 4
            self.info(f'+QSSLSTATE: {handle},"SSLClient","",0,0,{state},1,0,{self._modes[handle]}')

    def _arrived(self, handle: int, api: str) -> None:
        sock = self.sockets[handle]
        if self._modes[handle] == _DIRECT:
            while sock.waiting:
                data = sock.waiting.popleft()
                self.urc(f'+{api}URC: "recv",{handle},{len(data)}', data)
        elif handle not in self._announced:
            self._announced.add(handle)
            self.urc(f'+{api}URC: "recv",{handle}')

    # -- the rest -------------------------------------------------------------------------------

    @at("+QCCID")
    async def _iccid(self, _command: Command) -> None:
        self._need_sim()
        self.info(f"+QCCID: {self.radio.sim.iccid}")

    @at("+QCFG")
    async def _configure(self, command: Command) -> None:
        if command.text(0) == "band":
            self._select_bands(command)

    def _select_bands(self, command: Command) -> None:
        """`"band",<GSM>,<LTE-M>,<NB-IoT>` in hexadecimal; 0 leaves it as it is."""
        bands = self.radio.bands
        if len(command.args) == 1:
            masks = (bands.get(act, ALL_BANDS) for act in (CAT_M1, NB_IOT))
            self.info('+QCFG: "band",0xf,' + ",".join(f"{mask:#x}" for mask in masks))
            return
        words = command.args[1:4]
        if len(words) < 3 or not all(re.fullmatch("[0-9A-Fa-f]{1,22}", word) for word in words):
            raise CommandError(BAD_PARAMETER)
        for act, word in ((CAT_M1, words[1]), (NB_IOT, words[2])):
            if mask := int(word, 16):
                bands[act] = self.bands(mask)

    @at("+QPOWD")
    async def _power_down(self, _command: Command) -> str:
        self.terminal.final(OK)
        await sleep(self.clock, self.parts.boot_s)
        self.later(self._shut_down())
        return "POWERED DOWN"

    async def _shut_down(self) -> None:
        self.radio.set_functionality(0)
        self._slept_off()

    def _registration(self) -> None:
        super()._registration()
        if granted := self.radio.granted_psm:
            active_s = timer_s(granted[0], {0: 2, 1: 60, 2: 360})
            tau_s = periodic_tau_s(granted[1])
            if active_s is not None and tau_s is not None:
                self.urc(f"+QPSMTIMER: {tau_s:.0f},{active_s:.0f}")


def _cut(waiting: deque[bytes], size: int) -> bytes:
    """The next datagram, or so much of it; the rest stays."""
    if not waiting:
        return b""
    data = waiting.popleft()
    if len(data) > size:
        waiting.appendleft(data[size:])
    return data[:size]


def _checksum(data: bytes) -> str:
    """Of 16-bit words, exclusive or, as Quectel's file commands have it."""
    padded = data + b"\0" * (len(data) % 2)
    words = (int.from_bytes(padded[at : at + 2]) for at in range(0, len(padded), 2))
    return f"{reduce(int.__xor__, words, 0):x}"
