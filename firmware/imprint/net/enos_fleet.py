"""The sub-devices of an EnOS edge, at work: brought online, polled, told what the cloud wants.

`step` does one request's worth of what is to be done and says whether there is more, so that two
hundred are online after a score of requests and nothing else waits meanwhile. What the cloud
refuses of one sub-device is told on the console and left alone until the next connection; the
others go on.
"""

import json

from micropython import const

from imprint import port
from imprint import subdevices as s
from imprint.errors import ImprintError, SetupError
from imprint.folder import FolderStore

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity

_RECORDS = "/subdevices"

_CREATE_MAX = const(16)  # devices a request: the answer has each one's whole record
_RETRY_MS = const(30_000)  # after what the cloud could not do just then
_TURN_MS = const(5_000)  # of polling, between two looks at the connection: many may be silent

# errors.py
_SUBDEVICES_WRONG = const(106)
_CLOCK_SKEWED = const(441)
_SUBDEVICE_SECRETLESS = const(532)

_BINDING_LOST = const(740)
_SIGNATURE_WRONG = const(742)
_OFFLINE = const(401)
_DISABLED = const(723)
_EXISTS = const(11702)


class Fleet:
    """`session` has `identity`, `cloud`, `ask`, `api` and `can_wait`; see enos_session.py."""

    MOST = 200  # sub-devices a request; fewer only to measure what batches are worth

    def __init__(self, session: "Any", unit: "Any") -> None:
        self._session = session
        self._unit = unit
        self._identity: "Identity" = session.identity
        self._cloud = session.cloud
        text = s.Text(unit.store, self._identity)
        store = FolderStore(_RECORDS) if text.size else None
        self.table = s.Subdevices(text, store, self._identity.subdevice_product_key or "")
        self._drivers: dict = {}
        self._next = len(self.table)  # the sub-device to be read next; this is: none
        self._retry_at: "int | None" = None  # ticks
        self._told = -1  # how many were online when that was told last

    # --- Online

    def rise(self) -> None:
        """A new connection: nobody is online on it, and nobody has been refused."""
        for at in range(len(self.table)):
            self.table.flags[at] &= ~(s.ONLINE | s.REFUSED | s.DISABLED | s.RETRIED)
        self._retry_at = None
        self._told = -1

    def create(self) -> None:
        """Create those that need it over REST: done before the connection, when there is most
        room. What fails is told, and tried again later."""
        if self._identity.subdevice_registration == "rest":
            chosen = self._secretless()
            while chosen:
                if not self._try(self._create, chosen):
                    return
                chosen = self._secretless()

    def step(self) -> bool:
        """One request of whatever is to be done; False: nothing is, for now."""
        if self._retry_at is not None:
            if port.ticks_diff(self._retry_at, port.ticks_ms()) > 0:
                return False
            self._retry_at = None
        for choose, act in (
            (self._secretless, self._create),
            (self._unbound, self._bind),
            (self._offline, self._log_in),
        ):
            chosen = choose()
            if chosen:
                return self._try(act, chosen)
        online = self.table.count(s.ONLINE)
        if online != self._told and len(self.table):
            self._told = online
            self.table.settle()
            port.emit("subdevices", online=online, of=len(self.table))
        return False

    def state(self, verb: str, name: tuple) -> None:
        """The cloud has enabled, disabled or deleted one."""
        at = self.table.find(*name)
        if at < 0:
            return
        flags = self.table.flags
        port.emit("subdevice", key=name[1], to=verb)
        if verb == "enable":
            flags[at] &= ~(s.DISABLED | s.REFUSED)
        elif verb == "disable":
            flags[at] = flags[at] & ~s.ONLINE | s.DISABLED
        else:
            flags[at] &= ~s.ONLINE
            self._forget(at, s.DELETED)
        self._told = -1

    def refused(self, at: int, code: int, message: str) -> None:
        """What the cloud said of one, in whatever request: tell it, and draw the conclusion."""
        flags, key = self.table.flags, self.table.name(at)[1]
        port.emit_error(self._cloud.refusal(code, message, key))
        again = not flags[at] & s.RETRIED
        flags[at] &= ~s.ONLINE
        if code == _DISABLED:
            flags[at] |= s.DISABLED
        elif code == _OFFLINE and again:
            flags[at] |= s.RETRIED
        elif code == _BINDING_LOST and again:
            flags[at] = flags[at] & ~s.BOUND | s.RETRIED  # put it into the topology, once
        else:
            flags[at] |= s.REFUSED
            if code == _SIGNATURE_WRONG and flags[at] & s.ISSUED:
                self._forget(at)  # it is asked for anew at the next connection
        self._told = -1

    def _try(self, act: "Any", chosen: "list[int]") -> bool:
        try:
            act(chosen)
        except ImprintError as error:
            if not error.retry:
                # Of the request as a whole, so of each that it named, until the next connection.
                port.emit_error(error)
                for at in chosen:
                    self.table.flags[at] |= s.REFUSED
                return True
            if error.code == _CLOCK_SKEWED or not self._session.can_wait(error):
                raise
            port.emit_error(error, _RETRY_MS)
            self._retry_at = port.ticks_add(port.ticks_ms(), _RETRY_MS)
            return False
        return True

    def _keep(self, at: int, secret: bytes) -> bool:
        # What cannot be stored does not count; the others are not touched.
        try:
            self.table.keep(at, secret)
        except SetupError as error:
            port.emit_error(error)
            self.table.flags[at] |= s.REFUSED
            return False
        return True

    def _forget(self, at: int, flags: int = 0) -> None:
        try:
            self.table.forget(at)
            if flags:
                self.table.keep(at, flags=flags)
        except SetupError as error:
            port.emit_error(error)
            self.table.flags[at] |= s.REFUSED

    def _ready(self, at: int) -> bool:
        idle = s.ONLINE | s.REFUSED | s.DISABLED | s.DELETED
        return not self.table.flags[at] & idle

    def _secretless(self) -> "list[int]":
        # Those that have to be created, as many as one request takes.
        chosen: "list[int]" = []
        if self._identity.subdevice_registration != "none":
            for at in range(len(self.table)):
                tried = self.table.flags[at] & s.RETRIED
                if self._ready(at) and not tried and not self.table.has_secret(at):
                    chosen.append(at)
                    if len(chosen) == min(_CREATE_MAX, self.MOST):
                        break
        return chosen

    def _unbound(self) -> "list[int]":
        return self._share([
            at
            for at in range(len(self.table))
            if self._ready(at) and not self.table.flags[at] & s.BOUND and self._bindable(at)
        ])  # fmt: skip

    def _offline(self) -> "list[int]":
        return self._share([at for at in range(len(self.table)) if self._ready(at)])

    def _bindable(self, at: int) -> bool:
        # Whoever has no secret of its own is bound by the service account, if there is one, and
        # only after the cloud said that it is not.
        if self.table.has_secret(at):
            return True
        return bool(self.table.flags[at] & s.RETRIED and self._identity.access_key)

    def _share(self, chosen: "list[int]") -> "list[int]":
        lengths = (sum([len(word) for word in self.table.name(at)]) for at in chosen)
        return chosen[: min(self._cloud.share(lengths), self.MOST)]

    def _create(self, chosen: "list[int]") -> None:
        names = [self.table.name(at) for at in chosen]
        if self._identity.subdevice_registration == "mqtt":
            self._register(chosen, names)
            return
        with self._session.api() as api:
            found = api.create(names)
        for at, (secret, error) in zip(chosen, found):
            self._take(at, secret, error)

    def _register(self, chosen: "list[int]", names: "list[tuple]") -> None:
        cloud = self._cloud
        params = cloud.register(names, self._identity.timezone)
        code, message, data = self._session.ask(cloud.REGISTER, params)
        if code == 200:
            secrets = {made[:2]: made[2] for made in cloud.registered(data)}
            for at, name in zip(chosen, names):
                secret = secrets.get(name, "")
                error = None if secret else cloud.refusal(code, "no secret in the reply", name[1])
                self._take(at, secret, error)
        elif len(chosen) > 1:
            for at in chosen:  # done whole or not at all: which of them is it?
                self._register([at], [self.table.name(at)])
        else:
            error = cloud.refusal(code, message, names[0][1])
            if error.retry:
                raise error
            secret = ""
            if code == _EXISTS and self._identity.access_key:
                with self._session.api() as api:
                    secret, error = api.secret(names[0])
            self._take(chosen[0], secret, error)

    def _take(self, at: int, secret: str, error: "ImprintError | None") -> None:
        # A secret that was issued counts once it is stored.
        if secret:
            self._keep(at, secret.encode())
        elif error:
            error.detail = error.detail or self.table.name(at)[1]
            port.emit_error(error)
            # One that exists may let itself be activated.
            known = error.number == _EXISTS and self._identity.subdevice_product_secret
            self.table.flags[at] |= s.RETRIED if known else s.REFUSED

    def _bind(self, chosen: "list[int]") -> None:
        cloud, table = self._cloud, self.table
        without = [at for at in chosen if not table.has_secret(at)]
        if without:
            with self._session.api() as api:
                api.bind([table.name(at) for at in without])
            for at in without:
                table.flags[at] |= s.BOUND
            return
        entries = ((table.name(at), table.secret(at)) for at in chosen)
        params = cloud.topology_add(self._identity.device_key, port.unix_ms(), entries)
        code, message, _ = self._session.ask(cloud.TOPOLOGY_ADD, params)
        if code == 200:
            for at in chosen:
                table.flags[at] |= s.BOUND
        elif len(chosen) > 1:
            for at in chosen:
                self._bind([at])
        else:
            self._conclude(chosen[0], code, message)

    def _log_in(self, chosen: "list[int]") -> None:
        cloud, table = self._cloud, self.table
        for at in chosen:
            if not table.has_secret(at) and not self._identity.subdevice_product_secret:
                table.flags[at] |= s.REFUSED
                port.emit_error(SetupError(_SUBDEVICE_SECRETLESS, table.name(at)[1]))
        chosen = [at for at in chosen if not table.flags[at] & s.REFUSED]
        if not chosen:
            return
        client_id, time_ms = self._identity.device_key, port.unix_ms()
        if len(chosen) == 1:
            at = chosen[0]
            params = cloud.login(table.name(at), client_id, *self._signing(at, time_ms))
            code, message, data = self._session.ask(cloud.LOGIN, params)
        else:
            entries = ((table.name(at),) + self._credential(at) for at in chosen)
            params = cloud.login_batch(client_id, time_ms, entries)
            code, message, data = self._session.ask(cloud.LOGIN_BATCH, params)
        done = {found[:2]: found[2] for found in cloud.logged_in(data)[0]}
        failed = []
        for at in chosen:
            name = table.name(at)
            if name in done:
                if not done[name] or self._keep(at, done[name].encode()):
                    table.flags[at] |= s.ONLINE | s.BOUND
            elif len(chosen) == 1:
                self._conclude(at, code, message)
            elif code == _BINDING_LOST and not table.flags[at] & s.RETRIED:
                table.flags[at] = table.flags[at] & ~s.BOUND | s.RETRIED
            else:
                failed.append(at)
        for at in failed:  # a batch has one code for all: ask for each one's own
            self._unit.feed()
            self._log_in([at])

    def _conclude(self, at: int, code: int, message: str) -> None:
        error = self._cloud.refusal(code, message, self.table.name(at)[1])
        if error.retry:
            raise error
        self.refused(at, code, message)

    def _credential(self, at: int) -> tuple:
        # (secret, mode)
        secret = self.table.secret(at)
        if secret or not self._identity.subdevice_product_secret:
            return secret, 2
        return self._identity.subdevice_product_secret.reveal(), 3

    def _signing(self, at: int, time_ms: int) -> tuple:
        secret, mode = self._credential(at)
        return secret, time_ms, mode

    # --- Polled and told

    def entries(self, room: int, online: bool) -> "list[bytes]":
        """What the next sub-devices measure, as entries of a report that has `room` bytes; none
        when all were asked in this round, or for as long as silent ones take up the time.
        `online`: only those that are."""
        found: "list[bytes]" = []
        table, began = self.table, port.ticks_ms()
        while (
            self._next < len(table)
            and room > 0
            and port.ticks_diff(port.ticks_ms(), began) < _TURN_MS
        ):
            at = self._next
            flags = table.flags[at]
            away = s.BOUND | s.DISABLED | s.REFUSED | s.DELETED
            if flags & s.ONLINE or (not online and flags & away == s.BOUND):
                self._unit.feed()
                values = self._poll(at)
                if values:
                    entry = self._cloud.entry(table.name(at), values, port.unix_ms())
                    if found and len(entry) > room:
                        break  # read again in the next one
                    found.append(entry)
                    room -= len(entry)
            self._next += 1
        return found

    @property
    def round_done(self) -> bool:
        """All were asked; the next round begins with the next report."""
        return self._next >= len(self.table)

    def next_round(self) -> None:
        self._next = 0

    def values(self, name: tuple) -> "dict | None":
        """What one measures; None: it is none of ours, or silent."""
        at = self.table.find(*name)
        return self._poll(at) if at >= 0 else None

    def command(self, name: tuple, verb: str, params: dict) -> dict:
        """Have one do something; its outputs. Raises as a driver's `command`."""
        at = self.table.find(*name)
        if at < 0:
            raise KeyError(name[1])
        driver, address = self._driver(at)
        return driver.command(address, verb, params)

    def _poll(self, at: int) -> "dict | None":
        flags = self.table.flags
        try:
            driver, address = self._driver(at)
            values = driver.poll(address)
        except ImprintError as error:
            if not flags[at] & s.SILENT:
                flags[at] |= s.SILENT
                error.detail = self.table.name(at)[1] + ": " + error.detail
                port.emit_error(error)
            return None
        if flags[at] & s.SILENT:
            flags[at] &= ~s.SILENT
            port.emit("subdevice", key=self.table.name(at)[1], to="answers")
        return values

    def _driver(self, at: int) -> tuple:
        table, address = self.table.place(at)
        if table not in self._drivers:
            words = self.table.table(table)
            try:
                module = __import__("imprint.drivers." + words[0], None, None, ("Driver",))
            except ImportError:
                raise SetupError(_SUBDEVICES_WRONG, "no driver " + words[0])
            try:
                bus = json.loads(self.table.bus) if self.table.bus else {}
            except ValueError:
                raise SetupError(_SUBDEVICES_WRONG, "the bus is no JSON")
            self._drivers[table] = module.Driver(words[1:], bus, self._unit.feed)
        return self._drivers[table], address
