"""A modem without DTLS sockets: plain UDP as Quectel's BC95 and its kin have it (+NSO...)."""

from __future__ import annotations

from imprint_tools.virtual.modem.air import is_address
from imprint_tools.virtual.modem.core import Core, at
from imprint_tools.virtual.modem.grammar import BAD_PARAMETER, Command, CommandError
from imprint_tools.virtual.modem.sockets import Socket

_UDP = 17
_LIMIT = 512


class UdpOnly(Core):
    """Payloads are hexadecimal, both ways; peers are addresses, as there is no lookup."""

    FAMILY = "udp"
    MODEL = ("Quectel", "BC95-G", "V300R100C10B657SP3")
    BOOT = ("Neul", "OK")
    SOCKETS = 7

    @at("+NSOCR")
    async def _create(self, command: Command) -> None:
        """`"DGRAM",17,<local port>,<receive URC>`"""
        if command.word(0) != "DGRAM" or command.number(1) != _UDP:
            raise CommandError(BAD_PARAMETER)
        handle = self.new_handle()
        sock = self.sockets[handle] = Socket(self.air, self.clock)
        self._peers[handle] = ("", 0)
        if command.number(3, 1):
            sock.on_data = lambda size: self.urc(f"+NSONMI: {handle},{size}")
        self.info(str(handle))

    @at("+NSOST")
    async def _send_to(self, command: Command) -> None:
        """`<socket>,<host>,<port>,<length>,<hex>`"""
        handle, host, port = command.number(0), command.word(1), command.number(2)
        size = command.number(3)
        try:
            data = bytes.fromhex(command.word(4))
        except ValueError:
            raise CommandError(BAD_PARAMETER) from None
        sock = self.socket(handle)
        if len(data) != size or not 0 < size <= _LIMIT:
            raise CommandError(BAD_PARAMETER)
        if not is_address(host):
            raise CommandError(BAD_PARAMETER)
        if self._peers[handle] != (host, port):
            if not await self.dial(sock, host, port, 0):
                raise CommandError
            self._peers[handle] = host, port
        sock.send(data)
        self.info(f"{handle},{size}")

    @at("+NSORF")
    async def _receive(self, command: Command) -> None:
        handle, size = command.number(0), command.number(1)
        sock = self.socket(handle)
        if not sock.waiting:
            return
        data = sock.waiting.popleft()
        if len(data) > size:
            sock.waiting.appendleft(data[size:])
            data = data[:size]
        host, port = self._peers[handle]
        self.info(f"{handle},{host},{port},{len(data)},{data.hex().upper()},{sock.queued}")

    @at("+NSOCL")
    async def _close(self, command: Command) -> None:
        handle = command.number(0)
        self.socket(handle).close()
        del self.sockets[handle]

    @at("+NCCID", "+QCCID")
    async def _iccid(self, command: Command) -> None:
        self._need_sim()
        self.info(f"{command.name}: {self.radio.sim.iccid}")

    def _defaults(self) -> None:
        super()._defaults()
        self._peers: dict[int, tuple[str, int]] = {}
