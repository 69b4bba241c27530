"""The sub-devices of an EnOS edge, at work: brought online, polled, told what the cloud wants.

`step` does one request's worth of what is to be done and says whether there is more, so that two
hundred are online after a score of requests and nothing else waits meanwhile. What the cloud
refuses of one sub-device is told on the console and left alone until the next connection; the
others go on. Who is silent in two rounds running is logged out until it answers.
"""

from micropython import const

from imprint import port
from imprint import subdevices as s
from imprint.errors import ImprintError, SetupError
from imprint.folder import FolderStore
from imprint.net.enos_drivers import Drivers

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity

_RECORDS = "/subdevices"

_CREATION = const(2)  # among the kinds of requests, see step
_CREATE_MAX = const(16)  # devices a request: the answer has each one's whole record
_DISMISS_MAX = const(16)
_RETRY_MS = const(30_000)  # after what the cloud could not do just then
_TURN_MS = const(5_000)  # of polling, between two looks at the connection: many may be silent

# errors.py
_CLOCK_SKEWED = const(441)
_SUBDEVICE_SECRETLESS = const(532)

_BINDING_LOST = const(740)
_SIGNATURE_WRONG = const(742)
_OFFLINE = const(401)
_ABSENT = const(705)
_DISABLED = const(723)


class Fleet:
    """`session` has `identity`, `cloud`, `ask`, `api` and `can_wait`; see enos_session.py."""

    MOST = 200  # sub-devices a request; fewer only to measure what batches are worth

    def __init__(self, session: "Any", unit: "Any") -> None:
        self.session = session
        self._unit = unit
        self.identity: "Identity" = session.identity
        self.cloud = session.cloud
        text = s.Text(unit.store, self.identity)
        store = FolderStore(_RECORDS) if text.size else None
        self.table = s.Subdevices(text, store, self.identity.subdevice_product_key or "")
        self.drivers = Drivers(self.table, unit.feed)
        self._next = len(self.table)  # the sub-device to be read next; this is: none
        self._barred: "list[int]" = []  # kinds of requests that have to wait, see step
        self._retry_at = 0  # ticks; until then
        self._told = -1  # how many were online when that was told last

    # --- Online

    def rise(self) -> None:
        """A new connection: nobody is online on it, and nobody has been refused."""
        for at in range(len(self.table)):
            self.table.flags[at] &= ~(s.ONLINE | s.REFUSED | s.DISABLED | s.RETRIED)
        del self._barred[:]
        self._told = -1

    def create(self) -> None:
        """Create those that need it over REST: done before the connection, when there is most
        room. What fails is told, and tried again later."""
        if self.identity.subdevice_registration == "rest":
            chosen = self._secretless()
            while chosen:
                if not self._try(_CREATION, self._create, chosen):
                    return
                chosen = self._secretless()

    def step(self) -> bool:
        """One request of whatever is to be done; False: nothing is, for now."""
        if self._barred and port.ticks_diff(self._retry_at, port.ticks_ms()) <= 0:
            del self._barred[:]
        acts = (
            (self._departed, self._dismiss),
            (self._lost, self._log_out),
            (self._secretless, self._create),
            (self._unbound, self._bind),
            (self._offline, self._log_in),
        )
        for kind, (choose, act) in enumerate(acts):
            chosen: "Any" = () if kind in self._barred else choose()
            if chosen:
                self._try(kind, act, chosen)
                return True
        online = self.table.count(s.ONLINE)
        if online != self._told and len(self.table):
            self._told = online
            if not self._barred:
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
        port.emit_error(self.cloud.refusal(code, message, key))
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

    def _try(self, kind: int, act: "Any", chosen: "list") -> bool:
        try:
            act(chosen)
        except ImprintError as error:
            if not error.retry:
                # Of the request as a whole, so of each that it named, until the next connection.
                port.emit_error(error)
                for at in chosen:
                    self.table.flags[at] |= s.REFUSED
                return True
            if error.code == _CLOCK_SKEWED or not self.session.can_wait(error):
                raise
            port.emit_error(error, _RETRY_MS)
            self._barred.append(kind)
            self._retry_at = port.ticks_add(port.ticks_ms(), _RETRY_MS)
            return False
        return True

    def keep(self, at: int, secret: bytes) -> bool:
        """Store what was issued. What cannot be stored does not count; the others are not
        touched."""
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
        idle = s.ONLINE | s.REFUSED | s.DISABLED | s.DELETED | s.LOST
        return not self.table.flags[at] & idle

    def _secretless(self) -> "list[int]":
        # Those that have to be created, as many as one request takes.
        chosen: "list[int]" = []
        if self.identity.subdevice_registration != "none":
            for at in range(len(self.table)):
                if self._ready(at) and self._creatable(at):
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
        # Not those whose turn with the other requests has not come yet.
        return self._share([
            at
            for at in range(len(self.table))
            if self._ready(at)
            and (
                self.table.flags[at] & s.BOUND
                or not (self._creatable(at) or self._bindable(at))
            )
        ])  # fmt: skip

    def _creatable(self, at: int) -> bool:
        if self.identity.subdevice_registration == "none" or self.table.flags[at] & s.RETRIED:
            return False
        return not self.table.has_secret(at)

    def _bindable(self, at: int) -> bool:
        # Whoever has no secret of its own is bound by the service account, if there is one, and
        # only after the cloud said that it is not.
        if self.table.has_secret(at):
            return True
        return bool(self.table.flags[at] & s.RETRIED and self.identity.access_key)

    def _share(self, chosen: "list[int]") -> "list[int]":
        lengths = (sum([len(word) for word in self.table.name(at)]) for at in chosen)
        return chosen[: min(self.cloud.share(lengths), self.MOST)]

    def _departed(self) -> "list[tuple]":
        return self.table.departed(min(_DISMISS_MAX, self.MOST))

    def _dismiss(self, names: "list[tuple]") -> None:
        # Out of the topology. Offline they are since the connection of that list ended.
        self._remove(names)
        for name in names:
            port.emit("subdevice", key=name[1], to="leaves")
        self.table.dismiss(names)

    def _remove(self, names: "list[tuple]") -> None:
        cloud = self.cloud
        code, message, _ = self.session.ask(cloud.TOPOLOGY_DELETE, cloud.topology_delete(names))
        if code == 200:
            return
        if len(names) > 1:
            self.now(code, message)
            for name in names:  # done whole or not at all: which of them is it?
                self._remove([name])
            return
        error = cloud.refusal(code, message, names[0][1])
        if error.retry:
            raise error
        if code not in (_BINDING_LOST, _ABSENT):  # else it is not there, as it shall be
            port.emit_error(error)

    def _lost(self) -> "list[int]":
        lost = s.ONLINE | s.LOST
        return [at for at in range(len(self.table)) if self.table.flags[at] & lost == lost][:1]

    def _log_out(self, chosen: "list[int]") -> None:
        cloud, at = self.cloud, chosen[0]
        code, message, _ = self.session.ask(cloud.LOGOUT, cloud.named(self.table.name(at)))
        if code == 200:
            self.table.flags[at] &= ~s.ONLINE
            self._told = -1
        else:
            self._conclude(at, code, message)

    def _create(self, chosen: "list[int]") -> None:
        from imprint.net import enos_creation

        enos_creation.create(self, chosen)

    def _bind(self, chosen: "list[int]") -> None:
        cloud, table = self.cloud, self.table
        without = [at for at in chosen if not table.has_secret(at)]
        if without:
            with self.session.api() as api:
                api.bind([table.name(at) for at in without])
            for at in without:
                table.flags[at] |= s.BOUND
            return
        entries = ((table.name(at), table.secret(at)) for at in chosen)
        params = cloud.topology_add(self.identity.device_key, port.unix_ms(), entries)
        code, message, _ = self.session.ask(cloud.TOPOLOGY_ADD, params)
        if code == 200:
            for at in chosen:
                table.flags[at] |= s.BOUND
        elif len(chosen) > 1:
            self.now(code, message)
            for at in chosen:
                self._bind([at])
        else:
            self._conclude(chosen[0], code, message)

    def _log_in(self, chosen: "list[int]") -> None:
        table = self.table
        for at in chosen:
            if not table.has_secret(at) and not self.identity.subdevice_product_secret:
                table.flags[at] |= s.REFUSED
                port.emit_error(SetupError(_SUBDEVICE_SECRETLESS, table.name(at)[1]))
        chosen = [at for at in chosen if not table.flags[at] & s.REFUSED]
        if not chosen:
            return
        code, message, done = self._ask_login(chosen)
        failed = []
        for at in chosen:
            name = table.name(at)
            if name in done:
                if not done[name] or self.keep(at, done[name].encode()):
                    table.flags[at] |= s.ONLINE | s.BOUND
                    self.session.describe(self.drivers.speaker(at), name)
            elif len(chosen) == 1:
                self._conclude(at, code, message)
            elif code == _BINDING_LOST and not table.flags[at] & s.RETRIED:
                table.flags[at] = table.flags[at] & ~s.BOUND | s.RETRIED
            else:
                failed.append(at)
        for at in failed:  # a batch has one code for all: ask for each one's own
            self._unit.feed()
            self._log_in([at])

    def _ask_login(self, chosen: "list[int]") -> tuple:
        # (code, message, {name: secret or ""} of those who are online)
        cloud, table = self.cloud, self.table
        client_id, time_ms = self.identity.device_key, port.unix_ms()
        if len(chosen) == 1:
            at = chosen[0]
            params = cloud.login(table.name(at), client_id, *self._signing(at, time_ms))
            code, message, data = self.session.ask(cloud.LOGIN, params)
        else:
            entries = ((table.name(at),) + self._credential(at) for at in chosen)
            params = cloud.login_batch(client_id, time_ms, entries)
            code, message, data = self.session.ask(cloud.LOGIN_BATCH, params)
        done = {found[:2]: found[2] for found in cloud.logged_in(data)[0]}
        if not done:
            self.now(code, message)
        return code, message, done

    def now(self, code: int, message: str) -> None:
        # Where the cloud is busy, asking for each by itself would only make it worse.
        error = self.cloud.refusal(code, message)
        if error.retry:
            raise error

    def _conclude(self, at: int, code: int, message: str) -> None:
        error = self.cloud.refusal(code, message, self.table.name(at)[1])
        if error.retry:
            raise error
        self.refused(at, code, message)

    def _credential(self, at: int) -> tuple:
        # (secret, mode)
        secret = self.table.secret(at)
        if secret or not self.identity.subdevice_product_secret:
            return secret, 2
        return self.identity.subdevice_product_secret.reveal(), 3

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
            asked = not online or flags & s.LOST
            if flags & s.ONLINE or (asked and flags & away == s.BOUND):
                self._unit.feed()
                values = self.drivers.poll(at)
                if values and (flags & s.ONLINE or not online):
                    entry = self.cloud.entry(table.name(at), values, port.unix_ms())
                    if found and len(entry) > room:
                        break  # read again in the next one
                    found.append(entry)
                    event = self.drivers.speaker(at)("event")
                    if event:
                        event = self.cloud.happening(table.name(at), event, port.unix_ms())
                        found.append(event)
                    room -= len(entry) + len(event or b"")
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
        return self.drivers.poll(at) if at >= 0 else None

    def command(self, name: tuple, verb: str, params: dict) -> dict:
        """Have one do something; its outputs. Raises as a driver's `command`."""
        at = self.table.find(*name)
        if at < 0:
            raise KeyError(name[1])
        return self.drivers.command(at, verb, params)
