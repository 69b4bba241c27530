"""The application: joins store, link, clock and cloud, and walks the table of `onboarding`.

The only composition root: everything below gets what it needs handed in. An own application is
a module `application` in the file system's root with `read() -> dict` (property identifiers and
values) and, as it likes, `apply(params: dict)`, where ValueError answers the cloud with 400, and
`hear(payload: bytes) -> bytes | None` for messages on the user topic, whose result is sent back.
"""

import binascii
import gc
import hashlib
import os
import sys

from micropython import const

from imprint import errors, port
from imprint import onboarding as o
from imprint.backoff import Backoff

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tls import SSLContext

    from imprint.identity import Identity
    from imprint.links.wifi import Wifi
    from imprint.net.mqtt import Client
    from imprint.outbox import Outbox
    from imprint.wire.mqtt import ConnectRequest

# Longer than DNS, TCP, TLS and one answer can take together, each at its own bound.
_WATCHDOG_MS = const(120_000)
_NET_MS = const(15_000)  # connecting, and each read and write
_REPLY_MS = const(15_000)  # from PUBACK to the cloud's own reply
_RETRY_MS = const(1_000)  # first back-off
_RETRY_CEILING_MS = const(300_000)
_UNANSWERED_MS = const(60_000)  # at least, before a registration that may have used a slot
_IDLE_MS = const(250)  # between two looks at the clock and the link
_OUTBOX_MAX = const(64)  # messages
_TODO_MAX = const(8)  # downlinks not yet acted on
_GC_THRESHOLD = const(1024)  # bytes allocated between collections: garbage must not scatter

# errors.py
_LINK_LOST = const(204)
_CONNECTION_LOST = const(304)
_PEER_CLOSED = const(320)
_REGISTRATION_UNANSWERED = const(405)
_LOGIN_REFUSED = const(502)
_DEVICE_DISABLED = const(603)
_REPORT_UNANSWERED = const(604)

# A message in the outbox: whether it was sent before, its id, its payload.
_SENT = const(1)
_OUTBOX = "/outbox"

# What one step needs and the next does not. It leaves the memory when it has done its part, and
# comes back from flash when it is needed again: a first boot is to fit the smallest heap.
_PASSING = (
    "imprint.identity",
    "imprint.net.clock",
    "imprint.net.tls",
    "imprint.sign",
    "imprint.vault",
)


def run() -> None:
    """Come online and report, until a person has to act; then leave the REPL for an hour."""
    dog = port.Watchdog(_WATCHDOG_MS)
    app = App(dog.feed)
    try:
        app.run()
    finally:
        app.close()
        dog.relax()


class App:
    def __init__(self, feed: "Callable[[], None]") -> None:
        """`feed` is the watchdog's; no wait in here is longer than its patience."""
        self._feed = feed
        self._store = port.NvsStore()
        self._backoff = Backoff(os.urandom, _RETRY_MS, _RETRY_CEILING_MS)
        self._identity: "Identity | None" = None
        self._tls: "SSLContext" = None  # type: ignore[assignment]  # there from IDENTITY on
        self._cloud: "Any" = None  # the one cloud module in use
        self._link: "Wifi | None" = None
        self._credential: "dict | None" = None  # what the vault holds
        self._rolled_back = False
        self._client: "Client | None" = None  # the connection
        self._todo: "list[tuple]" = []  # downlinks, taken in while something else was waited for
        self._reply: "tuple | None" = None  # (id, code, message) of the cloud's reply last read
        self._error: "errors.ImprintError | None" = None  # what led to WAIT or HALT
        self._fresh: "bytes | None" = None  # the report that is not on flash
        self._outbox: "Outbox | None" = None  # opened when there is something in it
        if port.listdir(_OUTBOX):
            self._box()
        self._sample_at = port.ticks_ms()
        self._hold_until: "int | None" = None  # ticks before which the cloud takes no report
        self._next_id = int.from_bytes(os.urandom(3), "big")
        self._read, self._apply, self._hear = _application()

    def run(self) -> None:
        """Walk the table until HALT."""
        port.emit("boot", cause=port.reset_cause(), free=gc.mem_free())
        steps = {
            o.IDENTITY: self._load_identity,
            o.LINK: self._join,
            o.CLOCK: self._set_clock,
            o.REGISTER: self._register,
            o.CONNECT: self._login,
            o.ONLINE: self._report,
            o.WAIT: self._wait,
        }
        gc.threshold(_GC_THRESHOLD)
        state = o.IDENTITY
        while state != o.HALT:
            self._feed()
            gc.collect()
            port.emit("state", s=state, alloc=gc.mem_alloc())
            try:
                event = steps[state]()
            except errors.ImprintError as error:
                self.close()
                self._error = error
                event = o.FAILED if error.retry else o.STOP
                _emit_error(error)
            state = o.next_state(state, event)
            _forget(*_PASSING)
        port.emit("state", s=state)

    def close(self) -> None:
        """Drop the connection; a report that was under way goes to flash."""
        if self._client:
            self._client.close()
            self._client = None
        self._keep()

    # One method a state; each returns the event that ends it.

    def _load_identity(self) -> str:
        from imprint import identity
        from imprint.net import tls

        root_ca = self._store.get("root_ca") or b""
        digest = binascii.hexlify(hashlib.sha256(root_ca).digest()).decode()
        burned = identity.parse(self._store.get("identity"), digest, port.unique_id())
        self._identity = burned
        self._tls = tls.context(root_ca)
        self._cloud = _cloud_module(burned.journey)
        return o.DONE

    def _join(self) -> str:
        if self._link is None:
            from imprint.links.wifi import Wifi

            burned = self._identity
            self._link = Wifi(burned.wifi_ssid, burned.wifi_password, self._feed)
        self._link.up()
        return o.DONE

    def _set_clock(self) -> str:
        from imprint.net import clock
        from imprint.vault import Vault

        clock.ensure(self._identity.ntp_host, self._feed)
        try:
            self._credential = Vault(self._store).load()
        except errors.SetupError as error:  # the vault is damaged: it may register anew
            _emit_error(error)
            self._credential = None
        return o.HELD if self._fits(self._credential) else o.MISSING

    def _register(self) -> str:
        burned = self._identity
        registrar = _cloud_module(burned.journey + "_registration")
        self._connect(registrar.request(burned, os.urandom), registrar)
        deadline = port.ticks_add(port.ticks_ms(), registrar.WAIT_MS)
        record = None
        while record is None:
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                raise errors.WeatherError(_REGISTRATION_UNANSWERED)
            try:
                self._client.poll(min(left_ms, 1000))
            except errors.ImprintError as error:
                if error.code in (_PEER_CLOSED, _CONNECTION_LOST):
                    raise errors.WeatherError(_REGISTRATION_UNANSWERED)
                raise
            self._feed()
            while self._todo and record is None:
                record = registrar.answer(burned, *self._todo.pop(0))
        # Kept before anything else happens: nothing can fetch it a second time. Room for the vault
        # is made first, since running out of memory would lose it, too; that waits for nothing.
        self.close()
        _forget(registrar.__name__)
        del registrar
        from imprint.vault import Vault

        Vault(self._store).store(record)
        self._credential = record
        port.emit("registered")
        return o.DONE

    def _login(self) -> str:
        cloud, burned = self._cloud, self._identity
        try:
            self._connect(cloud.login(burned, self._credential), cloud)
        except errors.SetupError as error:
            if error.code != _LOGIN_REFUSED or self._rolled_back:
                raise
            from imprint.vault import Vault

            if not Vault(self._store).rollback(self._fits):
                raise
            self._rolled_back = True
            self.close()
            self._error = error
            _emit_error(error)
            return o.ROLLED_BACK
        for topic, qos in cloud.subscriptions(burned):
            self._feed()
            self._client.subscribe(topic, qos)
        port.emit("online")
        port.emit("heap", alloc=gc.mem_alloc(), free=gc.mem_free())
        return o.DONE

    def _report(self) -> str:
        while True:
            self._feed()
            self._sample_if_due()
            self._obey()
            if self._may_send():
                self._send_oldest()
            self._client.poll(_IDLE_MS)
            if not self._link.is_up():
                raise errors.WeatherError(_LINK_LOST)

    def _wait(self) -> str:
        floor_ms = _UNANSWERED_MS if self._error.code == _REGISTRATION_UNANSWERED else 0
        wait_ms = self._backoff.next_ms(floor_ms)
        port.emit("wait", ms=wait_ms)
        until = port.ticks_add(port.ticks_ms(), wait_ms)
        while port.ticks_diff(until, port.ticks_ms()) > 0:
            self._feed()
            self._sample_if_due()
            self._keep()
            port.sleep_ms(min(_IDLE_MS, max(0, port.ticks_diff(until, port.ticks_ms()))))
        return o.ELAPSED

    # What they share.

    def _fits(self, record: "dict | None") -> bool:
        # Whether a login can be tried with it: not one of an earlier identity.
        return not self._cloud.needs_registration(self._identity, record)

    def _connect(self, request: "ConnectRequest", peer: "Any") -> None:
        # `peer`: the module that knows what a refusal means.
        _forget(*_PASSING)  # the request is signed: all room for the connection
        from umqtt.simple import MQTTException

        from imprint.net.mqtt import Client

        del self._todo[:]
        self._client = Client(request, self._tls, self._take, _NET_MS)
        try:
            self._client.connect()
        except MQTTException as error:
            raise peer.refused(self._identity, error.args[0])

    def _take(self, topic: bytes, payload: bytes) -> None:
        # Called in the middle of other exchanges: note it down, act later.
        if len(self._todo) < _TODO_MAX:
            self._todo.append((topic, payload))
        else:
            port.emit("overrun")

    def _obey(self) -> None:
        while self._todo:
            message = self._cloud.downlink(self._identity, *self._todo.pop(0))
            kind = message[0]
            if kind == "reply":
                self._reply = message[1:]
            elif kind == "set":
                code = 200
                try:
                    self._apply(message[2])
                except ValueError:
                    code = 400
                port.emit("set", id=message[1], code=code)
                topic, payload = self._cloud.set_reply(self._identity, message[1], code)
                self._client.publish(topic, payload)
            elif kind == "user":
                port.emit("user", bytes=len(message[2]))
                answer = self._hear(message[2])
                if answer:
                    topic, payload = self._cloud.user_update(self._identity, answer)
                    self._client.publish(topic, payload, qos=1)

    def _sample_if_due(self) -> None:
        now = port.ticks_ms()
        if self._fresh or port.ticks_diff(now, self._sample_at) < 0:
            return
        if not port.clock_is_set():  # a report of the year 2000 is worse than none
            return
        self._sample_at = port.ticks_add(now, self._identity.interval_s * 1000)
        at_ms = port.unix_ms()
        values = self._read()
        params = {name: {"value": values[name], "time": at_ms} for name in values}
        self._next_id += 1
        payload = self._cloud.report(self._next_id, params)
        self._fresh = b"\0" + self._next_id.to_bytes(4, "big") + payload

    def _may_send(self) -> bool:
        if not self._fresh and not self._outbox:
            return False
        if self._hold_until is None:
            return True
        if port.ticks_diff(self._hold_until, port.ticks_ms()) > 0:
            return False
        self._hold_until = None
        return True

    def _send_oldest(self) -> None:
        """Send one report, what waited first, and forget it once the cloud has replied."""
        held = self._outbox.peek() if self._outbox else None
        message = held[1] if held else self._fresh
        if not message:
            return
        number = int.from_bytes(message[1:5], "big")
        again = message[0] == _SENT
        if not held:
            self._fresh = bytes([_SENT]) + message[1:]
        topic = self._cloud.report_topic(self._identity)
        self._reply = None
        self._client.publish(topic, message[5:], qos=1, pid=number % 65535 + 1, again=again)
        deadline = port.ticks_add(port.ticks_ms(), _REPLY_MS)
        while self._reply is None or self._reply[0] != number:
            self._obey()
            if self._reply and self._reply[0] == number:
                break
            left_ms = port.ticks_diff(deadline, port.ticks_ms())
            if left_ms <= 0:
                raise errors.WeatherError(_REPORT_UNANSWERED)
            self._feed()
            self._client.poll(min(left_ms, 1000))
        refusal = self._cloud.report_refused(self._reply[1], self._reply[2])
        if refusal and refusal.retry:
            wait_ms = self._backoff.next_ms()
            self._hold_until = port.ticks_add(port.ticks_ms(), wait_ms)
            _emit_error(refusal, wait_ms)
            return
        if held:
            self._outbox.done(held[0])
        else:
            self._fresh = None
        if refusal:
            if refusal.code == _DEVICE_DISABLED:
                raise refusal
            _emit_error(refusal)
        else:
            # Not sooner: what fails right after the login must not begin anew at the first delay.
            self._backoff.reset()
            port.healthy()
            port.emit("reported", id=number, acked=True, kept=len(self._outbox or ()))

    def _keep(self) -> None:
        # The fresh report, to flash. A full file system costs this report, not the unit.
        if self._fresh is None:
            return
        message, self._fresh = self._fresh, None
        box = self._box()
        before = box.dropped
        try:
            box.put(message)
        except errors.SetupError as error:
            _emit_error(error)
            return
        if box.dropped != before:
            port.emit("dropped", n=box.dropped)

    def _box(self) -> "Outbox":
        if self._outbox is None:
            from imprint.outbox import Outbox

            self._outbox = Outbox(port.FolderStore(_OUTBOX), _OUTBOX_MAX)
        return self._outbox


def _cloud_module(name: str) -> "Any":
    # By its name in the identity: a board carries the cloud that it needs, and no other.
    return getattr(__import__("imprint.clouds." + name).clouds, name)


def _forget(*modules: str) -> None:
    # What nothing refers to any more is garbage; a module is referred to by these two.
    for module in modules:
        if module in sys.modules:
            package, _, name = module.rpartition(".")
            del sys.modules[module]
            delattr(sys.modules[package], name)


def _application() -> tuple:
    names = port.listdir("/")
    if "application.py" not in names and "application.mpy" not in names:
        return _vital_signs, _refuse, _ignore
    import application

    apply = getattr(application, "apply", _refuse)
    return application.read, apply, getattr(application, "hear", _ignore)


def _vital_signs() -> dict:
    return {"uptime_s": port.ticks_ms() // 1000, "heap_free": gc.mem_free()}


def _refuse(_params: dict) -> None:
    raise ValueError


def _ignore(_payload: bytes) -> None:
    pass


def _emit_error(error: errors.ImprintError, retry_ms: "int | None" = None) -> None:
    fields: "dict" = {"code": error.code, "retry": error.retry}
    if error.detail:
        fields["detail"] = error.detail
    if error.number is not None:
        fields["number"] = error.number
    if retry_ms is not None:
        fields["retry_ms"] = retry_ms
    port.emit("error", **fields)
