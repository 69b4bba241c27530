"""Nordic's classic Serial LTE Modem (NCS 2.x): one active socket, data mode, a UDP proxy."""

from __future__ import annotations

from imprint_tools.virtual.modem.core import at
from imprint_tools.virtual.modem.grammar import Command, CommandError, Kind
from imprint_tools.virtual.modem.nrf91 import Nrf91

_END = b"+++"
_TEXT_LIMIT, _BUFFER = 1024, 3884
_TIMED_OUT, _NOT_SUPPORTED = -116, -134  # errno of the modem library


class SerialLteModem(Nrf91):
    """Command lines end in CR LF. Payloads that are not text go through data mode."""

    FAMILY = "nrf91-slm"
    BOOT = ("Ready",)
    LINE_END = b"\r\n"

    def _defaults(self) -> None:
        super()._defaults()
        self._active: int | None = None
        self._proxy: int | None = None
        self._data_mode = False

    @at("#XSLMVER")
    async def _version(self, _command: Command) -> None:
        self.info('#XSLMVER: "2.9.0","2.9.0"')

    # -- the active socket ----------------------------------------------------------------------

    @at("#XSSOCKET", "#XSOCKET")
    async def _socket_open(self, command: Command) -> None:
        if command.kind is not Kind.SET:
            if self._active is not None:
                secure = self._options[self._active].tag is not None
                self.info(f"{command.name}: {self._active},1,0,2,{273 if secure else 17}")
            return
        if command.args == ("0",):
            handle = self._need_active()
            self._close(handle)
            self._active = min(self.sockets, default=None)
            self.info(f'{command.name}: 0,"closed"')
            return
        if (command.name == "#XSSOCKET") != (len(command.args) > 3):
            raise CommandError
        handle, protocol = self.open(command)
        self._active = handle
        self.info(f"{command.name}: {handle},2,{protocol}")

    @at("#XSOCKETSELECT")
    async def _select(self, command: Command) -> None:
        if command.kind is Kind.SET:
            handle = command.number(0)
            if handle not in self.sockets:
                raise CommandError
            self._active = handle
        self.info(f"#XSOCKETSELECT: {self._need_active()}")

    @at("#XSSOCKETOPT")
    async def _secure_option(self, command: Command) -> None:
        handle, operation, name = self._need_active(), command.number(0), command.number(1)
        if name > 18:
            raise CommandError
        if operation == 1:
            self._set_option(handle, name, 0 if name == 2 else command.number(2, 0))
        else:
            self.info(f"#XSSOCKETOPT: {self._get_option(handle, name)}")

    @at("#XSOCKETOPT")
    async def _option(self, command: Command) -> None:
        self._need_active()
        if command.number(1) not in (20, 21):
            raise CommandError

    @at("#XCONNECT")
    async def _dial(self, command: Command) -> None:
        if not await self._connect(self._need_active(), command.text(0), command.number(1)):
            self.info("#XCONNECT: 0")
            raise CommandError
        self.info("#XCONNECT: 1")

    @at("#XSEND")
    async def _send(self, command: Command) -> str | None:
        return await self._send_to(self._need_active(), command)

    @at("#XRECV")
    async def _pull(self, command: Command) -> None:
        sock = self.sockets[self._need_active()]
        flags = command.number(1, 0)
        data = await sock.receive(0 if flags & 64 else command.number(0) or 1e9)
        if data is None:
            raise CommandError
        self.info(f"#XRECV: {len(data)}")
        self.terminal.raw(data)

    @at("#XPOLL")
    async def _poll(self, command: Command) -> None:
        timeout_s = command.number(0) / 1000
        handles = [command.number(i) for i in range(1, len(command.args))] or list(self.sockets)
        if not handles or not set(handles) <= self.sockets.keys():
            raise CommandError
        await self.sockets[handles[0]].wait_for_data(timeout_s)
        for handle in handles:
            sock = self.sockets[handle]
            events = int(bool(sock.waiting)) | 16 * sock.closed
            if events:
                self.info(f'#XPOLL: {handle},"0x{events:04x}"')

    # -- the proxy ------------------------------------------------------------------------------

    @at("#XUDPCLI")
    async def _udp_client(self, command: Command) -> None:
        operation = command.number(0)
        if operation == 0:
            if self._proxy is None:
                raise CommandError
            self._close(self._proxy)
            self._proxy = None
            self.info('#XUDPCLI: 0,"disconnected"')
            return
        if self._proxy is not None or operation not in (1, 2):
            raise CommandError
        tag = ("",) if not command.word(3) else (command.args[3], command.word(5, "2"))
        handle, _ = self.open(
            Command(command.name, Kind.SET, (command.args[0], "2", "0", *filter(None, tag)))
        )
        trouble = _NOT_SUPPORTED if command.number(4, 0) else _TIMED_OUT
        wanted = trouble == _TIMED_OUT
        if not (wanted and await self._connect(handle, command.text(1), command.number(2))):
            self._close(handle)
            self.info(f'#XUDPCLI: {trouble},"not connected"')
            raise CommandError
        self._proxy = handle
        self.info(f'#XUDPCLI: {handle},"connected"')

    @at("#XUDPSEND")
    async def _udp_send(self, command: Command) -> str | None:
        if self._proxy is None:
            raise CommandError
        return await self._send_to(self._proxy, command)

    @at("#XDATACTRL")
    async def _data_control(self, command: Command) -> None:
        command.number(0)

    def _arrived(self, handle: int) -> None:
        if handle != self._proxy:
            return
        sock = self.sockets[handle]
        while sock.waiting:
            data = sock.waiting.popleft()
            if self._data_mode:
                self.terminal.raw(data)
            else:
                self.urc(f"#XUDPDATA: {len(data)}", data)

    # -- sending --------------------------------------------------------------------------------

    async def _send_to(self, handle: int, command: Command) -> str | None:
        if not self._sendable(handle):
            raise CommandError
        if command.kind is Kind.SET:
            data = command.text(0).encode("latin-1")
            if not 0 < len(data) <= _TEXT_LIMIT:
                raise CommandError
            self.sockets[handle].send(data)
            self.info(f"{command.name}: {len(data)}")
            return None
        if self.quirks.prints_data_mode_ok:
            self.terminal.final("OK")
        self._data_mode = True
        try:
            data = await self.terminal.payload(_END)
        finally:
            self._data_mode = False
        if not self._sendable(handle) or len(data) > _BUFFER:
            return "ERROR"
        if data:
            self.sockets[handle].send(data)
        return "#XDATAMODE: 0" if self.quirks.prints_data_mode_end else "OK"

    def _need_active(self) -> int:
        if self._active is None or self._active not in self.sockets:
            raise CommandError
        return self._active
