"""Sequans Monarch 2: GM02S and GM02SP. Sockets outlive power saving mode."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

from imprint_tools.secret import Secret
from imprint_tools.virtual.modem.cellular import BANDS, CAT_M1, NB_IOT, OFF
from imprint_tools.virtual.modem.core import OK, Core, Reboot, at
from imprint_tools.virtual.modem.dtls import PSK_CBC_SHA256, PSK_CCM_8
from imprint_tools.virtual.modem.grammar import BAD_PARAMETER, Command, CommandError, Kind
from imprint_tools.virtual.modem.sockets import Socket

_PROFILES, _CONNECTIONS = range(1, 7), range(1, 7)
_UDP, _COMMAND_MODE = 1, 1
_TLS_1_2, _RESET = 2, 255
_LIMIT = 1500
_TENTH_S = 0.1


@dataclass
class _Connection:
    """What SQNSCFG, SQNSCFGEXT and SQNSSCFG say of one."""

    connect_s: float = 60.0
    ring: int = 0
    """What +SQNSRING tells: 0 the connection, 1 the size too, 2 the data too."""
    hex_in: bool = False
    hex_out: bool = False
    """How data is given to the host, and taken from it."""
    profile: int | None = None
    any_remote: bool = False
    peer: tuple[str, int] = field(default=("", 0))


class Gm02s(Core):
    """Connections 1 to 6, security profiles 1 to 6."""

    FAMILY = "gm02s"
    MODEL = ("Sequans", "GM02S", "UE8.0.5.13")
    BOOT = ("+SYSSTART",)
    STARTS_AT = OFF
    CCM_8 = False
    SECRETS: ClassVar[re.Pattern[str]] = re.compile(r"AT\+SQNSPCFG=", re.IGNORECASE)

    def _defaults(self) -> None:
        super()._defaults()
        self._connections = {handle: _Connection() for handle in _CONNECTIONS}
        self.radio.bands = {
            act: sum(1 << (band - 1) for band in self._bands[rat])
            for rat, act in enumerate((CAT_M1, NB_IOT))
        }

    @property
    def _profiles(self) -> dict[int, tuple[str, ...]]:
        found: dict[int, tuple[str, ...]] = self.nvm.setdefault("profiles", {})
        return found

    @property
    def _bands(self) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = self.nvm.setdefault("bands", [BANDS, BANDS])
        return found

    # -- security profiles ----------------------------------------------------------------------

    @at("+SQNSPCFG")
    async def _security_profile(self, command: Command) -> None:
        """`<id>,<version>,<suites>,<level>,<ca>,<cert>,<key>,<psk>,<identity>,...`"""
        if command.kind is Kind.TEST:
            self.info("+SQNSPCFG: (1-6),(0-3,255),,(0-255),(0-19),(0-19),(0-19),,,(0,1)")
            return
        if command.kind is not Kind.SET:
            for profile, args in sorted(self._profiles.items()):
                self.info(f"+SQNSPCFG: {profile},{','.join(args)}")
            return
        profile, version = command.number(0), command.number(1)
        if profile not in _PROFILES or version not in (0, 1, 2, 3, _RESET):
            raise CommandError(BAD_PARAMETER)
        if version == _RESET:
            self._profiles.pop(profile, None)
            return
        args = (*command.args[1:], *("",) * 12)[:11]
        for suite in _suites(args[1].strip('"')):
            if suite == PSK_CCM_8 and not self.knows(suite):
                raise CommandError(BAD_PARAMETER)
        if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", args[6].strip('"')):
            raise CommandError(BAD_PARAMETER)
        self._profiles[profile] = args

    @at("+SQNSSCFG")
    async def _secure_connection(self, command: Command) -> None:
        connection = self._connection(command, closed=True)
        enabled, profile = command.number(1), command.number(2, 0)
        if enabled and profile not in _PROFILES:
            raise CommandError(BAD_PARAMETER)
        connection.profile = profile if enabled else None

    def _secure(self, sock: Socket, profile: int) -> bool:
        args = self._profiles.get(profile)
        if args is None or args[0] != str(_TLS_1_2):
            return False
        key, identity = args[6].strip('"'), args[7].strip('"')
        if not key or not identity:
            return False
        suites = _suites(args[1].strip('"')) or [PSK_CBC_SHA256, 0x00AF, 0x008C, 0x008D]
        sock.dtls = self.dtls(identity, Secret(bytes.fromhex(key)), suites)
        return True

    @at("+SQNSNVW")
    async def _write_credential(self, command: Command) -> None:
        kind, slot, size = command.text(0), command.number(1), command.number(2)
        if kind not in ("certificate", "privatekey") or not 0 <= slot <= 19 or size < 0:
            raise CommandError(BAD_PARAMETER)
        self.nvm[f"{kind}{slot}"] = await self.payload(b"> ", size) if size else b""

    # -- connections ----------------------------------------------------------------------------

    @at("+SQNSCFG")
    async def _configure(self, command: Command) -> None:
        """`<conn>,<pdp>,<packet size>,<idle s>,<connect 100 ms>,<send 100 ms>`"""
        if command.kind is Kind.READ:
            for handle, connection in self._connections.items():
                tenths = round(connection.connect_s / _TENTH_S)
                self.info(f"+SQNSCFG: {handle},1,300,90,{tenths},50")
            return
        connection = self._connection(command, closed=True)
        connection.connect_s = command.number(4, 600) * _TENTH_S

    @at("+SQNSCFGEXT")
    async def _configure_more(self, command: Command) -> None:
        """`<conn>,<ring>,<receive form>,<keepalive>,<listen>,<send form>`"""
        connection = self._connection(command, closed=False)
        connection.ring = command.number(1, 0)
        connection.hex_in = command.number(2, 0) == 1
        connection.hex_out = command.number(5, 0) == 1

    @at("+SQNSD")
    async def _dial(self, command: Command) -> str | None:
        """`<conn>,<protocol>,<port>,"<host>",0,<local port>,<mode>[,<any remote>,0]`"""
        connection = self._connection(command, closed=True)
        handle = command.number(0)
        if command.number(1) != _UDP or command.number(6, 0) != _COMMAND_MODE:
            raise CommandError(BAD_PARAMETER)
        connection.any_remote = bool(command.number(7, 0))
        connection.peer = command.text(3), command.number(2)
        sock = Socket(self.air, self.clock)
        # The handshake has its own time beyond that of the connection
        limit_s = connection.connect_s * 2
        ready = connection.profile is None or self._secure(sock, connection.profile)
        if not (ready and await self.dial(sock, *connection.peer, limit_s)):
            sock.drop()
            if self.quirks.late_no_carrier:
                self.clock.call_later(0.2, lambda: self.urc("NO CARRIER"))
            return "NO CARRIER"
        sock.on_data = lambda size: self._ring(handle, size)
        sock.on_closed = lambda: self._closed(handle)
        self.sockets[handle] = sock
        return None

    @at("+SQNSSENDEXT")
    async def _send_counted(self, command: Command) -> str | None:
        connection, sock = self._open(command)
        size = command.number(1)
        if not 0 < size <= _LIMIT:
            raise CommandError(BAD_PARAMETER)
        data = await self.payload(b"> ", size * 2 if connection.hex_out else size)
        if connection.hex_out:
            try:
                data = bytes.fromhex(data.decode("latin-1"))
            except ValueError:
                raise CommandError(BAD_PARAMETER) from None
        return self._sent(sock, data)

    @at("+SQNSSEND")
    async def _send_text(self, command: Command) -> str | None:
        _, sock = self._open(command)
        return self._sent(sock, await self.payload(b"> ", b"\x1a"))

    def _sent(self, sock: Socket, data: bytes) -> str | None:
        if not sock.connected or not self.radio.connected:
            raise CommandError
        sock.send(data)
        return None

    @at("+SQNSRECV")
    async def _receive(self, command: Command) -> None:
        connection, sock = self._open(command)
        size = command.number(1)
        if not 0 < size <= _LIMIT:
            raise CommandError(BAD_PARAMETER)
        if not sock.waiting:
            raise CommandError
        data = sock.waiting.popleft()
        if len(data) > size:
            sock.waiting.appendleft(data[size:])
            data = data[:size]
        host, port = connection.peer
        origin = f',"{host}",{port}' if connection.any_remote else ""
        self.info(f"+SQNSRECV: {command.number(0)},{len(data)}{origin}")
        self.terminal.raw(data.hex().upper().encode() if connection.hex_in else data)

    @at("+SQNSH")
    async def _hang_up(self, command: Command) -> None:
        self._connection(command, closed=False)
        sock = self.sockets.pop(command.number(0), None)
        if sock:
            sock.close()

    @at("+SQNSS")
    async def _states(self, _command: Command) -> None:
        for handle in _CONNECTIONS:
            sock = self.sockets.get(handle)
            state = 0 if sock is None else 3 if sock.waiting else 2
            self.info(f"+SQNSS: {handle},{state}")

    @at("+SQNSI")
    async def _statistics(self, command: Command) -> None:
        handle = command.number(0)
        sock = self.sockets.get(handle)
        self.info(f"+SQNSI: {handle},0,0,{sock.queued if sock else 0},0")

    @at("+SQNSO")
    async def _resume(self, command: Command) -> None:
        self._open(command)

    def bearer_lost(self) -> None:
        for handle in sorted(self.sockets):
            self._closed(handle)

    def _ring(self, handle: int, size: int) -> None:
        connection, sock = self._connections[handle], self.sockets[handle]
        text = f"+SQNSRING: {handle}"
        if connection.ring >= 1:
            text += f",{size if connection.ring == 2 else sock.queued}"
        if connection.ring == 2:
            data = sock.waiting.pop()
            shown = data.hex().upper().encode() if connection.hex_in else data
            text += "," + shown.decode("latin-1")
        self.urc(text)

    def _closed(self, handle: int) -> None:
        sock = self.sockets.pop(handle, None)
        if sock:
            sock.drop()
            self.urc(f"+SQNSH: {handle}")

    def _connection(self, command: Command, *, closed: bool) -> _Connection:
        handle = command.number(0)
        if handle not in self._connections:
            raise CommandError(BAD_PARAMETER)
        if closed and handle in self.sockets:
            raise CommandError(3)
        return self._connections[handle]

    def _open(self, command: Command) -> tuple[_Connection, Socket]:
        connection = self._connection(command, closed=False)
        sock = self.sockets.get(command.number(0))
        if sock is None:
            raise CommandError
        return connection, sock

    # -- the rest -------------------------------------------------------------------------------

    @at("+SQNCCID")
    async def _iccid(self, _command: Command) -> None:
        self._need_sim()
        self.info(f'+SQNCCID: "{self.radio.sim.iccid}",""')

    @at("^RESET")
    async def _reset(self, _command: Command) -> None:
        self.terminal.final(OK)
        raise Reboot

    @at("+SQNMODEACTIVE")
    async def _mode(self, command: Command) -> None:
        if command.kind is Kind.SET:
            if command.number(0) not in (1, 2):
                raise CommandError(BAD_PARAMETER)
            self.nvm["mode"] = command.number(0)
        else:
            self.info(f"+SQNMODEACTIVE: {self.nvm.get('mode', 1)}")

    @at("+SQNBANDSEL")
    async def _select_bands(self, command: Command) -> None:
        """`<0 LTE-M, 1 NB-IoT>,<operator>,"<bands>"`; counts from the next start on."""
        if command.kind is not Kind.SET:
            for rat, bands in enumerate(self._bands):
                self.info(f'+SQNBANDSEL: {rat},standard,"{",".join(map(str, bands))}"')
            return
        rat, wanted = command.number(0), command.text(2).split(",")
        known = {str(band): band for band in BANDS}
        if rat not in (0, 1) or command.text(1) != "standard" or not known.keys() >= {*wanted}:
            raise CommandError(BAD_PARAMETER)
        self._bands[rat] = tuple(known[band] for band in wanted)

    @at("+SQNEDRX")
    async def _extended_reception(self, command: Command) -> None:
        await self._edrx(Command("+CEDRXS", command.kind, command.args[:3]))


def _suites(text: str) -> list[int]:
    """The suites of `0xAE;0xAF`. Raises CommandError: not such a list."""
    try:
        return [int(word, 16) for word in text.split(";") if word]
    except ValueError:
        raise CommandError(BAD_PARAMETER) from None
