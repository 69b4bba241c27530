"""u-blox SARA-R5, R410M and R422: one command set, three ways to name a cipher suite.

The module says nothing when it starts. In power saving mode it loses sockets and profiles.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from imprint_tools.secret import Secret
from imprint_tools.virtual.modem.cellular import CAT_M1, NB_IOT
from imprint_tools.virtual.modem.core import Core, at
from imprint_tools.virtual.modem.dtls import PSK_CBC_SHA256, PSK_CCM_8, SUITES
from imprint_tools.virtual.modem.grammar import BAD_PARAMETER, Command, CommandError, Kind
from imprint_tools.virtual.modem.sockets import Socket

_UDP = 17
_PROFILES = range(5)
_SECURE_LIMIT = 4
_WRITE_LIMIT, _WRITE_LIMIT_HEX = 1024, 512
_CONNECT_S = 330.0
_AFTER_USOSEC_S = 0.25
_BAD_DESCRIPTOR, _NOT_CONNECTED, _UNREACHABLE = 9, 107, 113
_LEVEL, _VERSION, _SUITE, _KEY, _IDENTITY = 0, 1, 2, 8, 9
_LEGACY = {6: 0x008C, 7: 0x008D, 12: 0x00AE, 13: 0x00AF, 16: 0x00A8, 17: 0x00A9}
_AUTOMATIC, _ONE_BY_IANA, _LIST_BY_IANA = 0, 99, 100
_FACTORY = {"+URAT": "7", "+UMNOPROF": "0", "+UPSV": "0"}
_RATS = {0: CAT_M1, 1: NB_IOT}  # as +UBANDMASK counts them
_BAND_LIMIT = 1 << 64
_FACTORY_BANDS = 168761503
_ALL = [PSK_CCM_8, PSK_CBC_SHA256]


class SaraR5(Core):
    """The list form of suites (100), and a context that must be mapped and activated first."""

    FAMILY = "sara-r5"
    MODEL = ("u-blox", "SARA-R510S", "02.06")
    SLEEPS_OFF = True
    SOCKETS = 7
    SECRETS: ClassVar[re.Pattern[str]] = re.compile(r"AT\+USECPRF=\d,\s*8", re.IGNORECASE)
    SUITE_FORM: ClassVar[int] = _LIST_BY_IANA
    CHECKS_CA: ClassVar[bool] = True
    """The certificate validation level after a profile's reset is not 0."""
    NEEDS_CONTEXT: ClassVar[bool] = True
    """UPSD and UPSDA come before sockets."""
    HIGH_BANDS: ClassVar[bool] = True
    """Bands 65 to 128 have a mask of their own."""

    def _defaults(self) -> None:
        super()._defaults()
        self._hex: bool = bool(self.nvm.get("hex", False))
        self._profiles: dict[int, dict[int, Any]] = {}
        self._secured: dict[int, int] = {}
        self._secured_at = -_AFTER_USOSEC_S
        self._peers: dict[int, tuple[str, int]] = {}
        self._active = False
        self._error_code = 0
        self.radio.bands = {_RATS[rat]: mask for rat, mask in self._bands.items()}

    @property
    def _bands(self) -> dict[int, int]:
        found: dict[int, int] = self.nvm.setdefault("bands", dict.fromkeys(_RATS, _FACTORY_BANDS))
        return found

    # -- security profiles ----------------------------------------------------------------------

    @at("+USECPRF")
    async def _security_profile(self, command: Command) -> None:
        number = command.number(0)
        if command.kind is not Kind.SET or number not in _PROFILES:
            raise CommandError(BAD_PARAMETER)
        if len(command.args) == 1:
            self._profiles.pop(number, None)
            return
        profile, operation = self._profile(number), command.number(1)
        if len(command.args) == 2:
            self._tell(number, profile, operation)
        elif operation == _SUITE:
            self._set_suite(profile, command)
        elif operation in (_KEY, _IDENTITY):
            profile[operation] = self._text(command, 64 if operation == _KEY else 128)
        elif operation in (_LEVEL, _VERSION, 11, 14):
            profile[operation] = command.number(2)
        elif operation in (3, 4, 5, 6, 10):
            profile[operation] = command.text(2)
        else:
            raise CommandError(BAD_PARAMETER)

    def _profile(self, number: int) -> dict[int, Any]:
        fresh = {_LEVEL: int(self.CHECKS_CA), _VERSION: 0, _SUITE: []}
        return self._profiles.setdefault(number, fresh)

    def _tell(self, number: int, profile: dict[int, Any], operation: int) -> None:
        """The key is not read back."""
        if operation not in profile or operation in (_KEY, _IDENTITY):
            raise CommandError
        if operation == _SUITE:
            names = ";".join(f"{suite:04X}" for suite in profile[_SUITE])
            shown = f'{self.SUITE_FORM},"{names}"' if names else str(_AUTOMATIC)
        else:
            shown = str(profile[operation])
        self.info(f"+USECPRF: {number},{operation},{shown}")

    def _set_suite(self, profile: dict[int, Any], command: Command) -> None:
        form = command.number(2)
        if form == _AUTOMATIC:
            profile[_SUITE] = []
            return
        if form in (_ONE_BY_IANA, _LIST_BY_IANA) and form == self.SUITE_FORM:
            pair = command.text(3) + command.text(4)
            if not re.fullmatch("[0-9A-Fa-f]{4}", pair):
                raise CommandError(BAD_PARAMETER)
            suite = int(pair, 16)
        elif form in _LEGACY:
            suite = _LEGACY[form]
        else:
            raise CommandError(BAD_PARAMETER)
        if suite not in SUITES or not self.knows(suite):
            raise CommandError(BAD_PARAMETER)
        if form != _LIST_BY_IANA:
            profile[_SUITE] = [suite]
        elif command.number(5):
            profile[_SUITE] = [other for other in profile[_SUITE] if other != suite]
        elif suite not in profile[_SUITE]:
            profile[_SUITE] = [*profile[_SUITE], suite]

    def _text(self, command: Command, limit: int) -> Secret:
        """`"<text>"[,<type>]`: type 0 as it is, 1 hexadecimal."""
        text = command.text(2)
        if command.number(3, 0) == 0:
            if not 0 < len(text) <= limit or not text.isprintable():
                raise CommandError(BAD_PARAMETER)
            return Secret(text.encode("latin-1"))
        digits = re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", text)
        if self.quirks.hex_psk_refused or not digits or len(text) > 2 * limit:
            raise CommandError(BAD_PARAMETER)
        return Secret(bytes.fromhex(text))

    def _secure(self, sock: Socket, number: int) -> bool:
        profile = self._profile(number)
        if profile[_LEVEL] or _KEY not in profile or _IDENTITY not in profile:
            return False
        identity: Secret = profile[_IDENTITY]
        suites = profile[_SUITE] or _ALL
        sock.dtls = self.dtls(identity.reveal().decode("latin-1"), profile[_KEY], suites)
        return True

    # -- data connection ------------------------------------------------------------------------

    @at("+UPSD")
    async def _packet_data(self, command: Command) -> None:
        if command.number(0) != 0 or command.number(1) not in (0, 1, 100):
            raise CommandError(BAD_PARAMETER)

    @at("+UPSDA")
    async def _packet_action(self, command: Command) -> None:
        action = command.number(1)
        if action == 3:
            if not self.radio.connected:
                raise CommandError(148)
            self._active = True
            address = self.radio.cell.address
            self.clock.call_later(0.01, lambda: self.urc(f'+UUPSDA: 0,"{address}"'))
        elif action == 4:
            self._active = False
            self._drop_sockets()
        else:
            raise CommandError(BAD_PARAMETER)

    def bearer_lost(self) -> None:
        super().bearer_lost()
        if self._active:
            self._active = False
            self.urc("+UUPSDD: 0")

    @at("+UDNSRN")
    async def _lookup(self, command: Command) -> None:
        if self.quirks.dns_fails_first and not self._dns_tried:
            self._dns_tried = True
            raise CommandError
        address = self.air.resolve(command.text(1)) if self._online() else None
        if command.number(0) != 0 or address is None:
            raise CommandError
        prefix = "+UUDNSRN: 0," if self.quirks.wrong_prefix else "+UDNSRN: "
        self.info(f'{prefix}"{address}"')

    def _online(self) -> bool:
        return self.radio.connected and (self._active or not self.NEEDS_CONTEXT)

    # -- sockets --------------------------------------------------------------------------------

    @at("+UDCONF")
    async def _direct_link(self, command: Command) -> None:
        if command.number(0) != 1:
            return
        if len(command.args) == 1:
            self.info(f"+UDCONF: 1,{int(self._hex)}")
        else:
            self._hex = self.nvm["hex"] = bool(command.number(1))

    @at("+USOCR")
    async def _create(self, command: Command) -> None:
        if command.number(0) != _UDP:
            raise CommandError(BAD_PARAMETER)
        handle = self.new_handle()
        sock = self.sockets[handle] = Socket(self.air, self.clock)
        sock.on_data = lambda _size: self._announce(handle)
        sock.on_closed = lambda: self._closed(handle)
        self._secured.pop(handle, None)
        self._peers.pop(handle, None)
        self.info(f"+USOCR: {handle}")

    @at("+USOSEC")
    async def _secure_socket(self, command: Command) -> None:
        handle = self._handle(command)
        if not command.number(1):
            self._secured.pop(handle, None)
            return
        if len(self._secured.keys() & self.sockets.keys() - {handle}) >= _SECURE_LIMIT:
            raise CommandError
        self._secured[handle] = command.number(2)
        self._secured_at = self.clock.now()

    @at("+USOCO")
    async def _connect(self, command: Command) -> None:
        handle = self._handle(command)
        sock, host, port = self.sockets[handle], command.text(1), command.number(2)
        too_soon = self.clock.now() - self._secured_at < _AFTER_USOSEC_S
        ready = self._online() and not (handle in self._secured and too_soon)
        if ready and handle in self._secured:
            ready = self._secure(sock, self._secured[handle])
        address = re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:]+", host)  # a name is to be looked up first
        if not (ready and address and await self.dial(sock, host, port, _CONNECT_S)):
            self._error_code = _UNREACHABLE
            if self.sockets.get(handle) is sock:
                self.sockets.pop(handle).drop()
            raise CommandError
        self._peers[handle] = host, port

    @at("+USOWR")
    async def _write(self, command: Command) -> None:
        handle, size = self._handle(command), command.number(1)
        data = await self._data(command, 2, size)
        sock = self.sockets.get(handle)
        if sock is None or not sock.connected or handle not in self._peers:
            self._error_code = _NOT_CONNECTED
            raise CommandError
        self._send(sock, data, f"+USOWR: {handle},{size}")

    @at("+USOST")
    async def _send_to(self, command: Command) -> None:
        """Plain UDP only."""
        handle, host, port = self._handle(command), command.word(1), command.number(2)
        size = command.number(3)
        data = await self._data(command, 4, size)
        sock = self.sockets[handle]
        if handle in self._secured or not self._online():
            raise CommandError
        if self._peers.get(handle) != (host, port):
            address = self.air.resolve(host)
            if address is None:
                raise CommandError
            await sock.connect(address, port, 0)
            self._peers[handle] = host, port
        self._send(sock, data, f"+USOST: {handle},{size}")

    async def _data(self, command: Command, index: int, size: int) -> bytes:
        """In hexadecimal on the line, or raw after the prompt."""
        written = len(command.args) > index
        if not 0 < size <= (_WRITE_LIMIT_HEX if written and self._hex else _WRITE_LIMIT):
            raise CommandError(BAD_PARAMETER)
        if not written:
            return await self.payload(b"@", size)
        data = command.text(index).encode("latin-1")
        if self._hex:
            try:
                data = bytes.fromhex(data.decode("latin-1"))
            except ValueError:
                raise CommandError(BAD_PARAMETER) from None
        if len(data) != size:
            raise CommandError(BAD_PARAMETER)
        return data

    def _send(self, sock: Socket, data: bytes, line: str) -> None:
        if self.quirks.bare_ok:
            return
        sock.send(data)
        self.info(line)

    @at("+USORD", "+USORF")
    async def _read(self, command: Command) -> None:
        """A datagram is given whole or cut; what is cut off is lost."""
        handle, size = self._handle(command), command.number(1)
        sock = self.sockets[handle]
        if not 0 <= size <= _WRITE_LIMIT:
            raise CommandError(BAD_PARAMETER)
        if size == 0:
            self.info(f"{command.name}: {handle},{len(sock.waiting[0]) if sock.waiting else 0}")
            return
        data = sock.waiting.popleft()[:size] if sock.waiting else b""
        host, port = self._peers.get(handle, ("", 0))
        origin = f'"{host}",{port},' if command.name == "+USORF" and data else ""
        shown = data.hex().upper() if self._hex else data.decode("latin-1")
        self.info(f'{command.name}: {handle},{origin}{len(data)},"{shown}"')
        if sock.waiting:
            self._announce(handle)

    @at("+USOCL")
    async def _close(self, command: Command) -> None:
        self.sockets.pop(self._handle(command)).close()

    @at("+USOER")
    async def _last_error(self, _command: Command) -> None:
        self.info(f"+USOER: {self._error_code}")

    @at("+USOCTL")
    async def _control(self, command: Command) -> None:
        handle, what = self._handle(command), command.number(1)
        if what != 1:
            raise CommandError(BAD_PARAMETER)
        self.info(f"+USOCTL: {handle},1,{self._error_code}")

    def _announce(self, handle: int) -> None:
        sock = self.sockets[handle]
        unconnected = sock.dtls is None or self.quirks.unconnected_urc
        size = len(sock.waiting[0])
        self.urc(f"+UUSOR{'F' if unconnected else 'D'}: {handle},{size}")

    def _closed(self, handle: int) -> None:
        if sock := self.sockets.pop(handle, None):
            sock.drop()
            self.urc(f"+UUSOCL: {handle}")

    def _handle(self, command: Command) -> int:
        handle = command.number(0)
        if handle not in self.sockets:
            self._error_code = _BAD_DESCRIPTOR
            raise CommandError
        return handle

    # -- the rest -------------------------------------------------------------------------------

    @at("+CCID")
    async def _iccid(self, _command: Command) -> None:
        self._need_sim()
        self.info(f"+CCID: {self.radio.sim.iccid}")

    @at("+URAT", "+UMNOPROF", "+UPSV")
    async def _stored(self, command: Command) -> None:
        if command.kind is Kind.SET:
            self.nvm[command.name] = ",".join(command.args)
        else:
            self.info(f"{command.name}: {self.nvm.get(command.name, _FACTORY[command.name])}")

    @at("+UBANDMASK")
    async def _band_mask(self, command: Command) -> None:
        """`<RAT>,<bands 1 to 64>[,<65 to 128>]`; counts from the next start on."""
        self._need_sim()
        if command.kind is Kind.READ:
            words = []
            for rat, mask in sorted(self._bands.items()):
                high, low = divmod(mask, _BAND_LIMIT)
                words += [rat, low, high] if self.HIGH_BANDS else [rat, low]
            self.info("+UBANDMASK: " + ",".join(map(str, words)))
            return
        rat, masks = command.number(0), command.args[1:]
        if not (rat in _RATS and 1 <= len(masks) <= 1 + self.HIGH_BANDS):
            raise CommandError(BAD_PARAMETER)
        if not all(re.fullmatch(r"\d{1,20}", mask) for mask in masks):
            raise CommandError(BAD_PARAMETER)
        low, high = (*map(int, masks), 0)[:2]
        self._bands[rat] = self.bands(high * _BAND_LIMIT + low)


class SaraR422(SaraR5):
    """One suite by its number at IANA (99)."""

    FAMILY = "sara-r422"
    MODEL = ("u-blox", "SARA-R422S", "00.12")
    SUITE_FORM = _ONE_BY_IANA
    CHECKS_CA = False


class SaraR410(SaraR5):
    """Legacy numbers of suites alone, so no CCM_8; no context to map."""

    FAMILY = "sara-r410"
    MODEL = ("u-blox", "SARA-R410M-02B", "L0.0.00.00.05.12")
    SUITE_FORM = _AUTOMATIC
    CHECKS_CA = False
    NEEDS_CONTEXT = False
    HIGH_BANDS = False
    CCM_8 = False
