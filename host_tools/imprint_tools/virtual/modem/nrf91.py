"""Nordic nRF91: Serial Modem (`#XSMVER`) and the classic Serial LTE Modem (`#XSLMVER`).

The modem's own commands (%CMNG, %XSYSTEMMODE) are the same in both. There is no connection
identifier: Mbed TLS's is not within reach, so name 15 says that none was agreed on.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import ClassVar

from imprint_tools.secret import Secret
from imprint_tools.virtual.modem.cellular import CAT_M1, FULL, NB_IOT, OFF
from imprint_tools.virtual.modem.core import Core, Reboot, at
from imprint_tools.virtual.modem.dtls import AEAD, PSK_CBC_SHA256, PSK_CCM_8, State
from imprint_tools.virtual.modem.grammar import BAD_PARAMETER, Command, CommandError, Kind
from imprint_tools.virtual.modem.sockets import Socket

_NOT_FOUND, _NO_ACCESS, _MEMORY_FULL, _WHILE_ACTIVE, _EXISTS = 513, 514, 515, 518, 519
_ROOT_CA, _PSK, _IDENTITY = 0, 3, 4
_TYPES = range(7)
_HIGHEST_TAG = 2147483647
_CREDENTIALS = 64
_SUITES = [PSK_CCM_8, PSK_CBC_SHA256, 0x008C, 0x008D]
"""What the modem offers, always; the server chooses."""
_UDP, _DTLS = 17, 273
_DGRAM = 2
_HANDSHAKE_TIMES_S = (1, 3, 7, 15, 31, 63, 123)
_SEND_LIMIT_HEX, _SEND_LIMIT_TEXT, _RECEIVE_LIMIT = 1400, 1024, 2048
_SAVED_LIMIT = 4
_FOREVER_S = 1e9
_SAVE, _LOAD = 19, 20


@dataclass
class _Options:
    tag: int | None
    verify: int
    handshake_s: int = 123
    cid: int = 0
    push: bool = False
    """Datagrams come as URCs."""
    polled: bool = False
    armed: bool = False
    """The next event is told; sending or receiving arms again."""
    keep_open: bool = False
    saved: bool = False


class Nrf91(Core):
    """What both applications have from the modem below."""

    MODEL = ("Nordic Semiconductor ASA", "nRF9151-LACA", "mfw_nrf91x1_2.0.2")
    ECHO = False
    HOLDS_URCS = True
    JOINS = False
    STARTS_AT = OFF
    CID = 0
    SECRETS = re.compile(r"AT%CMNG=0,\s*\d+,\s*3\b", re.IGNORECASE)

    def _defaults(self) -> None:
        super()._defaults()
        self._options: dict[int, _Options] = {}
        self._system_mode = "1,1,0,0"
        self.radio.bands = {}
        self._handshaking = False

    @property
    def _credentials(self) -> dict[tuple[int, int], Secret]:
        found: dict[tuple[int, int], Secret] = self.nvm.setdefault("credentials", {})
        return found

    # -- credentials ----------------------------------------------------------------------------

    @at("%CMNG")
    async def _credential_storage(self, command: Command) -> None:
        if command.kind is not Kind.SET:
            raise CommandError(BAD_PARAMETER)
        operation = command.number(0)
        if operation == 1:
            self._list(command)
            return
        tag, kind = command.number(1), command.number(2)
        if not (0 <= tag <= _HIGHEST_TAG and kind in _TYPES):
            raise CommandError(BAD_PARAMETER)
        if operation == 0:
            self._write(tag, kind, command.text(3))
        elif operation == 2:
            self._read(tag, kind)
        elif operation == 3:
            self._writable()
            if self._credentials.pop((tag, kind), None) is None:
                raise CommandError(_NOT_FOUND)
        else:
            raise CommandError(BAD_PARAMETER)

    def _list(self, command: Command) -> None:
        tag, kind = command.number(1, -1), command.number(2, -1)
        for (its_tag, its_kind), value in sorted(self._credentials.items()):
            if tag in (-1, its_tag) and kind in (-1, its_kind):
                digest = hashlib.sha256(value.reveal()).hexdigest().upper()
                self.info(f'%CMNG: {its_tag},{its_kind},"{digest}"')

    def _write(self, tag: int, kind: int, value: str) -> None:
        self._writable()
        if kind == _PSK and not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", value):
            raise CommandError(BAD_PARAMETER)
        if not value:
            raise CommandError(BAD_PARAMETER)
        if (tag, kind) in self._credentials:
            raise CommandError(_EXISTS)
        if len(self._credentials) >= _CREDENTIALS:
            raise CommandError(_MEMORY_FULL)
        self._credentials[tag, kind] = Secret(value)

    def _read(self, tag: int, kind: int) -> None:
        """Secrets are not read back."""
        value = self._credentials.get((tag, kind))
        if value is None:
            raise CommandError(_NOT_FOUND)
        if kind not in (_ROOT_CA, 1):
            raise CommandError(_NO_ACCESS)
        digest = hashlib.sha256(value.reveal()).hexdigest().upper()
        self.info(f'%CMNG: {tag},{kind},"{digest}","{value.reveal().decode("latin-1")}"')

    def _writable(self) -> None:
        if self.radio.functionality == FULL:
            raise CommandError(_WHILE_ACTIVE)

    # -- radio ----------------------------------------------------------------------------------

    @at("%XSYSTEMMODE")
    async def _mode(self, command: Command) -> None:
        if command.kind is Kind.READ:
            self.info(f"%XSYSTEMMODE: {self._system_mode}")
        else:
            if self.radio.functionality == FULL:
                raise CommandError(_WHILE_ACTIVE)
            self._system_mode = ",".join(str(command.number(i)) for i in range(4))

    @at("%XBANDLOCK")
    async def _band_lock(self, command: Command) -> None:
        """The runtime mask; there is no permanent one here."""
        if command.kind is Kind.READ:
            mask = self.radio.bands.get(NB_IOT)
            self.info('%XBANDLOCK: "","' + ("" if mask is None else f"{mask:088b}") + '"')
            return
        if self.radio.functionality == FULL:
            raise CommandError(_WHILE_ACTIVE)
        operation, bits = command.number(0), command.text(1, "")
        if operation == 0:
            self.radio.bands = {}
        elif operation == 2 and re.fullmatch("[01]{1,88}", bits):
            self.radio.bands = dict.fromkeys((CAT_M1, NB_IOT), self.bands(int(bits, 2)))
        else:
            raise CommandError(BAD_PARAMETER)

    @at("%XICCID")
    async def _iccid(self, _command: Command) -> None:
        self._need_sim()
        self.info(f"%XICCID: {self.radio.sim.iccid}")

    @at("%XMONITOR")
    async def _monitor(self, _command: Command) -> None:
        radio, cell = self.radio, self.radio.cell
        if not radio.registered:
            self.info(f"%XMONITOR: {radio.stat}")
            return
        active, tau = radio.granted_psm or ("11100000", "11100000")
        edrx = radio.granted_edrx or ""
        self.info(
            f'%XMONITOR: {radio.stat},"","","{cell.operator}","{cell.tac}",{cell.act},20,'
            f'"{cell.ci}",1,6400,{cell.rsrp},40,"{edrx}","{active}","{tau}","00000000"'
        )

    def bearer_lost(self) -> None:
        """Sockets stay as dead handles until they are closed (ENETDOWN)."""
        functionality = self.radio.functionality
        for handle, sock in self.sockets.items():
            kept = self._options[handle].keep_open and functionality != OFF
            if not kept:
                sock.drop()

    # -- sockets, whatever they are called -------------------------------------------------------

    def open(self, command: Command) -> tuple[int, int]:
        """`<family>,<type>,<role>[,<sec_tag>[,<verify>[,<cid>]]]`: a handle and its protocol."""
        family, kind, role = (command.number(i) for i in range(3))
        if family not in (1, 2) or kind != _DGRAM or role != 0:
            raise CommandError
        tag = command.number(3, -1)
        handle = self.new_handle()
        self.sockets[handle] = self._socket(handle)
        self._options[handle] = _Options(tag if tag >= 0 else None, command.number(4, 2))
        return handle, _UDP if tag < 0 else _DTLS

    def _socket(self, handle: int) -> Socket:
        sock = Socket(self.air, self.clock)
        sock.on_data = lambda _size: self._arrived(handle)
        sock.on_closed = lambda: self._arrived(handle)
        return sock

    def _arrived(self, handle: int) -> None:
        """Data is there for the application."""

    async def _connect(self, handle: int, host: str, port: int) -> bool:
        sock, options = self.sockets[handle], self._options[handle]
        if sock.connected or sock.closed or self._handshaking:
            return False
        if options.tag is not None and not self._secure(sock, options):
            return False
        self._handshaking = True
        try:
            return await self.dial(sock, host, port, options.handshake_s)
        finally:
            self._handshaking = False

    def _secure(self, sock: Socket, options: _Options) -> bool:
        credentials, tag = self._credentials, options.tag or 0
        identity, key = credentials.get((tag, _IDENTITY)), credentials.get((tag, _PSK))
        if identity is None or key is None:
            return False
        if self.quirks.ca_demanded and options.verify and (tag, _ROOT_CA) not in credentials:
            return False
        raw = Secret(bytes.fromhex(key.reveal().decode()))
        sock.dtls = self.dtls(identity.reveal().decode("latin-1"), raw, _SUITES)
        return True

    def _sendable(self, handle: int) -> bool:
        """Not after a save that was not loaded (EPROTO)."""
        return self.sockets[handle].connected and not self._options[handle].saved

    def _set_option(self, handle: int, name: int, value: int) -> None:
        options, sock = self._options[handle], self.sockets[handle]
        dtls_open = sock.dtls is not None and sock.dtls.state is State.OPEN
        if options.tag is None:
            raise CommandError
        if name == 18 and value in _HANDSHAKE_TIMES_S:
            options.handshake_s = value
        elif name == 14 and value in (0, 1, 2):
            options.cid = value
        elif name == _SAVE:
            if not dtls_open or not sock.dtls or sock.dtls.suite not in AEAD:
                raise CommandError
            if sum(other.saved for other in self._options.values()) >= _SAVED_LIMIT:
                raise CommandError
            options.saved = True
        elif name == _LOAD and options.saved:
            options.saved = False
        elif name == 5 and value in (0, 1, 2):
            options.verify = value
        elif name not in (2, 12, 13, 22):
            raise CommandError

    def _get_option(self, handle: int, name: int) -> str:
        dtls, options = self.sockets[handle].dtls, self._options[handle]
        if name == 4 and dtls and dtls.suite:
            return f"0x{dtls.suite:04x}"
        values = {5: options.verify, 14: options.cid, 15: 0, 18: options.handshake_s}
        if name not in values or options.tag is None:
            raise CommandError
        return str(values[name])

    def _close(self, handle: int) -> None:
        self.sockets.pop(handle).close()
        del self._options[handle]


class SerialModem(Nrf91):
    """The application of ncs-serial-modem: a handle in every command, hexadecimal payloads."""

    FAMILY = "nrf91"
    BOOT = ("Ready",)
    VERSION: ClassVar[str] = '"v2.0.0","3.4.0"'

    @at("#XSMVER")
    async def _version(self, _command: Command) -> None:
        self.info(f"#XSMVER: {self.VERSION}")

    @at("#XSSOCKET")
    async def _socket_open(self, command: Command) -> None:
        if command.kind is Kind.READ:
            for handle, options in sorted(self._options.items()):
                tag = options.tag
                protocol = _UDP if tag is None else _DTLS
                self.info(f"#XSSOCKET: {handle},1,0,{_DGRAM},{protocol}" + f",{tag}" * bool(tag))
            return
        if command.number(3) < 0:
            raise CommandError
        handle, protocol = self.open(command)
        self.info(f"#XSSOCKET: {handle},{_DGRAM},{protocol}")

    @at("#XSOCKET")
    async def _plain_open(self, command: Command) -> None:
        if len(command.args) > 3 and command.args[3] != "0":
            raise CommandError
        handle, protocol = self.open(Command(command.name, command.kind, command.args[:3]))
        self.info(f"#XSOCKET: {handle},{_DGRAM},{protocol}")

    @at("#XSSOCKETOPT")
    async def _secure_option(self, command: Command) -> None:
        handle, operation, name = self._handle(command), command.number(1), command.number(2)
        if operation == 1:
            self._set_option(handle, name, 0 if name == 2 else command.number(3, 0))
        elif operation == 0:
            self.info(f"#XSSOCKETOPT: {handle},{self._get_option(handle, name)}")
        else:
            raise CommandError

    @at("#XSOCKETOPT")
    async def _option(self, command: Command) -> None:
        handle, operation, name = self._handle(command), command.number(1), command.number(2)
        if operation == 1 and name == 34:
            self._options[handle].keep_open = bool(command.number(3, 1))
        elif operation != 1 or name not in (20, 21, 61):
            raise CommandError

    @at("#XRECVCFG")
    async def _reception(self, command: Command) -> None:
        flags, form = command.number(1), command.number(2, 0)
        if flags not in (0, 1) or form != 1:
            raise CommandError
        self._options[self._handle(command)].push = flags == 1

    @at("#XCONNECT")
    async def _dial(self, command: Command) -> None:
        handle = self._handle(command)
        if not await self._connect(handle, command.text(1), command.number(2)):
            raise CommandError
        self.info(f"#XCONNECT: {handle},1")

    @at("#XSEND")
    async def _send(self, command: Command) -> str | None:
        handle, mode = self._handle(command), command.number(1)
        command.number(2)
        if mode == 2:
            return await self._send_in_data_mode(handle, command)
        data = command.text(3).encode("latin-1")
        limit = _SEND_LIMIT_TEXT
        if mode == 1:
            limit = _SEND_LIMIT_HEX
            try:
                data = bytes.fromhex(data.decode("latin-1"))
            except ValueError:
                raise CommandError from None
        elif mode != 0:
            raise CommandError
        if not data or len(data) > limit or not self._sendable(handle):
            if self.quirks.zero_sent:
                self.info(f"#XSEND: {handle},0,0")
            raise CommandError
        self.sockets[handle].send(data)
        self.info(f"#XSEND: {handle},0,{len(data)}")
        self._rearm(handle)
        return None

    async def _send_in_data_mode(self, handle: int, command: Command) -> str:
        if not self._sendable(handle):
            raise CommandError
        size = command.number(3, 0)
        self.terminal.final("OK")
        data = await self.terminal.payload(size or b"+++")
        if self._sendable(handle) and data:
            self.sockets[handle].send(data)
        return "#XDATAMODE: 0"

    @at("#XRECV")
    async def _pull(self, command: Command) -> None:
        handle, form, flags = self._handle(command), command.number(1), command.number(2)
        timeout_s = command.number(3, 0) or _FOREVER_S
        sock = self.sockets[handle]
        data = await sock.receive(0 if flags & 64 else timeout_s)
        if data is None:
            if sock.closed:
                return
            raise CommandError
        if flags & 2:
            sock.waiting.appendleft(data)
        data = data[: min(command.number(4, _RECEIVE_LIMIT), _RECEIVE_LIMIT)]
        self.info(f"#XRECV: {handle},{form},{len(data)}")
        self.terminal.raw(data.hex().encode() if form == 1 else data)
        self._rearm(handle)

    @at("#XAPOLL")
    async def _poll(self, command: Command) -> None:
        handles = [command.number(0)] if command.word(0) else list(self.sockets)
        for handle in handles:
            self.socket(handle)
            options = self._options[handle]
            options.polled = options.armed = bool(command.number(1))
            self._arrived(handle)

    @at("#XCLOSE")
    async def _hang_up(self, command: Command) -> None:
        handles = [self._handle(command)] if command.args else sorted(self.sockets)
        for handle in handles:
            self._close(handle)
            self.info(f"#XCLOSE: {handle},0")

    @at("#XRESET")
    async def _reset(self, _command: Command) -> None:
        self.terminal.final("OK")
        raise Reboot

    @at("#XSLEEP", "#XSHUTDOWN")
    async def _shut_down(self, _command: Command) -> None:
        self.radio.set_functionality(OFF)

    def _arrived(self, handle: int) -> None:
        sock, options = self.sockets[handle], self._options[handle]
        if options.push:
            while sock.waiting:
                data = sock.waiting.popleft()
                text = data.hex().encode() + b"\r\n"
                self.urc(f"#XRECV: {handle},1,{len(data)}", text)
        elif options.armed and (sock.waiting or sock.closed):
            options.armed = False
            self.urc(f"#XAPOLL: {handle},{int(bool(sock.waiting)) + 16 * sock.closed}")

    def _rearm(self, handle: int) -> None:
        options = self._options[handle]
        options.armed = options.polled
        self._arrived(handle)

    def _handle(self, command: Command) -> int:
        handle = command.number(0)
        if handle not in self.sockets:
            raise CommandError
        return handle
